//! Open: the customer's accounts are let in at the destination, with the same passwords and
//! grants, and the scheduled events run.
//!
//! All that can fail comes first: the accounts, and their roles. The grants are last, the
//! database's own behind those of its tables and routines; with them the customer writes.

use drover_lifecycle::ledger::{Act, Move, Refusal};
use drover_schemas::{Code, v1};
use serde::{Deserialize, Serialize};

use crate::{
    Accounts, Error, Order, Server, Session,
    accounts::{Account, make},
    aside, definers,
    freeze::check_there,
    given,
    guard::not_reachable,
    ident::ident,
    ledger::{Locked, Side, State},
    privileges::{self, Grantee, Target},
    successors::Changes,
    takeaway::{Undo, unmask},
};

/// How many statements go to the server at once.
const STATEMENTS_AT_ONCE: usize = 100;

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Facts {
    pub accounts: u32,
    pub opened_at_unix_ms: i64,
    /// What the import did to the copy's definers.
    #[serde(default)]
    pub definers: Changes,
}

impl Facts {
    /// What the ledger has; nothing of a copy that is not there.
    pub(crate) fn of(locked: &Locked) -> Result<Self, Error> {
        Ok(locked.facts::<Option<Self>>()?.flatten().unwrap_or_default())
    }
}

impl From<Facts> for v1::DestinationOpened {
    fn from(facts: Facts) -> Self {
        let Facts { accounts, opened_at_unix_ms, .. } = facts;
        Self { accounts, opened_at_unix_ms, took_us: 0 }
    }
}

/// Lets the customer's accounts in.
///
/// # Errors
/// Beside those of [`Locked::take`]: `ReachableEarly`, `DefinerTaken`, `DefinerRefused`, `AccountTaken`, `AccountUnsupported`, `GrantsDiffer`. What
/// was done by then is undone by [`close`](crate::close()).
pub async fn open(
    server: &Server,
    order: &Order,
    accounts: &Accounts,
) -> Result<v1::DestinationOpened, Error> {
    let mut locked = Locked::take(server, order, Side::Destination).await?;
    let result = open_locked(&mut locked, accounts).await;
    crate::finish(locked, result).await
}

async fn open_locked(
    locked: &mut Locked,
    accounts: &Accounts,
) -> Result<v1::DestinationOpened, Error> {
    let database = locked.order().database.clone();
    let brings_back = locked.order().brings_back.is_some();
    match locked.permit(Act::Open)? {
        Move::Begin => {
            check_copy(locked).await?;
            not_reachable(locked.session(), &database, brings_back).await?;
        }
        Move::GoOn => {}
        Move::Again | Move::Rest => {
            let facts = Facts::of(locked)?;
            locked.write(State::Open, &facts).await?;
            return Ok(facts.into());
        }
    }
    check_there(locked.session(), &database).await?;
    let definers = Facts::of(locked)?.definers;
    definers::check(locked.session(), &database, accounts, &definers).await?;
    let accounts = &accounts.clone().with_definers(&definers);
    let undo = Undo {
        grants: accounts.grants.clone(),
        events: accounts.events.clone(),
        ..Undo::default()
    };
    locked.write_undo(State::Opening, &undo, &away(&undo, &database)).await?;
    make_all(locked, accounts).await?;
    let session = locked.session();
    grant_all(session, accounts, &database).await?;
    if brings_back {
        take_masks(session, accounts, &database).await?;
    }
    given::check(session, &database, accounts, brings_back).await?;
    let opened_at_unix_ms = session.now_unix_ms().await?;
    let made = u32::try_from(accounts.accounts.len()).unwrap_or(u32::MAX);
    let facts = Facts { accounts: made, opened_at_unix_ms, definers };
    locked.write(State::Open, &facts).await?;
    Ok(facts.into())
}

/// What takes away again what the opening gives.
fn away(undo: &Undo, database: &str) -> Vec<String> {
    let events = undo.events.iter().flat_map(|event| event.disable(database));
    events.chain(undo.grants.iter().map(|grant| grant.revoke(database))).collect()
}

/// Whether the ledger knows a copy of this migration here: a tombstone has none.
async fn check_copy(locked: &mut Locked) -> Result<(), Error> {
    let sql = format!(
        "SELECT migration FROM drover.copy WHERE migration = '{}' AND made",
        locked.order().migration
    );
    let copies: Vec<String> = locked.session().rows("reading the ledger", &sql).await?;
    if copies.is_empty() { Err(locked.refused(Refusal::Outdated)) } else { Ok(()) }
}

async fn make_all(locked: &mut Locked, accounts: &Accounts) -> Result<(), Error> {
    let (owners, known) = aside::owners(locked).await?;
    for role in &accounts.roles {
        let grantee = Grantee { user: role.clone(), host: String::new(), role: true };
        make(locked, &grantee, None, owners.contains(&grantee)).await?;
    }
    for account in &accounts.accounts {
        let in_role = known.iter().any(|member| member.grantee == account.grantee);
        let own = owners.contains(&account.grantee) && !in_role;
        make(locked, &account.grantee, Some(account), own).await?;
    }
    let mut statements = Vec::new();
    for member in accounts.members.iter().filter(|member| !known.contains(member)) {
        let role = Grantee { user: member.role.clone(), host: String::new(), role: true };
        if owners.contains(&role) {
            // Only who may hand a role on can give it, which Drover may with those that it made.
            let what = format!("{} has not the role {} here", member.grantee.sql(), role.sql());
            return Err(locked.server().found(Code::AccountTaken, what));
        }
        let option = if member.admin { " WITH ADMIN OPTION" } else { "" };
        let (role, grantee) = (member.role_sql(), member.grantee.sql());
        statements.push(format!("GRANT {role} TO {grantee}{option}"));
    }
    let comes = |role: &String| accounts.roles.contains(role);
    statements.extend(accounts.accounts.iter().filter_map(|account: &Account| {
        let role = account.default_role.as_ref().filter(|role| comes(role))?;
        Some(format!("SET DEFAULT ROLE {} FOR {}", ident(role), account.grantee.sql()))
    }));
    statements.extend(accounts.accounts.iter().filter_map(|a| a.set_default_roles(accounts)));
    run(locked.session(), &statements).await
}

async fn grant_all(
    session: &mut Session,
    accounts: &Accounts,
    database: &str,
) -> Result<(), Error> {
    let (whole, parts): (Vec<_>, Vec<_>) =
        accounts.grants.iter().partition(|grant| matches!(grant.target, Target::Databases(_)));
    let grants = parts.into_iter().chain(whole).map(|grant| grant.grant(database));
    let statements: Vec<String> = grants.chain(accounts.enable_events(database)).collect();
    run(session, &statements).await
}

/// Where the retired database has left rows that mask others, those who were given something again
/// have just that.
async fn take_masks(
    session: &mut Session,
    accounts: &Accounts,
    database: &str,
) -> Result<(), Error> {
    let trusted = privileges::trusted(session);
    let held = privileges::held(session, database, &trusted).await?;
    run(session, &unmask(&accounts.grants, &held.grants, database)).await
}

async fn run(session: &mut Session, statements: &[String]) -> Result<(), Error> {
    for some in statements.chunks(STATEMENTS_AT_ONCE) {
        session.run("giving privileges", &some.join("; ")).await?;
    }
    Ok(())
}
