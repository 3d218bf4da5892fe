//! `drover forecast`: when a campaign will have come to its end, as an interval, and its tail by name.
//!
//! The active orchestrator foresees it from the running campaign's own times.

use std::path::Path;

use drover_projector::render;
use drover_schemas::{CampaignName, Code, Failure};
use serde_json::json;

use super::{pause::answering, print, print_json};
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
    let Args { campaign, json } = args;
    let context = Context::of(config, "forecast", &campaign).await?;
    let silent = || Failure::new(Code::NoAnswer, "no orchestrator is running");
    let status = answering(&context.bus).await?.ok_or_else(silent)?;
    let known = status.campaigns.into_iter().find(|known| known.campaign == campaign.as_str());
    let forecast = known.and_then(|known| known.forecast);
    if json {
        let tail = |tail: &drover_schemas::v1::ForecastTail| json!({ "host": tail.host, "share": tail.share });
        return print_json(&forecast.map(|forecast| {
            json!({
                "low_seconds": forecast.low_seconds,
                "middle_seconds": forecast.middle_seconds,
                "high_seconds": forecast.high_seconds,
                "tail": forecast.tail.iter().map(tail).collect::<Vec<_>>(),
            })
        }));
    }
    let Some(forecast) = forecast else {
        print(&format!("{campaign}: nothing is foreseen yet, or it does not run\n"));
        return Ok(());
    };
    let duration = |seconds: f64| render::duration(seconds.ceil() as u64);
    let (low, high) = (duration(forecast.low_seconds), duration(forecast.high_seconds));
    let middle = duration(forecast.middle_seconds);
    print(&format!("{campaign}: ends in {low} to {high} (9 of 10 times), most likely {middle}\n"));
    for tail in &forecast.tail {
        print(&format!("  last may be {} ({:.0} %)\n", tail.host, 100.0 * tail.share));
    }
    Ok(())
}
