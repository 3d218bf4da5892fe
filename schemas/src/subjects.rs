//! Every subject that Drover publishes on, built and taken apart here only.

use crate::{
    names::{CampaignName, InvalidName, MigrationId, ServerName},
    streams::{Service, queue_number},
    v1::{MigrationPlanned, Step, migration_event},
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

/// Where events are appended: an aggregate's history, and the servers between which it happens.
///
/// The servers stand in the subject, so that the bus itself can hold the services of one host to the
/// migrations from and to it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum History {
    /// The campaign's own.
    Campaign,
    /// One of its migrations'.
    Migration {
        /// Which.
        id: MigrationId,
        /// Where the database comes from.
        source: ServerName,
        /// Where it goes to.
        destination: ServerName,
    },
}

impl History {
    /// Of a migration as it was planned.
    ///
    /// # Errors
    /// When one of its servers has a name that is none.
    pub fn of(id: MigrationId, planned: &MigrationPlanned) -> Result<Self, InvalidName> {
        let (source, destination) = (planned.source.parse()?, planned.destination.parse()?);
        Ok(Self::Migration { id, source, destination })
    }

    /// Whose it is.
    pub fn aggregate(&self) -> Aggregate {
        match self {
            Self::Campaign => Aggregate::Campaign,
            Self::Migration { id, .. } => Aggregate::Migration(*id),
        }
    }

    /// Whether an event of a migration counts that stands here. `planned` is what is known of that
    /// migration; none where this would be its first event.
    ///
    /// Whoever may append for one host can name any migration beside it, but not another's servers:
    /// such a subject is a history that nobody has planned. And a migration's id is made of what it
    /// moves, so that nobody can plan another's before its time.
    pub fn admits(
        &self,
        campaign: &CampaignName,
        planned: Option<&MigrationPlanned>,
        event: &migration_event::Event,
    ) -> bool {
        let Self::Migration { id, source, .. } = self else { return false };
        match (planned, event) {
            (Some(planned), _) => self.is_between(&planned.source, &planned.destination),
            (None, migration_event::Event::MigrationPlanned(planned)) => {
                self.is_between(&planned.source, &planned.destination)
                    && *id == MigrationId::new(campaign, source, &planned.database)
            }
            (None, _) => false,
        }
    }

    /// Whether it is a migration's between these servers.
    pub fn is_between(&self, from: &str, to: &str) -> bool {
        match self {
            Self::Campaign => false,
            Self::Migration { source, destination, .. } => {
                (source.as_str(), destination.as_str()) == (from, to)
            }
        }
    }
}

/// `drover.events.<campaign>.campaign`, or
/// `drover.events.<campaign>.<migration id>.<source>.<destination>`.
pub fn event(campaign: &CampaignName, history: &History) -> String {
    match history {
        History::Campaign => format!("drover.events.{campaign}.{CAMPAIGN_TOKEN}"),
        History::Migration { id, source, destination } => {
            format!("drover.events.{campaign}.{id}.{source}.{destination}")
        }
    }
}

/// All events that name one aggregate, whatever their servers.
pub fn events_about(campaign: &CampaignName, aggregate: Aggregate) -> String {
    match aggregate {
        Aggregate::Campaign => event(campaign, &History::Campaign),
        Aggregate::Migration(id) => format!("drover.events.{campaign}.{id}.*.*"),
    }
}

/// All events of the migrations from one source.
pub fn events_from(campaign: &CampaignName, source: &ServerName) -> String {
    format!("drover.events.{campaign}.*.{source}.*")
}

/// All events of one campaign: its own, and its migrations'.
pub fn events_of(campaign: &CampaignName) -> [String; 2] {
    [event(campaign, &History::Campaign), format!("drover.events.{campaign}.*.*.*")]
}

/// The campaigns' own events, of every campaign.
pub const CAMPAIGN_EVENTS: &str = "drover.events.*.campaign";

/// Takes an event's subject apart; none where it is not one.
pub fn parse_event(subject: &str) -> Option<(CampaignName, History)> {
    let (campaign, rest) = subject.strip_prefix("drover.events.")?.split_once('.')?;
    let history = match rest {
        CAMPAIGN_TOKEN => History::Campaign,
        migration => {
            let (id, servers) = migration.split_once('.')?;
            let (source, destination) = servers.split_once('.')?;
            History::Migration {
                id: id.parse().ok()?,
                source: source.parse().ok()?,
                destination: destination.parse().ok()?,
            }
        }
    };
    Some((campaign.parse().ok()?, history))
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

/// Where it is told what a server is under: `drover.load.<server>`.
pub fn load(server: &ServerName) -> String {
    format!("drover.load.{server}")
}

/// The same, of all servers.
pub const LOADS: &str = "drover.load.*";

/// The server that a subject of [`LOADS`] is of; none where it is no such subject.
pub fn parse_load(subject: &str) -> Option<ServerName> {
    subject.strip_prefix("drover.load.")?.parse().ok()
}

/// Where a service's instances answer: `drover.control.<service>`.
pub fn control(service: &str) -> String {
    format!("drover.control.{service}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(source: &str, destination: &str, database: &str) -> MigrationPlanned {
        MigrationPlanned {
            source: source.into(),
            destination: destination.into(),
            database: database.into(),
            ..MigrationPlanned::default()
        }
    }

    #[test]
    fn event_subjects_come_apart_as_they_were_built() {
        let campaign: CampaignName = "night-1".parse().unwrap();
        let id = MigrationId::new(&campaign, &"s".parse().unwrap(), "a.b c*>");
        let moved = History::of(id, &planned("s", "dst-1", "a.b c*>")).unwrap();
        for history in [History::Campaign, moved] {
            let subject = event(&campaign, &history);
            assert_eq!(parse_event(&subject), Some((campaign.clone(), history)));
        }
        let foreign = ["", "drover.events.x", "drover.events.x.y", "drover.events.X.campaign"];
        let short = [format!("drover.events.x.{id}"), format!("drover.events.x.{id}.s")];
        let long = [format!("drover.events.x.{id}.s.d.e"), format!("drover.events.x.{id}.s.D")];
        for foreign in foreign.map(str::to_owned).iter().chain(&short).chain(&long) {
            assert_eq!(parse_event(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn an_event_counts_in_the_history_that_was_planned_and_in_no_other() {
        use migration_event::Event;
        let campaign: CampaignName = "night-1".parse().unwrap();
        let id = MigrationId::new(&campaign, &"src-1".parse().unwrap(), "shop");
        let at = |source: &str, destination: &str, database: &str| {
            let planned = planned(source, destination, database);
            (History::of(id, &planned).unwrap(), planned)
        };
        let (own, planned) = at("src-1", "dst-1", "shop");
        let first = Event::MigrationPlanned(planned.clone());
        let next = Event::SourceThawed(crate::v1::SourceThawed::default());
        assert!(own.admits(&campaign, None, &first));
        assert!(own.admits(&campaign, Some(&planned), &next));
        assert!(!own.admits(&campaign, None, &next));
        for (source, destination, database) in
            [("src-2", "dst-1", "shop"), ("src-1", "dst-2", "shop"), ("src-1", "dst-1", "blog")]
        {
            let (history, other) = at(source, destination, database);
            // Neither with what was planned, nor with what it says of itself.
            assert_eq!(history.admits(&campaign, Some(&planned), &next), history == own);
            assert!(!history.admits(&campaign, Some(&planned), &first) || history == own);
            let is_its_own = source == "src-1" && database == "shop";
            let first = Event::MigrationPlanned(other);
            assert_eq!(history.admits(&campaign, None, &first), is_its_own);
        }
        assert!(!History::Campaign.admits(&campaign, Some(&planned), &next));
    }

    #[test]
    fn a_load_is_of_the_server_in_its_subject() {
        let server: ServerName = "dst-1".parse().unwrap();
        assert_eq!(parse_load(&load(&server)), Some(server));
        for foreign in ["drover.load", "drover.load.", "drover.load.A", "drover.jobs.dst-1"] {
            assert_eq!(parse_load(foreign), None, "{foreign}");
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
