//! With whose rights the views, routines, triggers and scheduled events of a database run.
//!
//! A definer is only a name. At the destination the same name may be somebody else: another
//! customer, the provider, Drover itself; and whoever wrote the object at the source would have his
//! rights. So nobody is let in before each definer is one of these:
//!
//! 1. an account that comes with this migration, and so has this database's rights;
//! 2. one that both servers' configuration trusts: who made the object at the source is trusted.
//!    Drover's own account is not among them;
//! 3. nobody at the destination: then the object has no rights at all.

use std::collections::BTreeSet;

use drover_schemas::Code;

use crate::{
    Accounts, Error, Flavour, Session,
    ident::{ident, literal},
    privileges,
};

/// The definers at a source that its configuration trusts, Drover's own account aside.
pub(crate) async fn trusted(
    session: &mut Session,
    database: &str,
) -> Result<BTreeSet<String>, Error> {
    let (trusted, own) = (privileges::trusted(session), own(session));
    let found = all(session, database).await?;
    Ok(found.into_iter().filter(|name| trusted.contains(name) && *name != own).collect())
}

/// Refuses a copy with a definer who is somebody else here.
pub(crate) async fn check(
    session: &mut Session,
    database: &str,
    accounts: &Accounts,
) -> Result<(), Error> {
    let (trusted, own) = (privileges::trusted(session), own(session));
    let come: BTreeSet<String> = accounts
        .accounts
        .iter()
        .map(|account| account.grantee.plain())
        .chain(accounts.roles.iter().flat_map(|role| [role.clone(), format!("{role}@")]))
        .collect();
    let allowed = |name: &String| {
        come.contains(name) || (accounts.trusted_definers.contains(name) && trusted.contains(name))
    };
    let mut others = all(session, database).await?;
    others.retain(|name| *name == own || !allowed(name));
    if others.is_empty() {
        return Ok(());
    }
    let here = existing(session).await?;
    match others.iter().find(|name| here.contains(*name)) {
        None => Ok(()),
        Some(name) => {
            let what = format!("{}: {}", ident(database), literal(name));
            Err(session.server().found(Code::DefinerTaken, what))
        }
    }
}

fn own(session: &Session) -> String {
    let (user, host) = &session.about().account;
    format!("{user}@{host}")
}

/// All definers of a database's objects: `user@host`.
async fn all(session: &mut Session, database: &str) -> Result<BTreeSet<String>, Error> {
    let name = literal(database);
    let sql = format!(
        "SELECT DEFINER FROM information_schema.VIEWS WHERE TABLE_SCHEMA = {name} \
         UNION SELECT DEFINER FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = {name} \
         UNION SELECT DEFINER FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA = {name} \
         UNION SELECT DEFINER FROM information_schema.EVENTS WHERE EVENT_SCHEMA = {name}"
    );
    Ok(session.rows("reading the definers", &sql).await?.into_iter().collect())
}

/// Who there is at this server; a role of MariaDB's in both ways of writing it.
async fn existing(session: &mut Session) -> Result<BTreeSet<String>, Error> {
    let table = match session.about().flavour {
        Flavour::MariaDb => "global_priv",
        Flavour::MySql => "user",
    };
    let sql = format!("SELECT User, Host FROM mysql.{table}");
    let found: Vec<(String, String)> = session.rows("reading the accounts", &sql).await?;
    let names = found.into_iter().flat_map(|(user, host)| {
        let role = host.is_empty().then(|| user.clone());
        role.into_iter().chain([format!("{user}@{host}")])
    });
    Ok(names.collect())
}
