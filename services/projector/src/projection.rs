//! The tables, folded from the logs.
//!
//! 1. Rows and position change in one transaction, and what is not past the position is skipped:
//!    each event counts once, whatever is delivered twice and wherever the process dies.
//! 2. The phases are the lifecycle's: each event goes through `Migration::evolve`, and the row
//!    keeps what is needed to go on from there (`state`).
//! 3. States of migrations on their way stay in memory between batches; those that wait for
//!    their turn, for a person or for nothing are read again when an event of theirs comes. So
//!    memory follows the number in flight, not the campaign's size.
//! 4. A batch writes each migration's row once, however many of its events are in it.

use std::{collections::HashMap, path::Path};

use drover_bus::Item;
use drover_schemas::{CampaignName, MigrationId};
use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior, params};

use crate::{Error, entry::Entry, fold::Fold, schema, view};

/// How many events a transaction takes in at most: about all events of a thousand migrations in
/// flight, so that a rebuild writes the row of each only a few times; some 10 MB of memory.
pub const BATCH_EVENTS_MAX: usize = 16_384;
/// How many states stay in memory between two batches. Past it all are read again when needed.
const WARM_MAX: usize = 100_000;

/// States of migrations on their way, by campaign (its row's id) and migration.
pub(crate) type Warm = HashMap<(i64, MigrationId), Box<Entry>>;

/// Where a campaign's fold stands.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Position {
    /// The stream sequence of the last message taken in; 0 for none.
    pub sequence: u64,
    /// That event's identity; empty where it could not be decoded, or for none.
    pub event_id: String,
}

/// The projections of all campaigns, in a file or in memory. One writer at a time: see
/// [`crate::Service`], which holds a lock beside the file.
#[derive(Debug)]
pub struct Projection {
    connection: Connection,
    warm: Warm,
}

impl Projection {
    /// Opens the file; makes it where it is missing or of another version.
    ///
    /// # Errors
    /// [`Error::Foreign`] for another program's file, and whatever the disk says.
    pub fn open(path: &Path) -> Result<Self, Error> {
        Ok(Self { connection: schema::open(path)?, warm: Warm::new() })
    }

    /// One in memory, empty.
    ///
    /// # Errors
    /// When there is not enough memory.
    pub fn in_memory() -> Result<Self, Error> {
        Ok(Self { connection: schema::in_memory()?, warm: Warm::new() })
    }

    /// Where the fold of a campaign stands.
    ///
    /// # Errors
    /// When the file fails.
    pub fn position(&self, campaign: &CampaignName) -> Result<Position, Error> {
        let position = self
            .connection
            .prepare_cached("SELECT position, last_event_id FROM campaign WHERE name = ?1")?
            .query_row([campaign.as_str()], |row| {
                Ok(Position { sequence: row.get(0)?, event_id: row.get(1)? })
            })
            .optional()?;
        Ok(position.unwrap_or_default())
    }

    /// Folds the next messages of a campaign's stream, in their order, in one transaction with
    /// the position. Messages that are known already are skipped. At most
    /// [`BATCH_EVENTS_MAX`] at once are meant.
    ///
    /// What cannot be decoded, or does not fit where it stands, is set aside and counted.
    ///
    /// # Errors
    /// When the file fails; nothing of the batch is taken in then.
    pub fn apply(&mut self, campaign: &CampaignName, items: &[Item]) -> Result<(), Error> {
        let applied = self.apply_in_transaction(campaign, items);
        if applied.is_err() || self.warm.len() > WARM_MAX {
            // After an error they may be ahead of the rows.
            self.warm.clear();
        }
        applied
    }

    fn apply_in_transaction(
        &mut self,
        campaign: &CampaignName,
        items: &[Item],
    ) -> Result<(), Error> {
        let Self { connection, warm } = self;
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut fold = Fold::begin(&transaction, warm, campaign)?;
        for item in items {
            fold.take(item)?;
        }
        fold.finish()?;
        transaction.commit()?;
        Ok(())
    }

    /// Notes that the log may have gone on without the tables: until the next
    /// [`Item::CaughtUp`] they are not what a projector answers with.
    ///
    /// # Errors
    /// When the file fails.
    pub fn fall_behind(&mut self, campaign: &CampaignName) -> Result<(), Error> {
        let statement = "UPDATE campaign SET caught_up = 0 WHERE name = ?1";
        self.connection.execute(statement, [campaign.as_str()])?;
        Ok(())
    }

    /// Forgets a campaign, so that it is folded from nothing: its log is not the one that it was
    /// folded from.
    ///
    /// # Errors
    /// When the file fails; nothing is forgotten then.
    pub fn forget(&mut self, campaign: &CampaignName) -> Result<(), Error> {
        self.warm.clear();
        let transaction =
            self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        if let Some(id) = view::campaign_id(&transaction, campaign)? {
            for table in schema::OF_A_CAMPAIGN {
                let statement = format!("DELETE FROM {table} WHERE campaign = ?1");
                transaction.execute(&statement, params![id])?;
            }
            transaction.execute("DELETE FROM campaign WHERE id = ?1", params![id])?;
        }
        transaction.commit()?;
        Ok(())
    }

    /// The tables, for the views.
    pub fn views(&self) -> view::Views<'_> {
        view::Views::new(&self.connection)
    }
}

/// The tables in a file, read beside their writer. A connection of its own: what it reads never
/// holds up the fold.
#[derive(Debug)]
pub struct Reader {
    connection: Connection,
}

impl Reader {
    /// Opens the file.
    ///
    /// # Errors
    /// When it is not there, or was made by another version or another program.
    pub fn open(path: &Path) -> Result<Self, Error> {
        Ok(Self { connection: schema::open_to_read(path)? })
    }

    /// The tables, for the views.
    pub fn views(&self) -> view::Views<'_> {
        view::Views::new(&self.connection)
    }
}
