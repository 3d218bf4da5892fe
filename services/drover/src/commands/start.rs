//! `drover start`: begins to admit migrations.

use std::path::Path;

use drover_bus::Bus;
use drover_lifecycle::{
    self as lifecycle,
    campaign::Command,
    concurrency::Range,
    limits::{Adjust, words},
};
use drover_schemas::{CampaignName, Code, Failure};
use futures::{StreamExt as _, TryStreamExt as _, stream};

use super::{
    in_flight::{IN_FLIGHT, InFlight, Wanted},
    pause::answering,
    print,
    rehearse::check_alone,
};
use crate::{
    context::{Context, campaign_state, command_campaign, command_migration, operator},
    report::Trouble,
    standing::{Standing, standing},
};

/// How many migrations are released side by side.
const AT_ONCE: usize = 64;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The campaign's name.
    pub campaign: CampaignName,
    /// Without --max-in-flight: 400.
    #[command(flatten)]
    pub in_flight: Wanted,
    /// Also what the pre-flight found something against that blocks.
    #[arg(long)]
    pub ignore_findings: bool,
}

pub async fn run(config: &Path, args: Args) -> Result<(), Trouble> {
    let Args { campaign, in_flight, ignore_findings } = args;
    let (auto, in_flight_max) = (in_flight.auto()?, first(&in_flight)?);
    let context = Context::of(config, "start", &campaign).await?;
    check_alone(&context.bus, &campaign).await?;
    let mut held = standing(&context.bus, &campaign).await?;
    held.retain(Standing::is_held);
    if ignore_findings {
        ignore(&context.bus, &campaign, &held).await?;
    }
    let command = Command::Start { in_flight_max, by: operator() };
    let decided = command_campaign(&context.bus, &campaign, command).await?;
    let adjust = Adjust { auto, ..Adjust::default() };
    let reason = "as it was started".to_owned();
    let limit = Command::Limit { adjust, reason, by: operator() };
    command_campaign(&context.bus, &campaign, limit).await?;
    print(&if decided.changed {
        format!("{campaign}: started, at most {in_flight_max} in flight\n")
    } else {
        format!("{campaign}: was started already\n")
    });
    if auto.flatten().is_some() {
        let limits = words(&campaign_state(&context.bus, &campaign).await?.limits);
        print(&format!("{campaign}: {limits}\n"));
    }
    match (held.len(), ignore_findings) {
        (0, _) => {}
        (count, true) => {
            print(&format!("{count} go on although the pre-flight found what blocks\n"))
        }
        (count, false) => print(&format!(
            "{count} are held back by what the pre-flight found: see drover doctor {campaign}\n"
        )),
    }
    if answering(&context.bus).await?.is_none() {
        print("no orchestrator answers: start one with drover serve orchestrator\n");
    }
    Ok(())
}

/// With how many it begins. Between a floor and a ceiling: as far from one as from the other, by factor.
fn first(wanted: &Wanted) -> Result<u32, Failure> {
    let Range { floor, ceiling } = wanted.range()?;
    Ok(match wanted.max_in_flight {
        Some(InFlight::Fixed(number)) => number,
        Some(InFlight::Auto) => {
            let middle = (f64::from(floor) * f64::from(ceiling)).sqrt();
            (middle as u32).clamp(floor, ceiling)
        }
        None => IN_FLIGHT,
    })
}

/// Releases what the pre-flight holds back.
async fn ignore(bus: &Bus, campaign: &CampaignName, held: &[Standing]) -> Result<(), Failure> {
    let command = lifecycle::Command::IgnoreFindings { by: operator() };
    stream::iter(held)
        .map(Ok)
        .try_for_each_concurrent(AT_ONCE, |one| {
            let command = &command;
            async move {
                match command_migration(bus, campaign, one.id, command).await {
                    // Somebody else was faster, and it has begun.
                    Err(Failure { code: Code::TransitionNotAllowed, .. }) | Ok(()) => Ok(()),
                    Err(failure) => Err(failure),
                }
            }
        })
        .await
}
