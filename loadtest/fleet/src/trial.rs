//! One campaign on the model, from planning to the last migration's end, with what it cost.

use std::time::{Duration, Instant};

use anyhow::Result;
use drover_projector::view::Status;
use drover_schemas::{CampaignName, v1::Limits};
use serde_json::{Value, json};

use crate::{
    herd::Fleet,
    log::{self, Slots},
    model::Model,
    record::Summary,
    stage::{Servers, Stage},
    used::{Used, used},
};

/// A campaign.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// How many databases move.
    #[arg(long, default_value_t = 10_000)]
    pub migrations: u64,
    /// How many at once.
    #[arg(long, default_value_t = 400)]
    pub max_in_flight: u32,
    /// The bus.
    #[arg(long, value_enum, default_value_t = Servers::Single)]
    pub servers: Servers,
    /// The slots move by themselves, up to so many; they begin with max-in-flight. 0: they do not.
    #[arg(long, default_value_t = 0)]
    pub auto_ceiling: u32,
    /// The fleet.
    #[command(flatten)]
    pub fleet: Fleet,
}

/// How it went.
pub struct Outcome {
    /// How many were planned.
    pub migrations: u64,
    /// Planning.
    pub plan: Duration,
    /// From the start to the last migration's end.
    pub run: Duration,
    /// What the projection says of it.
    pub status: Status,
    /// Hand-offs and frozen times.
    pub summary: Summary,
    /// Promises that were broken.
    pub breaches: u64,
    /// How many databases were frozen at once, at the most, since all destinations became slow.
    pub frozen_slowed_max: u64,
    /// The average size of an event in the log, in bytes.
    pub event_bytes: u64,
    /// How many events there are.
    pub events: u64,
    /// How many events a second a projector folds that begins with nothing, and keeps up to the
    /// end of this campaign's log.
    pub rebuild_per_second: f64,
    /// The slots that the campaign had one after the other.
    pub slots: Vec<Slots>,
    /// By process: orchestrator, projector, nats-server, and this one with the workers.
    pub used: [Used; 4],
}

impl Outcome {
    /// Migrations that came to their end, a second.
    pub fn per_second(&self) -> f64 {
        self.migrations as f64 / self.run.as_secs_f64()
    }

    /// Processor seconds of all processes for a thousand migrations: a figure that says the same
    /// on a machine that others use too.
    pub fn cpu_seconds_per_1000(&self) -> f64 {
        let all: f64 = self.used.iter().map(|used| used.cpu_seconds).sum();
        all * 1e3 / self.migrations.max(1) as f64
    }

    /// As a JSON document.
    pub fn json(&self) -> Value {
        let [orchestrator, projector, nats, workers] = self.used;
        let process = |used: Used| {
            json!({
                "memory_mb_max": round(used.memory_mb_max),
                "cpu_seconds": round(used.cpu_seconds),
                "cpu_seconds_per_1000": round(used.cpu_seconds * 1e3 / self.migrations as f64),
            })
        };
        json!({
            "migrations": self.migrations,
            "completed": self.status.counts.completed,
            "parked": self.status.counts.parked,
            "phase": self.status.phase,
            "slots": self.slots,
            "quarantined": self.status.quarantined,
            "breaches": self.breaches,
            "frozen_slowed_max": self.frozen_slowed_max,
            "broken_promises": self.status.frozen.deferrals,
            "steps": self.summary.steps,
            "failures": self.summary.failures,
            "plan_seconds": round(self.plan.as_secs_f64()),
            "run_seconds": round(self.run.as_secs_f64()),
            "migrations_per_second": round(self.per_second()),
            "cpu_seconds_per_1000": round(self.cpu_seconds_per_1000()),
            "events": self.events,
            "rebuild_events_per_second": round(self.rebuild_per_second),
            "event_bytes": self.event_bytes,
            "job_bytes": self.summary.job_bytes,
            "handoff_ms_p50": round(self.summary.handoff_ms[0]),
            "handoff_ms_p99": round(self.summary.handoff_ms[1]),
            "frozen_ratio_p50": round(self.summary.frozen_ratio[0]),
            "frozen_ratio_p99": round(self.summary.frozen_ratio[1]),
            "frozen_ms_p50": round(self.summary.frozen_ms[0]),
            "frozen_ms_p99": round(self.summary.frozen_ms[1]),
            "orchestrator": process(orchestrator),
            "projector": process(projector),
            "nats_server": process(nats),
            "workers": process(workers),
        })
    }
}

/// To what a person reads.
pub fn round(value: f64) -> f64 {
    let digits = if value.abs() < 10.0 { 1e3 } else { 10.0 };
    (value * digits).round() / digits
}

/// Runs a campaign on a stage of its own.
///
/// # Errors
/// When a process does not come up, or nothing moves any more.
pub async fn run(args: &Args) -> Result<Outcome> {
    let mut stage = Stage::start(&args.fleet, args.servers).await?;
    let campaign: CampaignName = "fleet".parse()?;
    let model = Model::new(args.fleet.clone())?;
    let before = used(std::process::id())?;
    let workers = stage.workers(&model).await?;
    let plan = stage.plan(&campaign, args.migrations).await?;
    let orchestrator = stage.orchestrator()?;
    let (projector, file) = stage.projector()?;
    stage.projected(&campaign, &file).await?;
    if args.auto_ceiling > 0 {
        let (in_flight_floor, in_flight_ceiling) = (args.max_in_flight, args.auto_ceiling);
        let limits = Limits { in_flight_floor, in_flight_ceiling, ..Limits::default() };
        stage.limit(&campaign, limits).await?;
    }
    let start = Instant::now();
    stage.begin(&campaign, args.max_in_flight).await?;
    stage.finish(&campaign, &model, args.migrations).await?;
    let run = start.elapsed();
    let status = stage.closed(&campaign, &file, &model).await?;
    let mut own = used(std::process::id())?;
    own.cpu_seconds -= before.cpu_seconds;
    let used = [used(orchestrator.pid())?, used(projector.pid())?, stage.servers_used()?, own];
    workers.stop().await?;
    Ok(Outcome {
        migrations: args.migrations,
        plan,
        run,
        status,
        summary: model.record.summary(),
        breaches: model.breaches(),
        frozen_slowed_max: model.frozen_slowed_max(),
        slots: log::slots(&stage.bus, &campaign).await?.0,
        event_bytes: stage.event_bytes(&campaign).await?,
        events: stage.last_sequence(&campaign).await?,
        rebuild_per_second: rebuild(&mut stage, &campaign).await?,
        used,
    })
}

/// Folds the log anew, into another file.
async fn rebuild(stage: &mut Stage, campaign: &CampaignName) -> Result<f64> {
    let events = stage.last_sequence(campaign).await?;
    let start = Instant::now();
    let (_projector, file) = stage.projector()?;
    stage.projected(campaign, &file).await?;
    Ok(events as f64 / start.elapsed().as_secs_f64())
}
