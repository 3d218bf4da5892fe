//! Reading a destination: what it can hold, and what is there already.

use std::collections::{BTreeMap, BTreeSet};

use drover_schemas::Code;

use crate::{
    Error, Server, Session, guard,
    normal::normalise,
    preflight::{
        accounts::{Rows, logins},
        facts::{Finding, Login, Settings},
        server,
        source::{lacking_rights, of_server, wrong_clock},
    },
    privileges::{self, Grantee},
    server_load::room,
};

/// A destination.
pub struct Destination {
    /// What was found that concerns everything that moves to it.
    pub findings: Vec<Finding>,
    /// None: Drover's account lacks a right, and nothing else could be read.
    pub(crate) known: Option<Known>,
}

/// What could be read.
pub(crate) struct Known {
    pub settings: Settings,
    pub engines: BTreeSet<String>,
    pub collations: BTreeSet<String>,
    pub plugins: BTreeSet<String>,
    pub logins: BTreeMap<Grantee, Login>,
    /// Accounts and roles that Drover made there: user and host.
    pub made: BTreeSet<(String, String)>,
    pub grants: Rows,
    pub databases: BTreeSet<String>,
    /// Free room of the data folder's disk, in bytes, where the server tells it.
    pub room_bytes: Option<u64>,
}

impl Destination {
    /// The free room of its data folder's disk, in bytes; none where the server does not tell it.
    pub fn room_bytes(&self) -> Option<u64> {
        self.known.as_ref().and_then(|known| known.room_bytes)
    }
}

const READING: &str = "reading what the server can hold";

/// Reads a destination.
///
/// # Errors
/// When it cannot be reached, or is not a server that Drover knows.
pub async fn destination(server: &Server) -> Result<Destination, Error> {
    let mut session = server.session().await?;
    if let Some(lacking) = lacking_rights(&mut session).await? {
        session.end().await?;
        return Ok(Destination { findings: vec![lacking], known: None });
    }
    let mut findings: Vec<Finding> = wrong_clock(&mut session).await?.into_iter().collect();
    let trusted = privileges::trusted(&session);
    let told = |what| of_server(Code::ReachableEarly, true, format!("{}: {what}", server.name()));
    findings.extend(guard::global_writers(&mut session, &trusted).await?.into_iter().map(told));
    let known = Known {
        settings: server::settings(&mut session).await?,
        engines: names(
            &mut session,
            "SELECT UPPER(ENGINE) FROM information_schema.ENGINES WHERE SUPPORT IN ('YES', 'DEFAULT')",
        )
        .await?,
        collations: collations(&mut session).await?,
        plugins: names(
            &mut session,
            "SELECT PLUGIN_NAME FROM information_schema.PLUGINS \
             WHERE PLUGIN_TYPE = 'AUTHENTICATION' AND PLUGIN_STATUS = 'ACTIVE'",
        )
        .await?,
        logins: logins(&mut session).await?,
        made: made(&mut session).await?,
        grants: Rows::read(&mut session).await?,
        databases: names(
            &mut session,
            "SELECT CAST(SCHEMA_NAME AS BINARY) FROM information_schema.SCHEMATA",
        )
        .await?,
        room_bytes: room(&mut session).await?.map(|room| room.free_bytes),
    };
    session.end().await?;
    Ok(Destination { findings, known: Some(known) })
}

async fn names(session: &mut Session, sql: &str) -> Result<BTreeSet<String>, Error> {
    Ok(session.rows::<String>(READING, sql).await?.into_iter().collect())
}

/// From MariaDB 10.10 on a collation that serves several character sets is listed without one.
async fn collations(session: &mut Session) -> Result<BTreeSet<String>, Error> {
    let sql = "SELECT COLLATION_NAME FROM information_schema.COLLATIONS UNION \
               SELECT COLLATION_NAME FROM information_schema.COLLATION_CHARACTER_SET_APPLICABILITY";
    let mut all = names(session, sql).await?;
    let full = "SELECT COLUMN_NAME FROM information_schema.COLUMNS \
                WHERE TABLE_SCHEMA = 'information_schema' \
                AND TABLE_NAME = 'COLLATION_CHARACTER_SET_APPLICABILITY' \
                AND COLUMN_NAME = 'FULL_COLLATION_NAME'";
    if !session.rows::<String>(READING, full).await?.is_empty() {
        let sql = "SELECT FULL_COLLATION_NAME \
                   FROM information_schema.COLLATION_CHARACTER_SET_APPLICABILITY";
        all.extend(names(session, sql).await?);
    }
    // An older server says `utf8` for what a newer one calls `utf8mb3`, and knows by both names.
    Ok(all.iter().map(|name| normalise(name)).collect())
}

/// The accounts that a migration has made here; none where no migration was here yet.
async fn made(session: &mut Session) -> Result<BTreeSet<(String, String)>, Error> {
    let there = "SELECT TABLE_NAME FROM information_schema.TABLES \
                 WHERE TABLE_SCHEMA = 'drover' AND TABLE_NAME = 'account'";
    if session.rows::<String>(READING, there).await?.is_empty() {
        return Ok(BTreeSet::new());
    }
    let rows = session.rows("reading the ledger", "SELECT user, host FROM drover.account").await?;
    Ok(rows.into_iter().collect())
}
