//! The accounts of a server and what they prove themselves by; and who holds something on which
//! database.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    Error, Flavour, Session,
    ident::covers,
    precedence::is_exact,
    preflight::facts::Login,
    privileges::{self, Grantee},
};

const READING: &str = "reading the accounts";

/// Every account and role of a server.
pub(crate) async fn logins(session: &mut Session) -> Result<BTreeMap<Grantee, Login>, Error> {
    let flavour = session.about().flavour;
    let rows: Vec<(String, String, String, String)> = match flavour {
        Flavour::MariaDb => {
            let sql = "SELECT User, Host, '', Priv FROM mysql.global_priv";
            session.rows(READING, sql).await?
        }
        Flavour::MySql => {
            let sql = "SELECT User, Host, plugin, HEX(authentication_string) FROM mysql.user";
            session.rows(READING, sql).await?
        }
    };
    let login = |(user, host, plugin, kept): (String, String, String, String)| match flavour {
        Flavour::MariaDb => of_mariadb(user, host, &kept),
        Flavour::MySql => Login {
            grantee: Grantee { user, host, role: false },
            plugins: BTreeSet::from([plugin]),
            secret: kept,
        },
    };
    Ok(rows.into_iter().map(login).map(|login| (login.grantee.clone(), login)).collect())
}

fn of_mariadb(user: String, host: String, kept: &str) -> Login {
    let all: serde_json::Value = serde_json::from_str(kept).unwrap_or_default();
    let role = matches!(all.get("is_role"), Some(serde_json::Value::Bool(true)));
    let word = |value: &serde_json::Value, key: &str| {
        value.get(key).and_then(|v| v.as_str()).unwrap_or_default().to_owned()
    };
    let mut plugins = BTreeSet::from([word(&all, "plugin")]);
    let others = all.get("auth_or").and_then(|v| v.as_array()).cloned().unwrap_or_default();
    plugins.extend(others.iter().map(|other| word(other, "plugin")));
    plugins.remove("");
    let secret = format!("{} {}", word(&all, "authentication_string"), all["auth_or"]);
    Login { grantee: Grantee { user, host, role }, plugins, secret }
}

/// The rows of the grant tables that are on a database: user, host, and the text for its name.
pub(crate) struct Rows {
    exact: BTreeMap<String, BTreeSet<(String, String)>>,
    patterns: Vec<(String, (String, String))>,
}

impl Rows {
    /// Those of everybody but the trusted accounts.
    pub async fn read(session: &mut Session) -> Result<Self, Error> {
        let sql = "SELECT User, Host, Db, 1 FROM mysql.db UNION ALL \
                   SELECT User, Host, Db, 0 FROM mysql.tables_priv UNION ALL \
                   SELECT User, Host, Db, 0 FROM mysql.procs_priv";
        let found: Vec<(String, String, String, bool)> = session.rows(READING, sql).await?;
        let trusted = privileges::trusted(session);
        let mut rows = Self { exact: BTreeMap::new(), patterns: Vec::new() };
        for (user, host, text, is_pattern) in found {
            let name = if host.is_empty() { user.clone() } else { format!("{user}@{host}") };
            if trusted.contains(&name) {
                continue;
            }
            if is_pattern && !is_exact(&text) {
                rows.patterns.push((text, (user, host)));
            } else {
                let name = if is_pattern { unescaped(&text) } else { text };
                rows.exact.entry(name).or_default().insert((user, host));
            }
        }
        Ok(rows)
    }

    /// Who holds something on this database.
    pub fn on(&self, database: &str, accounts: &BTreeMap<Grantee, Login>) -> BTreeSet<Grantee> {
        let exact = self.exact.get(database).into_iter().flatten();
        let patterns = self.patterns.iter().filter(|(text, _)| covers(text, database));
        let all = exact.chain(patterns.map(|(_, who)| who));
        let known = |(user, host): &(String, String)| {
            [false, true]
                .map(|role| Grantee { user: user.clone(), host: host.clone(), role })
                .into_iter()
                .find(|grantee| accounts.contains_key(grantee))
        };
        all.filter_map(known).collect()
    }
}

impl Rows {
    /// Whether somebody holds anything on any database.
    pub fn has_any(&self, grantee: &Grantee) -> bool {
        let is = |(user, host): &(String, String)| *user == grantee.user && *host == grantee.host;
        self.exact.values().any(|all| all.iter().any(is))
            || self.patterns.iter().any(|(_, who)| is(who))
    }
}

/// The name that an exact text in `mysql.db` stands for.
fn unescaped(text: &str) -> String {
    let mut name = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        let meant = if c == '\\' { chars.next() } else { Some(c) };
        name.extend(meant);
    }
    name
}
