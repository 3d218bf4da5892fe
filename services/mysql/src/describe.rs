//! Reading what a database is ([`Description`]).
//!
//! Few round trips, as most databases are small: one for the lists, one for every hundred
//! definitions, two a table for its rows. Rows are read over the binary protocol, with
//! `character_set_results = NULL`, so that the digest is of the bytes that are stored; they are
//! streamed, one row in memory at a time.

use std::collections::BTreeMap;

use drover_schemas::Code;
use mysql_async::{Row, Value, prelude::Queryable as _};

use crate::{
    Error, Flavour, Server, Session,
    digest::Digest,
    ident::{ident, literal},
    schema::{Defaults, Description, Kind, Object, Table, normalise},
};

/// How many `SHOW CREATE` go to the server in one packet.
const STATEMENTS_A_PACKET: usize = 100;

/// No such database.
const NO_DATABASE: u16 = 1049;

/// What depends on when or where an object was made, and not on what it is.
const COLUMNS_LEFT_OUT: [&str; 1] = ["Created"];

/// Describes a database, on a session of its own.
///
/// # Errors
/// `DatabaseMissing`; otherwise what a server may answer.
pub async fn describe(server: &Server, database: &str) -> Result<Description, Error> {
    let mut session = server.session().await?;
    let description = describe_in(&mut session, database).await?;
    session.end().await?;
    Ok(description)
}

/// Describes a database on a session, which then has it selected.
pub(crate) async fn describe_in(
    session: &mut Session,
    database: &str,
) -> Result<Description, Error> {
    let doing = "selecting the database";
    let select = format!(
        "SET SESSION sql_quote_show_create = 1, character_set_results = 'utf8mb4'; USE {}",
        ident(database)
    );
    session.run(doing, &select).await.map_err(|error| match error.number() {
        Some(NO_DATABASE) => session
            .server()
            .found(Code::DatabaseMissing, format!("there is no database {}", ident(database))),
        _ => error,
    })?;
    let lists = Lists::read(session, database).await?;
    let (definitions, objects) = definitions(session, &lists).await?;
    let mut tables = BTreeMap::new();
    for (name, columns) in &lists.tables {
        let definition = definitions.get(name).cloned().unwrap_or_default();
        let digest = rows(session, name, columns).await?;
        let table = Table {
            definition,
            rows: digest.rows(),
            digest: digest.text(),
            system_versioned: columns.system_versioned,
        };
        tables.insert(name.clone(), table);
    }
    session.run("describing", "SET SESSION character_set_results = 'utf8mb4'").await?;
    Ok(Description {
        server_version: lists.server_version,
        defaults: lists.defaults,
        tables,
        objects,
    })
}

/// A table's columns, as they are selected.
#[derive(Default)]
struct Columns {
    selected: Vec<String>,
    system_versioned: bool,
    names_its_period: bool,
}

/// What there is in a database.
struct Lists {
    server_version: String,
    defaults: Defaults,
    tables: BTreeMap<String, Columns>,
    /// Those whose definition is still to be asked for.
    others: Vec<(Kind, String)>,
    /// Those whose definition came with the list.
    defined: Vec<Object>,
}

impl Lists {
    async fn read(session: &mut Session, database: &str) -> Result<Self, Error> {
        let doing = "listing what the database holds";
        let flavour = session.about().flavour;
        let answers = sets(session, doing, &list_queries(flavour, database)).await?;
        let [schemata, relations, columns, triggers, events, routines] = answers.as_slice() else {
            return Err(session.unexpected(doing, format!("{} results", answers.len())));
        };
        let Some(schema) = schemata.first() else {
            let what = format!("there is no database {}", ident(database));
            return Err(session.server().found(Code::DatabaseMissing, what));
        };
        let mut lists = Self {
            server_version: text(schema, 0),
            defaults: Defaults {
                charset: text(schema, 1),
                collation: text(schema, 2),
                comment: text(schema, 3),
            },
            tables: BTreeMap::new(),
            others: Vec::new(),
            defined: Vec::new(),
        };
        for row in relations {
            lists
                .relation(text(row, 0), &text(row, 1))
                .map_err(|e| session.unexpected(doing, e))?;
        }
        for row in columns {
            if let Some(columns) = lists.tables.get_mut(&text(row, 0)) {
                columns.names_its_period |= text(row, 2) == "ROW START";
                columns.selected.push(ident(&text(row, 1)));
            }
        }
        for (kind, rows) in [(Kind::Trigger, triggers), (Kind::Event, events)] {
            lists.defined.extend(rows.iter().map(|row| Object {
                kind,
                name: text(row, 0),
                definition: definition(row, 1),
            }));
        }
        for row in routines {
            let kind = routine(&text(row, 0)).map_err(|e| session.unexpected(doing, e))?;
            lists.others.push((kind, text(row, 1)));
        }
        Ok(lists)
    }

    fn relation(&mut self, name: String, kind: &str) -> Result<(), String> {
        match kind {
            "BASE TABLE" => {
                self.tables.insert(name, Columns::default());
            }
            "SYSTEM VERSIONED" => {
                let columns = Columns { system_versioned: true, ..Columns::default() };
                self.tables.insert(name, columns);
            }
            "VIEW" => self.others.push((Kind::View, name)),
            "SEQUENCE" => self.others.push((Kind::Sequence, name)),
            other => return Err(format!("a table of the unknown kind {other}")),
        }
        Ok(())
    }
}

/// Six queries in one text, in the order in which [`Lists::read`] takes their answers.
///
/// MariaDB's routines are asked from `mysql.proc`, whose key begins with the database: its
/// `information_schema.ROUTINES` of some versions reads those of the whole server.
fn list_queries(flavour: Flavour, database: &str) -> String {
    let name = literal(database);
    let (comment, row_start, routines) = match flavour {
        Flavour::MariaDb => (
            "SCHEMA_COMMENT",
            "COALESCE(GENERATION_EXPRESSION, '')",
            format!("SELECT CAST(type AS CHAR), name FROM mysql.proc WHERE db = {name}"),
        ),
        Flavour::MySql => (
            "''",
            "''",
            format!(
                "SELECT ROUTINE_TYPE, ROUTINE_NAME FROM information_schema.ROUTINES \
                 WHERE ROUTINE_SCHEMA = {name}"
            ),
        ),
    };
    format!(
        "SELECT VERSION(), DEFAULT_CHARACTER_SET_NAME, DEFAULT_COLLATION_NAME, {comment} \
         FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = {name}; \
         SELECT TABLE_NAME, TABLE_TYPE FROM information_schema.TABLES WHERE TABLE_SCHEMA = {name}; \
         SELECT TABLE_NAME, COLUMN_NAME, {row_start} FROM information_schema.COLUMNS \
         WHERE TABLE_SCHEMA = {name} ORDER BY TABLE_NAME, ORDINAL_POSITION; \
         SELECT TRIGGER_NAME, EVENT_OBJECT_TABLE, ACTION_TIMING, EVENT_MANIPULATION, \
         ACTION_ORDER, ACTION_STATEMENT, SQL_MODE, DEFINER, CHARACTER_SET_CLIENT, \
         COLLATION_CONNECTION, DATABASE_COLLATION \
         FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = {name} ORDER BY TRIGGER_NAME; \
         SELECT EVENT_NAME, DEFINER, TIME_ZONE, EVENT_TYPE, EXECUTE_AT, INTERVAL_VALUE, \
         INTERVAL_FIELD, STARTS, ENDS, ON_COMPLETION, EVENT_DEFINITION, EVENT_COMMENT, SQL_MODE, \
         CHARACTER_SET_CLIENT, COLLATION_CONNECTION, DATABASE_COLLATION \
         FROM information_schema.EVENTS WHERE EVENT_SCHEMA = {name} ORDER BY EVENT_NAME; \
         {routines}"
    )
}

fn routine(kind: &str) -> Result<Kind, String> {
    match kind {
        "FUNCTION" => Ok(Kind::Function),
        "PROCEDURE" => Ok(Kind::Procedure),
        "PACKAGE" => Ok(Kind::Package),
        "PACKAGE BODY" => Ok(Kind::PackageBody),
        other => Err(format!("a routine of the unknown kind {other}")),
    }
}

/// The definitions of the tables, by name, and of all else.
async fn definitions(
    session: &mut Session,
    lists: &Lists,
) -> Result<(BTreeMap<String, String>, Vec<Object>), Error> {
    let doing = "reading the definitions";
    let names: Vec<&String> = lists.tables.keys().collect();
    let shows: Vec<String> =
        names.iter().map(|name| format!("SHOW CREATE TABLE {}", ident(name))).collect();
    let mut tables = BTreeMap::new();
    for (name, rows) in names.iter().zip(ask(session, doing, &shows).await?) {
        let definition = rows.first().map(|row| normalise(&text(row, 1))).unwrap_or_default();
        tables.insert((*name).clone(), definition);
    }
    let shows: Vec<String> = lists
        .others
        .iter()
        .map(|(kind, name)| format!("SHOW CREATE {} {}", kind.word(), ident(name)))
        .collect();
    let mut objects = lists.defined.clone();
    for ((kind, name), rows) in lists.others.iter().zip(ask(session, doing, &shows).await?) {
        let definition = rows.first().map(|row| definition(row, 1)).unwrap_or_default();
        objects.push(Object { kind: *kind, name: name.clone(), definition });
    }
    positions(session, &mut objects).await?;
    objects.sort_by(|a, b| (a.kind, &a.name).cmp(&(b.kind, &b.name)));
    Ok((tables, objects))
}

/// A sequence's position is part of what it is.
async fn positions(session: &mut Session, objects: &mut [Object]) -> Result<(), Error> {
    let mut sequences: Vec<&mut Object> =
        objects.iter_mut().filter(|object| object.kind == Kind::Sequence).collect();
    let asks: Vec<String> = sequences
        .iter()
        .map(|object| format!("SELECT next_not_cached_value FROM {}", ident(&object.name)))
        .collect();
    let answers = ask(session, "reading the sequences", &asks).await?;
    for (object, rows) in sequences.iter_mut().zip(answers) {
        let position = rows.first().map(|row| text(row, 0)).unwrap_or_default();
        object.definition.push_str("position: ");
        object.definition.push_str(&position);
    }
    Ok(())
}

/// The columns of a row behind the first few, each with its name, one a line.
fn definition(row: &Row, from: usize) -> String {
    let mut lines = String::new();
    for (i, column) in row.columns_ref().iter().enumerate().skip(from) {
        let name = column.name_str();
        if !COLUMNS_LEFT_OUT.contains(&name.as_ref()) {
            lines.push_str(&format!("{name}: {}\n", normalise(&text(row, i))));
        }
    }
    lines
}

/// Asks many things, a packet for every hundred; the answers in order.
async fn ask(
    session: &mut Session,
    doing: &'static str,
    statements: &[String],
) -> Result<Vec<Vec<Row>>, Error> {
    let mut answers = Vec::with_capacity(statements.len());
    for some in statements.chunks(STATEMENTS_A_PACKET) {
        let part = sets(session, doing, &some.join("; ")).await?;
        if part.len() != some.len() {
            return Err(session.unexpected(doing, format!("{} results", part.len())));
        }
        answers.extend(part);
    }
    Ok(answers)
}

/// The results of several queries in one text.
async fn sets(
    session: &mut Session,
    doing: &'static str,
    sql: &str,
) -> Result<Vec<Vec<Row>>, Error> {
    let server = session.server().clone();
    let failed = |e| server.statement_error(doing, &e);
    let mut result = session.conn().query_iter(sql).await.map_err(failed)?;
    let mut answers = Vec::new();
    while !result.is_empty() {
        answers.push(result.collect::<Row>().await.map_err(failed)?);
    }
    Ok(answers)
}

/// A value as text; what is not UTF-8 in hexadecimal, NULL as nothing.
fn text(row: &Row, column: usize) -> String {
    match row.as_ref(column) {
        Some(Value::Bytes(bytes)) => match std::str::from_utf8(bytes) {
            Ok(text) => text.to_owned(),
            Err(_) => bytes.iter().fold("0x".to_owned(), |hex, byte| format!("{hex}{byte:02x}")),
        },
        None | Some(Value::NULL) => String::new(),
        Some(other) => other.as_sql(true),
    }
}

/// The digest of a table's rows, with all that it keeps of their history.
async fn rows(session: &mut Session, table: &str, columns: &Columns) -> Result<Digest, Error> {
    let doing = "reading the rows";
    let server = session.server().clone();
    let failed = |e| server.statement_error(doing, &e);
    let mut selected = columns.selected.join(",");
    let mut history = "";
    if columns.system_versioned {
        history = " FOR SYSTEM_TIME ALL";
        if !columns.names_its_period {
            selected.push_str(",ROW_START,ROW_END");
        }
    }
    let sql = format!("SELECT {selected} FROM {}{history}", ident(table));
    let conn = session.conn();
    conn.query_drop("SET SESSION character_set_results = NULL").await.map_err(failed)?;
    let statement = conn.prep(sql).await.map_err(failed)?;
    let mut digest = Digest::default();
    let mut result = conn.exec_iter(&statement, ()).await.map_err(failed)?;
    while let Some(row) = result.next().await.map_err(failed)? {
        digest.add(&row.unwrap());
    }
    drop(result);
    conn.close(statement).await.map_err(failed)?;
    Ok(digest)
}
