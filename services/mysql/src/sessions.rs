//! Ending the sessions that are older than a REVOKE.
//!
//! A session computes its rights on the selected database when it selects it, and keeps them; a
//! transaction needs no right to commit. So after a REVOKE the sessions that were there before
//! must end, and only then is the database at rest. Sessions' ids grow: one that is opened after
//! the REVOKE (the marker) tells the older from the newer, which have the new rights.
//!
//! What counts as a session here: connections of the affected users; every connection that has the
//! database selected, whoever owns it, the trusted aside (its account may be gone already); the
//! threads that write the rows of INSERT DELAYED; the workers of the database's scheduled events.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use drover_schemas::Code;

use crate::{
    Error, Flavour, Server, Session,
    ident::{ident, literal, literals},
    privileges,
};

/// How often the process list is read while sessions end. A read costs the server well under a
/// millisecond, and a freeze of a small database should not wait long for this.
const POLL: Duration = Duration::from_millis(10);

/// Unknown thread: it has ended by itself.
const NO_SUCH_THREAD: u16 = 1094;

/// Whose sessions are meant.
#[derive(Debug, Clone)]
pub struct Whose<'a> {
    /// The database.
    pub database: &'a str,
    /// The affected users; `None`: everyone but the trusted.
    pub users: Option<BTreeSet<String>>,
}

/// Ends the sessions that are older than this call and waits until they are gone. Those that run a
/// statement or have a transaction open may go on for `grace`. Answers how many there were.
///
/// # Errors
/// `SessionsRemain` when some are there `sessions_end_ms_max` after they were killed.
pub async fn end_older(
    session: &mut Session,
    whose: &Whose<'_>,
    grace: Duration,
) -> Result<u32, Error> {
    let marker = mark(session.server()).await?;
    let condition = condition(session, whose, marker);
    let began = Instant::now();
    let patience = Duration::from_millis(session.server().options().sessions_end_ms_max);
    let mut seen = BTreeSet::new();
    let mut killed: BTreeMap<u64, Instant> = BTreeMap::new();
    loop {
        let there = list(session, &condition).await?;
        if there.is_empty() {
            return Ok(u32::try_from(seen.len()).unwrap_or(u32::MAX));
        }
        let past_grace = began.elapsed() >= grace;
        for (id, idle) in &there {
            seen.insert(*id);
            if (past_grace || *idle) && !killed.contains_key(id) {
                kill(session, *id).await?;
                killed.insert(*id, Instant::now());
            }
        }
        if killed.values().any(|at| at.elapsed() > patience) {
            let ids: Vec<String> = there.keys().map(u64::to_string).collect();
            return Err(session.server().found(
                Code::SessionsRemain,
                format!("{}: sessions {}", ident(whose.database), ids.join(", ")),
            ));
        }
        killed.retain(|id, _| there.contains_key(id));
        tokio::time::sleep(POLL).await;
    }
}

/// Ends the sessions that are older than this call, and does not wait for them: those that came
/// while the database was frozen, and would keep the rights of that time.
pub async fn refresh(session: &mut Session, whose: &Whose<'_>) -> Result<(), Error> {
    let marker = mark(session.server()).await?;
    let condition =
        format!("{} AND p.DB = {}", condition(session, whose, marker), literal(whose.database));
    for (id, idle) in list(session, &condition).await? {
        if idle {
            kill(session, id).await?;
        }
    }
    Ok(())
}

/// The id of a session that is newer than everything that happened before this call.
async fn mark(server: &Server) -> Result<u64, Error> {
    let session = server.session().await?;
    let id = session.about().id;
    session.end().await?;
    Ok(id)
}

/// Which rows of the process list (`p`) are meant.
fn condition(session: &Session, whose: &Whose<'_>, marker: u64) -> String {
    let database = literal(whose.database);
    let mut names: BTreeSet<String> = privileges::trusted(session)
        .iter()
        .map(|account| account.rsplit_once('@').map_or(account.as_str(), |(user, _)| user))
        .map(str::to_owned)
        .collect();
    // The servers' own threads; a connection that has not yet said who it is reads its rights
    // later, and so has the new ones.
    names.extend(["system user", "event_scheduler", "unauthenticated user"].map(str::to_owned));
    names.insert(session.about().account.0.clone());
    let trusted = literals(names.iter().map(String::as_str));
    let by_user = match &whose.users {
        Some(users) => format!("p.USER IN ({})", literals(users.iter().map(String::as_str))),
        None => format!("p.USER NOT IN ({trusted})"),
    };
    format!(
        "p.ID < {marker} AND p.ID <> CONNECTION_ID() AND p.COMMAND NOT LIKE 'Binlog Dump%' AND (\
         {by_user} OR p.DB = {database} AND (p.USER NOT IN ({trusted}) OR p.COMMAND = 'Connect'))"
    )
}

/// The sessions by id, and whether each is idle: no statement, and no transaction open.
async fn list(session: &mut Session, condition: &str) -> Result<BTreeMap<u64, bool>, Error> {
    let doing = "reading the process list";
    let sql = format!(
        "SELECT p.ID, p.COMMAND IN ('Sleep', 'Delayed insert') FROM information_schema.PROCESSLIST p \
         WHERE {condition}"
    );
    let there: Vec<(u64, bool)> = session.rows(doing, &sql).await?;
    let mut there: BTreeMap<u64, bool> = there.into_iter().collect();
    if there.values().any(|idle| *idle) {
        let sql = "SELECT trx_mysql_thread_id FROM information_schema.INNODB_TRX";
        let open: Vec<u64> = session.rows("reading the open transactions", sql).await?;
        for id in open {
            if let Some(idle) = there.get_mut(&id) {
                *idle = false;
            }
        }
    }
    Ok(there)
}

async fn kill(session: &mut Session, id: u64) -> Result<(), Error> {
    // SOFT leaves alone what could break a MyISAM or Aria table half-way; it ends by itself.
    let sql = match session.about().flavour {
        Flavour::MariaDb => format!("KILL SOFT CONNECTION {id}"),
        Flavour::MySql => format!("KILL CONNECTION {id}"),
    };
    match session.run("ending a session", &sql).await {
        Err(error) if error.number() == Some(NO_SUCH_THREAD) => Ok(()),
        other => other,
    }
}
