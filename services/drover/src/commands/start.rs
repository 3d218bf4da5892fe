//! `drover start`: begins to admit migrations.

use std::path::Path;

use drover_lifecycle::campaign::Command;
use drover_schemas::CampaignName;

use super::{pause::answering, print};
use crate::{
    context::{Context, command_campaign, operator},
    report::Trouble,
};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The campaign's name.
    pub campaign: CampaignName,
    /// How many migrations are in flight at once.
    #[arg(long, default_value_t = 400, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub max_in_flight: u32,
}

pub async fn run(config: &Path, args: Args) -> Result<(), Trouble> {
    let Args { campaign, max_in_flight: in_flight_max } = args;
    let context = Context::of(config, "start", &campaign).await?;
    let command = Command::Start { in_flight_max, by: operator() };
    let decided = command_campaign(&context.bus, &campaign, command).await?;
    print(&if decided.changed {
        format!("{campaign}: started, at most {in_flight_max} in flight\n")
    } else {
        format!("{campaign}: was started already\n")
    });
    if answering(&context.bus).await?.is_none() {
        print("no orchestrator answers: start one with drover serve orchestrator\n");
    }
    Ok(())
}
