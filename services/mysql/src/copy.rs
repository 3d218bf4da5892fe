//! Which database at a destination is whose copy, and taking a copy away again.
//!
//! Drover drops a database only when it made it itself. `drover.copy` says so: a row for each
//! migration that has, or is about to have, a copy here. The row is written before the database
//! is created, and says `made` once it was. Between the two, a database of that name is the
//! migration's own when it is empty; one that holds anything is somebody else's.
//!
//! The loader, a session of its own with others that help it, can outlive the instance that started
//! it. Each holds a lock of the copy for its life and has a number, new for each attempt
//! (`drover.copy.loader`), that its first statement compares: so one that wakes up late does
//! nothing, and one that is still at work is ended before anybody touches the copy again.

use std::time::{Duration, Instant};

use drover_lifecycle::ledger::Act;
use drover_schemas::{Code, v1};
use uuid::Uuid;

use crate::{
    Error, Locked, Order, Server, aside, finish,
    ident::{ident, literal},
    ledger::{self, Side, State},
    slices::SIDE_BY_SIDE_MAX,
};

/// How long a loader may take to go after it was killed, its rollback included.
const LOADER_END_MAX: Duration = Duration::from_secs(60);

/// How often the server is asked whether it has gone.
const LOADER_END_POLL: Duration = Duration::from_millis(20);

/// No such thread: it ended by itself.
const NO_SUCH_THREAD: u16 = 1094;

/// What the server knows about a migration's copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Copy {
    /// There is no database of the name.
    Absent,
    /// The database is this migration's own.
    Own,
    /// The database is somebody else's.
    Foreign,
}

/// Looks at the database of the order's name.
pub(crate) async fn look(locked: &mut Locked) -> Result<Copy, Error> {
    let (migration, database) = (locked.order().migration, locked.order().database.clone());
    let name = literal(&database);
    let sql = format!(
        "SELECT (SELECT COUNT(*) FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = {name}), \
         (SELECT made FROM drover.copy WHERE migration = '{migration}')"
    );
    let session = locked.session();
    let (there, made): (u32, Option<bool>) = session.one("looking for the copy", &sql).await?;
    if there == 0 {
        return Ok(Copy::Absent);
    }
    match made {
        Some(true) => Ok(Copy::Own),
        None => Ok(Copy::Foreign),
        Some(false) => {
            let sql = format!(
                "SELECT (SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA = {name}) \
                 + (SELECT COUNT(*) FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA = {name}) \
                 + (SELECT COUNT(*) FROM information_schema.EVENTS WHERE EVENT_SCHEMA = {name})"
            );
            let (holds,): (u64,) = session.one("looking into the database", &sql).await?;
            Ok(if holds == 0 { Copy::Own } else { Copy::Foreign })
        }
    }
}

/// Says that this migration is about to make its copy, with a new loader; makes the database, by this
/// statement, and says so. One packet: nothing comes between.
pub(crate) async fn make(locked: &mut Locked, loader: Uuid, create: &str) -> Result<(), Error> {
    let (migration, database) = (locked.order().migration, literal(&locked.order().database));
    let sql = format!(
        "INSERT INTO drover.copy VALUES ('{migration}',{database},'{loader}',FALSE) \
         ON DUPLICATE KEY UPDATE loader = VALUES(loader), made = FALSE; \
         {create}; UPDATE drover.copy SET made = TRUE WHERE migration = '{migration}'"
    );
    locked.session().run("creating the database", &sql).await
}

/// Drops the database, which is this migration's own, and says so, in one packet. The loader must
/// have gone.
pub(crate) async fn drop_own(locked: &mut Locked) -> Result<(), Error> {
    let order = locked.order();
    let sql = format!(
        "DROP DATABASE IF EXISTS {}; UPDATE drover.copy SET made = FALSE WHERE migration = '{}'",
        ident(&order.database),
        order.migration,
    );
    locked.session().run("dropping the copy", &sql).await
}

/// Ends whoever loads into the copy, and waits until it has gone.
///
/// A loader that has not yet reached its first statement is not seen here; the number that it
/// compares is no longer the one that it knows.
pub(crate) async fn end_loader(locked: &mut Locked) -> Result<(), Error> {
    let migration = locked.order().migration;
    // A number that no loader has, so that one that comes from now on does nothing.
    let disown = format!(
        "UPDATE drover.copy SET loader = '{}' WHERE migration = '{migration}'",
        Uuid::nil()
    );
    let session = locked.session();
    session.run("ending the loader", &disown).await?;
    let locks = (0..=SIDE_BY_SIDE_MAX)
        .map(|n| format!("IS_USED_LOCK({})", literal(&ledger::copy_lock(migration, n))));
    let sql = format!("SELECT COALESCE({})", locks.collect::<Vec<_>>().join(", "));
    let began = Instant::now();
    loop {
        let (holder,): (Option<u64>,) = session.one("looking for the loader", &sql).await?;
        let Some(holder) = holder else { return Ok(()) };
        if began.elapsed() > LOADER_END_MAX {
            return Err(Error::LedgerBusy {
                server: session.server().name().to_string(),
                migration: migration.to_string(),
                seconds: u32::try_from(LOADER_END_MAX.as_secs()).unwrap_or(u32::MAX),
            });
        }
        match session.run("ending the loader", &format!("KILL {holder}")).await {
            Err(error) if error.number() == Some(NO_SUCH_THREAD) => {}
            other => other?,
        }
        tokio::time::sleep(LOADER_END_POLL).await;
    }
}

/// Drops a migration's copy, and sees to it that a late import is refused. Where the database of
/// that name is not the migration's own, nothing is dropped: then there is no copy.
///
/// # Errors
/// [`Error::LedgerOutdated`] also for a copy that is open: it must be closed first.
pub async fn drop_copy(server: &Server, order: &Order) -> Result<v1::DestinationDropped, Error> {
    let mut locked = Locked::take(server, order, Side::Destination).await?;
    let result = drop_in(&mut locked).await;
    finish(locked, result).await
}

async fn drop_in(locked: &mut Locked) -> Result<v1::DestinationDropped, Error> {
    locked.permit(Act::Drop)?;
    locked.write(State::Dropping, &()).await?;
    end_loader(locked).await?;
    match look(locked).await? {
        Copy::Own => drop_own(locked).await?,
        Copy::Absent | Copy::Foreign => {}
    }
    let sql = format!("DELETE FROM drover.copy WHERE migration = '{}'", locked.order().migration);
    locked.session().run("writing the ledger", &sql).await?;
    aside::put_back(locked).await?;
    locked.write_clean(State::Dropped, &()).await?;
    Ok(v1::DestinationDropped {})
}

/// The error for a name that is taken.
pub(crate) fn taken(locked: &Locked) -> Error {
    let database = ident(&locked.order().database);
    locked
        .server()
        .found(Code::NameTaken, format!("{database} is there and is not this migration's copy"))
}
