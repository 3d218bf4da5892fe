//! `drover reconcile`: log, ledgers, zone, store and queue held against each other, and what the
//! log has lost appended.
//!
//! Services may run meanwhile. So a difference counts only when it is there at a second look, and
//! the repair appends to each migration on the revision that it was decided on. The last fact of a
//! repair says that it is complete: orchestrators that saw the log lose its end wait for it.

use std::{collections::BTreeSet, path::Path};

use chrono::Utc;
use drover_bus::{Bus, Error as BusError};
use drover_lifecycle::{
    campaign::Phase as CampaignPhase,
    ledger::{Side, State},
    reconcile::{Orphan, Sighting, is_behind, missing, orphan},
};
use drover_projector::render::printable;
use drover_schemas::{
    CampaignName, Code, Failure, MigrationId,
    envelope::{CloudEvent, migration_kind},
    subjects::History,
    v1::{CampaignCreated, LogRepaired, campaign_event},
};
use futures::{StreamExt as _, stream};
use serde::Serialize;

use super::{print, print_json};
use crate::{
    context::{Context, operator},
    picture::Picture,
    report::Trouble,
};

/// By how much a sequence that is raised passes what was seen: an order may have been taken, on an
/// event that is lost, by an instance that is paused and has left no trace yet.
const MARGIN: u64 = 1_000;
/// How many migrations are repaired at once.
const AT_ONCE: usize = 64;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The campaign's name.
    campaign: CampaignName,
    /// Appends what the log has lost.
    #[arg(long)]
    repair: bool,
    /// One JSON document.
    #[arg(long)]
    json: bool,
}

/// Something that does not agree.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Difference {
    /// Its kind.
    code: String,
    /// The migration, where it is about one.
    migration: Option<String>,
    /// Its database.
    database: Option<String>,
    /// What differs.
    message: String,
    /// A repair has put it right.
    repaired: bool,
}

#[derive(Debug, Serialize)]
struct Report {
    campaign: String,
    differences: Vec<Difference>,
    /// What cannot be known, and is not counted.
    unknown: Vec<String>,
}

pub async fn run(config: &Path, args: Args) -> Result<(), Trouble> {
    let Args { campaign, repair, json } = args;
    let context = Context::open(config, "reconcile").await?;
    let (mut picture, mut differences) = look(&context, &campaign).await?;
    if !differences.is_empty() {
        let (again, found) = look(&context, &campaign).await?;
        differences.retain(|difference| found.iter().any(|it| it.is_same(difference)));
        picture = again;
    }
    if picture.last_sequence.is_none() && picture.sightings.is_empty() {
        return Err(Failure::new(Code::CampaignUnknown, format!("campaign {campaign}")).into());
    }
    let unknown = unknown(&picture, &differences);
    if repair {
        let skipped = mend(&context.bus, &campaign, &picture).await?;
        for difference in &mut differences {
            let left = difference.migration.as_ref().is_some_and(|id| skipped.contains(id));
            difference.repaired = is_mended(&difference.code) && !left;
        }
    }
    let left = differences.iter().filter(|difference| !difference.repaired).count();
    let report = Report { campaign: campaign.to_string(), differences, unknown };
    if json {
        print_json(&report)?
    } else {
        show(&report)
    }
    match report.differences.iter().find(|difference| !difference.repaired) {
        None => Ok(()),
        Some(first) => {
            let code = first.code.parse().unwrap_or(Code::LogBehind);
            Err(Failure::new(code, format!("{left} differences are not repaired")).into())
        }
    }
}

async fn look(
    context: &Context,
    campaign: &CampaignName,
) -> Result<(Picture, Vec<Difference>), Failure> {
    let picture = Picture::take(&context.config, &context.bus, campaign).await?;
    let mut differences = Vec::new();
    if picture.seen_revision > picture.last_sequence.unwrap_or(0) {
        let message = format!(
            "the log ends at {}, and revision {} was given out",
            picture.last_sequence.unwrap_or(0),
            picture.seen_revision
        );
        differences.push(Difference::new(Code::SequenceBehind, None, &picture, message));
    }
    differences.extend(behind(&picture));
    differences.extend(orphans(&picture));
    differences.sort();
    Ok((picture, differences))
}

fn behind(picture: &Picture) -> Vec<Difference> {
    let mut differences = Vec::new();
    for (id, sightings) in &picture.sightings {
        let log = picture.log.get(id);
        if log.is_none() && sightings.iter().all(|sighting| sighting.planned().is_none()) {
            let message = "a ledger knows it, and not its inventory's row".to_owned();
            differences.push(Difference::new(Code::OrphanFrozen, Some(*id), picture, message));
        } else if is_behind(log, sightings) {
            let lost = missing(log, sightings, "");
            let lost: Vec<&str> = lost.iter().map(migration_kind).collect();
            let code = if log.is_none() { Code::LogForgot } else { Code::LogBehind };
            let message = format!("the log lacks {}", lost.join(", "));
            differences.push(Difference::new(code, Some(*id), picture, message));
        }
    }
    differences
}

fn orphans(picture: &Picture) -> Vec<Difference> {
    let mut differences = Vec::new();
    for (id, log) in &picture.log {
        let sightings = picture.sightings.get(id).map(Vec::as_slice).unwrap_or_default();
        if is_behind(Some(log), sightings) {
            continue;
        }
        for side in [Side::Source, Side::Destination] {
            let name = match side {
                Side::Source => &log.planned.source,
                Side::Destination => &log.planned.destination,
            };
            if !picture.servers.iter().any(|server| server.as_str() == name) {
                continue;
            }
            let row = picture.rows.iter().find(|(server, row)| {
                server.as_str() == name && row.migration == *id && row.side == side
            });
            let state = row.map(|(_, row)| row.state);
            if let Some(found) = orphan(log, side == Side::Source, state) {
                let code = match found {
                    Orphan::Frozen => Code::OrphanFrozen,
                    Orphan::Copy => Code::OrphanCopy,
                    Orphan::EffectMissing => Code::EffectMissing,
                };
                let message = format!(
                    "{name}: its ledger says {}, the log says {}",
                    state.map_or("nothing", State::name),
                    log.phase.name()
                );
                differences.push(Difference::new(code, Some(*id), picture, message));
            }
        }
    }
    for subject in &picture.unread_orders {
        let message = format!("{subject}: cannot be read");
        differences.push(Difference::new(Code::OrphanJob, None, picture, message));
    }
    for (id, run) in &picture.objects {
        let sightings = picture.sightings.get(id).into_iter().flatten();
        let known = sightings.map(|sighting| sighting.run).max();
        let known = known.max(picture.log.get(id).map(|migration| migration.run));
        if known.is_none_or(|known| *run > known) {
            let message = format!("the store's folder {id} has objects of run {run}");
            differences.push(Difference::new(Code::OrphanObject, Some(*id), picture, message));
        }
    }
    differences
}

/// What a repair cannot tell, for this picture.
fn unknown(picture: &Picture, differences: &[Difference]) -> Vec<String> {
    if !differences.iter().any(|difference| is_mended(&difference.code)) {
        return Vec::new();
    }
    let mut unknown = vec![
        "rows that were planned and never begun: run drover plan again with the same inventory"
            .to_owned(),
        "a pause, a resume, a retry or a rollback that was asked for at the end: say it again"
            .to_owned(),
    ];
    let phase = picture.campaign.as_ref().map(|campaign| campaign.phase);
    if phase.is_none_or(|phase| phase == CampaignPhase::Created) {
        unknown.push(
            "that the campaign was started, and with how many in flight: run drover start".into(),
        );
    }
    unknown
}

/// Whether a repair of the log puts differences of this code right.
fn is_mended(code: &str) -> bool {
    [Code::LogBehind, Code::LogForgot, Code::SequenceBehind]
        .iter()
        .any(|mended| mended.to_string() == code)
}

/// Appends what was lost; the migrations that changed meanwhile.
async fn mend(
    bus: &Bus,
    campaign: &CampaignName,
    picture: &Picture,
) -> Result<BTreeSet<String>, Failure> {
    let source = &format!("drover/reconcile/{}", operator());
    let above = match picture.last_sequence {
        Some(last) if picture.seen_revision <= last => last,
        Some(_) | None => picture.seen_revision + MARGIN,
    };
    if picture.last_sequence.is_none() {
        bus.begin_campaign_above(campaign, above).await?;
    }
    if picture.campaign.is_none() {
        let created = CampaignCreated { policy: picture.policy.clone() };
        let created = campaign_event::Event::CampaignCreated(created);
        let created = CloudEvent::campaign(created, source, Utc::now());
        bus.append(campaign, &History::Campaign, 0, &created).await?;
    }
    let repair = uuid::Uuid::new_v4().to_string();
    let filler = |complete| {
        let event = campaign_event::Event::LogRepaired(LogRepaired {
            by: operator(),
            repair: repair.clone(),
            found_sequence: picture.last_sequence.unwrap_or(0),
            seen_revision: picture.seen_revision,
            complete,
        });
        CloudEvent::campaign(event, source, Utc::now())
    };
    bus.raise(campaign, above, || filler(false)).await?;
    let repaired = picture.sightings.keys().map(|id| async move {
        let done = mend_one(bus, campaign, picture, *id, source).await?;
        Ok::<_, Failure>((*id, done))
    });
    let mut repaired = stream::iter(repaired).buffer_unordered(AT_ONCE);
    let mut skipped = BTreeSet::new();
    while let Some(one) = repaired.next().await {
        let (id, done) = one?;
        if !done {
            skipped.insert(id.to_string());
        }
    }
    bus.raise(campaign, 0, || filler(true)).await?;
    Ok(skipped)
}

/// False where the history moved on meanwhile.
async fn mend_one(
    bus: &Bus,
    campaign: &CampaignName,
    picture: &Picture,
    id: MigrationId,
    source: &str,
) -> Result<bool, Failure> {
    let log = picture.log.get(&id);
    let sightings = picture.sightings.get(&id).map(Vec::as_slice).unwrap_or_default();
    let mut revision = log.map_or(0, |migration| migration.revision);
    let planned = log.map(|migration| &migration.planned);
    let Some(planned) = planned.or_else(|| sightings.iter().find_map(Sighting::planned)) else {
        return Ok(true);
    };
    let history = History::of(id, planned)
        .map_err(|error| Failure::new(Code::EventUndecodable, error.to_string()))?;
    for event in missing(log, sightings, &operator()) {
        let event = CloudEvent::migration(event, source, Utc::now());
        match bus.append(campaign, &history, revision, &event).await {
            Ok(next) => revision = next,
            Err(BusError::Conflict { .. }) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(true)
}

impl Difference {
    fn new(code: Code, migration: Option<MigrationId>, picture: &Picture, message: String) -> Self {
        Self {
            code: code.to_string(),
            migration: migration.map(|id| id.to_string()),
            database: migration.map(|id| picture.database(id)),
            message,
            repaired: false,
        }
    }

    fn is_same(&self, other: &Self) -> bool {
        (&self.code, &self.migration) == (&other.code, &other.migration)
    }
}

fn show(report: &Report) {
    for difference in &report.differences {
        let Difference { code, migration, database, message, repaired } = difference;
        let of = match (database, migration) {
            (Some(database), Some(id)) => format!(" {} ({id})", printable(database)),
            (None, _) | (_, None) => String::new(),
        };
        let repaired = if *repaired { ", repaired" } else { "" };
        print(&format!("{code}{of}: {}{repaired}\n", printable(message)));
    }
    for unknown in &report.unknown {
        print(&format!("{}: {unknown}\n", Code::HistoryUnknown));
    }
    if report.differences.is_empty() {
        print(&format!("{}: log, servers, zone, store and queue agree\n", report.campaign));
    }
}
