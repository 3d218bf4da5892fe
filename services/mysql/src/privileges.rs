//! Who holds what on one database, read from the grant tables row by row, and how to say it in
//! `GRANT` and `REVOKE`.
//!
//! The tables are read rather than `SHOW GRANTS`, as one query over each answers for all
//! accounts, and as the text of a row's `Db` matters: `my_db`, `my\_db` and `my%` are three rows
//! that cover the same database. Changes go through statements, so that the server's memory, its
//! tables and its replicas stay one.

use std::collections::{BTreeMap, BTreeSet};

use drover_schemas::Code;
use mysql_async::{Row, Value, prelude::Queryable as _};
use serde::{Deserialize, Serialize};

use crate::{
    Error, Flavour, Session,
    ident::{NAME_CHARS_MAX, account, covers, ident, literal, literals},
    mysql,
    precedence::order,
};

/// A set of privileges as `GRANT` names them; `INSERT (`c`)` for a column; [`GRANT_OPTION`].
pub type Privileges = BTreeSet<String>;

/// The privilege to hand on the others.
pub const GRANT_OPTION: &str = "GRANT OPTION";

/// An account or role.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grantee {
    /// The user's or role's name; empty: the anonymous user.
    pub user: String,
    /// The host pattern; empty for a role.
    pub host: String,
    /// Whether it is a role.
    pub role: bool,
}

impl Grantee {
    /// Whether it is the role that everyone has (MariaDB 10.11 and newer).
    pub fn is_public(&self) -> bool {
        self.role && self.user == "PUBLIC"
    }

    /// As it stands in a statement.
    pub fn sql(&self) -> String {
        match self {
            _ if self.is_public() => "PUBLIC".to_owned(),
            Self { user, role: true, .. } => ident(user),
            Self { user, host, role: false } => account(user, host),
        }
    }

    /// As it stands in `trusted_accounts` and in a definer.
    pub fn plain(&self) -> String {
        if self.role { self.user.clone() } else { format!("{}@{}", self.user, self.host) }
    }
}

/// What a grant is on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Target {
    /// All databases that the text of `mysql.db` covers.
    Databases(String),
    /// A table or view of the database, and its columns.
    Table(String),
    /// A routine of the database: its kind, as in `GRANT … ON PROCEDURE`, and name.
    Routine(String, String),
}

impl Target {
    /// As it stands in a statement.
    pub fn sql(&self, database: &str) -> String {
        match self {
            Self::Databases(text) => format!("{}.*", ident(text)),
            Self::Table(name) => format!("TABLE {}.{}", ident(database), ident(name)),
            Self::Routine(kind, name) => format!("{kind} {}.{}", ident(database), ident(name)),
        }
    }
}

/// What one grantee holds on one target.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// Who.
    pub grantee: Grantee,
    /// On what.
    pub target: Target,
    /// Which privileges.
    pub privileges: Privileges,
}

impl Grant {
    /// The statement that gives all of it.
    pub fn grant(&self, database: &str) -> String {
        let list: Vec<&str> = self
            .privileges
            .iter()
            .map(String::as_str)
            .filter(|privilege| *privilege != GRANT_OPTION)
            .collect();
        let list = if list.is_empty() { "USAGE".to_owned() } else { list.join(", ") };
        let option = if self.privileges.contains(GRANT_OPTION) { " WITH GRANT OPTION" } else { "" };
        let (target, grantee) = (self.target.sql(database), self.grantee.sql());
        format!("GRANT {list} ON {target} TO {grantee}{option}")
    }

    /// The statement that takes all of it away.
    pub fn revoke(&self, database: &str) -> String {
        let list: Vec<&str> = self.privileges.iter().map(String::as_str).collect();
        let (target, grantee) = (self.target.sql(database), self.grantee.sql());
        format!("REVOKE {} ON {target} FROM {grantee}", list.join(", "))
    }
}

/// Whether a privilege lets its holder read and no more.
pub fn is_read(privilege: &str) -> bool {
    matches!(privilege, "SELECT" | "SHOW VIEW" | "SHOW CREATE ROUTINE")
        || privilege.starts_with("SELECT (")
}

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
    let folded = session.about().lower_case_table_names != 0;
    let name = if folded { database.to_lowercase() } else { database.to_owned() };
    let mut rows = database_rows(session, &name).await?;
    rows.extend(table_rows(session, &name).await?);
    rows.extend(routine_rows(session, &name).await?);
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

async fn database_rows(session: &mut Session, name: &str) -> Result<Rows, Error> {
    // The comparison by bytes is the server's own for these rows; see `ident::covers`.
    let sql = format!(
        "SELECT * FROM mysql.db WHERE CAST({} AS BINARY) LIKE CAST(Db AS BINARY)",
        literal(name)
    );
    let found: Vec<Row> = raw(session, &sql).await?;
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
    Ok(rows)
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

async fn table_rows(session: &mut Session, name: &str) -> Result<Rows, Error> {
    let sql = format!(
        "SELECT User, Host, Table_name, Table_priv FROM mysql.tables_priv WHERE Db = {}",
        literal(name)
    );
    let tables: Vec<(String, String, String, String)> = session.rows(READING, &sql).await?;
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
    tables: &[(String, String, String, String)],
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

/// MariaDB writes the names in `procs_priv` as if their bytes were latin1 (measured with 10.11): an
/// `é` stands there as `Ã©`, and what gets too long is cut off. In memory, until the next restart, the grant is right all the same.
async fn routine_rows(session: &mut Session, name: &str) -> Result<Rows, Error> {
    let name = literal(name);
    if session.about().flavour == Flavour::MySql {
        return mysql_routine_rows(session, &name).await;
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
    let found: Vec<(String, Vec<u8>, String, String, String, String)> =
        session.rows(READING, &sql).await?;
    Ok(found
        .into_iter()
        .map(|(user, bytes, host, kind, routine, set)| {
            let user = match String::from_utf8(bytes) {
                Ok(meant) if !meant.is_ascii() => meant,
                _ => user,
            };
            ((user, host, Target::Routine(kind, routine)), words(&set).collect::<Privileges>())
        })
        .filter(|(_, privileges)| !privileges.is_empty())
        .collect())
}

async fn mysql_routine_rows(session: &mut Session, name: &str) -> Result<Rows, Error> {
    let sql = format!(
        "SELECT p.User, p.Host, p.Routine_type, r.ROUTINE_NAME, p.Proc_priv \
         FROM mysql.procs_priv p JOIN information_schema.ROUTINES r ON r.ROUTINE_SCHEMA = {name} \
         AND r.ROUTINE_TYPE = p.Routine_type AND r.ROUTINE_NAME = p.Routine_name \
         WHERE p.Db = {name}"
    );
    let found: Vec<(String, String, String, String, String)> = session.rows(READING, &sql).await?;
    Ok(found
        .into_iter()
        .map(|(user, host, kind, routine, set)| {
            ((user, host, Target::Routine(kind, routine)), words(&set).collect::<Privileges>())
        })
        .filter(|(_, privileges)| !privileges.is_empty())
        .collect())
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

async fn raw(session: &mut Session, sql: &str) -> Result<Vec<Row>, Error> {
    let server = session.server().clone();
    session.conn().query(sql).await.map_err(|e| server.statement_error(READING, &e))
}

/// The user names whose sessions may use what these grantees hold: theirs, those of the roles'
/// members, and those that log in as a proxy of one of them. `None`: everyone.
pub async fn users_of(
    session: &mut Session,
    grantees: &BTreeSet<Grantee>,
) -> Result<Option<BTreeSet<String>>, Error> {
    let everyone = |g: &Grantee| g.is_public() || g.user.is_empty();
    if grantees.iter().any(everyone) {
        return Ok(None);
    }
    let (roles, accounts): (Vec<&Grantee>, Vec<&Grantee>) = grantees.iter().partition(|g| g.role);
    let mut users: BTreeSet<String> = accounts.into_iter().map(|g| g.user.clone()).collect();
    if session.about().flavour == Flavour::MySql {
        let members = mysql::members(session, grantees).await?;
        users.extend(members.into_iter().map(|member| member.grantee.user));
    }
    if !roles.is_empty() {
        let sql = "SELECT User, Host, Role FROM mysql.roles_mapping";
        let mapping: Vec<(String, String, String)> = session.rows(READING, sql).await?;
        // Who made a role has it: the provider's accounts are not the customer's for that.
        users.extend(members(&roles, &mapping, &trusted(session)));
    }
    let sql = format!(
        "SELECT User FROM mysql.proxies_priv WHERE Proxied_user IN ({})",
        literals(users.iter().map(String::as_str))
    );
    users.extend(session.rows::<String>(READING, &sql).await?);
    Ok((!users.contains("")).then_some(users))
}

/// The members of roles, and of roles that have them.
fn members(
    roles: &[&Grantee],
    mapping: &[(String, String, String)],
    trusted: &BTreeSet<String>,
) -> BTreeSet<String> {
    let mut members = BTreeSet::new();
    let mut todo: Vec<&str> = roles.iter().map(|role| role.user.as_str()).collect();
    let mut seen = BTreeSet::new();
    while let Some(role) = todo.pop() {
        if !seen.insert(role) {
            continue;
        }
        for (user, host, _) in mapping.iter().filter(|(_, _, has)| has == role) {
            if host.is_empty() {
                todo.push(user);
            } else if !trusted.contains(&format!("{user}@{host}")) {
                members.insert(user.clone());
            }
        }
    }
    members
}

/// Whom to leave out: the trusted accounts and Drover's own.
pub fn trusted(session: &Session) -> BTreeSet<String> {
    let (user, host) = &session.about().account;
    let mut trusted: BTreeSet<String> =
        session.server().options().trusted_accounts.iter().cloned().collect();
    trusted.insert(format!("{user}@{host}"));
    trusted
}

/// The error for a row without an account.
pub(crate) fn ownerless(session: &Session, database: &str, row: &Ownerless) -> Error {
    session.server().found(
        Code::ForeignWriter,
        format!(
            "{}: a row of the grant tables for {} has no account, and serves other accounts",
            ident(database),
            account(&row.user, &row.host)
        ),
    )
}
