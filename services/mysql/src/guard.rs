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
use mysql_async::Row;

use crate::{
    Error, Flavour, Session,
    foreign_keys::{any_keys, keys_of},
    grant_tables::GrantRows,
    ident::{account, covers, ident, literal, literals},
    mysql,
    privileges::{self, Grantee},
    questions::{Question, Questions},
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

/// Refuses what the freeze could not hold against. All is asked in one packet.
pub async fn check(session: &mut Session, database: &str) -> Result<(), Error> {
    let (flavour, trusted) = (session.about().flavour, privileges::trusted(session));
    let (definers, names) = (literals(trusted.iter().map(String::as_str)), [database]);
    let mut all = Questions::default();
    let replication = all.add(replication(flavour));
    let prepared = all.add(prepared());
    let writers = all.add(global(flavour));
    let governing = all.add(governing());
    let bodies = all.add(bodies(flavour, &names, &definers));
    let functions = all.add(functions(flavour, &names, &definers));
    let keys = all.add(any_keys(flavour));
    let mut answers = session.ask_all(all).await?;

    refuse_replication(session, &answers.take(replication)?)?;
    refuse_prepared(session, &answers.take(prepared)?)?;
    let anywhere = of_global(flavour, answers.take(writers)?, &trusted);
    let anywhere = anywhere.into_iter().map(|what| (database.to_owned(), what));
    refuse_first(session, anywhere)?;
    let rows = answers.take(governing)?;
    for governing in GOVERNING {
        let found = of_governing(flavour, &rows, governing, &trusted);
        refuse_first(session, found.into_iter().map(|what| (governing.to_owned(), what)))?;
    }
    refuse_first(session, named(answers.take(bodies)?, &names))?;
    let functions = answers.take(functions)?;
    let calling = calling(session, functions, &definers).await?;
    refuse_first(session, calling)?;
    let keys = match answers.take(keys)?.is_empty() {
        true => Vec::new(),
        false => keys_of(session, &names).await?,
    };
    refuse_first(session, keys.into_iter().filter_map(|key| key.follows()))
}

/// Whether a row of the grant tables is a role's: MariaDB's have no host; MySQL's are accounts.
fn is_role(flavour: Flavour, host: &str) -> bool {
    flavour == Flavour::MariaDb && host.is_empty()
}

/// Refuses a server that applies what another one wrote.
pub(crate) async fn not_a_replica(session: &mut Session) -> Result<(), Error> {
    let rows = session.ask(replication(session.about().flavour)).await?;
    refuse_replication(session, &rows)
}

fn replication(flavour: Flavour) -> Question<Row> {
    Question::new("reading the replication's state", show_replication(flavour).0)
}

/// The statement, and the column that says whether rows are applied.
fn show_replication(flavour: Flavour) -> (&'static str, &'static str) {
    match flavour {
        Flavour::MariaDb => ("SHOW ALL SLAVES STATUS", "Slave_SQL_Running"),
        Flavour::MySql => ("SHOW REPLICA STATUS", "Replica_SQL_Running"),
    }
}

fn refuse_replication(session: &Session, rows: &[Row]) -> Result<(), Error> {
    let (show, column) = show_replication(session.about().flavour);
    let runs =
        |row: &Row| row.get::<Option<String>, _>(column).flatten().is_some_and(|yes| yes != "No");
    if rows.iter().any(runs) {
        let what = format!("a replication thread is running ({show})");
        return Err(session.server().found(Code::SourceIsReplica, what));
    }
    Ok(())
}

/// Refuses transactions that were prepared by XA and not yet ended.
pub(crate) async fn no_prepared_transactions(session: &mut Session) -> Result<(), Error> {
    let rows = session.ask(prepared()).await?;
    refuse_prepared(session, &rows)
}

/// Asks for them.
pub(crate) fn prepared() -> Question<Row> {
    Question::new("looking for prepared transactions", "XA RECOVER")
}

/// Refuses those that were found.
pub(crate) fn refuse_prepared(session: &Session, rows: &[Row]) -> Result<(), Error> {
    if rows.is_empty() {
        return Ok(());
    }
    Err(session.server().found(Code::PreparedTransactions, format!("{} of them", rows.len())))
}

/// The accounts, those that are trusted aside, that may write to any database.
pub(crate) async fn global_writers(
    session: &mut Session,
    trusted: &BTreeSet<String>,
) -> Result<Vec<String>, Error> {
    let flavour = session.about().flavour;
    Ok(of_global(flavour, session.ask(global(flavour)).await?, trusted))
}

fn global(flavour: Flavour) -> Question<(String, String)> {
    let sql = match flavour {
        Flavour::MariaDb => format!(
            "SELECT User, Host FROM mysql.global_priv \
             WHERE CAST(JSON_VALUE(Priv, '$.access') AS UNSIGNED) & {WRITES_ANYWHERE} <> 0"
        ),
        Flavour::MySql => mysql::global_writers(),
    };
    Question::new("looking for accounts with global rights", sql)
}

fn of_global(
    flavour: Flavour,
    found: Vec<(String, String)>,
    trusted: &BTreeSet<String>,
) -> Vec<String> {
    let grantees = found
        .into_iter()
        .map(|(user, host)| Grantee { role: is_role(flavour, &host), user, host })
        .filter(|grantee| !trusted.contains(&grantee.plain()));
    grantees.map(|grantee| format!("{} has a global right to write", grantee.sql())).collect()
}

/// The accounts, those that are trusted aside, that may write to a database which decides on rights.
pub(crate) async fn governing_writers(
    session: &mut Session,
    name: &str,
    trusted: &BTreeSet<String>,
) -> Result<Vec<String>, Error> {
    let rows = session.ask(governing()).await?;
    Ok(of_governing(session.about().flavour, &rows, name, trusted))
}

/// User, host, and the databases' text.
fn governing() -> Question<(String, String, String)> {
    let sql = "SELECT User, Host, Db FROM mysql.db WHERE 'Y' IN (Insert_priv, Update_priv, \
               Delete_priv, Create_priv, Drop_priv, Alter_priv, Execute_priv, Trigger_priv) \
               AND (Db LIKE '%\\\\%%' OR Db LIKE '%\\\\_%' OR Db IN ('mysql', 'drover'))";
    Question::new("reading the grant tables", sql)
}

fn of_governing(
    flavour: Flavour,
    rows: &[(String, String, String)],
    name: &str,
    trusted: &BTreeSet<String>,
) -> Vec<String> {
    let mut found = Vec::new();
    for (user, host, db) in rows.iter().cloned() {
        let grantee = Grantee { role: is_role(flavour, &host), user, host };
        if covers(&db, name) && !trusted.contains(&grantee.plain()) {
            found.push(format!("{} may write to it (ON {}.*)", grantee.sql(), ident(&db)));
        }
    }
    found
}

fn refuse_first(
    session: &Session,
    found: impl IntoIterator<Item = (String, String)>,
) -> Result<(), Error> {
    let first = found.into_iter().next();
    first.map_or(Ok(()), |(database, what)| Err(foreign(session, &database, &what)))
}

/// A routine or scheduled event: database, name, kind, text.
type Body = (String, String, String, Vec<u8>);

/// The routines and scheduled events of other databases that run with a powerful definer's rights
/// and name one of these: which of these, and what names it.
pub(crate) async fn foreign_bodies(
    session: &mut Session,
    databases: &[&str],
    definers: &str,
) -> Result<Vec<(String, String)>, Error> {
    let found = session.ask(bodies(session.about().flavour, databases, definers)).await?;
    Ok(named(found, databases))
}

/// Drover's own watchdog is left out: it has words in it that are databases' names too.
fn bodies(flavour: Flavour, databases: &[&str], definers: &str) -> Question<Body> {
    let sql = match flavour {
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
    Question::new("looking for routines that name the database", sql)
}

fn named(found: Vec<Body>, databases: &[&str]) -> Vec<(String, String)> {
    let mut named = Vec::new();
    for (db, object, kind, body) in found {
        let named_here = databases.iter().filter(|name| **name != db && mentions(&body, name));
        named.extend(named_here.map(|database| {
            let what = format!("the {kind} {}.{} names it", ident(&db), ident(&object));
            ((*database).to_owned(), what)
        }));
    }
    named
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

/// A function: database, name, whether its definer is powerful.
type Function = (String, String, bool);

/// The views of these databases that call a function of theirs where one of the two runs with a
/// powerful definer's rights: the database, and which view. Who may read such a view may write.
pub(crate) async fn writing_views(
    session: &mut Session,
    databases: &[&str],
    definers: &str,
) -> Result<Vec<(String, String)>, Error> {
    let found = session.ask(functions(session.about().flavour, databases, definers)).await?;
    calling(session, found, definers).await
}

fn functions(flavour: Flavour, databases: &[&str], definers: &str) -> Question<Function> {
    let names = literals(databases.iter().copied());
    let sql = match flavour {
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
    Question::new("reading the functions", sql)
}

async fn calling(
    session: &mut Session,
    functions: Vec<Function>,
    definers: &str,
) -> Result<Vec<(String, String)>, Error> {
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

/// Refuses a database at the destination that an account could already reach: by a row of the grant
/// tables that covers its name, or by a global right to write. Where a retired database had the name,
/// the rows that mask others may stay.
pub async fn not_reachable(
    session: &mut Session,
    database: &str,
    masks_may_stay: bool,
) -> Result<(), Error> {
    let (flavour, trusted) = (session.about().flavour, privileges::trusted(session));
    let mut questions = Questions::default();
    let grants = GrantRows::ask(session, database, &mut questions);
    let writers = questions.add(global(flavour));
    let mut answers = session.ask_all(questions).await?;
    let writers = of_global(flavour, answers.take(writers)?, &trusted);
    let held = grants.held(session, &mut answers, &trusted).await?;
    let mut reaching = held.grants.iter();
    let reaching = reaching.find(|it| !(masks_may_stay && is_masked(it, &held.grants, database)));
    let by = match (reaching, held.ownerless.first()) {
        (Some(grant), _) => {
            format!("{} ON {}", grant.grantee.sql(), grant.target.sql(database))
        }
        (None, Some(row)) => account(&row.user, &row.host),
        (None, None) => match writers.first() {
            None => return Ok(()),
            Some(what) => what.clone(),
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
