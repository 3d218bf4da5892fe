//! What databases are made of, as far as a destination may not take it: tables, columns, objects.
//!
//! Names come as bytes: the server's own grouping would take `Shop` and `shop` for one.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    Error, Flavour, Session,
    discover::SYSTEM,
    foreign_keys::foreign_keys,
    ident::{ident, literals},
    preflight::{
        facts::{Database, Largest, Places, Trigger, Wide},
        text::{qualifiers, row_columns},
    },
};

/// The databases of a chunk, by name.
pub(crate) type Databases = BTreeMap<String, Database>;

/// From how many bytes on a table is looked at for a value that is larger than a packet: what is
/// smaller fits the smallest packet that a server is set to in practice.
const WIDE_BYTES_MIN: u64 = 1 << 20;

/// How long the search for a table's largest value may take, in seconds.
const WIDE_SECONDS_MAX: u32 = 20;

/// The kind of a table that keeps its rows' history.
pub(crate) const VERSIONED: &str = "system-versioned table";

fn names(databases: &Databases) -> String {
    literals(databases.keys().map(String::as_str))
}

/// The engines and collations of tables, the bytes that they take, and names in upper case.
pub(crate) async fn tables(session: &mut Session, into: &mut Databases) -> Result<(), Error> {
    let sql = format!(
        "SELECT CAST(TABLE_SCHEMA AS BINARY), COALESCE(ENGINE, ''), COALESCE(TABLE_COLLATION, ''), \
         TABLE_TYPE, CAST(MIN(TABLE_NAME) AS BINARY), COUNT(*), \
         CAST(COALESCE(SUM(DATA_LENGTH + INDEX_LENGTH), 0) AS UNSIGNED), \
         CAST(MIN(IF(ENGINE = 'MEMORY' AND CREATE_OPTIONS LIKE '%partitioned%' \
         AND AUTO_INCREMENT = 18446744073709551615, TABLE_NAME, NULL)) AS BINARY) \
         FROM information_schema.TABLES WHERE TABLE_SCHEMA IN ({}) \
         AND TABLE_TYPE <> 'VIEW' AND ENGINE IS NOT NULL \
         GROUP BY CAST(TABLE_SCHEMA AS BINARY), ENGINE, TABLE_COLLATION, TABLE_TYPE",
        names(into)
    );
    type Row = (String, String, String, String, String, u64, u64, Option<String>);
    for (db, engine, collation, kind, table, count, bytes, ended) in
        session.rows::<Row>("reading the tables", &sql).await?
    {
        let Some(database) = into.get_mut(&db) else { continue };
        let places = Places::of(ident(&table), count);
        database.bytes += bytes;
        if let Some(table) = ended {
            database.counters_ended = Some(Places::of(ident(&table), 1));
        }
        match kind.as_str() {
            "SEQUENCE" => _ = database.own_kinds.insert("sequence", places.clone()),
            "SYSTEM VERSIONED" => {
                database.own_kinds.insert(VERSIONED, places.clone());
            }
            _ => {}
        }
        if !engine.is_empty() && kind != "SEQUENCE" {
            merge(&mut database.engines, engine, places.clone());
        }
        if !collation.is_empty() {
            merge(&mut database.collations, collation, places);
        }
    }
    let sql = format!(
        "SELECT CAST(SCHEMA_NAME AS BINARY), DEFAULT_COLLATION_NAME \
         FROM information_schema.SCHEMATA WHERE SCHEMA_NAME IN ({})",
        names(into)
    );
    for (db, collation) in session.rows::<(String, String)>("reading the databases", &sql).await? {
        if let Some(database) = into.get_mut(&db) {
            merge(&mut database.collations, collation, Places::of("its default", 1));
        }
    }
    upper_case(session, into).await
}

/// Names of tables with letters that fold to others.
async fn upper_case(session: &mut Session, into: &mut Databases) -> Result<(), Error> {
    let sql = format!(
        "SELECT CAST(TABLE_SCHEMA AS BINARY), CAST(MIN(TABLE_NAME) AS BINARY), COUNT(*) \
         FROM information_schema.TABLES WHERE TABLE_SCHEMA IN ({}) \
         AND CAST(TABLE_NAME AS BINARY) <> CAST(LOWER(TABLE_NAME) AS BINARY) \
         GROUP BY CAST(TABLE_SCHEMA AS BINARY)",
        names(into)
    );
    type Row = (String, String, u64);
    for (db, table, count) in session.rows::<Row>("reading the tables' names", &sql).await? {
        if let Some(database) = into.get_mut(&db) {
            database.upper_case = Some(Places::of(ident(&table), count));
        }
    }
    Ok(())
}

fn merge(into: &mut BTreeMap<String, Places>, key: String, more: Places) {
    let places = into.entry(key).or_insert_with(|| Places::of(more.first.clone(), 0));
    places.count += more.count;
}

/// What a column takes in its row's page, in bytes: what is short or of a fixed length lies there
/// as a whole; of a longer text or blob, 40 bytes do (row format DYNAMIC), or 768 and a pointer.
const COLUMN_BYTES: &str = "CASE \
     WHEN c.DATA_TYPE IN ('tinyint', 'year') THEN 1 WHEN c.DATA_TYPE IN ('smallint') THEN 2 \
     WHEN c.DATA_TYPE IN ('mediumint', 'date') THEN 3 \
     WHEN c.DATA_TYPE IN ('int', 'float', 'timestamp', 'time') THEN 4 \
     WHEN c.DATA_TYPE IN ('bigint', 'double', 'datetime') THEN 8 \
     WHEN c.DATA_TYPE = 'decimal' THEN c.NUMERIC_PRECISION DIV 2 \
     WHEN c.CHARACTER_OCTET_LENGTH <= 255 THEN c.CHARACTER_OCTET_LENGTH \
     WHEN c.CHARACTER_OCTET_LENGTH IS NULL THEN 8 \
     WHEN t.ROW_FORMAT IN ('Compact', 'Redundant') THEN LEAST(c.CHARACTER_OCTET_LENGTH, 788) \
     ELSE 40 END";

/// The collations and types of columns, zero dates among their defaults, and rows too large.
pub(crate) async fn columns(session: &mut Session, into: &mut Databases) -> Result<(), Error> {
    let sql = format!(
        "SELECT CAST(TABLE_SCHEMA AS BINARY), COALESCE(COLLATION_NAME, ''), DATA_TYPE, \
         COALESCE(COLUMN_DEFAULT LIKE '%0000-00-00%', 0), \
         COALESCE(COLUMN_DEFAULT LIKE '%val(`%', 0), \
         EXTRA LIKE '%auto_increment%' AND IS_NULLABLE = 'YES', \
         CAST(MIN(CONCAT(TABLE_NAME, '.', COLUMN_NAME)) AS BINARY), COUNT(*) \
         FROM information_schema.COLUMNS WHERE TABLE_SCHEMA IN ({}) \
         GROUP BY CAST(TABLE_SCHEMA AS BINARY), 2, 3, 4, 5, 6",
        names(into)
    );
    type Row = (String, String, String, bool, bool, bool, String, u64);
    for (db, collation, kind, zero, takes, counts, place, count) in
        session.rows::<Row>("reading the columns", &sql).await?
    {
        let Some(database) = into.get_mut(&db) else { continue };
        let places = Places::of(ident(&place), count);
        if !collation.is_empty() {
            merge(&mut database.collations, collation, places.clone());
        }
        if zero {
            database.zero_dates = Some(places.clone());
        }
        database.takes_from_sequences |= takes;
        database.counts_from_null |= counts;
        merge(&mut database.types, kind.to_lowercase(), places);
    }
    large_rows(session, into).await?;
    wide_tables(session, into).await
}

async fn large_rows(session: &mut Session, into: &mut Databases) -> Result<(), Error> {
    let sql = format!(
        "SELECT CAST(c.TABLE_SCHEMA AS BINARY), CAST(c.TABLE_NAME AS BINARY), \
         CAST(SUM({COLUMN_BYTES}) AS UNSIGNED) AS bytes \
         FROM information_schema.COLUMNS c JOIN information_schema.TABLES t \
         ON t.TABLE_SCHEMA = c.TABLE_SCHEMA AND t.TABLE_NAME = c.TABLE_NAME \
         WHERE c.TABLE_SCHEMA IN ({names}) AND t.TABLE_SCHEMA IN ({names}) AND t.ENGINE = 'InnoDB' \
         GROUP BY CAST(c.TABLE_SCHEMA AS BINARY), CAST(c.TABLE_NAME AS BINARY) \
         HAVING bytes > @@innodb_page_size / 4",
        names = names(into)
    );
    type Row = (String, String, u64);
    for (db, table, bytes) in session.rows::<Row>("adding up the columns", &sql).await? {
        if let Some(database) = into.get_mut(&db) {
            database.rows.insert(table, bytes);
        }
    }
    Ok(())
}

async fn wide_tables(session: &mut Session, into: &mut Databases) -> Result<(), Error> {
    let sql = format!(
        "SELECT CAST(c.TABLE_SCHEMA AS BINARY), CAST(c.TABLE_NAME AS BINARY), c.COLUMN_NAME, \
         t.DATA_LENGTH, c.COLUMN_TYPE LIKE '%COMPRESSED%' FROM information_schema.COLUMNS c JOIN information_schema.TABLES t \
         ON t.TABLE_SCHEMA = c.TABLE_SCHEMA AND t.TABLE_NAME = c.TABLE_NAME \
         WHERE c.TABLE_SCHEMA IN ({names}) AND t.TABLE_SCHEMA IN ({names}) \
         AND t.TABLE_TYPE <> 'VIEW' AND t.DATA_LENGTH >= {WIDE_BYTES_MIN} \
         AND c.CHARACTER_OCTET_LENGTH >= {WIDE_BYTES_MIN}",
        names = names(into)
    );
    type Row = (String, String, String, u64, bool);
    for (db, table, column, bytes, is_compressed) in
        session.rows::<Row>("reading the columns", &sql).await?
    {
        let Some(database) = into.get_mut(&db) else { continue };
        let wide = database.wide.entry(table).or_insert_with(Wide::default);
        wide.bytes = bytes;
        if is_compressed { &mut wide.whole } else { &mut wide.columns }.push(column);
    }
    for (db, database) in into {
        for (table, wide) in &mut database.wide {
            wide.largest = largest(session, db, table, wide).await?;
        }
    }
    Ok(())
}

/// The largest of a table's long values; none where that takes too long.
async fn largest(
    session: &mut Session,
    database: &str,
    table: &str,
    wide: &Wide,
) -> Result<Option<Largest>, Error> {
    let lengths = |columns: &[String], between: &str| {
        let length = |column| format!("{between}COALESCE(LENGTH({}), 0)", ident(column));
        columns.iter().map(|column| length(column)).collect::<String>()
    };
    let select = format!(
        "SELECT {}CAST(COALESCE(MAX(GREATEST(0, 0{})), 0) AS UNSIGNED), \
         CAST(COALESCE(MAX(0{}), 0) AS UNSIGNED) FROM {}.{}",
        match session.about().flavour {
            Flavour::MariaDb => String::new(),
            Flavour::MySql => format!("/*+ MAX_EXECUTION_TIME({WIDE_SECONDS_MAX}000) */ "),
        },
        lengths(&wide.columns, ", "),
        lengths(&wide.whole, " + "),
        ident(database),
        ident(table)
    );
    let sql = match session.about().flavour {
        Flavour::MariaDb => {
            format!("SET STATEMENT max_statement_time = {WIDE_SECONDS_MAX} FOR {select}")
        }
        Flavour::MySql => select,
    };
    match session.rows::<(u64, u64)>("looking for the largest value", &sql).await {
        Ok(rows) => {
            Ok(rows.first().map(|&(value_bytes, whole_bytes)| Largest { value_bytes, whole_bytes }))
        }
        // Too slow, or a table that cannot be read, which is told elsewhere.
        Err(Error::Statement { .. }) => Ok(None),
        Err(other) => Err(other),
    }
}

/// Views that are broken and tables that cannot be opened: the database, whether it is a view, and
/// the name. A server opens a view, and says that it is broken, only where a column such as
/// DATA_LENGTH is asked for (measured with MariaDB 10.11).
pub(crate) async fn broken(
    session: &mut Session,
    databases: &Databases,
) -> Result<Vec<(String, bool, String)>, Error> {
    let sql = format!(
        "SELECT CAST(TABLE_SCHEMA AS BINARY), TABLE_TYPE = 'VIEW', CAST(TABLE_NAME AS BINARY) \
         FROM information_schema.TABLES WHERE TABLE_SCHEMA IN ({}) \
         AND ((TABLE_TYPE = 'VIEW' AND DATA_LENGTH IS NULL AND TABLE_COMMENT <> 'VIEW') \
         OR (TABLE_TYPE <> 'VIEW' AND VERSION IS NULL))",
        names(databases)
    );
    let found: Vec<(String, bool, String)> =
        session.rows("looking for what is broken", &sql).await?;
    Ok(found.into_iter().filter(|(db, ..)| databases.contains_key(db)).collect())
}

/// Definers, and other databases that are named by views, routines, triggers and foreign keys.
pub(crate) async fn objects(
    session: &mut Session,
    into: &mut Databases,
    there: &BTreeSet<String>,
) -> Result<(), Error> {
    let all = names(into);
    let sql = format!(
        "SELECT CAST(TABLE_SCHEMA AS BINARY), 'VIEW', TABLE_NAME, DEFINER, VIEW_DEFINITION, '', '' \
         FROM information_schema.VIEWS WHERE TABLE_SCHEMA IN ({all}) UNION ALL \
         SELECT CAST(TRIGGER_SCHEMA AS BINARY), 'TRIGGER', TRIGGER_NAME, DEFINER, ACTION_STATEMENT, \
         CAST(EVENT_OBJECT_TABLE AS BINARY), SQL_MODE \
         FROM information_schema.TRIGGERS WHERE EVENT_OBJECT_SCHEMA IN ({all}) UNION ALL \
         SELECT CAST(ROUTINE_SCHEMA AS BINARY), ROUTINE_TYPE, ROUTINE_NAME, DEFINER, \
         ROUTINE_DEFINITION, '', '' FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA IN ({all}) \
         UNION ALL SELECT CAST(EVENT_SCHEMA AS BINARY), 'EVENT', EVENT_NAME, DEFINER, \
         EVENT_DEFINITION, '', '' FROM information_schema.EVENTS WHERE EVENT_SCHEMA IN ({all})"
    );
    type Row = (String, String, String, String, Option<Vec<u8>>, String, String);
    for (db, kind, name, definer, body, table, mode) in
        session.rows::<Row>("reading the objects", &sql).await?
    {
        let Some(database) = into.get_mut(&db) else { continue };
        let kind = kind.to_lowercase();
        let place = format!("{kind} {}", ident(&name));
        if kind.starts_with("package") {
            database.own_kinds.insert("package", Places::of(ident(&name), 1));
        }
        merge(&mut database.definers, definer, Places::of(place.clone(), 1));
        let text = String::from_utf8_lossy(&body.unwrap_or_default()).into_owned();
        if kind == "trigger" {
            let columns = row_columns(&text, &mode);
            database.triggers.push(Trigger { name, table, columns });
        }
        for other in qualifiers(&text) {
            if other != db && there.contains(&other) && !SYSTEM.contains(&other.as_str()) {
                refer(database, other, &place, kind == "view");
            }
        }
    }
    let list: Vec<String> = into.keys().cloned().collect();
    let list: Vec<&str> = list.iter().map(String::as_str).collect();
    for key in foreign_keys(session, &list).await? {
        if let Some(database) = into.get_mut(&key.database) {
            let place = format!("a foreign key of {}", ident(&key.table));
            refer(database, key.other, &place, true);
        }
    }
    Ok(())
}

fn refer(database: &mut Database, other: String, place: &str, must_exist: bool) {
    let (places, must) =
        database.references.entry(other).or_insert_with(|| (Places::of(place, 0), false));
    places.count += 1;
    if must_exist && !*must {
        *must = true;
        places.first = place.to_owned();
    }
}
