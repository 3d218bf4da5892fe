//! Where a migration stands, in the terms of those who ask: slots, commands, views.

use drover_schemas::v1;

use super::Migration;
use crate::{
    after::{after_recall, after_rollback},
    phase::{Goal, NotAllowed, Phase, Settlement, Wait},
    rehearsal::{Ending, Rehearsal},
    steps::Undo,
};

impl Migration {
    /// What this state waits for.
    pub fn wait(&self) -> Wait {
        self.phase.wait()
    }

    /// A word for where it stands, for messages and tables.
    pub fn name(&self) -> &'static str {
        if self.brought_back.is_some() { "brought back" } else { self.phase.name() }
    }

    /// The steps back that a rollback would take now, in their order; none where there is nothing to
    /// undo.
    ///
    /// # Errors
    /// When a rollback is not allowed here.
    pub fn steps_back(&self) -> Result<Vec<Undo>, NotAllowed> {
        let phase = self.after_rollback().ok_or_else(|| self.not_allowed("a rollback"))?;
        let mut steps = Vec::new();
        if let Phase::Rehearsing(Rehearsal::Drop(_), _) = phase {
            steps.push(Undo::Drop);
        }
        let Phase::Undoing(first, ..) = phase else { return Ok(steps) };
        let mut step = Some(first);
        while let Some(undo) = step {
            steps.push(undo);
            step = undo.next(self.switched.is_some());
        }
        Ok(steps)
    }

    /// What is brought back by another migration is not undone by this one: its source is not what
    /// it was.
    pub(super) fn after_rollback(&self) -> Option<Phase> {
        if self.brought_back.is_some() { None } else { after_rollback(&self.phase) }
    }

    /// Whether it is being taken back on a person's word, or was.
    pub fn goes_back(&self) -> bool {
        match &self.phase {
            Phase::Undoing(_, _, Goal::RollBack)
            | Phase::Rehearsing(
                Rehearsal::Drop(Ending::RollBack) | Rehearsal::Sweep(Ending::RollBack),
                _,
            )
            | Phase::Settling(Settlement::RollBack)
            | Phase::RolledBack => true,
            Phase::Undoing(_, _, Goal::Park | Goal::Defer | Goal::Recall)
            | Phase::Settling(
                Settlement::Complete
                | Settlement::Rehearse
                | Settlement::Defer
                | Settlement::Recall
                | Settlement::Park { .. },
            )
            | Phase::Planned { .. }
            | Phase::Held { .. }
            | Phase::Doing(..)
            | Phase::Rehearsing(..)
            | Phase::Parked { .. }
            | Phase::Rehearsed
            | Phase::Completed(_)
            | Phase::ExpiryFailed
            | Phase::Expired => false,
        }
    }

    /// Whether it takes up a slot ([`Phase::holds_slot`]).
    pub fn holds_slot(&self) -> bool {
        self.phase.holds_slot()
    }

    /// Whether a pause can call it back.
    pub fn can_be_recalled(&self) -> bool {
        after_recall(&self.phase, self.rollback).is_some()
    }

    /// What it is at, on its way there.
    pub(super) fn step(&self) -> Option<v1::Step> {
        match self.phase {
            Phase::Doing(forward, _) => Some(forward.step()),
            Phase::Rehearsing(rehearsal, _) => Some(rehearsal.step()),
            Phase::Planned { .. }
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

    /// Whether nothing more will happen to the customer's database.
    pub fn has_ended(&self) -> bool {
        self.phase.has_ended()
    }
}
