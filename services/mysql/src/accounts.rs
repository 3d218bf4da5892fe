//! The accounts of a database: what they are, as they were before the freeze, and making the same
//! at the destination.
//!
//! 1. What was granted comes from the ledger, which recorded it before anything was taken away;
//!    what an account is (plugin, hash, limits, TLS, lock, expiry) from the server, which the
//!    freeze left as it was.
//! 2. [`Accounts`] holds password hashes. It is sealed on its way; it is never in an event, a log,
//!    an argument or the dump; its `Debug` shows names only. Statements that carry a hash go over
//!    the connection with the server's general log off for the session. The destination's binary
//!    log does get them, as it gets every account: its replicas need them.
//! 3. An account may serve several databases that move at the same time. Each account has a lock,
//!    and `drover.account` says which migrations use it and whether Drover made it.

mod make;
mod renamed;
mod stored;

use std::{collections::BTreeSet, fmt};

use drover_schemas::Code;
use serde::{Deserialize, Serialize};

use crate::{
    Error, Flavour, Order, Server, Session, definers,
    events::ScheduledEvent,
    freeze, guard,
    ident::{self, ident},
    ledger::{self, Side, State},
    mysql,
    privileges::{Grant, Grantee},
    questions::Questions,
    successors::Changes,
    takeaway::{Leave, Undo},
};

pub(crate) use make::{make, release};
pub(crate) use stored::{has_global_rights, logs_in_as};

use stored::{READING, Stored, stored};

/// The accounts and roles of one database, with their password hashes: secret.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Accounts {
    /// The accounts.
    pub accounts: Vec<Account>,
    /// The roles that have privileges on the database, and the roles that have those.
    pub roles: Vec<String>,
    /// Who has which role.
    pub members: Vec<Member>,
    /// The grants, each on this database alone.
    pub grants: Vec<Grant>,
    /// The scheduled events that were enabled.
    pub events: Vec<ScheduledEvent>,
    /// Whom the source's configuration trusts, and so also as a definer: `user@host`.
    #[serde(default)]
    pub trusted_definers: BTreeSet<String>,
}

/// An account.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Account {
    /// Its name.
    pub grantee: Grantee,
    /// The first of its plugins, for messages.
    pub plugin: String,
    /// How it proves who it is, as JSON: what must be the same for two accounts to be one.
    pub login: String,
    /// What stands behind the name in its CREATE USER.
    pub definition: String,
    /// The role that it begins with.
    pub default_role: Option<String>,
    /// On MySQL: the roles that it begins with, which are accounts.
    #[serde(default)]
    pub default_roles: Vec<Grantee>,
}

/// A role's member.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Member {
    /// The role.
    pub role: String,
    /// Its host; empty on MariaDB.
    #[serde(default)]
    pub role_host: String,
    /// Who has it.
    pub grantee: Grantee,
    /// Whether with the right to hand it on.
    pub admin: bool,
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account").field("grantee", &self.grantee).finish_non_exhaustive()
    }
}

impl fmt::Debug for Accounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Accounts").field("accounts", &self.accounts).finish_non_exhaustive()
    }
}

impl Member {
    /// The role, as it stands in a statement.
    pub(crate) fn role_sql(&self) -> String {
        if self.role_host.is_empty() {
            ident(&self.role)
        } else {
            ident::account(&self.role, &self.role_host)
        }
    }
}

impl Account {
    /// The statement that gives it those of its default roles that come with it (MySQL).
    pub(crate) fn set_default_roles(&self, all: &Accounts) -> Option<String> {
        let come = |role: &&Grantee| all.accounts.iter().any(|account| account.grantee == **role);
        let roles: Vec<String> = self.default_roles.iter().filter(come).map(Grantee::sql).collect();
        let (roles, name) = (roles.join(", "), self.grantee.sql());
        (!roles.is_empty()).then(|| format!("SET DEFAULT ROLE {roles} TO {name}"))
    }
}

impl Accounts {
    /// The statements that enable the scheduled events again: what a dump of the frozen source
    /// lacks.
    pub fn enable_events(&self, database: &str) -> Vec<String> {
        self.events.iter().flat_map(|event| event.enable(Some(database))).collect()
    }

    /// The same, with the events of these definers as the copy has them.
    pub(crate) fn with_definers(mut self, changes: &Changes) -> Self {
        for event in &mut self.events {
            let becomes = changes.get(&format!("{}@{}", event.user, event.host));
            if let Some((user, host)) = becomes.and_then(|becomes| becomes.rsplit_once('@')) {
                (event.user, event.host) = (user.to_owned(), host.to_owned());
            }
        }
        self
    }
}

/// Reads the accounts of a frozen database. In a rehearsal: of the database as it is, after the looks
/// of a freeze, and without what an account proves itself by, as none is made.
///
/// # Errors
/// In a rehearsal those that a freeze would have before it changes anything; otherwise
/// `NotFrozen` when this migration has not frozen it; `AccountUnsupported` for an account whose
/// definition cannot be read.
pub async fn accounts(server: &Server, order: &Order) -> Result<Accounts, Error> {
    if order.rehearsal {
        let (mut session, _) = server.step_session(Questions::default()).await?;
        let found = as_it_is(&mut session, &order.database).await?;
        session.give_back().await?;
        return Ok(found);
    }
    let (mut session, entry) = ledger::begin(server, order.migration, Side::Source).await?;
    let frozen = entry.filter(|e| {
        matches!(e.state, State::Freezing | State::Frozen | State::Retiring | State::Retired)
    });
    let Some(entry) = frozen else {
        return Err(server.found(Code::NotFrozen, ident(&order.database)));
    };
    let undo: Undo = serde_json::from_str(&entry.undo)
        .map_err(|e| session.unexpected("reading the ledger", e.to_string()))?;
    let found = gather(&mut session, &undo, &order.database).await?;
    session.give_back().await?;
    Ok(found)
}

async fn as_it_is(session: &mut Session, database: &str) -> Result<Accounts, Error> {
    let held = freeze::look(session, database).await?;
    guard::check(session, database).await?;
    let mut undo = Undo::default();
    // The statements that would take it away are of no use here.
    let _ = undo.take(&held.grants, database, Leave::Reads);
    let mut found = gather(session, &undo, database).await?;
    for account in &mut found.accounts {
        account.login.clear();
        account.definition.clear();
    }
    Ok(found)
}

async fn gather(session: &mut Session, undo: &Undo, database: &str) -> Result<Accounts, Error> {
    let mut grantees = undo.grantees();
    let members = memberships(session, &mut grantees).await?;
    let mut found = Accounts {
        accounts: Vec::new(),
        roles: Vec::new(),
        members,
        grants: undo.in_force(database),
        events: undo.events.clone(),
        trusted_definers: definers::trusted(session),
    };
    for grantee in grantees {
        if !grantee.role {
            found.accounts.push(describe(session, grantee).await?);
        } else if !grantee.is_public() {
            found.roles.push(grantee.user);
        }
    }
    Ok(found)
}

/// Who has which role, of those that hold something; they become grantees.
pub(crate) async fn memberships(
    session: &mut Session,
    grantees: &mut BTreeSet<Grantee>,
) -> Result<Vec<Member>, Error> {
    let mut members = Vec::new();
    if grantees.iter().any(|grantee| grantee.role && !grantee.is_public()) {
        members = members_of(session, grantees).await?;
    }
    if session.about().flavour == Flavour::MySql {
        members = mysql::members(session, grantees).await?;
        grantees.extend(members.iter().map(|member| member.grantee.clone()));
    }
    Ok(members)
}

/// The members of the roles among `grantees`, and of roles that have those; they become grantees.
async fn members_of(
    session: &mut Session,
    grantees: &mut BTreeSet<Grantee>,
) -> Result<Vec<Member>, Error> {
    let sql = "SELECT User, Host, Role, Admin_option = 'Y' FROM mysql.roles_mapping";
    let mapping: Vec<(String, String, String, bool)> =
        session.rows("reading the roles", sql).await?;
    let trusted = crate::privileges::trusted(session);
    let mut members: Vec<Member> = Vec::new();
    loop {
        let before = members.len();
        for (user, host, role, admin) in &mapping {
            let grantee = Grantee { user: user.clone(), host: host.clone(), role: host.is_empty() };
            let role_host = String::new();
            let member = Member { role: role.clone(), role_host, grantee, admin: *admin };
            let of_ours = grantees.iter().any(|g| g.role && g.user == *role);
            if of_ours && !trusted.contains(&member.grantee.plain()) && !members.contains(&member) {
                grantees.insert(member.grantee.clone());
                members.push(member);
            }
        }
        if members.len() == before {
            return Ok(members);
        }
    }
}

async fn describe(session: &mut Session, grantee: Grantee) -> Result<Account, Error> {
    let name = grantee.sql();
    let sql = format!("SHOW CREATE USER {name}");
    let (text,): (String,) = session.one(READING, &sql).await?;
    let definition = text.strip_prefix(&format!("CREATE USER {name}"));
    let Some(definition) = definition.map(str::to_owned) else {
        return Err(session.server().found(Code::AccountUnsupported, name));
    };
    let Some(stored) = stored(session, &grantee).await? else {
        return Err(session.server().found(Code::AccountUnsupported, name));
    };
    if stored.second_password {
        let what = format!("{name}, a second password is retained");
        return Err(session.server().found(Code::AccountUnsupported, what));
    }
    let (definition, default_roles) = match session.about().flavour {
        Flavour::MariaDb => (definition, Vec::new()),
        Flavour::MySql => (
            mysql::without_default_roles(&definition),
            mysql::default_roles(session, &grantee).await?,
        ),
    };
    let Stored { login, plugin, default_role, .. } = stored;
    Ok(Account { grantee, plugin, login, definition, default_role, default_roles })
}
