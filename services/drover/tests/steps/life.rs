//! One service's life: it takes jobs from the real queue in the real loop, and something befalls
//! it at a place in the middle.
//!
//! What dies here dies as a killed process does: its tasks are dropped where they stand, its
//! connections close, and it says nothing more to anybody.

use std::{
    net::SocketAddr,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use chrono::Utc;
use drover_bus::Trade;
use drover_lifecycle::{
    Conclusion, Fact, conclude,
    onward::{onward, step_after},
    steps::host_of,
};
use drover_schemas::{
    envelope::CloudEvent,
    streams::{self, Service as Kind},
    v1::{Job, Step},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::{Barrier, Notify},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use crate::world::{Lane, World, connect};

/// What befalls a service that does a step.
#[derive(Debug, Clone)]
pub enum Place {
    /// Nothing.
    Calm,
    /// It dies when it has the job, before it does anything.
    BeforeEffect,
    /// It dies while it does the step: after so many times that the step was driven on.
    Midway(usize),
    /// It dies when the step is done, before the event.
    AfterEffect,
    /// It dies when the event is stored, before the acknowledgement.
    AfterEvent,
    /// It does the step twice, one after the other.
    Twice,
    /// It does the step at the same time as another.
    AtOnce(Arc<Barrier>),
    /// It falls asleep when it has the job, and wakes up when it is told to.
    Asleep(Arc<Notify>),
}

/// What a service came to.
#[derive(Default)]
pub struct Told {
    /// How often the step was begun.
    pub begun: AtomicUsize,
    /// The place was reached.
    pub reached: Notify,
}

/// A service that runs. Dropping it is its death.
pub struct Life {
    pub told: Arc<Told>,
    task: JoinHandle<Result<(), drover_bus::Error>>,
    shutdown: CancellationToken,
}

impl Drop for Life {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Life {
    /// Begins to do the jobs of the service that `job` is for, each step on its own order: it goes on
    /// with none.
    pub async fn begin(world: Arc<World>, lane: &Lane, job: &Job, place: Place) -> Self {
        Self::lives(world, lane, job, place, false).await
    }

    /// The same, but it goes on with the step that follows, and that is what the place is in.
    pub async fn begin_onward(world: Arc<World>, lane: &Lane, job: &Job, place: Place) -> Self {
        Self::lives(world, lane, job, place, true).await
    }

    async fn lives(world: Arc<World>, lane: &Lane, job: &Job, place: Place, goes_on: bool) -> Self {
        let told = Arc::new(Told::default());
        let url = match place {
            Place::AfterEvent => silenced(lane.nats.socket(), told.clone()).await,
            Place::Calm
            | Place::BeforeEffect
            | Place::Midway(_)
            | Place::AfterEffect
            | Place::Twice
            | Place::AtOnce(_)
            | Place::Asleep(_) => lane.nats.url(),
        };
        let bus = connect(&url).await;
        let shutdown = CancellationToken::new();
        let (kind, host) = whose(job);
        let trade = Doing { world, place, told: told.clone(), goes_on };
        let task = tokio::spawn({
            let (consumer, shutdown) = (streams::consumer(kind, &host, 1), shutdown.clone());
            async move { bus.work(&consumer, kind, shutdown, trade).await }
        });
        Self { told, task, shutdown }
    }

    /// Ends as a service does that is told to.
    pub async fn end(mut self) {
        self.shutdown.cancel();
        (&mut self.task).await.unwrap().unwrap();
    }
}

#[derive(Clone)]
struct Doing {
    world: Arc<World>,
    place: Place,
    told: Arc<Told>,
    goes_on: bool,
}

impl Trade for Doing {
    async fn step(&self, job: Job) -> Conclusion {
        if self.goes_on && step_after(job.step()).is_some() {
            return self.world.step(&job).await;
        }
        at(&self.world, &job, self.place.clone(), &self.told).await
    }

    fn conclude(&self, job: &Job, conclusion: Conclusion) -> CloudEvent {
        let now = Utc::now();
        let event = conclude(job, conclusion, now.timestamp_millis(), 0.5);
        CloudEvent::migration(event, "drover/life", now)
    }

    fn onward(&self, job: &Job, event: &CloudEvent, revision: u64) -> Option<Job> {
        let at_unix_ms = event.time.timestamp_millis();
        let event = event.decode_migration().ok().filter(|_| self.goes_on)?;
        onward(job, Fact { revision, at_unix_ms, event }, Utc::now().timestamp_millis())
    }
}

/// The service and host of a job.
fn whose(job: &Job) -> (Kind, drover_schemas::subjects::Host) {
    let planned = job.planned.as_ref().unwrap();
    (Kind::of(job.step()).unwrap(), host_of(job.step(), planned).unwrap().unwrap())
}

async fn at(world: &World, job: &Job, place: Place, told: &Told) -> Conclusion {
    told.begun.fetch_add(1, Ordering::SeqCst);
    match place {
        Place::Calm | Place::AfterEvent => world.step(job).await,
        Place::BeforeEffect => dead(told).await,
        Place::Midway(drives) => {
            {
                let step = pin!(world.step(job));
                Drives { step, left: drives }.await;
            }
            dead(told).await
        }
        Place::AfterEffect => {
            world.step(job).await.unwrap();
            dead(told).await
        }
        Place::Twice => {
            let first = world.step(job).await.unwrap();
            let second = world.step(job).await.unwrap();
            // A dump's objects are each attempt's own, and a time of expiry counts from now.
            if !matches!(job.step(), Step::Dump | Step::Publish) {
                assert_eq!(first, second, "the same order gives the same facts");
            }
            Ok(second)
        }
        Place::AtOnce(barrier) => {
            barrier.wait().await;
            world.step(job).await
        }
        Place::Asleep(wake) => {
            told.reached.notify_one();
            wake.notified().await;
            world.step(job).await
        }
    }
}

async fn dead(told: &Told) -> Conclusion {
    told.reached.notify_one();
    std::future::pending().await
}

/// Drives a future on a number of times, and no further.
struct Drives<F> {
    step: F,
    left: usize,
}

impl<F: Future + Unpin> Future for Drives<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.left == 0 {
            return Poll::Ready(());
        }
        self.left -= 1;
        let polled = Pin::new(&mut self.step).poll(cx).map(drop);
        if self.left == 0 { Poll::Ready(()) } else { polled }
    }
}

/// Forgets to whom the job was given: what else the acknowledgement wait, of half a minute, does.
pub async fn give_out_again(lane: &Lane, job: &Job) {
    let (kind, host) = whose(job);
    let consumer = streams::consumer(kind, &host, 1);
    let subject = format!("$JS.API.CONSUMER.DELETE.{}.{}", consumer.queue, consumer.name);
    let client = async_nats::connect(lane.nats.url()).await.unwrap();
    client.request(subject, "".into()).await.unwrap();
}

/// How an acknowledgement begins: that of a step under way has this form too, but only after far
/// longer than one takes here.
const ACKNOWLEDGED: &[u8] = b"PUB $JS.ACK.";

/// A way to a nats-server over which all passes but an acknowledgement, with which the life ends.
async fn silenced(server: SocketAddr, told: Arc<Told>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("nats://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let upstream = TcpStream::connect(server).await.unwrap();
            tokio::spawn(pass(client, upstream, told.clone()));
        }
    });
    url
}

async fn pass(client: TcpStream, upstream: TcpStream, told: Arc<Told>) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = upstream.into_split();
    let there = async {
        let mut piece = vec![0; 64 << 10];
        while let Ok(read @ 1..) = from_client.read(&mut piece).await {
            let said = &piece[..read];
            let end = said.windows(ACKNOWLEDGED.len()).position(|part| part == ACKNOWLEDGED);
            if to_server.write_all(&said[..end.unwrap_or(read)]).await.is_err() {
                return;
            }
            if end.is_some() {
                told.reached.notify_one();
                std::future::pending::<()>().await;
            }
        }
    };
    let back = tokio::io::copy(&mut from_server, &mut to_client);
    tokio::select! {
        () = there => {}
        _ = back => {}
    }
}
