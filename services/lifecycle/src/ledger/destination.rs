//! The orders of a destination.

use super::{Asked, Move, Refusal, Row, State};

pub(super) fn import(row: Option<Row>, asked: Asked) -> Result<Move, Refusal> {
    let Some(row) = row else { return Ok(Move::Begin) };
    let same_order = row.revision == asked.revision;
    match row.state {
        State::Imported if same_order => Ok(Move::Again),
        // An undo of the very same revision: the history was told twice. Not forward from there.
        State::Closed | State::Dropping | State::Dropped if same_order => Err(Refusal::Outdated),
        State::Importing | State::Imported | State::Closed | State::Dropping | State::Dropped => {
            Ok(Move::Begin)
        }
        State::Opening
        | State::Open
        | State::Closing
        | State::Freezing
        | State::Frozen
        | State::Disarmed
        | State::Lapsing
        | State::Lapsed
        | State::Thawing
        | State::Thawed
        | State::Retiring
        | State::Retired
        | State::Aside => Err(Refusal::Outdated),
    }
}

pub(super) fn verify(row: Option<Row>) -> Result<Move, Refusal> {
    match row.map(|row| row.state) {
        Some(State::Imported) => Ok(Move::Begin),
        None
        | Some(
            State::Freezing
            | State::Frozen
            | State::Disarmed
            | State::Lapsing
            | State::Lapsed
            | State::Thawing
            | State::Thawed
            | State::Retiring
            | State::Retired
            | State::Aside
            | State::Importing
            | State::Opening
            | State::Open
            | State::Closing
            | State::Closed
            | State::Dropping
            | State::Dropped,
        ) => Err(Refusal::Outdated),
    }
}

pub(super) fn open(row: Option<Row>) -> Result<Move, Refusal> {
    match row.map(|row| row.state) {
        Some(State::Imported) => Ok(Move::Begin),
        Some(State::Opening) => Ok(Move::GoOn),
        Some(State::Open) => Ok(Move::Again),
        None
        | Some(
            State::Freezing
            | State::Frozen
            | State::Disarmed
            | State::Lapsing
            | State::Lapsed
            | State::Thawing
            | State::Thawed
            | State::Retiring
            | State::Retired
            | State::Aside
            | State::Importing
            | State::Closing
            | State::Closed
            | State::Dropping
            | State::Dropped,
        ) => Err(Refusal::Outdated),
    }
}

pub(super) fn reopen(row: Option<Row>) -> Result<Move, Refusal> {
    match row.map(|row| row.state) {
        Some(State::Opening | State::Closing) => Ok(Move::GoOn),
        Some(State::Open) => Ok(Move::Again),
        None
        | Some(
            State::Freezing
            | State::Frozen
            | State::Disarmed
            | State::Lapsing
            | State::Lapsed
            | State::Thawing
            | State::Thawed
            | State::Retiring
            | State::Retired
            | State::Aside
            | State::Importing
            | State::Imported
            | State::Closed
            | State::Dropping
            | State::Dropped,
        ) => Err(Refusal::Outdated),
    }
}

pub(super) fn close(row: Option<Row>) -> Result<Move, Refusal> {
    match row.map(|row| row.state) {
        Some(State::Opening | State::Open | State::Closing) => Ok(Move::GoOn),
        Some(State::Closed) => Ok(Move::Again),
        // Never opened; what is here stays known, and is dropped by an order of its own.
        None | Some(State::Importing | State::Imported | State::Dropping | State::Dropped) => {
            Ok(Move::Rest)
        }
        Some(
            State::Freezing
            | State::Frozen
            | State::Disarmed
            | State::Lapsing
            | State::Lapsed
            | State::Thawing
            | State::Thawed
            | State::Retiring
            | State::Retired
            | State::Aside,
        ) => Err(Refusal::Outdated),
    }
}

pub(super) fn drop(row: Option<Row>) -> Result<Move, Refusal> {
    match row.map(|row| row.state) {
        None
        | Some(
            State::Importing | State::Imported | State::Closed | State::Dropping | State::Dropped,
        ) => Ok(Move::GoOn),
        Some(
            State::Opening
            | State::Open
            | State::Closing
            | State::Freezing
            | State::Frozen
            | State::Disarmed
            | State::Lapsing
            | State::Lapsed
            | State::Thawing
            | State::Thawed
            | State::Retiring
            | State::Retired
            | State::Aside,
        ) => Err(Refusal::Outdated),
    }
}
