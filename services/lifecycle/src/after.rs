//! Where a failure, a finding and a person's word lead from each phase.

use drover_schemas::{
    Code,
    v1::{self, DnsSwitched, MigrationChecked, StepFailed},
};

use crate::{
    phase::{At, Attempt, Goal, PLANNED, Phase, Rollback, Settlement, first},
    promise::came_too_late,
    rehearsal::Ending,
    steps::{Forward, Undo},
};

/// When no cache holds the old addresses any more.
pub(crate) fn caches_empty_at(switched: &DnsSwitched, switched_at_unix_ms: i64) -> i64 {
    let ttl = switched.changes.iter().map(|change| change.old_ttl_seconds).max().unwrap_or(0);
    switched_at_unix_ms.saturating_add(i64::from(ttl) * 1000)
}

pub(crate) fn after_failure(
    failed: &StepFailed,
    phase: &Phase,
    rollback: Rollback,
) -> Option<Phase> {
    let again = failed.next_attempt_at_unix_ms > 0;
    let next = Attempt::after(failed);
    let step = failed.step();
    let by_itself = |forward: Forward| {
        forward.is_undone_by_itself() && !rollback.refused && !log_is_behind(failed)
    };
    match phase {
        Phase::Doing(forward, _) if forward.step() == step => Some(if again {
            Phase::Doing(*forward, next)
        } else if by_itself(*forward) {
            let goal = if came_too_late(failed) { Goal::Defer } else { Goal::Park };
            Phase::Undoing(forward.first_undo(), Attempt::FIRST, goal)
        } else {
            Phase::Settling(Settlement::Park { at: At::Forward(*forward), undone: false })
        }),
        Phase::Undoing(undo, _, goal) if undo.step() == step => Some(if again {
            Phase::Undoing(*undo, next, *goal)
        } else if was_written(failed) {
            first(Forward::Open)
        } else {
            Phase::Settling(Settlement::Park { at: At::Undo(*undo, *goal), undone: false })
        }),
        Phase::Rehearsing(rehearsal, _) if rehearsal.step() == step => Some(if again {
            Phase::Rehearsing(*rehearsal, next)
        } else {
            rehearsal.after_failure(failed)
        }),
        Phase::Completed(_) if step == v1::Step::Expire => {
            Some(if again { Phase::Completed(next) } else { Phase::ExpiryFailed })
        }
        Phase::Doing(..)
        | Phase::Undoing(..)
        | Phase::Rehearsing(..)
        | Phase::Completed(_)
        | Phase::Planned { .. }
        | Phase::Held { .. }
        | Phase::Settling(_)
        | Phase::Parked { .. }
        | Phase::RolledBack
        | Phase::Rehearsed
        | Phase::ExpiryFailed
        | Phase::Expired => None,
    }
}

/// A pre-flight looks at what is not on its way; it holds back, or releases, what has not begun.
pub(crate) fn after_check(checked: &MigrationChecked, phase: &Phase) -> Option<Phase> {
    let blocked = !checked.blocking_codes.is_empty() && !checked.ignored;
    match *phase {
        Phase::Planned { not_before_unix_ms } | Phase::Held { not_before_unix_ms } => {
            Some(if blocked {
                Phase::Held { not_before_unix_ms }
            } else {
                Phase::Planned { not_before_unix_ms }
            })
        }
        Phase::Doing(..)
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

/// Whether a ledger, or the zone's mark, refused an order because it is ahead of it. The history
/// was told that, so nobody else was faster: it has lost its end. What it would undo is not what
/// was done, so nothing is undone before the history was repaired.
pub(crate) fn log_is_behind(failed: &StepFailed) -> bool {
    [Code::LedgerOutdated, Code::DnsOutdated].iter().any(|code| failed.code == code.to_string())
}

/// A pause takes back what customers do not see at the destination yet. A switch that was ordered
/// may be in the zone although no answer came: it goes on, and so does what follows it. After a
/// rollback that was refused the customer is at the destination.
pub(crate) fn after_recall(phase: &Phase, rollback: Rollback) -> Option<Phase> {
    match phase {
        Phase::Doing(forward, _) if *forward < Forward::Switch && !rollback.refused => {
            Some(Phase::Undoing(forward.first_undo(), Attempt::FIRST, Goal::Recall))
        }
        Phase::Rehearsing(rehearsal, _) => rehearsal.back(Ending::Recall),
        Phase::Doing(..)
        | Phase::Planned { .. }
        | Phase::Held { .. }
        | Phase::Undoing(..)
        | Phase::Settling(_)
        | Phase::Parked { .. }
        | Phase::RolledBack
        | Phase::Rehearsed
        | Phase::Completed(_)
        | Phase::ExpiryFailed
        | Phase::Expired => None,
    }
}

/// Whether the destination has taken writes that nobody said may be lost: it is open again.
pub(crate) fn was_written(failed: &StepFailed) -> bool {
    failed.step() == v1::Step::Close && failed.code == Code::DestinationWritten.to_string()
}

/// Whether all steps were done, but for the dump's end.
pub(crate) fn is_complete(phase: &Phase) -> bool {
    match phase {
        Phase::Settling(Settlement::Complete)
        | Phase::Completed(_)
        | Phase::ExpiryFailed
        | Phase::Expired => true,
        Phase::Settling(
            Settlement::RollBack
            | Settlement::Rehearse
            | Settlement::Defer
            | Settlement::Recall
            | Settlement::Park { .. },
        )
        | Phase::Planned { .. }
        | Phase::Held { .. }
        | Phase::Doing(..)
        | Phase::Undoing(..)
        | Phase::Rehearsing(..)
        | Phase::Parked { .. }
        | Phase::RolledBack
        | Phase::Rehearsed => false,
    }
}

pub(crate) fn after_retry(phase: &Phase) -> Option<Phase> {
    match phase {
        // A rehearsal can be given as often as one likes.
        Phase::Parked { undone: true, .. } | Phase::RolledBack | Phase::Rehearsed => Some(PLANNED),
        Phase::Parked { at: At::Forward(forward), undone: false } => Some(first(*forward)),
        Phase::Parked { at: At::Undo(undo, goal), undone: false } => {
            Some(Phase::Undoing(*undo, Attempt::FIRST, *goal))
        }
        Phase::Parked { at: At::Rehearsal(rehearsal), undone: false } => Some(rehearsal.begun()),
        Phase::ExpiryFailed => Some(Phase::Completed(Attempt::FIRST)),
        Phase::Planned { .. }
        | Phase::Held { .. }
        | Phase::Doing(..)
        | Phase::Undoing(..)
        | Phase::Rehearsing(..)
        | Phase::Settling(_)
        | Phase::Completed(_)
        | Phase::Expired => None,
    }
}

/// Only what is at rest is brought back by another migration: its source is retired, and nothing is
/// under way for it but the dump's end.
pub(crate) fn after_bring_back(phase: &Phase) -> Option<Phase> {
    match phase {
        Phase::Completed(_) | Phase::ExpiryFailed | Phase::Expired => Some(*phase),
        Phase::Planned { .. }
        | Phase::Held { .. }
        | Phase::Doing(..)
        | Phase::Undoing(..)
        | Phase::Rehearsing(..)
        | Phase::Rehearsed
        | Phase::Settling(_)
        | Phase::Parked { .. }
        | Phase::RolledBack => None,
    }
}

pub(crate) fn after_rollback(phase: &Phase) -> Option<Phase> {
    let back = |undo| Some(Phase::Undoing(undo, Attempt::FIRST, Goal::RollBack));
    let settled = Some(Phase::Settling(Settlement::RollBack));
    match phase {
        Phase::Planned { .. } | Phase::Held { .. } => settled,
        Phase::Doing(forward, _) => back(forward.first_undo()),
        Phase::Undoing(_, _, Goal::RollBack) => None,
        Phase::Undoing(undo, attempt, Goal::Park | Goal::Defer | Goal::Recall) => {
            Some(Phase::Undoing(*undo, *attempt, Goal::RollBack))
        }
        Phase::Rehearsing(rehearsal, attempt) => rehearsal.rolled_back(*attempt),
        Phase::Parked { undone: true, .. }
        | Phase::Settling(
            Settlement::Defer | Settlement::Recall | Settlement::Park { undone: true, .. },
        ) => settled,
        Phase::Parked { at, undone: false }
        | Phase::Settling(Settlement::Park { at, undone: false }) => match at {
            At::Forward(forward) => back(forward.first_undo()),
            At::Undo(undo, _) => back(*undo),
            At::Rehearsal(rehearsal) => rehearsal.rolled_back(Attempt::FIRST),
        },
        Phase::Settling(Settlement::Complete)
        | Phase::Completed(_)
        | Phase::ExpiryFailed
        | Phase::Expired => back(Undo::Revert),
        Phase::Settling(Settlement::RollBack | Settlement::Rehearse)
        | Phase::RolledBack
        | Phase::Rehearsed => None,
    }
}
