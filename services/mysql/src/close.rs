//! Close: the customer is out of the destination again, and nothing of theirs runs there.
//!
//! What is taken away is what is there now, not what the opening gave: the customer may have
//! granted more. Accounts go when Drover made them and no other database needs them.

use std::time::Duration;

use drover_lifecycle::ledger::{Act, Move};
use drover_schemas::{Code, v1};

use crate::{
    Error, Order, Server,
    accounts::release,
    events::enabled_events,
    freeze::read,
    ident::ident,
    ledger::{Locked, Side, State},
    privileges,
    sessions::{self, Whose},
    takeaway::{Leave, Undo},
};

/// How often privileges that were granted while others were taken away are taken away as well.
const ROUNDS_MAX: u32 = 5;

/// How many statements go to the server at once.
const STATEMENTS_AT_ONCE: usize = 100;

/// Puts the customer out. Where nothing was opened, the order's revision in the ledger refuses an
/// opening that comes late.
pub async fn close(server: &Server, order: &Order) -> Result<v1::DestinationClosed, Error> {
    let mut locked = Locked::take(server, order, Side::Destination).await?;
    let result = close_locked(&mut locked).await;
    crate::finish(locked, result).await
}

async fn close_locked(locked: &mut Locked) -> Result<v1::DestinationClosed, Error> {
    match (locked.permit(Act::Close)?, locked.state()) {
        (Move::Begin | Move::GoOn, _) => {}
        (Move::Again, _) => {
            let accounts: u32 = locked.facts()?.unwrap_or_default();
            locked.write(State::Closed, &accounts).await?;
            return Ok(v1::DestinationClosed { accounts });
        }
        (Move::Rest, None) => {
            locked.write_clean(State::Closed, &0_u32).await?;
            return Ok(v1::DestinationClosed { accounts: 0 });
        }
        (Move::Rest, Some(state)) => {
            locked.touch(state).await?;
            return Ok(v1::DestinationClosed { accounts: 0 });
        }
    }
    locked.touch(State::Closing).await?;
    let database = locked.order().database.clone();
    let users = take_away(locked, &database).await?;
    let session = locked.session();
    sessions::end_older(session, &Whose { database: &database, users }, Duration::ZERO).await?;
    let accounts = release(locked).await?;
    locked.write_clean(State::Closed, &accounts).await?;
    Ok(v1::DestinationClosed { accounts })
}

/// Disables the scheduled events and takes every privilege on the database away; answers whose
/// sessions may still use them.
async fn take_away(
    locked: &mut Locked,
    database: &str,
) -> Result<Option<std::collections::BTreeSet<String>>, Error> {
    let mut affected: Undo = locked.undo()?.unwrap_or_default();
    let session = locked.session();
    for _ in 0..ROUNDS_MAX {
        let events = enabled_events(session, database).await?;
        let held = read(session, database).await?;
        let mut statements: Vec<String> =
            events.iter().map(|event| event.disable(database)).collect();
        statements.extend(affected.take(&held.grants, database, Leave::Nothing));
        if statements.is_empty() {
            return privileges::users_of(session, &affected.grantees()).await;
        }
        for some in statements.chunks(STATEMENTS_AT_ONCE) {
            session.run("taking privileges away", &some.join("; ")).await?;
        }
    }
    let what = format!("{}: privileges are being granted all the time", ident(database));
    Err(session.server().found(Code::ForeignWriter, what))
}
