//! `drover serve`: runs one service, several, or all, until it is told to end.

use std::{collections::BTreeSet, path::Path, str::FromStr};

use drover_bus::Bus;
use drover_dumpstore::Store;
use drover_mysql::Server;
use drover_schemas::{Code, Failure, ServerName};
use metrics_exporter_prometheus::PrometheusBuilder;
use tokio::{
    signal::unix::{SignalKind, signal},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use crate::{
    config::{self, Config},
    context::{Context, instance},
    report::Trouble,
};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// orchestrator dump import dns notify projector console, or all.
    #[arg(required = true, value_name = "SERVICE")]
    services: Vec<String>,
}

/// A service that can be run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Name {
    /// Decides.
    Orchestrator,
    /// At the sources.
    Dump,
    /// At the destinations.
    Import,
    /// The host names.
    Dns,
    /// The customers.
    Notify,
    /// The views.
    Projector,
    /// The customers' dumps by HTTP.
    Console,
}

impl Name {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Orchestrator,
        Self::Dump,
        Self::Import,
        Self::Dns,
        Self::Notify,
        Self::Projector,
        Self::Console,
    ];
}

impl FromStr for Name {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self, Failure> {
        Ok(match text {
            "orchestrator" => Self::Orchestrator,
            "dump" => Self::Dump,
            "import" => Self::Import,
            "dns" => Self::Dns,
            "notify" => Self::Notify,
            "projector" => Self::Projector,
            "console" => Self::Console,
            _ => return Err(Failure::new(Code::ServiceUnknown, format!("{text:?}"))),
        })
    }
}

pub async fn run(config: &Path, args: Args) -> Result<(), Trouble> {
    let names = wanted(&args.services)?;
    let context = Context::open(config, "serve").await?;
    if let Some(metrics) = &context.config.metrics {
        serve_metrics(metrics)?;
    }
    let shutdown = CancellationToken::new();
    let stop = shutdown.clone();
    let (mut term, mut int) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()));
    tokio::spawn(async move {
        if let (Ok(term), Ok(int)) = (&mut term, &mut int) {
            tokio::select! { _ = term.recv() => {} _ = int.recv() => {} }
            tracing::info!("ending: what runs is finished first");
            stop.cancel();
        }
    });
    serve(&context.config, &context.bus, &names, shutdown).await?;
    Ok(())
}

fn wanted(services: &[String]) -> Result<BTreeSet<Name>, Failure> {
    if services.iter().any(|name| name == "all") {
        return Ok(Name::ALL.into());
    }
    services.iter().map(|name| name.parse()).collect()
}

fn serve_metrics(metrics: &config::Metrics) -> Result<(), Failure> {
    PrometheusBuilder::new().with_http_listener(metrics.listen).install().map_err(|error| {
        let text = format!("metrics.listen = {}: {error}", metrics.listen);
        Failure::new(Code::ConfigInvalid, text)
    })?;
    drover_bus::metrics::describe();
    Ok(())
}

/// Runs services until `shutdown`, or until one of them ends with an error, which ends all.
///
/// # Errors
/// That error.
pub async fn serve(
    config: &Config,
    bus: &Bus,
    names: &BTreeSet<Name>,
    shutdown: CancellationToken,
) -> Result<(), Failure> {
    let mut services = JoinSet::new();
    for name in names {
        spawn(&mut services, *name, config, bus, shutdown.clone())?;
    }
    tracing::info!(services = ?names, "running");
    let mut outcome = Ok(());
    while let Some(ended) = services.join_next().await {
        let ended =
            ended.unwrap_or_else(|error| Err(Failure::new(Code::BusFailed, error.to_string())));
        if let Err(failure) = ended {
            tracing::error!(%failure, "a service has ended");
            shutdown.cancel();
            outcome = outcome.and(Err(failure));
        }
    }
    outcome
}

fn spawn(
    services: &mut JoinSet<Result<(), Failure>>,
    name: Name,
    config: &Config,
    bus: &Bus,
    shutdown: CancellationToken,
) -> Result<(), Failure> {
    let (bus, instance) = (bus.clone(), instance());
    match name {
        Name::Orchestrator => {
            let (options, slots) = (config.orchestrator, config.slots());
            let service = drover_orchestrator::Service::new(bus, options, slots, instance);
            services.spawn(async move { Ok(service.run(shutdown).await?) });
        }
        Name::Dump => {
            let store = Store::open(&config.store)?;
            let seals = config.servers.iter().map(|(name, it)| (name.clone(), it.seal.clone()));
            let service = drover_dump::Service::new(
                bus,
                store,
                servers(
                    config,
                    |it| it.slots_as_source,
                    |_, server, slots| drover_dump::Source { server, slots },
                )?,
                seals.collect(),
                &instance,
            );
            services.spawn(service.run(shutdown));
        }
        Name::Import => {
            let store = Store::open(&config.store)?;
            let service = drover_import::Service::new(
                bus,
                store,
                servers(
                    config,
                    |it| it.slots_as_destination,
                    |it, server, slots| drover_import::Destination {
                        server,
                        slots,
                        seal: it.seal.clone(),
                    },
                )?,
                &instance,
            );
            services.spawn(service.run(shutdown));
        }
        Name::Dns => {
            let targets = config.servers.iter().map(|(name, it)| (name.clone(), it.dns.clone()));
            let service = drover_dns::Service::new(config.dns.clone(), targets.collect())?;
            services.spawn(async move { service.run(bus, &instance, shutdown).await });
        }
        Name::Notify => {
            let store = Store::open(&config.store)?;
            let service = drover_notify::Service::new(&config.notify, &config.links, store)?;
            services.spawn(async move { service.run(bus, &instance, shutdown).await });
        }
        Name::Projector => {
            let options = config.projector.clone();
            services.spawn(async move {
                Ok(drover_projector::Service::run(bus, options, &instance, shutdown).await?)
            });
        }
        Name::Console => {
            let store = Store::open(&config.store)?;
            let options = config.console.clone();
            let service = drover_console::Service::new(options, &config.links, store)?;
            services.spawn(async move { Ok(service.run(bus, shutdown).await?) });
        }
    }
    Ok(())
}

/// The servers that have slots for this, each made into what its service needs.
fn servers<T>(
    config: &Config,
    slots: impl Fn(&config::Server) -> u32,
    make: impl Fn(&config::Server, Server, u32) -> T,
) -> Result<std::collections::BTreeMap<ServerName, T>, Failure> {
    let used = config.servers.iter().filter(|(_, server)| slots(server) > 0);
    used.map(|(name, it)| {
        let server = Server::new(name.clone(), it.mysql.clone())?;
        Ok((name.clone(), make(it, server, slots(it))))
    })
    .collect()
}
