//! `drover rollback --bring-back`: what a completed migration's destination holds now goes back to its
//! old source, by a migration of its own: in the campaign CAMPAIGN-back, from the old destination to
//! the old source, planned and started like any other. So it is frozen, dumped, loaded, compared,
//! opened, switched and retired like any other, and can be paused, parked, retried and rolled back.
//! What is its own is that the old source still has the retired database of the name, which its
//! import sets aside first ([`drover_mysql::aside`]).
//!
//! Everything that could be in its way is looked at before anything is said to the log. Then the word
//! goes into the first migration's history, from which on nothing else is done for it, then the other
//! migration is planned. Ids come from names, so the same command again goes on where it was cut off.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use drover_lifecycle::{Command, Fact, Migration, Phase, campaign};
use drover_mysql::{Definers, Server, aside};
use drover_schemas::{
    CampaignName, Code, Failure, MigrationId, ServerName,
    v1::{MigrationPlanned, Policy, migration_event::Event},
};
use futures::{StreamExt as _, TryStreamExt as _, stream};

use super::report::{Other, Outcome, Report, Row};
use crate::{
    commands::{doctor, in_flight::IN_FLIGHT, pause::answering, plan},
    config::Config,
    context::{Context, campaign_state, command_campaign, command_migration, operator},
    inventory,
    standing::Standing,
};

/// What the campaign's name gets behind it.
const BACK: &str = "-back";
/// How many servers are asked at once.
const SERVERS_AT_ONCE: usize = 16;

/// A migration, and the one that brings it back.
struct Pair<'a> {
    first: &'a Standing,
    back: inventory::Row,
}

/// What came of it.
pub(super) struct Told {
    /// Of each migration.
    pub report: Report,
    /// What else a person is told.
    pub notes: String,
    /// Of the whole.
    pub outcome: Result<(), Failure>,
}

/// Brings back what can be of `chosen`.
///
/// # Errors
/// When the campaign's name is too long.
pub(super) async fn run(
    context: &Context,
    campaign: &CampaignName,
    (chosen, mut rows): (&[Standing], Vec<Row>),
    reason: &str,
) -> Result<Told, Failure> {
    let back: CampaignName = format!("{campaign}{BACK}").parse().map_err(|_| {
        let what = format!("the campaign's name is too long to be followed by {BACK}");
        Failure::new(Code::NotBroughtBack, what)
    })?;
    let mut pairs = Vec::new();
    for (first, row) in chosen.iter().zip(&mut rows) {
        match pair(first, &back) {
            Ok(pair) => pairs.push(pair),
            Err(failure) => leave(row, &failure),
        }
    }
    let mut notes = String::new();
    let names = (campaign, &back);
    let outcome = bring_back(context, names, &pairs, (&mut rows, &mut notes), reason).await;
    let report = Report { campaign: campaign.to_string(), migrations: rows };
    Ok(Told { report, notes, outcome })
}

fn leave(row: &mut Row, failure: &Failure) {
    (row.outcome, row.steps) = (Outcome::Left, Vec::new());
    row.failure = Some(failure.to_string());
}

/// The migration that brings this one back.
fn pair<'a>(first: &'a Standing, back: &CampaignName) -> Result<Pair<'a>, Failure> {
    let Standing { id, migration, .. } = first;
    let planned = &migration.planned;
    let server = |name: &str| {
        name.parse::<ServerName>()
            .map_err(|_| Failure::new(Code::InventoryServerUnknown, name.to_owned()))
    };
    let source = server(&planned.destination)?;
    let other = MigrationId::new(back, &source, &planned.database);
    may_be_brought_back(migration, &(back.to_string(), other.to_string()))?;
    let planned = MigrationPlanned {
        campaign: back.to_string(),
        source: planned.destination.clone(),
        destination: planned.source.clone(),
        brings_back: id.to_string(),
        ..planned.clone()
    };
    Ok(Pair { first, back: inventory::Row { line: 0, id: other, planned } })
}

fn may_be_brought_back(
    migration: &Migration,
    (campaign, id): &(String, String),
) -> Result<(), Failure> {
    let refused = |what: String| Err(Failure::new(Code::NotBroughtBack, what));
    if !migration.planned.brings_back.is_empty() {
        return refused("it has brought another one back itself".to_owned());
    }
    match &migration.brought_back {
        Some(by) if by.campaign == *campaign && by.migration_id == *id => return Ok(()),
        Some(by) => {
            let what = format!("by migration {} of campaign {}", by.migration_id, by.campaign);
            return Err(Failure::new(Code::BroughtBack, what));
        }
        None => {}
    }
    let name = migration.name();
    match &migration.phase {
        Phase::Completed(_) | Phase::ExpiryFailed | Phase::Expired => Ok(()),
        Phase::Planned { .. }
        | Phase::Held { .. }
        | Phase::Rehearsing(..)
        | Phase::Rehearsed
        | Phase::RolledBack => refused(format!("it is {name}: the customer is at the source")),
        Phase::Doing(..) | Phase::Undoing(..) | Phase::Settling(_) | Phase::Parked { .. }
            if migration.opened.is_none() =>
        {
            refused(format!("it is at {name} and was not opened: drover rollback takes it back"))
        }
        Phase::Doing(..) | Phase::Undoing(..) | Phase::Settling(_) | Phase::Parked { .. } => {
            refused(format!("it is at {name}, and not completed"))
        }
    }
}

/// Looks at everything, and gives the word.
async fn bring_back(
    context: &Context,
    (campaign, back): (&CampaignName, &CampaignName),
    pairs: &[Pair<'_>],
    (rows, notes): (&mut [Row], &mut String),
    reason: &str,
) -> Result<(), Failure> {
    if pairs.is_empty() {
        let what = match rows {
            [row] => row.failure.clone().unwrap_or_default(),
            _ => format!("{campaign}: none of {} migrations is completed", rows.len()),
        };
        return Err(Failure::new(Code::NotBroughtBack, what));
    }
    context.bus.ensure_base().await?;
    let known = plan::planned_before(&context.bus, back).await?;
    let new: Vec<&Pair<'_>> = pairs.iter().filter(|it| !known.contains_key(&it.back.id)).collect();
    if let Err(failure) = look(&context.config, &new, rows, notes).await {
        rows.iter_mut().for_each(Row::leave);
        return Err(failure);
    }
    let (mut planned, mut failed, mut said) = (Vec::new(), None, 0);
    for pair in pairs {
        let Some(row) = rows.iter_mut().find(|row| row.id == pair.first.id) else { continue };
        match say(context, (campaign, back), pair, reason).await {
            Ok(()) => {
                said += 1;
                (row.outcome, row.steps) = (Outcome::BroughtBack, Vec::new());
                let (campaign, id) = (back.to_string(), pair.back.id.to_string());
                row.brought_back = Some(Other { campaign, id });
                planned.extend((!known.contains_key(&pair.back.id)).then(|| pair.back.clone()));
            }
            // Somebody else has said something else meanwhile; the others are planned all the same.
            Err(failure) => {
                leave(row, &failure);
                failed = Some(failure);
            }
        }
    }
    if said > 0 {
        let is_new = !planned.is_empty();
        let policy = Policy::from(&context.config.campaign);
        plan::record(&context.bus, back, policy, planned).await?;
        notes.push_str(&start(context, back, is_new).await?);
    }
    failed.map_or(Ok(()), Err)
}

/// The word in the first migration's history.
async fn say(
    context: &Context,
    (campaign, back): (&CampaignName, &CampaignName),
    pair: &Pair<'_>,
    reason: &str,
) -> Result<(), Failure> {
    if pair.first.migration.brought_back.is_some() {
        return Ok(());
    }
    let command = Command::BringBack {
        by: operator(),
        reason: reason.to_owned(),
        campaign: back.clone(),
        migration: pair.back.id,
    };
    command_migration(&context.bus, campaign, pair.first.id, &command).await
}

/// Starts the other campaign where it does not run; what a person is told.
async fn start(context: &Context, back: &CampaignName, is_new: bool) -> Result<String, Failure> {
    let mut notes = String::new();
    let begin = match campaign_state(&context.bus, back).await?.phase {
        campaign::Phase::Created => true,
        campaign::Phase::Completed => is_new,
        campaign::Phase::Running => false,
        campaign::Phase::Paused => {
            notes.push_str(&format!("{back} is paused: drover resume {back}\n"));
            false
        }
    };
    if begin {
        let command = campaign::Command::Start { in_flight_max: IN_FLIGHT, by: operator() };
        command_campaign(&context.bus, back, command).await?;
    }
    notes.push_str(&format!("follow it with: drover status {back}\n"));
    if answering(&context.bus).await?.is_none() {
        notes.push_str("no orchestrator answers: start one with drover serve orchestrator\n");
    }
    Ok(notes)
}

/// Everything that could be in the way: of the configuration, of the servers, and what a pre-flight
/// finds.
async fn look(
    config: &Config,
    pairs: &[&Pair<'_>],
    rows: &mut [Row],
    notes: &mut String,
) -> Result<(), Failure> {
    let planned: Vec<&MigrationPlanned> = pairs.iter().map(|pair| &pair.back.planned).collect();
    are_set_up(config, &planned)?;
    let mut by_server: BTreeMap<&str, Vec<&Pair<'_>>> = BTreeMap::new();
    for pair in pairs {
        for name in [&pair.back.planned.source, &pair.back.planned.destination] {
            by_server.entry(name).or_default().push(pair);
        }
    }
    let found: Vec<Vec<(MigrationId, Failure)>> = stream::iter(&by_server)
        .map(|(name, pairs)| at_server(config, name, pairs))
        .buffer_unordered(SERVERS_AT_ONCE)
        .try_collect()
        .await?;
    let found: HashMap<MigrationId, Failure> = found.into_iter().flatten().collect();
    for row in rows.iter_mut() {
        if let Some(failure) = found.get(&row.id) {
            leave(row, failure);
        }
    }
    if let Some(failure) = found.into_values().next() {
        return Err(failure);
    }
    preflight(config, pairs, rows, notes).await
}

/// Whether the servers' parts of the configuration let them be the other end.
fn are_set_up(config: &Config, planned: &[&MigrationPlanned]) -> Result<(), Failure> {
    let server = |name: &str| config.servers.iter().find(|(known, _)| known.as_str() == name);
    let lacks = |name: &str, key: &str, slots: Option<u32>| match slots {
        None => Some(format!("{name} is not in the configuration")),
        Some(0) => Some(format!("{name} has {key} = 0")),
        Some(_) => None,
    };
    let mut lacking = BTreeSet::new();
    for MigrationPlanned { source, destination, .. } in planned {
        let slots = server(source).map(|(_, it)| it.slots_as_source);
        lacking.extend(lacks(source, "slots_as_source", slots));
        let slots = server(destination).map(|(_, it)| it.slots_as_destination);
        lacking.extend(lacks(destination, "slots_as_destination", slots));
    }
    if lacking.is_empty() {
        return Ok(());
    }
    let lacking: Vec<String> = lacking.into_iter().collect();
    Err(Failure::new(Code::WayBackClosed, lacking.join("; ")))
}

/// What one server says of the databases that are to go or to come there: whose, and what.
async fn at_server(
    config: &Config,
    name: &str,
    pairs: &[&Pair<'_>],
) -> Result<Vec<(MigrationId, Failure)>, Failure> {
    let unknown = || Failure::new(Code::InventoryServerUnknown, name.to_owned());
    let server: ServerName = name.parse().map_err(|_| unknown())?;
    let options = config.servers.get(&server).ok_or_else(unknown)?.mysql.clone();
    let server = Server::new(server, options)?;
    let names: Vec<String> = pairs.iter().map(|it| it.back.planned.database.clone()).collect();
    let there = drover_mysql::existing(&server, &names).await?;
    let mut found = Vec::new();
    for Pair { first, back } in pairs {
        let database = &back.planned.database;
        if !there.contains(database) {
            let what = format!("database {database:?} is not on {name}");
            found.push((first.id, Failure::new(Code::InventoryDatabaseMissing, what)));
        } else if back.planned.destination == name {
            let checked = aside::check(&server, first.id, database).await;
            found.extend(checked.err().map(|error| (first.id, Failure::from(error))));
        }
    }
    Ok(found)
}

/// What `drover doctor` would find to block the new migrations.
async fn preflight(
    config: &Config,
    pairs: &[&Pair<'_>],
    rows: &mut [Row],
    notes: &mut String,
) -> Result<(), Failure> {
    let begun = |pair: &&Pair<'_>| {
        let event = Event::MigrationPlanned(pair.back.planned.clone());
        let migration = Migration::begin(Fact { revision: 1, at_unix_ms: 0, event }).ok()?;
        Some(Standing { id: pair.back.id, migration, blocking_codes: Vec::new() })
    };
    let all: Vec<Standing> = pairs.iter().filter_map(begun).collect();
    let policy = Policy::from(&config.campaign);
    let report = doctor::look(config, &all, &Definers::from(&policy)).await?;
    match report.blocked() {
        0 => Ok(()),
        blocked => {
            for pair in pairs {
                let codes = report.blocking_codes(pair.back.id);
                let row = rows.iter_mut().find(|row| row.id == pair.first.id);
                if let Some(row) = row.filter(|_| !codes.is_empty()) {
                    leave(row, &Failure::new(Code::PreflightBlocks, codes.join(" ")));
                }
            }
            notes.push_str(&report.document("on the way back").text());
            let what = format!("{blocked} of {} migrations", all.len());
            Err(Failure::new(Code::PreflightBlocks, what))
        }
    }
}
