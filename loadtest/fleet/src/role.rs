//! The services that run as processes of their own, so that each one's memory and processor time
//! can be told apart, and so that one can be killed.

use std::path::PathBuf;

use anyhow::{Result, bail};
use drover_bus::Bus;
use tokio_util::sync::CancellationToken;

use crate::herd::Fleet;

/// Which service, and where the bus is.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// `orchestrator` or `projector`.
    pub service: String,
    /// The address of nats-server.
    #[arg(long)]
    pub nats: String,
    /// How many servers keep each stream.
    #[arg(long, default_value_t = 1)]
    pub replicas: usize,
    /// Whether the servers sync each message before they acknowledge it.
    #[arg(long)]
    pub synced: bool,
    /// The projector's file.
    #[arg(long, default_value = "projection.sqlite")]
    pub database: PathBuf,
    /// The fleet that the orchestrator has slots for.
    #[command(flatten)]
    pub fleet: Fleet,
}

/// Connects as the services do.
///
/// # Errors
/// When nats-server cannot be reached.
pub async fn connect(url: &str, replicas: usize, synced: bool, name: &str) -> Result<Bus> {
    let url = url.to_owned();
    let options = drover_bus::Options { url, replicas, synced, ..Default::default() };
    Ok(Bus::connect(&options, name).await?)
}

/// Runs a service until the process is ended.
///
/// # Errors
/// The service's own.
pub async fn run(args: Args) -> Result<()> {
    let bus = connect(&args.nats, args.replicas, args.synced, &args.service).await?;
    let shutdown = CancellationToken::new();
    let instance = uuid::Uuid::new_v4().to_string();
    match args.service.as_str() {
        "orchestrator" => {
            let options = drover_orchestrator::Options::default();
            let slots = args.fleet.slots()?;
            let service = drover_orchestrator::Service::new(bus, options, slots, instance);
            Ok(service.run(shutdown).await?)
        }
        "projector" => {
            let options = drover_projector::Options { database: args.database };
            Ok(drover_projector::Service::run(bus, options, &instance, shutdown).await?)
        }
        other => bail!("{other} is no role"),
    }
}
