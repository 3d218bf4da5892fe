//! The locks: of a migration, of its copy, of a database, of an account.

use drover_schemas::MigrationId;

use super::{LOCK_S_MAX, Order};
use crate::{Error, Session, ident::literal, questions::Question};

/// The name of a migration's lock (at most 64 characters, the servers' limit).
pub fn migration_lock(migration: MigrationId) -> String {
    format!("drover:{migration}")
}

/// The name of a migration's lock on its copy, which the import's loader holds; those that help it
/// have one each, with a number from 1.
pub fn copy_lock(migration: MigrationId, helper: usize) -> String {
    match helper {
        0 => format!("drover:copy:{migration}"),
        _ => format!("drover:copy:{migration}:{helper}"),
    }
}

/// The name of a database's lock.
pub(crate) fn database_lock(database: &str) -> String {
    hashed_lock("database", database)
}

/// The name of an account's lock: migrations that share an account open and close side by side.
pub(crate) fn account_lock(account: &str) -> String {
    hashed_lock("account", account)
}

fn hashed_lock(kind: &str, name: &str) -> String {
    format!("drover:{kind}:{}", &blake3::hash(name.as_bytes()).to_hex()[..32])
}

/// Takes locks of the server for the life of the session, one after the other; not the next where one
/// was not to be had.
pub async fn lock(session: &mut Session, names: &[String], order: &Order) -> Result<(), Error> {
    let got = session.ask(locking(names)).await?.into_iter().next();
    locked(session, got.unwrap_or_default(), order)
}

/// Asks for locks; the answer says whether all were got.
pub(crate) fn locking(names: &[String]) -> Question<bool> {
    let took = names.iter().map(|name| format!("GET_LOCK({}, {LOCK_S_MAX}) = 1", literal(name)));
    let sql = format!("SELECT COALESCE({}, 0)", took.collect::<Vec<_>>().join(" AND "));
    Question::new("taking the lock", sql)
}

/// Refuses to go on where not all locks were got.
pub(crate) fn locked(session: &Session, got: bool, order: &Order) -> Result<(), Error> {
    if got {
        return Ok(());
    }
    Err(Error::LedgerBusy {
        server: session.server().name().to_string(),
        migration: order.migration.to_string(),
        seconds: LOCK_S_MAX,
    })
}

/// Gives a lock back before the session ends.
pub async fn unlock(session: &mut Session, name: &str) -> Result<(), Error> {
    session.run("giving the lock back", &format!("DO RELEASE_LOCK({})", literal(name))).await
}
