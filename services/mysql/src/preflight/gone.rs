//! Definitions that no server takes again, because what they name is gone: a trigger of a column, a
//! table whose default is taken from a sequence. The source goes on having them; the destination
//! would refuse them only after the freeze. (Views have a way of their own, [`viewing`](crate::viewing).)

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    Error, Session,
    ident::{ident, literals},
    preflight::shape::Databases,
    tokens::{Kind, tokens},
};

/// The columns of a system-versioned table that does not name its period: no list has them.
const PERIOD: [&str; 2] = ["row_start", "row_end"];

/// What cannot be made again: the database, and what it is.
pub(crate) async fn found(
    session: &mut Session,
    databases: &Databases,
) -> Result<Vec<(String, String)>, Error> {
    let mut found = triggers(session, databases).await?;
    found.extend(defaults(session, databases).await?);
    Ok(found)
}

async fn triggers(
    session: &mut Session,
    databases: &Databases,
) -> Result<Vec<(String, String)>, Error> {
    let naming = || {
        let all = databases.iter().flat_map(|(db, of)| of.triggers.iter().map(move |t| (db, t)));
        all.filter(|(_, trigger)| !trigger.columns.is_empty())
    };
    if naming().next().is_none() {
        return Ok(Vec::new());
    }
    let (names, tables): (BTreeSet<&str>, BTreeSet<&str>) =
        naming().map(|(db, trigger)| (db.as_str(), trigger.table.as_str())).unzip();
    let sql = format!(
        "SELECT CAST(TABLE_SCHEMA AS BINARY), CAST(TABLE_NAME AS BINARY), LOWER(COLUMN_NAME) \
         FROM information_schema.COLUMNS WHERE TABLE_SCHEMA IN ({}) AND TABLE_NAME IN ({})",
        literals(names),
        literals(tables)
    );
    let mut there: BTreeMap<(String, String), BTreeSet<String>> = BTreeMap::new();
    for (db, table, column) in
        session.rows::<(String, String, String)>("reading the columns", &sql).await?
    {
        there.entry((db, table)).or_default().insert(column);
    }
    let gone = |(db, trigger): (&String, &crate::preflight::facts::Trigger)| {
        // A table that cannot be opened has no columns, and is told elsewhere.
        let there = there.get(&(db.clone(), trigger.table.clone()))?;
        // What a server takes for the same beyond ASCII is left to the server.
        let is_gone = |column: &&String| {
            column.is_ascii() && !there.contains(*column) && !PERIOD.contains(&column.as_str())
        };
        let column = trigger.columns.iter().find(is_gone)?;
        let (name, table) = (ident(&trigger.name), ident(&trigger.table));
        let column = ident(column);
        Some((db.clone(), format!("trigger {name} names column {column}, which {table} has not")))
    };
    Ok(naming().filter_map(gone).collect())
}

async fn defaults(
    session: &mut Session,
    databases: &Databases,
) -> Result<Vec<(String, String)>, Error> {
    let names: Vec<&str> = databases
        .iter()
        .filter(|(_, database)| database.takes_from_sequences)
        .map(|(name, _)| name.as_str())
        .collect();
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let names = literals(names);
    let sql = format!(
        "SELECT CAST(TABLE_SCHEMA AS BINARY), CAST(TABLE_NAME AS BINARY) \
         FROM information_schema.TABLES WHERE TABLE_SCHEMA IN ({names}) AND TABLE_TYPE = 'SEQUENCE'"
    );
    let there: BTreeSet<(String, String)> =
        session.rows("reading the sequences", &sql).await?.into_iter().collect();
    let sql = format!(
        "SELECT CAST(TABLE_SCHEMA AS BINARY), CAST(CONCAT(TABLE_NAME, '.', COLUMN_NAME) AS BINARY), \
         COLUMN_DEFAULT FROM information_schema.COLUMNS \
         WHERE TABLE_SCHEMA IN ({names}) AND COLUMN_DEFAULT LIKE '%val(`%'"
    );
    let mut found = Vec::new();
    for (db, place, default) in
        session.rows::<(String, String, String)>("reading the defaults", &sql).await?
    {
        // What is in another database is told as a reference to that.
        let own = sequences(&default).into_iter().filter(|(of, _)| *of == db);
        let gone = own.filter(|sequence| !there.contains(sequence));
        found.extend(gone.map(|(_, name)| {
            let (place, name) = (ident(&place), ident(&name));
            (db.clone(), format!("column {place} takes from {name}, which is gone"))
        }));
    }
    Ok(found)
}

/// The sequences that a default takes from, as a server prints it: database and name.
fn sequences(default: &str) -> Vec<(String, String)> {
    let kinds: Vec<Kind> = tokens(default).into_iter().map(|token| token.kind).collect();
    let sequence = |five: &[Kind]| match five {
        [Kind::Word(word), Kind::Open, Kind::Ident(db), Kind::Dot, Kind::Ident(name)]
            if word.ends_with("val") =>
        {
            Some((db.clone(), name.clone()))
        }
        _ => None,
    };
    kinds.windows(5).filter_map(sequence).collect()
}
