//! Loading a dump: frame by frame, each checked before its first statement is run.
//!
//! The loader is a session of its own. Its first words take the copy's lock, and it goes on only
//! when the ledger says that it is the loader whose turn it is. It runs what the manifest says is
//! a statement, one at a time; text that a customer wrote (definitions) goes to MariaDB by
//! `EXECUTE IMMEDIATE`, which takes exactly one statement, in hexadecimal, which nothing ends
//! early. MySQL has no such word for all kinds of definitions; there each is a packet of its own,
//! and refused where it could be more than one statement ([`bodies`](crate::bodies)).

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
    refusals,
    successors::{Changes, put_in},
};

/// How long the loader waits for the lock of the copy, in seconds: whoever held it was just ended.
const LOCK_S_MAX: u32 = 5;

/// A MEMORY table takes its limit from the session that makes it; the copy must hold what the
/// source holds. In bytes.
const MEMORY_TABLE_BYTES_MAX: u64 = 16 << 30;

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
    for frame in &contents.frames {
        let stored = read(server, frame, &mut reader).await?;
        let text = frame.unpack(contents.form, stored).await;
        let text = text.map_err(|what| wrong(server, frame, &what))?;
        match frame.kind {
            FrameKind::Prologue | FrameKind::RowsBegin => {
                run(&mut session, frame, &text).await?;
                helpers.tell(frame, text);
            }
            FrameKind::Rows if helpers.are_wanted() => {
                helpers.give(&mut session, frame, text).await?;
            }
            FrameKind::RowsEnd => {
                helpers.end(&mut session).await?;
                run(&mut session, frame, &text).await?;
            }
            FrameKind::Sequence
            | FrameKind::Table
            | FrameKind::Rows
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
    let begin = format!(
        "USE {}; SET SESSION max_heap_table_size = {MEMORY_TABLE_BYTES_MAX}",
        ident(&order.database)
    );
    session.run(DOING, &begin).await.map_err(failed)?;
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
    let sql = format!("SELECT COALESCE(GET_LOCK({lock}, {LOCK_S_MAX}), 0)");
    let (locked,): (bool,) = session.one(DOING, &sql).await.map_err(failed)?;
    let sql = format!(
        "SELECT EXISTS (SELECT 1 FROM drover.ledger l \
         JOIN drover.copy c ON c.migration = l.migration \
         WHERE l.migration = '{migration}' AND l.side = 'destination' AND l.state = '{}' \
         AND l.revision = {} AND c.loader = '{loader}')",
        State::Importing.name(),
        order.revision,
    );
    let (mine,): (bool,) = session.one(DOING, &sql).await.map_err(failed)?;
    if locked && mine {
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

/// Runs what the server itself must find to be one statement.
async fn one_statement(session: &mut Session, frame: &Frame, sql: &[u8]) -> Result<(), Error> {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut immediate = Vec::with_capacity(2 * sql.len() + 32);
    immediate.extend_from_slice(b"EXECUTE IMMEDIATE x'");
    for byte in sql {
        immediate.push(DIGITS[usize::from(byte >> 4)]);
        immediate.push(DIGITS[usize::from(byte & 15)]);
    }
    immediate.push(b'\'');
    match packet(session, &immediate).await {
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
