//! Feeding a dump to the stock client.
//!
//! The client's session says a few words of its own before the dump ([`prelude`]): it takes the
//! copy's lock and stops at once unless the ledger says that it is the loader whose turn it is.
//! The client stops at the first error. What it is fed is bounded by a pipe; a dump that ends
//! before its known length is never ended towards the client, which is killed instead.

use drover_schemas::Code;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    process::{Child, ChildStdin},
    task::JoinHandle,
};
use uuid::Uuid;

use crate::{
    Error, Flavour, Order, Server,
    connection::SILENCE_S_MAX,
    ident::{ident, literal},
    ledger::{State, copy_lock},
    program::{self, OptionsFrom, Said},
};

/// How much of the dump is in memory at a time, in bytes.
const PIECE_BYTES: usize = 256 << 10;

/// How long the loader waits for the lock of the copy, in seconds: whoever held it was just ended.
const LOCK_S_MAX: u32 = 5;

/// The error of a subquery with more than one row, which the prelude makes on purpose.
const NOT_MY_TURN: u16 = 1242;

/// Loads `length` bytes of SQL from `reader` into the order's database, which exists.
///
/// # Errors
/// [`Error::Reading`], `ImportFailed`, `ImportRefused`, [`Error::LedgerBusy`] when another loader
/// has taken its turn.
pub(crate) async fn load(
    server: &Server,
    flavour: Flavour,
    order: &Order,
    loader: Uuid,
    length: u64,
    reader: impl AsyncRead + Send + Unpin,
) -> Result<(), Error> {
    let mut command =
        program::command(server, program::client_names(flavour), OptionsFrom::Output)?;
    // Binary mode: the client takes nothing in the dump for a command of its own but DELIMITER.
    let mut child = command
        .args(["--batch", "--binary-mode", "--loose-skip-print-query-on-error"])
        .spawn()
        .map_err(|e| {
            server.found(Code::ImportFailed, format!("the client cannot be started: {e}"))
        })?;
    let said = tokio::spawn(program::listen(child.stderr.take()));
    let input = child
        .stdin
        .take()
        .ok_or_else(|| server.found(Code::ImportFailed, "the client has no input"))?;
    let fed = feed(server, input, &prelude(order, loader), length, reader).await;
    match fed {
        Ok(Fed::All) => ended(server, order, &mut child, said).await,
        // It stopped taking anything in: it has an error to tell, also when it ends well.
        Ok(Fed::Refused) => {
            ended(server, order, &mut child, said).await?;
            Err(server.found(Code::ImportFailed, "the client ended before the dump did"))
        }
        Err(error) => {
            let _ = child.kill().await;
            Err(error)
        }
    }
}

/// How feeding went.
enum Fed {
    All,
    Refused,
}

async fn feed(
    server: &Server,
    mut input: ChildStdin,
    prelude: &str,
    length: u64,
    reader: impl AsyncRead + Send + Unpin,
) -> Result<Fed, Error> {
    let mut reader = reader.take(length);
    if input.write_all(prelude.as_bytes()).await.is_err() {
        return Ok(Fed::Refused);
    }
    let mut piece = vec![0; PIECE_BYTES];
    let mut left = length;
    loop {
        let got = reader
            .read(&mut piece)
            .await
            .map_err(|source| Error::Reading { server: server.name().to_string(), source })?;
        if got == 0 {
            break;
        }
        left = left.saturating_sub(got as u64);
        if input.write_all(&piece[..got]).await.is_err() {
            return Ok(Fed::Refused);
        }
    }
    if left > 0 {
        let what = format!("the dump ended {left} bytes before its length of {length}");
        return Err(server.found(Code::ImportFailed, what));
    }
    if input.shutdown().await.is_err() {
        return Ok(Fed::Refused);
    }
    Ok(Fed::All)
}

/// What the client says before the dump.
///
/// Where it is not this loader's turn, the last subquery has two rows, which is an error.
fn prelude(order: &Order, loader: Uuid) -> String {
    let migration = order.migration;
    let lock = literal(&copy_lock(migration));
    format!(
        "SET SESSION wait_timeout = {SILENCE_S_MAX};\n\
         SET @drover_turn = GET_LOCK({lock}, {LOCK_S_MAX});\n\
         SET @drover_turn = @drover_turn AND EXISTS (SELECT 1 FROM drover.ledger l \
         JOIN drover.copy c ON c.migration = l.migration \
         WHERE l.migration = '{migration}' AND l.side = 'destination' AND l.state = '{}' \
         AND l.revision = {} AND c.loader = '{loader}');\n\
         SET @drover_turn = (SELECT n FROM (SELECT 1 AS n UNION ALL SELECT 2) AS two \
         WHERE NOT COALESCE(@drover_turn, 0));\n\
         USE {};\n",
        State::Importing.name(),
        order.revision,
        ident(&order.database),
    )
}

async fn ended(
    server: &Server,
    order: &Order,
    child: &mut Child,
    said: JoinHandle<Said>,
) -> Result<(), Error> {
    let ended = program::end(child).await;
    let said = said.await.unwrap_or_default();
    let Err(how) = ended else { return Ok(()) };
    if said.number == Some(NOT_MY_TURN) {
        return Err(Error::LedgerBusy {
            server: server.name().to_string(),
            migration: order.migration.to_string(),
            seconds: LOCK_S_MAX,
        });
    }
    let code = if said.is_transient() { Code::ImportFailed } else { Code::ImportRefused };
    Err(server.found(code, format!("the client ended with {how}: {}", said.text)))
}
