//! `drover forecast`: when a campaign will have come to its end, as an interval, and its tail by name.
//!
//! The active orchestrator foresees it from the running campaign's own times. Before its start it is
//! foreseen here, from those of its rehearsal, in which a database takes about as long: what it lacks
//! (freeze, opening, switch) is short beside the copy, and it drops the copy again.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
};

use chrono::Utc;
use drover_bus::{From, Item};
use drover_lifecycle::{
    Phase,
    admission::{Waiting, largest as largest_of, slots_of},
    campaign::Campaign,
    forecast::forecast,
    labels,
    slot_times::SlotTimes,
    step_times::{Size, StepTimes},
};
use drover_projector::render;
use drover_schemas::{
    CampaignName, Code, Failure, ServerName, subjects::Aggregate, v1, v1::migration_event::Event,
};
use futures::TryStreamExt as _;
use serde::Serialize;
use serde_json::json;

use super::{pause::answering, print, print_json};
use crate::{
    context::{Context, campaign_state},
    report::Trouble,
    standing::{Standing, standing, standing_from},
};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The campaign's name.
    campaign: CampaignName,
    /// One JSON document.
    #[arg(long)]
    json: bool,
}

/// What is foreseen, and from what.
struct Foreseen {
    forecast: v1::Forecast,
    /// From a rehearsal: how long its steps took; empty from the running campaign.
    rehearsed: Vec<Size>,
    /// Of the sources that may be the last, the largest databases, where the inventory tells sizes.
    largest: Vec<Large>,
}

/// A database that is likely to be in the tail.
#[derive(Clone, Serialize)]
struct Large {
    source: String,
    database: String,
    bytes: u64,
}

/// How many databases of one source are named.
const LARGEST_MAX: usize = 3;

pub async fn run(config: &Path, args: Args) -> Result<(), Trouble> {
    let Args { campaign, json } = args;
    let context = Context::of(config, "forecast", &campaign).await?;
    let foreseen = match of_running(&context, &campaign).await? {
        Some(foreseen) => Some(foreseen),
        None => of_rehearsal(&context, &campaign).await?,
    };
    if json {
        return print_json(&foreseen.map(|foreseen| document(&foreseen)));
    }
    let Some(Foreseen { forecast, rehearsed, largest }) = foreseen else {
        print(&format!(
            "{campaign}: nothing is foreseen: it does not run yet, and was not rehearsed\n"
        ));
        return Ok(());
    };
    let duration = |seconds: f64| render::duration(seconds.ceil() as u64);
    let (low, high) = (duration(forecast.low_seconds), duration(forecast.high_seconds));
    let middle = duration(forecast.middle_seconds);
    let basis = if rehearsed.is_empty() { "" } else { ", as rehearsed" };
    print(&format!(
        "{campaign}: ends in {low} to {high} (9 of 10 times), most likely {middle}{basis}\n"
    ));
    for tail in &forecast.tail {
        print(&format!("  last may be {} ({:.0} %)\n", tail.host, 100.0 * tail.share));
        for large in largest.iter().filter(|large| large.source == tail.host) {
            let (name, mb) = (&large.database, large.bytes as f64 / 1e6);
            print(&format!("    {} of {mb:.1} MB\n", name.escape_debug()));
        }
    }
    for size in &rehearsed {
        print(&line(size));
    }
    Ok(())
}

/// What the active orchestrator foresees. Of the whole log, which is long, only the histories of the
/// sources are read that may be the last.
async fn of_running(
    context: &Context,
    campaign: &CampaignName,
) -> Result<Option<Foreseen>, Failure> {
    let Some(status) = answering(&context.bus).await? else { return Ok(None) };
    let known = status.campaigns.into_iter().find(|known| known.campaign == campaign.as_str());
    let Some(forecast) = known.and_then(|known| known.forecast) else { return Ok(None) };
    let mut left = Vec::new();
    for tail in &forecast.tail {
        let source = tail.host.parse::<ServerName>();
        let source = source.map_err(|e| Failure::new(Code::EventUndecodable, e.to_string()))?;
        left.extend(standing_from(&context.bus, campaign, &source).await?);
    }
    left.retain(|one| !one.migration.has_ended());
    let largest = largest(&left, &forecast.tail);
    Ok(Some(Foreseen { forecast, rehearsed: Vec::new(), largest }))
}

/// What the rehearsal lets foresee of what still waits for its turn.
async fn of_rehearsal(
    context: &Context,
    campaign: &CampaignName,
) -> Result<Option<Foreseen>, Failure> {
    let Ok(rehearsal) = campaign.rehearsal() else { return Ok(None) };
    let bus = &context.bus;
    if !bus.campaigns().await?.contains(&rehearsal) {
        return Ok(None);
    }
    let (mut slots, mut steps) = (SlotTimes::default(), StepTimes::default());
    let mut known = HashMap::new();
    let mut items = bus.replay(&rehearsal, From::Start, None);
    while let Some(item) = items.try_next().await? {
        let Item::Event(recorded) = item else { continue };
        let Aggregate::Migration(id) = recorded.aggregate() else { continue };
        let event = recorded.event.decode_migration();
        let event =
            event.map_err(|error| Failure::new(Code::EventUndecodable, error.to_string()))?;
        let at_unix_ms = recorded.event.time.timestamp_millis();
        if !recorded.history.admits(&rehearsal, known.get(&id), &event) {
            continue;
        }
        if let Event::MigrationPlanned(planned) = &event {
            known.insert(id, planned.clone());
        }
        if let Some(planned) = known.get(&id) {
            slots.take(id, planned, at_unix_ms, &event);
        }
        steps.take(id, at_unix_ms, &event);
    }
    let Campaign { mut in_flight_max, limits, .. } = campaign_state(bus, campaign).await?;
    if in_flight_max == 0 {
        in_flight_max = campaign_state(bus, &rehearsal).await?.in_flight_max;
    }
    let now = Utc::now().timestamp_millis();
    let mut left = standing(bus, campaign).await?;
    left.retain(|one| matches!(one.migration.phase, Phase::Planned { .. }));
    let waiting = waiting(context, limits.per_source_max, &left);
    let rest = slots.rest(waiting, in_flight_max, now);
    let rehearsed = steps.by_size();
    let foreseen = forecast(&rest, now.unsigned_abs());
    Ok(foreseen.map(|foreseen| {
        let forecast = v1::Forecast::from(&foreseen);
        let largest = largest(&left, &forecast.tail);
        Foreseen { forecast, rehearsed, largest }
    }))
}

/// The sources that have something to do: how many wait at each, and its slots.
fn waiting(context: &Context, per_source_max: u32, left: &[Standing]) -> Vec<Waiting> {
    let slots_of = |name: &str| {
        let servers = context.config.servers.iter();
        let mut own = servers.filter(|(known, _)| known.as_str() == name);
        slots_of(own.next().map_or(1, |(_, server)| server.slots_as_source), per_source_max)
    };
    let mut by_source: BTreeMap<&str, (u64, Vec<u64>)> = BTreeMap::new();
    for Standing { migration, .. } in left {
        let (count, bytes) = by_source.entry(&migration.planned.source).or_default();
        *count += 1;
        bytes.extend(labels::bytes(&migration.planned));
    }
    let line = |(source, (count, bytes)): (&str, (u64, Vec<u64>))| Waiting {
        source: source.to_owned(),
        count,
        slots: slots_of(source),
        largest_bytes: largest_of(bytes),
    };
    by_source.into_iter().map(line).collect()
}

/// The largest databases of each of these sources.
fn largest(left: &[Standing], tail: &[v1::ForecastTail]) -> Vec<Large> {
    let of = |host: &v1::ForecastTail| {
        let here = left.iter().map(|one| &one.migration.planned);
        let here = here.filter(|planned| planned.source == host.host);
        let mut sized: Vec<Large> = here
            .filter_map(|planned| {
                let bytes = labels::bytes(planned)?;
                let (source, database) = (planned.source.clone(), planned.database.clone());
                Some(Large { source, database, bytes })
            })
            .collect();
        sized.sort_by(|a, b| (b.bytes, &a.database).cmp(&(a.bytes, &b.database)));
        sized.truncate(LARGEST_MAX);
        sized
    };
    tail.iter().flat_map(of).collect()
}

fn document(foreseen: &Foreseen) -> serde_json::Value {
    let Foreseen { forecast, rehearsed, largest } = foreseen;
    let tail = |tail: &v1::ForecastTail| json!({ "host": tail.host, "share": tail.share });
    let size = |size: &Size| {
        json!({
            "bytes_max": size.bytes_max,
            "databases": size.databases,
            "dump_ms": size.dump_ms,
            "import_ms": size.import_ms,
            "verify_ms": size.verify_ms,
        })
    };
    json!({
        "low_seconds": forecast.low_seconds,
        "middle_seconds": forecast.middle_seconds,
        "high_seconds": forecast.high_seconds,
        "tail": forecast.tail.iter().map(tail).collect::<Vec<_>>(),
        "largest": largest,
        "rehearsed": rehearsed.iter().map(size).collect::<Vec<_>>(),
    })
}

/// How long the steps of dumps of a size took.
fn line(size: &Size) -> String {
    let Size { bytes_max, databases, dump_ms, import_ms, verify_ms } = size;
    let bytes = match bytes_max {
        Some(max) if *max < 1_000_000 => format!("up to {} kB", max / 1_000),
        Some(max) => format!("up to {} MB", max / 1_000_000),
        None => "larger".to_owned(),
    };
    let [dump, import, verify] =
        [dump_ms, import_ms, verify_ms].map(|ms| format!("{:.1} s", *ms as f64 / 1e3));
    format!(
        "  rehearsed, dumps {bytes}: {databases}; dump {dump}, import {import}, verify {verify}\n"
    )
}
