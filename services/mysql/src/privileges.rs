//! Who holds what on one database ([`held`]), and how to say it in `GRANT` and `REVOKE`.
//!
//! Changes go through statements, so that the server's memory, its tables and its replicas stay one.

use std::collections::BTreeSet;

use drover_schemas::Code;
use serde::{Deserialize, Serialize};

use crate::{
    Error, Flavour, Session,
    grant_tables::Ownerless,
    ident::{account, ident, literals},
    mysql,
};

pub use crate::grant_tables::{Held, held};

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

const READING: &str = "reading the grant tables";

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
