//! One connection of Drover's own account to a server.
//!
//! 1. A session does the whole of a step, its lock included: what a paused or partitioned instance
//!    has not yet said when its session ends is never said.
//! 2. The server ends a session that says nothing for [`SILENCE_S_MAX`], so that the locks of an
//!    instance that was stopped go away by themselves. Nothing connects again by itself.
//! 3. Each session says at its start what it depends on: `sql_mode`, time zone, commits.
//! 4. A step at the control side may get a connection that has done others ([`keep`](crate::keep)); what
//!    reads or loads rows has one of its own.

use std::time::Instant;

use mysql_async::{
    ChangeUserOpts, Conn,
    prelude::{FromRow, Queryable as _},
};

use crate::{
    Error, Server,
    questions::{self, Answers, Question, Questions},
    server::LIMIT,
};

/// After how long without a statement the server ends a session, in seconds. Longer than any
/// pause between two statements of a step, shorter than what an operator would wait.
pub const SILENCE_S_MAX: u32 = 60;

/// How long a statement waits for a table or row that another session holds, in seconds; one that
/// fails for it is tried again.
const LOCK_WAIT_S_MAX: u32 = 10;

/// The two kinds of servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Flavour {
    /// MariaDB 10.5 or newer.
    MariaDb,
    /// MySQL 8.0.22 or newer.
    MySql,
}

/// What a server said of itself when the session began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    /// Its kind.
    pub flavour: Flavour,
    /// Major, minor and patch.
    pub version: (u16, u16, u16),
    /// `lower_case_table_names`: anything but 0 compares names without regard to case.
    pub lower_case_table_names: u8,
    /// Drover's account as the server matched it: user and host.
    pub account: (String, String),
    /// The session's id, as in the process list.
    pub id: u64,
    /// Whether a commit is on disk when it returns (`innodb_flush_log_at_trx_commit = 1`).
    pub durable: bool,
    /// Whether there is a binary log.
    pub binlog: bool,
}

/// One connection of Drover's account.
#[derive(Debug)]
pub struct Session {
    conn: Conn,
    server: Server,
    about: About,
    made: Instant,
    has_selected: bool,
}

/// A session, and what was answered to the questions that it began with.
pub(crate) type Begun = (Session, Result<Answers, Error>);

type Said = (String, u8, String, u64, u8, u8, bool);

/// What a session asks first.
const ABOUT: &str = "SELECT VERSION(), @@lower_case_table_names, CURRENT_USER(), CONNECTION_ID(), \
     @@innodb_flush_log_at_trx_commit, @@log_bin, DATABASE() IS NOT NULL";

/// From this major version on a server greets as MariaDB; MySQL has not come so far.
const MARIADB_FROM: u16 = 10;

impl Session {
    /// Says and asks what each session begins with, and then these.
    pub(crate) async fn begin(
        server: Server,
        mut conn: Conn,
        made: Instant,
        more: Questions,
    ) -> Result<Begun, Error> {
        let doing = "beginning a session";
        let failed = |e| server.statement_error(doing, &e);
        // Question and settings in one packet: a migration has a dozen sessions. Which kind it is the
        // number in the server's greeting tells well enough to ask; the answer is what counts.
        let greeted = match conn.server_version() {
            (major, _, _) if major >= MARIADB_FROM => Flavour::MariaDb,
            _ => Flavour::MySql,
        };
        let mut all = Questions::default();
        all.say(doing, ABOUT);
        all.say(doing, settings(greeted));
        all.append(more.clone());
        let mut result = conn.query_iter(all.sql()).await.map_err(failed)?;
        let said: Vec<Said> = result.collect().await.map_err(failed)?;
        let said = said.into_iter().next();
        let Some((version, lower_case_table_names, account, id, flush, binlog, has_selected)) =
            said
        else {
            return Err(Error::Unexpected {
                server: server.name().to_string(),
                doing,
                what: "no answer".to_owned(),
            });
        };
        let supported = supported(&version).filter(|(flavour, _)| *flavour == greeted);
        let Some((flavour, number)) = supported else {
            return Err(Error::Unsupported { server: server.name().to_string(), version });
        };
        let mut rows = Vec::new();
        let ended = questions::rest(&mut result, &mut rows).await;
        drop(result);
        // What was said behind the settings counts where these were made.
        let ended = match (rows.is_empty(), ended) {
            (true, Err(error)) => return Err(failed(error)),
            (_, ended) => ended,
        };
        let (user, host) = account.rsplit_once('@').unwrap_or((&account, ""));
        let about = About {
            flavour,
            version: number,
            lower_case_table_names,
            account: (user.to_owned(), host.to_owned()),
            id,
            durable: flush == 1,
            binlog: binlog == 1,
        };
        let session = Self { conn, server, about, made, has_selected };
        let answers = more.answers(&session, rows.into_iter().skip(1).collect(), ended);
        Ok((session, answers))
    }

    /// The server.
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// What the server said of itself.
    pub fn about(&self) -> &About {
        &self.about
    }

    /// The driver's connection, for what this type has no method for.
    pub fn conn(&mut self) -> &mut Conn {
        &mut self.conn
    }

    /// Runs a statement, or several with semicolons between them; `doing` is for the error's text.
    pub async fn run(&mut self, doing: &'static str, sql: &str) -> Result<(), Error> {
        self.conn.query_drop(sql).await.map_err(|e| self.failed(doing, &e))
    }

    /// The rows of a query.
    pub async fn rows<T>(&mut self, doing: &'static str, sql: &str) -> Result<Vec<T>, Error>
    where
        T: FromRow + Send + 'static,
    {
        let rows: Vec<mysql_async::Row> =
            self.conn.query(sql).await.map_err(|e| self.failed(doing, &e))?;
        rows.into_iter().map(|row| questions::read(&self.server, doing, row)).collect()
    }

    /// The first row of a query that has one.
    pub async fn one<T>(&mut self, doing: &'static str, sql: &str) -> Result<T, Error>
    where
        T: FromRow + Send + 'static,
    {
        let first = self.rows(doing, sql).await?.into_iter().next();
        first.ok_or_else(|| self.unexpected(doing, "no row".to_owned()))
    }

    /// Says again what a session depends on, after what a customer's definition needed.
    pub(crate) async fn settle(&mut self) -> Result<(), Error> {
        let sql = format!(
            "{}; SET NAMES utf8mb4; SET SESSION timestamp = DEFAULT, foreign_key_checks = DEFAULT, \
             unique_checks = DEFAULT",
            settings(self.about.flavour)
        );
        self.run("settling a session", &sql).await
    }

    /// The server's clock, in milliseconds since 1970.
    pub async fn now_unix_ms(&mut self) -> Result<i64, Error> {
        let Question { doing, sql, .. } = clock();
        self.one(doing, &sql).await
    }

    /// Whether its connection had a database selected already when it began.
    pub(crate) fn selects(&self) -> bool {
        self.has_selected
    }

    /// Says that a database is selected now, which a reset leaves.
    pub(crate) fn has_selected(&mut self) {
        self.has_selected = true;
    }

    /// Ends a step's session: its locks are free when this returns. The connection is kept for another
    /// step.
    pub(crate) async fn give_back(mut self) -> Result<(), Error> {
        let (server, doing) = (self.server.clone(), "ending a session");
        match tokio::time::timeout(LIMIT, as_new(&mut self.conn, self.has_selected)).await {
            Ok(Ok(true)) => server.keep().put(self.conn, self.made),
            Ok(Ok(false)) => return self.end().await,
            Ok(Err(error)) => return Err(server.statement_error(doing, &error)),
            Err(_) => return Err(server.silent(doing)),
        }
        Ok(())
    }

    /// Ends the session; its locks are free when this returns.
    pub async fn end(self) -> Result<(), Error> {
        let server = self.server;
        self.conn.disconnect().await.map_err(|e| server.statement_error("ending a session", &e))
    }

    pub(crate) fn failed(&self, doing: &'static str, error: &mysql_async::Error) -> Error {
        let About { flavour, version, account: (user, host), .. } = &self.about;
        let mut told = Error::of_statement(self.server.name().as_str(), (user, host), doing, error);
        if let (Flavour::MySql, Error::RightMissing { grant, .. }) = (flavour, &mut told) {
            *grant = crate::mysql::grants_needed(user, host, *version);
        }
        told
    }

    pub(crate) fn unexpected(&self, doing: &'static str, what: String) -> Error {
        Error::Unexpected { server: self.server.name().to_string(), doing, what }
    }
}

/// Makes a connection as a server makes it; whether that was done. Only somebody who logs in again has
/// no database selected any more, which costs more than a reset, and far less than another connection.
async fn as_new(conn: &mut Conn, has_selected: bool) -> Result<bool, mysql_async::Error> {
    match has_selected {
        true => conn.change_user(ChangeUserOpts::default()).await.map(|()| true),
        false => conn.reset().await,
    }
}

/// Asks for the server's clock, in milliseconds since 1970.
pub(crate) fn clock() -> Question<i64> {
    let sql = "SELECT CAST(FLOOR(UNIX_TIMESTAMP(NOW(3)) * 1000) AS SIGNED)";
    Question::new("reading the clock", sql)
}

/// The settings of every session. `NO_AUTO_CREATE_USER` (MariaDB; MySQL has no other way): a GRANT
/// never makes an account that was dropped in the meantime. `old_mode` is the server's own.
fn settings(flavour: Flavour) -> String {
    let common = format!(
        "autocommit = 1, time_zone = '+00:00', wait_timeout = {SILENCE_S_MAX}, \
         lock_wait_timeout = {LOCK_WAIT_S_MAX}, innodb_lock_wait_timeout = {LOCK_WAIT_S_MAX}, \
         tx_isolation = 'READ-COMMITTED'"
    );
    match flavour {
        Flavour::MariaDb => format!(
            "SET SESSION {common}, max_statement_time = 0, \
             sql_mode = 'STRICT_ALL_TABLES,NO_AUTO_CREATE_USER,NO_ENGINE_SUBSTITUTION'"
        ),
        Flavour::MySql => format!(
            "SET SESSION {}, max_execution_time = 0, \
             print_identified_with_as_hex = 1, \
             sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION'",
            common.replace("tx_isolation", "transaction_isolation")
        ),
    }
}

/// The kind and version in what `VERSION()` says, when Drover knows how to move it.
fn supported(version: &str) -> Option<(Flavour, (u16, u16, u16))> {
    let mut parts = version.split(['.', '-', '+']).map(|part| part.parse::<u16>().ok());
    let number = (parts.next()??, parts.next()??, parts.next()??);
    let (flavour, oldest) = if version.contains("MariaDB") {
        (Flavour::MariaDb, (10, 5, 0))
    } else {
        (Flavour::MySql, (8, 0, 22))
    };
    (number >= oldest).then_some((flavour, number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_servers_are_refused() {
        let maria = |v| Some((Flavour::MariaDb, v));
        assert_eq!(supported("10.11.14-MariaDB-0+deb12u2-log"), maria((10, 11, 14)));
        assert_eq!(supported("11.8.3-MariaDB"), maria((11, 8, 3)));
        assert_eq!(supported("8.0.22"), Some((Flavour::MySql, (8, 0, 22))));
        assert_eq!(supported("9.7.0-commercial"), Some((Flavour::MySql, (9, 7, 0))));
        for old in ["10.4.34-MariaDB", "5.7.44-log", "8.0.21", "", "x.y.z"] {
            assert_eq!(supported(old), None, "{old}");
        }
    }
}
