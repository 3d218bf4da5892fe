//! Who becomes a definer at the destination in another's place, by the campaign's policy.
//!
//! 1. It is decided once, when the copy is imported, from the source's description, the accounts that
//!    come, and those that are there. What was decided is in the ledger with the copy: the comparison,
//!    the opening and a rollback go by it, whoever comes or goes meanwhile.
//! 2. Only the copy has other definers. The dump says who they were at the source: it is the old state,
//!    and the customer's.
//! 3. Whoever wrote an object at the source gets the rights of its definer. So nobody becomes one by
//!    a policy who is Drover, or who has a right on the whole server.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use drover_schemas::{Code, MigrationId, v1};

use crate::{
    Accounts, Description, Error, Server, Session, accounts, clause, definers,
    frames::FrameKind,
    ident::literal,
    ledger::{self, Side},
    listing::in_charset,
    open,
    privileges::{Grantee, Target},
};

/// The word for the account that comes with the database and holds the most on it.
pub const OWNER: &str = "owner";

/// Which definer becomes which; each as `user@host`.
pub(crate) type Changes = BTreeMap<String, String>;

/// The campaign's policy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Definers {
    /// They stay who they are.
    #[default]
    Keep,
    /// These become others, wherever they are a definer.
    Map(BTreeMap<String, String>),
    /// Who neither comes with the database nor is at the destination becomes this account, or its
    /// [`OWNER`].
    Replace(String),
}

impl From<&v1::Policy> for Definers {
    fn from(policy: &v1::Policy) -> Self {
        match &policy.definers {
            None => Self::Keep,
            Some(definers) if !definers.replace.is_empty() => {
                Self::Replace(definers.replace.clone())
            }
            Some(definers) => {
                let pair = |it: &v1::DefinerChange| (it.was.clone(), it.becomes.clone());
                Self::Map(definers.map.iter().map(pair).collect())
            }
        }
    }
}

/// The policy, and the accounts that come with a database.
#[derive(Debug, Clone, Copy)]
pub struct Successors<'a> {
    /// The policy.
    pub policy: &'a Definers,
    /// The accounts.
    pub come: &'a Accounts,
}

impl Successors<'_> {
    /// Decides for a database.
    ///
    /// # Errors
    /// `DefinerRefused`.
    pub(crate) async fn decide(
        self,
        session: &mut Session,
        description: &Description,
    ) -> Result<Changes, Error> {
        let found: BTreeSet<String> =
            description.objects.iter().filter_map(clause::definer).collect();
        let changes: Changes = match self.policy {
            Definers::Keep => Changes::new(),
            Definers::Map(map) => {
                let change = |was: String| map.get(&was).map(|becomes| (was, as_kept(becomes)));
                found.into_iter().filter_map(change).collect()
            }
            Definers::Replace(by) => {
                let by = if by == OWNER { owner(self.come) } else { Some(as_kept(by)) };
                let missing = definers::missing(session, found, self.come).await?;
                by.map(|by| missing.into_iter().map(|was| (was, by.clone())).collect())
                    .unwrap_or_default()
            }
        };
        check(session, &changes).await?;
        Ok(changes)
    }
}

/// As a server keeps it: a host has no capitals.
fn as_kept(name: &str) -> String {
    match name.rsplit_once('@') {
        Some((user, host)) => format!("{user}@{}", host.to_lowercase()),
        None => name.to_owned(),
    }
}

/// The account that holds the most on the whole database; the first by name of several.
fn owner(come: &Accounts) -> Option<String> {
    let whole = come.grants.iter().filter(|grant| {
        let known = come.accounts.iter().any(|account| account.grantee == grant.grantee);
        known && matches!(grant.target, Target::Databases(_)) && !grant.grantee.user.is_empty()
    });
    whole
        .max_by_key(|grant| (grant.privileges.len(), Reverse(&grant.grantee)))
        .map(|grant| grant.grantee.plain())
}

/// Refuses what must not become a definer.
///
/// # Errors
/// `DefinerRefused`.
pub(crate) async fn check(session: &mut Session, changes: &Changes) -> Result<(), Error> {
    let becomes: BTreeSet<&String> = changes.values().collect();
    for becomes in becomes {
        let (user, host) = becomes.rsplit_once('@').unwrap_or((becomes, ""));
        let own = &session.about().account.0;
        let why = if user.is_empty() || host.is_empty() {
            "is not one account, as user@host"
        } else if user == own {
            "is Drover's own account"
        } else if powerful(session, user).await? {
            "has rights on the whole server"
        } else {
            continue;
        };
        let what = format!("{} {why}", literal(becomes));
        return Err(session.server().found(Code::DefinerRefused, what));
    }
    Ok(())
}

/// Whether an account of this user name has a right on the whole server: whose host is meant is the
/// server's to say when the definer's rights are used.
async fn powerful(session: &mut Session, user: &str) -> Result<bool, Error> {
    for host in definers::hosts_of(session, user).await? {
        let grantee = Grantee { user: user.to_owned(), host, role: false };
        if accounts::has_global_rights(session, &grantee).await? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A statement of a dump, by the session that is about to run it, with the definer that it is to have.
pub(crate) async fn put_in(
    session: &mut Session,
    kind: FrameKind,
    sql: &[u8],
    changes: &Changes,
) -> Result<Option<Vec<u8>>, Error> {
    match kind {
        FrameKind::Routine | FrameKind::View | FrameKind::Trigger | FrameKind::Event => {}
        FrameKind::Prologue
        | FrameKind::Sequence
        | FrameKind::Table
        | FrameKind::RowsBegin
        | FrameKind::Rows
        | FrameKind::Keys
        | FrameKind::RowsEnd
        | FrameKind::Trailer => return Ok(None),
    }
    for (was, becomes) in changes {
        let to = clause::sql(becomes);
        for from in clause::prints(was) {
            let exchanged = match from.is_ascii() && to.is_ascii() {
                true => clause::exchanged(sql, from.as_bytes(), to.as_bytes()),
                false => said(session, sql, &from, &to).await?,
            };
            if exchanged.is_some() {
                return Ok(exchanged);
            }
        }
    }
    Ok(None)
}

/// The same where not all is ASCII: in the character set that the session reads statements in. What
/// cannot be said in it stays as it was, and the comparison finds it.
async fn said(
    session: &mut Session,
    sql: &[u8],
    from: &str,
    to: &str,
) -> Result<Option<Vec<u8>>, Error> {
    let doing = "exchanging a definer";
    let (charset,): (String,) = session.one(doing, "SELECT @@character_set_client").await?;
    let from = in_charset(session, doing, from, &charset).await?;
    let to = in_charset(session, doing, to, &charset).await?;
    let both = from.zip(to);
    Ok(both.and_then(|(from, to)| clause::exchanged(sql, &from, &to)))
}

/// What the copy of a database is to be at a destination, by what was decided when it was imported.
///
/// # Errors
/// What a server may answer.
pub async fn expected(
    server: &Server,
    migration: MigrationId,
    description: &Description,
) -> Result<Description, Error> {
    let mut session = server.session().await?;
    let entry = ledger::read(&mut session, migration, Side::Destination).await?;
    session.end().await?;
    let facts = entry.map(|entry| entry.facts).unwrap_or_default();
    let facts: Option<open::Facts> = serde_json::from_str(&facts).unwrap_or_default();
    Ok(clause::described(description, &facts.unwrap_or_default().definers))
}
