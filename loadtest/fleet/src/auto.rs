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

use anyhow::{Context as _, Result, ensure};
use drover_schemas::v1::Limits;
use futures::{StreamExt as _, TryStreamExt as _, stream};

use crate::{
    compare::Comparison,
    course::{Course, FIXED_SHARE, Measuring, course},
};

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
    #[command(flatten)]
    measuring: Measuring,
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
    let fixed = args.settings.iter().chain(&knees).map(|&slots| run_one(args, Some(slots)));
    let fixed = stream::iter(fixed).buffered(args.measuring.at_once.max(1)).try_collect::<Vec<_>>();
    let (auto, mut swept) = tokio::try_join!(run_one(args, None), fixed)?;
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

/// One campaign with fixed slots, or with those that move by themselves.
async fn run_one(args: &Args, fixed: Option<u32>) -> Result<Course> {
    let Args { floor, ceiling, measuring, .. } = args;
    let (in_flight_floor, in_flight_ceiling) = (*floor, *ceiling);
    let moving = Limits { in_flight_floor, in_flight_ceiling, ..Limits::default() };
    let fleet = measuring.fleet.clone();
    let plan = match fixed {
        Some(slots) => measuring.plan(fleet, slots, Limits::default(), FIXED_SHARE),
        None => measuring.plan(fleet, *floor, moving, 1.0),
    };
    course(plan).await
}
