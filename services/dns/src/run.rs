//! The loop that takes the service's jobs from the queue.

use chrono::Utc;
use drover_bus::Bus;
use drover_lifecycle::{Conclusion, conclude};
use drover_schemas::{
    Failure,
    envelope::CloudEvent,
    streams,
    subjects::Host,
    v1::{Job, Step, migration_event::Event},
};
use tokio_util::sync::CancellationToken;

use crate::{error::Error, service::Service};

impl Service {
    /// Takes jobs from the queue and does them until `shutdown`. `instance` tells this process
    /// from others in the events' source.
    ///
    /// # Errors
    /// The bus's, where the queue or the consumer cannot be made.
    pub async fn run(
        self,
        bus: Bus,
        instance: &str,
        shutdown: CancellationToken,
    ) -> Result<(), Failure> {
        bus.ensure_base().await?;
        let kind = streams::Service::Dns;
        let consumer = streams::consumer(kind, &Host::Dns, self.slots());
        let source = format!("drover/{}/{instance}", kind.name());
        let step = move |job: Job| {
            let service = self.clone();
            async move { service.step(&job).await }
        };
        let conclude = move |job: &Job, conclusion| {
            let now = Utc::now();
            let jitter = rand::random_range(0.0..1.0);
            let event = conclude(job, conclusion, now.timestamp_millis(), jitter);
            CloudEvent::migration(event, &source, now)
        };
        Ok(bus.work(&consumer, kind, shutdown, step, conclude).await?)
    }

    /// Does a job's step.
    ///
    /// # Errors
    /// Those of [`Service::switch`] and [`Service::revert`]; and a job that is not for this
    /// service.
    pub async fn step(&self, job: &Job) -> Conclusion {
        match job.step() {
            Step::Switch => Ok(Event::DnsSwitched(self.switch(job).await?)),
            Step::Revert => Ok(Event::DnsReverted(self.revert(job).await?)),
            Step::Unspecified
            | Step::Freeze
            | Step::Dump
            | Step::Import
            | Step::Verify
            | Step::Open
            | Step::Retire
            | Step::Publish
            | Step::Announce
            | Step::Expire
            | Step::Close
            | Step::Drop
            | Step::Thaw => Err(Error::Incomplete("step: it is another service's").into()),
        }
    }
}
