//! Where a migration stands, and where failure and a person's word lead from there.

use drover_schemas::{
    CampaignName, Code, MigrationId,
    v1::{self, DnsSwitched, MigrationChecked, StepFailed, migration_event::Event},
};

use crate::{
    promise::came_too_late,
    rehearsal::{Ending, Rehearsal},
    steps::{Forward, Undo},
};

/// Where a migration stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Waits for a slot.
    Planned {
        /// Not before this time; 0: at once.
        not_before_unix_ms: i64,
    },
    /// The pre-flight found what blocks it; waits until that is gone, or a person ignores it.
    Held {
        /// Not before this time, once nothing blocks it; 0: at once.
        not_before_unix_ms: i64,
    },
    /// On its way.
    Doing(Forward, Attempt),
    /// On its way back.
    Undoing(Undo, Attempt, Goal),
    /// Being rehearsed.
    Rehearsing(Rehearsal, Attempt),
    /// All its steps are done; the closing fact is to be appended.
    Settling(Settlement),
    /// A person decides.
    Parked {
        /// What stopped it, and from where a retry goes on.
        at: At,
        /// The source is as it was before, and the destination holds nothing of it.
        undone: bool,
    },
    /// It was taken back on a person's word.
    RolledBack,
    /// Its rehearsal came to its end, and nothing is left of it.
    Rehearsed,
    /// The customer is at the destination; the dump waits for its end.
    Completed(Attempt),
    /// The dump could not be deleted.
    ExpiryFailed,
    /// Nothing is left to do.
    Expired,
}

/// One try of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Attempt {
    /// Counts from 1 within a run.
    pub number: u32,
    /// Not before this time; 0: at once.
    pub not_before_unix_ms: i64,
}

impl Attempt {
    pub(crate) const FIRST: Self = Self { number: 1, not_before_unix_ms: 0 };

    fn after(failed: &StepFailed) -> Self {
        Self {
            number: failed.attempt.saturating_add(1),
            not_before_unix_ms: failed.next_attempt_at_unix_ms,
        }
    }
}

/// Why a migration goes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Goal {
    /// A step failed for good.
    Park,
    /// The time without writes would have become too long: to be tried again later.
    Defer,
    /// A pause calls back what is under way: to be tried again after it.
    Recall,
    /// A person said so.
    RollBack,
}

/// How a migration comes to rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Settlement {
    /// With [`MigrationCompleted`].
    Complete,
    /// With [`MigrationRehearsed`].
    Rehearse,
    /// With [`MigrationRolledBack`].
    RollBack,
    /// With [`MigrationDeferred`]; with [`MigrationParked`] when there were too many of these.
    Defer,
    /// With [`MigrationDeferred`], which does not count.
    Recall,
    /// With [`MigrationParked`].
    Park {
        /// What stopped it.
        at: At,
        /// Nothing is left of it.
        undone: bool,
    },
}

/// A step, and where it was going.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum At {
    /// Towards the destination.
    Forward(Forward),
    /// Back.
    Undo(Undo, Goal),
    /// In a rehearsal.
    Rehearsal(Rehearsal),
}

/// What a migration waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// A slot.
    Admission {
        /// Not before this time; 0: at once.
        not_before_unix_ms: i64,
    },
    /// A pre-flight that finds nothing any more that blocks it, or a person who ignores that.
    Findings,
    /// A job at work, or one to be ordered when its time has come.
    Job {
        /// What is to be done.
        step: v1::Step,
        /// Not before this time; 0: at once.
        not_before_unix_ms: i64,
    },
    /// The orchestrator, to append the closing fact.
    Settlement,
    /// A person.
    Person,
    /// Nothing any more.
    Nothing,
}

/// What a person or the orchestrator wants of a migration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// A slot is free.
    Admit,
    /// Append the closing fact.
    Settle,
    /// The destination would not be open in time: break off, and undo.
    BreakOff,
    /// The campaign pauses, and what is not yet being switched is undone.
    Recall {
        /// Who says so.
        by: String,
        /// Why.
        reason: String,
    },
    /// Note what a pre-flight found.
    Check {
        /// Codes of what blocks it.
        blocking_codes: Vec<String>,
        /// Who says so.
        by: String,
    },
    /// Go on although the pre-flight found what blocks it.
    IgnoreFindings {
        /// Who says so.
        by: String,
    },
    /// Try again what is parked.
    Retry {
        /// Who says so.
        by: String,
    },
    /// Take it back.
    RollBack {
        /// Who says so.
        by: String,
        /// Why.
        reason: String,
        /// What the destination has taken in since it opened may be lost.
        discard_writes: bool,
    },
    /// Bring it back, with what its destination holds now, by another migration.
    BringBack {
        /// Who says so.
        by: String,
        /// Why.
        reason: String,
        /// The campaign of the migration that does it.
        campaign: CampaignName,
        /// That migration.
        migration: MigrationId,
    },
}

/// What a person said with the last rollback of a run, and what came of it. All false: nobody has
/// said anything yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Rollback {
    /// What the destination has taken in since it opened may be lost.
    pub discard_writes: bool,
    /// All steps of the migration were done before.
    pub was_complete: bool,
    /// The destination had taken writes, and was opened again: it goes on there, and is not undone
    /// by itself any more.
    pub refused: bool,
}

/// An event with its place and time.
#[derive(Debug, Clone, PartialEq)]
pub struct Fact {
    /// The stream sequence.
    pub revision: u64,
    /// When the fact was found.
    pub at_unix_ms: i64,
    /// What happened.
    pub event: Event,
}

impl Fact {
    /// The fact as it is to be taken at this time: nothing was found in the future. Where the clock
    /// of who found it is ahead, its time is now, and what is to wait waits as long as was meant;
    /// otherwise a migration would stand still, its source frozen, until the time that one wrong
    /// clock has.
    pub fn taken_at(mut self, now_unix_ms: i64) -> Self {
        let ahead_ms = self.at_unix_ms.saturating_sub(now_unix_ms);
        if ahead_ms > 0 {
            self.at_unix_ms = now_unix_ms;
            if let Event::StepFailed(failed) = &mut self.event
                && failed.next_attempt_at_unix_ms > 0
            {
                let meant = failed.next_attempt_at_unix_ms.saturating_sub(ahead_ms);
                failed.next_attempt_at_unix_ms = meant.max(1);
            }
        }
        self
    }
}

/// A transition that the life of a migration does not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} is not allowed while the migration is {phase}")]
pub struct NotAllowed {
    /// The event or command.
    pub what: &'static str,
    /// Where the migration stands.
    pub phase: String,
}

impl Phase {
    /// What a migration in it waits for.
    pub fn wait(&self) -> Wait {
        let job = |step, attempt: &Attempt| Wait::Job {
            step,
            not_before_unix_ms: attempt.not_before_unix_ms,
        };
        match self {
            Phase::Planned { not_before_unix_ms } => {
                Wait::Admission { not_before_unix_ms: *not_before_unix_ms }
            }
            Phase::Held { .. } => Wait::Findings,
            Phase::Doing(forward, attempt) => job(forward.step(), attempt),
            Phase::Undoing(undo, attempt, _) => job(undo.step(), attempt),
            Phase::Rehearsing(rehearsal, attempt) => job(rehearsal.step(), attempt),
            Phase::Completed(attempt) => job(v1::Step::Expire, attempt),
            Phase::Settling(_) => Wait::Settlement,
            Phase::Parked { .. } | Phase::ExpiryFailed => Wait::Person,
            Phase::RolledBack | Phase::Rehearsed | Phase::Expired => Wait::Nothing,
        }
    }

    /// A word for it, for messages, tables and metrics: the step's name while one is done.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Planned { .. } => "planned",
            Self::Held { .. } => "held",
            Self::Doing(forward, _) => drover_schemas::subjects::step_name(forward.step()),
            Self::Undoing(undo, ..) => drover_schemas::subjects::step_name(undo.step()),
            Self::Rehearsing(step, _) => drover_schemas::subjects::step_name(step.step()),
            Self::Settling(_) => "settling",
            Self::Parked { .. } => "parked",
            Self::RolledBack => "rolled back",
            Self::Rehearsed => "rehearsed",
            Self::Completed(_) | Self::ExpiryFailed | Self::Expired => "completed",
        }
    }
}

/// Waits for a slot, at once.
pub(crate) const PLANNED: Phase = Phase::Planned { not_before_unix_ms: 0 };

pub(crate) fn first(step: Forward) -> Phase {
    Phase::Doing(step, Attempt::FIRST)
}

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
