//! The rehearsal of a migration: dump, import, verify, and all of it away again.
//!
//! A rehearsal is a migration of a campaign of its own ([`CampaignName::rehearsal`]), with an id of
//! its own, so that its copy bears another mark than the migration's that it rehearses. Its steps
//! are these and no others: there is none that freezes, opens, switches or retires, and the servers'
//! ledgers refuse such an order for it ([`ledger::permit`](crate::ledger::permit)).
//!
//! However it ends, the copy is dropped and the dump deleted: also when nothing was imported yet, as
//! that makes the ledger refuse an import that comes late, and when no dump is known, as the service may
//! have died in the middle of one.
//!
//! [`CampaignName::rehearsal`]: drover_schemas::CampaignName::rehearsal

use drover_schemas::v1::{Step, StepFailed, migration_event::Event};

use crate::{
    after::log_is_behind,
    phase::{At, Attempt, Phase, Settlement},
};

/// A step of a rehearsal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rehearsal {
    /// A snapshot of the source, which goes on being written to, is stored.
    Dump,
    /// The dump is loaded at the destination, where no customer can reach it.
    Import,
    /// The copy is compared with what was dumped.
    Verify,
    /// The copy is dropped, whether or not there is one.
    Drop(Ending),
    /// What is in the store is deleted, whether or not there is something.
    Sweep(Ending),
}

/// How a rehearsal ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ending {
    /// The copy was what was dumped.
    Rehearsed,
    /// A step failed for good.
    Park,
    /// A pause calls back what is under way: to be tried again after it.
    Recall,
    /// A person said so.
    RollBack,
}

impl Ending {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Rehearsed, Self::Park, Self::Recall, Self::RollBack];

    fn settled(self, last: Rehearsal) -> Phase {
        Phase::Settling(match self {
            Self::Rehearsed => Settlement::Rehearse,
            Self::Park => Settlement::Park { at: At::Rehearsal(last), undone: true },
            Self::Recall => Settlement::Recall,
            Self::RollBack => Settlement::RollBack,
        })
    }
}

impl Rehearsal {
    /// Its name in messages.
    pub fn step(self) -> Step {
        match self {
            Self::Dump => Step::Dump,
            Self::Import => Step::Import,
            Self::Verify => Step::Verify,
            Self::Drop(_) => Step::Drop,
            Self::Sweep(_) => Step::Expire,
        }
    }

    /// Whether it takes up a slot.
    pub(crate) fn holds_slot(self) -> bool {
        match self {
            Self::Dump | Self::Import | Self::Verify | Self::Drop(_) => true,
            Self::Sweep(_) => false,
        }
    }

    /// Where this fact leads, when it ends this step.
    pub(crate) fn after(self, event: &Event) -> Option<Phase> {
        let then = match (self, event) {
            (Self::Dump, Event::DumpStored(_)) => Self::Import,
            (Self::Import, Event::ImportCompleted(_)) => Self::Verify,
            (Self::Verify, Event::CopyVerified(_)) => Self::Drop(Ending::Rehearsed),
            (Self::Drop(ending), Event::DestinationDropped(_)) => Self::Sweep(ending),
            (Self::Sweep(ending), Event::DumpExpired(_)) => return Some(ending.settled(self)),
            (Self::Dump | Self::Import | Self::Verify | Self::Drop(_) | Self::Sweep(_), _) => {
                return None;
            }
        };
        Some(then.begun())
    }

    pub(crate) fn begun(self) -> Phase {
        Phase::Rehearsing(self, Attempt::FIRST)
    }

    /// Where a failure for good leads.
    pub(crate) fn after_failure(self, failed: &StepFailed) -> Phase {
        match self.back(Ending::Park) {
            Some(phase) if !log_is_behind(failed) => phase,
            Some(_) | None => {
                Phase::Settling(Settlement::Park { at: At::Rehearsal(self), undone: false })
            }
        }
    }

    /// Where it leads to break off for this ending; none when it goes back already.
    pub(crate) fn back(self, ending: Ending) -> Option<Phase> {
        match self {
            Self::Dump | Self::Import | Self::Verify => Some(Self::Drop(ending).begun()),
            Self::Drop(_) | Self::Sweep(_) => None,
        }
    }

    /// Where a person's word to take it back leads; none when that was said already.
    pub(crate) fn rolled_back(self, attempt: Attempt) -> Option<Phase> {
        let ending = Ending::RollBack;
        match self {
            Self::Dump | Self::Import | Self::Verify => self.back(ending),
            Self::Drop(Ending::RollBack) | Self::Sweep(Ending::RollBack) => None,
            Self::Drop(_) => Some(Phase::Rehearsing(Self::Drop(ending), attempt)),
            Self::Sweep(_) => Some(Phase::Rehearsing(Self::Sweep(ending), attempt)),
        }
    }
}
