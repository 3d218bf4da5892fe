//! Setting a retired database aside, for the migration that brings it back, and putting it back.
//!
//! What is brought back takes the name of the old, retired database, and Drover deletes no source
//! data. So, before the import, that one goes: its tables and sequences are renamed into a database
//! of another name; what a server cannot rename (views, routines, triggers, events) is recorded
//! first, as the frames of a dump, and dropped. An undo of the import does the reverse, and compares.
//!
//! 1. Only what this server's ledger shows as retired by exactly the migration that is brought back
//!    is set aside: so nobody is let in, and it thaws itself no more. From then on its row says
//!    `aside`, which refuses every order of that migration.
//! 2. Everything happens on the session that holds the database's lock.
//! 3. `drover.aside` has the record and a [`Stage`](stages::Stage), committed before what the stage does. What a
//!    stage does can be done again from the beginning, whoever died at it.
//! 4. The tables go first, as only that may fail for good: then the way back from there needs
//!    nothing but to rename them again and to make their triggers, which are the only thing that has
//!    to go before. Broken views, which can only be made in an empty database, are dropped when
//!    nothing can fail any more but the server itself.

mod record;
mod stages;

use std::collections::BTreeSet;

use drover_lifecycle::ledger::{Side, State};
use drover_schemas::{Code, MigrationId};

use self::{
    record::Record,
    stages::{Aside, Stage, exists, find},
};
use crate::{
    Error, Flavour, Locked, Server, Session,
    accounts::{Member, memberships},
    guard,
    ident::{ident, literal},
    ledger::{self, Entry},
    privileges::Grantee,
    takeaway::Undo,
};

const SETTING_ASIDE: &str = "setting the retired database aside";
const PUTTING_BACK: &str = "putting the retired database back";

/// Made where something is set aside, and nowhere else.
const TABLE: &str = "\
CREATE TABLE IF NOT EXISTS drover.aside (
  migration CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
  by_migration CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  by_campaign VARCHAR(63) NOT NULL,
  database_name VARCHAR(64) NOT NULL,
  aside_name VARCHAR(64) NOT NULL,
  stage VARCHAR(16) NOT NULL,
  record LONGTEXT NOT NULL,
  frames LONGBLOB NOT NULL
) ENGINE=InnoDB";

/// How the name of a database begins that is set aside.
const PREFIX: &str = "drover_aside_";

/// The name of the database in which a migration's retired one lies. 45 characters.
pub fn aside_name(brought_back: MigrationId) -> String {
    format!("{PREFIX}{}", brought_back.to_string().replace('-', ""))
}

/// Whether a database of this name is one that is set aside, and so no customer's.
pub(crate) fn is_aside_name(name: &str) -> bool {
    let digits = |id: &str| id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    name.strip_prefix(PREFIX).is_some_and(digits)
}

/// Refuses what could not be brought back to this server: for the command, before anything is said
/// to the log. Changes nothing.
///
/// # Errors
/// `WayBackClosed` where it is no MariaDB; `NotRetired`; `ReachableEarly`; `ViewBroken` and others
/// of a dump for a definition that could not be made again.
pub async fn check(
    server: &Server,
    brought_back: MigrationId,
    database: &str,
) -> Result<(), Error> {
    let mut session = server.session().await?;
    checked(&mut session, brought_back, database).await?;
    Record::read(&mut session, database).await?;
    session.end().await
}

async fn checked(
    session: &mut Session,
    brought_back: MigrationId,
    database: &str,
) -> Result<Entry, Error> {
    if session.about().flavour != Flavour::MariaDb {
        return Err(session.server().found(Code::WayBackClosed, "it is not MariaDB"));
    }
    let entry = ledger::read(session, brought_back, Side::Source).await?;
    let state = entry.as_ref().map(|entry| entry.state);
    let held = held_by_another(session, brought_back, database).await?;
    let entry = entry.filter(|entry| entry.state == State::Retired && held.is_none());
    let Some(entry) = entry else {
        let says = state.map_or("nothing", State::name);
        let also = held.map_or_else(String::new, |other| format!(", and {other} has it too"));
        return Err(not_retired(session, database, &format!("its ledger says {says}{also}")));
    };
    guard::not_reachable(session, &aside_name(brought_back), false).await?;
    Ok(entry)
}

/// Another migration that has frozen or retired this database here.
async fn held_by_another(
    session: &mut Session,
    brought_back: MigrationId,
    database: &str,
) -> Result<Option<String>, Error> {
    let sql = format!(
        "SELECT migration FROM drover.ledger WHERE database_name = {} AND side = 'source' \
         AND migration <> '{brought_back}' AND state NOT IN ('thawed', 'aside') LIMIT 1",
        literal(database)
    );
    let held: Vec<String> = session.rows("reading the ledger", &sql).await?;
    Ok(held.into_iter().next())
}

fn not_retired(session: &Session, database: &str, what: &str) -> Error {
    session.server().found(Code::NotRetired, format!("{}: {what}", ident(database)))
}

/// Who held something on the retired database that an order brings back, with the members of roles:
/// they are the customer's own. And who is a member of which role.
pub(crate) async fn owners(locked: &mut Locked) -> Result<(BTreeSet<Grantee>, Vec<Member>), Error> {
    let Some(brought_back) = locked.order().brings_back else { return Ok(Default::default()) };
    let session = locked.session();
    let entry = ledger::read(session, brought_back, Side::Source).await?;
    let undo = entry.map(|entry| serde_json::from_str::<Undo>(&entry.undo)).transpose();
    let undo = undo.map_err(|e| session.unexpected("reading the ledger", e.to_string()))?;
    let mut owners = undo.unwrap_or_default().grantees();
    let members = memberships(session, &mut owners).await?;
    Ok((owners, members))
}

/// Frees the name for what an order brings back. Nothing for an order that brings nothing back.
pub(crate) async fn set_aside(locked: &mut Locked) -> Result<(), Error> {
    let Some(brought_back) = locked.order().brings_back else { return Ok(()) };
    let migration = locked.order().migration.to_string();
    // An undo that was cut off first comes to its end.
    let found = match find(locked, brought_back).await? {
        Some(Aside { by, .. }) if by != migration => {
            let what = format!("migration {by} has set it aside");
            return Err(locked.server().found(Code::DatabaseHeld, what));
        }
        Some(found) if found.goes_back() => {
            found.put_back(locked).await?;
            None
        }
        other => other,
    };
    let mut found = match found {
        Some(found) => found,
        None => begin(locked, brought_back).await?,
    };
    if found.stage == Stage::Leaving {
        found.leave(locked).await?;
        found.enter(locked, Stage::Emptying).await?;
    }
    if found.stage == Stage::Emptying {
        found.empty(locked).await?;
        found.enter(locked, Stage::Aside).await?;
    }
    Ok(())
}

/// Puts the retired database back as it was, wherever setting it aside has come to. Nothing where it
/// was not begun.
pub(crate) async fn put_back(locked: &mut Locked) -> Result<(), Error> {
    let Some(brought_back) = locked.order().brings_back else { return Ok(()) };
    let migration = locked.order().migration.to_string();
    match find(locked, brought_back).await? {
        Some(found) if found.by == migration => found.put_back(locked).await,
        Some(_) | None => Ok(()),
    }
}

/// Reads it, and writes the record: from here on it is aside to all others.
async fn begin(locked: &mut Locked, brought_back: MigrationId) -> Result<Aside, Error> {
    let order = locked.order().clone();
    let session = locked.session();
    checked(session, brought_back, &order.database).await?;
    let name = aside_name(brought_back);
    if exists(session, &name).await? {
        let what = format!("there is a database {} already", ident(&name));
        return Err(not_retired(session, &order.database, &what));
    }
    let record = Record::read(session, &order.database).await?;
    let aside = Aside {
        brought_back,
        by: order.migration.to_string(),
        database: order.database.clone(),
        name,
        stage: Stage::Leaving,
        record,
    };
    session.run("making the ledger", TABLE).await?;
    let sql = format!(
        "START TRANSACTION; INSERT INTO drover.aside VALUES ('{brought_back}','{}',{},{},{},'{}',{},\
         x'{}'); {}; COMMIT",
        aside.by,
        literal(order.campaign.as_str()),
        literal(&aside.database),
        literal(&aside.name),
        aside.stage.name(),
        literal(&aside.record.to_json(session)?),
        crate::survey::hex(&aside.record.stored),
        aside.says(State::Retired, State::Aside),
    );
    session.run("writing the ledger", &sql).await?;
    locked.flush().await?;
    Ok(aside)
}

/// Which migration of which campaign has set a migration's database aside here.
pub(crate) async fn taker(
    session: &mut Session,
    brought_back: MigrationId,
) -> Result<Option<(String, String)>, Error> {
    let sql = format!(
        "SELECT by_campaign, by_migration FROM drover.aside WHERE migration = '{brought_back}'"
    );
    let rows: Vec<(String, String)> = session.rows("reading the ledger", &sql).await?;
    Ok(rows.into_iter().next())
}
