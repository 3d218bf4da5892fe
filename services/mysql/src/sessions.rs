//! Ending the sessions that are older than a REVOKE.
//!
//! A session computes its rights on the selected database when it selects it, and keeps them; a
//! transaction needs no right to commit. So after a REVOKE the sessions that were there before
//! must end, and only then is the database at rest. Sessions' ids grow: the highest that the list shows
//! when it is first read after the REVOKE tells the older from the newer, which have the new rights.
//!
//! What counts as a session here: connections of the affected users; every connection that has the
//! database selected, whoever owns it (its account may be gone already); the threads that write the
//! rows of INSERT DELAYED; the workers of the database's scheduled events.
//!
//! A session that runs a routine with its definer's rights stands in the process list under the
//! definer's name and host, not its own, and with the routine's database selected. One in a routine
//! of this database is so found by the database; one that another database's routine hides when the
//! list is first read is waited for until it shows itself.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use drover_schemas::Code;

use crate::{
    Error, Flavour, Session,
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
    let affected = affected(session, whose);
    // None: the list was not read yet.
    let mut newest: Option<u64> = None;
    // None: it is not yet known who is hidden.
    let mut hidden: Option<BTreeSet<u64>> = None;
    let began = Instant::now();
    let patience = Duration::from_millis(session.server().options().sessions_end_ms_max);
    let mut seen = BTreeSet::new();
    let mut killed = BTreeSet::new();
    loop {
        let is_any_hidden = hidden.as_ref().is_none_or(|hidden| !hidden.is_empty());
        let found = list(session, newest, (&affected, is_any_hidden), &seen).await?;
        newest.get_or_insert(found.newest);
        let still = |id: &u64| found.hidden.contains(id);
        let hidden = hidden.get_or_insert_with(|| found.hidden.clone());
        hidden.retain(still);
        let there = found.meant;
        if there.is_empty() && hidden.is_empty() {
            return Ok(u32::try_from(seen.len()).unwrap_or(u32::MAX));
        }
        let past_grace = began.elapsed() >= grace;
        for (id, idle) in &there {
            seen.insert(*id);
            if (past_grace || *idle) && killed.insert(*id) {
                kill(session, *id).await?;
            }
        }
        if began.elapsed() > grace + patience {
            let ids: Vec<String> = there.keys().chain(&*hidden).map(u64::to_string).collect();
            return Err(session.server().found(
                Code::SessionsRemain,
                format!("{}: sessions {}", ident(whose.database), ids.join(", ")),
            ));
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Ends the sessions that are older than this call, and does not wait for them: those that came
/// while the database was frozen, and would keep the rights of that time.
pub async fn refresh(session: &mut Session, whose: &Whose<'_>) -> Result<(), Error> {
    let affected = format!("{} AND p.DB = {}", affected(session, whose), literal(whose.database));
    let found = list(session, None, (&affected, false), &BTreeSet::new()).await?;
    for (id, idle) in found.meant {
        if idle {
            kill(session, id).await?;
        }
    }
    Ok(())
}

/// Which rows of the process list (`p`) are meant, whatever their age.
fn affected(session: &Session, whose: &Whose<'_>) -> String {
    // The servers' own threads; a connection that has not yet said who it is reads its rights
    // later, and so has the new ones.
    let never = literals(["system user", "event_scheduler", "unauthenticated user"]);
    let own = session.about().account.0.clone();
    let by_user = match &whose.users {
        Some(users) => {
            let users = users.iter().map(String::as_str).filter(|user| *user != own);
            format!("p.USER IN ({})", literals(users))
        }
        None => {
            let user = |account: String| match account.rsplit_once('@') {
                Some((user, _)) => user.to_owned(),
                None => account,
            };
            let trusted: Vec<String> = privileges::trusted(session).into_iter().map(user).collect();
            format!("p.USER NOT IN ({})", literals(trusted.iter().map(String::as_str)))
        }
    };
    // Also under Drover's name: a routine's definer may be Drover's account, and a dump of an
    // earlier attempt is of no use any more.
    format!(
        "p.USER NOT IN ({never}) AND p.COMMAND NOT LIKE 'Binlog Dump%' AND ({by_user} OR p.DB = {})",
        literal(whose.database)
    )
}

const READING: &str = "reading the process list";

/// The table of sessions. MySQL has two: one with the name that a session acts under at the moment,
/// and one with the name that it logged in with. A session counts by either.
fn process_list(session: &Session) -> &'static str {
    match session.about().flavour {
        Flavour::MariaDb => "information_schema.PROCESSLIST",
        Flavour::MySql => {
            "(SELECT ID, COALESCE(USER, '') AS USER, DB, COMMAND FROM information_schema.PROCESSLIST \
             UNION ALL SELECT ID, COALESCE(USER, '') AS USER, DB, COMMAND \
             FROM performance_schema.processlist)"
        }
    }
}

/// What the process list shows.
struct Listed {
    /// The sessions that are meant, and whether each is idle: no statement, and no transaction open.
    meant: BTreeMap<u64, bool>,
    /// Those that stand under the name of a routine's definer and may be someone else's.
    hidden: BTreeSet<u64>,
    /// The highest id of all.
    newest: u64,
}

/// Reads the process list once: who comes out of a routine meanwhile is found before or after that, and
/// never neither. Those that were seen once are among the sessions that are meant until they are gone,
/// under whatever name. `newest`: those with a higher id do not count.
async fn list(
    session: &mut Session,
    newest: Option<u64>,
    (affected, with_hidden): (&str, bool),
    seen: &BTreeSet<u64>,
) -> Result<Listed, Error> {
    let seen: Vec<String> = seen.iter().map(u64::to_string).collect();
    let seen = if seen.is_empty() { "NULL".to_owned() } else { seen.join(",") };
    let (list, meant) = (process_list(session), format!("{affected} OR p.ID IN ({seen})"));
    let hidden = if with_hidden { hidden(session) } else { "FALSE" };
    let older = newest.map(|id| format!(" AND p.ID <= {id}")).unwrap_or_default();
    let sql = format!(
        "SELECT p.ID, p.COMMAND IN ('Sleep', 'Delayed insert'), ({meant}) IS TRUE, ({hidden}) IS TRUE \
         FROM {list} p WHERE p.ID <> CONNECTION_ID(){older}"
    );
    let found: Vec<(u64, bool, bool, bool)> = session.rows(READING, &sql).await?;
    let mut listed = Listed { meant: BTreeMap::new(), hidden: BTreeSet::new(), newest: 0 };
    for (id, idle, is_meant, is_hidden) in found {
        listed.newest = listed.newest.max(id);
        if is_meant {
            listed.meant.insert(id, idle);
        } else if is_hidden {
            listed.hidden.insert(id);
        }
    }
    if listed.meant.values().any(|idle| *idle) {
        let sql = "SELECT trx_mysql_thread_id FROM information_schema.INNODB_TRX";
        let open: Vec<u64> = session.rows("reading the open transactions", sql).await?;
        for id in open {
            if let Some(idle) = listed.meant.get_mut(&id) {
                *idle = false;
            }
        }
    }
    Ok(listed)
}

/// The condition that a session stands under the name of a routine's definer and may be someone else's:
/// the host is the definer's own, which for a pattern such as `%` no connection has.
fn hidden(session: &Session) -> &'static str {
    match session.about().flavour {
        Flavour::MariaDb => {
            "p.COMMAND = 'Query' AND CONCAT(p.USER, '@', SUBSTRING_INDEX(p.HOST, ':', 1)) IN \
             (SELECT definer FROM mysql.proc WHERE security_type = 'DEFINER' AND db <> 'sys')"
        }
        // See `process_list`: nobody is hidden there.
        Flavour::MySql => "FALSE",
    }
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
