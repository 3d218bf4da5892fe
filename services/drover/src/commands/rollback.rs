//! `drover rollback`: a migration, or a wave, is taken back, wherever it stands: the host names
//! first, then the destination closed, then the source thawed with its exact privileges.
//!
//! Before anything is said to the log, each destination that is open is held against what it was
//! when it opened. What was written there would be lost, so then nothing is taken back, of a wave
//! nothing at all, unless the person says that it may be. The step that closes the destination
//! compares once more, when nobody writes any more: this look is so that a person decides with open
//! eyes, and no customer is disturbed for nothing.
//!
//! With `--bring-back` what the destination holds now goes back as well ([`bring_back`]).
//!
//! What has not begun is taken back too, which ends it: of a wave, which moves together, the rest
//! would otherwise go on its way alone. `drover retry` plans it again.

mod bring_back;
mod report;
mod writes;

use std::path::Path;

use drover_bus::Bus;
use drover_dumpstore::Store;
use drover_lifecycle::Command;
use drover_schemas::{CampaignName, Code, Failure, MigrationId};
use futures::{StreamExt as _, TryStreamExt as _, stream};

use self::report::{Other, Outcome, Report, Row};
use super::{print, print_json};
use crate::{
    context::{Context, command_migration, operator},
    report::Trouble,
    standing::{Standing, standing},
};

/// How many are decided on at once.
const AT_ONCE: usize = 64;
/// How many migrations an error names.
const NAMED_MAX: usize = 5;
/// How many destinations' databases are read at once: each is read whole.
const READ_AT_ONCE: usize = 4;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The campaign's name.
    campaign: CampaignName,
    #[command(flatten)]
    which: Which,
    /// What the destinations have taken in since they opened may be lost.
    #[arg(long)]
    discard_writes: bool,
    /// What a completed migration's destination holds now is moved back to its old source, by a
    /// migration of the campaign CAMPAIGN-back.
    #[arg(long, conflicts_with = "discard_writes")]
    bring_back: bool,
    /// Why; recorded.
    #[arg(long, default_value = "a person's word")]
    reason: String,
    /// One JSON document.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Which {
    /// One migration.
    #[arg(long, value_name = "ID")]
    migration: Option<MigrationId>,
    /// All migrations of a wave.
    #[arg(long, value_name = "WAVE")]
    wave: Option<String>,
}

pub async fn run(config: &Path, args: Args) -> Result<(), Trouble> {
    let Args { campaign, which, discard_writes, bring_back, reason, json } = args;
    let context = Context::of(config, "rollback", &campaign).await?;
    let chosen = choose(standing(&context.bus, &campaign).await?, &which)?;
    let mut rows: Vec<Row> = chosen.iter().map(Row::of).collect();
    if bring_back {
        let told = bring_back::run(&context, &campaign, (&chosen, rows), &reason).await?;
        show(&told.report, json)?;
        if !json {
            print(&told.notes);
        }
        return told.outcome.map_err(Trouble::from);
    }
    if rows.iter().all(|row| row.outcome == Outcome::BroughtBack) {
        return Err(brought_back(&rows).into());
    }
    if !discard_writes {
        look(&context, &chosen, &mut rows).await?;
    }
    let refused = rows.iter().filter(|row| !row.writes.is_empty()).count();
    let mut failed = None;
    if refused == 0 {
        let command = Command::RollBack { by: operator(), reason, discard_writes };
        failed = take_back(&context.bus, &campaign, &command, &mut rows).await;
    } else {
        rows.iter_mut().for_each(Row::leave);
    }
    let report = Report { campaign: campaign.to_string(), migrations: rows };
    show(&report, json)?;
    if refused > 0 {
        let what = format!("{campaign}: {refused} of {} migrations", report.migrations.len());
        return Err(Failure::new(Code::DestinationWritten, what).into());
    }
    failed.map_or(Ok(()), |failure| Err(failure.into()))
}

fn show(report: &Report, json: bool) -> Result<(), Trouble> {
    if json {
        return print_json(report);
    }
    print(&report.text());
    Ok(())
}

/// Nothing is to be taken back that another migration does not bring back.
fn brought_back(rows: &[Row]) -> Failure {
    let one = |row: &Row| {
        let Other { campaign, id } = row.other();
        format!("{} by migration {id} of campaign {campaign}", row.database)
    };
    let named: Vec<String> = rows.iter().take(NAMED_MAX).map(one).collect();
    let more = rows.len().saturating_sub(NAMED_MAX);
    let more = if more > 0 { format!(", and {more} more") } else { String::new() };
    Failure::new(Code::BroughtBack, format!("{}{more}", named.join(", ")))
}

fn choose(mut all: Vec<Standing>, which: &Which) -> Result<Vec<Standing>, Failure> {
    let unknown = match (which.migration, &which.wave) {
        (Some(id), _) => {
            all.retain(|one| one.id == id);
            Failure::new(Code::MigrationUnknown, format!("migration {id}"))
        }
        (None, wave) => {
            let wave = wave.as_deref().unwrap_or_default();
            all.retain(|one| one.migration.planned.wave == wave);
            Failure::new(Code::NothingToDo, format!("no migration is of the wave {wave:?}"))
        }
    };
    all.sort_by(|a, b| a.migration.planned.database.cmp(&b.migration.planned.database));
    if all.is_empty() { Err(unknown) } else { Ok(all) }
}

/// Finds what would be lost.
async fn look(context: &Context, chosen: &[Standing], rows: &mut [Row]) -> Result<(), Failure> {
    let store = Store::open(&context.config.store)?;
    let looks = chosen.iter().zip(rows).filter(|(one, row)| {
        row.outcome == Outcome::TakenBack && writes::may_be_there(&one.migration)
    });
    stream::iter(looks.map(Ok))
        .try_for_each_concurrent(READ_AT_ONCE, |(one, row)| {
            let store = &store;
            async move {
                row.writes = writes::find(&context.config, store, (one.id, &one.migration)).await?;
                Ok(())
            }
        })
        .await
}

/// Appends the word to each migration's history; the last failure, where there is one.
async fn take_back(
    bus: &Bus,
    campaign: &CampaignName,
    command: &Command,
    rows: &mut [Row],
) -> Option<Failure> {
    let pending = rows.iter_mut().filter(|row| row.is_meant());
    let mut outcomes = stream::iter(pending)
        .map(|row| async move {
            let outcome = command_migration(bus, campaign, row.id, command).await;
            if let Err(failure) = &outcome {
                row.outcome = Outcome::Failed;
                row.failure = Some(failure.to_string());
            }
            outcome
        })
        .buffer_unordered(AT_ONCE);
    let mut failed = None;
    while let Some(outcome) = outcomes.next().await {
        failed = outcome.err().or(failed);
    }
    failed
}
