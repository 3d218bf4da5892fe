//! What the services that do steps share: one consumer a host, and what the lifecycle says of every
//! step: the event that it ends in, and whether another is gone on with.
//!
//! It stands between `bus`, which knows no business, and `lifecycle`, which knows no clock: here
//! the time and the jitter are taken that a conclusion needs.

use chrono::Utc;
use drover_bus::{Bus, Trade};
use drover_lifecycle::{
    Conclusion, Fact, conclude,
    onward::{onward, step_after},
};
use drover_schemas::{
    Code, Failure,
    envelope::CloudEvent,
    streams::{Service, consumer},
    subjects::{Host, step_name},
    v1::Job,
};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

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
        (self.step)(job)
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

/// The failure of a job whose step is not one of `service`'s.
pub fn foreign(service: Service, job: &Job) -> Failure {
    let text = format!("{} is no step of {}", step_name(job.step()), service.name());
    Failure::new(Code::JobIncomplete, text)
}
