//! The server's ledger: the schema `drover`, in which each server keeps what was done to it.
//!
//! 1. It is truth of its own. The event log may lose its tail; what a step changed here, at which
//!    revision, and what it takes to undo it, is committed here before the change is begun.
//! 2. It is the fence. A step takes the migration's lock, reads the row, and refuses to act when
//!    the row's revision is above its order's; an undo for which there is nothing to undo leaves a
//!    row too (a tombstone), so that the step which comes too late is refused.
//! 3. Everything happens on the session that holds the lock ([`Locked`]), so that who lost the
//!    session, and with it the lock, can change nothing any more.
//! 4. Two migrations of one database (in two campaigns) exclude each other: the database has a
//!    lock of its own, taken with the migration's.
//! 5. The undo is kept twice: as data, from which a second attempt goes on (`ledger.undo`), and as
//!    statements in order (table `undo`), which the server itself can run when Drover cannot: at
//!    the time that table `watchdog` says, which is written and deleted together with them.
//! 6. What an order may do is decided by the lifecycle ([`drover_lifecycle::ledger`]), so that the
//!    proof runs the same rules.
//!
//! No password hash is in it.

mod entry;
mod held;
mod locks;

use drover_lifecycle::ledger::{Act, Move, Refusal, Row, fence, permit};
use drover_schemas::Code;
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    Error, Flavour, Server, Session,
    ident::{ident, literal},
    mysql,
    questions::{Answers, Questions},
    watchdog::{self, Deadline},
};

pub use self::entry::{Entry, read};
pub(crate) use self::entry::{begin, is_missing};
use self::entry::{entry, row};
pub(crate) use self::locks::{account_lock, database_lock, locked, locking};
pub use self::locks::{copy_lock, lock, migration_lock, unlock};
pub use crate::order::Order;
pub use drover_lifecycle::ledger::{Side, State};

/// How long a step waits for the lock of its migration, in seconds. An instance that still works
/// on it says so to the bus; this one is tried again.
pub const LOCK_S_MAX: u32 = 5;

/// How many undo statements go to the server in one.
const STATEMENTS_A_PACKET: usize = 200;

/// A session that holds a migration's lock on a server, and the ledger's row that it found.
#[derive(Debug)]
pub struct Locked {
    session: Session,
    order: Order,
    side: Side,
    entry: Option<Entry>,
    /// Set by [`Locked::arm`]: goes to the server with the next undo.
    arming: Option<Deadline>,
}

impl Locked {
    /// Opens a session, takes the locks, and reads the row.
    ///
    /// # Errors
    /// [`Error::LedgerBusy`] when another instance holds the lock for [`LOCK_S_MAX`];
    /// [`Error::LedgerOutdated`] when the row's revision is above the order's;
    /// `DatabaseHeld` when another migration has done something to the same database that is not
    /// undone.
    pub async fn take(server: &Server, order: &Order, side: Side) -> Result<Self, Error> {
        let locks = [migration_lock(order.migration), database_lock(&order.database)];
        let mut first = Questions::default();
        let locking = first.add(locking(&locks));
        let rows = first.add(row(order.migration, side));
        let (mut session, answered) = server.step_session(first).await?;
        if session.about().flavour == Flavour::MySql {
            mysql::check(&mut session).await?;
        }
        let entry = match answered {
            Ok(mut answers) => {
                locked(&session, answers.one(locking)?, order)?;
                entry(&session, answers.take(rows)?)?
            }
            // A lock that this session has it gets again.
            Err(error) if is_missing(&error) => {
                lock(&mut session, &locks, order).await?;
                read(&mut session, order.migration, side).await?
            }
            Err(error) => return Err(error),
        };
        let locked = Self { session, order: order.clone(), side, entry, arming: None };
        match fence(locked.row(), order.asked()) {
            Ok(()) => Ok(locked),
            Err(refusal) => Err(locked.refused(refusal)),
        }
    }

    /// What this order does here.
    ///
    /// # Errors
    /// Why the ledger's rules refuse it.
    pub fn permit(&self, act: Act) -> Result<Move, Error> {
        permit(act, self.row(), self.order.asked()).map_err(|refusal| self.refused(refusal))
    }

    fn row(&self) -> Option<Row> {
        self.entry.as_ref().map(Entry::row)
    }

    /// The session that holds the lock.
    pub fn session(&mut self) -> &mut Session {
        &mut self.session
    }

    /// The server.
    pub fn server(&self) -> Server {
        self.session.server().clone()
    }

    /// The order.
    pub fn order(&self) -> &Order {
        &self.order
    }

    /// The row as it was read or last written.
    pub fn entry(&self) -> Option<&Entry> {
        self.entry.as_ref()
    }

    /// The row's state, when there is a row.
    pub fn state(&self) -> Option<State> {
        self.entry.as_ref().map(|entry| entry.state)
    }

    /// The row's undo, when there is one and it can be read.
    pub fn undo<T: DeserializeOwned>(&self) -> Result<Option<T>, Error> {
        self.json("the ledger's undo", |entry| &entry.undo)
    }

    /// The row's facts, when there are some and they can be read.
    pub fn facts<T: DeserializeOwned>(&self) -> Result<Option<T>, Error> {
        self.json("the ledger's facts", |entry| &entry.facts)
    }

    fn json<T: DeserializeOwned>(
        &self,
        doing: &'static str,
        part: impl Fn(&Entry) -> &String,
    ) -> Result<Option<T>, Error> {
        match self.entry.as_ref().map(part) {
            None => Ok(None),
            Some(text) if text.is_empty() => Ok(None),
            Some(text) => serde_json::from_str(text)
                .map(Some)
                .map_err(|e| self.session.unexpected(doing, format!("cannot be read ({e})"))),
        }
    }

    /// The error for an order that the ledger refuses.
    pub fn refused(&self, refusal: Refusal) -> Error {
        refused(self.session.server(), &self.order, self.entry.as_ref(), refusal)
    }

    /// Sets the time at which the server thaws the database by itself: committed together with the
    /// next undo.
    pub fn arm(&mut self, deadline: Deadline) {
        self.arming = Some(deadline);
    }

    /// Writes the row without the time at which the server would thaw the database by itself.
    pub async fn disarm(&mut self, facts: &impl Serialize) -> Result<(), Error> {
        let facts = self.to_json(facts)?;
        let undo = self.entry.as_ref().map_or_else(String::new, |entry| entry.undo.clone());
        let sql = format!(
            "START TRANSACTION; {}; {}; COMMIT",
            self.upsert(State::Disarmed, &undo, &facts),
            watchdog::forget(self.order.migration),
        );
        self.session.run(WRITING, &sql).await?;
        self.wrote(State::Disarmed, undo, facts).await
    }

    /// Writes the row, keeping its undo: committed when this returns.
    pub async fn write(&mut self, state: State, facts: &impl Serialize) -> Result<(), Error> {
        let facts = self.to_json(facts)?;
        let undo = self.entry.as_ref().map_or_else(String::new, |entry| entry.undo.clone());
        let sql = self.upsert(state, &undo, &facts);
        self.session.run(WRITING, &sql).await?;
        self.wrote(state, undo, facts).await
    }

    /// Writes the row with another state, and the order's revision; undo and facts stay.
    pub async fn touch(&mut self, state: State) -> Result<(), Error> {
        let kept = self.entry.as_ref();
        let (undo, facts) =
            kept.map(|entry| (entry.undo.clone(), entry.facts.clone())).unwrap_or_default();
        let sql = self.upsert(state, &undo, &facts);
        self.session.run(WRITING, &sql).await?;
        self.wrote(state, undo, facts).await
    }

    /// Writes the row with this undo, as data and as statements: committed, and on disk, when this
    /// returns. The facts stay as they were.
    pub async fn write_undo(
        &mut self,
        state: State,
        undo: &impl Serialize,
        statements: &[String],
    ) -> Result<(), Error> {
        self.write_undo_and(state, undo, statements, Questions::default()).await.map(drop)
    }

    /// The same, and what is to be said and asked when it is on disk: where each commit is by itself, in
    /// the same packet, of which the server does nothing behind a statement that fails.
    pub(crate) async fn write_undo_and(
        &mut self,
        state: State,
        undo: &impl Serialize,
        statements: &[String],
        then: Questions,
    ) -> Result<Answers, Error> {
        let undo = self.to_json(undo)?;
        let facts = self.entry.as_ref().map_or_else(String::new, |entry| entry.facts.clone());
        let mut all = self.undo_statements(&self.upsert(state, &undo, &facts), statements);
        if let Some(deadline) = self.arming.take() {
            all.say(WRITING, deadline.write(&self.order));
        }
        all.say(WRITING, "COMMIT");
        if self.session.about().durable {
            let places = all.append(then);
            let answers = self.session.ask_all(all).await?.behind(places);
            self.wrote(state, undo, facts).await?;
            return Ok(answers);
        }
        self.session.ask_all(all).await?;
        self.wrote(state, undo, facts).await?;
        self.session.ask_all(then).await
    }

    fn undo_statements(&self, upsert: &str, statements: &[String]) -> Questions {
        let mut all = Questions::default();
        all.say(WRITING, "START TRANSACTION");
        all.say(WRITING, upsert);
        all.say(WRITING, format!("DELETE FROM drover.undo WHERE {}", self.key()));
        for (chunk, some) in statements.chunks(STATEMENTS_A_PACKET).enumerate() {
            let values: Vec<String> = some
                .iter()
                .enumerate()
                .map(|(i, text)| {
                    let position = chunk * STATEMENTS_A_PACKET + i;
                    let (migration, side) = (self.order.migration, self.side.name());
                    format!("('{migration}','{side}',{position},{})", literal(text))
                })
                .collect();
            all.say(WRITING, format!("INSERT INTO drover.undo VALUES {}", values.join(",")));
        }
        all
    }

    /// Writes the row without any undo: there is nothing left to undo.
    pub async fn write_clean(&mut self, state: State, facts: &impl Serialize) -> Result<(), Error> {
        let facts = self.to_json(facts)?;
        let sql = format!(
            "START TRANSACTION; {}; DELETE FROM drover.undo WHERE {}; {}; COMMIT",
            self.upsert(state, "", &facts),
            self.key(),
            watchdog::forget(self.order.migration),
        );
        self.session.run(WRITING, &sql).await?;
        self.wrote(state, String::new(), facts).await
    }

    /// The undo's statements, in order.
    pub async fn statements(&mut self) -> Result<Vec<String>, Error> {
        let sql =
            format!("SELECT statement FROM drover.undo WHERE {} ORDER BY position", self.key());
        self.session.rows("reading the ledger", &sql).await
    }

    /// Ends the step, and with it the locks.
    pub async fn release(self) -> Result<(), Error> {
        self.session.give_back().await
    }

    fn to_json(&self, value: &impl Serialize) -> Result<String, Error> {
        serde_json::to_string(value).map_err(|e| self.session.unexpected(WRITING, e.to_string()))
    }

    fn key(&self) -> String {
        format!("migration = '{}' AND side = '{}'", self.order.migration, self.side.name())
    }

    fn upsert(&self, state: State, undo: &str, facts: &str) -> String {
        let order = &self.order;
        format!(
            "INSERT INTO drover.ledger VALUES ('{}','{}',{},{},'{}',{},{},{},{},{},x'{}',\
             UTC_TIMESTAMP(3),UTC_TIMESTAMP(3)) ON DUPLICATE KEY UPDATE state = VALUES(state), \
             revision = VALUES(revision), run = VALUES(run), attempt = VALUES(attempt), \
             `undo` = VALUES(`undo`), facts = VALUES(facts), job = VALUES(job), \
             changed_at = VALUES(changed_at)",
            order.migration,
            self.side.name(),
            literal(order.campaign.as_str()),
            literal(&order.database),
            state.name(),
            order.revision,
            order.run,
            order.attempt,
            literal(undo),
            literal(facts),
            crate::survey::hex(&order.job),
        )
    }

    /// Sees to it that what was committed is on disk: where commits are not by themselves, a power
    /// cut could keep the change that follows and lose the row that tells of it.
    pub(crate) async fn flush(&mut self) -> Result<(), Error> {
        if !self.session.about().durable {
            self.session.run("writing the ledger to disk", "FLUSH ENGINE LOGS").await?;
        }
        Ok(())
    }

    async fn wrote(&mut self, state: State, undo: String, facts: String) -> Result<(), Error> {
        self.flush().await?;
        let Order { revision, run, attempt, .. } = self.order;
        self.entry = Some(Entry { state, revision, run, attempt, undo, facts });
        Ok(())
    }
}

const WRITING: &str = "writing the ledger";

/// The error for an order that the ledger refuses.
pub(crate) fn refused(
    server: &Server,
    order: &Order,
    entry: Option<&Entry>,
    refusal: Refusal,
) -> Error {
    let state = entry.map_or("empty", |entry| entry.state.name());
    let of = |code, what: &str| {
        let what = format!("{}: {what} (its ledger says: {state})", ident(&order.database));
        server.found(code, what)
    };
    match refusal {
        Refusal::Outdated => Error::LedgerOutdated {
            server: server.name().to_string(),
            migration: order.migration.to_string(),
            state: state.to_owned(),
            ledger: entry.map_or(0, |entry| entry.revision),
            order: order.revision,
        },
        Refusal::NotFrozen => of(Code::NotFrozen, "not frozen by this migration"),
        Refusal::Lapsed => of(Code::WatchdogFired, "its time was over before it was disarmed"),
        Refusal::TooLate => of(Code::FrozenTooLong, "its time is over"),
        Refusal::NotDisarmed => of(Code::NotDisarmed, "it was not disarmed"),
        Refusal::Rehearsal => of(Code::RehearsalOnly, "it is being rehearsed only"),
        Refusal::DestinationUnknown => {
            of(Code::DestinationUnknown, "it was disarmed, and the destination was not shut since")
        }
    }
}
