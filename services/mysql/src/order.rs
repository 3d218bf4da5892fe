//! The words of the ledger: who orders, at which end of the move, and what was begun or done.

use drover_schemas::{CampaignName, MigrationId, v1};

use crate::Error;

/// Who orders, for what, and on which revision of the migration's history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// The migration's campaign.
    pub campaign: CampaignName,
    /// The migration.
    pub migration: MigrationId,
    /// The database's name.
    pub database: String,
    /// The stream sequence of the migration's last event when the order was decided.
    pub revision: u64,
    /// The migration's run, from 1.
    pub run: u32,
    /// The step's attempt in this run, from 1.
    pub attempt: u32,
}

impl TryFrom<&v1::Job> for Order {
    type Error = Error;

    fn try_from(job: &v1::Job) -> Result<Self, Error> {
        let planned =
            job.planned.as_ref().ok_or_else(|| Error::Order("plan is missing".to_owned()))?;
        Ok(Self {
            campaign: job.campaign.parse().map_err(|e| Error::Order(format!("campaign: {e}")))?,
            migration: job.migration_id.parse().map_err(|e| Error::Order(format!("id: {e}")))?,
            database: planned.database.clone(),
            revision: job.revision,
            run: job.run,
            attempt: job.attempt,
        })
    }
}

/// Which end of the move a row is about: one server may be both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The database comes from here.
    Source,
    /// The database goes here.
    Destination,
}

impl Side {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Destination => "destination",
        }
    }
}

macro_rules! states {
    ($($(#[$doc:meta])* $name:ident $text:literal,)*) => {
        /// What was begun or done here for a migration. `…ing`: the intent is written, the change
        /// may have happened in part.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum State {
            $($(#[$doc])* $name,)*
        }

        impl State {
            /// The word in the ledger.
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            pub(crate) fn read(text: &str) -> Option<Self> {
                match text { $($text => Some(Self::$name),)* _ => None }
            }
        }
    };
}

states! {
    /// Source: the customer's writes are being taken away.
    Freezing "freezing",
    /// Source: no write has been possible since the consistency point.
    Frozen "frozen",
    /// Source: what was taken away is being put back.
    Thawing "thawing",
    /// Source: as it was; or nothing was done, and a late freeze is refused.
    Thawed "thawed",
    /// Source: read access is being taken away too.
    Retiring "retiring",
    /// Source: out of the customer's reach.
    Retired "retired",
    /// Destination: the copy is being loaded.
    Importing "importing",
    /// Destination: the copy is there, out of the customer's reach.
    Imported "imported",
    /// Destination: accounts and grants are being made.
    Opening "opening",
    /// Destination: the customer reads and writes.
    Open "open",
    /// Destination: accounts and grants are being taken away.
    Closing "closing",
    /// Destination: the copy is there, out of the customer's reach again; or nothing was there,
    /// and a late import or open is refused.
    Closed "closed",
    /// Destination: the copy is being dropped.
    Dropping "dropping",
    /// Destination: nothing of this migration is here, and a late import is refused.
    Dropped "dropped",
}
