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
const GOVERNING: [&str; 2] = ["mysql", "drover"];

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
async fn not_a_replica(session: &mut Session) -> Result<(), Error> {
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
    let other = found
        .into_iter()
        .map(|(user, host)| Grantee { role: is_role(flavour, &host), user, host })
        .find(|grantee| !trusted.contains(&grantee.plain()));
    match other {
        None => Ok(()),
        Some(grantee) => Err(foreign(
            session,
            database,
            &format!("{} has a global right to write", grantee.sql()),
        )),
    }
}

async fn no_governing_writers(
    session: &mut Session,
    governing: &str,
    trusted: &BTreeSet<String>,
) -> Result<(), Error> {
    let sql = "SELECT User, Host, Db FROM mysql.db WHERE 'Y' IN (Insert_priv, Update_priv, \
               Delete_priv, Create_priv, Drop_priv, Alter_priv, Execute_priv, Trigger_priv) \
               AND (Db LIKE '%\\\\%%' OR Db LIKE '%\\\\_%' OR Db IN ('mysql', 'drover'))";
    let found: Vec<(String, String, String)> =
        session.rows("reading the grant tables", sql).await?;
    for (user, host, db) in found {
        let grantee = Grantee { role: is_role(session.about().flavour, &host), user, host };
        if covers(&db, governing) && !trusted.contains(&grantee.plain()) {
            let what = format!("{} may write to it (ON {}.*)", grantee.sql(), ident(&db));
            return Err(foreign(session, governing, &what));
        }
    }
    Ok(())
}

/// Refuses routines and scheduled events of other databases that run with a powerful definer's
/// rights and name this one. Drover's own watchdog has words in it that are databases' names too.
async fn no_foreign_bodies(
    session: &mut Session,
    database: &str,
    definers: &str,
) -> Result<(), Error> {
    let name = literal(database);
    let sql = match session.about().flavour {
        Flavour::MariaDb => format!(
            "SELECT db, name, LOWER(type), body FROM mysql.proc WHERE definer IN ({definers}) \
             AND db <> {name} AND db <> 'sys' AND security_type = 'DEFINER' \
             AND LOCATE({name}, body) UNION ALL SELECT db, name, 'event', body FROM mysql.event \
             WHERE definer IN ({definers}) AND db <> {name} AND status = 'ENABLED' \
             AND NOT (db = 'drover' AND name = 'watchdog') AND LOCATE({name}, body)"
        ),
        Flavour::MySql => mysql::bodies(&name, definers),
    };
    let found: Vec<(String, String, String, Vec<u8>)> =
        session.rows("looking for routines that name the database", &sql).await?;
    let named = found.into_iter().find(|(_, _, _, body)| mentions(body, database));
    match named {
        None => Ok(()),
        Some((db, object, kind, _)) => Err(foreign(
            session,
            database,
            &format!("the {kind} {}.{} names it", ident(&db), ident(&object)),
        )),
    }
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
    let name = literal(database);
    let sql = match session.about().flavour {
        Flavour::MariaDb => format!(
            "SELECT name, definer IN ({definers}) FROM mysql.proc \
             WHERE db = {name} AND type = 'FUNCTION'"
        ),
        Flavour::MySql => format!(
            "SELECT ROUTINE_NAME, DEFINER IN ({definers}) FROM information_schema.ROUTINES \
             WHERE ROUTINE_SCHEMA = {name} AND ROUTINE_TYPE = 'FUNCTION'"
        ),
    };
    let functions: Vec<(String, bool)> = session.rows("reading the functions", &sql).await?;
    if functions.is_empty() {
        return Ok(());
    }
    let sql = format!(
        "SELECT TABLE_NAME, VIEW_DEFINITION, DEFINER IN ({definers}) \
         FROM information_schema.VIEWS WHERE TABLE_SCHEMA = {name}"
    );
    let views: Vec<(String, Option<Vec<u8>>, bool)> =
        session.rows("reading the views", &sql).await?;
    for (view, definition, view_powerful) in views {
        let text = definition.unwrap_or_default();
        let calls = |(function, powerful): &&(String, bool)| {
            (*powerful || view_powerful) && mentions(&text, function)
        };
        if let Some((function, _)) = functions.iter().find(calls) {
            let what = format!("the view {} calls {}", ident(&view), ident(function));
            return Err(foreign(session, database, &what));
        }
    }
    Ok(())
}

/// Refuses foreign keys to other databases by which a change there changes rows here.
async fn no_cascades(session: &mut Session, database: &str) -> Result<(), Error> {
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
        return Ok(());
    }
    let name = literal(database);
    let sql = format!(
        "SELECT TABLE_NAME, UNIQUE_CONSTRAINT_SCHEMA FROM information_schema.REFERENTIAL_CONSTRAINTS \
         WHERE CONSTRAINT_SCHEMA = {name} AND UNIQUE_CONSTRAINT_SCHEMA <> {name} \
         AND (UPDATE_RULE NOT IN ('RESTRICT', 'NO ACTION') \
         OR DELETE_RULE NOT IN ('RESTRICT', 'NO ACTION'))"
    );
    let found: Vec<(String, String)> = session.rows("reading the foreign keys", &sql).await?;
    match found.into_iter().next() {
        None => Ok(()),
        Some((table, other)) => Err(foreign(
            session,
            database,
            &format!("a foreign key of {} follows changes in {}", ident(&table), ident(&other)),
        )),
    }
}

/// Refuses a database at the destination that an account could already reach: by a row of the grant
/// tables that covers its name, or by a global right to write.
pub async fn not_reachable(session: &mut Session, database: &str) -> Result<(), Error> {
    let trusted = privileges::trusted(session);
    let held = privileges::held(session, database, &trusted).await?;
    let by = match (held.grants.first(), held.ownerless.first()) {
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
