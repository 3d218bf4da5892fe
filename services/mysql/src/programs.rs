//! What a database runs: its routines, triggers and scheduled events, as parts of a dump.
//!
//! Each is made under the settings that it was made with, its text in the bytes that are stored:
//! in the character set of whoever made it. A statement for each, so that nothing of one is left
//! for the next.

use std::borrow::Cow;

use drover_schemas::Code;
use mysql_async::{Row, Value};
use tokio::io::AsyncWrite;

use crate::{
    Error, Flavour, Session,
    clause::definer_end,
    frames::{FrameKind, Writer},
    ident::{ident, literal},
    listing::{Lists, ask, hex, in_charset, is_unicode},
    quotes::outside_quotes,
    schema::Kind,
};

/// Writes the routines and packages.
pub(crate) async fn routines<W: AsyncWrite + Unpin>(
    session: &mut Session,
    lists: &Lists,
    writer: &mut Writer<'_, W>,
) -> Result<(), Error> {
    let some: Vec<(Kind, &str)> = lists
        .others
        .iter()
        .filter(|(kind, _)| match kind {
            Kind::Function | Kind::Procedure | Kind::Package | Kind::PackageBody => true,
            Kind::Sequence | Kind::View | Kind::Trigger | Kind::Event => false,
        })
        .map(|(kind, name)| (*kind, name.as_str()))
        .collect();
    write(session, lists, writer, FrameKind::Routine, (&some, false)).await
}

/// Writes the triggers, in their order, and the scheduled events; of a source that was not frozen, as if
/// they were disabled, so that none runs at the destination.
pub(crate) async fn triggers_and_events<W: AsyncWrite + Unpin>(
    session: &mut Session,
    lists: &Lists,
    disable: bool,
    writer: &mut Writer<'_, W>,
) -> Result<(), Error> {
    let some: Vec<_> = lists.triggers.iter().map(|name| (Kind::Trigger, name.as_str())).collect();
    write(session, lists, writer, FrameKind::Trigger, (&some, false)).await?;
    let some: Vec<_> = lists.events.iter().map(|name| (Kind::Event, name.as_str())).collect();
    write(session, lists, writer, FrameKind::Event, (&some, disable)).await
}

async fn write<W: AsyncWrite + Unpin>(
    session: &mut Session,
    lists: &Lists,
    writer: &mut Writer<'_, W>,
    frame: FrameKind,
    (some, disable): (&[(Kind, &str)], bool),
) -> Result<(), Error> {
    if some.is_empty() {
        return Ok(());
    }
    let doing = "dumping routines, triggers and events";
    session.run(doing, "SET SESSION character_set_results = NULL").await?;
    let shows: Vec<String> = some
        .iter()
        .map(|(kind, name)| format!("SHOW CREATE {} {}", kind.word(), ident(name)))
        .collect();
    let server = session.server().clone();
    for ((kind, name), rows) in some.iter().zip(ask(session, doing, &shows).await?) {
        let program = rows.first().and_then(|row| Program::read(*kind, row));
        let unreadable = || {
            let what = format!("the text of {} {} cannot be read", kind.word(), ident(name));
            server.found(Code::DumpRefused, what)
        };
        let mut program = program.ok_or_else(unreadable)?;
        let head = match is_unicode(program.charset) {
            true => None,
            false => program.head(session, *kind, name).await?,
        };
        if let Some(head) = head {
            let said = in_charset(session, doing, &head, program.charset).await?;
            let said = said.ok_or_else(|| {
                let what = format!(
                    "{} {}: its name is not of {}",
                    kind.word(),
                    ident(name),
                    program.charset
                );
                session.server().found(Code::DumpRefused, what)
            })?;
            let whole = [said.as_slice(), &program.statement[head.len()..]].concat();
            program.statement = Cow::Owned(whole);
        }
        if disable {
            let disabled = disabled(&program.statement).ok_or_else(unreadable)?;
            program.statement = Cow::Owned(disabled);
        }
        program.write(writer, &lists.defaults.collation);
        writer.end(frame, name).await?;
    }
    session.run(doing, "SET SESSION character_set_results = 'utf8mb4'").await
}

/// A scheduled event's CREATE, with the event disabled; none where that cannot be read. What says so
/// stands before the comment and the body, behind names and times in quotes.
fn disabled(statement: &[u8]) -> Option<Vec<u8>> {
    const BEFORE: &[u8] = b" PRESERVE ";
    const ENABLE: &[u8] = b"ENABLE";
    let found = |(start, end): (usize, usize)| {
        let part = statement.get(start..end)?;
        let at = part.windows(BEFORE.len()).position(|words| words == BEFORE)?;
        Some(start + at + BEFORE.len())
    };
    let at = outside_quotes(statement).into_iter().find_map(found)?;
    let (before, rest) = statement.split_at_checked(at)?;
    match rest.strip_prefix(ENABLE) {
        Some(after) => Some([before, b"DISABLE", after].concat()),
        None => rest.starts_with(b"DISABLE").then(|| statement.to_vec()),
    }
}

/// The answer of SHOW CREATE.
struct Program<'a> {
    sql_mode: &'a str,
    /// Scheduled events only.
    time_zone: Option<&'a str>,
    statement: Cow<'a, [u8]>,
    charset: &'a str,
    collation: &'a str,
    database_collation: &'a str,
}

impl<'a> Program<'a> {
    fn read(kind: Kind, row: &'a Row) -> Option<Self> {
        let bytes = |i: usize| match row.as_ref(i) {
            Some(Value::Bytes(bytes)) => Some(bytes.as_slice()),
            _ => None,
        };
        let text = |i: usize| bytes(i).and_then(|bytes| std::str::from_utf8(bytes).ok());
        let (time_zone, at) = if kind == Kind::Event { (Some(text(2)?), 3) } else { (None, 2) };
        Some(Self {
            sql_mode: text(1)?,
            time_zone,
            statement: Cow::Borrowed(bytes(at)?),
            charset: text(at + 1)?,
            collation: text(at + 2)?,
            database_collation: text(at + 3)?,
        })
    }

    /// Its text up to the body, where the server prints that in UTF-8 whatever the body is in: an event's
    /// up to DO, a routine's up to its name, a trigger's up to the end of its definer. None: it is as its
    /// maker wrote it, or in ASCII.
    async fn head(
        &self,
        session: &mut Session,
        kind: Kind,
        name: &str,
    ) -> Result<Option<String>, Error> {
        let end = match kind {
            Kind::Event if session.about().flavour == Flavour::MariaDb => {
                let sql = format!(
                    "SELECT body FROM mysql.event WHERE db = DATABASE() AND name = CONVERT(x'{}' USING utf8mb4)",
                    hex(name)
                );
                let (body,): (Vec<u8>,) = session.one("reading an event's text", &sql).await?;
                self.statement.len().checked_sub(body.len())
            }
            Kind::Function | Kind::Procedure | Kind::Package | Kind::PackageBody => {
                let ansi = format!("\"{}\"", name.replace('"', "\"\""));
                [ident(name), ansi].iter().find_map(|name| {
                    let before = format!("{} {name}", kind.word());
                    let mut windows = self.statement.windows(before.len());
                    windows.position(|some| some == before.as_bytes()).map(|at| at + before.len())
                })
            }
            Kind::Trigger if session.about().flavour == Flavour::MariaDb => {
                definer_end(&self.statement)
            }
            Kind::Event | Kind::Trigger | Kind::Sequence | Kind::View => None,
        };
        let head = end.and_then(|end| std::str::from_utf8(&self.statement[..end]).ok());
        Ok(head.filter(|head| !head.is_ascii()).map(str::to_owned))
    }

    fn write<W: AsyncWrite + Unpin>(&self, writer: &mut Writer<'_, W>, collation: &str) {
        let settings = format!(
            "SET time_zone = {}, sql_mode = {}, character_set_client = {}, \
             character_set_results = {}, collation_connection = {}",
            literal(self.time_zone.unwrap_or("+00:00")),
            literal(self.sql_mode),
            literal(self.charset),
            literal(self.charset),
            literal(self.collation),
        );
        // It keeps the collation that its database had by default when it was made.
        let alter = |to: &str| format!("ALTER DATABASE COLLATE {}", ident(to));
        let other = self.database_collation != collation;
        if other {
            writer.statement(alter(self.database_collation).as_bytes());
        }
        writer.statement(settings.as_bytes());
        writer.compound(&self.statement);
        if other {
            writer.statement(alter(collation).as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::disabled;

    #[test]
    fn an_event_is_disabled_where_it_says_so_itself() {
        let begin = "CREATE DEFINER=`a PRESERVE ENABLE`@`%` EVENT `e``` ON SCHEDULE EVERY 1 DAY \
                     STARTS '2026-01-01 00:00:00' ON COMPLETION NOT PRESERVE";
        let end = "COMMENT 'x' DO SELECT ' PRESERVE ENABLE'";
        for (was, becomes) in [
            ("ENABLE", "DISABLE"),
            ("DISABLE", "DISABLE"),
            ("DISABLE ON SLAVE", "DISABLE ON SLAVE"),
        ] {
            let found = disabled(format!("{begin} {was} {end}").as_bytes()).unwrap();
            assert_eq!(String::from_utf8(found).unwrap(), format!("{begin} {becomes} {end}"));
        }
        assert_eq!(disabled(b"CREATE EVENT `e` DO SELECT ' PRESERVE ENABLE'"), None);
    }
}
