//! A database that is set aside, stage by stage: each is committed before anything of it is done, and
//! what it does can be done again from its beginning.

use drover_lifecycle::ledger::State;
use drover_schemas::{Code, MigrationId};

use super::{PUTTING_BACK, Record, SETTING_ASIDE, not_retired};
use crate::{
    Error, Locked, Session,
    ident::{ident, literal},
    ledger,
    schema::in_one_line,
};

/// Where it is, on its way aside or back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// The triggers are dropped, the tables renamed. All else is still there.
    Leaving,
    /// All tables are gone; all else is dropped, and then the database.
    Emptying,
    /// It is set aside; its name is free.
    Aside,
    /// The database is made anew, with its broken views. No table of the customer's is in it.
    Making,
    /// The tables are renamed back, all else is made.
    Returning,
    /// The tables that were gone are renamed back, and the triggers made.
    Staying,
}

impl Stage {
    const ALL: [Self; 6] =
        [Self::Leaving, Self::Emptying, Self::Aside, Self::Making, Self::Returning, Self::Staying];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Leaving => "leaving",
            Self::Emptying => "emptying",
            Self::Aside => "aside",
            Self::Making => "making",
            Self::Returning => "returning",
            Self::Staying => "staying",
        }
    }
}

/// A row of `drover.aside`.
pub(super) struct Aside {
    pub brought_back: MigrationId,
    pub by: String,
    pub database: String,
    pub name: String,
    pub stage: Stage,
    pub record: Record,
}

pub(super) async fn find(
    locked: &mut Locked,
    brought_back: MigrationId,
) -> Result<Option<Aside>, Error> {
    let database = locked.order().database.clone();
    let session = locked.session();
    let doing = "reading the ledger";
    let sql = format!(
        "SELECT by_migration, aside_name, stage, record, frames FROM drover.aside \
         WHERE migration = '{brought_back}'"
    );
    type Row = (String, String, String, String, Vec<u8>);
    let rows: Vec<Row> = match session.rows(doing, &sql).await {
        Err(error) if ledger::is_missing(&error) => {
            return Ok(None);
        }
        other => other?,
    };
    let Some((by, name, stage, record, stored)) = rows.into_iter().next() else {
        return Ok(None);
    };
    let known = Stage::ALL.into_iter().find(|known| known.name() == stage);
    let stage = known.ok_or_else(|| {
        session.unexpected(doing, format!("the stage {stage} is of a newer version"))
    })?;
    let record = Record::of(session, &record, stored)?;
    Ok(Some(Aside { brought_back, by, database, name, stage, record }))
}

impl Aside {
    pub(super) fn goes_back(&self) -> bool {
        match self.stage {
            Stage::Making | Stage::Returning | Stage::Staying => true,
            Stage::Leaving | Stage::Emptying | Stage::Aside => false,
        }
    }

    /// The statement by which the row of the migration that is brought back says something else.
    pub(super) fn says(&self, before: State, now: State) -> String {
        format!(
            "UPDATE drover.ledger SET state = '{}', changed_at = UTC_TIMESTAMP(3) \
             WHERE migration = '{}' AND side = 'source' AND state = '{}'",
            now.name(),
            self.brought_back,
            before.name(),
        )
    }

    /// Commits the next stage, before anything of it is done.
    pub(super) async fn enter(&mut self, locked: &mut Locked, stage: Stage) -> Result<(), Error> {
        let sql = format!(
            "UPDATE drover.aside SET stage = '{}' WHERE migration = '{}'",
            stage.name(),
            self.brought_back
        );
        locked.session().run("writing the ledger", &sql).await?;
        self.stage = stage;
        locked.flush().await
    }

    pub(super) async fn leave(&self, locked: &mut Locked) -> Result<(), Error> {
        let session = locked.session();
        let made = self.record.create_database(&self.name, true);
        session.run(SETTING_ASIDE, &made).await?;
        for trigger in self.record.triggers() {
            let sql =
                format!("DROP TRIGGER IF EXISTS {}.{}", ident(&self.database), ident(trigger));
            session.run(SETTING_ASIDE, &sql).await?;
        }
        rename_all(session, SETTING_ASIDE, (&self.database, &self.name), &self.record).await?;
        let left = relations(session, &self.database).await?;
        match left.first() {
            None => Ok(()),
            Some(table) => {
                let what = format!("it holds {}, which is not in the record", ident(table));
                Err(not_retired(session, &self.database, &what))
            }
        }
    }

    /// Drops what the record holds, and the database when nothing else is in it.
    pub(super) async fn empty(&self, locked: &mut Locked) -> Result<(), Error> {
        let session = locked.session();
        if !exists(session, &self.database).await? {
            return Ok(());
        }
        for sql in self.record.drops(&self.database) {
            session.run(SETTING_ASIDE, &sql).await?;
        }
        session.settle().await?;
        drop_empty(session, SETTING_ASIDE, &self.database).await
    }

    pub(super) async fn put_back(mut self, locked: &mut Locked) -> Result<(), Error> {
        if self.stage == Stage::Leaving {
            self.enter(locked, Stage::Staying).await?;
        }
        if self.stage == Stage::Emptying {
            self.empty(locked).await?;
            self.enter(locked, Stage::Aside).await?;
        }
        if self.stage == Stage::Aside {
            self.enter(locked, Stage::Making).await?;
        }
        if self.stage == Stage::Making {
            self.make(locked).await?;
            self.enter(locked, Stage::Returning).await?;
        }
        let all = self.stage == Stage::Returning;
        let session = locked.session();
        let made = self.record.fill(session, (&self.name, &self.database), all).await;
        session.settle().await?;
        made?;
        self.end(locked).await
    }

    /// Makes the database anew. What is there of it was made by this, too.
    async fn make(&self, locked: &mut Locked) -> Result<(), Error> {
        let session = locked.session();
        if exists(session, &self.database).await? {
            self.only_made_here(session).await?;
            let sql = format!("DROP DATABASE {}", ident(&self.database));
            session.run(PUTTING_BACK, &sql).await?;
        }
        let sql = self.record.create_database(&self.database, false);
        session.run(PUTTING_BACK, &sql).await?;
        let made = self.record.make_broken_views(session, &self.database).await;
        session.settle().await?;
        made
    }

    /// Refuses a database in which something holds a row: then somebody else has made it.
    async fn only_made_here(&self, session: &mut Session) -> Result<(), Error> {
        for table in relations(session, &self.database).await? {
            let sql = format!(
                "SELECT COUNT(*) FROM (SELECT 1 FROM {}.{} LIMIT 1) one",
                ident(&self.database),
                ident(&table)
            );
            let (rows,): (u64,) = session.one(PUTTING_BACK, &sql).await?;
            if rows > 0 {
                let what = format!("somebody has made a database with the table {}", ident(&table));
                return Err(not_retired(session, &self.database, &what));
            }
        }
        Ok(())
    }

    /// Compares, and forgets that it was aside.
    async fn end(self, locked: &mut Locked) -> Result<(), Error> {
        let session = locked.session();
        let found = Record::read(session, &self.database).await?;
        let differences = self.record.differences(&found);
        if !differences.is_empty() {
            let what = format!("{}: {}", ident(&self.database), in_one_line(&differences));
            return Err(session.server().found(Code::AsideDiffers, what));
        }
        drop_empty(session, PUTTING_BACK, &self.name).await?;
        let sql = format!(
            "START TRANSACTION; {}; DELETE FROM drover.aside WHERE migration = '{}'; COMMIT",
            self.says(State::Aside, State::Retired),
            self.brought_back,
        );
        session.run("writing the ledger", &sql).await?;
        locked.flush().await
    }
}

/// Renames the tables and sequences of the record that are in the first database into the second.
pub(super) async fn rename_all(
    session: &mut Session,
    doing: &'static str,
    (from, to): (&str, &str),
    record: &Record,
) -> Result<(), Error> {
    for name in relations(session, from).await? {
        if record.has_relation(&name) {
            let table = ident(&name);
            let sql = format!("RENAME TABLE {}.{table} TO {}.{table}", ident(from), ident(to));
            session.run(doing, &sql).await?;
        }
    }
    Ok(())
}

/// The tables and sequences of a database.
async fn relations(session: &mut Session, database: &str) -> Result<Vec<String>, Error> {
    let sql = format!(
        "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = {} \
         AND TABLE_TYPE <> 'VIEW' ORDER BY TABLE_NAME",
        literal(database)
    );
    session.rows("listing the tables", &sql).await
}

pub(super) async fn exists(session: &mut Session, database: &str) -> Result<bool, Error> {
    let sql = format!(
        "SELECT EXISTS (SELECT 1 FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = {})",
        literal(database)
    );
    let (there,): (bool,) = session.one("looking for the database", &sql).await?;
    Ok(there)
}

/// Drops a database in which nothing is.
async fn drop_empty(
    session: &mut Session,
    doing: &'static str,
    database: &str,
) -> Result<(), Error> {
    let name = literal(database);
    let sql = format!(
        "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = {name} \
         UNION ALL SELECT name FROM mysql.proc WHERE db = {name} \
         UNION ALL SELECT name FROM mysql.event WHERE db = {name} LIMIT 1"
    );
    let left: Vec<String> = session.rows(doing, &sql).await?;
    if let Some(object) = left.first() {
        let what = format!("it holds {}, which is not in the record", ident(object));
        return Err(not_retired(session, database, &what));
    }
    session.run(doing, &format!("DROP DATABASE IF EXISTS {}", ident(database))).await
}
