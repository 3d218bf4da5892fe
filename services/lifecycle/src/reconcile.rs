//! A log that has lost its end, held against what servers, zone and queue show of a migration.
//!
//! 1. Every order carries what the history said when it was decided, and each server's ledger
//!    keeps the last order that acted on it. So the ledgers know the inventory's row, and most of
//!    what was found, by themselves.
//! 2. The log is behind when a place shows something that comes after where the log stands: a
//!    later run, a later step, or an undo that was begun ([`is_behind`]). Revisions alone do not
//!    tell: a log that lost its end gives the same sequences out again.
//! 3. What was lost is appended in the order of a migration's life, each fact as a place tells it
//!    ([`missing`]); the last step that was begun is left to be found again by its order, as each
//!    step can be run twice. What undid it is not known, a failure or a person's word, so the
//!    migration is undone to its end and parked; behind the switch only a person's word undoes.
//! 4. A rehearsal has changed nothing but its copy, so it goes on from where its log stands.

mod orphan;
mod shown;

use drover_schemas::{
    Code,
    v1::{self, Step, migration_event::Event},
};

use crate::{
    At, Command, Fact, Forward, Migration, Phase, Rehearsal, Settlement, Undo, Wait,
    after::{after_bring_back, is_complete, log_is_behind},
    signature,
};

pub use orphan::{Orphan, orphan};
use shown::{Shown, place_of};
pub use shown::{Shows, Sighting};

/// How many facts a repair of one migration has at most: several runs, forth and back.
const MISSING_MAX: usize = 500;

/// The facts that the log has lost, in order; `by` stands in those that are a person's word.
pub fn missing(log: Option<&Migration>, sightings: &[Sighting], by: &str) -> Vec<Event> {
    let mut missing = Vec::new();
    let Some(shown) = Shown::of(sightings) else { return missing };
    let mut state = match log {
        Some(log) if shown.may_still_be_told(log) => return missing,
        Some(log) => log.clone(),
        None => {
            let Some(planned) = sightings.iter().find_map(Sighting::planned) else {
                return missing;
            };
            let event = Event::MigrationPlanned(planned.clone());
            let Ok(begun) = Migration::begin(fact(1, event.clone())) else { return missing };
            missing.push(event);
            begun
        }
    };
    while missing.len() < MISSING_MAX
        && let Some(event) = next(&state, &shown, by)
    {
        if state.evolve(fact(state.revision + 1, event.clone())).is_err() {
            break;
        }
        missing.push(event);
    }
    if missing.is_empty()
        && let Some(event) = nudge(&state, &shown)
    {
        missing.push(event);
    }
    missing
}

/// A fact that changes nothing but the revision: the next order is to be above what was given out.
fn nudge(state: &Migration, shown: &Shown<'_>) -> Option<Event> {
    let Wait::Job { step, .. } = state.wait() else { return None };
    // What is complete waits for its dump's end only, which no ledger knows of.
    if is_complete(&state.phase) {
        return None;
    }
    let what = "the log had lost its end; the step is done again";
    let again = v1::StepFailed {
        transient: true,
        next_attempt_at_unix_ms: 1,
        ..failure(step, Code::LogBehind, what)
    };
    (shown.given_out() > state.revision).then_some(Event::StepFailed(again))
}

fn failure(step: Step, code: Code, what: &str) -> v1::StepFailed {
    let failure = drover_schemas::Failure::new(code, what);
    v1::StepFailed {
        step: step.into(),
        attempt: 1,
        code: failure.code.to_string(),
        signature: signature::of(&failure),
        message: failure.message,
        transient: false,
        next_attempt_at_unix_ms: 0,
        host: String::new(),
    }
}

/// Whether the log lacks something that was done.
pub fn is_behind(log: Option<&Migration>, sightings: &[Sighting]) -> bool {
    !missing(log, sightings, "").is_empty()
}

fn fact(revision: u64, event: Event) -> Fact {
    Fact { revision, at_unix_ms: 0, event }
}

fn next(state: &Migration, shown: &Shown<'_>, by: &str) -> Option<Event> {
    match state.run.cmp(&shown.run) {
        std::cmp::Ordering::Less => to_next_run(state, by),
        std::cmp::Ordering::Equal if state.run > 0 => within_run(state, shown, by),
        std::cmp::Ordering::Equal | std::cmp::Ordering::Greater => None,
    }
}

/// The log's run has ended, and another was begun since.
fn to_next_run(state: &Migration, by: &str) -> Option<Event> {
    match &state.phase {
        Phase::Planned { .. } => state.decide(Command::Admit).ok(),
        // It was begun, so it had been released.
        Phase::Held { .. } => Some(Event::MigrationChecked(v1::MigrationChecked::default())),
        Phase::Doing(step, _) => Some(ended(*step, by)),
        Phase::Undoing(undo, ..) => Some(match undo {
            Undo::Revert => Event::DnsReverted(v1::DnsReverted::default()),
            Undo::Close => Event::DestinationClosed(v1::DestinationClosed::default()),
            Undo::Drop => Event::DestinationDropped(v1::DestinationDropped {}),
            Undo::Thaw => Event::SourceThawed(v1::SourceThawed::default()),
        }),
        Phase::Rehearsing(rehearsal, _) => Some(match rehearsal {
            Rehearsal::Dump | Rehearsal::Import | Rehearsal::Verify => undone(rehearsal.step()),
            Rehearsal::Drop(_) => Event::DestinationDropped(v1::DestinationDropped {}),
            Rehearsal::Sweep(_) => Event::DumpExpired(v1::DumpExpired {}),
        }),
        Phase::Settling(_) => state.decide(Command::Settle).ok(),
        Phase::Parked { undone: true, .. } | Phase::RolledBack | Phase::Rehearsed => retry(by),
        Phase::Parked { at: At::Undo(..) | At::Rehearsal(_), undone: false } => retry(by),
        Phase::Parked { at: At::Forward(_), undone: false }
        | Phase::Completed(_)
        | Phase::ExpiryFailed
        | Phase::Expired => roll_back(by),
    }
}

fn within_run(state: &Migration, shown: &Shown<'_>, by: &str) -> Option<Event> {
    let refused = state.failure.as_ref().is_some_and(log_is_behind);
    if state.brought_back.is_none()
        && after_bring_back(&state.phase).is_some()
        && let Some(asked) = shown.bring_back()
    {
        return Some(asked);
    }
    match &state.phase {
        // What it found is known nowhere: it is done again, unless it was being undone.
        Phase::Doing(step, _) if place_of(*step) < shown.forth => {
            shown.event(*step).or_else(|| shown.back.then(|| ended(*step, by)))
        }
        Phase::Doing(step, _) if shown.back => Some(ended(*step, by)),
        Phase::Settling(Settlement::Park { undone: false, .. }) if refused => {
            state.decide(Command::Settle).ok()
        }
        Phase::Parked { undone: false, .. } if refused => retry(by),
        // What a person had rolled back behind the switch.
        Phase::Completed(_)
        | Phase::ExpiryFailed
        | Phase::Expired
        | Phase::Settling(Settlement::Complete | Settlement::Park { at: At::Forward(_), .. })
        | Phase::Parked { at: At::Forward(_), undone: false }
            if shown.back =>
        {
            roll_back(by)
        }
        Phase::Planned { .. }
        | Phase::Held { .. }
        | Phase::Doing(..)
        | Phase::Undoing(..)
        | Phase::Rehearsing(..)
        | Phase::Settling(_)
        | Phase::Parked { .. }
        | Phase::RolledBack
        | Phase::Rehearsed
        | Phase::Completed(_)
        | Phase::ExpiryFailed
        | Phase::Expired => None,
    }
}

/// What ended a run at this step: the log does not know.
fn ended(step: Forward, by: &str) -> Event {
    if !step.is_undone_by_itself() {
        return Event::RollbackRequested(v1::RollbackRequested {
            by: by.to_owned(),
            reason: "it was being rolled back when the log lost its end".to_owned(),
            discard_writes: false,
        });
    }
    undone(step.step())
}

/// A step that was undone; the log does not know why.
fn undone(step: Step) -> Event {
    let what = "the servers show that it was being undone; the log has lost why";
    Event::StepFailed(failure(step, Code::UndoneUnseen, what))
}

#[allow(clippy::unnecessary_wraps, reason = "as the other arms give it")]
fn retry(by: &str) -> Option<Event> {
    Some(Event::RetryRequested(v1::RetryRequested { by: by.to_owned() }))
}

#[allow(clippy::unnecessary_wraps, reason = "as the other arms give it")]
fn roll_back(by: &str) -> Option<Event> {
    Some(Event::RollbackRequested(v1::RollbackRequested {
        by: by.to_owned(),
        reason: "it was rolled back when the log lost its end".to_owned(),
        discard_writes: false,
    }))
}
