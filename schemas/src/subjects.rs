//! Every subject that Drover publishes on, built and taken apart here only.

use crate::{
    names::{CampaignName, MigrationId, ServerName},
    streams::{Service, queue_number},
    v1::Step,
};

/// The last token of a campaign's own subject.
const CAMPAIGN_TOKEN: &str = "campaign";

/// Whose history an event belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Aggregate {
    /// The campaign itself.
    Campaign,
    /// One of its migrations.
    Migration(MigrationId),
}

/// `drover.events.<campaign>.<migration id>` or `drover.events.<campaign>.campaign`.
pub fn event(campaign: &CampaignName, aggregate: Aggregate) -> String {
    match aggregate {
        Aggregate::Campaign => format!("drover.events.{campaign}.{CAMPAIGN_TOKEN}"),
        Aggregate::Migration(id) => format!("drover.events.{campaign}.{id}"),
    }
}

/// All events of one campaign.
pub fn events_of(campaign: &CampaignName) -> String {
    format!("drover.events.{campaign}.*")
}

/// The campaigns' own events, of every campaign.
pub const CAMPAIGN_EVENTS: &str = "drover.events.*.campaign";

/// Takes an event's subject apart; none where it is not one.
pub fn parse_event(subject: &str) -> Option<(CampaignName, Aggregate)> {
    let (campaign, last) = subject.strip_prefix("drover.events.")?.split_once('.')?;
    let aggregate = match last {
        CAMPAIGN_TOKEN => Aggregate::Campaign,
        id => Aggregate::Migration(id.parse().ok()?),
    };
    Some((campaign.parse().ok()?, aggregate))
}

/// Where a step is done: at one of the servers, or by a service that serves all of them.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Host {
    /// A MySQL or MariaDB server.
    Server(ServerName),
    /// The dns service.
    Dns,
    /// The notify service.
    Notify,
}

impl Host {
    /// The subject's token. A server may be called `dns`: no step is done both at servers and by
    /// such a service, so their subjects and consumers differ all the same.
    pub fn token(&self) -> &str {
        match self {
            Self::Server(name) => name.as_str(),
            Self::Dns => "dns",
            Self::Notify => "notify",
        }
    }
}

/// A step's name: in subjects, events, tables and metrics.
pub fn step_name(step: Step) -> &'static str {
    match step {
        Step::Unspecified => "unspecified",
        Step::Freeze => "freeze",
        Step::Dump => "dump",
        Step::Import => "import",
        Step::Verify => "verify",
        Step::Disarm => "disarm",
        Step::Open => "open",
        Step::Switch => "switch",
        Step::Retire => "retire",
        Step::Publish => "publish",
        Step::Announce => "announce",
        Step::Expire => "expire",
        Step::Revert => "revert",
        Step::Close => "close",
        Step::Drop => "drop",
        Step::Thaw => "thaw",
    }
}

/// For JSON: a step's field as its name.
pub(crate) fn step_as_name<S: serde::Serializer>(step: &i32, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(step_name(Step::try_from(*step).unwrap_or_default()))
}

/// `drover.jobs.<queue>.<service>.<host>.<step>.<migration id>`.
pub fn job(step: Step, host: &Host, migration: MigrationId) -> String {
    let service = Service::of(step).map_or("unspecified", Service::name);
    let (queue, host, step) = (queue_number(host), host.token(), step_name(step));
    format!("drover.jobs.{queue:02}.{service}.{host}.{step}.{migration}")
}

/// All jobs of one service at one host.
pub fn jobs_of(service: Service, host: &Host) -> String {
    format!("drover.jobs.{:02}.{}.{}.*.*", queue_number(host), service.name(), host.token())
}

/// All jobs of one queue.
pub fn jobs_on(queue: u32) -> String {
    format!("drover.jobs.{queue:02}.>")
}

/// The token of a job's subject that names its queue; none where it is no job's.
pub fn queue_token(job: &str) -> Option<&str> {
    job.strip_prefix("drover.jobs.")?.split_once('.').map(|(token, _)| token)
}

/// `drover.signals.<campaign>.<kind>`; `kind` is one of the names in `signals.proto`.
pub fn signal(campaign: &CampaignName, kind: &str) -> String {
    format!("drover.signals.{campaign}.{kind}")
}

/// Where a service's instances answer: `drover.control.<service>`.
pub fn control(service: &str) -> String {
    format!("drover.control.{service}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_subjects_come_apart_as_they_were_built() {
        let campaign: CampaignName = "night-1".parse().unwrap();
        let id = MigrationId::new(&campaign, &"s".parse().unwrap(), "a.b c*>");
        for aggregate in [Aggregate::Campaign, Aggregate::Migration(id)] {
            let subject = event(&campaign, aggregate);
            assert_eq!(parse_event(&subject), Some((campaign.clone(), aggregate)));
        }
        for foreign in ["", "drover.events.x", "drover.events.x.y", "drover.events.X.campaign"] {
            assert_eq!(parse_event(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn a_server_called_dns_is_not_the_dns_service() {
        use crate::streams::{Service, consumer};
        let server = Host::Server("dns".parse().unwrap());
        for service in [Service::Dump, Service::Import] {
            let (a, b) = (consumer(service, &server, 1), consumer(Service::Dns, &Host::Dns, 1));
            assert_ne!(a.name, b.name);
            assert_ne!(a.filter, b.filter);
        }
    }
}
