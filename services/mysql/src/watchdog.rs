//! The watchdog: at its deadline the source thaws itself, unless it was disarmed.
//!
//! 1. Table `drover.watchdog` has a row for each database that is frozen and not disarmed. It is
//!    written with the freeze's undo and deleted with the disarming or the thaw, in the same
//!    transactions.
//! 2. One scheduled event of the server, `drover.watchdog`, looks every second for rows whose time
//!    has come, and runs the undo's statements (`watchdog.sql`). It needs nothing of Drover.
//! 3. It takes the same locks as Drover's steps, without waiting: what is at work there ends first.
//!    Under them it writes `lapsing` before it puts the first privilege back and `lapsed` after the
//!    last, so that from the first on every order of that run is refused.
//! 4. Each statement is deleted from `drover.undo` once it has run. What failed is tried again a
//!    second later, by the event or by Drover's own thaw.
//! 5. MariaDB prepares every statement that an undo may need from 10.6 on; before, it does not
//!    enable a database's scheduled events; MySQL neither does that nor makes a schema writable
//!    again. There the source says that it has no watchdog.

use drover_lifecycle::ledger::in_time;
use drover_schemas::MigrationId;

use crate::{
    Error, Flavour, Order, Server, Session, ident::literal, ledger, questions::Question,
    takeaway::Undo, thaw::GONE,
};

/// The event's body; `{gone}` stands for the numbers of what an undo may find gone.
const BODY: &str = include_str!("watchdog.sql");

/// From here on MariaDB prepares every statement.
const PREPARES_ALL_SINCE: (u16, u16, u16) = (10, 6, 2);

/// Since when a database is frozen and when it thaws itself, by the server's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadline {
    /// When the first privilege was about to be taken away.
    pub frozen_at_unix_ms: i64,
    /// When they are put back.
    pub thaw_at_unix_ms: i64,
}

impl Deadline {
    /// The statement that writes the row.
    pub(crate) fn write(&self, order: &Order) -> String {
        format!(
            "REPLACE INTO drover.watchdog VALUES ('{}',{},{},{})",
            order.migration,
            literal(&ledger::database_lock(&order.database)),
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

/// Asks for a migration's row.
pub(crate) fn row(migration: MigrationId) -> Question<(i64, i64)> {
    let sql = format!(
        "SELECT frozen_at_unix_ms, thaw_at_unix_ms FROM drover.watchdog \
         WHERE migration = '{migration}'"
    );
    Question::new("reading the ledger", sql)
}

/// What the row says.
pub(crate) fn deadline(rows: Vec<(i64, i64)>) -> Option<Deadline> {
    rows.into_iter()
        .next()
        .map(|(frozen_at_unix_ms, thaw_at_unix_ms)| Deadline { frozen_at_unix_ms, thaw_at_unix_ms })
}

/// Asks a MariaDB server whether its scheduler runs, and for the version of its event.
pub(crate) fn there() -> Question<(bool, Option<String>)> {
    let sql = "SELECT @@event_scheduler = 'ON', (SELECT comment FROM mysql.event \
               WHERE db = 'drover' AND name = 'watchdog' AND status = 'ENABLED')";
    Question::new("looking for the watchdog", sql)
}

/// Makes the event where it is missing or of another version than is `there`.
pub(crate) async fn ensure(session: &mut Session, there: Option<&str>) -> Result<(), Error> {
    let gone: Vec<String> = GONE.iter().map(u16::to_string).collect();
    let body = BODY.replace("{gone}", &gone.join(", "));
    let version = blake3::hash(body.as_bytes()).to_hex();
    if there != Some(version.as_str()) {
        let sql = format!(
            "CREATE OR REPLACE EVENT drover.watchdog ON SCHEDULE EVERY 1 SECOND \
             ON COMPLETION PRESERVE ENABLE COMMENT '{version}' DO {body}"
        );
        session.run("making the watchdog", &sql).await?;
    }
    Ok(())
}

/// Whether the event can run all that this undo needs.
pub(crate) fn can_run(session: &Session, undo: &Undo) -> bool {
    let about = session.about();
    match about.flavour {
        Flavour::MariaDb => undo.events.is_empty() || about.version >= PREPARES_ALL_SINCE,
        Flavour::MySql => false,
    }
}

/// Whether databases of this source will thaw themselves at their deadline: its event scheduler
/// runs, and the server prepares the statements that this needs.
pub async fn runs(server: &Server) -> Result<bool, Error> {
    let mut session = server.session().await?;
    let (on,): (bool,) =
        session.one("looking at the event scheduler", "SELECT @@event_scheduler = 'ON'").await?;
    let flavour = session.about().flavour;
    session.end().await?;
    Ok(on && flavour == Flavour::MariaDb)
}
