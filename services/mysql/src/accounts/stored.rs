//! What a server keeps of an account, beside what it may do: how it proves who it is.

use super::Account;
use crate::{
    Error, Flavour, Session, ident::literal, mysql, privileges::Grantee, questions::Question,
};

/// What the server keeps of an account.
pub(super) struct Stored {
    pub(super) plugin: String,
    pub(super) login: String,
    pub(super) default_role: Option<String>,
    pub(super) global_rights: bool,
    /// Whether there is nothing that it must prove, as with MySQL's roles.
    pub(super) open: bool,
    /// Whether a second password is good for it (MySQL).
    pub(super) second_password: bool,
}

/// Reads what the server keeps; nothing where there is no such account.
pub(super) async fn stored(
    session: &mut Session,
    grantee: &Grantee,
) -> Result<Option<Stored>, Error> {
    if session.about().flavour == Flavour::MySql {
        let kept = mysql::kept(session, grantee).await?;
        return Ok(kept.map(|(plugin, hash, factors, second_password, global_rights)| {
            let open = hash.is_empty() && factors.is_empty();
            let login = serde_json::json!([plugin, hash, factors]).to_string();
            Stored { plugin, login, default_role: None, global_rights, open, second_password }
        }));
    }
    let found = session.ask(kept(grantee)).await?;
    of_kept(session, found)
}

pub(super) const READING: &str = "reading an account";

/// Asks MariaDB for what it keeps of an account.
pub(super) fn kept(grantee: &Grantee) -> Question<String> {
    let sql = format!(
        "SELECT Priv FROM mysql.global_priv WHERE User = {} AND Host = {}",
        literal(&grantee.user),
        literal(&grantee.host)
    );
    Question::new(READING, sql)
}

/// What it keeps, by the answer.
pub(super) fn of_kept(session: &Session, found: Vec<String>) -> Result<Option<Stored>, Error> {
    let Some(text) = found.into_iter().next() else { return Ok(None) };
    let all: serde_json::Value = serde_json::from_str(&text)
        .map_err(|_| session.unexpected(READING, "its definition is not JSON".to_owned()))?;
    let word = |key: &str| all.get(key).and_then(|v| v.as_str()).unwrap_or_default();
    let part = |key: &str| all.get(key).cloned().unwrap_or_default();
    let login = serde_json::json!([word("plugin"), word("authentication_string"), part("auth_or")]);
    let default_role = Some(word("default_role").to_owned()).filter(|role| !role.is_empty());
    let global_rights = all.get("access").and_then(serde_json::Value::as_u64) != Some(0);
    let plugin = word("plugin").to_owned();
    Ok(Some(Stored {
        plugin,
        login: login.to_string(),
        default_role,
        global_rights,
        open: false,
        second_password: false,
    }))
}

/// Whether an account proves here who it is by the same means as at the source.
pub(crate) async fn logs_in_as(session: &mut Session, account: &Account) -> Result<bool, Error> {
    let stored = stored(session, &account.grantee).await?;
    Ok(stored.is_some_and(|stored| stored.login == account.login))
}

/// Whether an account has a right on the whole server.
pub(crate) async fn has_global_rights(
    session: &mut Session,
    grantee: &Grantee,
) -> Result<bool, Error> {
    Ok(stored(session, grantee).await?.is_some_and(|stored| stored.global_rights))
}
