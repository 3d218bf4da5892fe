//! The ledger's rows, read; and its tables, made where there are none yet.

use drover_lifecycle::ledger::{Row, Side, State};
use drover_schemas::MigrationId;

use crate::{
    Error, Server, Session,
    questions::{Question, Questions},
};

/// The tables. Names in full, as none is selected. The ledger comes last: who finds it may count
/// on the others, also while another session is making them.
const TABLES: &str = include_str!("tables.sql");

const READING: &str = "reading the ledger";

/// A row of the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What was begun or done last.
    pub state: State,
    /// The highest revision that acted here.
    pub revision: u64,
    /// The run that acted last.
    pub run: u32,
    /// The attempt that acted last.
    pub attempt: u32,
    /// What it takes to undo it, as JSON; empty: nothing.
    pub undo: String,
    /// What the last completed step found, as JSON; empty: nothing.
    pub facts: String,
}

/// Whether a server has refused to read its ledger, or a table of it, because it has none yet: no such
/// database; no such table.
pub(crate) fn is_missing(error: &Error) -> bool {
    error.number().is_some_and(|number| [1049, 1146].contains(&number))
}

type LedgerRow = (String, u64, u32, u32, String, String);

impl Entry {
    /// What the ledger's rules look at.
    pub fn row(&self) -> Row {
        Row { state: self.state, revision: self.revision, run: self.run }
    }
}

/// A step's session without its locks, and the row of a migration.
pub(crate) async fn begin(
    server: &Server,
    migration: MigrationId,
    side: Side,
) -> Result<(Session, Option<Entry>), Error> {
    let mut first = Questions::default();
    let rows = first.add(row(migration, side));
    let (mut session, answered) = server.step_session(first).await?;
    let found = match answered {
        Ok(mut answers) => entry(&session, answers.take(rows)?)?,
        Err(error) if is_missing(&error) => read(&mut session, migration, side).await?,
        Err(error) => return Err(error),
    };
    Ok((session, found))
}

/// The row of a migration; the tables are made when they are missing.
pub async fn read(
    session: &mut Session,
    migration: MigrationId,
    side: Side,
) -> Result<Option<Entry>, Error> {
    let rows = match session.ask(row(migration, side)).await {
        Err(error) if is_missing(&error) => {
            session.run("making the ledger", TABLES).await?;
            session.ask(row(migration, side)).await?
        }
        other => other?,
    };
    entry(session, rows)
}

pub(super) fn row(migration: MigrationId, side: Side) -> Question<LedgerRow> {
    let sql = format!(
        "SELECT state, revision, run, attempt, `undo`, facts FROM drover.ledger \
         WHERE migration = '{migration}' AND side = '{}'",
        side.name()
    );
    Question::new(READING, sql)
}

pub(super) fn entry(session: &Session, rows: Vec<LedgerRow>) -> Result<Option<Entry>, Error> {
    let Some((state, revision, run, attempt, undo, facts)) = rows.into_iter().next() else {
        return Ok(None);
    };
    let Some(known) = State::read(&state) else {
        return Err(session.unexpected(READING, format!("the state {state} is of a newer version")));
    };
    Ok(Some(Entry { state: known, revision, run, attempt, undo, facts }))
}
