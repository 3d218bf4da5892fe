//! The watchdog: at its deadline the source thaws itself, unless it was disarmed.
//!
//! Table `drover.watchdog` has a row for each database that is frozen and not disarmed. It is
//! written with the freeze's undo and deleted with the disarming or the thaw, in the same
//! transactions.

use drover_lifecycle::ledger::in_time;
use drover_schemas::MigrationId;

use crate::{Error, Order, Session, ident::literal, ledger};

/// Since when a database is frozen and when it thaws itself, by the server's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadline {
    /// When the first privilege was about to be taken away.
    pub frozen_at_unix_ms: i64,
    /// When they are put back.
    pub thaw_at_unix_ms: i64,
    /// How many accounts get something back.
    pub accounts: u32,
}

impl Deadline {
    /// The statement that writes the row.
    pub(crate) fn write(&self, order: &Order) -> String {
        format!(
            "REPLACE INTO drover.watchdog VALUES ('{}',{},{},{},{})",
            order.migration,
            literal(&ledger::database_lock(&order.database)),
            self.accounts,
            self.frozen_at_unix_ms,
            self.thaw_at_unix_ms,
        )
    }

    /// Whether there is time left at `now`.
    pub(crate) fn is_ahead(&self, now_unix_ms: i64) -> bool {
        in_time(self.thaw_at_unix_ms, now_unix_ms).is_ok()
    }
}

/// The statement that deletes a migration's row.
pub(crate) fn forget(migration: MigrationId) -> String {
    format!("DELETE FROM drover.watchdog WHERE migration = '{migration}'")
}

/// A migration's row.
pub(crate) async fn read(
    session: &mut Session,
    migration: MigrationId,
) -> Result<Option<Deadline>, Error> {
    let sql = format!(
        "SELECT frozen_at_unix_ms, thaw_at_unix_ms, accounts FROM drover.watchdog \
         WHERE migration = '{migration}'"
    );
    let rows: Vec<(i64, i64, u32)> = session.rows("reading the ledger", &sql).await?;
    Ok(rows.into_iter().next().map(|(frozen_at_unix_ms, thaw_at_unix_ms, accounts)| Deadline {
        frozen_at_unix_ms,
        thaw_at_unix_ms,
        accounts,
    }))
}
