//! The red button under load: how long after it, by the log's own times, something is still
//! admitted, and how long it takes until all that is not being switched is called back.
//!
//! Once as a plain pause and, after a resume, once as one that calls back. What the log says is
//! taken from the log itself, not from the orchestrator that is measured.

use anyhow::{Context as _, Result, bail};
use drover_bus::{From, Item};
use drover_schemas::{
    CampaignName,
    subjects::History,
    v1::{
        CampaignPaused, CampaignResumed, campaign_event::Event as Campaigns, migration_event::Event,
    },
};
use futures::StreamExt as _;
use serde_json::{Value, json};

use crate::{model::Model, stage::Stage, trial};

/// Presses the button in both forms; what came of it.
///
/// # Errors
/// When a process does not come up, or nothing moves any more.
pub async fn run(args: &trial::Args) -> Result<Value> {
    let campaign: CampaignName = "button".parse()?;
    let mut stage = Stage::start(&args.fleet, args.servers).await?;
    let model = Model::new(args.fleet.clone())?;
    let workers = stage.workers(&model).await?;
    stage.plan(&campaign, args.migrations).await?;
    let _orchestrator = stage.orchestrator()?;
    stage.begin(&campaign, args.max_in_flight).await?;
    let mut figures = Vec::new();
    for (recalls, share) in [(false, 5), (true, 2)] {
        let some = args.migrations / share;
        stage.until("migrations have ended", || Ok((model.record.ended(), some))).await?;
        let in_flight = stage.in_flight(&campaign).await?;
        let paused = CampaignPaused { reason: "measured".into(), by: "fleet".into(), recalls };
        stage.tell_next(&campaign, Campaigns::CampaignPaused(paused)).await?;
        stage.at_rest(&campaign).await?;
        let mut found = after_button(&stage, &campaign).await?;
        found["in_flight_at_button"] = json!(in_flight);
        found["recalls"] = json!(recalls);
        figures.push(found);
        let resumed = CampaignResumed { by: "fleet".into() };
        stage.tell_next(&campaign, Campaigns::CampaignResumed(resumed)).await?;
    }
    stage.finish(&campaign, &model, args.migrations).await?;
    workers.stop().await?;
    Ok(json!({ "breaches": model.breaches(), "ended": model.record.ended(), "buttons": figures }))
}

/// What the log says after its last pause.
async fn after_button(stage: &Stage, campaign: &CampaignName) -> Result<Value> {
    let mut items = stage.bus.follow(campaign, From::Start);
    let mut button = None;
    let [mut admitted, mut recalled] = [(0_u64, 0_i64); 2];
    while let Some(item) = items.next().await {
        let recorded = match item? {
            Item::Event(recorded) => recorded,
            Item::CaughtUp => break,
            Item::Resumed => continue,
            Item::Undecodable { sequence, .. } => bail!("{sequence} cannot be decoded"),
        };
        let at = recorded.event.time.timestamp_millis();
        if recorded.history == History::Campaign {
            if let Campaigns::CampaignPaused(_) = recorded.event.decode_campaign()? {
                (button, admitted, recalled) = (Some(at), (0, at), (0, at));
            }
            continue;
        }
        match recorded.event.decode_migration()? {
            Event::MigrationAdmitted(_) => admitted = (admitted.0 + 1, at),
            Event::MigrationRecalled(_) => recalled = (recalled.0 + 1, at),
            _ => {}
        }
    }
    let button = button.context("the log has no pause")?;
    Ok(json!({
        "admitted_after": admitted.0,
        "last_admission_ms": admitted.1 - button,
        "recalled": recalled.0,
        "last_recall_ms": recalled.1 - button,
    }))
}
