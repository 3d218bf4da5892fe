//! `--max-in-flight auto` beside fixed settings, on servers with a knee that moves.
//!
//! Each setting, and `auto`, has a campaign of its own on a bus of its own, with the same databases
//! in the same order. All hosts share one storage, which does less work past its knee, and in the
//! middle a neighbour of it doubles its load: half of the knee is left. A campaign is measured
//! before and after that, when it has settled; `auto` has two minutes to follow.
//!
//! The sweep doubles from one setting to the next, as that of somebody does who does not know the
//! knee. The knees themselves are measured beside it: there nothing stands idle and next to nothing
//! waits, so that they are the best that there is, which a sweep finds by luck.
//!
//! Time is not made shorter here, since the controller's windows are of the real time; a few
//! campaigns at once, each with some fifty migrations a second, leave the machine mostly idle.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use drover_schemas::CampaignName;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use tokio::time::sleep;

use crate::{
    compare::{Comparison, Course, Measured},
    herd::Fleet,
    log,
    model::Model,
    stage::{Servers, Stage},
};

/// A fixed setting needs only until what was begun at once has spread: this share of the time that
/// `auto` is given.
const FIXED_SHARE: f64 = 1.0 / 6.0;

/// What to compare. Takes six and a half minutes.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// As one JSON document.
    #[arg(long)]
    json: bool,
    /// The fixed settings of the sweep, separated by commas, in growing order.
    #[arg(long, value_delimiter = ',', default_values_t = [100, 200, 400, 800])]
    settings: Vec<u32>,
    /// The knees, separated by a comma: the fleet's, and that which is left of it when a neighbour's
    /// load has doubled.
    #[arg(long, value_delimiter = ',', default_values_t = [300, 150])]
    knees: Vec<u32>,
    /// What `auto` begins with, and the least it may set.
    #[arg(long, default_value_t = 50)]
    floor: u32,
    /// The most it may set.
    #[arg(long, default_value_t = 800)]
    ceiling: u32,
    /// How long `auto` is given from its start, and again when the neighbour's load has doubled, in
    /// seconds; a fixed setting a sixth of it.
    #[arg(long, default_value_t = 120)]
    settle_seconds: u32,
    /// How long each is measured then, in seconds.
    #[arg(long, default_value_t = 60)]
    measure_seconds: u32,
    /// How many fixed settings have their campaigns at once, beside that of `auto`.
    #[arg(long, default_value_t = 3)]
    at_once: usize,
    /// How many databases are planned: more than come to their end.
    #[arg(long, default_value_t = 30_000)]
    migrations: u64,
    /// The fleet.
    #[command(flatten)]
    fleet: Fleet,
}

/// What the fleet is here where nothing else is said: in real time, so slow that a campaign does
/// some fifty migrations a second, with a storage that they share.
pub fn with_defaults(command: clap::Command) -> clap::Command {
    [("time_scale", "1"), ("stretch", "5"), ("shared_knee", "240"), ("spread", "0.4")]
        .into_iter()
        .fold(command, |command, (name, value)| {
            command.mut_arg(name, |argument| argument.default_value(value))
        })
}

/// Compares and prints; whether every promise held, that of the ceiling among them.
///
/// # Errors
/// When a process does not come up, or a campaign has come to its end before it was measured.
pub async fn run(args: &Args) -> Result<bool> {
    ensure!(args.settings.is_sorted(), "the settings are in growing order");
    ensure!(!args.settings.is_empty(), "without a fixed setting there is nothing to compare");
    let knees: [u32; 2] =
        args.knees.as_slice().try_into().context("there is one knee before and one after")?;
    let fixed = args.settings.iter().chain(&knees).map(|&slots| course(args, Some(slots)));
    let fixed = stream::iter(fixed).buffered(args.at_once.max(1)).try_collect::<Vec<_>>();
    let (auto, mut swept) = tokio::try_join!(course(args, None), fixed)?;
    let at_knees = swept.split_off(args.settings.len());
    let Args { floor, ceiling, .. } = *args;
    let comparison = Comparison { floor, ceiling, auto, swept, at_knees };
    if args.json {
        println!("{:#}", comparison.json());
    } else {
        print!("{}", comparison.table());
    }
    Ok(comparison.held())
}

/// One campaign with fixed slots, or with those that move by themselves, from its start to the end
/// of its second measurement.
async fn course(args: &Args, fixed: Option<u32>) -> Result<Course> {
    let campaign: CampaignName = "auto".parse()?;
    let mut stage = Stage::start(&args.fleet, Servers::Single).await?;
    let model = Model::new(args.fleet.clone())?;
    let workers = stage.workers(&model).await?;
    stage.plan(&campaign, args.migrations).await?;
    let _orchestrator = stage.orchestrator()?;
    stage.known(&campaign).await?;
    if fixed.is_none() {
        stage.let_slots_move(&campaign, args.floor, args.ceiling).await?;
    }
    let settle = Duration::from_secs(args.settle_seconds.into());
    let settle = if fixed.is_some() { settle.mul_f64(FIXED_SHARE) } else { settle };
    let measure = Duration::from_secs(args.measure_seconds.into());
    let start = Instant::now();
    stage.begin(&campaign, fixed.unwrap_or(args.floor)).await?;
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
    ensure!(ended < args.migrations, "all {ended} have come to their end: plan more");
    let slots = log::slots(&stage.bus, &campaign).await?;
    let in_flight_max = log::in_flight_max(&stage.bus, &campaign).await?;
    workers.stop().await?;
    let (breaches, summary) = (model.breaches(), model.record.summary());
    Ok(Course { slots, in_flight_max, measured, crowded_ms, breaches, summary })
}
