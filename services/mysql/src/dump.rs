//! Dumping a frozen database with the stock program.
//!
//! 1. The dump is a stream ([`Dump`]). It ends only after the program has ended well and the ledger
//!    still says that the source is frozen; anything else is an error of the stream, so that what
//!    was cut short never looks complete. Whoever loads it is told its length as well.
//! 2. No database is created or selected in it: it can be loaded into one of any name.
//! 3. A freeze disables the scheduled events, so the dump has them disabled. The trailer enables
//!    those that were enabled: it belongs behind the dump in the customer's file. Drover's own
//!    import leaves it out; there they are enabled when the destination opens.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use drover_lifecycle::ledger::{Act, Refusal, fence, permit};
use drover_schemas::Code;
use futures::{StreamExt as _, stream::BoxStream};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, ReadBuf},
    process::{Child, ChildStdout},
    sync::mpsc,
    task::JoinHandle,
};
use tokio_util::io::StreamReader;

use crate::{
    Description, Error, Flavour, Order, Server, events,
    ident::ident,
    ledger::{self, Side},
    program::{self, OptionsFrom},
    takeaway::ScheduledEvent,
};

/// How much of the dump is read from the program at a time, in bytes.
const PIECE_BYTES: usize = 64 << 10;

/// How many pieces wait for whoever reads the dump.
const PIECES_WAITING_MAX: usize = 4;

/// From this version MariaDB's rows can be written together with their history.
const HISTORY_SINCE: (u16, u16, u16) = (10, 11, 0);

/// A dump on its way. Ends, as a stream, only when it is complete. Dropping it ends the program.
pub struct Dump {
    reader: StreamReader<BoxStream<'static, io::Result<Bytes>>, Bytes>,
    pump: JoinHandle<()>,
}

/// What goes from the program to the reader.
enum Piece {
    Data(Bytes),
    Failed(Error),
    Complete,
}

/// Begins to dump a database that this migration has frozen. `description` is what
/// [`crate::describe`] found in it.
///
/// # Errors
/// `NotFrozen`, `ProgramMissing`, `DumpRefused` for row histories that this server's version cannot
/// hand over. The stream's errors are [`Error`]s (see [`error_of`]): `DumpFailed`, `DumpRefused`,
/// `NotFrozen` or `WatchdogFired` when the source was thawed meanwhile.
pub async fn dump(
    server: &Server,
    order: &Order,
    description: &Description,
) -> Result<Dump, Error> {
    let mut session = server.session().await?;
    let (flavour, version) = (session.about().flavour, session.about().version);
    let frozen_at = frozen(&mut session, order).await?;
    session.end().await?;
    let history = description.has_history();
    if history && (flavour == Flavour::MySql || version < HISTORY_SINCE) {
        let what = "a system-versioned table's history can be dumped from MariaDB 10.11 on";
        return Err(server.found(Code::DumpRefused, what));
    }
    let mut command = program::command(server, program::dump_names(flavour), OptionsFrom::Input)?;
    command.args(arguments(history, flavour)).arg("--").arg(&order.database);
    let mut child = command.spawn().map_err(|e| {
        server.found(Code::DumpFailed, format!("the dump program cannot be started: {e}"))
    })?;
    let failed = || server.found(Code::DumpFailed, "the dump program has no output");
    let stdout = child.stdout.take().ok_or_else(failed)?;
    let (sender, receiver) = mpsc::channel(PIECES_WAITING_MAX);
    let (server, order) = (server.clone(), order.clone());
    let pump = tokio::spawn(async move {
        let work = pump(&server, &order, frozen_at, child, stdout, &sender);
        tokio::select! {
            // Nobody reads any more: the program ends with `child`.
            () = sender.closed() => {}
            result = work => {
                let last = result.map_or_else(Piece::Failed, |()| Piece::Complete);
                let _ = sender.send(last).await;
            }
        }
    });
    Ok(Dump { reader: StreamReader::new(pieces(receiver).boxed()), pump })
}

/// The stock program's options. The source is frozen, so no lock is needed; the snapshot keeps a
/// change of its tables' definitions out as well.
fn arguments(history: bool, flavour: Flavour) -> Vec<&'static str> {
    let mut arguments = vec![
        "--single-transaction",
        "--quick",
        "--routines",
        "--triggers",
        "--hex-blob",
        "--no-tablespaces",
        "--skip-comments",
        // A locked table whose default comes from a sequence cannot be loaded.
        "--skip-add-locks",
        // One commit a table, not one a statement.
        "--no-autocommit",
    ];
    if history {
        arguments.push("--dump-history");
    }
    if flavour == Flavour::MySql {
        // The copy gets GTIDs and statistics of its own; MariaDB's program knows neither option.
        arguments.extend(["--loose-set-gtid-purged=OFF", "--loose-column-statistics=0"]);
    }
    arguments
}

/// The revision at which this migration's source was frozen.
async fn frozen(session: &mut crate::Session, order: &Order) -> Result<u64, Error> {
    let server = session.server().clone();
    let entry = ledger::read(session, order.migration, Side::Source).await?;
    let (row, asked) = (entry.as_ref().map(ledger::Entry::row), order.asked());
    let permitted = permit(Act::Dump, row, asked).and_then(|_| fence(row, asked));
    match (permitted, &entry) {
        (Ok(()), Some(entry)) => Ok(entry.revision),
        (Ok(()), None) => Err(ledger::refused(&server, order, None, Refusal::NotFrozen)),
        (Err(refusal), entry) => Err(ledger::refused(&server, order, entry.as_ref(), refusal)),
    }
}

async fn pump(
    server: &Server,
    order: &Order,
    frozen_at: u64,
    mut child: Child,
    mut stdout: ChildStdout,
    sender: &mpsc::Sender<Piece>,
) -> Result<(), Error> {
    let said = tokio::spawn(program::listen(child.stderr.take()));
    let mut buffer = BytesMut::with_capacity(PIECE_BYTES);
    loop {
        buffer.reserve(PIECE_BYTES);
        let length = stdout.read_buf(&mut buffer).await.map_err(|e| {
            server.found(Code::DumpFailed, format!("the dump program's output: {e}"))
        })?;
        if length == 0 {
            break;
        }
        // An error means that nobody reads any more; then this future is about to be dropped.
        let _ = sender.send(Piece::Data(buffer.split().freeze())).await;
    }
    let ended = program::end(&mut child).await;
    let said = said.await.unwrap_or_default();
    if let Err(how) = ended {
        let code = if said.is_transient() { Code::DumpFailed } else { Code::DumpRefused };
        return Err(server.found(code, format!("the dump program ended with {how}: {}", said.text)));
    }
    let mut session = server.session().await?;
    if frozen(&mut session, order).await? != frozen_at {
        let what = format!("{} was frozen anew during the dump", order.migration);
        return Err(server.found(Code::NotFrozen, what));
    }
    let events = events::dump(&mut session, &order.database).await?;
    let _ = sender.send(Piece::Data(events.into())).await;
    session.end().await
}

/// The dump's bytes; an error where the pieces stop without the word that they are complete.
fn pieces(receiver: mpsc::Receiver<Piece>) -> impl futures::Stream<Item = io::Result<Bytes>> {
    futures::stream::unfold(Some(receiver), |receiver| async move {
        let mut receiver = receiver?;
        match receiver.recv().await {
            Some(Piece::Data(bytes)) => Some((Ok(bytes), Some(receiver))),
            Some(Piece::Complete) => None,
            Some(Piece::Failed(error)) => Some((Err(io::Error::other(error)), None)),
            None => Some((Err(io::ErrorKind::UnexpectedEof.into()), None)),
        }
    })
}

impl AsyncRead for Dump {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.reader).poll_read(context, buffer)
    }
}

impl Drop for Dump {
    fn drop(&mut self) {
        self.pump.abort();
    }
}

/// The error behind the end of a [`Dump`]'s stream.
///
/// # Errors
/// Gives the stream's error back where it is not from here.
pub fn error_of(error: io::Error) -> Result<Error, io::Error> {
    error.downcast::<Error>()
}

/// What stands behind the dump in the customer's file: it enables the scheduled events again, and
/// ends the file in a line that only a complete one has.
pub fn trailer(enabled: &[ScheduledEvent]) -> String {
    let mut text = String::from("\n");
    for event in enabled {
        let definer = event.definer();
        text.push_str(&format!("ALTER DEFINER={definer} EVENT {} ENABLE;\n", ident(&event.name)));
    }
    text.push_str("-- This dump is complete.\n");
    text
}
