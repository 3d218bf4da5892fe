//! `drover events`: the campaign's events as they were appended, and as they come.

use std::path::Path;

use drover_bus::{From, Item};
use drover_projector::render;
use drover_schemas::CampaignName;
use futures::StreamExt as _;

use super::print;
use crate::{context::Context, report::Trouble};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The campaign's name.
    campaign: CampaignName,
    /// Goes on with new events until interrupted.
    #[arg(long)]
    follow: bool,
    /// One JSON document a line.
    #[arg(long)]
    json: bool,
}

pub async fn run(config: &Path, args: Args) -> Result<(), Trouble> {
    let context = Context::read(config, "events", &args.campaign).await?;
    let mut items = if args.follow {
        context.bus.follow(&args.campaign, From::Start)
    } else {
        context.bus.replay(&args.campaign, From::Start, None)
    };
    while let Some(item) = items.next().await {
        match item? {
            Item::Event(recorded) if args.json => print(&format!("{}\n", render::json(&recorded))),
            Item::Event(recorded) => print(&format!("{}\n", render::event(&recorded))),
            Item::CaughtUp | Item::Resumed | Item::Undecodable { .. } => {}
        }
    }
    Ok(())
}
