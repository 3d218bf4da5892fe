//! What the accounts may do at the destination, read back from its grant tables when all was given, and
//! held against what was carried. A statement that a server has taken is not yet a right that it
//! gives: an account that was there already, a row of another spelling, a server's own habit may
//! leave less, or more.

use std::collections::{BTreeMap, BTreeSet};

use drover_schemas::Code;

use crate::{
    Accounts, Error, Session,
    accounts::{Member, logs_in_as, memberships},
    ident::{grant_text, ident},
    privileges::{self, Grant, Grantee, Privileges, Target, held},
    schema::in_one_line,
    takeaway::is_masked,
};

/// Refuses what is not what was carried. Where a retired database had the name, rows that mask others
/// may stay for those who were given nothing.
///
/// # Errors
/// `GrantsDiffer`, naming accounts, objects and privileges.
pub(crate) async fn check(
    session: &mut Session,
    database: &str,
    accounts: &Accounts,
    masks_may_stay: bool,
) -> Result<(), Error> {
    let trusted = privileges::trusted(session);
    let mut found = held(session, database, &trusted).await?.grants;
    if masks_may_stay {
        let all = found.clone();
        let given = |grantee: &Grantee| accounts.grants.iter().any(|it| it.grantee == *grantee);
        found.retain(|grant| given(&grant.grantee) || !is_masked(grant, &all, database));
    }
    let folded = session.about().lower_case_table_names != 0;
    let mut differences = compare(&accounts.grants, &found, database, folded);
    let mut grantees: BTreeSet<Grantee> =
        accounts.grants.iter().map(|grant| grant.grantee.clone()).collect();
    let members = memberships(session, &mut grantees).await?;
    differences.extend(compare_members(&accounts.members, &members));
    for account in &accounts.accounts {
        if !logs_in_as(session, account).await? {
            differences.push(format!("{} logs in by other means", account.grantee.sql()));
        }
    }
    if differences.is_empty() {
        return Ok(());
    }
    let what = format!("{}: {}", ident(database), in_one_line(&differences));
    Err(session.server().found(Code::GrantsDiffer, what))
}

/// Privileges by grantee and target.
type Given = BTreeMap<(Grantee, Target), Privileges>;

fn given<'a>(grants: impl Iterator<Item = &'a Grant>, folded: bool) -> Given {
    let fold = |name: &String| if folded { name.to_lowercase() } else { name.clone() };
    let mut all = Given::new();
    for Grant { grantee, target, privileges } in grants {
        let target = match target {
            Target::Databases(text) => Target::Databases(fold(text)),
            Target::Table(name) => Target::Table(fold(name)),
            Target::Routine(kind, name) => Target::Routine(kind.clone(), name.to_lowercase()),
        };
        // A column's name is one in any case.
        let privileges = privileges.iter().map(|privilege| privilege.to_lowercase());
        all.entry((grantee.clone(), target)).or_default().extend(privileges);
    }
    all.retain(|_, privileges| !privileges.is_empty());
    all
}

/// What is missing and what is more, a line each.
fn compare(carried: &[Grant], found: &[Grant], database: &str, folded: bool) -> Vec<String> {
    let own = Target::Databases(grant_text(database));
    let has_own = |grantee: &Grantee| {
        carried.iter().any(|grant| grant.grantee == *grantee && grant.target == own)
    };
    // Who has a row of this database is not looked up among the patterns.
    let masked = |grant: &&Grant| {
        let pattern = matches!(&grant.target, Target::Databases(_)) && grant.target != own;
        !(pattern && has_own(&grant.grantee))
    };
    let carried = given(carried.iter(), folded);
    let found = given(found.iter().filter(|grant| folded || masked(grant)), folded);
    let keys: BTreeSet<_> = carried.keys().chain(found.keys()).collect();
    let none = Privileges::new();
    let mut lines = Vec::new();
    for key in keys {
        let (mine, theirs) = (carried.get(key).unwrap_or(&none), found.get(key).unwrap_or(&none));
        let (who, on) = (key.0.sql(), key.1.sql(database));
        for (what, some) in [("lacks", mine - theirs), ("also has", theirs - mine)] {
            if !some.is_empty() {
                let list = some.into_iter().collect::<Vec<_>>().join(", ").to_uppercase();
                lines.push(format!("{who} {what} {list} ON {on}"));
            }
        }
    }
    lines
}

fn compare_members(carried: &[Member], found: &[Member]) -> Vec<String> {
    let (mine, theirs): (BTreeSet<&Member>, BTreeSet<&Member>) =
        (carried.iter().collect(), found.iter().collect());
    let line = |what: &str, member: &Member| {
        let option = if member.admin { " WITH ADMIN OPTION" } else { "" };
        format!("{} {what} the role {}{option}", member.grantee.sql(), member.role_sql())
    };
    let lacks = mine.difference(&theirs).map(|member| line("lacks", member));
    let more = theirs.difference(&mine).map(|member| line("also has", member));
    lacks.chain(more).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(user: &str, target: Target, privileges: &[&str]) -> Grant {
        let grantee = Grantee { user: user.to_owned(), host: "%".to_owned(), role: false };
        let privileges = privileges.iter().map(|it| (*it).to_owned()).collect();
        Grant { grantee, target, privileges }
    }

    fn own() -> Target {
        Target::Databases("my\\_db".to_owned())
    }

    #[test]
    fn what_is_missing_and_what_is_more_is_named() {
        let table = || Target::Table("t".to_owned());
        let carried = [
            grant("a", own(), &["SELECT", "INSERT"]),
            grant("a", table(), &["UPDATE (`B`)"]),
            grant("b", own(), &[]),
        ];
        let found = [
            grant("a", own(), &["SELECT", "GRANT OPTION"]),
            grant("a", table(), &["UPDATE (`b`)"]),
            grant("a", Target::Databases("my%".to_owned()), &["DROP"]),
            grant("c", Target::Databases("my%".to_owned()), &["DROP"]),
        ];
        assert_eq!(
            compare(&carried, &found, "my_db", false),
            [
                "`a`@`%` lacks INSERT ON `my\\_db`.*",
                "`a`@`%` also has GRANT OPTION ON `my\\_db`.*",
                "`c`@`%` also has DROP ON `my%`.*",
            ]
        );
        assert!(compare(&carried, &carried, "my_db", true).is_empty());
    }
}
