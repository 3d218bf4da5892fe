//! What the tables tell: plain structures, for the terminal, for JSON and for other programs.

mod failures;
mod migrations;
mod status;

use drover_schemas::CampaignName;
use rusqlite::{Connection, OptionalExtension as _};

pub use failures::{Example, FailureGroup, HostCount};
pub use migrations::{Filter, MigrationRow, ROWS_MAX};
pub use status::{Counts, Foreseen, Frozen, HostStatus, RATE_WINDOW_MS, Status, WaveStatus};

use crate::Error;

/// The tables, to be read.
#[derive(Debug, Clone, Copy)]
pub struct Views<'a> {
    connection: &'a Connection,
}

impl<'a> Views<'a> {
    pub(crate) fn new(connection: &'a Connection) -> Self {
        Self { connection }
    }

    /// The campaigns that are known, by name.
    ///
    /// # Errors
    /// When the file fails.
    pub fn campaigns(&self) -> Result<Vec<CampaignName>, Error> {
        let mut statement = self.connection.prepare("SELECT name FROM campaign ORDER BY name")?;
        let names = statement.query_map([], |row| row.get::<_, String>(0))?;
        names.map(|name| parse_name(name?)).collect()
    }

    /// Whether a campaign's tables have reached the end of its log. A campaign that is not known
    /// has not.
    ///
    /// # Errors
    /// When the file fails.
    pub fn is_caught_up(&self, campaign: &CampaignName) -> Result<bool, Error> {
        let statement = "SELECT caught_up FROM campaign WHERE name = ?1";
        let mut statement = self.connection.prepare_cached(statement)?;
        let caught_up = statement.query_row([campaign.as_str()], |row| row.get(0)).optional()?;
        Ok(caught_up.unwrap_or_default())
    }

    /// How a campaign goes. `now_unix_ms` is for the recent rate and for what is frozen now.
    ///
    /// # Errors
    /// When the campaign is not known, or the file fails.
    pub fn status(&self, campaign: &CampaignName, now_unix_ms: i64) -> Result<Status, Error> {
        self.reading(|connection| status::read(connection, campaign, now_unix_ms))
    }

    /// Failures by signature, most frequent first; at most 500 groups.
    ///
    /// # Errors
    /// When the campaign is not known, or the file fails.
    pub fn failures(&self, campaign: &CampaignName) -> Result<Vec<FailureGroup>, Error> {
        self.reading(|connection| failures::read(connection, campaign))
    }

    /// Migrations in the order in which they were planned, one page of at most [`ROWS_MAX`].
    ///
    /// # Errors
    /// When the campaign is not known, or the file fails.
    pub fn migrations(
        &self,
        campaign: &CampaignName,
        filter: &Filter,
    ) -> Result<Vec<MigrationRow>, Error> {
        self.reading(|connection| migrations::read(connection, campaign, filter))
    }

    /// All of a view is read from one state of the tables.
    fn reading<T>(&self, read: impl FnOnce(&Connection) -> Result<T, Error>) -> Result<T, Error> {
        let transaction = self.connection.unchecked_transaction()?;
        read(&transaction)
    }
}

fn parse_name(name: String) -> Result<CampaignName, Error> {
    name.parse().map_err(|_| Error::Damaged { what: "a campaign's name", text: name })
}

/// A campaign's row; none where it is not known.
pub(crate) fn campaign_id(
    connection: &Connection,
    campaign: &CampaignName,
) -> Result<Option<i64>, Error> {
    let mut statement = connection.prepare_cached("SELECT id FROM campaign WHERE name = ?1")?;
    Ok(statement.query_row([campaign.as_str()], |row| row.get(0)).optional()?)
}

fn known_campaign_id(connection: &Connection, campaign: &CampaignName) -> Result<i64, Error> {
    campaign_id(connection, campaign)?.ok_or_else(|| Error::CampaignUnknown(campaign.clone()))
}
