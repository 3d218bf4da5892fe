//! Single migrations: which they are, and where each stands.

use drover_schemas::{CampaignName, MigrationId};
use rusqlite::{Connection, OptionalExtension as _, Row, ToSql, params, types::Type};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Error, view};

/// How many migrations a page has at most: it must fit into one message of the bus.
pub const ROWS_MAX: u32 = 1000;

/// Which migrations are wanted: those to which everything that is given applies.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Filter {
    /// The lifecycle's name for where they stand: `planned`, a step's name, `parked`, …
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
    /// What they wait for: `slot`, `findings`, `job`, `settlement`, `person` or `nothing`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<String>,
    /// The signature of the failure that they are parked with, or that they met last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signature: Option<String>,
    /// Their wave.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wave: Option<String>,
    /// Their database's name: one of each source at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    /// Only those planned after this one: the last of the page before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<MigrationId>,
    /// At most so many; [`ROWS_MAX`] where it is not given, or more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

impl Filter {
    /// The rows in a page.
    pub fn page_rows(&self) -> u32 {
        self.limit.unwrap_or(ROWS_MAX).min(ROWS_MAX)
    }
}

/// Where a migration stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MigrationRow {
    /// Its id.
    pub id: MigrationId,
    /// Its database.
    pub database: String,
    /// The server that it comes from.
    pub source: String,
    /// The server that it goes to.
    pub destination: String,
    /// Its wave; may be empty.
    pub wave: String,
    /// The lifecycle's name for where it stands.
    pub phase: String,
    /// What it waits for: `slot`, `findings`, `job`, `settlement`, `person` or `nothing`.
    pub waits_for: String,
    /// Admissions so far.
    pub run: u32,
    /// Which attempt at its step; 0 where no step is done.
    pub attempt: u32,
    /// Since when its customer cannot write, in ms since 1970; none when the customer can.
    pub frozen_since_unix_ms: Option<i64>,
    /// When its source thaws itself unless the destination is opened before, by the source's clock,
    /// in ms since 1970; none when nothing is frozen, or it thaws only on Drover's word.
    pub thaw_at_unix_ms: Option<i64>,
    /// How long its customer could not write, when the destination opened last.
    pub frozen_seconds: Option<f64>,
    /// The code of the failure that it is parked with, or that it met last in this step.
    pub code: Option<String>,
    /// That failure's signature.
    pub signature: Option<String>,
    /// When its last event was found, in ms since 1970.
    pub last_event_unix_ms: i64,
    /// The stream sequence of its last event.
    pub revision: u64,
}

pub(super) fn read(
    connection: &Connection,
    campaign: &CampaignName,
    filter: &Filter,
) -> Result<Vec<MigrationRow>, Error> {
    let campaign = view::known_campaign_id(connection, campaign)?;
    let after = match filter.after {
        Some(after) => number(connection, campaign, after)?,
        None => 0,
    };
    let mut values: Vec<&dyn ToSql> = vec![&campaign, &after];
    let mut conditions = String::new();
    for (column, value) in [
        ("phase", &filter.phase),
        ("signature", &filter.signature),
        ("wave", &filter.wave),
        ("database", &filter.database),
        ("waits_for", &filter.waits_for),
    ] {
        if let Some(value) = value {
            values.push(value);
            conditions.push_str(&format!(" AND {column} = ?{}", values.len()));
        }
    }
    let statement = format!(
        "SELECT id, database, source, destination, wave, phase, waits_for, run, attempt,
            frozen_since, frozen_ms, code, signature, at, revision, thaw_at
        FROM migration WHERE campaign = ?1 AND number > ?2{conditions}
        ORDER BY number LIMIT {}",
        filter.page_rows()
    );
    let mut statement = connection.prepare_cached(&statement)?;
    let rows = statement.query_map(values.as_slice(), row)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Its place in the order of planning; past all others where it is not known.
fn number(connection: &Connection, campaign: i64, id: MigrationId) -> Result<i64, Error> {
    let number = connection
        .prepare_cached("SELECT number FROM migration WHERE campaign = ?1 AND id = ?2")?
        .query_row(params![campaign, id.uuid().as_bytes()], |row| row.get(0))
        .optional()?;
    Ok(number.unwrap_or(i64::MAX))
}

fn row(row: &Row<'_>) -> rusqlite::Result<MigrationRow> {
    let frozen_ms: Option<i64> = row.get(10)?;
    Ok(MigrationRow {
        id: id(row, 0)?,
        database: row.get(1)?,
        source: row.get(2)?,
        destination: row.get(3)?,
        wave: row.get(4)?,
        phase: row.get(5)?,
        waits_for: row.get(6)?,
        run: row.get(7)?,
        attempt: row.get(8)?,
        frozen_since_unix_ms: row.get(9)?,
        thaw_at_unix_ms: row.get(15)?,
        frozen_seconds: frozen_ms.map(|ms| ms as f64 / 1000.0),
        code: row.get(11)?,
        signature: row.get(12)?,
        last_event_unix_ms: row.get(13)?,
        revision: row.get(14)?,
    })
}

/// A migration's id, from its bytes in the tables.
pub(super) fn id(row: &Row<'_>, column: usize) -> rusqlite::Result<MigrationId> {
    let uuid = Uuid::from_bytes(row.get(column)?);
    // There is no other way from the bytes to an id than by its text.
    uuid.to_string().parse().map_err(|error: uuid::Error| {
        rusqlite::Error::FromSqlConversionFailure(column, Type::Blob, Box::new(error))
    })
}
