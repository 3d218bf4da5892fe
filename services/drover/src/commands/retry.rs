//! `drover retry`: parked migrations are tried again, one, all alike, or all.

use std::path::Path;

use drover_bus::Bus;
use drover_lifecycle::Command;
use drover_projector::view::Filter;
use drover_schemas::{CampaignName, Code, Failure, MigrationId};
use futures::{StreamExt as _, stream};

use super::{print, rehearse::check_alone};
use crate::{
    context::{Context, command_migration, operator},
    report::Trouble,
};

/// How many are decided on at once.
const AT_ONCE: usize = 64;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The campaign's name.
    campaign: CampaignName,
    #[command(flatten)]
    which: Which,
    /// At most so many of them, to see whether the cause is gone before the rest are tried.
    #[arg(long, value_name = "N", conflicts_with = "migration",
        value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Which {
    /// One migration.
    #[arg(long, value_name = "ID")]
    migration: Option<MigrationId>,
    /// All that wait for a person after a failure of this signature.
    #[arg(long, value_name = "SIGNATURE")]
    signature: Option<String>,
    /// All that wait for a person.
    #[arg(long)]
    all: bool,
}

pub async fn run(config: &Path, args: Args) -> Result<(), Trouble> {
    let Args { campaign, which, limit } = args;
    let limit = limit.map_or(usize::MAX, |limit| limit as usize);
    let context = Context::of(config, "retry", &campaign).await?;
    let bus = &context.bus;
    if campaign.is_rehearsal() {
        check_alone(bus, &campaign).await?;
    }
    let ids = match which.migration {
        Some(id) => vec![id],
        None => waiting(bus, &campaign, which.signature, limit).await?,
    };
    if ids.is_empty() {
        return Err(Failure::new(Code::NothingToDo, "no migration waits for a retry").into());
    }
    let command = Command::Retry { by: operator() };
    let mut retried = 0;
    let outcomes = stream::iter(&ids).map(|id| command_migration(bus, &campaign, *id, &command));
    let mut outcomes = outcomes.buffer_unordered(AT_ONCE);
    let mut failures = Vec::new();
    while let Some(outcome) = outcomes.next().await {
        match outcome {
            Ok(()) => retried += 1,
            Err(failure) => failures.push(failure),
        }
    }
    print(&format!("{campaign}: {retried} of {} will be tried again\n", ids.len()));
    failures.pop().map_or(Ok(()), |failure| Err(failure.into()))
}

/// The migrations that wait for a person, at most so many.
async fn waiting(
    bus: &Bus,
    campaign: &CampaignName,
    signature: Option<String>,
    limit: usize,
) -> Result<Vec<MigrationId>, Failure> {
    let mut filter =
        Filter { waits_for: Some("person".to_owned()), signature, ..Filter::default() };
    let mut ids = Vec::new();
    loop {
        let page = drover_projector::migrations(bus, campaign, &filter).await?;
        let Some(last) = page.last() else { return Ok(ids) };
        filter.after = Some(last.id);
        ids.extend(page.iter().map(|row| row.id));
        if ids.len() >= limit {
            ids.truncate(limit);
            return Ok(ids);
        }
    }
}
