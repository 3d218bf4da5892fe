//! `drover serve`: runs one service, several, or all, until it is told to end.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    str::FromStr,
};

use drover_bus::Bus;
use drover_dumpstore::Store;
use drover_mysql::Server;
use drover_schemas::{Code, Failure, ServerName, users::User};
use metrics_exporter_prometheus::PrometheusBuilder;
use tokio::{
    signal::unix::{SignalKind, signal},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use crate::{
    config::{self, Config},
    context::instance,
    report::Trouble,
};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// orchestrator dump import dns notify projector console, or all.
    #[arg(required = true, value_name = "SERVICE")]
    services: Vec<String>,
    /// The servers at which dump and import work, by their names in the configuration; without it
    /// at all of them.
    #[arg(long = "host", value_name = "SERVER")]
    hosts: Vec<ServerName>,
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
    let config = Config::load(config, std::env::vars())?;
    if let Some(host) = args.hosts.iter().find(|host| !config.servers.contains_key(host)) {
        return Err(Failure::new(Code::HostUnknown, format!("--host {host}")).into());
    }
    if let Some(metrics) = &config.metrics {
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
    serve(&config, &names, &args.hosts, shutdown).await?;
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
/// `hosts`: the servers at which dump and import work; none: at all of the configuration.
///
/// # Errors
/// That error.
pub async fn serve(
    config: &Config,
    names: &BTreeSet<Name>,
    hosts: &[ServerName],
    shutdown: CancellationToken,
) -> Result<(), Failure> {
    let mut services = JoinSet::new();
    for name in names {
        spawn(&mut services, *name, config, hosts, &shutdown).await?;
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

type Services = JoinSet<Result<(), Failure>>;

async fn spawn(
    services: &mut Services,
    name: Name,
    config: &Config,
    hosts: &[ServerName],
    shutdown: &CancellationToken,
) -> Result<(), Failure> {
    let (instance, shutdown) = (instance(), shutdown.clone());
    match name {
        Name::Orchestrator => {
            let (options, slots) = (config.orchestrator, config.slots());
            let bus = connect(config, &User::Orchestrator).await?;
            let service = drover_orchestrator::Service::new(bus, options, slots, instance);
            services.spawn(async move { Ok(service.run(shutdown).await?) });
        }
        Name::Dump => {
            let sources = servers(
                config,
                hosts,
                |it| it.slots_as_source,
                |_, server, slots| drover_dump::Source { server, slots },
            )?;
            let seals: BTreeMap<_, _> =
                config.servers.iter().map(|(name, it)| (name.clone(), it.seal.clone())).collect();
            for (user, sources) in shares(config, sources, User::Dump) {
                let (bus, store) = (connect(config, &user).await?, Store::open(&config.store)?);
                let service =
                    drover_dump::Service::new(bus, store, sources, seals.clone(), &instance);
                services.spawn(service.run(shutdown.clone()));
            }
        }
        Name::Import => {
            let destinations = servers(
                config,
                hosts,
                |it| it.slots_as_destination,
                |it, server, slots| drover_import::Destination {
                    server,
                    slots,
                    seal: it.seal.clone(),
                },
            )?;
            for (user, destinations) in shares(config, destinations, User::Import) {
                let (bus, store) = (connect(config, &user).await?, Store::open(&config.store)?);
                let service = drover_import::Service::new(bus, store, destinations, &instance);
                services.spawn(service.run(shutdown.clone()));
            }
        }
        Name::Dns => {
            let targets = config.servers.iter().map(|(name, it)| (name.clone(), it.dns.clone()));
            let service = drover_dns::Service::new(config.dns.clone(), targets.collect())?;
            let bus = connect(config, &User::Dns).await?;
            services.spawn(async move { service.run(bus, &instance, shutdown).await });
        }
        Name::Notify => {
            let store = Store::open(&config.store)?;
            let service = drover_notify::Service::new(&config.notify, &config.links, store)?;
            let bus = connect(config, &User::Notify).await?;
            services.spawn(async move { service.run(bus, &instance, shutdown).await });
        }
        Name::Projector => {
            let options = config.projector.clone();
            let bus = connect(config, &User::Projector).await?;
            services.spawn(async move {
                Ok(drover_projector::Service::run(bus, options, &instance, shutdown).await?)
            });
        }
        Name::Console => {
            let store = Store::open(&config.store)?;
            let options = config.console.clone();
            let service = drover_console::Service::new(options, &config.links, store)?;
            let bus = connect(config, &User::Console).await?;
            services.spawn(async move { Ok(service.run(bus, shutdown).await?) });
        }
    }
    Ok(())
}

async fn connect(config: &Config, user: &User) -> Result<Bus, Failure> {
    Ok(Bus::connect(&config.nats.of(user)?, &format!("drover serve {user}")).await?)
}

/// Who takes the jobs of which servers: where users have keys of their own, each server's has one;
/// otherwise one connection serves all.
fn shares<T>(
    config: &Config,
    all: BTreeMap<ServerName, T>,
    user: impl Fn(ServerName) -> User,
) -> Vec<(User, BTreeMap<ServerName, T>)> {
    let mut shares: Vec<(User, BTreeMap<ServerName, T>)> = Vec::new();
    for (name, server) in all {
        match shares.last_mut() {
            Some((_, share)) if config.nats.users_folder.is_none() => {
                share.insert(name, server);
            }
            Some(_) | None => {
                shares.push((user(name.clone()), BTreeMap::from([(name, server)])));
            }
        }
    }
    shares
}

/// The servers that have slots for this, each made into what its service needs; those of `hosts`
/// only, where there are any.
fn servers<T>(
    config: &Config,
    hosts: &[ServerName],
    slots: impl Fn(&config::Server) -> u32,
    make: impl Fn(&config::Server, Server, u32) -> T,
) -> Result<BTreeMap<ServerName, T>, Failure> {
    let used = config
        .servers
        .iter()
        .filter(|(name, server)| slots(server) > 0 && (hosts.is_empty() || hosts.contains(name)));
    used.map(|(name, it)| {
        let server = Server::new(name.clone(), it.mysql.clone())?;
        Ok((name.clone(), make(it, server, slots(it))))
    })
    .collect()
}
