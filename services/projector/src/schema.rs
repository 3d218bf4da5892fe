//! The tables, and how their file is opened.
//!
//! 1. The file is a cache of the log: one of another version is removed and made anew. One that
//!    another program made is left alone; the mark in its header tells them apart.
//! 2. Write-ahead log: readers do not wait for the writer, nor it for them. `synchronous=NORMAL`:
//!    a power cut may lose the last batches, rows and position together, and they are folded
//!    again.
//! 3. What the views count is counted when the rows change (`tally`, `completion`, `frozen`,
//!    `failure`), so that a view's cost does not grow with the number of migrations.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, ErrorCode, OpenFlags};

use crate::Error;

/// The version of the tables; to be raised with every change to them or to what is in them.
pub(crate) const VERSION: i64 = 4;
/// The mark in the header of every file of these: `DRVP`.
const APPLICATION_ID: i64 = 0x4452_5650;
/// How long a connection waits for another's lock: a writer's batch takes far less.
const BUSY_WAIT: Duration = Duration::from_secs(10);
/// How many prepared statements a connection keeps; there are some thirty.
const STATEMENTS_MAX: usize = 64;
/// Pages of the file kept in memory by the writer, in KiB: the rows in flight and the upper
/// levels of the indexes of a million migrations.
const CACHE_KIB: i64 = 64 << 10;

/// After how many pages in the write-ahead log they are carried over into the file, which waits for
/// the disk: several batches' worth, 32 MB.
const CHECKPOINT_PAGES: i64 = 8 << 10;

const TABLES: &str = "
CREATE TABLE campaign (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    -- The stream sequence of the last message that was taken in, and that event's identity;
    -- empty for a message that could not be decoded.
    position INTEGER NOT NULL,
    last_event_id TEXT NOT NULL,
    last_event_at INTEGER NOT NULL,
    -- The fold has reached the log's end since its follower began.
    caught_up INTEGER NOT NULL,
    -- The lifecycle's state of the campaign; revision 0: its first event is not known yet.
    revision INTEGER NOT NULL,
    phase TEXT NOT NULL,
    in_flight_max INTEGER NOT NULL,
    quarantined TEXT NOT NULL,
    -- Hosts that are held down to so many slots: dst-1=2 dst-7=1.
    host_slots TEXT NOT NULL,
    first_admission_at INTEGER,
    last_completion_at INTEGER,
    frozen_ms_max INTEGER NOT NULL,
    -- The promise of its policy, and how often a migration was put off so as not to break it.
    promised_ms INTEGER NOT NULL,
    deferrals INTEGER NOT NULL,
    failures INTEGER NOT NULL,
    set_aside INTEGER NOT NULL
);
CREATE TABLE migration (
    number INTEGER PRIMARY KEY,
    campaign INTEGER NOT NULL,
    id BLOB NOT NULL,
    database TEXT NOT NULL,
    source TEXT NOT NULL,
    destination TEXT NOT NULL,
    wave TEXT NOT NULL,
    -- As the views name it; `state` is the same without loss.
    phase TEXT NOT NULL,
    state TEXT NOT NULL,
    holds_slot INTEGER NOT NULL,
    waits_for TEXT NOT NULL,
    revision INTEGER NOT NULL,
    at INTEGER NOT NULL,
    run INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    switched INTEGER NOT NULL,
    expires_at INTEGER,
    -- Since when the customer cannot write; none when the customer can.
    frozen_since INTEGER,
    -- When its source thaws itself unless the destination is to open; none when nothing waits for it.
    thaw_at INTEGER,
    -- From the freeze to the opened destination, of the last run that came so far.
    frozen_ms INTEGER,
    code TEXT,
    signature TEXT,
    -- What was said of taking it back, in words; of what later states depend on.
    rollback TEXT NOT NULL DEFAULT ''
);
CREATE UNIQUE INDEX migration_id ON migration (campaign, id);
CREATE INDEX migration_database ON migration (campaign, database);
CREATE INDEX migration_signature ON migration (campaign, signature, waits_for)
    WHERE signature IS NOT NULL;
CREATE INDEX migration_waiting ON migration (campaign, number) WHERE waits_for = 'person';
CREATE INDEX migration_frozen ON migration (campaign, frozen_since)
    WHERE frozen_since IS NOT NULL;
-- How many migrations of a wave, a source or a destination stand where. No row holds 0.
CREATE TABLE tally (
    campaign INTEGER NOT NULL,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    phase TEXT NOT NULL,
    holds_slot INTEGER NOT NULL,
    count INTEGER NOT NULL,
    PRIMARY KEY (campaign, kind, name, phase, holds_slot)
) WITHOUT ROWID;
-- How many migrations completed in a second.
CREATE TABLE completion (
    campaign INTEGER NOT NULL,
    second INTEGER NOT NULL,
    count INTEGER NOT NULL,
    PRIMARY KEY (campaign, second)
) WITHOUT ROWID;
-- How many openings came so long after their freeze; `ms` is rounded to a thousandth.
CREATE TABLE frozen (
    campaign INTEGER NOT NULL,
    ms INTEGER NOT NULL,
    count INTEGER NOT NULL,
    PRIMARY KEY (campaign, ms)
) WITHOUT ROWID;
CREATE TABLE failure (
    campaign INTEGER NOT NULL,
    signature TEXT NOT NULL,
    code TEXT NOT NULL,
    transient INTEGER NOT NULL,
    count INTEGER NOT NULL,
    migrations INTEGER NOT NULL,
    first_seen INTEGER NOT NULL,
    last_seen INTEGER NOT NULL,
    -- The last one, as an example.
    migration BLOB NOT NULL,
    message TEXT NOT NULL,
    PRIMARY KEY (campaign, signature)
) WITHOUT ROWID;
CREATE TABLE failure_host (
    campaign INTEGER NOT NULL,
    signature TEXT NOT NULL,
    host TEXT NOT NULL,
    count INTEGER NOT NULL,
    PRIMARY KEY (campaign, signature, host)
) WITHOUT ROWID;
CREATE TABLE failure_migration (
    campaign INTEGER NOT NULL,
    signature TEXT NOT NULL,
    migration BLOB NOT NULL,
    PRIMARY KEY (campaign, signature, migration)
) WITHOUT ROWID;
-- Messages that could not be folded: the first of them; the campaign's row counts all.
CREATE TABLE set_aside (
    campaign INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    subject TEXT NOT NULL,
    reason TEXT NOT NULL,
    PRIMARY KEY (campaign, sequence)
) WITHOUT ROWID;
";

/// The tables that have a column `campaign`.
pub(crate) const OF_A_CAMPAIGN: [&str; 8] = [
    "migration",
    "tally",
    "completion",
    "frozen",
    "failure",
    "failure_host",
    "failure_migration",
    "set_aside",
];

/// A new one in memory.
pub(crate) fn in_memory() -> Result<Connection, Error> {
    let connection = Connection::open_in_memory()?;
    prepare(&connection)?;
    create(&connection)?;
    Ok(connection)
}

/// Opens the file for its one writer; makes it where it is missing or of another version.
pub(crate) fn open(path: &Path) -> Result<Connection, Error> {
    let connection = Connection::open(path)?;
    match version(&connection, path)? {
        Some(VERSION) => {}
        None => create_in_file(&connection)?,
        Some(other) => {
            tracing::info!(version = other, path = %path.display(), "making the projections anew");
            drop(connection);
            remove(path)?;
            return open(path);
        }
    }
    prepare(&connection)?;
    Ok(connection)
}

/// Opens the file for reading beside its writer.
pub(crate) fn open_to_read(path: &Path) -> Result<Connection, Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    match version(&connection, path)? {
        Some(VERSION) => {
            connection.busy_timeout(BUSY_WAIT)?;
            Ok(connection)
        }
        other => Err(Error::Version {
            path: path.to_owned(),
            found: other.unwrap_or_default(),
            wanted: VERSION,
        }),
    }
}

/// Removes the file and what SQLite keeps beside it.
pub(crate) fn remove(path: &Path) -> Result<(), Error> {
    for suffix in ["", "-wal", "-shm"] {
        let path = beside(path, suffix);
        match fs::remove_file(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(Error::File { path, source }),
        }
    }
    Ok(())
}

/// The file's path with `suffix` added to its name.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// The version of the tables in the file; none in an empty file.
fn version(connection: &Connection, path: &Path) -> Result<Option<i64>, Error> {
    let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let foreign = || Error::Foreign { path: path.to_owned() };
    let application_id = match pragma("application_id") {
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::NotADatabase) => {
            return Err(foreign());
        }
        other => other?,
    };
    if application_id == APPLICATION_ID {
        return Ok(Some(pragma("user_version")?));
    }
    let is_empty = connection
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0))?
        == 0;
    if is_empty && application_id == 0 { Ok(None) } else { Err(foreign()) }
}

fn create_in_file(connection: &Connection) -> Result<(), Error> {
    // Kept in the file; changed outside any transaction only.
    connection.pragma_update(None, "journal_mode", "WAL")?;
    create(connection)
}

fn create(connection: &Connection) -> Result<(), Error> {
    let marks = format!("PRAGMA application_id={APPLICATION_ID}; PRAGMA user_version={VERSION};");
    connection.execute_batch(&format!("BEGIN IMMEDIATE; {TABLES} {marks} COMMIT;"))?;
    Ok(())
}

fn prepare(connection: &Connection) -> Result<(), Error> {
    connection.busy_timeout(BUSY_WAIT)?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
    connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_version_is_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("projections.sqlite");
        let connection = open(&path).unwrap();
        connection.execute_batch("INSERT INTO completion VALUES (1, 2, 3)").unwrap();
        drop(connection);
        let rows = |connection: &Connection| {
            connection.query_row("SELECT count(*) FROM completion", [], |row| row.get::<_, i64>(0))
        };
        let connection = open(&path).unwrap();
        assert_eq!(rows(&connection).unwrap(), 1);
        connection.pragma_update(None, "user_version", VERSION + 1).unwrap();
        drop(connection);
        assert!(matches!(open_to_read(&path), Err(Error::Version { .. })));
        assert_eq!(rows(&open(&path).unwrap()).unwrap(), 0);
    }

    #[test]
    fn the_file_of_another_program_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let text = dir.path().join("text");
        fs::write(
            &text,
            "A letter that is longer than the header of a database's file. ".repeat(4),
        )
        .unwrap();
        assert!(matches!(open(&text), Err(Error::Foreign { .. })));
        let other = dir.path().join("other.sqlite");
        Connection::open(&other).unwrap().execute_batch("CREATE TABLE mine (a)").unwrap();
        assert!(matches!(open(&other), Err(Error::Foreign { .. })));
        assert!(other.exists() && text.exists());
    }
}
