//! Failures by signature.

use drover_schemas::{CampaignName, Code, MigrationId};
use rusqlite::{Connection, Row, params};
use serde::{Deserialize, Serialize};

use crate::{Error, view};

/// How many groups are listed: the rarest are left out, and all fit into one message of the bus.
const GROUPS_MAX: usize = 500;
/// How many hosts of a group are listed, those with most failures first.
const HOSTS_MAX: usize = 10;
/// How much of an example's message is given, in characters.
const MESSAGE_CHARS_MAX: usize = 500;

/// All failures with one signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailureGroup {
    /// The code and the text with its particulars taken out.
    pub signature: String,
    /// `DRV-0000`.
    pub code: String,
    /// The code's meaning; empty for a code that this version does not know.
    pub title: String,
    /// What to do now; empty for a code that this version does not know.
    pub remedy: String,
    /// The code's page, within the source tree.
    pub page: String,
    /// Whether it may go away by itself.
    pub transient: bool,
    /// Failed attempts.
    pub count: u64,
    /// Migrations that met it.
    pub migrations: u64,
    /// Migrations that wait for a person because of it, now.
    pub waiting: u64,
    /// When it was first met, in ms since 1970.
    pub first_seen_unix_ms: i64,
    /// When it was last met, in ms since 1970.
    pub last_seen_unix_ms: i64,
    /// Where it was met, most often first; at most ten.
    pub hosts: Vec<HostCount>,
    /// Hosts that are not listed.
    pub hosts_left_out: u64,
    /// The last one.
    pub example: Example,
}

/// How often something was met at a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostCount {
    /// The host.
    pub host: String,
    /// How often.
    pub count: u64,
}

/// One failure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Example {
    /// The migration's id.
    pub migration: MigrationId,
    /// Its database.
    pub database: String,
    /// What it said.
    pub message: String,
}

const SELECT: &str = "
SELECT failure.signature, failure.code, transient, failure.count, migrations, first_seen,
    last_seen, failure.migration, coalesce(migration.database, ''), message,
    (SELECT count(*) FROM migration AS waiting
        WHERE waiting.campaign = ?1 AND waiting.signature = failure.signature
        AND waiting.waits_for = 'person')
FROM failure LEFT JOIN migration
    ON migration.campaign = failure.campaign AND migration.id = failure.migration
WHERE failure.campaign = ?1
ORDER BY failure.count DESC, failure.signature LIMIT ?2";
const HOSTS: &str = "
SELECT host, count FROM failure_host WHERE campaign = ?1 AND signature = ?2 AND host <> ''
ORDER BY count DESC, host";

pub(super) fn read(
    connection: &Connection,
    campaign: &CampaignName,
) -> Result<Vec<FailureGroup>, Error> {
    let id = view::known_campaign_id(connection, campaign)?;
    let mut statement = connection.prepare_cached(SELECT)?;
    let groups = statement.query_map(params![id, GROUPS_MAX], group)?;
    let mut groups: Vec<FailureGroup> = groups.collect::<Result<_, _>>()?;
    let mut statement = connection.prepare_cached(HOSTS)?;
    for group in &mut groups {
        let hosts = statement.query_map(params![id, group.signature], |row| {
            Ok(HostCount { host: row.get(0)?, count: row.get(1)? })
        })?;
        group.hosts = hosts.collect::<Result<_, _>>()?;
        group.hosts_left_out = group.hosts.len().saturating_sub(HOSTS_MAX) as u64;
        group.hosts.truncate(HOSTS_MAX);
    }
    Ok(groups)
}

fn group(row: &Row<'_>) -> rusqlite::Result<FailureGroup> {
    let code: String = row.get(1)?;
    let known = code.parse::<Code>().ok();
    let message: String = row.get(9)?;
    Ok(FailureGroup {
        signature: row.get(0)?,
        title: known.map(|code| code.title().to_owned()).unwrap_or_default(),
        remedy: known.map(|code| code.remedy().to_owned()).unwrap_or_default(),
        page: format!("ops/errors/{code}.md"),
        code,
        transient: row.get(2)?,
        count: row.get(3)?,
        migrations: row.get(4)?,
        waiting: row.get(10)?,
        first_seen_unix_ms: row.get(5)?,
        last_seen_unix_ms: row.get(6)?,
        hosts: Vec::new(),
        hosts_left_out: 0,
        example: Example {
            migration: view::migrations::id(row, 7)?,
            database: row.get(8)?,
            message: message.chars().take(MESSAGE_CHARS_MAX).collect(),
        },
    })
}
