//! Where a migration stands.

use drover_schemas::{
    CampaignName, MigrationId,
    v1::{self, StepFailed, migration_event::Event},
};

use crate::{
    rehearsal::Rehearsal,
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

    pub(crate) fn after(failed: &StepFailed) -> Self {
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
        /// Which time it is tried in its run, from 1.
        attempt: u32,
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
            attempt: attempt.number,
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

    /// Whether everything that was begun in it was undone again, and a person has the next word.
    pub fn is_undone(&self) -> bool {
        match self {
            Self::Parked { undone: true, .. } | Self::RolledBack | Self::Rehearsed => true,
            Self::Planned { .. }
            | Self::Held { .. }
            | Self::Doing(..)
            | Self::Undoing(..)
            | Self::Rehearsing(..)
            | Self::Settling(_)
            | Self::Parked { undone: false, .. }
            | Self::Completed(_)
            | Self::ExpiryFailed
            | Self::Expired => false,
        }
    }

    /// Whether it takes up a slot of the campaign, its source and its destination: from its
    /// admission until the host names are switched, or until it is undone.
    pub fn holds_slot(&self) -> bool {
        match self {
            Self::Doing(forward, _) => forward.is_undone_by_itself(),
            Self::Undoing(..) => true,
            Self::Rehearsing(rehearsal, _) => rehearsal.holds_slot(),
            Self::Planned { .. }
            | Self::Held { .. }
            | Self::Settling(_)
            | Self::Parked { .. }
            | Self::RolledBack
            | Self::Rehearsed
            | Self::Completed(_)
            | Self::ExpiryFailed
            | Self::Expired => false,
        }
    }

    /// Whether nothing more will happen to the customer's database.
    pub fn has_ended(&self) -> bool {
        match self {
            Self::Completed(_)
            | Self::ExpiryFailed
            | Self::Expired
            | Self::RolledBack
            | Self::Rehearsed => true,
            Self::Planned { .. }
            | Self::Held { .. }
            | Self::Doing(..)
            | Self::Undoing(..)
            | Self::Rehearsing(..)
            | Self::Settling(_)
            | Self::Parked { .. } => false,
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
