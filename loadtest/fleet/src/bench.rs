//! The figures of `ops/bench fleet`, all of one run, each next to what it is to be held against.
//!
//! 1. Whole campaigns of growing size: migrations a second, and what each process costs.
//! 2. The ceiling: JetStream alone with as many messages of the same size.
//! 3. The reference rate with 400 in flight: hand-offs, and the time frozen.
//! 4. Memory with ever more migrations planned, and how long planning takes.
//! 5. Another orchestrator's takeover after a `kill -9` at half way, and a projection that is
//!    rebuilt from nothing.
//! 6. The same campaign with `sync_interval: always`.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use chrono::Utc;
use drover_schemas::CampaignName;
use serde_json::{Map, Value, json};

use crate::{
    ceiling::{self, Load},
    herd::Fleet,
    model::Model,
    stage::{Stage, used},
    trial::{self, JETSTREAM, Outcome, round},
};

/// JetStream that syncs every message to the disk before it acknowledges it.
const SYNC_ALWAYS: &str = "jetstream { store_dir: \"$DIR/store\", sync_interval: always }";
/// The reference campaign's slots.
const REFERENCE_IN_FLIGHT: u32 = 400;
/// By how much the model's steps are stretched so that 400 in flight come to the reference
/// campaign's 13,500 migrations an hour.
const REFERENCE_STRETCH: f64 = 88.0;

/// What to measure.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// In a minute or two, with small campaigns; the reference rate twenty times as fast.
    #[arg(long)]
    quick: bool,
    /// As one JSON document.
    #[arg(long)]
    json: bool,
    /// How large the campaigns are, separated by commas; the last is planned, and its memory
    /// measured. [default: 10000,100000,800000, with --quick 1000,10000]
    #[arg(long, value_delimiter = ',')]
    sizes: Vec<u64>,
    /// How many migrations are in flight where the rate is measured.
    #[arg(long, default_value_t = 1_000)]
    max_in_flight: u32,
    /// The fleet.
    #[command(flatten)]
    fleet: Fleet,
}

/// Measures and prints all of it; whether every promise held.
///
/// # Errors
/// When something could not be measured.
pub async fn run(args: &Args) -> Result<bool> {
    let sizes = match (args.sizes.is_empty(), args.quick) {
        (false, _) => args.sizes.clone(),
        (true, true) => vec![1_000, 10_000],
        (true, false) => vec![10_000, 100_000, 800_000],
    };
    let smallest = sizes.first().copied().context("no size")?;
    let mut figures = Map::new();
    let campaigns = campaigns(args, &sizes).await?;
    let last = campaigns.last().context("no campaign")?;
    rates(&mut figures, args, last).await?;
    let reference = reference(args).await?;
    figures.insert("handoff_ms_p50".into(), json!(round(reference.summary.handoff_ms[0])));
    figures.insert("handoff_ms_p99".into(), json!(round(reference.summary.handoff_ms[1])));
    figures.insert("frozen_ratio_p99".into(), json!(round(reference.summary.frozen_ratio[1])));
    figures.extend(takeover(args, smallest).await?);
    figures.extend(always(args, smallest).await?);
    let mut planned = Vec::new();
    for size in &sizes {
        planned.push(plan_only(&args.fleet, *size).await?);
    }
    let all: Vec<&Outcome> = campaigns.iter().chain([&reference]).collect();
    let held = all.iter().all(|outcome| outcome.breaches == 0);
    let runs: Vec<Value> = campaigns.iter().map(Outcome::json).collect();
    figures.insert("promises_held".into(), json!(held));
    figures.insert("campaigns".into(), json!(runs));
    figures.insert("reference".into(), reference.json());
    figures.insert("planned".into(), json!(planned));
    let figures = Value::Object(figures);
    if args.json {
        println!("{figures:#}");
    } else {
        print_table("", &figures);
    }
    Ok(held)
}

/// Campaigns of growing size, each on a stage of its own. The largest that is only planned is not
/// run with --quick's patience: all sizes are run.
async fn campaigns(args: &Args, sizes: &[u64]) -> Result<Vec<Outcome>> {
    let mut outcomes = Vec::new();
    for &migrations in sizes {
        let trial = trial::Args {
            migrations,
            max_in_flight: args.max_in_flight,
            fleet: args.fleet.clone(),
        };
        outcomes.push(trial::run(&trial, JETSTREAM).await?);
    }
    Ok(outcomes)
}

async fn rates(figures: &mut Map<String, Value>, args: &Args, largest: &Outcome) -> Result<()> {
    let events = largest.events / largest.migrations.max(1);
    let load = Load {
        migrations: if args.quick { 3_000 } else { 20_000 },
        events,
        event_bytes: largest.event_bytes,
        // Planned, admitted and completed are no answers to an order.
        jobs: events.saturating_sub(3),
        job_bytes: largest.summary.job_bytes,
    };
    let ceiling = ceiling::measure(load, JETSTREAM).await?;
    figures.insert("migrations_per_second".into(), json!(round(largest.per_second())));
    figures.insert("ceiling_per_second".into(), json!(round(ceiling)));
    figures.insert("ceiling_ratio".into(), json!(round(largest.per_second() / ceiling)));
    let cpu = round(largest.cpu_seconds_per_1000());
    figures.insert("cpu_seconds_per_1000_migrations".into(), json!(cpu));
    Ok(())
}

/// The reference rate with 400 in flight. With --quick twenty times as fast, so that a hand-off
/// is measured under twenty times the load.
async fn reference(args: &Args) -> Result<Outcome> {
    let (time_scale, migrations) = if args.quick { (20.0, 1_500) } else { (1.0, 2_500) };
    let fleet = Fleet { time_scale, stretch: REFERENCE_STRETCH, ..args.fleet.clone() };
    let trial = trial::Args { migrations, max_in_flight: REFERENCE_IN_FLIGHT, fleet };
    trial::run(&trial, JETSTREAM).await
}

/// Kills the active orchestrator at half way, and afterwards rebuilds the projection.
async fn takeover(args: &Args, migrations: u64) -> Result<Map<String, Value>> {
    let campaign: CampaignName = "takeover".parse()?;
    let mut stage = Stage::start(&args.fleet, JETSTREAM).await?;
    let model = Model::new(args.fleet.clone())?;
    let workers = stage.workers(&model).await?;
    stage.plan(&campaign, migrations).await?;
    let first = stage.orchestrator()?;
    stage.begin(&campaign, args.max_in_flight).await?;
    let half = migrations / 2;
    stage.until("migrations have begun", || Ok((model.record.begun(), migrations / 10))).await?;
    // In waiting: it has read the same log when the first one dies.
    let _second = stage.orchestrator()?;
    stage.until("migrations have ended", || Ok((model.record.ended(), half))).await?;
    let (killed, killed_at) = (Instant::now(), Utc::now().timestamp_millis());
    first.kill()?;
    // No order that was issued after its death can be its own.
    let taken = || Ok((u64::from(model.record.newest_order_unix_ms() > killed_at), 1));
    stage.until("orchestrators have taken over", taken).await?;
    let takeover = killed.elapsed();
    stage.finish(&campaign, &model, migrations).await?;
    workers.stop().await?;

    let events = stage.last_sequence(&campaign).await?;
    let start = Instant::now();
    let (_projector, file) = stage.projector()?;
    let status = stage.projected(&campaign, &file).await?;
    let per_second = events as f64 / start.elapsed().as_secs_f64();
    let mut figures = Map::new();
    figures.insert("takeover_seconds".into(), json!(round(takeover.as_secs_f64())));
    figures.insert("takeover_completed".into(), json!(status.counts.completed));
    figures.insert("takeover_breaches".into(), json!(model.breaches()));
    figures.insert("rebuild_events_per_second".into(), json!(round(per_second)));
    Ok(figures)
}

/// A campaign with every message synced to the disk.
async fn always(args: &Args, migrations: u64) -> Result<Map<String, Value>> {
    let trial = trial::Args {
        migrations: migrations.min(2_000),
        max_in_flight: args.max_in_flight,
        fleet: args.fleet.clone(),
    };
    let outcome = trial::run(&trial, SYNC_ALWAYS).await?;
    let mut figures = Map::new();
    let rate = round(outcome.per_second());
    figures.insert("sync_always_migrations_per_second".into(), json!(rate));
    Ok(figures)
}

/// A campaign that is planned and waits: the time to plan, to take it in, and the memory.
async fn plan_only(fleet: &Fleet, migrations: u64) -> Result<Value> {
    let campaign: CampaignName = "planned".parse()?;
    let mut stage = Stage::start(fleet, JETSTREAM).await?;
    let plan = stage.plan(&campaign, migrations).await?;
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
        "migrations": migrations,
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

/// One figure a line, with the path to it.
fn print_table(path: &str, value: &Value) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                print_table(&path, field);
            }
        }
        Value::Array(items) => {
            for item in items {
                let name = item.get("migrations").map(ToString::to_string).unwrap_or_default();
                print_table(&format!("{path}.{name}"), item);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            println!("{path:<52} {value:>14}");
        }
    }
}
