//! One campaign that is planned and waits for its start: how long planning takes, how long a
//! projector and an orchestrator need to take it in, and the memory that each process has then.

use std::time::{Duration, Instant};

use anyhow::Result;
use drover_schemas::CampaignName;
use serde_json::{Value, json};

use crate::{
    herd::Fleet,
    stage::{Servers, Stage},
    trial::round,
    used::used,
};

/// A campaign that waits.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// How many databases are planned.
    #[arg(long, default_value_t = 10_000)]
    pub migrations: u64,
    /// The fleet.
    #[command(flatten)]
    pub fleet: Fleet,
}

/// Plans it on a stage of its own, and looks at what that took.
///
/// # Errors
/// When a process does not come up, or nothing moves any more.
pub async fn run(args: &Args) -> Result<Value> {
    let campaign: CampaignName = "planned".parse()?;
    let mut stage = Stage::start(&args.fleet, Servers::Single).await?;
    let plan = stage.plan(&campaign, args.migrations).await?;
    let start = Instant::now();
    let (projector, file) = stage.projector()?;
    stage.projected(&campaign, &file).await?;
    let projected = start.elapsed();
    let start = Instant::now();
    let orchestrator = stage.orchestrator()?;
    stage.known(&campaign).await?;
    let known = start.elapsed();
    let memory = |pid| Ok::<f64, anyhow::Error>(round(used(pid)?.memory_mb));
    Ok(json!({
        "migrations": args.migrations,
        "plan_seconds": seconds(plan),
        "projected_seconds": seconds(projected),
        "orchestrator_replay_seconds": seconds(known),
        "orchestrator_mb": memory(orchestrator.pid())?,
        "projector_mb": memory(projector.pid())?,
        "nats_server_mb": memory(stage.nats.pid())?,
    }))
}

fn seconds(time: Duration) -> f64 {
    round(time.as_secs_f64())
}
