//! A worker, its queue, and what its steps look at and wait for.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU32, Ordering::SeqCst},
};

use drover_schemas::{
    Failure,
    streams::{self, Consumer, Service},
    v1::StepFailed,
};
use drover_testbed::bed::eventually;
use tokio::{sync::Semaphore, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::worker::{Pace, Trade};

pub(super) const ACK_WAIT: Duration = Duration::from_millis(900);

pub(super) fn pace() -> Pace {
    Pace::new(ACK_WAIT)
}

/// What a test's step looks at and waits for.
#[derive(Clone)]
pub(super) struct Stage {
    pub(super) started: Arc<Mutex<Vec<String>>>,
    pub(super) steps: Arc<Mutex<Vec<Step>>>,
    pub(super) running: Arc<AtomicU32>,
    pub(super) running_most: Arc<AtomicU32>,
    /// A permit lets one step end.
    pub(super) gate: Arc<Semaphore>,
}

impl Stage {
    pub(super) fn new(permits: usize) -> Self {
        Self {
            started: Arc::default(),
            steps: Arc::default(),
            running: Arc::default(),
            running_most: Arc::default(),
            gate: Arc::new(Semaphore::new(permits)),
        }
    }

    pub(super) fn open() -> Self {
        Self::new(Semaphore::MAX_PERMITS)
    }

    pub(super) fn starts(&self) -> usize {
        self.started.lock().unwrap().len()
    }

    pub(super) async fn step(self, job: Job) -> Result<Event, Failure> {
        self.started.lock().unwrap().push(job.migration_id.clone());
        self.steps.lock().unwrap().push(job.step());
        let running = self.running.fetch_add(1, SeqCst) + 1;
        self.running_most.fetch_max(running, SeqCst);
        let permit = self.gate.acquire().await.unwrap();
        permit.forget();
        self.running.fetch_sub(1, SeqCst);
        Ok(Event::MigrationAdmitted(MigrationAdmitted { run: 77, rehearsal: false }))
    }

    pub(super) fn work(
        &self,
        bus: &Bus,
        consumer: &Consumer,
        shutdown: &CancellationToken,
    ) -> JoinHandle<Result<(), crate::Error>> {
        let (bus, consumer) = (bus.clone(), consumer.clone());
        let (stage, shutdown) = (self.clone(), shutdown.clone());
        tokio::spawn(async move {
            bus.work_at(pace(), &consumer, Service::Dump, shutdown, stage.trade(None)).await
        })
    }

    /// After a freeze it goes on with `then`.
    pub(super) fn trade(&self, then: Option<Step>) -> impl Trade {
        let stage = self.clone();
        Steps { step: move |job| stage.clone().step(job), then }
    }
}

#[derive(Clone)]
pub(super) struct Steps<S> {
    pub(super) step: S,
    pub(super) then: Option<Step>,
}

impl<S, F> Trade for Steps<S>
where
    S: Fn(Job) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Result<Event, Failure>> + Send + 'static,
{
    fn step(&self, job: Job) -> impl Future<Output = Result<Event, Failure>> + Send {
        (self.step)(job)
    }

    fn conclude(&self, job: &Job, result: Result<Event, Failure>) -> CloudEvent {
        let event = result.unwrap_or_else(|failure| {
            Event::StepFailed(StepFailed {
                step: job.step,
                code: failure.code.to_string(),
                message: failure.message,
                ..StepFailed::default()
            })
        });
        CloudEvent::migration(event, "drover/test/1", Utc::now())
    }

    fn onward(&self, job: &Job, event: &CloudEvent, revision: u64) -> Option<Job> {
        let step = self.then.filter(|_| job.step() == Step::Freeze)?.into();
        let is_done = matches!(event.decode_migration(), Ok(Event::MigrationAdmitted(_)));
        is_done.then(|| Job { step, revision, ..job.clone() })
    }
}

pub(super) struct Scene {
    pub(super) bus: Bus,
    pub(super) campaign: CampaignName,
    pub(super) host: Host,
    pub(super) consumer: Consumer,
}

impl Scene {
    pub(super) async fn new(bus: Bus, slots: u32) -> Self {
        let (campaign, host) = (new_campaign(&bus).await, new_host());
        let consumer = streams::consumer(Service::Dump, &host, slots);
        Self { bus, campaign, host, consumer }
    }

    pub(super) fn history(&self, database: &str) -> History {
        history(&self.campaign, database)
    }

    /// Plans a migration and orders its first step; the revision.
    pub(super) async fn order(&self, database: &str) -> u64 {
        let a = self.history(database);
        let revision = self.bus.append(&self.campaign, &a, 0, &event(1)).await.unwrap();
        self.bus.order(&self.job(database, revision), &self.host).await.unwrap();
        revision
    }

    /// The order of a migration's first step, right after its event.
    pub(super) fn job(&self, database: &str, revision: u64) -> Job {
        job(&self.campaign, database, Step::Freeze, revision)
    }

    pub(super) async fn events(&self, database: &str) -> usize {
        self.bus
            .history(&self.campaign, self.history(database).aggregate())
            .await
            .map_or(0, |h| h.len())
    }

    pub(super) async fn is_queued(&self, database: &str) -> bool {
        let migration = migration(&self.campaign, database);
        self.bus.outstanding(Step::Freeze, &self.host, migration).await.unwrap().is_some()
    }

    /// Waits until the migration has its second event and the queue no job of it.
    pub(super) async fn done(&self, database: &str) {
        eventually(DEADLINE, || async {
            Ok(self.events(database).await == 2 && !self.is_queued(database).await)
        })
        .await
        .unwrap();
    }
}

const HOUR_MS: i64 = 3_600_000;

/// An order that rests on an event of an hour ago.
pub(super) fn old(job: Job) -> Job {
    Job { revision_at_unix_ms: job.revision_at_unix_ms - HOUR_MS, ..job }
}

/// An order that is fresh however long the machine takes: whoever recorded its event has a clock that is
/// ahead.
pub(super) fn fresh(job: Job) -> Job {
    Job { revision_at_unix_ms: job.revision_at_unix_ms + HOUR_MS, ..job }
}

pub(super) async fn until(condition: impl Fn() -> bool) {
    eventually(DEADLINE, || async { Ok(condition()) }).await.unwrap();
}
