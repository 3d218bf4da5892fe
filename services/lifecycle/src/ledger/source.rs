//! The orders of a source.

use super::{Asked, Move, Refusal, Row, State};

pub(super) fn freeze(row: Option<Row>, asked: Asked) -> Result<Move, Refusal> {
    let Some(row) = row else { return Ok(Move::Begin) };
    match row.state {
        State::Freezing => Ok(Move::GoOn),
        State::Frozen => Ok(Move::Again),
        State::Thawed if row.revision < asked.revision => Ok(Move::Begin),
        State::Lapsed if row.run < asked.run => Ok(Move::Begin),
        State::Lapsing | State::Lapsed => Err(Refusal::Lapsed),
        State::Disarmed
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
        | State::Dropped => Err(Refusal::Outdated),
    }
}

pub(super) fn dump(row: Option<Row>) -> Result<Move, Refusal> {
    let Some(row) = row else { return Err(Refusal::NotFrozen) };
    match row.state {
        State::Frozen => Ok(Move::Begin),
        State::Lapsing | State::Lapsed => Err(Refusal::Lapsed),
        // Later steps were done: the order is of a history that has lost its end.
        State::Disarmed | State::Retiring | State::Retired | State::Aside => Err(Refusal::Outdated),
        State::Freezing
        | State::Thawing
        | State::Thawed
        | State::Importing
        | State::Imported
        | State::Opening
        | State::Open
        | State::Closing
        | State::Closed
        | State::Dropping
        | State::Dropped => Err(Refusal::NotFrozen),
    }
}

pub(super) fn disarm(row: Option<Row>, asked: Asked) -> Result<Move, Refusal> {
    let Some(row) = row else { return Err(Refusal::NotFrozen) };
    match row.state {
        State::Frozen if row.run == asked.run => Ok(Move::Begin),
        State::Disarmed if row.run == asked.run => Ok(Move::Again),
        State::Lapsing | State::Lapsed => Err(Refusal::Lapsed),
        State::Freezing
        | State::Frozen
        | State::Disarmed
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
        | State::Dropped => Err(Refusal::NotFrozen),
    }
}

pub(super) fn retire(row: Option<Row>) -> Result<Move, Refusal> {
    let Some(row) = row else { return Err(Refusal::NotFrozen) };
    match row.state {
        State::Disarmed => Ok(Move::Begin),
        State::Retiring => Ok(Move::GoOn),
        State::Retired => Ok(Move::Again),
        State::Aside => Err(Refusal::Outdated),
        State::Frozen => Err(Refusal::NotDisarmed),
        State::Lapsing | State::Lapsed => Err(Refusal::Lapsed),
        State::Freezing
        | State::Thawing
        | State::Thawed
        | State::Importing
        | State::Imported
        | State::Opening
        | State::Open
        | State::Closing
        | State::Closed
        | State::Dropping
        | State::Dropped => Err(Refusal::NotFrozen),
    }
}

pub(super) fn thaw(row: Option<Row>, asked: Asked) -> Result<Move, Refusal> {
    let Some(row) = row else { return Ok(Move::Rest) };
    match row.state {
        State::Freezing | State::Frozen | State::Lapsing | State::Thawing => Ok(Move::GoOn),
        State::Disarmed | State::Retiring | State::Retired if asked.destination_shut => {
            Ok(Move::GoOn)
        }
        State::Disarmed | State::Retiring | State::Retired => Err(Refusal::DestinationUnknown),
        State::Thawed | State::Lapsed => Ok(Move::Again),
        State::Aside
        | State::Importing
        | State::Imported
        | State::Opening
        | State::Open
        | State::Closing
        | State::Closed
        | State::Dropping
        | State::Dropped => Err(Refusal::Outdated),
    }
}
