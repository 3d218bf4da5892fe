//! Dumping a frozen database.
//!
//! 1. The source is read once: each row is hashed for the manifest as it is written for the dump,
//!    in one consistent snapshot.
//! 2. Nothing counts before [`dump`] has returned well: the ledger has then said once more that
//!    the source is frozen, and every frame is written. Whoever stores the bytes makes them an
//!    object only then.
//! 3. No database is created or selected in it: it can be loaded into one of any name.
//! 4. The order is such that nothing is made before what it needs: views that are broken already,
//!    sequences, tables, rows, keys of large tables ([`keys`](crate::keys)), routines, views, triggers, events. Foreign keys may go round in circles, as they are not
//!    checked.
//! 5. A rehearsal's source is not frozen, and goes on being written to: its rows are read in one
//!    snapshot on a session of their own, and no table is held longer than it is read (`live`).
//! 6. A freeze disables the scheduled events, so the dump has them disabled. The last frame
//!    enables those that were enabled, for customers; Drover's own import leaves it out: there they
//!    are enabled when the destination opens.

use std::{collections::BTreeMap, sync::Arc};

use drover_lifecycle::ledger::{Act, fence, permit};
use drover_schemas::Code;
use tokio::{io::AsyncWrite, sync::mpsc};

use crate::{
    Contents, Error, Flavour, Order, Server, Session,
    describe::Found,
    draft::{Draft, Form},
    events::ScheduledEvent,
    frames::{self, FrameKind, Writer},
    freeze,
    ident::{ident, literal},
    keys::Definitions,
    ledger::{self, Entry, Side},
    listing::{Relation, ask, text},
    live::Live,
    manifest::Source,
    momentary, outside, programs,
    rows::{self, Digests, merge},
    schema::Kind,
    slices::{self, Queue, SIDE_BY_SIDE_MAX},
    table_rows::{Remote, Rows},
    team::{Team, words},
    viewing::Views,
};

/// How long the server waits for whoever writes the dump to take more rows, in seconds.
const SLOW_STORE_S_MAX: u32 = 600;

/// From this version MariaDB's rows can be written together with their history.
const HISTORY_SINCE: (u16, u16, u16) = (10, 11, 0);

/// The mode of a session that loads tables and rows: it lets zeros stand in AUTO_INCREMENT columns,
/// and every date that a table may hold; in MariaDB also options that no engine knows, which the
/// definitions have as options, as they are read under the same mode ([`Found::read`]).
pub(crate) fn loading_mode(flavour: Flavour) -> &'static str {
    match flavour {
        Flavour::MariaDb => "NO_AUTO_VALUE_ON_ZERO,ALLOW_INVALID_DATES,IGNORE_BAD_TABLE_OPTIONS",
        Flavour::MySql => "NO_AUTO_VALUE_ON_ZERO,ALLOW_INVALID_DATES",
    }
}

/// Dumps a database that this migration has frozen, or that it rehearses, to `to`. `enabled` are the
/// scheduled events that were enabled before the freeze.
///
/// # Errors
/// `NotFrozen` or `WatchdogFired`, also when the source was thawed meanwhile; `DumpRefused`, `TableElsewhere`, `ViewBroken` for what
/// cannot be dumped; `DumpFailed`, [`Error::Writing`] with the writer's own error.
pub async fn dump(
    server: &Server,
    order: &Order,
    enabled: &[ScheduledEvent],
    form: Form,
    to: &mut (impl AsyncWrite + Unpin + Send),
) -> Result<Contents, Error> {
    let (mut session, entry) = ledger::begin(server, order.migration, Side::Source).await?;
    let frozen_at = frozen(server, order, entry)?;
    let mut writer = Writer::new(server, form, to)?;
    let facts = match &frozen_at {
        Some(entry) => facts(server, entry)?,
        None => freeze::Facts { at_unix_ms: session.now_unix_ms().await?, ..Default::default() },
    };
    let failed = |error| failed(error, order);
    let (found, digests) = read(&mut session, order, &mut writer).await.map_err(failed)?;
    writer.client("\n");
    let mode = loading_mode(session.about().flavour);
    writer.statement(format!("SET NAMES utf8mb4, sql_mode = '{mode}'").as_bytes());
    for statement in enabled.iter().flat_map(|event| event.enable(None)) {
        writer.compound(statement.as_bytes());
    }
    writer.client("-- This dump is complete.\n");
    writer.end(FrameKind::Trailer, "").await?;
    session.run("ending the snapshot", "ROLLBACK").await.map_err(failed)?;
    let revision = |entry: &Option<Entry>| entry.as_ref().map(|entry| entry.revision);
    let entry = ledger::read(&mut session, order.migration, Side::Source).await?;
    if revision(&frozen(server, order, entry)?) != revision(&frozen_at) {
        let what = format!("{} was frozen anew during the dump", order.migration);
        return Err(server.found(Code::NotFrozen, what));
    }
    session.give_back().await?;
    let source = source(&found, facts);
    let description = found.description(&digests);
    Ok(Contents { description, source, form, frames: writer.finish() })
}

/// Errors that come from a customer's change to what is just being read: no such table; its definition
/// has changed; no such routine.
const CHANGED_MEANWHILE: [u16; 3] = [1146, 1412, 1305];

/// A session that is lost during a dump, or a statement that fails for a moment, is a dump to be
/// made again; also one that met a change of its rehearsal's source.
fn failed(error: Error, order: &Order) -> Error {
    match error {
        Error::Unreachable { server, doing, reason } => {
            let what = format!("{doing}: {reason}");
            Error::Found { code: Code::DumpFailed, server, what }
        }
        Error::Statement { server, doing, number, text } => {
            let changed = order.rehearsal && CHANGED_MEANWHILE.contains(&number);
            let transient = changed || crate::error::is_transient(number);
            let code = if transient { Code::DumpFailed } else { Code::DumpRefused };
            Error::Found { code, server, what: format!("{doing}: error {number}: {text}") }
        }
        other => other,
    }
}

/// The ledger's row by which this migration's source is frozen; none in a rehearsal.
fn frozen(server: &Server, order: &Order, entry: Option<Entry>) -> Result<Option<Entry>, Error> {
    let (row, asked) = (entry.as_ref().map(Entry::row), order.asked());
    let permitted = permit(Act::Dump, row, asked).and_then(|_| fence(row, asked));
    match (permitted, entry) {
        (Ok(()), entry) => Ok(entry),
        (Err(refusal), entry) => Err(ledger::refused(server, order, entry.as_ref(), refusal)),
    }
}

/// What the freeze found.
fn facts(server: &Server, frozen_at: &Entry) -> Result<freeze::Facts, Error> {
    serde_json::from_str(&frozen_at.facts).map_err(|e| {
        let server = server.name().to_string();
        Error::Unexpected { server, doing: "reading the ledger", what: e.to_string() }
    })
}

/// What the manifest says of the server.
fn source(found: &Found, facts: freeze::Facts) -> Source {
    Source {
        sql_mode: found.lists.sql_mode.clone(),
        charset: found.lists.charset_server.clone(),
        gtid: facts.gtid,
        binlog_file: facts.binlog_file,
        binlog_position: facts.binlog_position,
        at_unix_ms: facts.at_unix_ms,
    }
}

/// Reads all that there is, in one snapshot, and writes it.
async fn read<W: AsyncWrite + Unpin + Send>(
    session: &mut Session,
    order: &Order,
    writer: &mut Writer<'_, W>,
) -> Result<(Found, Digests), Error> {
    let doing = "beginning a snapshot";
    let live = if order.rehearsal {
        session.run(doing, &settings()).await?;
        Some(Live::begin(session, order, &snapshot()).await?)
    } else {
        session.run(doing, &snapshot()).await?;
        None
    };
    let found = Found::read(session, &order.database).await?;
    refuse(session, &found)?;
    prologue(session, &found, writer);
    writer.end(FrameKind::Prologue, "").await?;
    let views = Views::read(session, &order.database, &found.lists).await?;
    views.write_broken(loading_mode(session.about().flavour), writer).await?;
    sequences(session, &found, writer).await?;
    let flavour = session.about().flavour;
    let definitions = Definitions::new(flavour, &found.lists.tables, &found.tables);
    for (name, definition) in &definitions.first {
        writer.statement(definition.as_bytes());
        writer.end(FrameKind::Table, name).await?;
    }
    let digests = all_rows(session, order, live, (&found, &definitions), writer).await?;
    session.run("dumping", "SET SESSION character_set_results = 'utf8mb4'").await?;
    programs::routines(session, &found.lists, writer).await?;
    views.write(&found.lists, writer).await?;
    programs::triggers_and_events(session, &found.lists, order.rehearsal, writer).await?;
    Ok((found, digests))
}

/// How a session that reads is set. What the store takes late is waited for.
fn settings() -> String {
    format!(
        "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ; \
         SET SESSION net_write_timeout = {SLOW_STORE_S_MAX}, wait_timeout = {SLOW_STORE_S_MAX}"
    )
}

/// How a session that reads begins.
fn snapshot() -> String {
    format!("{}; START TRANSACTION WITH CONSISTENT SNAPSHOT", settings())
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
        "-- A database, dumped by Drover. To load it into a database that is there and empty:\n",
    );
    writer.client(match writer.form() {
        Form::Zstd => "--   zstd -dc FILE | mariadb --comments DATABASE\n",
        Form::Gzip => "--   zcat FILE | mariadb --comments DATABASE\n",
    });
    // With `unique_checks = 0` MariaDB collects an empty table's rows and sorts them once more before it
    // writes them: nearly twice the processor time for a large table, a sixth more for small ones.
    let mode = loading_mode(session.about().flavour);
    let settings = format!(
        "SET NAMES utf8mb4, time_zone = '+00:00', sql_mode = '{mode}', \
         foreign_key_checks = 0, unique_checks = 1"
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
    // Drover's own import has made the database so.
    writer.client(&format!("{alter};\n"));
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
            format!(
                "SELECT next_not_cached_value, cycle_count, \
                 IF(increment < 0, next_not_cached_value > start_value, \
                 next_not_cached_value < start_value) FROM {name}"
            ),
        ]
    });
    let answers = ask(session, doing, &shows.collect::<Vec<_>>()).await?;
    for (name, answers) in names.iter().zip(answers.chunks(2)) {
        let [Some(create), Some(place)] = [0, 1].map(|i| answers.get(i).and_then(|a| a.first()))
        else {
            return Err(session.unexpected(doing, "no answer".to_owned()));
        };
        writer.statement(text(create, 1).as_bytes());
        let (next, round, is_behind) = (text(place, 0), text(place, 1), text(place, 2) == "1");
        let quoted = ident(name);
        // SETVAL only goes forward; a sequence stands behind its start where that was changed later.
        if is_behind {
            writer.statement(format!("ALTER SEQUENCE {quoted} RESTART WITH {next}").as_bytes());
        }
        let set = format!("DO SETVAL({quoted}, {next}, 0, {round})");
        writer.statement(set.as_bytes());
        writer.end(FrameKind::Sequence, name).await?;
    }
    Ok(())
}

/// Writes the rows of all tables, and hashes them; and behind them the keys that come later.
async fn all_rows<W: AsyncWrite + Unpin + Send>(
    session: &mut Session,
    order: &Order,
    live: Option<Live>,
    (found, definitions): (&Found, &Definitions<'_>),
    writer: &mut Writer<'_, W>,
) -> Result<Digests, Error> {
    let tables = &found.lists.tables;
    // MySQL with GTIDs takes rows of engines without transactions only one statement at a time.
    let by_statement = session.about().flavour == Flavour::MySql
        && tables.values().any(|relation| !relation.engine.eq_ignore_ascii_case("InnoDB"));
    let settings = format!("SET NAMES binary, autocommit = {}", u8::from(by_statement));
    writer.statement(settings.as_bytes());
    writer.end(FrameKind::RowsBegin, "").await?;
    let digests = if let Some(live) = live {
        live.rows(session, tables, writer).await?
    } else {
        momentary::write(session, tables, writer).await?;
        match slices::are_large(tables) {
            true => side_by_side(session, order, tables, writer).await?,
            false => one_by_one(session, tables, writer).await?,
        }
    };
    for (name, keys) in &definitions.later {
        writer.statement(keys.as_bytes());
        writer.end(FrameKind::Keys, name).await?;
    }
    let mode = loading_mode(session.about().flavour);
    let back = format!("SET NAMES utf8mb4, autocommit = 1, sql_mode = '{mode}'");
    writer.statement(b"COMMIT");
    writer.statement(back.as_bytes());
    writer.end(FrameKind::RowsEnd, "").await?;
    Ok(digests)
}

async fn one_by_one<W: AsyncWrite + Unpin + Send>(
    session: &mut Session,
    tables: &BTreeMap<String, Relation>,
    writer: &mut Writer<'_, W>,
) -> Result<Digests, Error> {
    let mut digests = Digests::new();
    for part in slices::packets(tables.iter().collect()) {
        rows::read(session, &part, &mut digests, &mut Rows::new(writer)).await?;
    }
    Ok(digests)
}

/// On several sessions, each with a snapshot of its own: as the source is frozen, all see the same,
/// which the ledger says once more at the end.
async fn side_by_side<W: AsyncWrite + Unpin + Send>(
    session: &mut Session,
    order: &Order,
    tables: &BTreeMap<String, Relation>,
    writer: &mut Writer<'_, W>,
) -> Result<Digests, Error> {
    let (server, form) = (session.server().clone(), writer.form());
    let queue = Arc::new(slices::queue(session, tables).await?);
    let (to, mut frames) = mpsc::channel(1);
    let mut team = Team::default();
    for _ in 0..SIDE_BY_SIDE_MAX {
        let draft = Draft::new(form).map_err(|source| frames::writing(&server, source))?;
        let remote = Remote { server: server.clone(), draft, to: to.clone() };
        team.spawn(read_parts(server.clone(), order.database.clone(), queue.clone(), remote));
    }
    drop(to);
    let (mut digests, mut words) = (Digests::new(), words());
    loop {
        tokio::select! {
            frame = frames.recv() => match frame {
                Some(frame) => writer.put(frame).await?,
                None => break,
            },
            ended = team.next() => merge(&mut digests, ended?),
            _ = words.tick() => session.run("holding the snapshot", "DO 1").await?,
        }
    }
    while !team.is_empty() {
        merge(&mut digests, team.next().await?);
    }
    Ok(digests)
}

async fn read_parts(
    server: Server,
    database: String,
    queue: Arc<Queue>,
    mut remote: Remote,
) -> Result<Digests, Error> {
    let mut session = rows::session(&server, &database, &snapshot()).await?;
    let (mut digests, mut done) = (Digests::new(), None);
    while let Some((at, part)) = queue.next(done) {
        rows::read(&mut session, &part, &mut digests, &mut Rows::new(&mut remote)).await?;
        done = Some(at);
    }
    session.end().await?;
    Ok(digests)
}
