//! The scheduled events' part of a dump.
//!
//! The stock program's own (`--events`) fails where the database's name holds a quote or a
//! backslash: it selects the escaped name. So Drover writes this part itself, as the stock program
//! writes it elsewhere: each event under the settings that it was made with, its text as it is
//! stored.

use drover_schemas::Code;
use mysql_async::{Row, Value, prelude::Queryable as _};

use crate::{
    Error, Session,
    ident::{ident, literal},
};

const SAVE: &str = "\nSET @saved_time_zone = @@time_zone, @saved_sql_mode = @@sql_mode, \
    @saved_cs_client = @@character_set_client, @saved_cs_results = @@character_set_results, \
    @saved_col_connection = @@collation_connection;\n";

const RESTORE: &str = "SET time_zone = @saved_time_zone, sql_mode = @saved_sql_mode, \
    character_set_client = @saved_cs_client, character_set_results = @saved_cs_results, \
    collation_connection = @saved_col_connection;\n";

/// The statements that make a database's scheduled events, for the stock client; nothing where
/// there are none.
pub(crate) async fn dump(session: &mut Session, database: &str) -> Result<Vec<u8>, Error> {
    let doing = "dumping the scheduled events";
    let name = literal(database);
    let sql = format!(
        "SELECT EVENT_NAME FROM information_schema.EVENTS WHERE EVENT_SCHEMA = {name} \
         ORDER BY EVENT_NAME"
    );
    let names: Vec<String> = session.rows(doing, &sql).await?;
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let sql = format!(
        "SELECT DEFAULT_COLLATION_NAME FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = {name}"
    );
    let (collation,): (String,) = session.one(doing, &sql).await?;
    // The text as it is stored: in the character set of whoever made the event.
    session.run(doing, "SET SESSION character_set_results = NULL").await?;
    let mut text = SAVE.as_bytes().to_vec();
    for name in names {
        let server = session.server().clone();
        let sql = format!("SHOW CREATE EVENT {}.{}", ident(database), ident(&name));
        let row: Option<Row> =
            session.conn().query_first(sql).await.map_err(|e| server.statement_error(doing, &e))?;
        let missing = || {
            let what = format!("the scheduled event {} has gone", ident(&name));
            server.found(Code::DumpFailed, what)
        };
        let event = row.as_ref().and_then(Event::read).ok_or_else(missing)?;
        event.write(&mut text, &collation);
    }
    text.extend_from_slice(RESTORE.as_bytes());
    Ok(text)
}

/// The answer of SHOW CREATE EVENT.
struct Event<'a> {
    sql_mode: &'a str,
    time_zone: &'a str,
    statement: &'a [u8],
    charset: &'a str,
    collation: &'a str,
    database_collation: &'a str,
}

impl<'a> Event<'a> {
    fn read(row: &'a Row) -> Option<Self> {
        let bytes = |i: usize| match row.as_ref(i) {
            Some(Value::Bytes(bytes)) => Some(bytes.as_slice()),
            _ => None,
        };
        let text = |i: usize| bytes(i).and_then(|bytes| std::str::from_utf8(bytes).ok());
        Some(Self {
            sql_mode: text(1)?,
            time_zone: text(2)?,
            statement: bytes(3)?,
            charset: text(4)?,
            collation: text(5)?,
            database_collation: text(6)?,
        })
    }

    fn write(&self, text: &mut Vec<u8>, collation: &str) {
        let end = delimiter(self.statement);
        // An event keeps the collation that its database had by default when it was made.
        let (before, after) = if self.database_collation == collation {
            (String::new(), String::new())
        } else {
            let alter = |collation: &str| format!("ALTER DATABASE COLLATE {};\n", ident(collation));
            (alter(self.database_collation), alter(collation))
        };
        let settings = format!(
            "{before}SET time_zone = {}, sql_mode = {}, character_set_client = {}, \
             character_set_results = {}, collation_connection = {};\nDELIMITER {end}\n",
            literal(self.time_zone),
            literal(self.sql_mode),
            literal(self.charset),
            literal(self.charset),
            literal(self.collation),
        );
        text.extend_from_slice(settings.as_bytes());
        text.extend_from_slice(self.statement);
        text.extend_from_slice(format!(" {end}\nDELIMITER ;\n{after}").as_bytes());
    }
}

/// A delimiter that does not stand in the statement.
fn delimiter(statement: &[u8]) -> String {
    let mut end = ";;".to_owned();
    while statement.windows(end.len()).any(|part| part == end.as_bytes()) {
        end.push(';');
    }
    end
}

#[cfg(test)]
mod tests {
    use super::delimiter;

    #[test]
    fn the_delimiter_is_not_in_the_statement() {
        assert_eq!(delimiter(b"DO 1"), ";;");
        assert_eq!(delimiter(b"SELECT ';;;'"), ";;;;");
    }
}
