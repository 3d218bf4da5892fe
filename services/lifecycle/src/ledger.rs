//! The rules of the servers' ledgers: which order may do what, given the row that is there.
//!
//! The event log decides what is to be done; the ledger, at the server itself, decides whether it
//! may still be done. It is what holds when an order comes late, twice or out of order, when two
//! instances do the same, and when the log has lost its end:
//!
//! 1. An order below the row's revision does nothing ([`fence`]). Every order that is allowed
//!    raises the row's revision, also where it finds nothing to do.
//! 2. The destination opens only a copy that was imported; one that was closed is imported anew.
//! 3. The source thaws itself at its deadline unless it was disarmed, and it is disarmed before the
//!    destination opens. So after the disarming, the destination may be open: then a thaw is
//!    refused unless its order knows that the destination was shut ([`Asked::destination_shut`]).
//!    A log that has lost its end does not know that, and thaws nothing.
//! 4. A copy that may be open is never dropped or replaced.
//! 5. A rehearsal leaves its source as it is, and lets nobody in: an order for it that would do else
//!    is refused.
//! 6. A source that was set aside for the migration that brings this one back takes no order of this
//!    one: only a history that has lost its end gives one.

mod destination;
mod source;

/// Which end of the move a row is about: one server may be both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// The database comes from here.
    Source,
    /// The database goes here.
    Destination,
}

impl Side {
    /// The word in the ledger.
    pub fn name(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Destination => "destination",
        }
    }
}

macro_rules! states {
    ($($(#[$doc:meta])* $name:ident $text:literal,)*) => {
        /// What was begun or done here for a migration. `…ing`: the intent is written, the change
        /// may have happened in part.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum State {
            $($(#[$doc])* $name,)*
        }

        impl State {
            /// The word in the ledger.
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// The state of this word; none for one of a newer version.
            pub fn read(text: &str) -> Option<Self> {
                match text { $($text => Some(Self::$name),)* _ => None }
            }
        }
    };
}

states! {
    /// Source: the customer's writes are being taken away.
    Freezing "freezing",
    /// Source: no write has been possible since the consistency point.
    Frozen "frozen",
    /// Source: frozen, and it no longer thaws itself; the destination may be open.
    Disarmed "disarmed",
    /// Source: it has begun to thaw itself.
    Lapsing "lapsing",
    /// Source: it has thawed itself.
    Lapsed "lapsed",
    /// Source: what was taken away is being put back.
    Thawing "thawing",
    /// Source: as it was; or nothing was done, and a late freeze is refused.
    Thawed "thawed",
    /// Source: read access is being taken away too.
    Retiring "retiring",
    /// Source: out of the customer's reach.
    Retired "retired",
    /// Source: retired, and set aside under another name for the migration that brings this one
    /// back. Nothing of this one may be done here any more.
    Aside "aside",
    /// Destination: the copy is being loaded.
    Importing "importing",
    /// Destination: the copy is there, out of the customer's reach.
    Imported "imported",
    /// Destination: accounts and grants are being made.
    Opening "opening",
    /// Destination: the customer reads and writes.
    Open "open",
    /// Destination: accounts and grants are being taken away.
    Closing "closing",
    /// Destination: the copy is there, out of the customer's reach again; or nothing was there,
    /// and a late import or open is refused.
    Closed "closed",
    /// Destination: the copy is being dropped.
    Dropping "dropping",
    /// Destination: nothing of this migration is here, and a late import is refused.
    Dropped "dropped",
}

/// What of a ledger's row the rules look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Row {
    /// What was begun or done last.
    pub state: State,
    /// The highest revision that acted here.
    pub revision: u64,
    /// The run that acted last.
    pub run: u32,
}

/// What of an order the rules look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Asked {
    /// The revision of the migration's history on which it was decided.
    pub revision: u64,
    /// The migration's run.
    pub run: u32,
    /// The history says that the destination was closed, or its copy dropped, in this run.
    pub destination_shut: bool,
    /// It is for a rehearsal.
    pub rehearsal: bool,
}

/// What is ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Act {
    /// Take the customer's writes away.
    Freeze,
    /// Read the frozen source; in a rehearsal, the source as it is. Changes nothing, and needs no lock.
    Dump,
    /// Keep the source from thawing itself.
    Disarm,
    /// Take the customer's reading away too.
    Retire,
    /// Put back what was taken away.
    Thaw,
    /// Load the copy.
    Import,
    /// Compare the copy.
    Verify,
    /// Let the customer in.
    Open,
    /// Let the customer in again, whom a rollback that was refused had kept out.
    Reopen,
    /// Keep the customer out.
    Close,
    /// Drop the copy.
    Drop,
}

/// What an order that is allowed does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Move {
    /// All of it, from the beginning.
    Begin,
    /// What is left of it, with what an earlier attempt has recorded.
    GoOn,
    /// Nothing: it was done, and what it found then is answered again. The revision is raised.
    Again,
    /// Nothing: there is nothing to do it to. The revision is raised, so that what comes too late
    /// is refused.
    Rest,
}

/// Why an order is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// The ledger is ahead of the order, or holds something else than the order counts on.
    Outdated,
    /// The source is not frozen by this run.
    NotFrozen,
    /// The source has thawed itself.
    Lapsed,
    /// The source has been frozen for too long; it thaws itself at any moment.
    TooLate,
    /// The source may still thaw itself.
    NotDisarmed,
    /// The destination may be open, and the order does not know that it was shut.
    DestinationUnknown,
    /// It is for a rehearsal, which does nothing of the kind.
    Rehearsal,
}

/// Whether an order is not below what the ledger has seen.
///
/// # Errors
/// [`Refusal::Outdated`] when it is.
pub fn fence(row: Option<Row>, asked: Asked) -> Result<(), Refusal> {
    match row {
        Some(row) if row.revision > asked.revision => Err(Refusal::Outdated),
        Some(_) | None => Ok(()),
    }
}

/// Whether the source may still be disarmed: not when it is about to thaw itself.
///
/// # Errors
/// [`Refusal::TooLate`] from its deadline on, both by the source's clock.
pub fn in_time(thaw_at_unix_ms: i64, now_unix_ms: i64) -> Result<(), Refusal> {
    if now_unix_ms < thaw_at_unix_ms { Ok(()) } else { Err(Refusal::TooLate) }
}

/// What an order does that has passed the [`fence`].
///
/// # Errors
/// Why it may do nothing.
pub fn permit(act: Act, row: Option<Row>, asked: Asked) -> Result<Move, Refusal> {
    if asked.rehearsal {
        return rehearse(act, row, asked);
    }
    match act {
        Act::Freeze => source::freeze(row, asked),
        Act::Dump => source::dump(row),
        Act::Disarm => source::disarm(row, asked),
        Act::Retire => source::retire(row),
        Act::Thaw => source::thaw(row, asked),
        Act::Import => destination::import(row, asked),
        Act::Verify => destination::verify(row),
        Act::Open => destination::open(row),
        Act::Reopen => destination::reopen(row),
        Act::Close => destination::close(row),
        Act::Drop => destination::drop(row),
    }
}

/// What the watchdog at the source does when its time has come.
pub fn watchdog(state: State) -> Option<Move> {
    match state {
        State::Freezing | State::Frozen => Some(Move::Begin),
        State::Lapsing => Some(Move::GoOn),
        State::Disarmed
        | State::Lapsed
        | State::Thawing
        | State::Thawed
        | State::Retiring
        | State::Retired
        | State::Aside
        | State::Importing
        | State::Imported
        | State::Opening
        | State::Open
        | State::Closing
        | State::Closed
        | State::Dropping
        | State::Dropped => None,
    }
}

fn rehearse(act: Act, row: Option<Row>, asked: Asked) -> Result<Move, Refusal> {
    match act {
        // Nothing was ever done there for it.
        Act::Dump => row.map_or(Ok(Move::Begin), |_| Err(Refusal::Outdated)),
        Act::Import => destination::import(row, asked),
        Act::Verify => destination::verify(row),
        Act::Drop => destination::drop(row),
        Act::Freeze | Act::Disarm | Act::Retire | Act::Thaw => Err(Refusal::Rehearsal),
        Act::Open | Act::Reopen | Act::Close => Err(Refusal::Rehearsal),
    }
}
