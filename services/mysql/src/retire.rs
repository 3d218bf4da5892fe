//! Retire: after the switch the source is out of the customer's reach.
//!
//! Read access goes too, and the sessions end. Accounts and data stay, and the ledger keeps the
//! undo of the freeze, completed, so that a thaw puts everything back.

use std::time::Duration;

use drover_lifecycle::ledger::{Act, Move};
use drover_schemas::v1;

use crate::{
    Error, Order, Server,
    freeze::{read, take_all},
    ledger::{Locked, Side, State},
    privileges,
    sessions::{self, Whose},
    takeaway::{Leave, Undo},
};

/// Takes the rest of the access away.
///
/// # Errors
/// Beside those of [`Locked::take`]: `NotFrozen` when this migration has not frozen the database,
/// `NotDisarmed` when it may still thaw itself, `WatchdogFired` when it has.
pub async fn retire(server: &Server, order: &Order) -> Result<v1::SourceRetired, Error> {
    let mut locked = Locked::take(server, order, Side::Source).await?;
    let result = retire_locked(&mut locked).await;
    crate::finish(locked, result).await
}

async fn retire_locked(locked: &mut Locked) -> Result<v1::SourceRetired, Error> {
    let database = locked.order().database.clone();
    match locked.permit(Act::Retire)? {
        Move::Begin | Move::GoOn => {}
        Move::Again | Move::Rest => {
            let accounts: u32 = locked.facts()?.unwrap_or_default();
            locked.write(State::Retired, &accounts).await?;
            return Ok(v1::SourceRetired { accounts });
        }
    }
    let mut undo: Undo = locked.undo()?.unwrap_or_default();
    let held = read(locked.session(), &database).await?;
    take_all(locked, &mut undo, held, Leave::Nothing, State::Retiring).await?;
    let session = locked.session();
    let users = privileges::users_of(session, &undo.grantees()).await?;
    sessions::end_older(session, &Whose { database: &database, users }, Duration::ZERO).await?;
    let accounts = undo.accounts();
    locked.write(State::Retired, &accounts).await?;
    Ok(v1::SourceRetired { accounts })
}
