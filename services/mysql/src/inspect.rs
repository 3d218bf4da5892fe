//! What a server has, before anything is moved: for planning and the pre-flight.

use std::collections::BTreeSet;

use drover_schemas::Code;

use crate::{
    Error, Server,
    ident::{account, literals},
    preflight::rights,
};

/// How many names go to the server in one query: some hundred bytes each, far under the smallest
/// usual packet (16 MB).
const NAMES_A_QUERY: usize = 20_000;

/// Which of these databases exist on a server: one round trip for [`NAMES_A_QUERY`] of them.
///
/// # Errors
/// `ServerRightMissing` where Drover's account lacks what a migration will need: what an account
/// may not see would count as missing.
pub async fn existing(server: &Server, databases: &[String]) -> Result<BTreeSet<String>, Error> {
    let mut session = server.session().await?;
    if let Some((missing, grant)) = rights::lacking(&mut session).await? {
        let what = format!("{} missing; needed: {grant}", missing.join(", "));
        return Err(server.found(Code::ServerRightMissing, what));
    }
    let mut found = BTreeSet::new();
    for names in databases.chunks(NAMES_A_QUERY) {
        let sql = format!(
            "SELECT SCHEMA_NAME FROM information_schema.SCHEMATA WHERE SCHEMA_NAME IN ({})",
            literals(names.iter().map(String::as_str))
        );
        let rows: Vec<String> = session.rows("looking for databases", &sql).await?;
        let there: BTreeSet<String> = rows.into_iter().collect();
        // The server may compare without regard to case; whether it then is the same database
        // depends on its file system's setting.
        let folded = session.about().lower_case_table_names != 0;
        found.extend(
            names
                .iter()
                .filter(|name| {
                    there.contains(*name) || folded && there.contains(&name.to_lowercase())
                })
                .cloned(),
        );
    }
    session.end().await?;
    Ok(found)
}

/// What Drover's account may do, with the right to grant it on: who hands privileges on must hold
/// them. The names are MariaDB's, of 10.5 and newer. Writing to the grant tables makes CREATE USER
/// needless, and reading everything SHOW DATABASES; each of these is needed (`tests/rights.rs`).
const RIGHTS: &str = "SELECT, INSERT, UPDATE, DELETE, CREATE, DROP, REFERENCES, INDEX, ALTER, \
     CREATE TEMPORARY TABLES, LOCK TABLES, EXECUTE, CREATE VIEW, SHOW VIEW, CREATE ROUTINE, \
     ALTER ROUTINE, EVENT, TRIGGER, DELETE HISTORY, RELOAD, PROCESS, SUPER, SET USER, \
     CONNECTION ADMIN, BINLOG ADMIN, BINLOG MONITOR, REPLICA MONITOR";

/// The statement that gives Drover's account what it needs on a source or destination that is a
/// MariaDB server; for MySQL see [`crate::mysql::grants_needed`].
pub fn grants_needed(user: &str, host: &str) -> String {
    format!("GRANT {RIGHTS} ON *.* TO {} WITH GRANT OPTION", account(user, host))
}
