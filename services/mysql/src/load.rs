//! Loading a dump: frame by frame, each checked before its first statement is run.
//!
//! The loader is a session of its own. Its first words take the copy's lock, and it goes on only
//! when the ledger says that it is the loader whose turn it is. It runs what the manifest says is
//! a statement; text that a customer wrote (definitions) goes to MariaDB by
//! `EXECUTE IMMEDIATE`, which takes exactly one statement, in hexadecimal, which nothing ends
//! early. MySQL has no such word for all kinds of definitions; there each is a packet of its own,
//! and refused where it could be more than one statement ([`bodies`](crate::bodies)).
//!
//! A small database's tables go to the server in one packet, and so do its rows, with the settings that
//! stand around them ([`Batch`]): a round trip costs both sides as much as an INSERT of some rows.

use drover_schemas::Code;
use mysql_async::prelude::Queryable as _;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use uuid::Uuid;

use crate::{
    Contents, Error, Flavour, Frame, FrameKind, Order, Server, Session, bodies,
    error::is_transient,
    frames::damaged,
    helpers::Helpers,
    ident::{ident, literal},
    ledger::{State, copy_lock},
    listing::{ask, text},
    refusals,
    successors::{Changes, put_in},
};

/// How long the loader waits for the lock of the copy, in seconds: whoever held it was just ended.
const LOCK_S_MAX: u32 = 5;

/// A MEMORY table takes its limit from the session that makes it; the copy must hold what the
/// source holds. In bytes.
const MEMORY_TABLE_BYTES_MAX: u64 = 16 << 30;

/// How large a packet of several statements gets, in bytes; a larger statement goes by itself. Far under
/// every server's limit, and a packet that is no longer worth waiting for others.
const BATCH_BYTES_MAX: usize = 256 << 10;

/// The server cannot prepare this kind of statement.
const NOT_PREPARED: u16 = 1295;

pub(crate) const DOING: &str = "loading the dump";

/// Loads a dump from `reader` into the order's database, which exists, with these definers exchanged.
/// Reads the whole of it.
///
/// # Errors
/// [`Error::Reading`], `DumpDamaged`, `ImportFailed`, `ImportRefused`, `BodyAmbiguous`, [`Error::LedgerBusy`] when
/// another loader has taken its turn.
pub(crate) async fn load(
    server: &Server,
    order: &Order,
    loader: Uuid,
    (contents, definers): (&Contents, &Changes),
    mut reader: impl AsyncRead + Send + Unpin,
) -> Result<(), Error> {
    let mut session = begin(server, order, loader, 0).await?;
    let mut helpers = Helpers::new(server, order, loader, &contents.frames);
    let mut batch = Batch::new(&session);
    for frame in &contents.frames {
        let stored = read(server, frame, &mut reader).await?;
        let text = frame.unpack(contents.form, stored).await;
        let text = text.map_err(|what| wrong(server, frame, &what))?;
        let is_helpers = helpers.are_wanted() && frame.kind.is_of_rows();
        if batch.takes(frame.kind) && !is_helpers {
            batch.add(&mut session, frame, &text).await?;
            continue;
        }
        batch.run(&mut session).await?;
        match frame.kind {
            FrameKind::Prologue | FrameKind::RowsBegin if is_helpers => {
                run(&mut session, frame, &text).await?;
                helpers.tell(frame, text);
            }
            FrameKind::Rows | FrameKind::Keys if is_helpers => {
                helpers.give(&mut session, frame, text).await?;
            }
            FrameKind::RowsEnd if is_helpers => {
                helpers.end(&mut session).await?;
                run(&mut session, frame, &text).await?;
            }
            FrameKind::Prologue
            | FrameKind::Sequence
            | FrameKind::Table
            | FrameKind::RowsBegin
            | FrameKind::Rows
            | FrameKind::Keys
            | FrameKind::RowsEnd
            | FrameKind::Routine
            | FrameKind::View
            | FrameKind::Trigger
            | FrameKind::Event => run_with(&mut session, frame, &text, definers).await?,
            // For customers only.
            FrameKind::Trailer => {}
        }
    }
    session.end().await.map_err(failed)
}

/// A session that loads, when it is its turn: the loader, or one of its helpers.
pub(crate) async fn begin(
    server: &Server,
    order: &Order,
    loader: Uuid,
    helper: usize,
) -> Result<Session, Error> {
    let mut session = server.session().await?;
    take_turn(&mut session, order, loader, helper).await?;
    Ok(session)
}

async fn take_turn(
    session: &mut Session,
    order: &Order,
    loader: Uuid,
    helper: usize,
) -> Result<(), Error> {
    let migration = order.migration;
    let lock = literal(&copy_lock(migration, helper));
    let lock = format!("SELECT COALESCE(GET_LOCK({lock}, {LOCK_S_MAX}), 0)");
    let mine = format!(
        "SELECT EXISTS (SELECT 1 FROM drover.ledger l \
         JOIN drover.copy c ON c.migration = l.migration \
         WHERE l.migration = '{migration}' AND l.side = 'destination' AND l.state = '{}' \
         AND l.revision = {} AND c.loader = '{loader}')",
        State::Importing.name(),
        order.revision,
    );
    let select = format!("USE {}", ident(&order.database));
    let room = format!("SET SESSION max_heap_table_size = {MEMORY_TABLE_BYTES_MAX}");
    // The server answers the last question under the lock of the one before; the rest is this
    // session's own.
    let answers = ask(session, DOING, &[select, room, lock, mine]).await.map_err(failed)?;
    let yes =
        |at: usize| answers.get(at).and_then(|a| a.first()).is_some_and(|r| text(r, 0) == "1");
    if yes(2) && yes(3) {
        return Ok(());
    }
    Err(Error::LedgerBusy {
        server: session.server().name().to_string(),
        migration: migration.to_string(),
        seconds: LOCK_S_MAX,
    })
}

/// A frame's stored bytes.
async fn read(
    server: &Server,
    frame: &Frame,
    reader: &mut (impl AsyncRead + Send + Unpin),
) -> Result<Vec<u8>, Error> {
    let mut stored = Vec::new();
    reader
        .take(frame.bytes)
        .read_to_end(&mut stored)
        .await
        .map_err(|source| Error::Reading { server: server.name().to_string(), source })?;
    if (stored.len() as u64) < frame.bytes {
        return Err(wrong(server, frame, "the dump ends inside it"));
    }
    Ok(stored)
}

fn wrong(server: &Server, frame: &Frame, what: &str) -> Error {
    let Frame { kind, name, offset, .. } = frame;
    damaged(server, format!("the frame {kind:?} {} at byte {offset}: {what}", ident(name)))
}

pub(crate) async fn run(session: &mut Session, frame: &Frame, text: &[u8]) -> Result<(), Error> {
    run_with(session, frame, text, &Changes::new()).await
}

async fn run_with(
    session: &mut Session,
    frame: &Frame,
    text: &[u8],
    definers: &Changes,
) -> Result<(), Error> {
    let maria = session.about().flavour == Flavour::MariaDb;
    for span in &frame.statements {
        let Some(sql) = frame.statement(text, *span) else {
            return Err(wrong(session.server(), frame, "a statement goes beyond its text"));
        };
        let exchanged = put_in(session, frame.kind, sql, definers).await.map_err(failed)?;
        let sql = exchanged.as_deref().unwrap_or(sql);
        let done = if maria && frame.kind.holds_definitions() {
            one_statement(session, frame, sql).await
        } else {
            as_it_is(session, frame, sql).await
        };
        done.map_err(|error| of(error, frame))?;
    }
    Ok(())
}

/// What goes to the server in one packet: statements that can stand beside others, because nothing in
/// them ends early. Rows are literals that Drover has quoted, in settings no customer has a word; tables'
/// definitions are in hexadecimal.
struct Batch<'f> {
    takes_tables: bool,
    text: Vec<u8>,
    /// For each statement the frame that it stands in.
    frames: Vec<&'f Frame>,
}

impl<'f> Batch<'f> {
    fn new(session: &Session) -> Self {
        let takes_tables = session.about().flavour == Flavour::MariaDb;
        Self { takes_tables, text: Vec::new(), frames: Vec::new() }
    }

    fn takes(&self, kind: FrameKind) -> bool {
        match kind {
            FrameKind::Prologue | FrameKind::RowsBegin | FrameKind::Rows | FrameKind::RowsEnd => {
                true
            }
            FrameKind::Table => self.takes_tables,
            FrameKind::Sequence
            | FrameKind::Keys
            | FrameKind::Routine
            | FrameKind::View
            | FrameKind::Trigger
            | FrameKind::Event
            | FrameKind::Trailer => false,
        }
    }

    /// Adds a frame's statements, and runs what has come together when it is much.
    async fn add(
        &mut self,
        session: &mut Session,
        frame: &'f Frame,
        text: &[u8],
    ) -> Result<(), Error> {
        for span in &frame.statements {
            let Some(sql) = frame.statement(text, *span) else {
                return Err(wrong(session.server(), frame, "a statement goes beyond its text"));
            };
            if self.text.len() + sql.len() > BATCH_BYTES_MAX {
                self.run(session).await?;
            }
            if !self.text.is_empty() {
                self.text.push(b';');
            }
            match frame.kind.holds_definitions() {
                true => immediate(sql, &mut self.text),
                false => self.text.extend_from_slice(sql),
            }
            self.frames.push(frame);
        }
        Ok(())
    }

    /// Runs what has come together. An error names the frame of the statement that failed.
    async fn run(&mut self, session: &mut Session) -> Result<(), Error> {
        let frames = std::mem::take(&mut self.frames);
        if frames.is_empty() {
            return Ok(());
        }
        let mut done = 0;
        let ran = in_one_packet(session, &self.text, &mut done).await;
        self.text.clear();
        self.text.shrink_to(BATCH_BYTES_MAX);
        match frames.get(done) {
            Some(frame) => ran.map_err(|error| of(error, frame)),
            None => ran.map_err(failed),
        }
    }
}

/// Runs several statements; `done` counts those that went well.
async fn in_one_packet(session: &mut Session, sql: &[u8], done: &mut usize) -> Result<(), Error> {
    let server = session.server().clone();
    let failed = |e| server.statement_error(DOING, &e);
    let mut result = session.conn().query_iter(sql).await.map_err(failed)?;
    while !result.is_empty() {
        *done += 1;
        // None of them has rows: this goes on to the next one's answer.
        let _: Vec<mysql_async::Row> = result.collect().await.map_err(failed)?;
    }
    // The driver keeps the error of a statement behind the first for who asks for more.
    result.next().await.map_err(failed)?;
    *done += 1;
    Ok(())
}

/// What the server itself must find to be one statement.
fn immediate(sql: &[u8], to: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    to.reserve(2 * sql.len() + 32);
    to.extend_from_slice(b"EXECUTE IMMEDIATE x'");
    for byte in sql {
        to.push(DIGITS[usize::from(byte >> 4)]);
        to.push(DIGITS[usize::from(byte & 15)]);
    }
    to.push(b'\'');
}

async fn one_statement(session: &mut Session, frame: &Frame, sql: &[u8]) -> Result<(), Error> {
    let mut said = Vec::new();
    immediate(sql, &mut said);
    match packet(session, &said).await {
        // MariaDB before 10.6, for routines, triggers and events.
        Err(error) if error.number() == Some(NOT_PREPARED) => as_it_is(session, frame, sql).await,
        other => other,
    }
}

/// Runs what may only be one statement because nothing in it may be read in another way.
async fn as_it_is(session: &mut Session, frame: &Frame, sql: &[u8]) -> Result<(), Error> {
    if bodies::may_go_on(frame.kind, sql) {
        let what = format!("{:?} {}", frame.kind, ident(&frame.name));
        return Err(session.server().found(Code::BodyAmbiguous, what));
    }
    if bodies::ends_in_semicolon(frame.kind, sql) {
        // It was made in a packet of several statements. The server takes a semicolon at a packet's end
        // away, and the text would be another.
        return packet(session, &[sql, b" DO 0"].concat()).await;
    }
    packet(session, sql).await
}

async fn packet(session: &mut Session, sql: &[u8]) -> Result<(), Error> {
    let server = session.server().clone();
    let done = session.conn().query_drop(sql).await;
    done.map_err(|e| server.statement_error(DOING, &e))
}

/// The error of a statement, with the frame that it stands in.
fn of(error: Error, frame: &Frame) -> Error {
    match told(error, Some(frame.kind)) {
        Error::Found { code, server, what } => {
            let Frame { kind, name, .. } = frame;
            let place = if name.is_empty() { String::new() } else { format!(" {}", ident(name)) };
            Error::Found { code, server, what: format!("{what} ({kind:?}{place})") }
        }
        other => other,
    }
}

/// What goes away by itself is an import to be made again; anything else is refused.
pub(crate) fn failed(error: Error) -> Error {
    told(error, None)
}

fn told(error: Error, kind: Option<FrameKind>) -> Error {
    match error {
        Error::Unreachable { server, doing, reason } => {
            let what = format!("{doing}: {reason}");
            Error::Found { code: Code::ImportFailed, server, what }
        }
        Error::Statement { server, doing, number, text } => {
            let code = match is_transient(number) {
                true => Code::ImportFailed,
                false => refusals::code(number, kind),
            };
            Error::Found { code, server, what: format!("{doing}: error {number}: {text}") }
        }
        other => other,
    }
}
