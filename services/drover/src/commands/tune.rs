//! `drover tune`: another limit for a campaign that was started, running or paused.

use std::path::Path;

use drover_lifecycle::campaign::Command;
use drover_schemas::CampaignName;

use super::print;
use crate::{
    context::{Context, command_campaign, operator},
    report::Trouble,
};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The campaign's name.
    pub campaign: CampaignName,
    /// How many migrations are in flight at once from now on. What is in flight beyond it
    /// finishes.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub max_in_flight: u32,
}

pub async fn run(config: &Path, args: Args) -> Result<(), Trouble> {
    let Args { campaign, max_in_flight: in_flight_max } = args;
    let context = Context::of(config, "tune", &campaign).await?;
    let command = Command::Tune { in_flight_max, by: operator() };
    let decided = command_campaign(&context.bus, &campaign, command).await?;
    let already = if decided.changed { "" } else { " (as before)" };
    print(&format!("{campaign}: at most {in_flight_max} in flight{already}\n"));
    Ok(())
}
