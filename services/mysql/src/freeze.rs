//! Freeze: the customer can read, and no longer write; the consistency point is when that is true.
//!
//! 1. What is outside and could write is looked for first ([`guard`](crate::guard)), and refused.
//! 2. The intent and the whole undo are committed to the ledger.
//! 3. Scheduled events are disabled and the rights to write are taken away.
//! 4. Sessions older than that end, with what they still had open.
//! 5. On MySQL the schema becomes read-only as well.
//! 6. Then nothing can write any more, and the point is read.
//!
//! An attempt that finds the intent of an interrupted one goes on with the recorded undo; it never
//! takes what is left of the privileges for what was there.

use std::{collections::BTreeSet, time::Duration};

use drover_lifecycle::ledger::{Act, Move, Refusal};
use drover_schemas::{Code, v1};
use serde::{Deserialize, Serialize};

use crate::{
    Error, Flavour, Order, Server, Session,
    connection::clock,
    events::{ScheduledEvent, enabled, scheduled},
    grant_tables::GrantRows,
    guard,
    ident::{covers, grant_text, ident, literal},
    ledger::{Locked, Side, State},
    mysql,
    precedence::is_exact,
    privileges::{self, Held, Target},
    questions::{Question, Questions},
    sessions::{self, Whose},
    takeaway::{Leave, Undo, cannot_be_masked},
    watchdog::{self, Deadline},
};

/// How often privileges that were granted while others were taken away are taken away as well.
const ROUNDS_MAX: u32 = 5;

/// How many statements go to the server at once: bounded packets, few round trips.
const STATEMENTS_AT_ONCE: usize = 100;

/// What a freeze found; kept in the ledger, and answered again when the order comes again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Facts {
    pub gtid: String,
    pub binlog_file: String,
    pub binlog_position: u64,
    pub at_unix_ms: i64,
    pub frozen_at_unix_ms: i64,
    pub accounts: u32,
    pub sessions_ended: u32,
    pub scheduled_events_stopped: u32,
    #[serde(default)]
    pub thaw_at_unix_ms: i64,
    #[serde(default)]
    pub watchdog_armed: bool,
    #[serde(default)]
    pub disarmed_at_unix_ms: i64,
}

impl From<Facts> for v1::SourceFrozen {
    fn from(facts: Facts) -> Self {
        Self {
            consistency_point: Some(v1::ConsistencyPoint {
                gtid: facts.gtid,
                binlog_file: facts.binlog_file,
                binlog_position: facts.binlog_position,
                at_unix_ms: facts.at_unix_ms,
            }),
            frozen_at_unix_ms: facts.frozen_at_unix_ms,
            accounts: facts.accounts,
            sessions_ended: facts.sessions_ended,
            scheduled_events_stopped: facts.scheduled_events_stopped,
            thaw_at_unix_ms: facts.thaw_at_unix_ms,
            watchdog_armed: facts.watchdog_armed,
        }
    }
}

/// Makes the database read-only for its customers. Open sessions that are busy may go on for
/// `grace`.
///
/// # Errors
/// Beside those of [`Locked::take`]: `DatabaseMissing`, `DatabaseHeld`, `ForeignWriter`,
/// `PreparedTransactions`, `SourceIsReplica`, `SessionsRemain`; `WatchdogFired` and `FrozenTooLong`
/// when an earlier attempt began so long ago that the time is over. What was done by then is undone by
/// [`thaw`](crate::thaw()).
pub async fn freeze(
    server: &Server,
    order: &Order,
    grace: Duration,
) -> Result<v1::SourceFrozen, Error> {
    let mut locked = Locked::take(server, order, Side::Source).await?;
    let result = freeze_locked(&mut locked, grace).await;
    crate::finish(locked, result).await
}

async fn freeze_locked(locked: &mut Locked, grace: Duration) -> Result<v1::SourceFrozen, Error> {
    let mut undo: Undo = match locked.permit(Act::Freeze)? {
        Move::Begin => Undo::default(),
        Move::GoOn => locked.undo()?.unwrap_or_default(),
        Move::Again | Move::Rest => {
            let facts: Facts = locked.facts()?.unwrap_or_default();
            locked.write(State::Frozen, &facts).await?;
            return Ok(facts.into());
        }
    };
    let database = locked.order().database.clone();
    locked.check_not_held().await?;
    locked.check_still_open().await?;
    let session = locked.session();
    let held = look(session, &database).await?;
    guard::check(session, &database).await?;
    let Beginning { deadline, watched, events } = beginning(locked).await?;

    let session = locked.session();
    let read_only = is_read_only(session, &database).await?;
    if !read_only {
        undo.read_only = session.about().flavour == Flavour::MySql;
        for event in events {
            let known = |known: &ScheduledEvent| {
                (&known.name, known.definer()) == (&event.name, event.definer())
            };
            if !undo.events.iter().any(known) {
                undo.events.push(event);
            }
        }
    }
    locked.arm(deadline);
    take_all(locked, &mut undo, held, Leave::Reads, State::Freezing).await?;

    let session = locked.session();
    let users = privileges::users_of(session, &undo.grantees()).await?;
    let whose = Whose { database: &database, users };
    let sessions_ended = sessions::end_older(session, &whose, grace).await?;
    if undo.read_only && !read_only {
        let sql = mysql::set_read_only(&database, true);
        session.run("making the schema read-only", &sql).await?;
    }
    let point = consistency_point(session).await?;
    let facts = Facts {
        frozen_at_unix_ms: deadline.frozen_at_unix_ms,
        thaw_at_unix_ms: deadline.thaw_at_unix_ms,
        watchdog_armed: watched && watchdog::can_run(session, &undo),
        accounts: undo.accounts(),
        sessions_ended,
        scheduled_events_stopped: u32::try_from(undo.events.len()).unwrap_or(u32::MAX),
        ..point
    };
    locked.write(State::Frozen, &facts).await?;
    Ok(facts.into())
}

/// What a freeze begins with.
struct Beginning {
    /// Until when the database may be frozen: as an earlier attempt has said, or from now.
    deadline: Deadline,
    /// Whether the server's scheduler runs the watchdog.
    watched: bool,
    /// The scheduled events that are enabled.
    events: Vec<ScheduledEvent>,
}

async fn beginning(locked: &mut Locked) -> Result<Beginning, Error> {
    let (migration, state) = (locked.order().migration, locked.state());
    let max_frozen_ms = i64::from(locked.order().max_frozen_ms);
    let database = locked.order().database.clone();
    let session = locked.session();
    let flavour = session.about().flavour;
    let mut questions = Questions::default();
    let clock = questions.add(clock());
    let known = questions.add(watchdog::row(migration));
    let events = questions.add(enabled(flavour, &database));
    let watchdog = (flavour == Flavour::MariaDb).then(|| questions.add(watchdog::there()));
    let mut answers = session.ask_all(questions).await?;

    let now_unix_ms = answers.one(clock)?;
    let known = watchdog::deadline(answers.take(known)?);
    let deadline = match known.filter(|_| state == Some(State::Freezing)) {
        Some(deadline) if deadline.is_ahead(now_unix_ms) => deadline,
        Some(_) => return Err(locked.refused(Refusal::TooLate)),
        None => Deadline {
            frozen_at_unix_ms: now_unix_ms,
            thaw_at_unix_ms: now_unix_ms.saturating_add(max_frozen_ms),
        },
    };
    let mut watched = false;
    if let Some(watchdog) = watchdog {
        let (runs, there) = answers.one(watchdog)?;
        watchdog::ensure(locked.session(), there.as_deref()).await?;
        watched = runs;
    }
    let events = scheduled(flavour, answers.take(events)?);
    Ok(Beginning { deadline, watched, events })
}

/// Records in the ledger and takes away, until there is nothing left to take.
pub(crate) async fn take_all(
    locked: &mut Locked,
    undo: &mut Undo,
    held: Held,
    leave: Leave,
    state: State,
) -> Result<(), Error> {
    let database = locked.order().database.clone();
    let mut statements = Vec::new();
    // In a read-only schema no event can be altered, and none can write.
    if !is_read_only(locked.session(), &database).await? {
        statements.extend(undo.events.iter().flat_map(|event| event.disable(&database)));
    }
    statements.extend(undo.take(&held.grants, &database, leave));
    for _ in 0..ROUNDS_MAX {
        let held = take(locked, undo, &statements, state).await?;
        statements = undo.take(&held.grants, &database, leave);
        if statements.is_empty() {
            return Ok(());
        }
    }
    let what = format!("{}: privileges are being granted all the time", ident(&database));
    Err(locked.server().found(Code::ForeignWriter, what))
}

/// Records the undo, takes away by these statements, and looks what is granted then.
async fn take(
    locked: &mut Locked,
    undo: &Undo,
    statements: &[String],
    state: State,
) -> Result<Held, Error> {
    let doing = "taking privileges away";
    let database = locked.order().database.clone();
    let (first, others) = statements.split_at(statements.len().min(STATEMENTS_AT_ONCE));
    let mut then = Questions::default();
    first.iter().for_each(|sql| then.say(doing, sql));
    let grants = others.is_empty().then(|| GrantRows::ask(locked.session(), &database, &mut then));
    let mut answers = locked.write_undo_and(state, undo, &undo.statements(&database), then).await?;
    let session = locked.session();
    let Some(grants) = grants else {
        for some in others.chunks(STATEMENTS_AT_ONCE) {
            session.run(doing, &some.join("; ")).await?;
        }
        return read(session, &database).await;
    };
    let trusted = privileges::trusted(session);
    let held = grants.held(session, &mut answers, &trusted).await?;
    checked(session, &database, held).await
}

/// What is granted on the database, the trusted accounts aside.
pub(crate) async fn read(session: &mut Session, database: &str) -> Result<Held, Error> {
    let trusted = privileges::trusted(session);
    let held = privileges::held(session, database, &trusted).await?;
    checked(session, database, held).await
}

/// The same, where the database is there.
pub(crate) async fn look(session: &mut Session, database: &str) -> Result<Held, Error> {
    let trusted = privileges::trusted(session);
    let mut questions = Questions::default();
    let there = questions.add(there(database));
    let grants = GrantRows::ask(session, database, &mut questions);
    let mut answers = session.ask_all(questions).await?;
    refuse_missing(session, database, &answers.take(there)?)?;
    let held = grants.held(session, &mut answers, &trusted).await?;
    checked(session, database, held).await
}

/// Refuses grants that could not be taken away.
async fn checked(session: &mut Session, database: &str, held: Held) -> Result<Held, Error> {
    if let Some(row) = held.ownerless.first() {
        return Err(privileges::ownerless(session, database, row));
    }
    if session.about().flavour == Flavour::MySql {
        mysql::no_pattern_with_roles(session, database, &held).await?;
    }
    let texts = held.grants.iter().filter_map(|grant| match &grant.target {
        Target::Databases(text) => Some(text.as_str()),
        Target::Table(_) | Target::Routine(..) => None,
    });
    let own = grant_text(database);
    let inexact: BTreeSet<&str> = texts
        .chain([own.as_str()])
        .filter(|text| cannot_be_masked(text, database) && !is_exact(text))
        .collect();
    if !inexact.is_empty() {
        check_alone(session, database, &inexact).await?;
    }
    Ok(held)
}

/// Whether the schema is read-only, which MariaDB's never are.
async fn is_read_only(session: &mut Session, database: &str) -> Result<bool, Error> {
    match session.about().flavour {
        Flavour::MariaDb => Ok(false),
        Flavour::MySql => mysql::is_read_only(session, database).await,
    }
}

/// Whether the texts that stand for a very long name cover no other database.
async fn check_alone(
    session: &mut Session,
    database: &str,
    texts: &BTreeSet<&str>,
) -> Result<(), Error> {
    let sql = "SELECT SCHEMA_NAME FROM information_schema.SCHEMATA";
    let names: Vec<String> = session.rows("looking for databases", sql).await?;
    let covered = |name: &&String| texts.iter().any(|text| covers(text, name));
    let other = names.iter().filter(|name| *name != database).find(covered);
    match other {
        None => Ok(()),
        Some(other) => Err(session.server().found(
            Code::ForeignWriter,
            format!("{} cannot be told from {} in a grant", ident(database), ident(other)),
        )),
    }
}

/// Whether the database exists, by exactly this name.
pub(crate) async fn check_there(session: &mut Session, database: &str) -> Result<(), Error> {
    let names = session.ask(there(database)).await?;
    refuse_missing(session, database, &names)
}

/// Asks for a database.
pub(crate) fn there(database: &str) -> Question<String> {
    let sql = format!(
        "SELECT SCHEMA_NAME FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = {}",
        literal(database)
    );
    Question::new("looking for the database", sql)
}

/// Refuses to go on where it is not among those that were found.
pub(crate) fn refuse_missing(
    session: &Session,
    database: &str,
    names: &[String],
) -> Result<(), Error> {
    let folded = session.about().lower_case_table_names != 0;
    if names.iter().any(|name| name == database || folded && *name == database.to_lowercase()) {
        return Ok(());
    }
    Err(session.server().found(Code::DatabaseMissing, ident(database)))
}

/// Reads the point, where nothing is prepared: a session may have prepared a transaction in its last
/// moment, and anyone can commit that.
async fn consistency_point(session: &mut Session) -> Result<Facts, Error> {
    let doing = "reading the consistency point";
    let (gtid, status) = match session.about().flavour {
        Flavour::MariaDb => ("SELECT @@gtid_binlog_pos", "SHOW MASTER STATUS"),
        Flavour::MySql => (
            "SELECT REPLACE(@@GLOBAL.gtid_executed, '\n', '')",
            mysql::binary_log_status(session.about().version),
        ),
    };
    let mut questions = Questions::default();
    let prepared = questions.add(guard::prepared());
    let point = session.about().binlog.then(|| {
        let gtid = questions.add(Question::<String>::new(doing, gtid));
        (gtid, questions.add(Question::<mysql_async::Row>::new(doing, status)))
    });
    let clock = questions.add(clock());
    let mut answers = session.ask_all(questions).await?;
    guard::refuse_prepared(session, &answers.take(prepared)?)?;
    let mut facts = Facts { at_unix_ms: answers.one(clock)?, ..Facts::default() };
    if let Some((gtid, status)) = point {
        let row = answers.one(status)?;
        facts.gtid = answers.one(gtid)?;
        facts.binlog_file = row.get(0).unwrap_or_default();
        facts.binlog_position = row.get(1).unwrap_or_default();
    }
    Ok(facts)
}
