//! Loading a dump into a new database that no customer reaches yet.
//!
//! The order of things: the intent in the ledger; an end to whoever else loads; the checks that the
//! name is free and that no account reaches it; in one packet the claim, the database and the claim's
//! confirmation; the load; the result in the ledger. Run again after an end anywhere, it drops what it had made
//! and begins anew.
//!
//! The session with the lock stays at hand while the loader works, and says so to the server, which
//! would end it otherwise. When that session is lost, the import fails.

use drover_lifecycle::ledger::{Act, Move};
use drover_schemas::v1;
use tokio::io::AsyncRead;
use uuid::Uuid;

use crate::{
    Contents, Description, Error, Flavour, Locked, Order, Server, aside,
    copy::{self, Copy},
    finish, guard,
    ident::{ident, literal},
    ledger::{Side, State},
    load::load,
    open,
    successors::{Changes, Successors},
};

/// Creates the database as the dump's `contents` say, and loads the dump from `reader`, which is
/// read to its end. The same order run again, after it was done, does nothing. Without `successors`
/// every definer stays who it is.
///
/// # Errors
/// `NameTaken`, `ReachableEarly`, `DefinerRefused`, `ImportRefused` or the code of a refusal's cause, `ImportFailed`, `DumpDamaged`,
/// [`Error::Reading`] with the reader's own error; [`Error::LedgerOutdated`] also for a copy that
/// is open.
pub async fn import(
    server: &Server,
    order: &Order,
    contents: &Contents,
    successors: Option<Successors<'_>>,
    reader: impl AsyncRead + Send + Unpin,
) -> Result<v1::ImportCompleted, Error> {
    let mut locked = Locked::take(server, order, Side::Destination).await?;
    let result = import_in(&mut locked, contents, successors, reader).await;
    finish(locked, result).await
}

async fn import_in(
    locked: &mut Locked,
    contents: &Contents,
    successors: Option<Successors<'_>>,
    reader: impl AsyncRead + Send + Unpin,
) -> Result<v1::ImportCompleted, Error> {
    let completed = v1::ImportCompleted {
        tables: contents.description.tables(),
        dump_bytes: contents.stored_bytes(),
    };
    if !begin(locked).await? {
        return Ok(completed);
    }
    let database = locked.order().database.clone();
    let brings_back = locked.order().brings_back.is_some();
    guard::not_reachable(locked.session(), &database, brings_back).await?;
    let definers = match successors {
        Some(successors) => successors.decide(locked.session(), &contents.description).await?,
        None => Changes::new(),
    };
    let loader = Uuid::new_v4();
    create(locked, &contents.description, loader).await?;
    let (server, order) = (locked.server(), locked.order().clone());
    crate::meanwhile(locked, load(&server, &order, loader, (contents, &definers), reader)).await?;
    locked.write(State::Imported, &open::Facts { definers, ..open::Facts::default() }).await?;
    Ok(completed)
}

/// Writes the intent, and makes room. False: this very order was done before.
async fn begin(locked: &mut Locked) -> Result<bool, Error> {
    match locked.permit(Act::Import)? {
        Move::Begin | Move::GoOn => {}
        Move::Again | Move::Rest => return Ok(false),
    }
    locked.check_not_held().await?;
    locked.write(State::Importing, &()).await?;
    copy::end_loader(locked).await?;
    aside::set_aside(locked).await?;
    match copy::look(locked).await? {
        Copy::Absent => {}
        Copy::Own => copy::drop_own(locked).await?,
        Copy::Foreign => return Err(copy::taken(locked)),
    }
    Ok(true)
}

async fn create(locked: &mut Locked, description: &Description, loader: Uuid) -> Result<(), Error> {
    let defaults = &description.defaults;
    let comment = match locked.session().about().flavour {
        Flavour::MariaDb => format!(" COMMENT {}", literal(&defaults.comment)),
        Flavour::MySql => String::new(),
    };
    let sql = format!(
        "CREATE DATABASE {} CHARACTER SET {} COLLATE {}{comment}",
        ident(&locked.order().database),
        ident(&defaults.charset),
        ident(&defaults.collation),
    );
    match copy::make(locked, loader, &sql).await {
        Err(error) if error.number() == Some(DATABASE_EXISTS) => Err(copy::taken(locked)),
        other => other,
    }
}

/// It came to be between the look and the creation.
const DATABASE_EXISTS: u16 = 1007;
