//! Reading the grant tables row by row: what is granted on a database.
//!
//! They are read rather than `SHOW GRANTS`, as one query over each answers for all accounts, and as the
//! text of a row's `Db` matters: `my_db`, `my\_db` and `my%` are three rows that cover the same database.

use std::collections::{BTreeMap, BTreeSet};

use mysql_async::{Row, Value};

use crate::{
    Error, Flavour, Session,
    ident::{NAME_CHARS_MAX, covers, ident, literal, literals},
    precedence::order,
    privileges::{GRANT_OPTION, Grant, Grantee, Privileges, Target},
    questions::{Answers, Place, Question, Questions},
};

/// A row of the grant tables whose account is missing, but which still gives its privileges to
/// accounts of the same user name at other hosts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ownerless {
    /// The row's user.
    pub user: String,
    /// The row's host.
    pub host: String,
}

/// What is granted on a database.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Held {
    /// The grants that cover it, those of trusted accounts aside; of several rows of an account that
    /// cover it, the one in force comes first.
    pub grants: Vec<Grant>,
    /// Rows without an account.
    pub ownerless: Vec<Ownerless>,
}

const READING: &str = "reading the grant tables";

/// Reads what is granted on a database; `skip` are the accounts to leave out, as
/// [`Grantee::plain`] writes them.
pub async fn held(
    session: &mut Session,
    database: &str,
    skip: &BTreeSet<String>,
) -> Result<Held, Error> {
    let mut questions = Questions::default();
    let rows = GrantRows::ask(session, database, &mut questions);
    let mut answers = session.ask_all(questions).await?;
    rows.held(session, &mut answers, skip).await
}

/// The first questions of [`held`], for those who ask others beside them.
pub(crate) struct GrantRows {
    name: String,
    databases: Place<Row>,
    tables: Place<TableRow>,
    routines: Place<RoutineRow>,
}

impl GrantRows {
    pub(crate) fn ask(session: &Session, database: &str, to: &mut Questions) -> Self {
        let folded = session.about().lower_case_table_names != 0;
        let name = if folded { database.to_lowercase() } else { database.to_owned() };
        let databases = to.add(database_rows(&name));
        let tables = to.add(table_rows(&name));
        let routines = to.add(routine_rows(session.about().flavour, &name));
        Self { name, databases, tables, routines }
    }

    pub(crate) async fn held(
        self,
        session: &mut Session,
        answers: &mut Answers,
        skip: &BTreeSet<String>,
    ) -> Result<Held, Error> {
        let mut rows = databases(answers.take(self.databases)?, &self.name);
        rows.extend(tables(session, answers.take(self.tables)?, &self.name).await?);
        rows.extend(routines(answers.take(self.routines)?));
        held_by(session, rows, skip).await
    }
}

async fn held_by(
    session: &mut Session,
    rows: Rows,
    skip: &BTreeSet<String>,
) -> Result<Held, Error> {
    if rows.is_empty() {
        return Ok(Held::default());
    }
    let users: BTreeSet<&str> = rows.keys().map(|(user, _, _)| user.as_str()).collect();
    let accounts = accounts_named(session, &users).await?;
    let mut held = Held::default();
    for ((user, host, target), privileges) in rows {
        let Some(role) = accounts.get(&(user.clone(), host.clone())) else {
            let in_use = user.is_empty() || accounts.keys().any(|(other, _)| *other == user);
            if in_use {
                held.ownerless.push(Ownerless { user, host });
            }
            continue;
        };
        let grantee = Grantee { user, host, role: *role };
        if !skip.contains(&grantee.plain()) {
            held.grants.push(Grant { grantee, target, privileges });
        }
    }
    let flavour = session.about().flavour;
    held.grants.sort_by(|a, b| {
        a.grantee.cmp(&b.grantee).then_with(|| match (&a.target, &b.target) {
            (Target::Databases(a), Target::Databases(b)) => order(flavour, a, b),
            (a, b) => a.cmp(b),
        })
    });
    Ok(held)
}

/// Privileges by user, host and target.
type Rows = BTreeMap<(String, String, Target), Privileges>;

fn database_rows(name: &str) -> Question<Row> {
    // The comparison by bytes is the server's own for these rows; see `ident::covers`.
    let sql = format!(
        "SELECT * FROM mysql.db WHERE CAST({} AS BINARY) LIKE CAST(Db AS BINARY)",
        literal(name)
    );
    Question::new(READING, sql)
}

fn databases(found: Vec<Row>, name: &str) -> Rows {
    let mut rows = Rows::new();
    for row in found {
        let text = |column: &str| row.get::<String, _>(column).unwrap_or_default();
        let (user, host, db) = (text("User"), text("Host"), text("Db"));
        let privileges: Privileges = row
            .columns_ref()
            .iter()
            .enumerate()
            .filter(|(i, _)| matches!(row.as_ref(*i), Some(Value::Bytes(b)) if b == b"Y"))
            .filter_map(|(_, column)| column_privilege(&column.name_str()))
            .collect();
        if covers(&db, name) && !privileges.is_empty() {
            rows.insert((user, host, Target::Databases(db)), privileges);
        }
    }
    rows
}

/// The privilege that a column of `mysql.db` stands for.
fn column_privilege(column: &str) -> Option<String> {
    let stem = column.strip_suffix("_priv")?;
    Some(match stem {
        "Grant" => GRANT_OPTION.to_owned(),
        "Create_tmp_table" => "CREATE TEMPORARY TABLES".to_owned(),
        _ => stem.replace('_', " ").to_uppercase(),
    })
}

/// The privilege that a word in the sets of `tables_priv` and `procs_priv` stands for.
fn word_privilege(word: &str) -> String {
    match word {
        "Grant" => GRANT_OPTION.to_owned(),
        "Delete versioning rows" => "DELETE HISTORY".to_owned(),
        _ => word.to_uppercase(),
    }
}

fn words(set: &str) -> impl Iterator<Item = String> + '_ {
    set.split(',').filter(|word| !word.is_empty()).map(word_privilege)
}

/// A row of `tables_priv`: user, host, table, privileges.
type TableRow = (String, String, String, String);

fn table_rows(name: &str) -> Question<TableRow> {
    let sql = format!(
        "SELECT User, Host, Table_name, Table_priv FROM mysql.tables_priv WHERE Db = {}",
        literal(name)
    );
    Question::new(READING, sql)
}

async fn tables(session: &mut Session, tables: Vec<TableRow>, name: &str) -> Result<Rows, Error> {
    if tables.is_empty() {
        return Ok(Rows::new());
    }
    let sql = format!(
        "SELECT User, Host, Table_name, Column_name, Column_priv FROM mysql.columns_priv \
         WHERE Db = {}",
        literal(name)
    );
    let columns: Vec<(String, String, String, String, String)> =
        session.rows(READING, &sql).await?;
    let there = existing_columns(session, name, &tables, !columns.is_empty()).await?;
    let mut rows = Rows::new();
    for (user, host, table, set) in tables {
        let privileges: Privileges = words(&set).collect();
        // A grant on a table that is gone means nothing, and could not be given again, unless it
        // is the right to create that table.
        let counts = there.contains_key(&table) || privileges.contains("CREATE");
        if counts && !privileges.is_empty() {
            rows.insert((user, host, Target::Table(table)), privileges);
        }
    }
    for (user, host, table, column, set) in columns {
        if there.get(&table).is_some_and(|columns| columns.contains(&column.to_lowercase())) {
            let privileges = words(&set).map(|word| format!("{word} ({})", ident(&column)));
            rows.entry((user, host, Target::Table(table))).or_default().extend(privileges);
        }
    }
    Ok(rows)
}

/// The tables among those named that exist, and their columns in lower case when asked for.
async fn existing_columns(
    session: &mut Session,
    name: &str,
    tables: &[TableRow],
    columns: bool,
) -> Result<BTreeMap<String, BTreeSet<String>>, Error> {
    let names: BTreeSet<&str> = tables.iter().map(|(_, _, table, _)| table.as_str()).collect();
    let condition =
        format!("TABLE_SCHEMA = {} AND TABLE_NAME IN ({})", literal(name), literals(names));
    let sql = format!("SELECT TABLE_NAME FROM information_schema.TABLES WHERE {condition}");
    let found: Vec<String> = session.rows(READING, &sql).await?;
    let mut there: BTreeMap<String, BTreeSet<String>> =
        found.into_iter().map(|table| (table, BTreeSet::new())).collect();
    if columns {
        let sql = format!(
            "SELECT TABLE_NAME, COLUMN_NAME FROM information_schema.COLUMNS WHERE {condition}"
        );
        for (table, column) in session.rows::<(String, String)>(READING, &sql).await? {
            there.entry(table).or_default().insert(column.to_lowercase());
        }
    }
    Ok(there)
}

/// A row of `procs_priv` of a routine that is there: user, the bytes of its name as it stands there, host,
/// the routine's kind and name, privileges.
type RoutineRow = (String, Vec<u8>, String, String, String, String);

/// MariaDB writes the names in `procs_priv` as if their bytes were latin1 (measured with 10.11): an
/// `é` stands there as `Ã©`, and what gets too long is cut off. In memory, until the next restart, the grant is right all the same.
fn routine_rows(flavour: Flavour, name: &str) -> Question<RoutineRow> {
    let name = literal(name);
    if flavour == Flavour::MySql {
        let sql = format!(
            "SELECT p.User, '', p.Host, p.Routine_type, r.ROUTINE_NAME, p.Proc_priv \
             FROM mysql.procs_priv p JOIN information_schema.ROUTINES r \
             ON r.ROUTINE_SCHEMA = {name} AND r.ROUTINE_TYPE = p.Routine_type \
             AND r.ROUTINE_NAME = p.Routine_name WHERE p.Db = {name}"
        );
        return Question::new(READING, sql);
    }
    let mangled = |name| format!("LEFT({}, {NAME_CHARS_MAX})", mangled(name));
    let (mangled_name, mangled_routine) = (mangled(&name), mangled("r.name"));
    // The row of a routine that is gone means nothing, and could not be given again.
    let sql = format!(
        "SELECT p.User, CAST(CONVERT(p.User USING latin1) AS BINARY), p.Host, p.Routine_type, \
         r.name, p.Proc_priv FROM mysql.procs_priv p JOIN mysql.proc r ON r.db = {name} \
         AND r.type = p.Routine_type AND p.Routine_name IN (r.name, {mangled_routine}) \
         WHERE p.Db IN ({name}, {mangled_name})"
    );
    Question::new(READING, sql)
}

fn routines(found: Vec<RoutineRow>) -> Rows {
    found
        .into_iter()
        .map(|(user, bytes, host, kind, routine, set)| {
            let user = match String::from_utf8(bytes) {
                Ok(meant) if !meant.is_ascii() => meant,
                _ => user,
            };
            ((user, host, Target::Routine(kind, routine)), words(&set).collect::<Privileges>())
        })
        .filter(|(_, privileges)| !privileges.is_empty())
        .collect()
}

/// The expression for how `procs_priv` holds a name.
pub(crate) fn mangled(name: &str) -> String {
    format!("CONVERT(CAST({name} AS BINARY) USING latin1)")
}

/// The accounts and roles of these user names, and which of them are roles.
async fn accounts_named(
    session: &mut Session,
    users: &BTreeSet<&str>,
) -> Result<BTreeMap<(String, String), bool>, Error> {
    let (role, table) = match session.about().flavour {
        Flavour::MariaDb => ("IFNULL(JSON_VALUE(Priv, '$.is_role'), 0)", "global_priv"),
        Flavour::MySql => ("'0'", "user"),
    };
    let sql = format!(
        "SELECT User, Host, {role} FROM mysql.{table} WHERE User IN ({})",
        literals(users.iter().copied())
    );
    let found: Vec<(String, String, String)> = session.rows(READING, &sql).await?;
    let is_role = |text: &str| matches!(text, "1" | "true");
    Ok(found.into_iter().map(|(user, host, role)| ((user, host), is_role(&role))).collect())
}
