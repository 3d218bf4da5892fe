use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU32, Ordering::SeqCst},
};

use async_nats::jetstream::{AckKind, consumer::pull};
use drover_schemas::{
    Code, Failure,
    streams::{self, Consumer, Service},
    subjects,
    v1::StepFailed,
};
use drover_testbed::bed::eventually;
use futures::StreamExt as _;
use tokio::{sync::Semaphore, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::worker::{Pace, Trade};

const ACK_WAIT: Duration = Duration::from_millis(900);

fn pace() -> Pace {
    Pace::new(ACK_WAIT)
}

/// What a test's step looks at and waits for.
#[derive(Clone)]
struct Stage {
    started: Arc<Mutex<Vec<String>>>,
    steps: Arc<Mutex<Vec<Step>>>,
    running: Arc<AtomicU32>,
    running_most: Arc<AtomicU32>,
    /// A permit lets one step end.
    gate: Arc<Semaphore>,
}

impl Stage {
    fn new(permits: usize) -> Self {
        Self {
            started: Arc::default(),
            steps: Arc::default(),
            running: Arc::default(),
            running_most: Arc::default(),
            gate: Arc::new(Semaphore::new(permits)),
        }
    }

    fn open() -> Self {
        Self::new(Semaphore::MAX_PERMITS)
    }

    fn starts(&self) -> usize {
        self.started.lock().unwrap().len()
    }

    async fn step(self, job: Job) -> Result<Event, Failure> {
        self.started.lock().unwrap().push(job.migration_id.clone());
        self.steps.lock().unwrap().push(job.step());
        let running = self.running.fetch_add(1, SeqCst) + 1;
        self.running_most.fetch_max(running, SeqCst);
        let permit = self.gate.acquire().await.unwrap();
        permit.forget();
        self.running.fetch_sub(1, SeqCst);
        Ok(Event::MigrationAdmitted(MigrationAdmitted { run: 77, rehearsal: false }))
    }

    fn work(
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
    fn trade(&self, then: Option<Step>) -> impl Trade {
        let stage = self.clone();
        Steps { step: move |job| stage.clone().step(job), then }
    }
}

#[derive(Clone)]
struct Steps<S> {
    step: S,
    then: Option<Step>,
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

struct Scene {
    bus: Bus,
    campaign: CampaignName,
    host: Host,
    consumer: Consumer,
}

impl Scene {
    async fn new(bus: Bus, slots: u32) -> Self {
        let (campaign, host) = (new_campaign(&bus).await, new_host());
        let consumer = streams::consumer(Service::Dump, &host, slots);
        Self { bus, campaign, host, consumer }
    }

    fn history(&self, database: &str) -> History {
        history(&self.campaign, database)
    }

    /// Plans a migration and orders its first step; the revision.
    async fn order(&self, database: &str) -> u64 {
        let a = self.history(database);
        let revision = self.bus.append(&self.campaign, &a, 0, &event(1)).await.unwrap();
        let job = job(&self.campaign, database, Step::Freeze, revision);
        self.bus.order(&job, &self.host).await.unwrap();
        revision
    }

    async fn events(&self, database: &str) -> usize {
        self.bus
            .history(&self.campaign, self.history(database).aggregate())
            .await
            .map_or(0, |h| h.len())
    }

    async fn is_queued(&self, database: &str) -> bool {
        let migration = migration(&self.campaign, database);
        self.bus.outstanding(Step::Freeze, &self.host, migration).await.unwrap().is_some()
    }

    /// Waits until the migration has its second event and the queue no job of it.
    async fn done(&self, database: &str) {
        eventually(DEADLINE, || async {
            Ok(self.events(database).await == 2 && !self.is_queued(database).await)
        })
        .await
        .unwrap();
    }
}

async fn until(condition: impl Fn() -> bool) {
    eventually(DEADLINE, || async { Ok(condition()) }).await.unwrap();
}

#[tokio::test]
async fn a_job_becomes_an_event() {
    let scene = Scene::new(shared().bus().await, 4).await;
    let (stage, shutdown) = (Stage::open(), CancellationToken::new());
    let revision = scene.order("a").await;
    let worker = stage.work(&scene.bus, &scene.consumer, &shutdown);
    scene.done("a").await;
    scene.order("b").await;
    scene.done("b").await;
    let last = scene.bus.last(&scene.campaign, &scene.history("a")).await.unwrap().unwrap();
    assert!(last.sequence > revision);
    assert_eq!(number_of(&last.event), 77);
    assert_eq!(stage.starts(), 2);
    shutdown.cancel();
    worker.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_job_whose_revision_has_passed_is_dropped() {
    let scene = Scene::new(shared().bus().await, 4).await;
    let (stage, shutdown) = (Stage::open(), CancellationToken::new());
    // As after a death between the event and the acknowledgement.
    let revision = scene.order("a").await;
    let a = scene.history("a");
    scene.bus.append(&scene.campaign, &a, revision, &event(2)).await.unwrap();
    let _worker = stage.work(&scene.bus, &scene.consumer, &shutdown);
    scene.done("a").await;
    assert_eq!(stage.starts(), 0);
}

#[tokio::test]
async fn a_job_of_a_history_that_lost_its_end_is_dropped() {
    let scene = Scene::new(shared().bus().await, 4).await;
    let (stage, shutdown) = (Stage::open(), CancellationToken::new());
    let job = job(&scene.campaign, "a", Step::Freeze, 99);
    scene.bus.order(&job, &scene.host).await.unwrap();
    let _worker = stage.work(&scene.bus, &scene.consumer, &shutdown);
    eventually(DEADLINE, || async { Ok(!scene.is_queued("a").await) }).await.unwrap();
    assert_eq!((stage.starts(), scene.events("a").await), (0, 0));
}

#[tokio::test]
async fn a_death_before_the_event_does_the_step_again() {
    let scene = Scene::new(shared().bus().await, 4).await;
    scene.order("a").await;
    let (dying, shutdown) = (Stage::new(0), CancellationToken::new());
    let worker = dying.work(&scene.bus, &scene.consumer, &shutdown);
    until(|| dying.starts() == 1).await;
    // Its steps' tasks end with it.
    worker.abort();
    let next = Stage::open();
    let _worker = next.work(&scene.bus, &scene.consumer, &shutdown);
    scene.done("a").await;
    assert_eq!((dying.starts(), next.starts()), (1, 1));
}

#[tokio::test]
async fn of_two_on_one_job_one_event_stays() {
    let scene = Scene::new(shared().bus().await, 4).await;
    let revision = scene.order("a").await;
    let (slow, shutdown) = (Stage::new(0), CancellationToken::new());
    let _worker = slow.work(&scene.bus, &scene.consumer, &shutdown);
    until(|| slow.starts() == 1).await;
    let a = scene.history("a");
    scene.bus.append(&scene.campaign, &a, revision, &event(2)).await.unwrap();
    slow.gate.add_permits(1);
    scene.done("a").await;
    let last = scene.bus.last(&scene.campaign, &a).await.unwrap().unwrap();
    assert_eq!(number_of(&last.event), 2);
}

#[tokio::test]
async fn a_long_step_keeps_its_job() {
    let scene = Scene::new(shared().bus().await, 4).await;
    scene.order("a").await;
    let (stage, shutdown) = (Stage::new(0), CancellationToken::new());
    let _one = stage.work(&scene.bus, &scene.consumer, &shutdown);
    let _two = stage.work(&scene.bus, &scene.consumer, &shutdown);
    until(|| stage.starts() == 1).await;
    tokio::time::sleep(ACK_WAIT * 4).await;
    stage.gate.add_permits(1);
    scene.done("a").await;
    assert_eq!(stage.starts(), 1);
}

#[tokio::test]
async fn the_slots_hold_over_all_instances() {
    let scene = Scene::new(shared().bus().await, 3).await;
    for database in 0..12 {
        scene.order(&database.to_string()).await;
    }
    let (stage, shutdown) = (Stage::new(0), CancellationToken::new());
    let other = shared().bus().await;
    let _one = stage.work(&scene.bus, &scene.consumer, &shutdown);
    let _two = stage.work(&other, &scene.consumer, &shutdown);
    until(|| stage.starts() == 3).await;
    // Longer than silence is taken for a loss: a full host is not a lost one.
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(stage.starts(), 3);
    stage.gate.add_permits(12);
    for database in 0..12 {
        scene.done(&database.to_string()).await;
    }
    assert_eq!((stage.starts(), stage.running_most.load(SeqCst)), (12, 3));
}

#[tokio::test]
async fn a_job_in_work_is_not_begun_again_when_a_restarted_server_gives_it_out_again() {
    let server = Server::start();
    let scene = Scene::new(server.bus().await, 4).await;
    let (stage, shutdown) = (Stage::new(0), CancellationToken::new());
    scene.order("a").await;
    let _worker = stage.work(&scene.bus, &scene.consumer, &shutdown);
    until(|| stage.starts() == 1).await;
    server.nats.restart().unwrap();
    // It lies behind the first on the queue: when it has begun, the first was given out again.
    let revision = scene.order("b").await;
    until(|| stage.starts() == 2).await;
    stage.gate.add_permits(2);
    for database in ["a", "b"] {
        scene.done(database).await;
    }
    // What is given out again after its end has passed.
    let job = job(&scene.campaign, "b", Step::Freeze, revision);
    scene.bus.order(&job, &scene.host).await.unwrap();
    eventually(DEADLINE, || async { Ok(!scene.is_queued("b").await) }).await.unwrap();
    assert_eq!(stage.starts(), 2);
}

#[tokio::test]
async fn an_order_that_a_killed_server_has_lost_and_that_is_made_again_is_not_begun_again() {
    let server = Server::start();
    let scene = Scene::new(server.bus().await, 4).await;
    let (stage, shutdown) = (Stage::new(0), CancellationToken::new());
    let revision = scene.order("a").await;
    let worker = stage.work(&scene.bus, &scene.consumer, &shutdown);
    until(|| stage.starts() == 1).await;
    let stream = scene.bus.stream(&scene.consumer.queue).await.unwrap();
    stream.purge().await.unwrap();
    server.nats.restart().unwrap();
    scene.order("b").await;
    let again = job(&scene.campaign, "a", Step::Freeze, revision);
    scene.bus.order(&again, &scene.host).await.unwrap();
    scene.order("c").await;
    until(|| stage.starts() == 3).await;
    stage.gate.add_permits(3);
    for database in ["a", "b", "c"] {
        scene.done(database).await;
    }
    assert_eq!(stage.starts(), 3);
    shutdown.cancel();
    worker.await.unwrap().unwrap();
}

#[tokio::test]
async fn over_another_connection_a_job_is_given_back_and_not_taken_from_the_queue() {
    let server = Server::start();
    let scene = Scene::new(server.bus().await, 4).await;
    scene.bus.ensure_consumer_with(&scene.consumer, DEADLINE).await.unwrap();
    scene.order("a").await;
    let mut source = crate::source::Source::new(&scene.bus, pace(), &scene.consumer);
    let ticket = crate::ticket::Ticket::new(&scene.bus, source.next(1).await);
    let before = scene.bus.connection();
    let mut connections = scene.bus.connections();
    server.nats.restart().unwrap();
    connections.wait_for(|now| *now > before).await.unwrap();
    ticket.acknowledge().await;
    let again = source.next(1).await;
    assert_eq!(again.message.subject, ticket.given().message.subject);
    assert!(ticket.renew(again).is_err(), "the last word was said of it");
    assert!(scene.is_queued("a").await);
}

#[tokio::test]
async fn what_is_not_a_job_is_taken_from_the_queue() {
    let scene = Scene::new(shared().bus().await, 4).await;
    let subject = subjects::job(Step::Freeze, &scene.host, migration(&scene.campaign, "a"));
    let garbage = scene.bus.context().publish(subject.clone(), "\u{7f}".into()).await.unwrap();
    garbage.await.unwrap();
    let (stage, shutdown) = (Stage::open(), CancellationToken::new());
    let _worker = stage.work(&scene.bus, &scene.consumer, &shutdown);
    eventually(DEADLINE, || async { Ok(!scene.bus.queued().await?.contains(&subject)) })
        .await
        .unwrap();
    scene.order("b").await;
    scene.done("b").await;
    assert_eq!(stage.starts(), 1);
}

#[tokio::test]
async fn a_job_that_never_ends_is_abandoned_with_an_event() {
    let scene = Scene::new(shared().bus().await, 4).await;
    scene.order("a").await;
    scene.bus.ensure_consumer_with(&scene.consumer, ACK_WAIT).await.unwrap();
    let stream = scene.bus.stream(&scene.consumer.queue).await.unwrap();
    let consumer: async_nats::jetstream::consumer::Consumer<pull::Config> =
        stream.get_consumer(&scene.consumer.name).await.unwrap();
    for _ in 0..crate::DELIVERIES_MAX {
        let mut batch =
            consumer.batch().max_messages(1).expires(DEADLINE).messages().await.unwrap();
        let message = batch.next().await.unwrap().unwrap();
        message.ack_with(AckKind::Nak(None)).await.unwrap();
    }
    let (stage, shutdown) = (Stage::open(), CancellationToken::new());
    let _worker = stage.work(&scene.bus, &scene.consumer, &shutdown);
    scene.done("a").await;
    assert_eq!(stage.starts(), 0);
    let last = scene.bus.last(&scene.campaign, &scene.history("a")).await.unwrap().unwrap();
    match last.event.decode_migration().unwrap() {
        Event::StepFailed(failed) => assert_eq!(failed.code, Code::JobAbandoned.to_string()),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_failure_and_a_panic_leave_the_worker_at_work() {
    let scene = Scene::new(shared().bus().await, 1).await;
    scene.order("a").await;
    let attempts = Arc::new(AtomicU32::new(0));
    let shutdown = CancellationToken::new();
    let worker = tokio::spawn({
        let (bus, consumer) = (scene.bus.clone(), scene.consumer.clone());
        let (attempts, shutdown) = (Arc::clone(&attempts), shutdown.clone());
        async move {
            let step = move |_: Job| {
                let attempt = attempts.fetch_add(1, SeqCst);
                async move {
                    assert!(attempt > 0, "the first attempt panics");
                    Err(Failure::new(Code::ServerFailed, "no luck"))
                }
            };
            let trade = Steps { step, then: None };
            bus.work_at(pace(), &consumer, Service::Dump, shutdown, trade).await
        }
    });
    scene.done("a").await;
    assert_eq!(attempts.load(SeqCst), 2);
    shutdown.cancel();
    worker.await.unwrap().unwrap();
}

#[tokio::test]
async fn at_its_end_it_finishes_what_runs_and_leaves_the_rest() {
    let scene = Scene::new(shared().bus().await, 2).await;
    for database in ["a", "b", "c", "d"] {
        scene.order(database).await;
    }
    let (stage, shutdown) = (Stage::new(0), CancellationToken::new());
    let worker = stage.work(&scene.bus, &scene.consumer, &shutdown);
    until(|| stage.starts() == 2).await;
    shutdown.cancel();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!worker.is_finished());
    stage.gate.add_permits(10);
    worker.await.unwrap().unwrap();
    assert_eq!(stage.starts(), 2);
    let next = Stage::open();
    let _worker = next.work(&scene.bus, &scene.consumer, &CancellationToken::new());
    for database in ["a", "b", "c", "d"] {
        scene.done(database).await;
    }
    assert_eq!(next.starts(), 2);
}

#[tokio::test]
async fn a_step_that_does_not_end_is_dropped_after_the_grace() {
    let scene = Scene::new(shared().bus().await, 2).await;
    scene.order("a").await;
    let (stage, shutdown) = (Stage::new(0), CancellationToken::new());
    let grace = Pace { shutdown_grace: Duration::from_millis(50), ..pace() };
    let worker = tokio::spawn({
        let (bus, consumer) = (scene.bus.clone(), scene.consumer.clone());
        let (stage, shutdown) = (stage.clone(), shutdown.clone());
        async move { bus.work_at(grace, &consumer, Service::Dump, shutdown, stage.trade(None)).await }
    });
    until(|| stage.starts() == 1).await;
    shutdown.cancel();
    worker.await.unwrap().unwrap();
    assert!(scene.is_queued("a").await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_that_ends_while_the_bus_is_away_has_its_event_after() {
    let server = Server::start();
    let scene = Scene::new(server.bus().await, 4).await;
    for database in ["a", "b"] {
        scene.order(database).await;
    }
    let (stage, shutdown) = (Stage::new(0), CancellationToken::new());
    let patient = Pace { ack_wait: Duration::from_secs(30), ..pace() };
    let worker = tokio::spawn({
        let (bus, consumer) = (scene.bus.clone(), scene.consumer.clone());
        let (stage, shutdown) = (stage.clone(), shutdown.clone());
        async move { bus.work_at(patient, &consumer, Service::Dump, shutdown, stage.trade(None)).await }
    });
    until(|| stage.starts() == 2).await;
    server.nats.kill().unwrap();
    stage.gate.add_permits(2);
    until(|| stage.running.load(SeqCst) == 0).await;
    server.nats.restart().unwrap();
    for database in ["a", "b"] {
        scene.done(database).await;
    }
    assert_eq!(stage.starts(), 2);
    // It takes jobs again without being told.
    stage.gate.add_permits(1);
    scene.order("c").await;
    scene.done("c").await;
    shutdown.cancel();
    worker.await.unwrap().unwrap();
}

/// A worker that goes on with the dump after the freeze.
fn going_on(
    scene: &Scene,
    stage: &Stage,
    shutdown: &CancellationToken,
) -> JoinHandle<Result<(), crate::Error>> {
    let (bus, consumer, shutdown) = (scene.bus.clone(), scene.consumer.clone(), shutdown.clone());
    let trade = stage.trade(Some(Step::Dump));
    tokio::spawn(
        async move { bus.work_at(pace(), &consumer, Service::Dump, shutdown, trade).await },
    )
}

#[tokio::test]
async fn the_next_step_is_gone_on_with_and_one_order_serves_for_both() {
    let scene = Scene::new(shared().bus().await, 1).await;
    scene.order("a").await;
    let (stage, shutdown) = (Stage::new(1), CancellationToken::new());
    let _worker = going_on(&scene, &stage, &shutdown);
    until(|| stage.starts() == 2).await;
    assert_eq!(scene.events("a").await, 2);
    assert!(scene.is_queued("a").await, "the order stays until the last step has ended");
    stage.gate.add_permits(1);
    eventually(DEADLINE, || async { Ok(!scene.is_queued("a").await) }).await.unwrap();
    assert_eq!(scene.events("a").await, 3);
    assert_eq!(*stage.steps.lock().unwrap(), [Step::Freeze, Step::Dump]);
}

#[tokio::test]
async fn who_dies_on_the_way_is_followed_by_one_who_goes_on_from_there() {
    let scene = Scene::new(shared().bus().await, 1).await;
    scene.order("a").await;
    let (stage, shutdown) = (Stage::new(1), CancellationToken::new());
    let worker = going_on(&scene, &stage, &shutdown);
    until(|| stage.starts() == 2).await;
    worker.abort();
    let next = Stage::open();
    let _worker = going_on(&scene, &next, &shutdown);
    eventually(DEADLINE, || async { Ok(!scene.is_queued("a").await) }).await.unwrap();
    assert_eq!(*next.steps.lock().unwrap(), [Step::Dump]);
    assert_eq!(scene.events("a").await, 3);
}

#[tokio::test]
async fn what_has_moved_on_is_not_gone_on_with() {
    let scene = Scene::new(shared().bus().await, 1).await;
    scene.order("a").await;
    let (stage, shutdown) = (Stage::new(1), CancellationToken::new());
    let worker = going_on(&scene, &stage, &shutdown);
    until(|| stage.starts() == 2).await;
    worker.abort();
    let a = scene.history("a");
    let last = scene.bus.last(&scene.campaign, &a).await.unwrap().unwrap().sequence;
    scene.bus.append(&scene.campaign, &a, last, &event(9)).await.unwrap();
    let next = Stage::open();
    let _worker = going_on(&scene, &next, &shutdown);
    eventually(DEADLINE, || async { Ok(!scene.is_queued("a").await) }).await.unwrap();
    assert_eq!(next.starts(), 0);
    assert_eq!(scene.events("a").await, 3);
}

#[tokio::test]
async fn who_is_told_to_end_leaves_the_next_step_to_another() {
    let scene = Scene::new(shared().bus().await, 1).await;
    scene.order("a").await;
    let (stage, shutdown) = (Stage::new(0), CancellationToken::new());
    let worker = going_on(&scene, &stage, &shutdown);
    until(|| stage.starts() == 1).await;
    shutdown.cancel();
    stage.gate.add_permits(2);
    worker.await.unwrap().unwrap();
    assert_eq!(*stage.steps.lock().unwrap(), [Step::Freeze]);
    let next = Stage::open();
    let _worker = going_on(&scene, &next, &CancellationToken::new());
    eventually(DEADLINE, || async { Ok(!scene.is_queued("a").await) }).await.unwrap();
    assert_eq!(*next.steps.lock().unwrap(), [Step::Dump]);
}
