//! What there is in a database: tables with their columns, and everything else by kind and name.
//!
//! Six queries in one round trip, as most databases are small. What is asked for one at a time
//! (`SHOW CREATE …`) goes in packets of a hundred ([`ask`]).

use std::collections::BTreeMap;

use drover_schemas::Code;
use mysql_async::{Row, Value};

use crate::{
    Error, Flavour, Session,
    ident::{ident, literal},
    long::LONG_BYTES_MIN,
    momentary::Period,
    normal::normalise,
    questions,
    schema::{Defaults, Kind, Object},
    varying::varies,
};

/// How many `SHOW CREATE` go to the server in one packet.
const STATEMENTS_A_PACKET: usize = 100;

/// What depends on when or where an object was made, and not on what it is.
const COLUMNS_LEFT_OUT: [&str; 1] = ["Created"];

/// The types whose values are geometries, as both servers name them.
const GEOMETRIES: [&str; 9] = [
    "geometry",
    "point",
    "linestring",
    "polygon",
    "multipoint",
    "multilinestring",
    "multipolygon",
    "geometrycollection",
    "geomcollection",
];

/// How a value is written in an INSERT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Literal {
    /// A number, without quotes.
    Number,
    /// The stored bytes between quotes: a binary string, which a column takes in as it is.
    Bytes,
    /// A text between quotes, for types that read a binary string as their inner form.
    Text,
    /// The stored bytes of a geometry between quotes. One that must not be NULL and was never given
    /// holds no bytes at all, which no literal stands for: it is left out of the statement.
    Geometry,
}

/// A column, as it is selected and written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Column {
    /// Its name.
    pub name: String,
    /// What is selected: the column, or what keeps all that it holds.
    pub selected: String,
    /// How its values are written.
    pub literal: Literal,
    /// Whether a row says a value for it: not where the server computes it.
    pub written: bool,
    /// Whether it may hold a value so long that it is read in pieces.
    pub may_be_long: bool,
    /// Whether it is an integer of the table's key.
    pub is_key_number: bool,
}

/// A base table.
#[derive(Debug, Clone, Default)]
pub(crate) struct Relation {
    /// In the table's order; of a system-versioned table also those that hold the history.
    pub columns: Vec<Column>,
    /// Whether it keeps its rows' history.
    pub system_versioned: bool,
    /// Its storage engine.
    pub engine: String,
    /// Whether its history goes by transactions' numbers, which mean nothing at another server.
    pub by_transaction: bool,
    /// About how large its rows are, in bytes, by the server's estimate.
    pub data_bytes: u64,
    /// Where the columns stand that say since when a row was there, and until when.
    pub period: Period,
    key_columns: usize,
}

/// What there is in a database.
pub(crate) struct Lists {
    pub server_version: String,
    pub sql_mode: String,
    pub charset_server: String,
    pub defaults: Defaults,
    pub tables: BTreeMap<String, Relation>,
    /// The columns of the views that can be read.
    pub view_columns: BTreeMap<String, Vec<String>>,
    /// Those whose definition is still to be asked for.
    pub others: Vec<(Kind, String)>,
    /// Those whose definition came with the list.
    pub defined: Vec<Object>,
    /// The triggers in the order in which they are made.
    pub triggers: Vec<String>,
    /// The scheduled events.
    pub events: Vec<String>,
}

impl Lists {
    pub(crate) async fn read(session: &mut Session, database: &str) -> Result<Self, Error> {
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
        let mut lists = Self::begin(schema);
        for row in relations {
            lists
                .relation(text(row, 0), &text(row, 1), text(row, 2), text(row, 3))
                .map_err(|e| session.unexpected(doing, e))?;
        }
        for row in columns {
            let name = text(row, 0);
            match lists.tables.get_mut(&name) {
                Some(relation) => relation.column(flavour, row),
                // A view's, or a sequence's, of which nobody asks.
                None => lists.view_columns.entry(name).or_default().push(text(row, 1)),
            }
        }
        lists.tables.values_mut().for_each(Relation::end);
        lists.programs(triggers, &self::events(session, doing, database, events).await?);
        for row in routines {
            let kind = routine(&text(row, 0)).map_err(|e| session.unexpected(doing, e))?;
            lists.others.push((kind, text(row, 1)));
        }
        lists.others.sort();
        Ok(lists)
    }

    /// The names of the objects of a kind whose definition is asked for one by one.
    pub(crate) fn of_kind(&self, kind: Kind) -> impl Iterator<Item = &str> {
        let of_kind = move |(found, _): &&(Kind, String)| *found == kind;
        self.others.iter().filter(of_kind).map(|(_, name)| name.as_str())
    }

    fn begin(schema: &Row) -> Self {
        Self {
            server_version: text(schema, 0),
            defaults: Defaults {
                charset: text(schema, 1),
                collation: text(schema, 2),
                comment: text(schema, 3),
            },
            sql_mode: text(schema, 4),
            charset_server: text(schema, 5),
            tables: BTreeMap::new(),
            view_columns: BTreeMap::new(),
            others: Vec::new(),
            defined: Vec::new(),
            triggers: Vec::new(),
            events: Vec::new(),
        }
    }

    fn relation(
        &mut self,
        name: String,
        kind: &str,
        engine: String,
        data_bytes: String,
    ) -> Result<(), String> {
        let data_bytes = data_bytes.parse().unwrap_or_default();
        let relation = Relation { engine, data_bytes, ..Relation::default() };
        match kind {
            "BASE TABLE" => {
                self.tables.insert(name, relation);
            }
            "SYSTEM VERSIONED" => {
                self.tables.insert(name, Relation { system_versioned: true, ..relation });
            }
            "VIEW" => self.others.push((Kind::View, name)),
            "SEQUENCE" => self.others.push((Kind::Sequence, name)),
            other => return Err(format!("a table of the unknown kind {other}")),
        }
        Ok(())
    }

    fn programs(&mut self, triggers: &[Row], events: &[Row]) {
        for (kind, rows) in [(Kind::Trigger, triggers), (Kind::Event, events)] {
            self.defined.extend(rows.iter().map(|row| Object {
                kind,
                name: text(row, 0),
                definition: definition(row, 1),
            }));
        }
        let mut ordered: Vec<_> = triggers
            .iter()
            .map(|row| {
                let place = text(row, 4).parse::<u64>().unwrap_or_default();
                (text(row, 1), text(row, 2), text(row, 3), place, text(row, 0))
            })
            .collect();
        ordered.sort();
        self.triggers = ordered.into_iter().map(|(.., name)| name).collect();
        self.events = events.iter().map(|row| text(row, 0)).collect();
    }
}

impl Relation {
    /// A row of `information_schema.COLUMNS`: table, name, type, extra, expression, key, bytes.
    fn column(&mut self, flavour: Flavour, row: &Row) {
        let (name, kind, extra, expression) =
            (text(row, 1), text(row, 2), text(row, 3), text(row, 4));
        self.by_transaction |= expression == "ROW START" && kind == "bigint";
        // No two readings of a row can be compared by it, and it says nothing that its definition does not.
        if extra.contains("VIRTUAL GENERATED") && varies(&expression) {
            return;
        }
        let computed = extra.contains("VIRTUAL GENERATED") || extra.contains("STORED GENERATED");
        let period = matches!(expression.as_str(), "ROW START" | "ROW END");
        match expression.as_str() {
            "ROW START" => self.period.start = Some(self.columns.len()),
            "ROW END" => self.period.end = Some(self.columns.len()),
            _ => {}
        }
        let quoted = ident(&name);
        let (selected, literal) = match kind.as_str() {
            // The text of a FLOAT has six digits; that of the same number as a DOUBLE has all.
            "float" => (format!("CAST({quoted} AS DOUBLE)"), Literal::Number),
            "tinyint" | "smallint" | "mediumint" | "int" | "bigint" | "decimal" | "double"
            | "year" => (quoted, Literal::Number),
            "uuid" | "inet6" | "inet4" => (quoted, Literal::Text),
            "json" if flavour == Flavour::MySql => (quoted, Literal::Text),
            kind if GEOMETRIES.contains(&kind) => (quoted, Literal::Geometry),
            _ => (quoted, Literal::Bytes),
        };
        let is_key = text(row, 5) == "PRI";
        self.key_columns += usize::from(is_key);
        let is_key_number = is_key && literal == Literal::Number && kind.ends_with("int");
        let written = period || !computed;
        let may_be_long = literal == Literal::Bytes
            && text(row, 6).parse::<u64>().is_ok_and(|bytes| bytes > LONG_BYTES_MIN);
        let column = Column { name, selected, literal, written, may_be_long, is_key_number };
        self.columns.push(column);
    }

    /// Where the column stands that is the table's key by itself, and an integer.
    pub(crate) fn key_column(&self) -> Option<usize> {
        let alone = self.key_columns == 1;
        self.columns.iter().position(|column| alone && column.is_key_number)
    }

    /// A system-versioned table that does not name its period has one all the same.
    fn end(&mut self) {
        if self.system_versioned && self.period.start.is_none() {
            let at = self.columns.len();
            self.period = Period { start: Some(at), end: Some(at + 1) };
            self.columns.extend(["row_start", "row_end"].map(|name| Column {
                name: name.to_owned(),
                selected: ident(name),
                literal: Literal::Bytes,
                written: true,
                may_be_long: false,
                is_key_number: false,
            }));
        }
    }

    /// Whether its rows are those of other tables, which have them written already.
    pub(crate) fn shows_others_rows(&self) -> bool {
        self.engine.eq_ignore_ascii_case("MRG_MyISAM")
    }
}

/// Six queries in one text, in the order in which [`Lists::read`] takes their answers.
///
/// A trigger is always in its table's database; only when asked by that one does MariaDB not open the
/// tables of all databases (`EVENT_OBJECT_SCHEMA`).
///
/// MariaDB's routines are asked from `mysql.proc`, whose key begins with the database: its
/// `information_schema.ROUTINES` of some versions reads those of the whole server.
fn list_queries(flavour: Flavour, database: &str) -> String {
    let name = literal(database);
    let (comment, events, routines) = match flavour {
        Flavour::MariaDb => (
            "SCHEMA_COMMENT",
            format!("SELECT name FROM mysql.event WHERE db = {name}"),
            format!("SELECT CAST(type AS CHAR), name FROM mysql.proc WHERE db = {name}"),
        ),
        Flavour::MySql => (
            "''",
            events_query(database),
            format!(
                "SELECT ROUTINE_TYPE, ROUTINE_NAME FROM information_schema.ROUTINES \
                 WHERE ROUTINE_SCHEMA = {name}"
            ),
        ),
    };
    format!(
        "SELECT VERSION(), DEFAULT_CHARACTER_SET_NAME, DEFAULT_COLLATION_NAME, {comment}, \
         @@GLOBAL.sql_mode, @@GLOBAL.character_set_server \
         FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = {name}; \
         SELECT TABLE_NAME, TABLE_TYPE, COALESCE(ENGINE, ''), \
         COALESCE(DATA_LENGTH, 0) FROM information_schema.TABLES \
         WHERE TABLE_SCHEMA = {name}; \
         SELECT TABLE_NAME, COLUMN_NAME, DATA_TYPE, EXTRA, COALESCE(GENERATION_EXPRESSION, ''), \
         COLUMN_KEY, IF(COLUMN_TYPE LIKE '%COMPRESSED%', 0, COALESCE(CHARACTER_OCTET_LENGTH, 0)) \
         FROM information_schema.COLUMNS \
         WHERE TABLE_SCHEMA = {name} ORDER BY TABLE_NAME, ORDINAL_POSITION; \
         SELECT TRIGGER_NAME, EVENT_OBJECT_TABLE, ACTION_TIMING, EVENT_MANIPULATION, \
         ACTION_ORDER, ACTION_STATEMENT, SQL_MODE, DEFINER, CHARACTER_SET_CLIENT, \
         COLLATION_CONNECTION, DATABASE_COLLATION \
         FROM information_schema.TRIGGERS WHERE EVENT_OBJECT_SCHEMA = {name} ORDER BY TRIGGER_NAME; \
         {events}; \
         {routines}"
    )
}

fn events_query(database: &str) -> String {
    format!(
        "SELECT EVENT_NAME, DEFINER, TIME_ZONE, EVENT_TYPE, EXECUTE_AT, INTERVAL_VALUE, \
         INTERVAL_FIELD, STARTS, ENDS, ON_COMPLETION, EVENT_DEFINITION, EVENT_COMMENT, SQL_MODE, \
         CHARACTER_SET_CLIENT, COLLATION_CONNECTION, DATABASE_COLLATION \
         FROM information_schema.EVENTS WHERE EVENT_SCHEMA = {} ORDER BY EVENT_NAME",
        literal(database)
    )
}

/// The scheduled events. MariaDB was asked only whether there are any: for its list of them it makes a
/// table in a file each time, which is longer than most other questions take, and few databases have one.
async fn events(
    session: &mut Session,
    doing: &'static str,
    database: &str,
    asked: &[Row],
) -> Result<Vec<Row>, Error> {
    if session.about().flavour == Flavour::MySql || asked.is_empty() {
        return Ok(asked.to_vec());
    }
    let answers = sets(session, doing, &events_query(database)).await?;
    Ok(answers.into_iter().next().unwrap_or_default())
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

/// The columns of a row behind the first few, each with its name, one a line.
pub(crate) fn definition(row: &Row, from: usize) -> String {
    let mut lines = String::new();
    for (i, column) in row.columns_ref().iter().enumerate().skip(from) {
        let name = column.name_str();
        if !COLUMNS_LEFT_OUT.contains(&name.as_ref()) {
            lines.push_str(&format!("{name}: {}\n", normalise(&text(row, i))));
        }
    }
    lines
}

/// Asks many things, a packet for every hundred; the answers in order. The names in them were
/// quoted by whoever put them together.
pub(crate) async fn ask(
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
    let mut answers = Vec::new();
    let asked = questions::all(session, sql, &mut answers).await;
    asked.map_err(|error| session.server().statement_error(doing, &error))?;
    Ok(answers)
}

/// Whether the server's own texts are in it: older and newer names.
pub(crate) fn is_unicode(charset: &str) -> bool {
    matches!(charset, "utf8" | "utf8mb3" | "utf8mb4")
}

/// A text in the bytes of another character set; none: it cannot be said in that one.
pub(crate) async fn in_charset(
    session: &mut Session,
    doing: &'static str,
    text: &str,
    charset: &str,
) -> Result<Option<Vec<u8>>, Error> {
    let (text, charset) = (format!("CONVERT(x'{}' USING utf8mb4)", hex(text)), ident(charset));
    let said = format!("CONVERT({text} USING {charset})");
    let sql = format!(
        "SELECT CAST({said} AS BINARY), CONVERT({said} USING utf8mb4) = {text} COLLATE utf8mb4_bin"
    );
    let (bytes, same): (Vec<u8>, bool) = session.one(doing, &sql).await?;
    Ok(same.then_some(bytes))
}

/// A text's bytes in hexadecimal.
pub(crate) fn hex(text: &str) -> String {
    text.bytes().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"))
}

/// A value as text; what is not UTF-8 in hexadecimal, NULL as nothing.
pub(crate) fn text(row: &Row, column: usize) -> String {
    match row.as_ref(column) {
        Some(Value::Bytes(bytes)) => match std::str::from_utf8(bytes) {
            Ok(text) => text.to_owned(),
            Err(_) => bytes.iter().fold("0x".to_owned(), |hex, byte| format!("{hex}{byte:02x}")),
        },
        None | Some(Value::NULL) => String::new(),
        Some(other) => other.as_sql(true),
    }
}
