//! What has to be said to take privileges on one database away, and what undoes it.
//!
//! 1. A row whose text covers this database alone is reduced. (Of a name so long that its exact
//!    text does not fit, see [`grant_text`]; the caller makes sure that there is no other.)
//! 2. A row that covers others too (`my_db` covers `myxdb`; `my%`) stays as it is, and an exact row
//!    of the same account masks it: the servers take the first row that covers, the most exact
//!    first, and look no further.
//! 3. A mask must hold something to exist. `SHOW VIEW`, which without `SELECT` shows nothing, is
//!    what it holds when there is nothing to keep.
//!
//! Planning is pure: from what is held, and from the undo that an earlier, interrupted attempt has
//! recorded, to statements and the undo that covers both.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::{
    events::ScheduledEvent,
    ident::grant_text,
    mysql::set_read_only,
    precedence::comes_first,
    privileges::{Grant, Grantee, Privileges, Target, is_read},
};

/// What a mask holds when there is nothing to keep.
const PLACEHOLDER: &str = "SHOW VIEW";

/// How much is left to the customer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leave {
    /// Reading.
    Reads,
    /// Nothing.
    Nothing,
}

impl Leave {
    fn keeps(self, privileges: &Privileges) -> Privileges {
        match self {
            Self::Reads => privileges.iter().filter(|p| is_read(p)).cloned().collect(),
            Self::Nothing => Privileges::new(),
        }
    }
}

/// How a database was granted before anything was taken away, and what undoes that.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Undo {
    /// The grants on this database alone, as they were, of one account the most specific first.
    pub grants: Vec<Grant>,
    /// The grants that cover other databases too, in the same order; they stay.
    pub patterns: Vec<Grant>,
    /// Whose rows of [`Undo::patterns`] were masked.
    pub masks: BTreeSet<Grantee>,
    /// The scheduled events that were enabled.
    pub events: Vec<ScheduledEvent>,
    /// Whether Drover makes the schema read-only (MySQL). One that was so already stays so.
    #[serde(default)]
    pub read_only: bool,
}

impl Undo {
    /// The statements that put everything back, in order: the schema becomes writable first, as
    /// nothing in it can be altered before; the scheduled events come last, when their definers
    /// have their rights again.
    pub fn statements(&self, database: &str) -> Vec<String> {
        let mut statements = Vec::new();
        if self.read_only {
            statements.push(set_read_only(database, false));
        }
        for grant in &self.grants {
            statements.push(grant.grant(database));
            let whole = matches!(grant.target, Target::Databases(_));
            if whole && !grant.privileges.contains(PLACEHOLDER) {
                statements.push(with(grant, [PLACEHOLDER]).revoke(database));
            }
        }
        for grantee in &self.masks {
            statements.push(own(grantee, database, ["SELECT", PLACEHOLDER]).revoke(database));
            // MySQL takes nothing at all away when one of the privileges is not held.
            if self.read_only {
                statements.push(own(grantee, database, [PLACEHOLDER]).revoke(database));
            }
        }
        statements.extend(self.events.iter().flat_map(|event| event.enable(Some(database))));
        statements
    }

    /// All who were granted something.
    pub fn grantees(&self) -> BTreeSet<Grantee> {
        self.grants.iter().chain(&self.patterns).map(|grant| grant.grantee.clone()).collect()
    }

    /// How many accounts were granted something, roles aside.
    pub fn accounts(&self) -> u32 {
        let accounts = self.grantees().iter().filter(|grantee| !grantee.role).count();
        u32::try_from(accounts).unwrap_or(u32::MAX)
    }

    /// The grants that together were in force, each on this database alone: what the destination
    /// is to have.
    pub fn in_force(&self, database: &str) -> Vec<Grant> {
        let whole = Target::Databases(grant_text(database));
        let mut in_force: Vec<Grant> = Vec::new();
        for grant in self.grants.iter().chain(&self.patterns) {
            let mut grant = grant.clone();
            if matches!(grant.target, Target::Databases(_)) {
                grant.target.clone_from(&whole);
            }
            // Of several rows that cover the database, the first one of an account counts.
            let same = |g: &Grant| g.grantee == grant.grantee && g.target == grant.target;
            if !in_force.iter().any(same) {
                in_force.push(grant);
            }
        }
        in_force
    }

    /// Takes up what is held now, and answers with the statements that take all but `leave` away.
    /// What an earlier attempt took up keeps its record; only rights to write that were granted
    /// since are added.
    pub fn take(&mut self, held: &[Grant], database: &str, leave: Leave) -> Vec<String> {
        let covers_only_this = |target: &Target| match target {
            Target::Databases(other) => cannot_be_masked(other, database),
            Target::Table(_) | Target::Routine(..) => true,
        };
        let (owned, patterns): (Vec<&Grant>, Vec<&Grant>) =
            held.iter().partition(|grant| covers_only_this(&grant.target));
        let masking = !patterns.is_empty();
        let mask = Target::Databases(grant_text(database));
        let mut statements = Vec::new();
        for pattern in patterns {
            note(&mut self.patterns, pattern);
            let row = own(&pattern.grantee, database, []);
            let has_row = |g: &&Grant| g.grantee == row.grantee && g.target == row.target;
            let keep = leave.keeps(&pattern.privileges);
            if owned.iter().any(has_row) || keep == pattern.privileges {
                continue;
            }
            self.masks.insert(pattern.grantee.clone());
            statements.push(Grant { privileges: or_placeholder(keep), ..row }.grant(database));
        }
        for grant in owned {
            let whole = matches!(grant.target, Target::Databases(_));
            let is_mask = grant.target == mask && self.masks.contains(&grant.grantee);
            if !is_mask {
                note(&mut self.grants, grant);
            }
            let mut keep = leave.keeps(&grant.privileges);
            if whole && masking {
                keep = or_placeholder(keep);
            }
            let taken: Privileges = grant.privileges.difference(&keep).cloned().collect();
            if taken.is_empty() {
                continue;
            }
            if !keep.is_subset(&grant.privileges) {
                statements.push(Grant { privileges: keep, ..grant.clone() }.grant(database));
            }
            statements.push(Grant { privileges: taken, ..grant.clone() }.revoke(database));
        }
        statements
    }
}

/// Whether a row of this text may be in force in spite of a row of [`grant_text`], so that it must be
/// reduced itself. For all but very long names such a text is exact, and covers this database only.
pub fn cannot_be_masked(text: &str, database: &str) -> bool {
    !comes_first(&grant_text(database), text)
}

/// Whether a grant among those that are held gives nothing: it is a mask, or one that is masked.
pub fn is_masked(grant: &Grant, held: &[Grant], database: &str) -> bool {
    let own = grant_text(database);
    let is_mask = |other: &Grant| {
        let is_own = matches!(&other.target, Target::Databases(text) if *text == own);
        other.grantee == grant.grantee
            && is_own
            && other.privileges.iter().all(|privilege| privilege == PLACEHOLDER)
    };
    match &grant.target {
        Target::Databases(text) if *text == own || !cannot_be_masked(text, database) => {
            held.iter().any(is_mask)
        }
        Target::Databases(_) | Target::Table(_) | Target::Routine(..) => false,
    }
}

/// What takes the rest of the masks away from those who were given something again.
pub(crate) fn unmask(given: &[Grant], held: &[Grant], database: &str) -> Vec<String> {
    let own = grant_text(database);
    let is_own = |grant: &&Grant| matches!(&grant.target, Target::Databases(text) if *text == own);
    let masks = held.iter().filter(|grant| grant.privileges.contains(PLACEHOLDER)).filter(is_own);
    masks
        .filter(|mask| {
            let same = |grant: &&Grant| grant.grantee == mask.grantee;
            let mut again = given.iter().filter(is_own).filter(same);
            again.next().is_some_and(|grant| !grant.privileges.contains(PLACEHOLDER))
        })
        .map(|mask| with(mask, [PLACEHOLDER]).revoke(database))
        .collect()
}

fn or_placeholder(keep: Privileges) -> Privileges {
    if keep.is_empty() { [PLACEHOLDER.to_owned()].into() } else { keep }
}

fn with<const N: usize>(grant: &Grant, privileges: [&str; N]) -> Grant {
    Grant { privileges: privileges.map(str::to_owned).into(), ..grant.clone() }
}

/// A row of this database alone.
fn own<const N: usize>(grantee: &Grantee, database: &str, privileges: [&str; N]) -> Grant {
    Grant {
        grantee: grantee.clone(),
        target: Target::Databases(grant_text(database)),
        privileges: privileges.map(str::to_owned).into(),
    }
}

fn note(record: &mut Vec<Grant>, now: &Grant) {
    let same = |grant: &&mut Grant| grant.grantee == now.grantee && grant.target == now.target;
    match record.iter_mut().find(same) {
        None => record.push(now.clone()),
        Some(before) => {
            before.privileges.extend(now.privileges.iter().filter(|p| !is_read(p)).cloned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(user: &str, target: Target, privileges: &[&str]) -> Grant {
        let grantee = Grantee { user: user.to_owned(), host: "%".to_owned(), role: false };
        let privileges = privileges.iter().map(|p| (*p).to_owned()).collect();
        Grant { grantee, target, privileges }
    }

    fn databases(text: &str) -> Target {
        Target::Databases(text.to_owned())
    }

    #[test]
    fn reads_stay_and_writes_go() {
        let held = [
            grant("u", databases("my\\_db"), &["SELECT", "INSERT", "GRANT OPTION"]),
            grant("u", Target::Table("t".to_owned()), &["SELECT (`a`)", "INSERT (`b`)"]),
        ];
        let mut undo = Undo::default();
        assert_eq!(
            undo.take(&held, "my_db", Leave::Reads),
            [
                "REVOKE GRANT OPTION, INSERT ON `my\\_db`.* FROM `u`@`%`",
                "REVOKE INSERT (`b`) ON TABLE `my_db`.`t` FROM `u`@`%`",
            ]
        );
        assert_eq!(
            undo.statements("my_db"),
            [
                "GRANT INSERT, SELECT ON `my\\_db`.* TO `u`@`%` WITH GRANT OPTION",
                "REVOKE SHOW VIEW ON `my\\_db`.* FROM `u`@`%`",
                "GRANT INSERT (`b`), SELECT (`a`) ON TABLE `my_db`.`t` TO `u`@`%`",
            ]
        );
    }

    #[test]
    fn a_pattern_is_masked_and_stays() {
        let held = [grant("u", databases("my%"), &["INSERT"])];
        let mut undo = Undo::default();
        let taken = undo.take(&held, "my_db", Leave::Reads);
        assert_eq!(taken, ["GRANT SHOW VIEW ON `my\\_db`.* TO `u`@`%`"]);
        let undone = undo.statements("my_db");
        assert_eq!(undone, ["REVOKE SELECT, SHOW VIEW ON `my\\_db`.* FROM `u`@`%`"]);
    }

    #[test]
    fn an_own_row_under_a_pattern_never_becomes_empty() {
        let held = [
            grant("u", databases("my%"), &["INSERT"]),
            grant("u", databases("my\\_db"), &["UPDATE"]),
        ];
        let mut undo = Undo::default();
        assert_eq!(
            undo.take(&held, "my_db", Leave::Nothing),
            [
                "GRANT SHOW VIEW ON `my\\_db`.* TO `u`@`%`",
                "REVOKE UPDATE ON `my\\_db`.* FROM `u`@`%`",
            ]
        );
    }

    #[test]
    fn a_second_attempt_keeps_what_the_first_recorded() {
        let before = grant("u", databases("shop"), &["SELECT", "INSERT", "UPDATE"]);
        let mut undo = Undo::default();
        undo.take(std::slice::from_ref(&before), "shop", Leave::Reads);
        let half = grant("u", databases("shop"), &["SELECT", "UPDATE"]);
        assert_eq!(undo.take(&[half], "shop", Leave::Reads).len(), 1);
        assert!(undo.take(&[], "shop", Leave::Reads).is_empty());
        assert_eq!(undo.grants, [before]);
    }

    /// A name of 64 characters, of whose wildcards none can be escaped.
    fn long_name() -> String {
        format!("{}_a%a", "x".repeat(60))
    }

    #[test]
    fn a_row_beside_the_mask_of_a_very_long_name_comes_back() {
        let database = long_name();
        let held = [
            grant("u", databases(&database), &["CREATE", "SHOW VIEW"]),
            grant("u", databases("x%"), &["INSERT"]),
        ];
        let mut undo = Undo::default();
        let taken = undo.take(&held, &database, Leave::Reads);
        assert!(taken.contains(&held[0].revoke(&database).replace("CREATE, SHOW VIEW", "CREATE")));
        assert!(undo.statements(&database).contains(&held[0].grant(&database)));
    }

    #[test]
    fn of_rows_that_cover_the_database_the_first_is_in_force() {
        let patterns = vec![
            grant("u", databases("my_d%"), &["SELECT"]),
            grant("u", databases("my%"), &["INSERT"]),
        ];
        let undo = Undo { patterns, ..Undo::default() };
        assert_eq!(undo.in_force("my_db"), [grant("u", databases("my\\_db"), &["SELECT"])]);
    }
}
