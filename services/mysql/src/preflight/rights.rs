//! Which of the rights that Drover's account needs it does not have, read from what the server says
//! of its grants.

use std::collections::BTreeSet;

use crate::{Error, Flavour, Session, inspect, mysql};

/// The global privileges in statements `GRANT … ON *.* TO …`, by one name each.
fn granted(statements: &[String]) -> BTreeSet<String> {
    let global = statements.iter().filter_map(|statement| {
        let (list, _) = statement.strip_prefix("GRANT ")?.split_once(" ON *.* TO ")?;
        Some(list)
    });
    global.flat_map(|list| list.split(',')).map(one_name).collect()
}

/// Whether any of them may be handed on.
fn may_grant(statements: &[String]) -> bool {
    statements.iter().any(|s| s.contains(" ON *.* TO ") && s.ends_with("WITH GRANT OPTION"))
}

/// A privilege by one of its names: servers print some by an older one.
fn one_name(privilege: &str) -> String {
    match privilege.trim() {
        "SLAVE MONITOR" => "REPLICA MONITOR",
        "REPLICATION CLIENT" => "BINLOG MONITOR",
        "DELETE VERSIONING ROWS" => "DELETE HISTORY",
        other => other,
    }
    .to_owned()
}

/// What is needed and not there.
fn missing(needed: &str, statements: &[String]) -> Vec<String> {
    let needed = [needed.to_owned()];
    let has = granted(statements);
    let all = has.contains("ALL PRIVILEGES");
    let mut missing: Vec<String> =
        granted(&needed).into_iter().filter(|one| !all && !has.contains(one)).collect();
    if may_grant(&needed) && !may_grant(statements) {
        missing.push("GRANT OPTION".to_owned());
    }
    missing
}

/// The rights that Drover's account lacks here, and the statement that gives them.
pub(crate) async fn lacking(session: &mut Session) -> Result<Option<(Vec<String>, String)>, Error> {
    let about = session.about().clone();
    let (user, host) = &about.account;
    let needed = match about.flavour {
        Flavour::MariaDb => inspect::grants_needed(user, host),
        Flavour::MySql => mysql::grants_needed(user, host, about.version),
    };
    // The statements hold the account's hash: they go no further than this function.
    let statements: Vec<String> = session.rows("reading Drover's rights", "SHOW GRANTS").await?;
    let missing = missing(&needed, &statements);
    Ok((!missing.is_empty()).then_some((missing, needed)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_are_known_by_all_their_names() {
        let needed = "GRANT SELECT, REPLICA MONITOR ON *.* TO `d`@`%` WITH GRANT OPTION";
        let says = |text: &str| missing(needed, &[text.to_owned()]);
        assert!(says("GRANT SELECT, SLAVE MONITOR ON *.* TO `d`@`%` WITH GRANT OPTION").is_empty());
        assert!(says("GRANT ALL PRIVILEGES ON *.* TO `d`@`%` WITH GRANT OPTION").is_empty());
        assert_eq!(
            says("GRANT SELECT ON *.* TO `d`@`%` IDENTIFIED BY PASSWORD '*X'"),
            ["REPLICA MONITOR", "GRANT OPTION"]
        );
        assert_eq!(says("GRANT SELECT ON `x`.* TO `d`@`%` WITH GRANT OPTION").len(), 3);
    }
}
