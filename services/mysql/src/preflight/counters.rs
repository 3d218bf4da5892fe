//! AUTO_INCREMENT columns whose state no statement makes again. The source goes on having it; the copy
//! would be found different, or be refused, only after the freeze.

use crate::{
    Error, Session,
    ident::{ident, literals},
    preflight::shape::Databases,
};

/// How long the search for a NULL in a table may take, in seconds.
const SECONDS_MAX: u32 = 20;

/// What cannot be made again: the database, and what it is.
pub(crate) async fn found(
    session: &mut Session,
    databases: &Databases,
) -> Result<Vec<(String, String)>, Error> {
    let ended = databases.iter().filter_map(|(db, database)| {
        let places = database.counters_ended.as_ref()?;
        let what = "a partitioned MEMORY table's AUTO_INCREMENT is at its end, where none is set";
        Some((db.clone(), format!("{}: {what}", places.text())))
    });
    let mut found: Vec<(String, String)> = ended.collect();
    found.extend(nulls(session, databases).await?);
    Ok(found)
}

/// NULL in a column of the kind, to which an INSERT gives a number instead.
async fn nulls(
    session: &mut Session,
    databases: &Databases,
) -> Result<Vec<(String, String)>, Error> {
    let with = databases.iter().filter(|(_, database)| database.counts_from_null);
    let names: Vec<&str> = with.map(|(name, _)| name.as_str()).collect();
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let names = literals(names);
    let sql = format!(
        "SELECT CAST(c.TABLE_SCHEMA AS BINARY), CAST(c.TABLE_NAME AS BINARY), c.COLUMN_NAME, \
         t.TABLE_TYPE = 'SYSTEM VERSIONED' \
         FROM information_schema.COLUMNS c JOIN information_schema.TABLES t \
         ON t.TABLE_SCHEMA = c.TABLE_SCHEMA AND t.TABLE_NAME = c.TABLE_NAME \
         WHERE c.TABLE_SCHEMA IN ({names}) AND t.TABLE_SCHEMA IN ({names}) \
         AND c.EXTRA LIKE '%auto_increment%' AND c.IS_NULLABLE = 'YES'"
    );
    let mut found = Vec::new();
    for (db, table, column, versioned) in
        session.rows::<(String, String, String, bool)>("reading the counters", &sql).await?
    {
        let history = if versioned { " FOR SYSTEM_TIME ALL" } else { "" };
        // MariaDB's words: MySQL has no such column.
        let sql = format!(
            "SET STATEMENT max_statement_time = {SECONDS_MAX} FOR SELECT EXISTS \
             (SELECT 1 FROM {}.{}{history} WHERE {} IS NULL)",
            ident(&db),
            ident(&table),
            ident(&column)
        );
        match session.rows::<bool>("looking for a counter's NULL", &sql).await {
            Ok(answer) if answer.first() == Some(&true) => {
                let place = format!("{}.{}", ident(&table), ident(&column));
                let what =
                    format!("{place} is AUTO_INCREMENT and holds NULL, which is no INSERT's");
                found.push((db, what));
            }
            // Too slow, or a table that cannot be read, which is told elsewhere.
            Ok(_) | Err(Error::Statement { .. }) => {}
            Err(other) => return Err(other),
        }
    }
    Ok(found)
}
