//! A migration's state, small while it rests.
//!
//! A campaign has some hundreds of migrations in flight, and hundreds of thousands that wait for
//! their turn or have completed. Those lie packed: beside what is asked of all of them, what the
//! lifecycle keeps is encoded, and pressed by the campaign's own dictionary ([`Press`]). Of what has
//! completed that is all that a rollback or its dump's end needs.

use std::borrow::Cow;

use drover_lifecycle::{Fact, Migration, NotAllowed, Phase, Rollback, Wait};
use drover_schemas::v1::{
    DestinationOpened, DnsSwitched, DumpPublished, DumpStored, MigrationPlanned, SourceFrozen,
};
use prost::Message as _;

use crate::press::{Press, Pressed};

/// The state of one migration.
#[derive(Debug)]
pub(crate) enum State {
    /// On its way, or stopped by a failure.
    Awake(Box<Migration>),
    /// Waiting for its first turn, or completed.
    Asleep(Packed),
}

/// A state at rest.
#[derive(Debug)]
pub(crate) struct Packed {
    revision: u64,
    phase: Phase,
    kept: Pressed,
}

/// What is kept of a migration at rest. It lives in this process alone, so its numbers may change.
#[derive(Clone, PartialEq, prost::Message)]
struct Kept {
    #[prost(int64, tag = "1")]
    at_unix_ms: i64,
    #[prost(uint32, tag = "2")]
    run: u32,
    #[prost(bool, tag = "3")]
    destination_shut: bool,
    #[prost(bool, tag = "4")]
    discard_writes: bool,
    #[prost(bool, tag = "5")]
    was_complete: bool,
    #[prost(bool, tag = "6")]
    refused: bool,
    #[prost(message, optional, tag = "7")]
    planned: Option<MigrationPlanned>,
    #[prost(message, optional, tag = "8")]
    frozen: Option<SourceFrozen>,
    #[prost(message, optional, tag = "9")]
    dump: Option<DumpStored>,
    #[prost(message, optional, tag = "10")]
    opened: Option<DestinationOpened>,
    #[prost(message, optional, tag = "11")]
    switched: Option<DnsSwitched>,
    #[prost(message, optional, tag = "12")]
    published: Option<DumpPublished>,
}

impl State {
    /// Of a migration: packed where it rests.
    pub(crate) fn of(migration: Migration, press: &mut Press) -> Self {
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
            rollback: Rollback { discard_writes, was_complete, refused },
            brought_back: _,
            failure: _,
            deferred: _,
        } = migration;
        let kept = Kept {
            at_unix_ms,
            run,
            destination_shut,
            discard_writes,
            was_complete,
            refused,
            planned: Some(planned),
            frozen,
            dump,
            opened,
            switched,
            published,
        };
        Self::Asleep(Packed { revision, phase, kept: press.press(kept.encode_to_vec()) })
    }

    /// Folds a fact into it.
    ///
    /// # Errors
    /// When it is not allowed here; nothing has changed then.
    pub(crate) fn evolve(&mut self, fact: Fact, press: &mut Press) -> Result<(), NotAllowed> {
        match self {
            Self::Awake(migration) => {
                migration.evolve(fact)?;
                if rests(migration) {
                    *self = Self::of(migration.as_ref().clone(), press);
                }
            }
            Self::Asleep(packed) => {
                let mut migration = packed.unpack();
                migration.evolve(fact)?;
                *self = Self::of(migration, press);
            }
        }
        Ok(())
    }

    /// The migration.
    pub(crate) fn migration(&self) -> Cow<'_, Migration> {
        match self {
            Self::Awake(migration) => Cow::Borrowed(migration),
            Self::Asleep(packed) => Cow::Owned(packed.unpack()),
        }
    }

    /// The sequence of its last fact.
    pub(crate) fn revision(&self) -> u64 {
        match self {
            Self::Awake(migration) => migration.revision,
            Self::Asleep(packed) => packed.revision,
        }
    }

    /// Where it stands.
    pub(crate) fn phase(&self) -> &Phase {
        match self {
            Self::Awake(migration) => &migration.phase,
            Self::Asleep(packed) => &packed.phase,
        }
    }

    /// Whether it rests, and waits for a job beyond this time: nothing is to be done, nor unpacked.
    pub(crate) fn is_asleep_after(&self, unix_ms: i64) -> bool {
        let waits = |wait| matches!(wait, Wait::Job { not_before_unix_ms, .. } if not_before_unix_ms > unix_ms);
        match self {
            Self::Awake(_) => false,
            Self::Asleep(packed) => waits(packed.phase.wait()),
        }
    }

    /// Until when the destination has to be open, in ms since 1970: nobody waits for what rests.
    pub(crate) fn deadline_unix_ms(&self) -> Option<i64> {
        match self {
            Self::Awake(migration) => migration.deadline_unix_ms(),
            Self::Asleep(_) => None,
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
        // It was encoded and pressed above, so it comes back; an empty row would be refused by every
        // service.
        let kept = self.kept.plain().unwrap_or_default();
        let kept = Kept::decode(&*kept).unwrap_or_default();
        let Kept { discard_writes, was_complete, refused, .. } = kept;
        Migration {
            revision: self.revision,
            at_unix_ms: kept.at_unix_ms,
            phase: self.phase,
            run: kept.run,
            planned: kept.planned.unwrap_or_default(),
            frozen: kept.frozen,
            dump: kept.dump,
            opened: kept.opened,
            destination_shut: kept.destination_shut,
            switched: kept.switched,
            published: kept.published,
            rollback: Rollback { discard_writes, was_complete, refused },
            brought_back: None,
            failure: None,
            deferred: None,
        }
    }
}

#[cfg(test)]
mod tests;
