//! Dumping a frozen database.
//!
//! 1. The source is read once: each row is hashed for the manifest as it is written for the dump,
//!    in one consistent snapshot.
//! 2. Nothing counts before [`dump`] has returned well: the ledger has then said once more that
//!    the source is frozen, and every frame is written. Whoever stores the bytes makes them an
//!    object only then.
//! 3. No database is created or selected in it: it can be loaded into one of any name.
//! 4. The order is such that nothing is made before what it needs: views that are broken already,
//!    sequences, tables, rows, routines, views, triggers, events. Foreign keys may go round in circles, as they are not
//!    checked.
//! 5. A freeze disables the scheduled events, so the dump has them disabled. The last frame
//!    enables those that were enabled, for customers; Drover's own import leaves it out: there they
//!    are enabled when the destination opens.

use std::collections::BTreeMap;

use drover_lifecycle::ledger::{Act, Refusal, fence, permit};
use drover_schemas::Code;
use tokio::io::AsyncWrite;

use crate::{
    Contents, Error, Flavour, Order, Server, Session,
    describe::Found,
    digest::Digest,
    events::ScheduledEvent,
    frames::{FrameKind, Writer},
    freeze,
    ident::{ident, literal},
    insert::Insert,
    ledger::{self, Entry, Side},
    listing::{Relation, ask, text},
    manifest::Source,
    outside, programs, rows,
    schema::Kind,
    viewing::Views,
};

/// When an INSERT has at least this size it ends, in bytes: far under the smallest usual limit
/// (16 MB), and large enough that nothing is left to win.
const INSERT_BYTES_MIN: usize = 1 << 20;

/// When a frame of rows has at least this size it ends, in bytes: with its compressed form, and
/// the parts that the store holds, some 40 MB.
const FRAME_BYTES_MIN: usize = 4 << 20;

/// After a table of at least this size there is a COMMIT, in bytes. Small databases have one in all:
/// each costs the destination two flushes to its disk.
const COMMIT_BYTES_MIN: u64 = 16 << 20;

/// How long the server waits for whoever writes the dump to take more rows, in seconds.
const SLOW_STORE_S_MAX: u32 = 600;

/// From this version MariaDB's rows can be written together with their history.
const HISTORY_SINCE: (u16, u16, u16) = (10, 11, 0);

/// The settings of a session that loads tables and rows. The mode lets zeros stand in
/// AUTO_INCREMENT columns, and every date that a table may hold.
pub(crate) const LOADING_MODE: &str = "NO_AUTO_VALUE_ON_ZERO,ALLOW_INVALID_DATES";

/// Dumps a database that this migration has frozen to `to`. `enabled` are the scheduled events
/// that were enabled before.
///
/// # Errors
/// `NotFrozen` or `WatchdogFired`, also when the source was thawed meanwhile; `DumpRefused`, `TableElsewhere`, `ViewBroken` for what
/// cannot be dumped; `DumpFailed`, [`Error::Writing`] with the writer's own error.
pub async fn dump(
    server: &Server,
    order: &Order,
    enabled: &[ScheduledEvent],
    to: &mut (impl AsyncWrite + Unpin + Send),
) -> Result<Contents, Error> {
    let mut session = server.session().await?;
    let frozen_at = frozen(&mut session, order).await?;
    let mut writer = Writer::new(server, to);
    let (found, digests) = read(&mut session, order, &mut writer).await.map_err(failed)?;
    writer.client("\n");
    writer.statement(format!("SET NAMES utf8mb4, sql_mode = '{LOADING_MODE}'").as_bytes());
    for event in enabled {
        writer.compound(event.enable(None).as_bytes());
    }
    writer.client("-- This dump is complete.\n");
    writer.end(FrameKind::Trailer, "").await?;
    session.run("ending the snapshot", "ROLLBACK").await.map_err(failed)?;
    if frozen(&mut session, order).await?.revision != frozen_at.revision {
        let what = format!("{} was frozen anew during the dump", order.migration);
        return Err(server.found(Code::NotFrozen, what));
    }
    session.end().await?;
    let source = source(server, &found, &frozen_at)?;
    Ok(Contents { description: found.description(&digests), source, frames: writer.finish() })
}

/// A session that is lost during a dump, or a statement that fails for a moment, is a dump to be
/// made again.
fn failed(error: Error) -> Error {
    match error {
        Error::Unreachable { server, doing, reason } => {
            let what = format!("{doing}: {reason}");
            Error::Found { code: Code::DumpFailed, server, what }
        }
        Error::Statement { server, doing, number, text } => {
            let transient = crate::error::is_transient(number);
            let code = if transient { Code::DumpFailed } else { Code::DumpRefused };
            Error::Found { code, server, what: format!("{doing}: error {number}: {text}") }
        }
        other => other,
    }
}

/// The ledger's row by which this migration's source is frozen.
async fn frozen(session: &mut Session, order: &Order) -> Result<Entry, Error> {
    let server = session.server().clone();
    let entry = ledger::read(session, order.migration, Side::Source).await?;
    let (row, asked) = (entry.as_ref().map(Entry::row), order.asked());
    let permitted = permit(Act::Dump, row, asked).and_then(|_| fence(row, asked));
    match (permitted, entry) {
        (Ok(()), Some(entry)) => Ok(entry),
        (Ok(()), None) => Err(ledger::refused(&server, order, None, Refusal::NotFrozen)),
        (Err(refusal), entry) => Err(ledger::refused(&server, order, entry.as_ref(), refusal)),
    }
}

/// What the manifest says of the server.
fn source(server: &Server, found: &Found, frozen_at: &Entry) -> Result<Source, Error> {
    let facts: freeze::Facts = serde_json::from_str(&frozen_at.facts).map_err(|e| {
        let server = server.name().to_string();
        Error::Unexpected { server, doing: "reading the ledger", what: e.to_string() }
    })?;
    Ok(Source {
        sql_mode: found.lists.sql_mode.clone(),
        charset: found.lists.charset_server.clone(),
        gtid: facts.gtid,
        binlog_file: facts.binlog_file,
        binlog_position: facts.binlog_position,
        at_unix_ms: facts.at_unix_ms,
    })
}

type Digests = BTreeMap<String, Digest>;

/// Reads all that there is, in one snapshot, and writes it.
async fn read<W: AsyncWrite + Unpin>(
    session: &mut Session,
    order: &Order,
    writer: &mut Writer<'_, W>,
) -> Result<(Found, Digests), Error> {
    let snapshot = format!(
        "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ; \
         SET SESSION net_write_timeout = {SLOW_STORE_S_MAX}; \
         START TRANSACTION WITH CONSISTENT SNAPSHOT"
    );
    session.run("beginning a snapshot", &snapshot).await?;
    let found = Found::read(session, &order.database).await?;
    refuse(session, &found)?;
    prologue(session, &found, writer);
    writer.end(FrameKind::Prologue, "").await?;
    let views = Views::read(session, &order.database, &found.lists).await?;
    views.write_broken(writer).await?;
    sequences(session, &found, writer).await?;
    for (name, definition) in &found.tables {
        writer.statement(definition.as_bytes());
        writer.end(FrameKind::Table, name).await?;
    }
    let digests = all_rows(session, &found, writer).await?;
    session.run("dumping", "SET SESSION character_set_results = 'utf8mb4'").await?;
    programs::routines(session, &found.lists, writer).await?;
    views.write(&found.lists, writer).await?;
    programs::triggers_and_events(session, &found.lists, writer).await?;
    Ok((found, digests))
}

/// Refuses what another server could not be given.
fn refuse(session: &Session, found: &Found) -> Result<(), Error> {
    let about = session.about();
    for (name, relation) in &found.lists.tables {
        let what = if relation.by_transaction {
            "its history goes by transactions' numbers, which mean nothing elsewhere"
        } else if relation.system_versioned
            && (about.flavour == Flavour::MySql || about.version < HISTORY_SINCE)
        {
            "a system-versioned table's history can be dumped from MariaDB 10.11 on"
        } else {
            continue;
        };
        let what = format!("TABLE {}: {what}", ident(name));
        return Err(session.server().found(Code::DumpRefused, what));
    }
    match found.tables.iter().find(|(_, definition)| outside::is_reached(definition)) {
        None => Ok(()),
        Some((name, _)) => Err(session.server().found(Code::TableElsewhere, ident(name))),
    }
}

/// The settings that everything else counts on.
fn prologue<W: AsyncWrite + Unpin>(session: &Session, found: &Found, writer: &mut Writer<'_, W>) {
    writer.client(
        "-- A database, dumped by Drover. To load it into a database that is there and empty:\n\
         --   zstd -dc FILE | mariadb --comments DATABASE\n",
    );
    let settings = format!(
        "SET NAMES utf8mb4, time_zone = '+00:00', sql_mode = '{LOADING_MODE}', \
         foreign_key_checks = 0, unique_checks = 0"
    );
    writer.statement(settings.as_bytes());
    let defaults = &found.lists.defaults;
    let (charset, collation) = (ident(&defaults.charset), ident(&defaults.collation));
    let mut alter = format!("ALTER DATABASE CHARACTER SET {charset} COLLATE {collation}");
    if session.about().flavour == Flavour::MariaDb {
        writer.statement(b"SET check_constraint_checks = 0, innodb_strict_mode = 0");
        if found.lists.tables.values().any(|relation| relation.system_versioned) {
            writer.statement(b"SET system_versioning_insert_history = 1");
        }
        alter.push_str(&format!(" COMMENT {}", literal(&defaults.comment)));
    }
    writer.statement(alter.as_bytes());
}

async fn sequences<W: AsyncWrite + Unpin>(
    session: &mut Session,
    found: &Found,
    writer: &mut Writer<'_, W>,
) -> Result<(), Error> {
    let doing = "dumping the sequences";
    let names: Vec<&str> = found.lists.of_kind(Kind::Sequence).collect();
    let shows = names.iter().flat_map(|name| {
        let name = ident(name);
        [
            format!("SHOW CREATE SEQUENCE {name}"),
            format!("SELECT next_not_cached_value, cycle_count FROM {name}"),
        ]
    });
    let answers = ask(session, doing, &shows.collect::<Vec<_>>()).await?;
    for (name, answers) in names.iter().zip(answers.chunks(2)) {
        let [Some(create), Some(place)] = [0, 1].map(|i| answers.get(i).and_then(|a| a.first()))
        else {
            return Err(session.unexpected(doing, "no answer".to_owned()));
        };
        writer.statement(text(create, 1).as_bytes());
        let (next, round) = (text(place, 0), text(place, 1));
        let set = format!("DO SETVAL({}, {next}, 0, {round})", ident(name));
        writer.statement(set.as_bytes());
        writer.end(FrameKind::Sequence, name).await?;
    }
    Ok(())
}

/// Writes the rows of all tables, and hashes them.
async fn all_rows<W: AsyncWrite + Unpin>(
    session: &mut Session,
    found: &Found,
    writer: &mut Writer<'_, W>,
) -> Result<Digests, Error> {
    let mut digests = Digests::new();
    let tables: Vec<(&String, &Relation)> = found.lists.tables.iter().collect();
    // MySQL with GTIDs takes rows of engines without transactions only one statement at a time.
    let one_by_one = session.about().flavour == Flavour::MySql
        && tables.iter().any(|(_, relation)| !relation.engine.eq_ignore_ascii_case("InnoDB"));
    let settings = format!("SET NAMES binary, autocommit = {}", u8::from(one_by_one));
    writer.statement(settings.as_bytes());
    for some in tables.chunks(rows::TABLES_A_PACKET) {
        let server = session.server().clone();
        let mut reader = rows::Reader::start(session, some).await?;
        for (name, relation) in some {
            let mut table = TableRows::new(&server, name, relation, writer);
            while let Some(row) = reader.next().await? {
                table.add(&row).await?;
            }
            digests.insert((*name).clone(), table.end().await?);
        }
    }
    let back = format!("SET NAMES utf8mb4, autocommit = 1, sql_mode = '{LOADING_MODE}'");
    writer.statement(b"COMMIT");
    writer.statement(back.as_bytes());
    writer.end(FrameKind::RowsEnd, "").await?;
    Ok(digests)
}

/// The rows of one table on their way.
struct TableRows<'a, 'w, W> {
    server: &'a Server,
    name: &'a str,
    relation: &'a Relation,
    insert: Insert,
    writer: &'a mut Writer<'w, W>,
    digest: Digest,
    /// Where the statement that is being written began; none: no row is written yet.
    began: Option<usize>,
    written_bytes: u64,
}

impl<'a, 'w, W: AsyncWrite + Unpin> TableRows<'a, 'w, W> {
    fn new(
        server: &'a Server,
        name: &'a str,
        relation: &'a Relation,
        writer: &'a mut Writer<'w, W>,
    ) -> Self {
        let (insert, digest) = (Insert::new(name, relation), Digest::default());
        Self { server, name, relation, insert, writer, digest, began: None, written_bytes: 0 }
    }

    async fn add(&mut self, row: &[mysql_async::Value]) -> Result<(), Error> {
        self.digest.add(row);
        if self.relation.shows_others_rows() {
            return Ok(());
        }
        let began = match self.began {
            Some(began) => {
                self.writer.text().extend_from_slice(b",\n");
                began
            }
            None => {
                let began = self.writer.statement_begins();
                self.writer.text().extend_from_slice(self.insert.head());
                began
            }
        };
        self.began = Some(began);
        self.insert.row(row, self.writer.text()).map_err(|what| {
            let what = format!("TABLE {}: {what}", ident(self.name));
            self.server.found(Code::DumpRefused, what)
        })?;
        if self.writer.statement_begins() - began >= INSERT_BYTES_MIN {
            self.end_statement();
            if self.writer.text().len() >= FRAME_BYTES_MIN {
                self.end_frame().await?;
            }
        }
        Ok(())
    }

    fn end_statement(&mut self) {
        if let Some(began) = self.began.take() {
            self.writer.statement_ends(began);
        }
    }

    async fn end_frame(&mut self) -> Result<(), Error> {
        self.written_bytes += self.writer.text().len() as u64;
        self.writer.end(FrameKind::Rows, self.name).await
    }

    async fn end(mut self) -> Result<Digest, Error> {
        self.end_statement();
        let bytes = self.written_bytes + self.writer.text().len() as u64;
        if bytes >= COMMIT_BYTES_MIN {
            self.writer.statement(b"COMMIT");
        }
        if self.digest.rows() > 0 && !self.writer.text().is_empty() {
            self.end_frame().await?;
        }
        Ok(self.digest)
    }
}
