//! What a retired database was before it was set aside: its definitions, and as frames of a dump those
//! that have to be made again.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{PUTTING_BACK, SETTING_ASIDE, stages::rename_all};
use crate::{
    Description, Error, Form, Frame, FrameKind, Session,
    describe::Found,
    dump::loading_mode,
    frames::{Writer, damaged},
    ident::{ident, literal},
    load,
    privileges::{self, Grant, Target},
    programs,
    rows::Digests,
    schema::Kind,
    viewing::Views,
};

/// How many statements go to the server at once.
const STATEMENTS_AT_ONCE: usize = 100;

/// What is recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// All definitions; the rows, which stay in their tables, are not described.
    description: Description,
    /// The frames of what is made again, in their order.
    frames: Vec<Frame>,
    /// How many of them are broken views, which are made in an empty database.
    broken_views: usize,
    /// When each event was created, in seconds since 1970: a server makes none whose time is over.
    events: BTreeMap<String, i64>,
    /// The grants on routines, which go with them. Those on tables and views stay.
    grants: Vec<Grant>,
    /// The frames' bytes.
    #[serde(skip)]
    pub(super) stored: Vec<u8>,
}

impl Record {
    /// Reads a database, which it selects.
    pub(super) async fn read(session: &mut Session, database: &str) -> Result<Self, Error> {
        let found = Found::read(session, database).await?;
        let (server, mut stored) = (session.server().clone(), Vec::new());
        let mut writer = Writer::new(&server, Form::Zstd, &mut stored)?;
        let views = Views::read(session, database, &found.lists).await?;
        views.write_broken(loading_mode(session.about().flavour), &mut writer).await?;
        let broken_views = writer.written();
        programs::routines(session, &found.lists, &mut writer).await?;
        views.write(&found.lists, &mut writer).await?;
        programs::triggers_and_events(session, &found.lists, false, &mut writer).await?;
        let frames = writer.finish();
        session.settle().await?;
        let sql = format!(
            "SELECT name, CAST(UNIX_TIMESTAMP(created) AS SIGNED) FROM mysql.event WHERE db = {}",
            literal(database)
        );
        let events: Vec<(String, i64)> = session.rows(SETTING_ASIDE, &sql).await?;
        let held = privileges::held(session, database, &[].into()).await?;
        let of_routine = |grant: &Grant| matches!(grant.target, Target::Routine(..));
        Ok(Self {
            description: found.description(&Digests::new()),
            frames,
            broken_views,
            events: events.into_iter().collect(),
            grants: held.grants.into_iter().filter(of_routine).collect(),
            stored,
        })
    }

    /// From its row.
    pub(super) fn of(session: &Session, json: &str, stored: Vec<u8>) -> Result<Self, Error> {
        let record: Self = serde_json::from_str(json)
            .map_err(|e| session.unexpected("reading the ledger", e.to_string()))?;
        Ok(Self { stored, ..record })
    }

    /// For its row.
    pub(super) fn to_json(&self, session: &Session) -> Result<String, Error> {
        serde_json::to_string(self)
            .map_err(|e| session.unexpected("writing the ledger", e.to_string()))
    }

    /// What of `other` is not as it is here.
    pub(super) fn differences(&self, other: &Self) -> Vec<String> {
        let mut found = self.description.differences(&other.description);
        for grant in self.grants.iter().filter(|grant| !other.grants.contains(grant)) {
            found.push(format!("a grant of {} is missing", grant.grantee.sql()));
        }
        found
    }

    /// Whether it has a table or sequence of this name.
    pub(super) fn has_relation(&self, name: &str) -> bool {
        let is = |(kind, object): (Kind, &str)| kind == Kind::Sequence && object == name;
        self.description.tables.contains_key(name) || self.objects().any(is)
    }

    /// The triggers' names.
    pub(super) fn triggers(&self) -> impl Iterator<Item = &str> {
        self.objects().filter(|(kind, _)| *kind == Kind::Trigger).map(|(_, name)| name)
    }

    fn objects(&self) -> impl Iterator<Item = (Kind, &str)> {
        self.description.objects.iter().map(|object| (object.kind, object.name.as_str()))
    }

    /// The statement that makes a database with the same defaults.
    pub(super) fn create_database(&self, name: &str, or_find: bool) -> String {
        let defaults = &self.description.defaults;
        format!(
            "CREATE DATABASE {}{} CHARACTER SET {} COLLATE {} COMMENT {}",
            if or_find { "IF NOT EXISTS " } else { "" },
            ident(name),
            ident(&defaults.charset),
            ident(&defaults.collation),
            literal(&defaults.comment)
        )
    }

    /// The statements that drop all but tables and sequences, where they are there.
    pub(super) fn drops(&self, database: &str) -> Vec<String> {
        let mut drops: Vec<(Kind, &str)> = self
            .objects()
            .filter(|(kind, _)| match kind {
                Kind::View
                | Kind::Trigger
                | Kind::Function
                | Kind::Procedure
                | Kind::Package
                | Kind::PackageBody
                | Kind::Event => true,
                Kind::Sequence => false,
            })
            .collect();
        // A package's body goes before the package.
        drops.sort_by(|a, b| b.cmp(a));
        drops.into_iter().map(|object| drop(database, object)).collect()
    }

    /// Makes the broken views, in the database, which is empty.
    pub(super) async fn make_broken_views(
        &self,
        session: &mut Session,
        database: &str,
    ) -> Result<(), Error> {
        session.has_selected();
        session.run(PUTTING_BACK, &format!("USE {}", ident(database))).await?;
        for frame in self.frames.iter().take(self.broken_views) {
            self.make(session, frame).await?;
        }
        Ok(())
    }

    /// Renames the tables back, and makes what was dropped: all, or, where only they were, the
    /// triggers. Leaves the session's settings as they come.
    pub(super) async fn fill(
        &self,
        session: &mut Session,
        (from, to): (&str, &str),
        all: bool,
    ) -> Result<(), Error> {
        let again = |kind: FrameKind| match kind {
            FrameKind::Trigger => true,
            FrameKind::Routine | FrameKind::View | FrameKind::Event => all,
            FrameKind::Prologue
            | FrameKind::Sequence
            | FrameKind::Table
            | FrameKind::RowsBegin
            | FrameKind::Rows
            | FrameKind::Keys
            | FrameKind::RowsEnd
            | FrameKind::Trailer => false,
        };
        let frames = self.frames.iter().skip(self.broken_views).filter(|it| again(it.kind));
        let frames: Vec<&Frame> = frames.collect();
        self.drop_again(session, to, &frames).await?;
        rename_all(session, PUTTING_BACK, (from, to), self).await?;
        let defaults = &self.description.defaults;
        let (charset, collation) = (ident(&defaults.charset), ident(&defaults.collation));
        let select = format!(
            "USE {name}; ALTER DATABASE {name} CHARACTER SET {charset} COLLATE {collation}",
            name = ident(to),
        );
        session.has_selected();
        session.run(PUTTING_BACK, &select).await?;
        for frame in frames {
            self.make(session, frame).await?;
        }
        session.settle().await?;
        let grants: Vec<String> = self.grants.iter().map(|grant| grant.grant(to)).collect();
        for some in grants.chunks(STATEMENTS_AT_ONCE) {
            session.run(PUTTING_BACK, &some.join("; ")).await?;
        }
        Ok(())
    }

    /// Drops what an attempt before this one has made, so that all is made in its order.
    async fn drop_again(
        &self,
        session: &mut Session,
        database: &str,
        frames: &[&Frame],
    ) -> Result<(), Error> {
        let made = |(kind, name): &(Kind, &str)| {
            let frame = match kind {
                Kind::View => FrameKind::View,
                Kind::Trigger => FrameKind::Trigger,
                Kind::Event => FrameKind::Event,
                Kind::Function | Kind::Procedure | Kind::Package | Kind::PackageBody => {
                    FrameKind::Routine
                }
                Kind::Sequence => FrameKind::Sequence,
            };
            frames.iter().any(|it| it.kind == frame && it.name == *name)
        };
        let mut objects: Vec<(Kind, &str)> = self.objects().filter(made).collect();
        objects.sort_by(|a, b| b.cmp(a));
        for object in objects {
            session.run(PUTTING_BACK, &drop(database, object)).await?;
        }
        session.settle().await
    }

    async fn make(&self, session: &mut Session, frame: &Frame) -> Result<(), Error> {
        let part = usize::try_from(frame.offset).ok().zip(usize::try_from(frame.bytes).ok());
        let stored = part.and_then(|(at, bytes)| self.stored.get(at..at.checked_add(bytes)?));
        let wrong = |what: &str| damaged(session.server(), format!("drover.aside: {what}"));
        let stored = stored.ok_or_else(|| wrong("it ends inside a frame"))?.to_vec();
        let text = frame.unpack(Form::Zstd, stored).await.map_err(|what| wrong(&what))?;
        let created = self.events.get(&frame.name).filter(|_| frame.kind == FrameKind::Event);
        if let Some(created) = created {
            session.run(PUTTING_BACK, &format!("SET timestamp = {created}")).await?;
        }
        load::run(session, frame, &text).await?;
        session.run(PUTTING_BACK, "SET timestamp = DEFAULT").await
    }
}

/// The statement that drops an object where it is there. Of packages MariaDB knows only in Oracle's mode,
/// which stays until the session is settled again.
fn drop(database: &str, (kind, name): (Kind, &str)) -> String {
    let mode = match kind {
        Kind::Package | Kind::PackageBody => "SET sql_mode = 'ORACLE'; ",
        Kind::Sequence
        | Kind::View
        | Kind::Trigger
        | Kind::Function
        | Kind::Procedure
        | Kind::Event => "",
    };
    format!("{mode}DROP {} IF EXISTS {}.{}", kind.word(), ident(database), ident(name))
}
