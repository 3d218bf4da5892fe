//! Thaw: the source gets back exactly what was taken away, from whatever state.
//!
//! The undo comes from the ledger alone. What it names may be gone meanwhile, dropped by the
//! provider with or after the account; what cannot be given back to nobody is passed over.

use drover_lifecycle::ledger::{Act, Move};
use drover_schemas::v1;
use serde::{Deserialize, Serialize};

use crate::{
    Error, Order, Server, Session,
    ledger::{Locked, Side, State},
    privileges,
    sessions::{self, Whose},
    takeaway::Undo,
};

/// What an undo may find gone: no such account (two numbers), grant (two), table, column, routine,
/// event, database, role (two); as MySQL says it: account, grant on a routine, database.
pub(crate) const GONE: [u16; 14] =
    [1133, 1132, 1141, 1147, 1146, 1054, 1305, 1539, 1049, 1959, 1269, 1410, 1403, 3503];

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Facts {
    thawed_at_unix_ms: i64,
    accounts: u32,
}

impl From<Facts> for v1::SourceThawed {
    fn from(facts: Facts) -> Self {
        Self { thawed_at_unix_ms: facts.thawed_at_unix_ms, accounts: facts.accounts }
    }
}

/// Puts the database back as it was before the freeze. Where nothing was done, a tombstone with
/// the order's revision refuses a freeze that comes late.
///
/// # Errors
/// Beside those of [`Locked::take`]: `DestinationUnknown` for a source that was disarmed, when the
/// order does not say that the destination was shut.
pub async fn thaw(server: &Server, order: &Order) -> Result<v1::SourceThawed, Error> {
    let mut locked = Locked::take(server, order, Side::Source).await?;
    let result = thaw_locked(&mut locked).await;
    crate::finish(locked, result).await
}

async fn thaw_locked(locked: &mut Locked) -> Result<v1::SourceThawed, Error> {
    match locked.permit(Act::Thaw)? {
        Move::Begin | Move::GoOn => {}
        Move::Again | Move::Rest => {
            let mut facts: Facts = locked.facts()?.unwrap_or_default();
            // The watchdog does not read the undo's data; it runs its statements.
            if locked.state() == Some(State::Lapsed) {
                let undo: Undo = locked.undo()?.unwrap_or_default();
                facts.accounts = undo.accounts();
            }
            locked.write_clean(State::Thawed, &facts).await?;
            return Ok(facts.into());
        }
    }
    let database = locked.order().database.clone();
    let undo: Undo = locked.undo()?.unwrap_or_default();
    let statements = locked.statements().await?;
    locked.write_undo(State::Thawing, &undo, &statements).await?;
    let session = locked.session();
    run_undo(session, &statements).await?;
    let thawed_at_unix_ms = session.now_unix_ms().await?;
    let users = privileges::users_of(session, &undo.grantees()).await?;
    sessions::refresh(session, &Whose { database: &database, users }).await?;
    let facts = Facts { thawed_at_unix_ms, accounts: undo.accounts() };
    locked.write_clean(State::Thawed, &facts).await?;
    Ok(facts.into())
}

/// Runs statements that undo something, passing over what is gone.
pub(crate) async fn run_undo(session: &mut Session, statements: &[String]) -> Result<(), Error> {
    for statement in statements {
        match session.run("putting privileges back", statement).await {
            Err(error) if error.number().is_some_and(|number| GONE.contains(&number)) => {
                tracing::warn!(server = %session.server().name(), %error, "passed over");
            }
            other => other?,
        }
    }
    Ok(())
}
