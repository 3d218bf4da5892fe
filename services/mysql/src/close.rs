//! Close: the customer is out of the destination again, and nothing of theirs runs there. Reopen:
//! they are let in again as they were.
//!
//! What is taken away is what is there now, not what the opening gave: the customer may have
//! granted more. It is in the ledger before it is taken, so that it can be given back. Accounts go
//! when Drover made them and no other database needs them.
//!
//! A close that is to keep what the destination has taken in compares when nobody can write any
//! more, and before anything is gone for good. Where something was written, or nobody can tell, the
//! customer is let in again at once: for them it was a short time without access.

use std::time::Duration;

use drover_lifecycle::ledger::{Act, Move};
use drover_schemas::{Code, v1};

use crate::{
    Description, Error, Order, Server,
    accounts::release,
    clause,
    describe::describe,
    events::enabled_events,
    freeze::read,
    ident::ident,
    ledger::{Locked, Side, State},
    open, privileges,
    schema::in_one_line,
    sessions::{self, Whose},
    takeaway::{Leave, Undo},
    thaw::run_undo,
};

/// How often privileges that were granted while others were taken away are taken away as well.
const ROUNDS_MAX: u32 = 5;

/// How many statements go to the server at once.
const STATEMENTS_AT_ONCE: usize = 100;

/// Puts the customer out. Where nothing was opened, the order's revision in the ledger refuses an
/// opening that comes late. With `opened_with`, only where the copy is still what it was then.
///
/// # Errors
/// `DatabaseHeld` where another migration has frozen or retired it since: what would be taken away
/// and given back here is that one's. `DestinationWritten` where it is not: then the customer is in again, as before.
pub async fn close(
    server: &Server,
    order: &Order,
    opened_with: Option<&Description>,
) -> Result<v1::DestinationClosed, Error> {
    let mut locked = Locked::take(server, order, Side::Destination).await?;
    let result = close_locked(&mut locked, opened_with).await;
    crate::finish(locked, result).await
}

async fn close_locked(
    locked: &mut Locked,
    opened_with: Option<&Description>,
) -> Result<v1::DestinationClosed, Error> {
    match (locked.permit(Act::Close)?, locked.state()) {
        (Move::Begin | Move::GoOn, _) => locked.check_not_moved_on().await?,
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
    let before = locked.state();
    let kept = match opened_with {
        None => shut(locked).await,
        Some(expected) => match shut(locked).await {
            Ok(()) => unwritten(locked, expected).await,
            other => other,
        },
    };
    if let Err(error) = kept {
        if opened_with.is_some() && locked.state() == Some(State::Closing) {
            // A server that is away cannot be told; then the next attempt goes on from here.
            let reached = if before == Some(State::Open) { State::Open } else { State::Opening };
            if let Err(error) = give_back(locked, reached).await {
                tracing::warn!(server = %locked.server().name(), %error, "not open again yet");
            }
        }
        return Err(error);
    }
    let accounts = release(locked).await?;
    locked.write_clean(State::Closed, &accounts).await?;
    Ok(v1::DestinationClosed { accounts })
}

/// Lets the customer in again, whom a close that did not come to its end has kept out.
///
/// # Errors
/// Beside those of [`Locked::take`]: the ledger's, where nothing is open or half closed;
/// `DatabaseHeld` as in [`close`].
pub async fn reopen(server: &Server, order: &Order) -> Result<v1::DestinationOpened, Error> {
    let mut locked = Locked::take(server, order, Side::Destination).await?;
    let result = reopen_locked(&mut locked).await;
    crate::finish(locked, result).await
}

async fn reopen_locked(locked: &mut Locked) -> Result<v1::DestinationOpened, Error> {
    match locked.permit(Act::Reopen)? {
        Move::Begin | Move::GoOn => {
            locked.check_not_moved_on().await?;
            give_back(locked, State::Open).await?;
        }
        Move::Again | Move::Rest => locked.touch(State::Open).await?,
    }
    let facts = open::Facts::of(locked)?;
    Ok(facts.into())
}

/// Disables the scheduled events, takes every privilege on the database away, and ends the sessions
/// that may still use them.
async fn shut(locked: &mut Locked) -> Result<(), Error> {
    let database = locked.order().database.clone();
    let known: Undo = locked.undo()?.unwrap_or_default();
    let mut grantees = known.grantees();
    // What is to be given back is what is held now, unless some of it was taken away already.
    let taken = if locked.state() == Some(State::Open) { Undo::default() } else { known };
    grantees.extend(take_away(locked, taken, &database).await?.grantees());
    let session = locked.session();
    let users = privileges::users_of(session, &grantees).await?;
    sessions::end_older(session, &Whose { database: &database, users }, Duration::ZERO).await?;
    Ok(())
}

/// Takes all away that is held; answers with all that was taken, which is in the ledger.
async fn take_away(locked: &mut Locked, mut taken: Undo, database: &str) -> Result<Undo, Error> {
    for _ in 0..ROUNDS_MAX {
        let session = locked.session();
        let events = enabled_events(session, database).await?;
        let held = read(session, database).await?;
        let mut statements: Vec<String> =
            events.iter().flat_map(|event| event.disable(database)).collect();
        statements.extend(taken.take(&held.grants, database, Leave::Nothing));
        taken.events.extend(events);
        taken.events.sort();
        taken.events.dedup();
        if !statements.is_empty() || locked.state() != Some(State::Closing) {
            locked.write_undo(State::Closing, &taken, &taken.statements(database)).await?;
        }
        if statements.is_empty() {
            return Ok(taken);
        }
        for some in statements.chunks(STATEMENTS_AT_ONCE) {
            locked.session().run("taking privileges away", &some.join("; ")).await?;
        }
    }
    let what = format!("{}: privileges are being granted all the time", ident(database));
    Err(locked.server().found(Code::ForeignWriter, what))
}

/// Whether the copy is what it was when it opened. It is read on a session of its own: one that
/// stops in the middle of rows is of no more use, and this one may have to give all back.
async fn unwritten(locked: &mut Locked, expected: &Description) -> Result<(), Error> {
    let (server, database) = (locked.server(), locked.order().database.clone());
    let found = crate::meanwhile(locked, describe(&server, &database)).await?;
    let expected = clause::described(expected, &open::Facts::of(locked)?.definers);
    let differences = expected.differences(&found);
    if differences.is_empty() {
        return Ok(());
    }
    Err(server.found(Code::DestinationWritten, in_one_line(&differences)))
}

/// Gives back all that [`shut`] has taken away; the ledger says `reached` then.
async fn give_back(locked: &mut Locked, reached: State) -> Result<(), Error> {
    let database = locked.order().database.clone();
    let taken: Undo = locked.undo()?.unwrap_or_default();
    run_undo(locked.session(), &taken.statements(&database)).await?;
    let users = privileges::users_of(locked.session(), &taken.grantees()).await?;
    sessions::refresh(locked.session(), &Whose { database: &database, users }).await?;
    locked.touch(reached).await
}
