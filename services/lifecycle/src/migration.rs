//! The state machine of one migration.
//!
//! 1. [`Migration::evolve`] folds a fact into the state. Facts are appended on the revision that
//!    they were decided on, so in a sound log each is allowed where it stands; one that is not is
//!    a typed error, and the log is damaged.
//! 2. [`Migration::decide`] says which fact a command leads to.
//! 3. [`Migration::wait`] says what the state waits for: none is ever forgotten, because every
//!    state waits for a job, a slot, a person, or nothing any more.
//!
//! What a failure leads to is in the fact itself ([`StepFailed::next_attempt_at_unix_ms`]), so
//! that history reads the same whatever the policy is today.

mod deciding;
mod ordering;
mod standing;

use drover_schemas::{
    envelope::migration_kind,
    v1::{
        BringBackRequested, DestinationOpened, DnsSwitched, DumpPublished, DumpStored,
        MigrationDeferred, MigrationPlanned, SourceFrozen, StepFailed, migration_event::Event,
    },
};

use crate::{
    after::{
        after_bring_back, after_check, after_failure, after_recall, after_retry, caches_empty_at,
        is_complete, was_written,
    },
    phase::{At, Attempt, Fact, Goal, NotAllowed, PLANNED, Phase, Rollback, Settlement, first},
    rehearsal::Rehearsal,
    steps::{Forward, Undo},
};

/// The state of one migration.
#[derive(Debug, Clone, PartialEq)]
pub struct Migration {
    /// The stream sequence of its last fact.
    pub revision: u64,
    /// When that fact was found.
    pub at_unix_ms: i64,
    /// Where it stands.
    pub phase: Phase,
    /// Admissions so far.
    pub run: u32,
    /// The inventory's row.
    pub planned: MigrationPlanned,
    /// Of this run: the freeze.
    pub frozen: Option<SourceFrozen>,
    /// Of this run: the dump.
    pub dump: Option<DumpStored>,
    /// Of this run: the opening.
    pub opened: Option<DestinationOpened>,
    /// Of this run: the destination was closed, or its copy dropped.
    pub destination_shut: bool,
    /// Of this run: the switch; without its changes where only its revert has told of it.
    pub switched: Option<DnsSwitched>,
    /// Of this run: the publication.
    pub published: Option<DumpPublished>,
    /// Of this run: what a person said of taking it back.
    pub rollback: Rollback,
    /// Which other migration brings it back; nothing but the dump's end is done for this one then.
    pub brought_back: Option<BringBackRequested>,
    /// The last failure that stopped a step for good.
    pub failure: Option<StepFailed>,
    /// The last deferral, since a person said to try again.
    pub deferred: Option<MigrationDeferred>,
}

impl Migration {
    /// The state after a migration's first fact.
    ///
    /// # Errors
    /// When that fact is not [`MigrationPlanned`].
    pub fn begin(fact: Fact) -> Result<Self, NotAllowed> {
        let what = migration_kind(&fact.event);
        let Event::MigrationPlanned(planned) = fact.event else {
            return Err(NotAllowed { what, phase: "unknown".to_owned() });
        };
        Ok(Self {
            revision: fact.revision,
            at_unix_ms: fact.at_unix_ms,
            phase: PLANNED,
            run: 0,
            planned,
            frozen: None,
            dump: None,
            opened: None,
            destination_shut: false,
            switched: None,
            published: None,
            rollback: Rollback::default(),
            brought_back: None,
            failure: None,
            deferred: None,
        })
    }

    /// The state after a whole history.
    ///
    /// # Errors
    /// When a fact is not allowed where it stands. `None` for an empty history.
    pub fn replay(facts: impl IntoIterator<Item = Fact>) -> Result<Option<Self>, NotAllowed> {
        let mut state: Option<Self> = None;
        for fact in facts {
            match &mut state {
                None => state = Some(Self::begin(fact)?),
                Some(migration) => migration.evolve(fact)?,
            }
        }
        Ok(state)
    }

    /// Folds a fact into the state. A fact that is known already changes nothing.
    ///
    /// # Errors
    /// When it is not allowed here; the state is unchanged then.
    pub fn evolve(&mut self, fact: Fact) -> Result<(), NotAllowed> {
        if fact.revision <= self.revision {
            return Ok(());
        }
        let phase = self.next_phase(&fact)?;
        self.revision = fact.revision;
        self.at_unix_ms = fact.at_unix_ms;
        self.keep(fact.event);
        self.phase = phase;
        Ok(())
    }

    fn next_phase(&self, fact: &Fact) -> Result<Phase, NotAllowed> {
        use Forward as F;
        let phase = match (&fact.event, &self.phase) {
            (Event::MigrationAdmitted(admitted), Phase::Planned { .. }) if admitted.rehearsal => {
                Rehearsal::Dump.begun()
            }
            (Event::MigrationAdmitted(_), Phase::Planned { .. }) if !self.planned.rehearsal => {
                first(F::Freeze)
            }
            (Event::SourceFrozen(_), Phase::Doing(F::Freeze, _)) => first(F::Dump),
            (Event::DumpStored(_), Phase::Doing(F::Dump, _)) => first(F::Import),
            (Event::ImportCompleted(_), Phase::Doing(F::Import, _)) => first(F::Verify),
            (Event::CopyVerified(_), Phase::Doing(F::Verify, _)) => first(F::Disarm),
            (Event::SourceDisarmed(_), Phase::Doing(F::Disarm, _)) => first(F::Open),
            (Event::DestinationOpened(_), Phase::Doing(F::Open, _)) => first(F::Switch),
            (Event::DnsSwitched(switched), Phase::Doing(F::Switch, _)) => {
                let not_before_unix_ms = caches_empty_at(switched, fact.at_unix_ms);
                Phase::Doing(F::Retire, Attempt { number: 1, not_before_unix_ms })
            }
            // What had been completed was published and announced before a rollback was refused.
            (Event::SourceRetired(_), Phase::Doing(F::Retire, _)) => {
                if self.rollback.was_complete {
                    Phase::Settling(Settlement::Complete)
                } else {
                    first(F::Publish)
                }
            }
            (Event::DumpPublished(_), Phase::Doing(F::Publish, _)) => first(F::Announce),
            (Event::CustomerNotified(_), Phase::Doing(F::Announce, _)) => {
                Phase::Settling(Settlement::Complete)
            }
            (Event::MigrationCompleted(_), Phase::Settling(Settlement::Complete)) => {
                Phase::Completed(Attempt {
                    number: 1,
                    not_before_unix_ms: self.published.as_ref().map_or(0, |p| p.expires_at_unix_ms),
                })
            }
            (Event::DumpExpired(_), Phase::Completed(_)) => Phase::Expired,
            (Event::DnsReverted(_), Phase::Undoing(Undo::Revert, _, goal)) => {
                self.undone(Undo::Revert, *goal)
            }
            (Event::DestinationClosed(_), Phase::Undoing(Undo::Close, _, goal)) => {
                self.undone(Undo::Close, *goal)
            }
            (Event::DestinationDropped(_), Phase::Undoing(Undo::Drop, _, goal)) => {
                self.undone(Undo::Drop, *goal)
            }
            (Event::SourceThawed(_), Phase::Undoing(Undo::Thaw, _, goal)) => {
                self.undone(Undo::Thaw, *goal)
            }
            (Event::MigrationRehearsed(_), Phase::Settling(Settlement::Rehearse)) => {
                Phase::Rehearsed
            }
            (Event::MigrationParked(_), Phase::Settling(Settlement::Park { at, undone })) => {
                Phase::Parked { at: *at, undone: *undone }
            }
            (Event::MigrationParked(_), Phase::Settling(Settlement::Defer)) => {
                Phase::Parked { at: At::Undo(Undo::Thaw, Goal::Defer), undone: true }
            }
            (
                Event::MigrationDeferred(deferred),
                Phase::Settling(Settlement::Defer | Settlement::Recall),
            ) => Phase::Planned { not_before_unix_ms: deferred.not_before_unix_ms },
            (Event::MigrationRolledBack(_), Phase::Settling(Settlement::RollBack)) => {
                Phase::RolledBack
            }
            (Event::StepFailed(failed), phase) => after_failure(failed, phase, self.rollback)
                .ok_or_else(|| self.not_allowed("StepFailed"))?,
            (Event::MigrationChecked(checked), phase) => {
                after_check(checked, phase).ok_or_else(|| self.not_allowed("MigrationChecked"))?
            }
            (Event::MigrationRecalled(_), phase) => after_recall(phase, self.rollback)
                .ok_or_else(|| self.not_allowed("MigrationRecalled"))?,
            (Event::RetryRequested(_), phase) => {
                after_retry(phase).ok_or_else(|| self.not_allowed("RetryRequested"))?
            }
            (Event::RollbackRequested(_), _) => {
                self.after_rollback().ok_or_else(|| self.not_allowed("RollbackRequested"))?
            }
            (Event::BringBackRequested(_), phase) if self.brought_back.is_none() => {
                after_bring_back(phase).ok_or_else(|| self.not_allowed("BringBackRequested"))?
            }
            (event, Phase::Rehearsing(rehearsal, _)) => {
                rehearsal.after(event).ok_or_else(|| self.not_allowed(migration_kind(event)))?
            }
            (
                Event::MigrationPlanned(_)
                | Event::MigrationAdmitted(_)
                | Event::SourceFrozen(_)
                | Event::DumpStored(_)
                | Event::ImportCompleted(_)
                | Event::CopyVerified(_)
                | Event::SourceDisarmed(_)
                | Event::DestinationOpened(_)
                | Event::DnsSwitched(_)
                | Event::SourceRetired(_)
                | Event::DumpPublished(_)
                | Event::CustomerNotified(_)
                | Event::MigrationCompleted(_)
                | Event::DumpExpired(_)
                | Event::DnsReverted(_)
                | Event::DestinationClosed(_)
                | Event::DestinationDropped(_)
                | Event::SourceThawed(_)
                | Event::MigrationParked(_)
                | Event::MigrationRolledBack(_)
                | Event::MigrationRehearsed(_)
                | Event::BringBackRequested(_)
                | Event::MigrationDeferred(_),
                Phase::Planned { .. }
                | Phase::Held { .. }
                | Phase::Doing(..)
                | Phase::Undoing(..)
                | Phase::Settling(_)
                | Phase::Parked { .. }
                | Phase::RolledBack
                | Phase::Rehearsed
                | Phase::Completed(_)
                | Phase::ExpiryFailed
                | Phase::Expired,
            ) => return Err(self.not_allowed(migration_kind(&fact.event))),
        };
        Ok(phase)
    }

    fn undone(&self, step: Undo, goal: Goal) -> Phase {
        match (step.next(self.switched.is_some()), goal) {
            (Some(next), goal) => Phase::Undoing(next, Attempt::FIRST, goal),
            (None, Goal::RollBack) => Phase::Settling(Settlement::RollBack),
            (None, Goal::Defer) => Phase::Settling(Settlement::Defer),
            (None, Goal::Recall) => Phase::Settling(Settlement::Recall),
            (None, Goal::Park) => {
                Phase::Settling(Settlement::Park { at: At::Undo(step, goal), undone: true })
            }
        }
    }

    /// Keeps of a fact what later jobs need, before the phase changes; a new run forgets the one
    /// before.
    fn keep(&mut self, event: Event) {
        match event {
            Event::MigrationAdmitted(admitted) => {
                self.run = admitted.run;
                self.frozen = None;
                self.dump = None;
                self.opened = None;
                self.destination_shut = false;
                self.switched = None;
                self.published = None;
                self.rollback = Rollback::default();
                self.failure = None;
            }
            Event::SourceFrozen(frozen) => self.frozen = Some(frozen),
            Event::DumpStored(dump) => self.dump = Some(dump),
            Event::DestinationOpened(opened) => self.opened = Some(opened),
            Event::DestinationClosed(_) | Event::DestinationDropped(_) => {
                self.destination_shut = true;
            }
            Event::DnsSwitched(switched) => self.switched = Some(switched),
            // The service that switched may have died before its event: what a revert put back
            // had been switched, and the copy may hold the customer's writes.
            Event::DnsReverted(reverted) => {
                if !reverted.changes.is_empty() {
                    self.switched.get_or_insert_default();
                }
            }
            Event::DumpPublished(published) => self.published = Some(published),
            Event::StepFailed(failed) => {
                if failed.next_attempt_at_unix_ms == 0 {
                    self.rollback.refused |= was_written(&failed);
                    self.failure = Some(failed);
                }
            }
            Event::MigrationDeferred(deferred) => self.deferred = Some(deferred),
            Event::RetryRequested(_) => self.deferred = None,
            Event::BringBackRequested(requested) => self.brought_back = Some(requested),
            Event::RollbackRequested(requested) => {
                self.rollback = Rollback {
                    discard_writes: requested.discard_writes,
                    was_complete: self.rollback.was_complete || is_complete(&self.phase),
                    refused: false,
                };
            }
            Event::MigrationPlanned(_)
            | Event::ImportCompleted(_)
            | Event::CopyVerified(_)
            | Event::SourceDisarmed(_)
            | Event::SourceRetired(_)
            | Event::CustomerNotified(_)
            | Event::MigrationCompleted(_)
            | Event::DumpExpired(_)
            | Event::MigrationParked(_)
            | Event::MigrationChecked(_)
            | Event::MigrationRecalled(_)
            | Event::MigrationRehearsed(_)
            | Event::MigrationRolledBack(_)
            | Event::SourceThawed(_) => {}
        }
    }

    fn not_allowed(&self, what: &'static str) -> NotAllowed {
        NotAllowed { what, phase: self.name().to_owned() }
    }
}
