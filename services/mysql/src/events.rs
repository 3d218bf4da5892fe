//! Scheduled events, enabled and disabled so that nothing else of them changes.
//!
//! An event keeps the character set and collation of the connection that altered it last, and its
//! database's collation of that moment, and its text is read by them. MariaDB: so each ALTER stands in
//! a block that is under the event's own, and that puts everything back also where the ALTER fails. It
//! is one statement, as the watchdog runs one at a time. MySQL has no such blocks, and no watchdog; there the
//! session is set so for the one ALTER, which is then read in the event's character set, so that an
//! event whose name or definer that would change gets the settings of Drover's connection.

use serde::{Deserialize, Serialize};

use crate::{
    Error, Flavour, Session,
    ident::{account, ident, literal},
    listing::is_unicode,
    questions::Question,
};

/// A scheduled event that was enabled.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScheduledEvent {
    /// Its name.
    pub name: String,
    /// Its definer's user.
    pub user: String,
    /// Its definer's host; empty for a role.
    pub host: String,
    /// What it was made under; none: a server that cannot be told to keep it.
    #[serde(default)]
    pub made_under: Option<MadeUnder>,
}

/// The settings that an event was made under.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MadeUnder {
    /// The client's character set.
    pub charset: String,
    /// The connection's collation.
    pub collation: String,
    /// The database's collation; empty: the server keeps it.
    pub database_collation: String,
    /// The database's collation now.
    pub database_collation_now: String,
}

impl ScheduledEvent {
    /// The statements that enable it, in this database or, without a name, the selected one. They are for
    /// one session, in this order.
    pub fn enable(&self, database: Option<&str>) -> Vec<String> {
        self.alter(database, "ENABLE")
    }

    /// The same, to disable it.
    pub fn disable(&self, database: &str) -> Vec<String> {
        self.alter(Some(database), "DISABLE")
    }

    fn alter(&self, database: Option<&str>, what: &str) -> Vec<String> {
        let whole = database.map(|name| format!("{}.", ident(name))).unwrap_or_default();
        // Without the definer an ALTER would make Drover's account the definer.
        let (definer, name) = (self.definer(), ident(&self.name));
        let alter = format!("ALTER DEFINER={definer} EVENT {whole}{name} {what}");
        let Some(under) = &self.made_under else { return vec![alter] };
        let settings = format!(
            "character_set_client = {}, collation_connection = {}",
            literal(&under.charset),
            literal(&under.collation)
        );
        if under.database_collation.is_empty() {
            let before = "SET @drover_client = @@character_set_client, \
                          @drover_connection = @@collation_connection";
            let after = "SET character_set_client = @drover_client, \
                         collation_connection = @drover_connection";
            return vec![format!("{before}, {settings}"), alter, after.to_owned()];
        }
        let default =
            |collation: &str| match under.database_collation_now == under.database_collation {
                true => String::new(),
                false => {
                    let name = database.map(ident).unwrap_or_default();
                    format!("ALTER DATABASE {name} COLLATE {}; ", ident(collation))
                }
            };
        let back = format!(
            "SET character_set_client = client, collation_connection = connection; {}",
            default(&under.database_collation_now)
        );
        vec![format!(
            "BEGIN NOT ATOMIC DECLARE client, connection VARCHAR(64); \
             DECLARE EXIT HANDLER FOR SQLEXCEPTION BEGIN {back}RESIGNAL; END; \
             SET client = @@character_set_client, connection = @@collation_connection; \
             SET {settings}; {}{alter}; {back}END",
            default(&under.database_collation),
        )]
    }

    /// Its definer, as a statement names it.
    pub fn definer(&self) -> String {
        if self.host.is_empty() { ident(&self.user) } else { account(&self.user, &self.host) }
    }
}

/// The database's scheduled events that are enabled.
pub(crate) async fn enabled_events(
    session: &mut Session,
    database: &str,
) -> Result<Vec<ScheduledEvent>, Error> {
    let flavour = session.about().flavour;
    Ok(scheduled(flavour, session.ask(enabled(flavour, database)).await?))
}

/// An enabled event: name and definer, and what it was made under.
pub(crate) type EventRow = (String, String, String, String, String, String);

/// Asks for those that are enabled.
pub(crate) fn enabled(flavour: Flavour, database: &str) -> Question<EventRow> {
    let name = literal(database);
    let sql = match flavour {
        Flavour::MariaDb => format!(
            "SELECT name, definer, character_set_client, collation_connection, db_collation, \
             (SELECT DEFAULT_COLLATION_NAME FROM information_schema.SCHEMATA \
             WHERE SCHEMA_NAME = {name}) \
             FROM mysql.event WHERE db = {name} AND status = 'ENABLED' ORDER BY name"
        ),
        Flavour::MySql => format!(
            "SELECT EVENT_NAME, DEFINER, CHARACTER_SET_CLIENT, COLLATION_CONNECTION, '', '' \
             FROM information_schema.EVENTS \
             WHERE EVENT_SCHEMA = {name} AND STATUS = 'ENABLED' ORDER BY EVENT_NAME"
        ),
    };
    Question::new("reading the scheduled events", sql)
}

/// The events that were found.
pub(crate) fn scheduled(flavour: Flavour, found: Vec<EventRow>) -> Vec<ScheduledEvent> {
    let event = |(name, definer, charset, collation, then, now): EventRow| {
        let (user, host) = definer.rsplit_once('@').unwrap_or((&definer, ""));
        let (database_collation, database_collation_now) = (then, now);
        let under = MadeUnder { charset, collation, database_collation, database_collation_now };
        let can_be_read = flavour == Flavour::MariaDb
            || is_unicode(&under.charset)
            || (name.is_ascii() && definer.is_ascii());
        let made_under = can_be_read.then_some(under);
        ScheduledEvent { name, user: user.to_owned(), host: host.to_owned(), made_under }
    };
    found.into_iter().map(event).collect()
}
