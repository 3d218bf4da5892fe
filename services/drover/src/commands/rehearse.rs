//! `drover rehearse`: dump, import, verify and drop again, on the real servers, before the night.
//!
//! A rehearsal is a campaign of its own, `<campaign>-rehearsal`, whose migrations are rehearsals
//! ([`drover_lifecycle::Rehearsal`]): it goes through the same orchestrator, services and slots, and every
//! other command takes its name. Its host names and owners are left out, so that there is nothing to
//! switch and nobody to tell. As its copies stand under the names that the campaign's own need, the
//! two do not run at the same time.

use std::{collections::HashSet, path::Path};

use drover_bus::Bus;
use drover_lifecycle::{
    Command, Phase,
    campaign::{self, Campaign},
    limits::Adjust,
};
use drover_schemas::{
    CampaignName, Code, Failure, MigrationId, ServerName,
    v1::{Limits, MigrationPlanned},
};
use futures::{StreamExt as _, TryStreamExt as _, stream};

use super::{
    in_flight::{IN_FLIGHT, IN_FLIGHT_MAX},
    plan::record,
    print,
};
use crate::{
    context::{Context, campaign_state, command_campaign, command_migration, operator},
    inventory::Row,
    report::Trouble,
    standing::{Standing, standing},
};

/// How many migrations are decided on side by side.
const AT_ONCE: usize = 64;

/// What is rehearsed where nothing is said, in percent.
const SAMPLE_PERCENT: f64 = 5.0;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The campaign's name.
    campaign: CampaignName,
    /// This share of the databases that wait for their turn, always the same ones [default: 5%, or
    /// with --wave all of it].
    #[arg(long, value_name = "SHARE", value_parser = percent)]
    sample: Option<f64>,
    /// Of this wave only.
    #[arg(long, value_name = "WAVE")]
    wave: Option<String>,
    /// How many are rehearsed at once.
    #[arg(long, default_value_t = IN_FLIGHT, value_parser = clap::value_parser!(u32).range(1..=IN_FLIGHT_MAX as i64))]
    max_in_flight: u32,
}

/// A share in percent, as `5%`.
fn percent(text: &str) -> Result<f64, String> {
    let number = text.trim_end_matches('%').parse::<f64>().ok();
    let share = number.filter(|share| *share > 0.0 && *share <= 100.0);
    share.ok_or_else(|| "a share is more than 0% and at most 100%".to_owned())
}

pub async fn run(config: &Path, args: Args) -> Result<(), Trouble> {
    let Args { campaign, sample, wave, max_in_flight } = args;
    let rehearsal = name(&campaign)?;
    let Context { bus, .. } = Context::of(config, "rehearse", &campaign).await?;
    let state = campaign_state(&bus, &campaign).await?;
    let mut known = standing(&bus, &campaign).await?;
    check_in_time(&campaign, &state, &known)?;
    known.retain(|one| {
        let planned = matches!(one.migration.phase, Phase::Planned { .. });
        planned && wave.as_ref().is_none_or(|wave| one.migration.planned.wave == *wave)
    });
    let all = known.len();
    let share = sample.unwrap_or(if wave.is_some() { 100.0 } else { SAMPLE_PERCENT });
    let rows = rows(&rehearsal, draw(known, share))?;
    if rows.is_empty() {
        return Err(Failure::new(Code::NothingToDo, "no database waits for its turn").into());
    }
    let count = rows.len();
    let drawn: HashSet<MigrationId> = rows.iter().map(|row| row.id).collect();
    record(&bus, &rehearsal, state.policy, rows).await?;
    again(&bus, &rehearsal, &drawn).await?;
    let by = operator();
    let (adjust, reason) = (as_in(&state.limits), format!("as in {campaign}"));
    let limit = campaign::Command::Limit { adjust, reason, by: by.clone() };
    match command_campaign(&bus, &rehearsal, limit).await {
        // One that has completed takes its limits with its next start.
        Ok(_) | Err(Failure { code: Code::TransitionNotAllowed, .. }) => {}
        Err(failure) => return Err(failure.into()),
    }
    let start = campaign::Command::Start { in_flight_max: max_in_flight, by };
    command_campaign(&bus, &rehearsal, start).await?;
    print(&format!(
        "{rehearsal}: {count} of {all} are rehearsed, at most {max_in_flight} at once; see drover status \
         {rehearsal} and drover failures {rehearsal}, and then drover forecast {campaign}\n"
    ));
    Ok(())
}

/// The name of a campaign's rehearsals.
fn name(campaign: &CampaignName) -> Result<CampaignName, Failure> {
    let taken = || Failure::new(Code::RehearsalName, format!("campaign {campaign}"));
    if campaign.is_rehearsal() {
        return Err(taken());
    }
    campaign.rehearsal().map_err(|_| taken())
}

/// Refuses to rehearse what is running, or has not come to rest after a pause.
fn check_in_time(
    name: &CampaignName,
    campaign: &Campaign,
    known: &[Standing],
) -> Result<(), Failure> {
    let too_late = |what: String| Err(Failure::new(Code::RehearsalTooLate, what));
    match campaign.phase {
        campaign::Phase::Running | campaign::Phase::Completed => {
            return too_late(format!("campaign {name} is {}", campaign.phase.name()));
        }
        campaign::Phase::Created | campaign::Phase::Paused => {}
    }
    match known.iter().filter(|one| one.migration.holds_slot()).count() {
        0 => Ok(()),
        count => too_late(format!("campaign {name} has {count} in flight")),
    }
}

/// A share of them: those with the lowest ids, which are as good as drawn by lot, and the same each
/// time.
fn draw(mut known: Vec<Standing>, percent: f64) -> Vec<Standing> {
    known.sort_by_key(|one| one.id);
    let share = (known.len() as f64 * percent / 100.0).ceil() as usize;
    known.truncate(share);
    known
}

fn rows(rehearsal: &CampaignName, drawn: Vec<Standing>) -> Result<Vec<Row>, Failure> {
    let row = |one: Standing| {
        let planned = MigrationPlanned {
            campaign: rehearsal.to_string(),
            host_names: Vec::new(),
            owner: String::new(),
            rehearsal: true,
            ..one.migration.planned
        };
        let source = planned.source.parse::<ServerName>();
        let source =
            source.map_err(|error| Failure::new(Code::EventUndecodable, error.to_string()))?;
        let id = MigrationId::new(rehearsal, &source, &planned.database);
        Ok(Row { line: 0, id, planned })
    };
    drawn.into_iter().map(row).collect()
}

/// Those that were rehearsed before are rehearsed once more.
async fn again(
    bus: &Bus,
    rehearsal: &CampaignName,
    drawn: &HashSet<MigrationId>,
) -> Result<(), Failure> {
    let mut ended = standing(bus, rehearsal).await?;
    ended.retain(|one| drawn.contains(&one.id) && one.migration.phase.is_undone());
    let command = Command::Retry { by: operator() };
    let outcomes =
        stream::iter(&ended).map(|one| command_migration(bus, rehearsal, one.id, &command));
    outcomes.buffer_unordered(AT_ONCE).try_collect::<Vec<()>>().await?;
    Ok(())
}

/// The load is the night's; its hours, its canary, and the order of its waves are not. How many are best is
/// seen by steps that a rehearsal does not have: so their number is fixed.
fn as_in(limits: &Limits) -> Adjust {
    Adjust {
        per_source_max: Some(limits.per_source_max),
        per_destination_max: Some(limits.per_destination_max),
        per_wave_max: Some(limits.per_wave_max),
        waves_at_once: Some(true),
        wave_failures_max: Some(limits.wave_failures_max),
        source_failures_max: Some(limits.source_failures_max),
        destination_failures_max: Some(limits.destination_failures_max),
        ..Adjust::default()
    }
}

/// Refuses to let a campaign go on while its rehearsal is under way, and a rehearsal while its campaign
/// is: the copies of the two have the same names.
///
/// # Errors
/// [`Code::RehearsalUnfinished`], [`Code::RehearsalTooLate`].
pub(super) async fn check_alone(bus: &Bus, campaign: &CampaignName) -> Result<(), Failure> {
    let there = bus.campaigns().await?;
    if let Some(rehearsed) = campaign.rehearsed().filter(|name| there.contains(name)) {
        let state = campaign_state(bus, &rehearsed).await?;
        return check_in_time(&rehearsed, &state, &standing(bus, &rehearsed).await?);
    }
    let Ok(rehearsal) = name(campaign) else { return Ok(()) };
    if !there.contains(&rehearsal) {
        return Ok(());
    }
    let admits = campaign_state(bus, &rehearsal).await?.phase == campaign::Phase::Running;
    let mut left = standing(bus, &rehearsal).await?;
    left.retain(|one| match &one.migration.phase {
        Phase::Planned { .. } => admits,
        Phase::Held { .. } => false,
        other => !other.is_undone(),
    });
    match left.len() {
        0 => Ok(()),
        count => {
            let what = format!("{count} of {rehearsal} are under way");
            Err(Failure::new(Code::RehearsalUnfinished, what))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::percent;

    #[test]
    fn a_share_is_more_than_nothing_and_at_most_all() {
        for (text, share) in [("5%", 5.0), ("0.5%", 0.5), ("100", 100.0)] {
            assert_eq!(percent(text), Ok(share));
        }
        for text in ["0%", "101%", "-1%", "a few", "", "NaN"] {
            assert!(percent(text).is_err(), "{text}");
        }
    }
}
