//! The streams and consumers, as plain descriptions that `bus` turns into JetStream's.
//!
//! Each is read back after it was made: a server older than 2.12 accepts options that it does
//! not know, and ignores them.

use std::time::Duration;

use crate::{
    names::CampaignName,
    subjects::{self, History, Host},
    v1::Step,
};

/// What the names of the work queues begin with; their number follows.
pub const JOBS_PREFIX: &str = "DROVER_JOBS_";
/// How many work queues there are. Each host's jobs lie on one of them: when a job is acknowledged,
/// the server asks every consumer of its stream whether it still wants it, so that the thousand
/// consumers of a large fleet are spread over several streams. Few enough that a small one does
/// not notice.
pub const QUEUES: u32 = 16;
/// The derived facts.
pub const SIGNALS: &str = "DROVER_SIGNALS";
/// The key-value bucket of leases.
pub const LEASES: &str = "DROVER_LEASES";
/// What the names of campaigns' streams begin with.
pub const EVENTS_PREFIX: &str = "DROVER_EVENTS_";

/// How long signals are kept: a night and the day after it, for whoever looks in the morning.
pub const SIGNALS_AGE_MAX: Duration = Duration::from_secs(48 * 3600);
/// The most signals kept; past it the oldest go.
pub const SIGNALS_BYTES_MAX: i64 = 256 << 20;
/// The largest event, job or signal, in bytes. An inventory row with many labels is far below it.
pub const MESSAGE_BYTES_MAX: i32 = 256 << 10;

/// What keeps a message in a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retention {
    /// Until a limit; with none, for ever.
    Limits,
    /// Until it is acknowledged.
    WorkQueue,
}

/// A stream as it must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stream {
    /// The stream's name.
    pub name: String,
    /// The subjects that it takes in.
    pub subjects: Vec<String>,
    /// What keeps a message in it.
    pub retention: Retention,
    /// 0: no limit.
    pub messages_per_subject_max: i64,
    /// Zero: no limit.
    pub age_max: Duration,
    /// -1: no limit.
    pub bytes_max: i64,
    /// Messages can neither be deleted nor purged.
    pub append_only: bool,
    /// What it has lost is made again from the histories: it need not be on the disk before it is
    /// acknowledged.
    pub made_again: bool,
}

/// The history of one campaign.
pub fn events(campaign: &CampaignName) -> Stream {
    Stream {
        name: events_name(campaign),
        subjects: subjects::events_of(campaign).to_vec(),
        retention: Retention::Limits,
        messages_per_subject_max: 0,
        age_max: Duration::ZERO,
        bytes_max: -1,
        append_only: true,
        made_again: false,
    }
}

/// The name of a campaign's stream.
pub fn events_name(campaign: &CampaignName) -> String {
    format!("{EVENTS_PREFIX}{campaign}")
}

/// The work queues: orders not yet done. One message a subject: an order that has been overtaken
/// gives way to the next; that the same order is kept once, and that a stale one never replaces a
/// newer one, is the compare-and-set of whoever publishes (`bus::jobs`).
pub fn queues() -> impl Iterator<Item = Stream> {
    (0..QUEUES).map(|queue| Stream {
        name: format!("{JOBS_PREFIX}{queue:02}"),
        subjects: vec![subjects::jobs_on(queue)],
        retention: Retention::WorkQueue,
        messages_per_subject_max: 1,
        age_max: Duration::ZERO,
        bytes_max: -1,
        append_only: false,
        made_again: true,
    })
}

/// On which queue a host's jobs lie: the same in every version and process (FNV-1a).
pub(crate) fn queue_number(host: &Host) -> u32 {
    let hash = host
        .token()
        .bytes()
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    // The low digits of this hash alone are not well mixed for names that differ in one digit.
    (hash ^ (hash >> 16)) % QUEUES
}

/// The queue on which a host's jobs lie.
pub fn queue_of(host: &Host) -> String {
    format!("{JOBS_PREFIX}{:02}", queue_number(host))
}

/// Derived facts, by age.
pub fn signals() -> Stream {
    Stream {
        name: SIGNALS.to_owned(),
        subjects: vec!["drover.signals.>".to_owned()],
        retention: Retention::Limits,
        messages_per_subject_max: 0,
        age_max: SIGNALS_AGE_MAX,
        bytes_max: SIGNALS_BYTES_MAX,
        append_only: false,
        made_again: false,
    }
}

/// A durable consumer: of a work queue one a service and host, its slots the bus's backpressure; of a
/// campaign's stream, the operators'.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consumer {
    /// The durable's name.
    pub name: String,
    /// Its stream: the queue, or a history.
    pub queue: String,
    /// The subjects of its jobs; no two consumers' overlap.
    pub filter: String,
    /// `max_ack_pending`: how many of the host's jobs are in work at once, over all instances.
    pub slots: u32,
    /// What was acknowledged is known over the server's restart.
    pub kept: bool,
}

/// The consumer from which `service` takes its jobs at `host`.
pub fn consumer(service: Service, host: &Host, slots: u32) -> Consumer {
    Consumer {
        name: format!("{}_{}", service.name(), host.token()),
        queue: queue_of(host),
        filter: subjects::jobs_of(service, host),
        slots,
        kept: false,
    }
}

/// The name of the consumers by which the operators are told.
pub const OPERATORS: &str = "notify_operators";

/// The consumer by which the operators are told of a campaign: of its own facts, and of none of its
/// migrations'.
pub fn operators(campaign: &CampaignName) -> Consumer {
    Consumer {
        name: OPERATORS.to_owned(),
        queue: events_name(campaign),
        filter: subjects::event(campaign, &History::Campaign),
        slots: 1,
        kept: true,
    }
}

/// The services that take jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Service {
    /// At the source.
    Dump,
    /// At the destination.
    Import,
    /// The host names.
    Dns,
    /// The customers and the information system.
    Notify,
}

impl Service {
    /// Its name on the command line, in consumers, events and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Dump => "dump",
            Self::Import => "import",
            Self::Dns => "dns",
            Self::Notify => "notify",
        }
    }

    /// The steps that it does.
    pub fn steps(self) -> &'static [Step] {
        match self {
            Self::Dump => &[Step::Freeze, Step::Dump, Step::Disarm, Step::Retire, Step::Thaw],
            Self::Import => &[Step::Import, Step::Verify, Step::Open, Step::Close, Step::Drop],
            Self::Dns => &[Step::Switch, Step::Revert],
            Self::Notify => &[Step::Publish, Step::Announce, Step::Expire],
        }
    }

    /// The service that does `step`; none for [`Step::Unspecified`].
    pub fn of(step: Step) -> Option<Self> {
        [Self::Dump, Self::Import, Self::Dns, Self::Notify]
            .into_iter()
            .find(|service| service.steps().contains(&step))
    }
}
