//! `drover failures`: grouped by signature, most frequent first.

use std::path::Path;

use drover_projector::render;
use drover_schemas::CampaignName;

use super::{print, print_json};
use crate::{context::Context, report::Trouble};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The campaign's name.
    campaign: CampaignName,
    /// One JSON document.
    #[arg(long)]
    json: bool,
}

pub async fn run(config: &Path, args: Args) -> Result<(), Trouble> {
    let context = Context::read(config, "failures", &args.campaign).await?;
    let groups = drover_projector::failures(&context.bus, &args.campaign).await?;
    if args.json {
        return print_json(&groups);
    }
    print(&render::failures(&groups));
    Ok(())
}
