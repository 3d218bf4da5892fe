//! The figures of `ops/bench fleet`, all of one run, each next to what it is to be held against.
//!
//! 1. Whole campaigns of growing size: migrations a second, what each process costs, and how fast
//!    a projection is rebuilt from nothing.
//! 2. The ceiling: JetStream alone with as many messages of the same size.
//! 3. The reference rate with 400 in flight: hand-offs, and the time frozen.
//! 4. Another orchestrator's takeover after a `kill -9` at half way.
//! 5. A campaign with `sync_interval: always`, and one on three servers with three replicas.
//! 6. Memory with ever more migrations planned, and how long planning takes.
//! 7. How each cost grows with the campaign's size.

use std::{io::Write as _, time::Instant};

use anyhow::{Context as _, Result};
use chrono::Utc;
use drover_schemas::CampaignName;
use serde_json::{Map, Value, json};

use crate::{
    ceiling::{self, Load},
    growth,
    herd::Fleet,
    model::Model,
    planned,
    stage::{Servers, Stage},
    trial::{self, Outcome, round},
};

/// The reference campaign's slots.
const REFERENCE_IN_FLIGHT: u32 = 400;
/// By how much the model's steps are stretched so that 400 in flight come to the reference
/// campaign's 13,500 migrations an hour.
const REFERENCE_STRETCH: f64 = 88.0;
/// How large the campaigns are in which every message is synced, where the disk sets the pace.
const SYNCED: u64 = 2_000;
/// The same, with --quick.
const QUICK_SYNCED: u64 = 400;
/// Of the fleet, so many servers each take part where the bus is three servers: there each host's
/// consumer is a Raft group of its own, and all of them share this one machine's disk.
const CLUSTER_SHARE: u32 = 10;

/// What to measure. All of it takes most of an hour on two cores: the campaign of 800,000 a
/// quarter of an hour or more, the reference rate eleven minutes; with --quick, a minute or two.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// A minute or two, with small campaigns; the reference rate twenty times as fast.
    #[arg(long)]
    quick: bool,
    /// As one JSON document.
    #[arg(long)]
    json: bool,
    /// How large the campaigns are, separated by commas: each is run, and each is planned on a bus
    /// of its own for the memory. [default: 10000,100000,800000, with --quick 2000,20000]
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
        (true, true) => vec![2_000, 20_000],
        (true, false) => vec![10_000, 100_000, 800_000],
    };
    let smallest = sizes.first().copied().context("no size")?;
    let mut figures = Map::new();
    let mut outcomes = Vec::new();
    for &size in &sizes {
        let outcome = trial::run(&args.campaign(size, Servers::Single)).await?;
        tell(&format!("a campaign of {size}"), &outcome.json());
        outcomes.push(outcome);
    }
    let campaigns: Vec<Value> = outcomes.iter().map(Outcome::json).collect();
    let largest = outcomes.last().context("no campaign")?;
    rates(&mut figures, args, largest).await?;
    let reference = reference(args).await?;
    tell("the reference rate", &reference.json());
    figures.insert("handoff_ms_p50".into(), json!(round(reference.summary.handoff_ms[0])));
    figures.insert("handoff_ms_p99".into(), json!(round(reference.summary.handoff_ms[1])));
    figures.insert("frozen_ratio_p99".into(), json!(round(reference.summary.frozen_ratio[1])));
    figures.extend(takeover(args, smallest).await?);
    let few = if args.quick { QUICK_SYNCED } else { SYNCED };
    let synced = trial::run(&args.campaign(few, Servers::Synced)).await?;
    let cluster = trial::run(&args.on_a_cluster(few)).await?;
    let rate = |outcome: &Outcome| json!(round(outcome.per_second()));
    figures.insert("sync_always_migrations_per_second".into(), rate(&synced));
    figures.insert("cluster_migrations_per_second".into(), rate(&cluster));
    let mut planned = Vec::new();
    for &migrations in &sizes {
        let args = planned::Args { migrations, fleet: args.fleet.clone() };
        planned.push(planned::run(&args).await?);
    }
    figures.insert("growth_exponents".into(), growth::exponents(&campaigns, &planned));
    let held = outcomes.iter().chain([&reference, &synced, &cluster]).all(|it| it.breaches == 0);
    figures.insert("promises_held".into(), json!(held));
    figures.insert("campaigns".into(), json!(campaigns));
    figures.insert("reference".into(), reference.json());
    figures.insert("sync_always".into(), synced.json());
    figures.insert("cluster".into(), cluster.json());
    figures.insert("planned".into(), json!(planned));
    let figures = Value::Object(figures);
    if args.json {
        println!("{figures:#}");
    } else {
        print_table("", &figures);
    }
    Ok(held)
}

impl Args {
    fn campaign(&self, migrations: u64, servers: Servers) -> trial::Args {
        let (max_in_flight, fleet) = (self.max_in_flight, self.fleet.clone());
        trial::Args { migrations, max_in_flight, auto_ceiling: 0, servers, fleet }
    }

    fn on_a_cluster(&self, migrations: u64) -> trial::Args {
        let mut campaign = self.campaign(migrations, Servers::Cluster);
        for servers in [&mut campaign.fleet.sources, &mut campaign.fleet.destinations] {
            *servers = (*servers / CLUSTER_SHARE).max(1);
        }
        campaign
    }
}

async fn rates(figures: &mut Map<String, Value>, args: &Args, largest: &Outcome) -> Result<()> {
    let events = largest.events / largest.migrations.max(1);
    let load = Load {
        migrations: if args.quick { 3_000 } else { 20_000 },
        events,
        event_bytes: largest.event_bytes,
        // Planned, admitted and completed are no answers to an order, and three steps are gone on with.
        jobs: events.saturating_sub(6),
        job_bytes: largest.summary.job_bytes,
    };
    let ceiling = ceiling::measure(load).await?;
    figures.insert("migrations_per_second".into(), json!(round(largest.per_second())));
    figures.insert("ceiling_per_second".into(), json!(round(ceiling)));
    figures.insert("ceiling_ratio".into(), json!(round(largest.per_second() / ceiling)));
    let cpu = round(largest.cpu_seconds_per_1000());
    figures.insert("cpu_seconds_per_1000_migrations".into(), json!(cpu));
    let rebuild = round(largest.rebuild_per_second);
    figures.insert("rebuild_events_per_second".into(), json!(rebuild));
    Ok(())
}

/// The reference rate with 400 in flight. With --quick twenty times as fast, so that a hand-off
/// is measured under twenty times the load.
async fn reference(args: &Args) -> Result<Outcome> {
    let (time_scale, migrations) = if args.quick { (20.0, 1_500) } else { (1.0, 2_500) };
    let fleet = Fleet { time_scale, stretch: REFERENCE_STRETCH, ..args.fleet.clone() };
    let max_in_flight = REFERENCE_IN_FLIGHT;
    trial::run(&trial::Args {
        migrations,
        max_in_flight,
        auto_ceiling: 0,
        servers: Servers::Single,
        fleet,
    })
    .await
}

/// Kills the active orchestrator at half way.
async fn takeover(args: &Args, migrations: u64) -> Result<Map<String, Value>> {
    let campaign: CampaignName = "takeover".parse()?;
    let mut stage = Stage::start(&args.fleet, Servers::Single).await?;
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

    let mut figures = Map::new();
    figures.insert("takeover_seconds".into(), json!(round(takeover.as_secs_f64())));
    figures.insert("takeover_breaches".into(), json!(model.breaches()));
    Ok(figures)
}

/// What came of one part, at once: all of them take most of an hour, and a later one may fail.
fn tell(part: &str, figures: &Value) {
    let _ = writeln!(std::io::stderr(), "{part}: {figures}");
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
