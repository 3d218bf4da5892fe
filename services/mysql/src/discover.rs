//! What is on a server, for an inventory to begin with: its databases with their sizes and accounts, its
//! room, and how busy it is. Reads only.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    Error, Flavour, Server,
    aside::is_aside_name,
    ident::{covers, literals},
    ledger::is_missing,
    privileges,
    server_load::room,
};

/// A server's own schemas.
pub(crate) const SYSTEM: [&str; 4] = ["mysql", "sys", "information_schema", "performance_schema"];
/// Drover's own schema, at every server.
const OWN: &str = "drover";

/// Whether a schema is no customer's, however its name is spelt: a server's own, or Drover's.
pub fn is_no_customers(schema: &str) -> bool {
    SYSTEM.iter().chain([&OWN]).any(|known| known.eq_ignore_ascii_case(schema))
}

/// A server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its kind.
    pub flavour: Flavour,
    /// Major, minor and patch.
    pub version: (u16, u16, u16),
    /// Its databases, in the order of their names. Those that Drover has moved away or set aside are not
    /// among them.
    pub databases: Vec<Database>,
    /// The free room of its data folder's disk, in bytes; none where the server does not tell it.
    pub room_bytes: Option<u64>,
    /// How many of its threads are running.
    pub threads_running: u64,
}

/// A database.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Database {
    /// Its name.
    pub name: String,
    /// Of rows and indexes, as the server reckons them.
    pub bytes: u64,
    /// Who holds something on the whole of it, the trusted aside: `user@host`.
    pub accounts: Vec<String>,
}

/// Reads what is on a server.
///
/// # Errors
/// What a server may answer.
pub async fn discover(server: &Server) -> Result<Found, Error> {
    const DOING: &str = "looking for databases";
    let mut session = server.session().await?;
    let own = literals(SYSTEM.into_iter().chain([OWN]));
    let sizes = format!(
        "SELECT s.SCHEMA_NAME, CAST(COALESCE(SUM(t.DATA_LENGTH + t.INDEX_LENGTH), 0) AS UNSIGNED) \
         FROM information_schema.SCHEMATA s LEFT JOIN information_schema.TABLES t \
         ON t.TABLE_SCHEMA = s.SCHEMA_NAME WHERE s.SCHEMA_NAME NOT IN ({own}) \
         GROUP BY s.SCHEMA_NAME ORDER BY s.SCHEMA_NAME"
    );
    let sizes: Vec<(String, u64)> = session.rows(DOING, &sizes).await?;
    let moved =
        "SELECT database_name FROM drover.ledger WHERE side = 'source' AND state = 'retired'";
    let moved: BTreeSet<String> = match session.rows::<String>(DOING, moved).await {
        Ok(names) => names.into_iter().collect(),
        Err(error) if is_missing(&error) => BTreeSet::new(),
        Err(error) => return Err(error),
    };
    let trusted = privileges::trusted(&session);
    let rows = "SELECT DISTINCT Db, User, Host FROM mysql.db WHERE User <> '' ORDER BY 1, 2, 3";
    let mut exact: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut patterns: Vec<(String, String)> = Vec::new();
    for (text, user, host) in session.rows::<(String, String, String)>(DOING, rows).await? {
        let account = format!("{user}@{host}");
        if trusted.contains(&account) {
            continue;
        }
        // Most rows name one database, and a server has thousands of both.
        if text.contains(['%', '_']) {
            patterns.push((text, account));
        } else {
            exact.entry(text).or_default().push(account);
        }
    }
    let database = |(name, bytes): (String, u64)| {
        let mut accounts = exact.get(&name).cloned().unwrap_or_default();
        let covered = patterns.iter().filter(|(text, _)| covers(text, &name));
        accounts.extend(covered.map(|(_, account)| account.clone()));
        accounts.sort();
        accounts.dedup();
        Database { name, bytes, accounts }
    };
    let is_customers = |name: &String| !moved.contains(name) && !is_aside_name(name);
    let databases =
        sizes.into_iter().filter(|(name, _)| is_customers(name)).map(database).collect();
    let room_bytes = room(&mut session).await?.map(|room| room.free_bytes);
    let running = "SHOW GLOBAL STATUS LIKE 'Threads_running'";
    let (_, running): (String, String) = session.one("reading the load", running).await?;
    let (flavour, version) = (session.about().flavour, session.about().version);
    session.end().await?;
    let threads_running = running.parse().unwrap_or(0);
    Ok(Found { flavour, version, databases, room_bytes, threads_running })
}
