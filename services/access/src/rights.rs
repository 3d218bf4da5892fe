//! What each user of the bus may publish and hear.
//!
//! 1. JetStream's requests are subjects too, so that rights on them are rights on streams. A token
//!    can be named or left open, not in part: a right on all campaigns' streams
//!    (`DROVER_EVENTS_…`) is one on all streams, from which the others are taken away by name.
//! 2. No service makes a stream. Whoever does steps may make its own consumer and no other: one
//!    filter stands in the request's subject beside the consumer's name, where the server holds
//!    both against the body; so the jobs of another host, or of another service, are out of reach.
//! 3. Each is answered on subjects that only it may hear.
//!
//! What subjects cannot say, and what stands in the way instead:
//!
//! - The service that tells the operators may list the campaigns, and take their own facts.
//! - An event's subject names its migration and its servers, and a service of one host may append
//!   where its host stands, whatever migration is named beside it. What names other servers than
//!   were planned is no migration's history, and counts nowhere (`subjects::History::admits`).
//! - The services of names and of notifications serve all hosts, and may append to any migration's
//!   history: what is not allowed there in that state is refused by the fold, and the servers'
//!   ledgers refuse what is out of date. To a campaign's own history they may not.
//! - Whoever may ask JetStream for a message may name any subject for the answer, and the answer
//!   is stored where a stream takes that subject in. It is a copy, which no history takes for an
//!   event (`bus/src/record.rs`), but it is there: a stolen key can so disturb a campaign, and
//!   commands name the message (DRV-0106). They cannot order, decide, or delete anything.

use drover_schemas::{
    streams::{self, LEASES, SIGNALS, Service},
    subjects::{Host, LOADS, load},
    users::User,
};

/// JetStream's API.
const API: &str = "$JS.API";
/// Every migration's history of every campaign.
const MIGRATION_EVENTS: &str = "drover.events.*.*.*.*";
/// The campaigns' own histories.
const CAMPAIGN_EVENTS: &str = drover_schemas::subjects::CAMPAIGN_EVENTS;

/// What a user may do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rights {
    /// The subjects that it may publish on.
    pub publish: Vec<String>,
    /// Of those, the ones that it may not.
    pub publish_denied: Vec<String>,
    /// The subjects that it may hear.
    pub subscribe: Vec<String>,
}

/// What `user` may do.
pub fn rights(user: &User) -> Rights {
    let mut rights = Rights::default();
    rights.publish(format!("{API}.INFO"));
    rights.subscribe(format!("{}.>", user.inbox()));
    match user {
        User::Admin => rights.publish(format!("{API}.>")),
        User::Operator => {
            rights.read_histories();
            rights.read_last("drover.events.>");
            rights.decide();
            rights.publish("drover.control.>");
            // A campaign's stream is made with the campaign. What is there is not changed by it.
            rights.publish(format!("{API}.STREAM.CREATE.*"));
            for stream in base() {
                rights.deny(format!("{API}.STREAM.CREATE.{stream}"));
            }
        }
        User::Reader => {
            rights.read_histories();
            rights.publish("drover.control.projector.>");
            // How it stands, and when it will have come to its end; nothing can be told to it there.
            rights.publish("drover.control.orchestrator");
            rights.subscribe("drover.events.>");
            rights.subscribe("drover.signals.>");
            rights.subscribe(LOADS);
        }
        User::Orchestrator => {
            rights.read_histories();
            rights.read_last("drover.events.>");
            for stream in queues().chain([lease_stream()]) {
                rights.publish(format!("{API}.STREAM.MSG.GET.{stream}"));
            }
            rights.decide();
            rights.publish("drover.jobs.*.*.*.*.*");
            rights.publish("drover.signals.>");
            rights.publish(format!("$KV.{LEASES}.*"));
            rights.subscribe(LOADS);
            rights.answer("orchestrator");
        }
        User::Projector => {
            rights.read_histories();
            rights.publish("drover.signals.*.progress");
            rights.answer("projector");
        }
        User::Console => rights.read_histories(),
        User::Dns => rights.work(Service::Dns, &Host::Dns),
        User::Notify => {
            rights.work(Service::Notify, &Host::Notify);
            rights.hear_campaigns();
        }
        User::Dump(server) => rights.work(Service::Dump, &Host::Server(server.clone())),
        User::Import(server) => rights.work(Service::Import, &Host::Server(server.clone())),
    }
    rights
}

impl Rights {
    fn publish(&mut self, subject: impl Into<String>) {
        self.publish.push(subject.into());
    }

    fn deny(&mut self, subject: impl Into<String>) {
        self.publish_denied.push(subject.into());
    }

    fn subscribe(&mut self, subject: impl Into<String>) {
        self.subscribe.push(subject.into());
    }

    /// Reads campaigns' histories from their beginning, each with a consumer of its own in the
    /// server's memory; nothing of the queue.
    fn read_histories(&mut self) {
        for request in [
            "STREAM.NAMES",
            "STREAM.INFO.*",
            "CONSUMER.CREATE.*.*",
            "CONSUMER.CREATE.*.*.drover.events.>",
            "CONSUMER.MSG.NEXT.*.*",
            "CONSUMER.DELETE.*.*",
        ] {
            self.publish(format!("{API}.{request}"));
        }
        for stream in queues().chain([lease_stream()]) {
            self.deny(format!("{API}.CONSUMER.*.{stream}.>"));
            self.deny(format!("{API}.CONSUMER.MSG.NEXT.{stream}.>"));
        }
        self.subscribe(CAMPAIGN_EVENTS);
    }

    /// Appends to campaigns' own histories, and to all of their migrations'.
    fn decide(&mut self) {
        self.publish(CAMPAIGN_EVENTS);
        self.publish(MIGRATION_EVENTS);
    }

    /// Reads single messages: of these histories from any replica, whole; as JetStream's own answer,
    /// which is no event, of any.
    fn read_last(&mut self, histories: &str) {
        self.publish(format!("{API}.DIRECT.GET.*.{histories}"));
        self.publish(format!("{API}.STREAM.MSG.GET.*"));
    }

    /// Takes the jobs of one service at one host, and says what became of them.
    fn work(&mut self, service: Service, host: &Host) {
        let streams::Consumer { queue, name, filter, .. } = streams::consumer(service, host, 1);
        for stream in base() {
            self.publish(format!("{API}.STREAM.INFO.{stream}"));
        }
        self.publish(format!("{API}.CONSUMER.INFO.{queue}.{name}"));
        self.publish(format!("{API}.CONSUMER.CREATE.{queue}.{name}.{filter}"));
        self.publish(format!("{API}.CONSUMER.MSG.NEXT.{queue}.{name}"));
        // The second form names domain and account first (ADR-15).
        self.publish(format!("$JS.ACK.{queue}.{name}.>"));
        self.publish(format!("$JS.ACK.*.*.{queue}.{name}.>"));
        if let Host::Server(server) = host {
            self.publish(load(server));
        }
        let histories = histories_of(service, host);
        self.read_last(&histories);
        for stream in queues().chain([lease_stream()]) {
            self.deny(format!("{API}.STREAM.MSG.GET.{stream}"));
        }
        self.publish(histories);
    }

    /// Takes campaigns' own facts, one after the other, and none of their migrations'.
    fn hear_campaigns(&mut self) {
        const NAME: &str = streams::OPERATORS;
        self.publish(format!("{API}.STREAM.NAMES"));
        self.publish(format!("{API}.CONSUMER.INFO.*.{NAME}"));
        self.publish(format!("{API}.CONSUMER.CREATE.*.{NAME}.{CAMPAIGN_EVENTS}"));
        self.publish(format!("{API}.CONSUMER.MSG.NEXT.*.{NAME}"));
        self.publish(format!("$JS.ACK.*.{NAME}.>"));
        self.publish(format!("$JS.ACK.*.*.*.{NAME}.>"));
    }

    /// Answers requests of people's commands.
    fn answer(&mut self, service: &str) {
        self.subscribe(format!("drover.control.{service}"));
        self.subscribe(format!("drover.control.{service}.>"));
        for user in [User::Operator, User::Reader] {
            self.publish(format!("{}.>", user.inbox()));
        }
    }
}

/// The histories of the migrations that a service has to do with.
fn histories_of(service: Service, host: &Host) -> String {
    match service {
        Service::Dump => format!("drover.events.*.*.{}.*", host.token()),
        Service::Import => format!("drover.events.*.*.*.{}", host.token()),
        Service::Dns | Service::Notify => MIGRATION_EVENTS.to_owned(),
    }
}

/// The streams that are there whatever the campaigns.
fn base() -> impl Iterator<Item = String> {
    queues().chain([SIGNALS.to_owned(), lease_stream()])
}

/// The work queues.
fn queues() -> impl Iterator<Item = String> {
    streams::queues().map(|queue| queue.name)
}

fn lease_stream() -> String {
    format!("KV_{LEASES}")
}
