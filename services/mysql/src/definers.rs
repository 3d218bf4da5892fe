//! With whose rights the views, routines, triggers and scheduled events of a database run.
//!
//! A definer is only a name. At the destination the same name may be somebody else: another
//! customer, the provider, Drover itself; and whoever wrote the object at the source would have his
//! rights. So nobody is let in before each definer is one of these:
//!
//! 1. an account that comes with this migration, and so has this database's rights;
//! 2. one that both servers' configuration trusts: who made the object at the source is trusted.
//!    Drover's own account is not among them;
//! 3. one that the campaign's policy has put in another's place ([`successors`]);
//! 4. nobody at the destination: then the object has no rights at all.
//!
//! A server takes a definer as it takes a login: `shop@10.1.2.3` has the rights of `shop@%` where there
//! is no account of that very host (measured with MariaDB 10.11).

use std::collections::BTreeSet;

use drover_schemas::Code;
use mysql_async::Row;

use crate::{
    Accounts, Error, Flavour, Session,
    ident::{covers, ident, literal, literals},
    privileges,
    questions::{Question, Questions},
    successors,
    successors::Changes,
};

/// Whom a source's configuration trusts, Drover's own account aside: who has made something there with
/// one of these as its definer is trusted.
pub(crate) fn trusted(session: &Session) -> BTreeSet<String> {
    let mut trusted = privileges::trusted(session);
    trusted.remove(&own(session));
    trusted
}

/// Refuses a copy with a definer who is somebody else here. `changes` are those that the policy has put
/// there.
pub(crate) async fn check(
    session: &mut Session,
    database: &str,
    accounts: &Accounts,
    changes: &Changes,
) -> Result<(), Error> {
    successors::check(session, changes).await?;
    let (trusted, own) = (privileges::trusted(session), own(session));
    let come = names(accounts);
    let named: BTreeSet<&String> = changes.values().collect();
    let allowed = |name: &String| {
        come.contains(name)
            || named.contains(name)
            || (accounts.trusted_definers.contains(name) && trusted.contains(name))
    };
    let mut others = all(session, database).await?;
    others.retain(|name| *name == own || !allowed(name));
    let here = existing(session, &others).await?;
    // One that stands for an account of this migration's own may do what that may.
    let somebody = |name: &&String| here.iter().any(|it| it.is(name) && !come.contains(&it.name()));
    match others.iter().find(somebody) {
        None => Ok(()),
        Some(name) => {
            let what = format!("{}: {}", ident(database), literal(name));
            Err(session.server().found(Code::DefinerTaken, what))
        }
    }
}

/// Those of `definers` who neither come with a database nor are here.
pub(crate) async fn missing(
    session: &mut Session,
    mut definers: BTreeSet<String>,
    come: &Accounts,
) -> Result<BTreeSet<String>, Error> {
    let names = names(come);
    let coming: Vec<Here> = names.iter().map(|name| Here::of(name)).collect();
    definers.retain(|name| !names.contains(name) && !coming.iter().any(|it| it.is(name)));
    let here = existing(session, &definers).await?;
    definers.retain(|name| !here.iter().any(|it| it.is(name)));
    Ok(definers)
}

/// The accounts and roles that come, as a definer may be written.
fn names(accounts: &Accounts) -> BTreeSet<String> {
    let come = accounts.accounts.iter().map(|account| account.grantee.plain());
    let roles = accounts.roles.iter().flat_map(|role| [role.clone(), format!("{role}@")]);
    come.chain(roles).collect()
}

fn own(session: &Session) -> String {
    let (user, host) = &session.about().account;
    format!("{user}@{host}")
}

/// All definers of a database's objects: `user@host`.
async fn all(session: &mut Session, database: &str) -> Result<BTreeSet<String>, Error> {
    const READING: &str = "reading the definers";
    let (name, views) = (literal(database), views(database));
    let triggers = format!(
        "SELECT DEFINER FROM information_schema.TRIGGERS WHERE EVENT_OBJECT_SCHEMA = {name}"
    );
    if session.about().flavour == Flavour::MySql {
        let sql = format!(
            "{views} UNION {triggers} \
             UNION SELECT DEFINER FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA = {name} \
             UNION SELECT DEFINER FROM information_schema.EVENTS WHERE EVENT_SCHEMA = {name}"
        );
        return Ok(session.rows(READING, &sql).await?.into_iter().collect());
    }
    // MariaDB opens every table to tell which are views and who defined those, and makes a table in a
    // file for each question to its schema of views, routines or events.
    let mut questions = Questions::default();
    let are_views = format!("SHOW FULL TABLES FROM {} WHERE Table_type = 'VIEW'", ident(database));
    let are_views = questions.add(Question::<Row>::new(READING, are_views));
    let programs = format!(
        "{triggers} UNION SELECT definer FROM mysql.proc WHERE db = {name} \
         UNION SELECT definer FROM mysql.event WHERE db = {name}"
    );
    let programs = questions.add(Question::<String>::new(READING, programs));
    let mut answers = session.ask_all(questions).await?;
    let mut found: BTreeSet<String> = answers.take(programs)?.into_iter().collect();
    if !answers.take(are_views)?.is_empty() {
        found.extend(session.rows::<String>(READING, &views).await?);
    }
    Ok(found)
}

/// The query for the definers of a database's views.
fn views(database: &str) -> String {
    let name = literal(database);
    format!("SELECT DEFINER FROM information_schema.VIEWS WHERE TABLE_SCHEMA = {name}")
}

/// An account, or a role of MariaDB's, which has no host.
struct Here {
    user: String,
    host: String,
}

impl Here {
    fn of(name: &str) -> Self {
        let (user, host) = name.rsplit_once('@').unwrap_or((name, ""));
        Self { user: user.to_owned(), host: host.to_owned() }
    }

    fn name(&self) -> String {
        if self.host.is_empty() {
            self.user.clone()
        } else {
            format!("{}@{}", self.user, self.host)
        }
    }

    /// Whether a definer of this name may have its rights.
    fn is(&self, definer: &str) -> bool {
        let other = Self::of(definer);
        self.user == other.user && stands_for(&self.host, &other.host)
    }
}

/// Whether the host of an account may be taken for a definer's. Which addresses a network has is
/// not worked out: any may be meant.
pub(crate) fn stands_for(pattern: &str, host: &str) -> bool {
    let (pattern, host) = (pattern.to_lowercase(), host.to_lowercase());
    pattern == host || (!host.is_empty() && (pattern.contains('/') || covers(&pattern, &host)))
}

/// The accounts and roles here of these definers' user names.
async fn existing(session: &mut Session, definers: &BTreeSet<String>) -> Result<Vec<Here>, Error> {
    if definers.is_empty() {
        return Ok(Vec::new());
    }
    let users: BTreeSet<String> = definers.iter().map(|name| Here::of(name).user).collect();
    let sql = format!(
        "SELECT User, Host FROM mysql.{} WHERE User IN ({})",
        table(session),
        literals(users.iter().map(String::as_str))
    );
    let found: Vec<(String, String)> = session.rows("reading the accounts", &sql).await?;
    Ok(found.into_iter().map(|(user, host)| Here { user, host }).collect())
}

/// The hosts of the accounts of this user name.
pub(crate) async fn hosts_of(session: &mut Session, user: &str) -> Result<Vec<String>, Error> {
    let (table, user) = (table(session), literal(user));
    let sql = format!("SELECT Host FROM mysql.{table} WHERE User = {user} AND Host <> ''");
    session.rows("reading the accounts", &sql).await
}

fn table(session: &Session) -> &'static str {
    match session.about().flavour {
        Flavour::MariaDb => "global_priv",
        Flavour::MySql => "user",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_definer_has_the_rights_of_whom_a_server_takes_it_for() {
        for (here, definer, yes) in [
            ("shop@%", "shop@10.1.2.3", true),
            ("shop@10.1.%", "shop@10.1.2.3", true),
            ("shop@10.2.%", "shop@10.1.2.3", false),
            ("shop@10.0.0.0/255.0.0.0", "shop@10.1.2.3", true),
            ("shop@LOCALHOST", "shop@localhost", true),
            ("Shop@%", "shop@%", false),
            ("shop@localhost", "shop@%", false),
            ("role", "role@", true),
            ("role", "role@%", false),
            ("role@%", "role", false),
        ] {
            assert_eq!(Here::of(here).is(definer), yes, "{here} {definer}");
        }
    }
}
