//! Who else could write to the database: looked for before it is frozen, and refused by name.
//!
//! | who | how it is met |
//! | --- | --- |
//! | accounts with privileges on the database | taken away by the freeze |
//! | accounts and roles that may write anywhere, or to the grant tables | refused, unless trusted |
//! | the database's own routines, triggers, events, by whatever definer | unreachable: nobody keeps EXECUTE or a right to write, and the events are disabled |
//! | its functions, called by one of its views with a powerful definer's rights | refused |
//! | routines and scheduled events of other databases that name it, with a powerful definer | refused |
//! | foreign keys into other databases with an action, which need no right at all | refused |
//! | prepared transactions, which anyone may commit | refused |
//! | replication | refused |
//!
//! A powerful definer is one that keeps its rights: a trusted account. What a trusted account's
//! routine puts together as text at run time, or reaches through a trigger, a view or a MERGE table
//! of another database, is not seen; it is trusted not to.

use std::collections::BTreeSet;

use drover_schemas::Code;

use crate::{
    Error, Flavour, Session,
    ident::{account, covers, ident, literal, literals},
    mysql,
    privileges::{self, Grantee},
    takeaway::is_masked,
};

/// The bits of `access` in `mysql.global_priv` by which an account may write to any database, or
/// give itself the right to: INSERT, UPDATE, DELETE, CREATE, DROP, GRANT OPTION, INDEX, ALTER,
/// SUPER, EXECUTE, CREATE VIEW, CREATE ROUTINE, ALTER ROUTINE, CREATE USER, EVENT, TRIGGER, DELETE
/// HISTORY, SET USER, BINLOG REPLAY. From the server's `sql/privilege.h`.
const WRITES_ANYWHERE: u64 = 0b11_1110
    | 1 << 10
    | 1 << 12
    | 1 << 13
    | 1 << 15
    | 1 << 18
    | 1 << 21
    | 1 << 23
    | 1 << 24
    | 1 << 25
    | 1 << 26
    | 1 << 27
    | 1 << 29
    | 1 << 30
    | 1 << 37;

/// The databases that decide who may do what: who writes there may write anywhere.
pub(crate) const GOVERNING: [&str; 2] = ["mysql", "drover"];

/// Refuses what the freeze could not hold against.
pub async fn check(session: &mut Session, database: &str) -> Result<(), Error> {
    not_a_replica(session).await?;
    no_prepared_transactions(session).await?;
    let trusted = privileges::trusted(session);
    no_global_writers(session, database, &trusted).await?;
    for governing in GOVERNING {
        no_governing_writers(session, governing, &trusted).await?;
    }
    let definers = literals(trusted.iter().map(String::as_str));
    no_foreign_bodies(session, database, &definers).await?;
    no_writing_views(session, database, &definers).await?;
    no_cascades(session, database).await
}

/// Whether a row of the grant tables is a role's: MariaDB's have no host; MySQL's are accounts.
fn is_role(flavour: Flavour, host: &str) -> bool {
    flavour == Flavour::MariaDb && host.is_empty()
}

/// Refuses a server that applies what another one wrote.
pub(crate) async fn not_a_replica(session: &mut Session) -> Result<(), Error> {
    let (show, column) = match session.about().flavour {
        Flavour::MariaDb => ("SHOW ALL SLAVES STATUS", "Slave_SQL_Running"),
        Flavour::MySql => ("SHOW REPLICA STATUS", "Replica_SQL_Running"),
    };
    let rows: Vec<mysql_async::Row> = session.rows("reading the replication's state", show).await?;
    let runs = |row: &mysql_async::Row| {
        row.get::<Option<String>, _>(column).flatten().is_some_and(|yes| yes != "No")
    };
    if rows.iter().any(runs) {
        let what = format!("a replication thread is running ({show})");
        return Err(session.server().found(Code::SourceIsReplica, what));
    }
    Ok(())
}

/// Refuses transactions that were prepared by XA and not yet ended.
pub(crate) async fn no_prepared_transactions(session: &mut Session) -> Result<(), Error> {
    let rows: Vec<mysql_async::Row> =
        session.rows("looking for prepared transactions", "XA RECOVER").await?;
    if rows.is_empty() {
        return Ok(());
    }
    Err(session.server().found(Code::PreparedTransactions, format!("{} of them", rows.len())))
}

async fn no_global_writers(
    session: &mut Session,
    database: &str,
    trusted: &BTreeSet<String>,
) -> Result<(), Error> {
    match global_writers(session, trusted).await?.first() {
        None => Ok(()),
        Some(what) => Err(foreign(session, database, what)),
    }
}

/// The accounts, those that are trusted aside, that may write to any database.
pub(crate) async fn global_writers(
    session: &mut Session,
    trusted: &BTreeSet<String>,
) -> Result<Vec<String>, Error> {
    let flavour = session.about().flavour;
    let sql = match flavour {
        Flavour::MariaDb => format!(
            "SELECT User, Host FROM mysql.global_priv \
             WHERE CAST(JSON_VALUE(Priv, '$.access') AS UNSIGNED) & {WRITES_ANYWHERE} <> 0"
        ),
        Flavour::MySql => mysql::global_writers(),
    };
    let found: Vec<(String, String)> =
        session.rows("looking for accounts with global rights", &sql).await?;
    let grantees = found
        .into_iter()
        .map(|(user, host)| Grantee { role: is_role(flavour, &host), user, host })
        .filter(|grantee| !trusted.contains(&grantee.plain()));
    Ok(grantees.map(|grantee| format!("{} has a global right to write", grantee.sql())).collect())
}

async fn no_governing_writers(
    session: &mut Session,
    governing: &str,
    trusted: &BTreeSet<String>,
) -> Result<(), Error> {
    match governing_writers(session, governing, trusted).await?.first() {
        None => Ok(()),
        Some(what) => Err(foreign(session, governing, what)),
    }
}

/// The accounts, those that are trusted aside, that may write to a database which decides on rights.
pub(crate) async fn governing_writers(
    session: &mut Session,
    governing: &str,
    trusted: &BTreeSet<String>,
) -> Result<Vec<String>, Error> {
    let sql = "SELECT User, Host, Db FROM mysql.db WHERE 'Y' IN (Insert_priv, Update_priv, \
               Delete_priv, Create_priv, Drop_priv, Alter_priv, Execute_priv, Trigger_priv) \
               AND (Db LIKE '%\\\\%%' OR Db LIKE '%\\\\_%' OR Db IN ('mysql', 'drover'))";
    let rows: Vec<(String, String, String)> = session.rows("reading the grant tables", sql).await?;
    let flavour = session.about().flavour;
    let mut found = Vec::new();
    for (user, host, db) in rows {
        let grantee = Grantee { role: is_role(flavour, &host), user, host };
        if covers(&db, governing) && !trusted.contains(&grantee.plain()) {
            found.push(format!("{} may write to it (ON {}.*)", grantee.sql(), ident(&db)));
        }
    }
    Ok(found)
}

/// Refuses routines and scheduled events of other databases that run with a powerful definer's
/// rights and name this one.
async fn no_foreign_bodies(
    session: &mut Session,
    database: &str,
    definers: &str,
) -> Result<(), Error> {
    let found = foreign_bodies(session, &[database], definers).await?;
    refuse_first(session, found)
}

fn refuse_first(session: &Session, found: Vec<(String, String)>) -> Result<(), Error> {
    let first = found.into_iter().next();
    first.map_or(Ok(()), |(database, what)| Err(foreign(session, &database, &what)))
}

/// The routines and scheduled events of other databases that run with a powerful definer's rights
/// and name one of these: which of these, and what names it. Drover's own watchdog has words in it
/// that are databases' names too.
pub(crate) async fn foreign_bodies(
    session: &mut Session,
    databases: &[&str],
    definers: &str,
) -> Result<Vec<(String, String)>, Error> {
    let sql = match session.about().flavour {
        Flavour::MariaDb => format!(
            "SELECT db, name, LOWER(type), body FROM mysql.proc WHERE definer IN ({definers}) \
             AND db <> 'sys' AND security_type = 'DEFINER' AND ({}) \
             UNION ALL SELECT db, name, 'event', body FROM mysql.event \
             WHERE definer IN ({definers}) AND status = 'ENABLED' \
             AND NOT (db = 'drover' AND name = 'watchdog') AND ({})",
            named_elsewhere(databases, "db", "body"),
            named_elsewhere(databases, "db", "body")
        ),
        Flavour::MySql => mysql::bodies(databases, definers),
    };
    let found: Vec<(String, String, String, Vec<u8>)> =
        session.rows("looking for routines that name the database", &sql).await?;
    let mut named = Vec::new();
    for (db, object, kind, body) in found {
        let named_here = databases.iter().filter(|name| **name != db && mentions(&body, name));
        named.extend(named_here.map(|database| {
            let what = format!("the {kind} {}.{} names it", ident(&db), ident(&object));
            ((*database).to_owned(), what)
        }));
    }
    Ok(named)
}

/// The condition that a body which is not in one of these databases holds its name.
pub(crate) fn named_elsewhere(databases: &[&str], schema: &str, body: &str) -> String {
    let one = |name: &&str| {
        let name = literal(name);
        format!("{schema} <> {name} AND LOCATE({name}, {body})")
    };
    databases.iter().map(one).collect::<Vec<_>>().join(" OR ")
}

/// Whether a text holds a name as a word of its own.
fn mentions(text: &[u8], name: &str) -> bool {
    let name = name.as_bytes();
    let word = |byte: Option<&u8>| {
        byte.is_some_and(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'$' | 0x80..))
    };
    !name.is_empty()
        && text.windows(name.len()).enumerate().any(|(at, window)| {
            window == name
                && !(word(name.first()) && word(at.checked_sub(1).and_then(|i| text.get(i))))
                && !(word(name.last()) && word(text.get(at + name.len())))
        })
}

/// Refuses views that call a function of the database where one of the two runs with a powerful
/// definer's rights: who may read the view then may write.
async fn no_writing_views(
    session: &mut Session,
    database: &str,
    definers: &str,
) -> Result<(), Error> {
    let found = writing_views(session, &[database], definers).await?;
    refuse_first(session, found)
}

/// The views of these databases that call a function of theirs with a powerful definer's rights:
/// the database, and which view.
pub(crate) async fn writing_views(
    session: &mut Session,
    databases: &[&str],
    definers: &str,
) -> Result<Vec<(String, String)>, Error> {
    let names = literals(databases.iter().copied());
    let sql = match session.about().flavour {
        Flavour::MariaDb => format!(
            "SELECT db, name, definer IN ({definers}) FROM mysql.proc \
             WHERE db IN ({names}) AND type = 'FUNCTION'"
        ),
        Flavour::MySql => format!(
            "SELECT ROUTINE_SCHEMA, ROUTINE_NAME, DEFINER IN ({definers}) \
             FROM information_schema.ROUTINES \
             WHERE ROUTINE_SCHEMA IN ({names}) AND ROUTINE_TYPE = 'FUNCTION'"
        ),
    };
    let functions: Vec<(String, String, bool)> =
        session.rows("reading the functions", &sql).await?;
    if functions.is_empty() {
        return Ok(Vec::new());
    }
    let with_functions: BTreeSet<&str> = functions.iter().map(|(db, ..)| db.as_str()).collect();
    let sql = format!(
        "SELECT TABLE_SCHEMA, TABLE_NAME, VIEW_DEFINITION, DEFINER IN ({definers}) \
         FROM information_schema.VIEWS WHERE TABLE_SCHEMA IN ({})",
        literals(with_functions)
    );
    let views: Vec<(String, String, Option<Vec<u8>>, bool)> =
        session.rows("reading the views", &sql).await?;
    let mut found = Vec::new();
    for (database, view, definition, view_powerful) in views {
        let text = definition.unwrap_or_default();
        let calls = |(db, function, powerful): &&(String, String, bool)| {
            *db == database && (*powerful || view_powerful) && mentions(&text, function)
        };
        if let Some((_, function, _)) = functions.iter().find(calls) {
            let what = format!("the view {} calls {}", ident(&view), ident(function));
            found.push((database, what));
        }
    }
    Ok(found)
}

/// Refuses foreign keys to other databases by which a change there changes rows here.
async fn no_cascades(session: &mut Session, database: &str) -> Result<(), Error> {
    let keys = foreign_keys(session, &[database]).await?;
    refuse_first(session, keys.into_iter().filter_map(|key| key.follows()).collect())
}

/// A foreign key to another database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ForeignKey {
    /// Whose it is.
    pub database: String,
    /// Of which table.
    pub table: String,
    /// Where it points to.
    pub other: String,
    /// Whether a change there changes rows here.
    pub cascades: bool,
}

impl ForeignKey {
    /// The database and what to say of it, where rows here follow changes there.
    pub(crate) fn follows(&self) -> Option<(String, String)> {
        let (table, other) = (ident(&self.table), ident(&self.other));
        let what = format!("a foreign key of {table} follows changes in {other}");
        self.cascades.then(|| (self.database.clone(), what))
    }
}

/// The foreign keys of these databases to others.
pub(crate) async fn foreign_keys(
    session: &mut Session,
    databases: &[&str],
) -> Result<Vec<ForeignKey>, Error> {
    // Hardly any server has a foreign key between databases, and InnoDB's own list says so at once;
    // the other view opens every table of the database.
    let list = match session.about().flavour {
        Flavour::MariaDb => "INNODB_SYS_FOREIGN",
        Flavour::MySql => "INNODB_FOREIGN",
    };
    let sql = format!(
        "SELECT FOR_NAME FROM information_schema.{list} \
         WHERE SUBSTRING_INDEX(FOR_NAME, '/', 1) <> SUBSTRING_INDEX(REF_NAME, '/', 1) LIMIT 1"
    );
    if session.rows::<String>("reading the foreign keys", &sql).await?.is_empty() {
        return Ok(Vec::new());
    }
    let sql = format!(
        "SELECT CONSTRAINT_SCHEMA, TABLE_NAME, UNIQUE_CONSTRAINT_SCHEMA, \
         UPDATE_RULE NOT IN ('RESTRICT', 'NO ACTION') \
         OR DELETE_RULE NOT IN ('RESTRICT', 'NO ACTION') \
         FROM information_schema.REFERENTIAL_CONSTRAINTS WHERE CONSTRAINT_SCHEMA IN ({}) \
         AND UNIQUE_CONSTRAINT_SCHEMA <> CONSTRAINT_SCHEMA",
        literals(databases.iter().copied())
    );
    let found: Vec<(String, String, String, bool)> =
        session.rows("reading the foreign keys", &sql).await?;
    let key = |(database, table, other, cascades)| ForeignKey { database, table, other, cascades };
    Ok(found.into_iter().map(key).collect())
}

/// Refuses a database at the destination that an account could already reach: by a row of the grant
/// tables that covers its name, or by a global right to write. Where a retired database had the name,
/// the rows that mask others may stay.
pub async fn not_reachable(
    session: &mut Session,
    database: &str,
    masks_may_stay: bool,
) -> Result<(), Error> {
    let trusted = privileges::trusted(session);
    let held = privileges::held(session, database, &trusted).await?;
    let mut reaching = held.grants.iter();
    let reaching = reaching.find(|it| !(masks_may_stay && is_masked(it, &held.grants, database)));
    let by = match (reaching, held.ownerless.first()) {
        (Some(grant), _) => {
            format!("{} ON {}", grant.grantee.sql(), grant.target.sql(database))
        }
        (None, Some(row)) => account(&row.user, &row.host),
        (None, None) => match no_global_writers(session, database, &trusted).await {
            Ok(()) => return Ok(()),
            Err(Error::Found { what, .. }) => what,
            Err(other) => return Err(other),
        },
    };
    let what = format!("{}: {by}", ident(database));
    Err(session.server().found(Code::ReachableEarly, what))
}

fn foreign(session: &Session, database: &str, what: &str) -> Error {
    session.server().found(Code::ForeignWriter, format!("{}: {what}", ident(database)))
}

#[cfg(test)]
mod tests {
    use super::mentions;

    #[test]
    fn a_name_is_found_as_a_word_only() {
        for (text, name, yes) in [
            ("INSERT INTO shop.t", "shop", true),
            ("INSERT INTO `shop`.t", "shop", true),
            ("INSERT INTO myshop.t", "shop", false),
            ("INSERT INTO shop2.t", "shop", false),
            ("x shop", "shop", true),
            ("a b c", "b c", true),
        ] {
            assert_eq!(mentions(text.as_bytes(), name), yes, "{text}");
        }
    }
}
