//! Who else holds a database: the ledger's rows of other migrations.

use drover_schemas::Code;

use super::{Locked, Side};
use crate::{Error, ident::literal};

impl Locked {
    /// Whether no other migration holds the same database at this side of this server: none has
    /// frozen or retired it as a source, or has its copy here as a destination.
    pub async fn check_not_held(&mut self) -> Result<(), Error> {
        let free = match self.side {
            Side::Source => "'thawed'",
            Side::Destination => "'dropped'",
        };
        let sql = format!(
            "SELECT migration, campaign, state FROM drover.ledger WHERE database_name = {} \
             AND side = '{}' AND migration <> '{}' AND state NOT IN ({free}) LIMIT 1",
            literal(&self.order.database),
            self.side.name(),
            self.order.migration,
        );
        let held: Vec<(String, String, String)> =
            self.session.rows("reading the ledger", &sql).await?;
        self.refuse_held(held)
    }

    /// Whether no other migration has moved the copy on, or is about to. (The one that this order
    /// brings back does not count: it was set aside.)
    pub async fn check_not_moved_on(&mut self) -> Result<(), Error> {
        let own = [Some(self.order.migration), self.order.brings_back];
        let own: Vec<String> = own.iter().flatten().map(|id| format!("'{id}'")).collect();
        let sql = format!(
            "SELECT migration, campaign, state FROM drover.ledger WHERE database_name = {} \
             AND side = 'source' AND migration NOT IN ({}) AND state <> 'thawed' LIMIT 1",
            literal(&self.order.database),
            own.join(","),
        );
        let held: Vec<(String, String, String)> =
            self.session.rows("reading the ledger", &sql).await?;
        self.refuse_held(held)
    }

    /// Whether the copy of the migration that this order brings back is open here: one that is half
    /// closed does not have the customer's privileges.
    pub async fn check_still_open(&mut self) -> Result<(), Error> {
        let Some(brought_back) = self.order.brings_back else { return Ok(()) };
        let sql = format!(
            "SELECT migration, campaign, state FROM drover.ledger \
             WHERE migration = '{brought_back}' AND side = 'destination' AND state <> 'open'"
        );
        let held: Vec<(String, String, String)> =
            self.session.rows("reading the ledger", &sql).await?;
        self.refuse_held(held)
    }

    fn refuse_held(&self, held: Vec<(String, String, String)>) -> Result<(), Error> {
        match held.into_iter().next() {
            None => Ok(()),
            Some((migration, campaign, state)) => Err(self.session.server().found(
                Code::DatabaseHeld,
                format!("migration {migration} of campaign {campaign} has it {state}"),
            )),
        }
    }
}
