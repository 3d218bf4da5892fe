//! What the services that do steps share: one consumer a host, and what the lifecycle says of every
//! step: the event that it ends in, and whether another is gone on with.
//!
//! It stands between `bus`, which knows no business, and `lifecycle`, which knows no clock: here
//! the time and the jitter are taken that a conclusion needs.

use std::time::Duration;

use chrono::Utc;
use drover_bus::{Bus, Trade};
use drover_lifecycle::{
    Conclusion, Fact, conclude,
    onward::{onward, step_after},
};
use drover_schemas::{
    Code, Failure, ServerName,
    envelope::CloudEvent,
    streams::{Service, consumer},
    subjects::{Host, step_name},
    v1::{HostLoad, Job, migration_event::Event},
};
use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval_at, timeout},
};
use tokio_util::sync::CancellationToken;

/// How often it is told what a server is under: several times in the shortest window by which its slots
/// are moved.
const TELL_EVERY: Duration = Duration::from_secs(3);
/// How long a server is given to say it: what comes later says little of now.
const ANSWER_WAIT: Duration = Duration::from_secs(10);

/// Does the steps of `service` at these hosts, each with its number of slots, until `shutdown`.
/// `instance` is unique among the instances of the service.
///
/// # Errors
/// When the bus refuses the streams or consumers at the start.
pub async fn run<S, F>(
    bus: &Bus,
    service: Service,
    instance: &str,
    hosts: impl IntoIterator<Item = (Host, u32)>,
    shutdown: CancellationToken,
    step: S,
) -> Result<(), Failure>
where
    S: Fn(Job) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Conclusion> + Send + 'static,
{
    bus.ensure_base().await?;
    let source = format!("drover/{}/{instance}", service.name());
    let mut workers = JoinSet::new();
    for (host, slots) in hosts {
        let consumer = consumer(service, &host, slots);
        let trade = Lifecycle { step: step.clone(), source: source.clone() };
        let (bus, shutdown) = (bus.clone(), shutdown.clone());
        workers.spawn(async move { bus.work(&consumer, service, shutdown, trade).await });
    }
    while let Some(ended) = workers.join_next().await {
        ended.map_err(|error| Failure::new(Code::BusFailed, error.to_string()))??;
    }
    Ok(())
}

/// Tells what these servers are under, each every [`TELL_EVERY`], as long as what is answered is kept, and
/// the bus does not refuse it. `ask` asks one of them.
#[must_use = "it ends when this is dropped"]
pub fn tell_loads<T, F>(
    bus: &Bus,
    servers: impl IntoIterator<Item = (ServerName, T)>,
    ask: impl Fn(T) -> F + Clone + Send + 'static,
) -> JoinSet<()>
where
    T: Clone + Send + 'static,
    F: Future<Output = Result<HostLoad, Failure>> + Send + 'static,
{
    let mut telling = JoinSet::new();
    for (name, server) in servers {
        let (bus, ask) = (bus.clone(), ask.clone());
        telling.spawn(async move {
            // Each at a time of its own: all at once they would be more than an orchestrator hears.
            let first = Instant::now() + TELL_EVERY.mul_f64(rand::random_range(0.0..1.0));
            let mut turns = interval_at(first, TELL_EVERY);
            // Whoever was held up says it once, not as often as was missed.
            turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let mut is_silent = false;
            loop {
                turns.tick().await;
                let told = tell_load(&bus, &name, ask(server.clone())).await;
                if let Err(failure) = &told
                    && !is_silent
                {
                    tracing::warn!(server = %name, %failure, "what it is under is not known");
                }
                if told.as_ref().is_err_and(|failure| failure.code == Code::BusDenied) {
                    return;
                }
                is_silent = told.is_err();
            }
        });
    }
    telling
}

async fn tell_load(
    bus: &Bus,
    server: &ServerName,
    ask: impl Future<Output = Result<HostLoad, Failure>>,
) -> Result<(), Failure> {
    let silent = |_| Failure::new(Code::ServerUnreachable, format!("{server}: no answer in time"));
    let load = timeout(ANSWER_WAIT, ask).await.map_err(silent)??;
    Ok(bus.tell_load(server, &load).await?)
}

/// A service's steps, with what the lifecycle says of them.
#[derive(Clone)]
struct Lifecycle<S> {
    step: S,
    /// `drover/<service>/<instance>`.
    source: String,
}

impl<S, F> Trade for Lifecycle<S>
where
    S: Fn(Job) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Conclusion> + Send + 'static,
{
    fn step(&self, job: Job) -> impl Future<Output = Conclusion> + Send {
        let step = (self.step)(job);
        async move {
            let begun = Instant::now();
            let mut conclusion = step.await;
            if let Ok(event) = &mut conclusion {
                note_time(event, begun.elapsed());
            }
            conclusion
        }
    }

    fn conclude(&self, job: &Job, conclusion: Conclusion) -> CloudEvent {
        let now = Utc::now();
        let jitter = rand::random_range(0.0..1.0);
        let event = conclude(job, conclusion, now.timestamp_millis(), jitter);
        CloudEvent::migration(event, &self.source, now)
    }

    fn onward(&self, job: &Job, event: &CloudEvent, revision: u64) -> Option<Job> {
        step_after(job.step())?;
        let at_unix_ms = event.time.timestamp_millis();
        let fact = Fact { revision, at_unix_ms, event: event.decode_migration().ok()? };
        onward(job, fact, Utc::now().timestamp_millis())
    }
}

/// Writes a step's own time into the events by whose time a campaign's slots are moved.
fn note_time(event: &mut Event, took: Duration) {
    let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1);
    if let Event::SourceDisarmed(disarmed) = event {
        disarmed.took_us = us;
    } else if let Event::DestinationOpened(opened) = event {
        opened.took_us = us;
    }
}

/// The failure of a job whose step is not one of `service`'s.
pub fn foreign(service: Service, job: &Job) -> Failure {
    let text = format!("{} is no step of {}", step_name(job.step()), service.name());
    Failure::new(Code::JobIncomplete, text)
}
