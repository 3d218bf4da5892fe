//! Views, as parts of a dump: in the order in which they can be made, each in the character set
//! that it was made in.

use std::collections::BTreeMap;

use drover_schemas::Code;
use mysql_async::{Row, Value};
use tokio::io::AsyncWrite;

use crate::{
    Error, Session,
    broken::{self, Broken, StandIns},
    error::is_transient,
    frames::{FrameKind, Writer},
    ident::{ident, literal},
    listing::{Lists, ask, hex, in_charset, is_unicode, text},
    schema::Kind,
    views::{Step, order},
};

const DOING: &str = "dumping the views";

/// The views of a database, read before anything is written.
pub(crate) struct Views {
    sound: BTreeMap<String, View>,
    broken: Vec<Standing>,
}

/// A view that reads what is no longer there.
struct Standing {
    name: String,
    /// Its name until all of them are made: they may read each other, and so stand in each
    /// other's way.
    until: String,
    view: View,
    stand_ins: StandIns,
}

impl Views {
    /// Reads all views.
    ///
    /// # Errors
    /// `ViewBroken` for one that reads what is no longer there, where no stand-in would do.
    pub(crate) async fn read(
        session: &mut Session,
        database: &str,
        lists: &Lists,
    ) -> Result<Self, Error> {
        let names: Vec<&str> = lists.of_kind(Kind::View).collect();
        let shows: Vec<String> =
            names.iter().map(|n| format!("SHOW CREATE VIEW {}", ident(n))).collect();
        let mut all = BTreeMap::new();
        for (name, rows) in names.iter().zip(ask(session, DOING, &shows).await?) {
            let view = rows.first().and_then(View::read);
            all.insert((*name).to_owned(), view.ok_or_else(|| unreadable(session, name))?);
        }
        let stem = unused(lists, &all);
        let mut views = Self { sound: BTreeMap::new(), broken: Vec::new() };
        for (name, mut view) in all {
            // The server lists no columns for those that are broken, nor for those that only their
            // definer cannot read any more.
            let listed = lists.view_columns.contains_key(&name);
            let number = if listed { None } else { breaks(session, database, &name).await? };
            let Some(number) = number else {
                view.in_its_charset(session, &name).await?;
                views.sound.insert(name, view);
                continue;
            };
            let until = format!("{stem}{}", views.broken.len());
            view = whole(session, database, &name).await?;
            let Broken { text, stand_ins } = broken::read(&view.printed, database, &until)
                .map_err(|why| {
                    let what = format!("VIEW {}: error {number} when it is read", ident(&name));
                    session.server().found(Code::ViewBroken, format!("{what}; {why}"))
                })?;
            view.printed = text;
            view.take_its_print(session, &name).await?;
            views.broken.push(Standing { name, until, view, stand_ins });
        }
        Ok(views)
    }

    /// Writes the broken ones, into a database that is still empty, which goes on to be loaded under
    /// this `mode`.
    pub(crate) async fn write_broken<W: AsyncWrite + Unpin>(
        &self,
        mode: &str,
        writer: &mut Writer<'_, W>,
    ) -> Result<(), Error> {
        for (i, Standing { name, view, stand_ins, .. }) in self.broken.iter().enumerate() {
            let plain = format!("SET NAMES utf8mb4, sql_mode = '{mode}'");
            writer.statement(plain.as_bytes());
            stand_ins.made().iter().for_each(|sql| writer.statement(sql.as_bytes()));
            view.write(writer);
            writer.statement(plain.as_bytes());
            stand_ins.dropped().iter().for_each(|sql| writer.statement(sql.as_bytes()));
            if i + 1 == self.broken.len() {
                for Standing { name, until, .. } in &self.broken {
                    let rename = format!("RENAME TABLE {} TO {}", ident(until), ident(name));
                    writer.statement(rename.as_bytes());
                }
            }
            writer.end(FrameKind::View, name).await?;
        }
        Ok(())
    }

    /// Writes the others, when all that they read is there.
    pub(crate) async fn write<W: AsyncWrite + Unpin>(
        &self,
        lists: &Lists,
        writer: &mut Writer<'_, W>,
    ) -> Result<(), Error> {
        let definitions =
            self.sound.iter().map(|(name, view)| (name.as_str(), view.printed.as_str()));
        for step in order(&definitions.collect()) {
            let name = match step {
                Step::Placeholder(name) => {
                    placeholder(lists, name, writer);
                    name
                }
                Step::View(name) => {
                    if let Some(view) = self.sound.get(name) {
                        view.write(writer);
                    }
                    name
                }
            };
            writer.end(FrameKind::View, name).await?;
        }
        Ok(())
    }
}

/// A view as the server prints it where another database is selected: with all names whole.
async fn whole(session: &mut Session, database: &str, name: &str) -> Result<View, Error> {
    let (database, show) = (ident(database), ident(name));
    session.run(DOING, "USE information_schema").await?;
    let answers = ask(session, DOING, &[format!("SHOW CREATE VIEW {database}.{show}")]).await?;
    session.run(DOING, &format!("USE {database}")).await?;
    let view = answers.first().and_then(|rows| rows.first()).and_then(View::read);
    view.ok_or_else(|| unreadable(session, name))
}

/// How names begin that nothing in the database has, nor any view reads.
fn unused(lists: &Lists, views: &BTreeMap<String, View>) -> String {
    let mut stem = "drover_view_".to_owned();
    let taken = |stem: &str| {
        let names = lists.tables.keys().chain(lists.others.iter().map(|(_, name)| name));
        let mut texts = names.chain(views.values().map(|view| &view.printed));
        texts.any(|text| text.to_lowercase().contains(stem))
    };
    while taken(&stem) {
        stem.push('_');
    }
    stem
}

fn unreadable(session: &Session, name: &str) -> Error {
    let what = format!("the text of VIEW {} cannot be read", ident(name));
    session.server().found(Code::DumpRefused, what)
}

/// Why a broken view cannot be made again elsewhere; none: it can, or it is not broken. `Some` holds
/// the error number when it is read, and why no stand-in would do, if so.
pub(crate) async fn fate(
    session: &mut Session,
    database: &str,
    name: &str,
) -> Result<Option<(u16, Option<&'static str>)>, Error> {
    let Some(number) = breaks(session, database, name).await? else { return Ok(None) };
    let show = format!("SHOW CREATE VIEW {}.{}", ident(database), ident(name));
    let answers = match ask(session, DOING, &[show]).await {
        // Views that were renamed until they read each other in a circle.
        Err(Error::Statement { .. }) => {
            return Ok(Some((number, Some("the server does not show it"))));
        }
        other => other?,
    };
    let view = answers.first().and_then(|rows| rows.first()).and_then(View::read);
    let why = match view {
        Some(view) => broken::read(&view.printed, database, "").err(),
        None => Some("its text cannot be read"),
    };
    Ok(Some((number, why)))
}

/// The number of the error when a view is read; none: it is sound, and only its definer cannot read it.
/// Its text is prepared, which opens all that it reads.
async fn breaks(session: &mut Session, database: &str, name: &str) -> Result<Option<u16>, Error> {
    let sql = format!(
        "SELECT VIEW_DEFINITION FROM information_schema.VIEWS \
         WHERE TABLE_SCHEMA = {} AND TABLE_NAME = {}",
        literal(database),
        literal(name)
    );
    let (definition,): (String,) = session.one(DOING, &sql).await?;
    let prepare = format!(
        "SET @drover_view = CONVERT(x'{}' USING utf8mb4); \
         PREPARE drover_view FROM @drover_view; DEALLOCATE PREPARE drover_view",
        hex(&definition)
    );
    match session.run(DOING, &prepare).await {
        Ok(()) => Ok(None),
        Err(error) => match error.number().filter(|number| !is_transient(*number)) {
            Some(number) => Ok(Some(number)),
            None => Err(error),
        },
    }
}

/// A view with its columns only, for views that read each other in a circle of names.
fn placeholder<W: AsyncWrite + Unpin>(lists: &Lists, name: &str, writer: &mut Writer<'_, W>) {
    let columns = lists.view_columns.get(name).map(Vec::as_slice).unwrap_or_default();
    let columns: Vec<String> = columns.iter().map(|c| format!("1 AS {}", ident(c))).collect();
    writer.statement(b"SET NAMES utf8mb4");
    let sql = format!("CREATE VIEW {} AS SELECT {}", ident(name), columns.join(","));
    writer.statement(sql.as_bytes());
}

/// The answer of SHOW CREATE VIEW.
struct View {
    /// As the server prints it in UTF-8.
    printed: String,
    /// In the character set that it was made in.
    statement: Vec<u8>,
    charset: String,
    collation: String,
}

impl View {
    fn read(row: &Row) -> Option<Self> {
        let (printed, charset, collation) = (text(row, 1), text(row, 2), text(row, 3));
        let statement = printed.clone().into_bytes();
        printed.starts_with("CREATE ").then_some(Self { printed, statement, charset, collation })
    }

    async fn in_its_charset(&mut self, session: &mut Session, name: &str) -> Result<(), Error> {
        if is_unicode(&self.charset) {
            return Ok(());
        }
        let results = format!("SET SESSION character_set_results = {}", literal(&self.charset));
        session.run(DOING, &results).await?;
        let answers = ask(session, DOING, &[format!("SHOW CREATE VIEW {}", ident(name))]).await?;
        session.run(DOING, "SET SESSION character_set_results = 'utf8mb4'").await?;
        match answers.first().and_then(|rows| rows.first()).and_then(|row| row.as_ref(1)) {
            Some(Value::Bytes(bytes)) => self.statement.clone_from(bytes),
            _ => return Err(unreadable(session, name)),
        }
        Ok(())
    }

    /// The statement in its character set, from the print.
    async fn take_its_print(&mut self, session: &mut Session, name: &str) -> Result<(), Error> {
        let said = in_charset(session, DOING, &self.printed, &self.charset).await?;
        self.statement = said.ok_or_else(|| unreadable(session, name))?;
        Ok(())
    }

    fn write<W: AsyncWrite + Unpin>(&self, writer: &mut Writer<'_, W>) {
        let settings = format!(
            "SET sql_mode = '', character_set_client = {}, character_set_results = {}, \
             collation_connection = {}",
            literal(&self.charset),
            literal(&self.charset),
            literal(&self.collation)
        );
        writer.statement(settings.as_bytes());
        // There may be a placeholder.
        let rest = self.statement.strip_prefix(b"CREATE ").unwrap_or(&self.statement);
        writer.statement(&[b"CREATE OR REPLACE ", rest].concat());
    }
}
