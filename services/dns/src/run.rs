//! The loop that takes the service's jobs from the queue.

use drover_bus::Bus;
use drover_lifecycle::Conclusion;
use drover_schemas::{
    Failure, streams,
    subjects::Host,
    v1::{Job, Step, migration_event::Event},
};
use tokio_util::sync::CancellationToken;

use crate::service::Service;

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
        let hosts = [(Host::Dns, self.slots())];
        let step = move |job| {
            let service = self.clone();
            async move { service.step(&job).await }
        };
        drover_worker::run(&bus, streams::Service::Dns, instance, hosts, shutdown, step).await
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
            | Step::Disarm
            | Step::Open
            | Step::Retire
            | Step::Publish
            | Step::Announce
            | Step::Expire
            | Step::Close
            | Step::Drop
            | Step::Thaw => Err(drover_worker::foreign(streams::Service::Dns, job)),
        }
    }
}
