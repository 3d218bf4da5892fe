//! Reading a source: once what concerns all of its databases, then its databases chunk by chunk.

use std::collections::{BTreeMap, BTreeSet};

use drover_schemas::Code;

use crate::{
    Error, Server, Session,
    foreign_keys::{ForeignKey, foreign_keys},
    guard,
    ident::{ident, literals},
    preflight::{
        accounts::{Rows, logins},
        counters,
        facts::{Finding, Login, Settings},
        gone, rights, server,
        shape::{self, Databases},
    },
    privileges::{self, Grantee},
    viewing,
};

/// How many names stand in the condition of one query for bodies: each is looked for in each.
const NAMES_A_BODY_QUERY: usize = 100;

/// A clock that differs by less is as good as the same: questions take time, and NTP has its own.
pub(crate) const CLOCK_MS_MAX: i64 = 2_000;

/// What concerns all databases of a source.
pub struct Source {
    /// What was found that concerns all of them.
    pub findings: Vec<Finding>,
    /// None: Drover's account lacks a right, and nothing else could be read.
    pub(crate) known: Option<Known>,
    server: Server,
}

/// What could be read.
pub(crate) struct Known {
    pub settings: Settings,
    pub logins: BTreeMap<Grantee, Login>,
    grants: Rows,
    there: BTreeSet<String>,
}

/// Some databases of a source.
pub struct Chunk {
    /// What was found that does not depend on a destination.
    pub findings: Vec<Finding>,
    pub(crate) databases: Databases,
}

impl Chunk {
    /// How many bytes a database takes at its source.
    pub fn bytes(&self, database: &str) -> u64 {
        self.databases.get(database).map_or(0, |database| database.bytes)
    }
}

/// A finding about all databases of a server.
pub(crate) fn of_server(code: Code, blocking: bool, what: impl Into<String>) -> Finding {
    Finding { code, blocking, database: None, what: what.into() }
}

fn of_database(code: Code, blocking: bool, database: &str, what: String) -> Finding {
    Finding { code, blocking, database: Some(database.to_owned()), what }
}

/// The rights that are lacking, as a finding.
pub(crate) async fn lacking_rights(session: &mut Session) -> Result<Option<Finding>, Error> {
    let name = session.server().name().clone();
    Ok(rights::lacking(session).await?.map(|(missing, grant)| {
        let what = format!("{name}: {} missing; needed: {grant}", missing.join(", "));
        of_server(Code::ServerRightMissing, true, what)
    }))
}

/// What a clock's difference is to be told as.
pub(crate) async fn wrong_clock(session: &mut Session) -> Result<Option<Finding>, Error> {
    let ahead_ms = server::clock_ahead_ms(session).await?;
    let what = format!("{}: its clock is {ahead_ms} ms ahead of this one", session.server().name());
    Ok((ahead_ms.abs() > CLOCK_MS_MAX).then(|| of_server(Code::ClocksDiffer, false, what)))
}

/// Reads what concerns all databases of a source.
///
/// # Errors
/// When it cannot be reached, or is not a server that Drover knows.
pub async fn begin(source: &Server) -> Result<Source, Error> {
    let mut session = source.session().await?;
    let mut findings = Vec::new();
    if let Some(lacking) = lacking_rights(&mut session).await? {
        session.end().await?;
        return Ok(Source { findings: vec![lacking], known: None, server: source.clone() });
    }
    let settings = server::settings(&mut session).await?;
    findings.extend(wrong_clock(&mut session).await?);
    if !settings.scheduler_runs {
        let what = format!("{}: no watchdog thaws what was left frozen", source.name());
        findings.push(of_server(Code::SchedulerOff, false, what));
    }
    writers_anywhere(&mut session, &mut findings).await?;
    let logins = logins(&mut session).await?;
    let grants = Rows::read(&mut session).await?;
    let sql = "SELECT CAST(SCHEMA_NAME AS BINARY) FROM information_schema.SCHEMATA";
    let there: Vec<String> = session.rows("listing the databases", sql).await?;
    session.end().await?;
    let there = there.into_iter().collect();
    let known = Some(Known { settings, logins, grants, there });
    Ok(Source { findings, known, server: source.clone() })
}

/// Who could write to any database: what the freeze refuses whatever the database.
async fn writers_anywhere(session: &mut Session, findings: &mut Vec<Finding>) -> Result<(), Error> {
    for checked in
        [guard::not_a_replica(session).await, guard::no_prepared_transactions(session).await]
    {
        match checked {
            Ok(()) => {}
            Err(Error::Found { code, server, what }) => {
                findings.push(of_server(code, true, format!("{server}: {what}")));
            }
            Err(other) => return Err(other),
        }
    }
    let trusted = privileges::trusted(session);
    let name = session.server().name().clone();
    let mut writers = guard::global_writers(session, &trusted).await?;
    for governing in guard::GOVERNING {
        let found = guard::governing_writers(session, governing, &trusted).await?;
        writers.extend(found.into_iter().map(|what| format!("{}: {what}", ident(governing))));
    }
    let told = |what| of_server(Code::ForeignWriter, true, format!("{name}: {what}"));
    findings.extend(writers.into_iter().map(told));
    Ok(())
}

impl Source {
    /// Reads some of its databases, at most [`CHUNK`](super::CHUNK) of them.
    ///
    /// # Errors
    /// When the server fails.
    pub async fn read(&self, databases: &[String]) -> Result<Chunk, Error> {
        let mut chunk = Chunk { findings: Vec::new(), databases: Databases::new() };
        let Some(known) = &self.known else { return Ok(chunk) };
        for name in databases {
            if known.there.contains(name) {
                chunk.databases.insert(name.clone(), Default::default());
            } else {
                let what = format!("{}: {}", self.server.name(), ident(name));
                chunk.findings.push(of_database(Code::DatabaseMissing, true, name, what));
            }
        }
        if chunk.databases.is_empty() {
            return Ok(chunk);
        }
        let mut session = self.server.session().await?;
        shape::tables(&mut session, &mut chunk.databases).await?;
        shape::columns(&mut session, &mut chunk.databases).await?;
        shape::objects(&mut session, &mut chunk.databases, &known.there).await?;
        for (name, database) in &mut chunk.databases {
            database.grantees = known.grants.on(name, &known.logins);
        }
        self.broken(&mut session, &mut chunk).await?;
        self.writers(&mut session, &mut chunk).await?;
        session.end().await?;
        Ok(chunk)
    }

    async fn broken(&self, session: &mut Session, chunk: &mut Chunk) -> Result<(), Error> {
        for (db, is_view, name) in shape::broken(session, &chunk.databases).await? {
            let place = format!("{}: {}", self.server.name(), ident(&db));
            if !is_view {
                let what = format!("{place}: table {}", ident(&name));
                chunk.findings.push(of_database(Code::TableUnreadable, true, &db, what));
                continue;
            }
            // One that only its definer cannot read is as any other.
            let Some((number, why)) = viewing::fate(session, &db, &name).await? else { continue };
            let view = format!("{place}: view {}: error {number} when it is read", ident(&name));
            let what = match why {
                None => format!("{view}; it moves as it is"),
                Some(why) => format!("{view}; {why}"),
            };
            chunk.findings.push(of_database(Code::ViewBroken, why.is_some(), &db, what));
        }
        for (db, what) in gone::found(session, &chunk.databases).await? {
            let what = format!("{}: {}: {what}", self.server.name(), ident(&db));
            chunk.findings.push(of_database(Code::ReferenceMissing, true, &db, what));
        }
        for (db, what) in counters::found(session, &chunk.databases).await? {
            let what = format!("{}: {}: {what}", self.server.name(), ident(&db));
            chunk.findings.push(of_database(Code::ValueRefused, true, &db, what));
        }
        Ok(())
    }

    /// Who could write to one of these databases with another's rights.
    async fn writers(&self, session: &mut Session, chunk: &mut Chunk) -> Result<(), Error> {
        let trusted = privileges::trusted(session);
        let definers = literals(trusted.iter().map(String::as_str));
        let names: Vec<&str> = chunk.databases.keys().map(String::as_str).collect();
        let mut found = guard::writing_views(session, &names, &definers).await?;
        for some in names.chunks(NAMES_A_BODY_QUERY) {
            found.extend(guard::foreign_bodies(session, some, &definers).await?);
        }
        let keys = foreign_keys(session, &names).await?;
        found.extend(keys.iter().filter_map(ForeignKey::follows));
        let told = |(database, what): (String, String)| {
            let what = format!("{}: {}: {what}", self.server.name(), ident(&database));
            of_database(Code::ForeignWriter, true, &database, what)
        };
        chunk.findings.extend(found.into_iter().map(told));
        Ok(())
    }
}
