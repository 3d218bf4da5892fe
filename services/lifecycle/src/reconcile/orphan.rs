//! What a ledger shows and no migration answers for.

use super::shown::place_of;
use crate::{At, Forward, Migration, Phase, ledger::State};

/// What stands out of its customer's reach, or copied, without a migration that is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Orphan {
    /// A source that is frozen or retired.
    Frozen,
    /// A copy that nobody waits for.
    Copy,
    /// Nothing at all, where the log says that there is something.
    EffectMissing,
}

/// What a ledger shows that the log explains by nothing; `state` is none where it has no row.
pub fn orphan(log: &Migration, is_source: bool, state: Option<State>) -> Option<Orphan> {
    let waits = matches!(log.phase, Phase::Planned { .. } | Phase::Held { .. });
    let at_rest = waits || log.phase.is_undone();
    let reached = match &log.phase {
        Phase::Doing(step, _) | Phase::Parked { at: At::Forward(step), undone: false } => {
            place_of(*step)
        }
        Phase::Completed(_) | Phase::ExpiryFailed => place_of(Forward::Expire),
        Phase::Planned { .. }
        | Phase::Held { .. }
        | Phase::Undoing(..)
        | Phase::Rehearsing(..)
        | Phase::Settling(_)
        | Phase::Parked { .. }
        | Phase::RolledBack
        | Phase::Rehearsed
        | Phase::Expired => 0,
    };
    let needed = place_of(if is_source { Forward::Freeze } else { Forward::Import });
    match state {
        None => (reached > needed).then_some(Orphan::EffectMissing),
        Some(
            State::Freezing
            | State::Frozen
            | State::Disarmed
            | State::Lapsing
            | State::Retiring
            | State::Retired
            | State::Aside,
        ) => at_rest.then_some(Orphan::Frozen),
        // A copy that was switched to is kept, closed, by a rollback.
        Some(State::Importing | State::Imported | State::Opening | State::Open) => {
            at_rest.then_some(Orphan::Copy)
        }
        Some(State::Thawing | State::Thawed) => (reached > needed).then_some(Orphan::EffectMissing),
        Some(State::Lapsed | State::Closing | State::Closed | State::Dropping | State::Dropped) => {
            None
        }
    }
}
