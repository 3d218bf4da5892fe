//! The rules of the zone's own ledger: what an order may do to a host name, given the mark that
//! this migration has left there. What the records must hold beside that is the DNS service's.

use crate::ledger::{Move, Refusal};

/// Where this migration last pointed the host name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Pointed {
    /// To the destination.
    Switched,
    /// Back to where it had pointed.
    Reverted,
}

/// What of a mark the rules look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Mark {
    /// What was done last.
    pub pointed: Pointed,
    /// The highest revision that acted here.
    pub revision: u64,
}

/// What an order of this revision does, which is to point the host name there.
///
/// # Errors
/// [`Refusal::Outdated`] below the mark's revision; and for a switch of the very revision that was
/// reverted: the history was told twice, and it goes not forward from there.
pub fn permit(to: Pointed, mark: Option<Mark>, revision: u64) -> Result<Move, Refusal> {
    let Some(mark) = mark else { return Ok(Move::Begin) };
    if mark.revision > revision {
        return Err(Refusal::Outdated);
    }
    match (to, mark.pointed) {
        (Pointed::Switched, Pointed::Switched) | (Pointed::Reverted, Pointed::Reverted) => {
            Ok(Move::Again)
        }
        (Pointed::Switched, Pointed::Reverted) if mark.revision == revision => {
            Err(Refusal::Outdated)
        }
        (Pointed::Switched, Pointed::Reverted) => Ok(Move::Begin),
        (Pointed::Reverted, Pointed::Switched) => Ok(Move::GoOn),
    }
}
