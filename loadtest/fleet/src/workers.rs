//! The real loops of dump, import, dns and notify in this process, with the model for their steps.

use std::{future::ready, sync::Arc};

use anyhow::Result;
use drover_schemas::{ServerName, streams::Service, subjects::Host};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{
    herd::{destination_name, source_name},
    model::Model,
    role::connect,
    stage::Stage,
};

/// How many DNS updates and messages are in work at once: as many as it takes, since here the
/// bus is measured. Each slot waits for two answers of the bus a step, and with too few of them
/// what is measured is the line before the services that all servers share.
const SHARED_SLOTS: u32 = 1_000;
/// Dump, import, dns and notify at work. Ends when it is dropped.
pub struct Workers {
    shutdown: CancellationToken,
    tasks: JoinSet<Result<()>>,
}

impl Stage {
    /// The loops of the services that do steps, each with a connection of its own.
    pub async fn workers(&self, model: &Arc<Model>) -> Result<Workers> {
        let server = |name| Host::Server(name);
        let sources = (0..self.fleet.sources)
            .map(|n| Ok((server(source_name(n)?), self.fleet.per_source)))
            .collect::<Result<Vec<_>>>()?;
        let destinations = (0..self.fleet.destinations)
            .map(|n| Ok((server(destination_name(n)?), self.fleet.per_destination)))
            .collect::<Result<Vec<_>>>()?;
        let services = [
            (Service::Dump, sources),
            (Service::Import, destinations),
            (Service::Dns, vec![(Host::Dns, SHARED_SLOTS)]),
            (Service::Notify, vec![(Host::Notify, SHARED_SLOTS)]),
        ];
        let shutdown = CancellationToken::new();
        let mut tasks = JoinSet::new();
        for (service, hosts) in services {
            let bus = connect(&self.nats.url(), self.replicas, self.synced, service.name()).await?;
            let (model, shutdown) = (model.clone(), shutdown.clone());
            let servers = hosts.iter().filter_map(|(host, _)| match host {
                Host::Server(server) => Some(server.clone()),
                Host::Dns | Host::Notify => None,
            });
            let servers = servers.map(|server| (server.clone(), (model.clone(), server)));
            let ask =
                |(model, server): (Arc<Model>, ServerName)| ready(Ok(model.load(server.as_str())));
            let telling = drover_worker::tell_loads(&bus, servers, ask);
            let step = move |job| model.clone().step(job);
            tasks.spawn(async move {
                let _telling = telling;
                let ended = drover_worker::run(&bus, service, "fleet", hosts, shutdown, step).await;
                if let Err(error) = &ended {
                    tracing::error!(%error, service = service.name(), "a service has ended");
                }
                Ok(ended?)
            });
        }
        Ok(Workers { shutdown, tasks })
    }
}

impl Workers {
    /// Lets them end, so that the next campaign has the processor for itself.
    ///
    /// # Errors
    /// A service's own.
    pub async fn stop(mut self) -> Result<()> {
        self.shutdown.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            ended??;
        }
        Ok(())
    }
}
