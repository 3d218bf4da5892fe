//! A migration's state, small while it rests.
//!
//! A campaign has some hundreds of migrations in flight, and hundreds of thousands that wait for
//! their turn or have completed. Those lie packed: what the lifecycle keeps of them is encoded as
//! the order that would carry it, a few hundred bytes in one piece.

use std::borrow::Cow;

use drover_lifecycle::{Fact, Migration, NotAllowed, Phase, Rollback, Wait};
use drover_schemas::v1::Job;
use prost::Message as _;

/// The state of one migration.
#[derive(Debug)]
pub enum State {
    /// On its way, or stopped by a failure.
    Awake(Box<Migration>),
    /// Waiting for its first turn, or completed.
    Asleep(Packed),
}

/// A state at rest.
#[derive(Debug)]
pub struct Packed {
    revision: u64,
    at_unix_ms: i64,
    phase: Phase,
    run: u32,
    destination_shut: bool,
    rollback: Rollback,
    kept: Box<[u8]>,
}

impl State {
    /// Of a migration: packed where it rests.
    pub fn of(migration: Migration) -> Self {
        if !rests(&migration) {
            return Self::Awake(Box::new(migration));
        }
        let Migration {
            revision,
            at_unix_ms,
            phase,
            run,
            planned,
            frozen,
            dump,
            opened,
            destination_shut,
            switched,
            published,
            rollback,
            brought_back: _,
            failure: _,
            deferred: _,
        } = migration;
        let kept = Job {
            planned: Some(planned),
            frozen,
            dump,
            opened,
            switched,
            published,
            ..Job::default()
        };
        let kept = kept.encode_to_vec().into_boxed_slice();
        Self::Asleep(Packed { revision, at_unix_ms, phase, run, destination_shut, rollback, kept })
    }

    /// Folds a fact into it.
    ///
    /// # Errors
    /// When it is not allowed here; nothing has changed then.
    pub fn evolve(&mut self, fact: Fact) -> Result<(), NotAllowed> {
        match self {
            Self::Awake(migration) => {
                migration.evolve(fact)?;
                if rests(migration) {
                    *self = Self::of(migration.as_ref().clone());
                }
            }
            Self::Asleep(packed) => {
                let mut migration = packed.unpack();
                migration.evolve(fact)?;
                *self = Self::of(migration);
            }
        }
        Ok(())
    }

    /// The migration.
    pub fn migration(&self) -> Cow<'_, Migration> {
        match self {
            Self::Awake(migration) => Cow::Borrowed(migration),
            Self::Asleep(packed) => Cow::Owned(packed.unpack()),
        }
    }

    /// The sequence of its last fact.
    pub fn revision(&self) -> u64 {
        match self {
            Self::Awake(migration) => migration.revision,
            Self::Asleep(packed) => packed.revision,
        }
    }

    /// What it waits for.
    pub fn wait(&self) -> Wait {
        match self {
            Self::Awake(migration) => migration.wait(),
            Self::Asleep(packed) => packed.phase.wait(),
        }
    }
}

/// Whether nothing is done with it for a while, and nothing but what is packed is kept of it.
fn rests(migration: &Migration) -> bool {
    let waits = match migration.phase {
        Phase::Planned { .. }
        | Phase::Held { .. }
        | Phase::Rehearsed
        | Phase::Completed(_)
        | Phase::Expired => true,
        Phase::Doing(..)
        | Phase::Undoing(..)
        | Phase::Rehearsing(..)
        | Phase::Settling(_)
        | Phase::Parked { .. }
        | Phase::RolledBack
        | Phase::ExpiryFailed => false,
    };
    let plain = migration.failure.is_none() && migration.deferred.is_none();
    waits && plain && migration.brought_back.is_none()
}

impl Packed {
    fn unpack(&self) -> Migration {
        // It was encoded above, so it decodes; an empty row would be refused by every service.
        let kept = Job::decode(&*self.kept).unwrap_or_default();
        Migration {
            revision: self.revision,
            at_unix_ms: self.at_unix_ms,
            phase: self.phase,
            run: self.run,
            planned: kept.planned.unwrap_or_default(),
            frozen: kept.frozen,
            dump: kept.dump,
            opened: kept.opened,
            destination_shut: self.destination_shut,
            switched: kept.switched,
            published: kept.published,
            rollback: self.rollback,
            brought_back: None,
            failure: None,
            deferred: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use drover_lifecycle::Attempt;
    use drover_schemas::v1::{
        DumpPublished, DumpStored, MigrationPlanned, SourceFrozen, migration_event::Event,
    };

    use super::*;

    #[test]
    fn a_state_that_rests_is_small_and_comes_back_as_it_was() {
        let planned = MigrationPlanned {
            database: "site_wp".into(),
            source: "a".into(),
            destination: "b".into(),
            host_names: vec!["www.example.net".into()],
            ..Default::default()
        };
        let event = Event::MigrationPlanned(planned);
        let planned = Migration::begin(Fact { revision: 7, at_unix_ms: 9, event }).unwrap();
        let attempt = Attempt { number: 1, not_before_unix_ms: 99 };
        let completed = Migration {
            phase: Phase::Completed(attempt),
            run: 2,
            frozen: Some(SourceFrozen { accounts: 1, ..Default::default() }),
            dump: Some(DumpStored { rows: 5, ..Default::default() }),
            published: Some(DumpPublished { expires_at_unix_ms: 99, ..Default::default() }),
            destination_shut: true,
            rollback: Rollback { was_complete: true, ..Rollback::default() },
            ..planned.clone()
        };
        for migration in [planned, completed] {
            let state = State::of(migration.clone());
            assert!(matches!(state, State::Asleep(_)));
            assert_eq!(*state.migration(), migration);
            assert_eq!((state.wait(), state.revision()), (migration.wait(), 7));
        }
        assert!(size_of::<State>() <= 96, "{}", size_of::<State>());
    }
}
