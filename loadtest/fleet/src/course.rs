//! One campaign that is measured twice: before a neighbour's load doubles in its middle, and after.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use drover_schemas::{CampaignName, v1::Limits};
use tokio::time::sleep;

use crate::{
    herd::Fleet,
    log::{self, HostSlots, Slots},
    model::Model,
    record::{Span, Summary},
    stage::{Servers, Stage},
};

/// A fixed setting needs only until what was begun at once has spread: this share of the time that one
/// which moves is given.
pub const FIXED_SHARE: f64 = 1.0 / 6.0;

/// How campaigns are measured beside each other.
#[derive(Debug, Clone, clap::Args)]
pub struct Measuring {
    /// How long a setting that moves is given from its start, and again when the neighbour's load has
    /// doubled, in seconds; a fixed one a sixth of it.
    #[arg(long, default_value_t = 120)]
    settle_seconds: u32,
    /// How long each is measured then, in seconds.
    #[arg(long, default_value_t = 60)]
    measure_seconds: u32,
    /// How many fixed settings have their campaigns at once, beside the one that moves.
    #[arg(long, default_value_t = 3)]
    pub at_once: usize,
    /// How many databases are planned: more than come to their end.
    #[arg(long, default_value_t = 30_000)]
    migrations: u64,
    /// The fleet.
    #[command(flatten)]
    pub fleet: Fleet,
}

impl Measuring {
    /// One campaign, which is given so much of the time.
    pub fn plan(&self, fleet: Fleet, in_flight_max: u32, limits: Limits, share: f64) -> Plan {
        Plan {
            fleet,
            migrations: self.migrations,
            in_flight_max,
            limits,
            settle: Duration::from_secs(self.settle_seconds.into()).mul_f64(share),
            measure: Duration::from_secs(self.measure_seconds.into()),
        }
    }
}

/// How a campaign goes.
#[derive(Debug, Clone)]
pub struct Plan {
    /// On which fleet.
    pub fleet: Fleet,
    /// How many databases are planned: more than come to their end.
    pub migrations: u64,
    /// The slots that it begins with.
    pub in_flight_max: u32,
    /// Its limits.
    pub limits: Limits,
    /// How long it is given from its start, and again when the neighbour's load has doubled.
    pub settle: Duration,
    /// How long it is measured then.
    pub measure: Duration,
}

/// What became of it.
#[derive(Debug, Clone)]
pub struct Course {
    /// The slots that it had one after the other.
    pub slots: Vec<Slots>,
    /// Those of hosts that were held down, one change after the other.
    pub host_slots: Vec<HostSlots>,
    /// How many migrations held a slot at once, at the most, as its log says.
    pub in_flight_max: u32,
    /// How it did before a neighbour's load doubled, and after.
    pub measured: [Measured; 2],
    /// When the load doubled, since the campaign's start, in ms.
    pub crowded_ms: i64,
    /// Promises that were broken.
    pub breaches: u64,
    /// Hand-offs and frozen times of all of it.
    pub summary: Summary,
}

/// One measurement.
#[derive(Debug, Clone, Copy, Default)]
pub struct Measured {
    /// From when until when, since the campaign's start, in ms.
    pub from_ms: i64,
    /// Until when.
    pub until_ms: i64,
    /// What came to pass then.
    pub span: Span,
}

/// Runs one on a bus of its own, from its start to the end of its second measurement.
///
/// # Errors
/// When a process does not come up, or the campaign has come to its end before it was measured.
pub async fn course(plan: Plan) -> Result<Course> {
    let Plan { fleet, migrations, in_flight_max, limits, settle, measure } = plan;
    let campaign: CampaignName = "auto".parse()?;
    let mut stage = Stage::start(&fleet, Servers::Single).await?;
    let model = Model::new(fleet)?;
    let workers = stage.workers(&model).await?;
    stage.plan(&campaign, migrations).await?;
    let _orchestrator = stage.orchestrator()?;
    stage.known(&campaign).await?;
    stage.limit(&campaign, limits).await?;
    let start = Instant::now();
    stage.begin(&campaign, in_flight_max).await?;
    let mut measured = [Measured::default(); 2];
    let mut crowded_ms = 0;
    for (n, measured) in measured.iter_mut().enumerate() {
        if n > 0 {
            crowded_ms = start.elapsed().as_millis() as i64;
            model.crowd();
        }
        sleep(settle).await;
        let from = Instant::now();
        sleep(measure).await;
        let until = Instant::now();
        let [from_ms, until_ms] = [from, until].map(|at| (at - start).as_millis() as i64);
        *measured = Measured { from_ms, until_ms, span: model.record.between(from, until) };
    }
    let ended = model.record.ended();
    ensure!(ended < migrations, "all {ended} have come to their end: plan more");
    let (slots, host_slots) = log::slots(&stage.bus, &campaign).await?;
    let in_flight_max = log::in_flight_max(&stage.bus, &campaign).await?;
    workers.stop().await?;
    let (breaches, summary) = (model.breaches(), model.record.summary());
    Ok(Course { slots, host_slots, in_flight_max, measured, crowded_ms, breaches, summary })
}
