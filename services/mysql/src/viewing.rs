//! Views, as parts of a dump: in the order in which they can be made, each in the character set
//! that it was made in.

use std::collections::BTreeMap;

use drover_schemas::Code;
use mysql_async::{Row, Value};
use tokio::io::AsyncWrite;

use crate::{
    Error, Session,
    frames::{FrameKind, Writer},
    ident::{ident, literal},
    listing::{Lists, ask, text},
    schema::Kind,
    views::{Step, order},
};

const DOING: &str = "dumping the views";

/// What the server's own texts are in, whoever made the view: older and newer name.
const UNICODE: [&str; 3] = ["utf8", "utf8mb3", "utf8mb4"];

/// Writes the views.
///
/// # Errors
/// `ViewBroken` for one that reads what is no longer there: no server makes such a view.
pub(crate) async fn views<W: AsyncWrite + Unpin>(
    session: &mut Session,
    database: &str,
    lists: &Lists,
    writer: &mut Writer<'_, W>,
) -> Result<(), Error> {
    let names: Vec<&str> = lists.of_kind(Kind::View).collect();
    if names.is_empty() {
        return Ok(());
    }
    not_broken(session, database, lists, &names).await?;
    let mut views = BTreeMap::new();
    let shows: Vec<String> =
        names.iter().map(|n| format!("SHOW CREATE VIEW {}", ident(n))).collect();
    for (name, rows) in names.iter().zip(ask(session, DOING, &shows).await?) {
        let view = rows.first().and_then(View::read);
        views.insert(*name, view.ok_or_else(|| unreadable(session, name))?);
    }
    for (name, view) in &mut views {
        view.in_its_charset(session, name).await?;
    }
    let definitions = views.iter().map(|(name, view)| (*name, view.printed.as_str()));
    for step in order(&definitions.collect()) {
        let name = match step {
            Step::Placeholder(name) => {
                placeholder(lists, name, writer);
                name
            }
            Step::View(name) => {
                if let Some(view) = views.get(name) {
                    view.write(writer);
                }
                name
            }
        };
        writer.end(FrameKind::View, name).await?;
    }
    Ok(())
}

fn unreadable(session: &Session, name: &str) -> Error {
    let what = format!("the text of VIEW {} cannot be read", ident(name));
    session.server().found(Code::DumpRefused, what)
}

/// Refuses views that cannot be made again. The server lists no columns for them, nor for those
/// that only their definer cannot read any more, which can be: so what they select is prepared.
async fn not_broken(
    session: &mut Session,
    database: &str,
    lists: &Lists,
    names: &[&str],
) -> Result<(), Error> {
    for name in names.iter().filter(|name| !lists.view_columns.contains_key(**name)) {
        let sql = format!(
            "SELECT VIEW_DEFINITION FROM information_schema.VIEWS \
             WHERE TABLE_SCHEMA = {} AND TABLE_NAME = {}",
            literal(database),
            literal(name)
        );
        let (definition,): (String,) = session.one(DOING, &sql).await?;
        let hex = definition.bytes().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
        let prepare = format!(
            "SET @drover_view = CONVERT(x'{hex}' USING utf8mb4); \
             PREPARE drover_view FROM @drover_view; DEALLOCATE PREPARE drover_view"
        );
        if let Err(error) = session.run(DOING, &prepare).await {
            let Some(number) = error.number() else { return Err(error) };
            let what = format!("VIEW {}: error {number} when it is read", ident(name));
            return Err(session.server().found(Code::ViewBroken, what));
        }
    }
    Ok(())
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
        if UNICODE.contains(&self.charset.as_str()) {
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
