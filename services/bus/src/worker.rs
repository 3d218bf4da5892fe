//! The loop in which a service does its jobs: take one, do its step, append the event, say so.
//!
//! It may die between any two of these, and each place is safe:
//!
//! 1. Before the event, the job was not acknowledged: after the acknowledgement wait it is given
//!    out again, here or elsewhere, and the step, which is idempotent, is done again.
//! 2. After the event, the history has moved on: the job is dropped when it comes again, or gone on
//!    with where that event was its own and another step follows here ([`Trade::onward`]).
//! 3. Two instances on one job both append on the job's revision, and one of them loses.
//!
//! A server that was restarted does not know any more which jobs were given out, and gives out all
//! that are there. One that is in work here is not begun a second time: what is said of it at its
//! end is said of what was given out last.
//!
//! An order that is given out for the first time, right after the event that it rests on, is begun without
//! a look at its history. What has happened there since is found as it is for a worker that paused after
//! its look: the event is refused, and before that the servers' ledgers refuse what is out of date.
//! `loadtest/prove` knows no look at all: there any order is worked on at any time.
//!
//! The slots are the consumer's: the bus gives out no more jobs than those, over all instances,
//! and each instance has as many, so no job lies waiting inside one.

use std::{
    cmp::Ordering,
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use drover_schemas::{
    CampaignName, Code, Failure, MigrationId,
    envelope::CloudEvent,
    streams::{Consumer, Service},
    subjects::{History, step_name},
    v1::{Job, Step, migration_event::Event},
};
use futures::FutureExt as _;
use prost::Message as _;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    Bus, Error,
    metrics::{self, Dropped, InFlight, Outcome},
    running::{self, Running},
    source::Source,
    ticket::{Given, Ticket},
};

/// How often a job is given out before its migration is told that it never ends. What ends the
/// service each time (a step that eats all memory, say) must not do so for ever.
pub const DELIVERIES_MAX: i64 = 20;
/// How long what runs may go on after the shutdown began. Below the 90 s after which a service
/// manager usually kills, and long enough for nearly every step.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(60);
/// How long a finished step's event is tried to be appended before the job is given back.
const APPEND_WAIT: Duration = Duration::from_secs(300);
/// How long after the event that it rests on an order is begun without a look at its history, where it is
/// given out for the first time. Some hundred times what a hand-off takes on a healthy bus, and well below
/// the time after which an orchestrator orders once more. By a clock that is ahead by more, none is.
const FRESH: Duration = Duration::from_secs(2);
/// Between attempts to reach the bus; doubled each time.
pub(crate) const PAUSE_MIN: Duration = Duration::from_millis(100);
/// The longest such pause.
pub(crate) const PAUSE_MAX: Duration = Duration::from_secs(5);
/// How long a job that could not be judged waits before it is given out again.
const GIVE_BACK_DELAY: Duration = Duration::from_secs(1);

/// The worker's times; shorter in tests.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    pub(crate) ack_wait: Duration,
    pub(crate) append_wait: Duration,
    pub(crate) shutdown_grace: Duration,
}

impl Pace {
    pub(crate) fn new(ack_wait: Duration) -> Self {
        Self { ack_wait, append_wait: APPEND_WAIT, shutdown_grace: SHUTDOWN_GRACE }
    }
}

/// What a service knows of its jobs.
pub trait Trade: Clone + Send + Sync + 'static {
    /// Does a job's step: idempotent, and safe to be dropped at any await.
    fn step(&self, job: Job) -> impl Future<Output = Result<Event, Failure>> + Send;

    /// The event that is appended of its outcome.
    fn conclude(&self, job: &Job, outcome: Result<Event, Failure>) -> CloudEvent;

    /// The job that is gone on with, without another order, once the first has led to `event`, which
    /// is the last of its history and has this revision.
    fn onward(&self, job: &Job, event: &CloudEvent, revision: u64) -> Option<Job>;
}

impl Bus {
    /// Does the jobs of `consumer`, which it makes where it is missing, until `shutdown`; then
    /// takes no new one, and lets what runs finish for [`SHUTDOWN_GRACE`].
    ///
    /// An error is one of the first creation of the consumer; afterwards the worker waits for the
    /// bus as long as it takes.
    pub async fn work<T: Trade>(
        &self,
        consumer: &Consumer,
        service: Service,
        shutdown: CancellationToken,
        trade: T,
    ) -> Result<(), Error> {
        self.work_at(Pace::new(self.ack_wait()), consumer, service, shutdown, trade).await
    }

    pub(crate) async fn work_at<T: Trade>(
        &self,
        pace: Pace,
        consumer: &Consumer,
        service: Service,
        shutdown: CancellationToken,
        trade: T,
    ) -> Result<(), Error> {
        self.ensure_consumer_with(consumer, pace.ack_wait).await?;
        let slots = consumer.slots as usize;
        let mut source = Source::new(self, pace, consumer);
        let mut running = Running::default();
        loop {
            let free = slots.saturating_sub(running.tasks.len());
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                Some(ended) = running.tasks.join_next_with_id(), if !running.tasks.is_empty() => {
                    running.ended(&consumer.name, ended);
                }
                given = source.next(free) => {
                    let order = match Order::of(&given) {
                        Ok(order) => order,
                        Err(reason) => {
                            set_aside(&Ticket::new(self, given), &reason).await;
                            continue;
                        }
                    };
                    let ordered = order.ordered(&given);
                    let Err(given) = running.renew(&ordered, given) else { continue };
                    let ticket = Arc::new(Ticket::new(self, given));
                    let desk = Desk {
                        bus: self.clone(),
                        pace,
                        service: service.name(),
                        ticket: Arc::clone(&ticket),
                        trade: trade.clone(),
                        shutdown: shutdown.clone(),
                    };
                    running.begin(ordered, ticket, desk.handle(order));
                }
            }
        }
        source.close().await;
        let mut tasks = running.tasks;
        let ended =
            timeout(pace.shutdown_grace, async { while tasks.join_next().await.is_some() {} });
        if ended.await.is_err() {
            tracing::warn!(
                consumer = consumer.name,
                jobs = tasks.len(),
                "steps that did not end in time are dropped; they are done again elsewhere"
            );
            tasks.shutdown().await;
        }
        Ok(())
    }
}

/// One job in work.
struct Desk<T> {
    bus: Bus,
    pace: Pace,
    service: &'static str,
    ticket: Arc<Ticket>,
    trade: T,
    shutdown: CancellationToken,
}

/// What a history says of an order.
enum Standing {
    /// It is for now.
    Due,
    /// It was done, and is gone on with.
    GoneOn(Box<Job>),
    /// It is to be dropped.
    Passed(Dropped),
}

/// What a job's message says.
struct Order {
    job: Job,
    campaign: CampaignName,
    migration: MigrationId,
    history: History,
    step: &'static str,
    deliveries: i64,
}

impl Order {
    /// What a message orders; the error says why it is no order.
    fn of(given: &Given) -> Result<Self, String> {
        let message = &given.message;
        let job = Job::decode(message.payload.clone()).map_err(|error| error.to_string())?;
        let info = message.info().map_err(|error| error.to_string())?;
        let step = match job.step() {
            Step::Unspecified => return Err(format!("step {} is not known", job.step)),
            step => step_name(step),
        };
        let migration: MigrationId =
            job.migration_id.parse().map_err(|error| format!("migration: {error}"))?;
        let planned = job.planned.as_ref().ok_or("it does not say what was planned")?;
        Ok(Self {
            campaign: job.campaign.parse().map_err(|error| format!("campaign: {error}"))?,
            history: History::of(migration, planned).map_err(|error| format!("server: {error}"))?,
            migration,
            step,
            deliveries: info.delivered,
            job,
        })
    }

    /// The job that is gone on with, on the same message.
    fn onward(self, job: Job) -> Self {
        Self { step: step_name(job.step()), job, ..self }
    }

    /// Whether nobody has had it yet, and little can have come between. A server that was restarted
    /// counts what it gives out anew; but then so is the connection.
    fn is_fresh(&self, connected_for: Duration) -> bool {
        let age = age(self.job.revision_at_unix_ms);
        self.deliveries == 1 && age < FRESH && age < connected_for
    }

    fn ordered(&self, given: &Given) -> running::Ordered {
        (given.message.subject.to_string(), self.job.revision)
    }
}

/// Takes a message that is not a job from the queue. The migration is not forgotten: its history
/// says that it waits for a job, and the orchestrator orders it again.
async fn set_aside(ticket: &Ticket, reason: &str) {
    metrics::undecodable("job");
    let given = ticket.given();
    let (subject, bytes) = (given.message.subject.as_str(), given.message.payload.len());
    tracing::error!(subject, bytes, reason, "a job is set aside: it cannot be decoded");
    ticket.set_aside().await;
}

impl<T: Trade> Desk<T> {
    async fn handle(self, order: Order) {
        let _in_flight = InFlight::new(self.service);
        tokio::select! {
            never = self.ticket.say_in_progress(self.pace.ack_wait) => match never {},
            () = self.carry_out(order) => {}
        }
    }

    async fn carry_out(&self, mut order: Order) {
        match self.standing(&order).await {
            Ok(Standing::Due) => {}
            Ok(Standing::GoneOn(job)) => order = order.onward(*job),
            Ok(Standing::Passed(reason)) => return self.drop_job(&order, reason).await,
            Err(error) => {
                tracing::warn!(migration = %order.migration, step = order.step, %error,
                    "the history cannot be read; the job is given back");
                metrics::given_back(self.service);
                return self.ticket.give_back(Some(GIVE_BACK_DELAY)).await;
            }
        }
        loop {
            let Some(result) = self.run(&order).await else { return };
            let event = self.trade.conclude(&order.job, result);
            let Some(revision) = self.record(&order, &event).await else { return };
            match self.trade.onward(&order.job, &event, revision) {
                None => return self.ticket.acknowledge().await,
                // Another instance goes on.
                Some(_) if self.shutdown.is_cancelled() => {
                    return self.ticket.give_back(None).await;
                }
                Some(job) => order = order.onward(job),
            }
        }
    }

    /// Whether the history has moved on since the job was decided, or lost what it rests on.
    async fn standing(&self, order: &Order) -> Result<Standing, Error> {
        if order.is_fresh(self.bus.connected_for()) {
            return Ok(Standing::Due);
        }
        let revision = order.job.revision;
        let mut last = self.bus.last_sequence(&order.campaign, &order.history).await?;
        if last < revision {
            // A replica may be behind; the leader is not.
            last = self.bus.leader_last_sequence(&order.campaign, &order.history).await?;
        }
        Ok(match last.cmp(&revision) {
            Ordering::Equal => Standing::Due,
            Ordering::Less => Standing::Passed(Dropped::Ahead),
            Ordering::Greater => {
                let next = self.bus.after(&order.campaign, &order.history, revision).await?;
                next.filter(|next| next.sequence == last)
                    .and_then(|next| self.trade.onward(&order.job, &next.event, last))
                    .map_or(Standing::Passed(Dropped::Overtaken), |job| {
                        Standing::GoneOn(Box::new(job))
                    })
            }
        })
    }

    /// Runs the step; nothing when it panicked, so that the job comes again.
    async fn run(&self, order: &Order) -> Option<Result<Event, Failure>> {
        if order.deliveries > DELIVERIES_MAX {
            let message =
                format!("step {} was given out {} times", order.step, order.deliveries - 1);
            metrics::step_ended(self.service, order.step, Outcome::Abandoned, Duration::ZERO);
            return Some(Err(Failure::new(Code::JobAbandoned, message)));
        }
        if order.deliveries == 1 {
            metrics::handed_off(self.service, order.step, age(order.job.issued_at_unix_ms));
        }
        let start = Instant::now();
        let Ok(result) = AssertUnwindSafe(self.trade.step(order.job.clone())).catch_unwind().await
        else {
            tracing::error!(migration = %order.migration, step = order.step, "the step panicked");
            return None;
        };
        let outcome = if result.is_ok() { Outcome::Done } else { Outcome::Failed };
        metrics::step_ended(self.service, order.step, outcome, start.elapsed());
        Some(result)
    }

    /// Appends the event, however long the bus is away within [`APPEND_WAIT`]; its revision. None
    /// where it is not stored, and the job is out of our hands.
    async fn record(&self, order: &Order, event: &CloudEvent) -> Option<u64> {
        let (start, mut pause) = (Instant::now(), PAUSE_MIN);
        loop {
            let revision = order.job.revision;
            match self.bus.append(&order.campaign, &order.history, revision, event).await {
                Ok(revision) => return Some(revision),
                Err(Error::Conflict { .. }) => {
                    self.drop_job(order, Dropped::Conflict).await;
                    return None;
                }
                Err(error) if start.elapsed() < self.pace.append_wait => {
                    tracing::warn!(migration = %order.migration, step = order.step, %error,
                        "the step is done, its event is not stored yet");
                    sleep(pause).await;
                    pause = (pause * 2).min(PAUSE_MAX);
                }
                Err(error) => {
                    tracing::error!(migration = %order.migration, step = order.step, %error,
                        "the event cannot be stored; the job is given back");
                    metrics::given_back(self.service);
                    self.ticket.give_back(Some(GIVE_BACK_DELAY)).await;
                    return None;
                }
            }
        }
    }

    async fn drop_job(&self, order: &Order, reason: Dropped) {
        metrics::dropped(self.service, reason);
        let (migration, step, revision) = (order.migration, order.step, order.job.revision);
        match reason {
            Dropped::Overtaken | Dropped::Conflict => tracing::debug!(
                %migration, step, revision, reason = reason.name(), "a job is dropped"
            ),
            Dropped::Ahead => tracing::error!(
                %migration, step, revision,
                "a job is dropped: the log has lost the event that it rests on; \
                 run drover reconcile"
            ),
        }
        self.ticket.acknowledge().await;
    }
}

/// The time since an instant by this machine's clock; zero where that lies ahead.
fn age(unix_ms: i64) -> Duration {
    let then = UNIX_EPOCH + Duration::from_millis(u64::try_from(unix_ms).unwrap_or(0));
    SystemTime::now().duration_since(then).unwrap_or_default()
}
