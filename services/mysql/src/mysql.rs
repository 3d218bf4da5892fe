//! Where MySQL differs from MariaDB: what it keeps elsewhere, and its read-only schemas.
//!
//! 1. A freeze makes the schema read-only as well (`ALTER SCHEMA … READ ONLY = 1`), behind the end
//!    of the older sessions: the server itself then refuses every write, whoever's. It comes after
//!    the scheduled events were disabled, and goes before they are enabled, as they cannot be
//!    altered in between. The server does not write the option to its binary log.
//! 2. A role is an account like others: [`Grantee::role`] is never set. Who has which is in
//!    `mysql.role_edges`.
//! 3. Of somebody with roles the server adds up all rows that cover a database, so a pattern's row
//!    cannot be masked; such grants are refused ([`no_pattern_with_roles`]).

use std::collections::BTreeSet;

use drover_schemas::Code;

use crate::{
    Error, Session,
    accounts::Member,
    guard,
    ident::{ident, literal, literals},
    precedence::is_exact,
    privileges::{Grantee, Held, Target},
    quotes::find_outside_quotes,
};

/// From this version the binary log's state is asked for by its new name only.
const BINARY_LOG_STATUS_SINCE: (u16, u16, u16) = (8, 2, 0);

/// From this version the right to name any definer is two.
const ANY_DEFINER_SINCE: (u16, u16, u16) = (8, 2, 0);

/// What Drover's account may do, with the right to grant it on; the dynamic privileges are those
/// of 8.0.22, [`grants_needed`] adds those that depend on the version.
const RIGHTS: &str = "SELECT, INSERT, UPDATE, DELETE, CREATE, DROP, REFERENCES, INDEX, ALTER, \
     CREATE TEMPORARY TABLES, LOCK TABLES, EXECUTE, CREATE VIEW, SHOW VIEW, CREATE ROUTINE, \
     ALTER ROUTINE, EVENT, TRIGGER, RELOAD, PROCESS, SHOW DATABASES, CREATE USER, CREATE ROLE, \
     DROP ROLE, REPLICATION CLIENT, SUPER, CONNECTION_ADMIN, ROLE_ADMIN, SESSION_VARIABLES_ADMIN, \
     SHOW_ROUTINE, SYSTEM_USER, XA_RECOVER_ADMIN";

/// The statement that gives Drover's account what it needs on a MySQL server of this version.
pub fn grants_needed(user: &str, host: &str, version: (u16, u16, u16)) -> String {
    let definers = if version >= ANY_DEFINER_SINCE {
        "SET_ANY_DEFINER, ALLOW_NONEXISTENT_DEFINER"
    } else {
        "SET_USER_ID"
    };
    let account = crate::ident::account(user, host);
    format!("GRANT {RIGHTS}, {definers} ON *.* TO {account} WITH GRANT OPTION")
}

/// Refuses a server with a setting under which rows of the grant tables, or the list of sessions,
/// mean something else.
pub(crate) async fn check(session: &mut Session) -> Result<(), Error> {
    let sql = "SELECT @@partial_revokes, @@performance_schema, @@mandatory_roles <> ''";
    let (partial, listed, mandatory): (bool, bool, bool) =
        session.one("reading the settings", sql).await?;
    let setting = match (partial, listed, mandatory) {
        (true, _, _) => "partial_revokes = ON",
        (_, false, _) => "performance_schema = OFF",
        (_, _, true) => "mandatory_roles",
        (false, true, false) => return Ok(()),
    };
    let server = session.server().name().to_string();
    Err(Error::Unsupported { server, version: format!("MySQL with {setting}") })
}

/// Whether a schema is read-only.
pub(crate) async fn is_read_only(session: &mut Session, database: &str) -> Result<bool, Error> {
    let sql = format!(
        "SELECT COALESCE(OPTIONS, '') FROM information_schema.SCHEMATA_EXTENSIONS \
         WHERE SCHEMA_NAME = {}",
        literal(database)
    );
    let options: Vec<String> = session.rows("reading the schema's options", &sql).await?;
    Ok(options.iter().any(|options| options.contains("READ ONLY=1")))
}

/// The statement that makes a schema read-only, or writable again.
pub(crate) fn set_read_only(database: &str, yes: bool) -> String {
    format!("ALTER SCHEMA {} READ ONLY = {}", ident(database), u8::from(yes))
}

/// The statement that tells the binary log's file and position.
pub(crate) fn binary_log_status(version: (u16, u16, u16)) -> &'static str {
    if version >= BINARY_LOG_STATUS_SINCE { "SHOW BINARY LOG STATUS" } else { "SHOW MASTER STATUS" }
}

/// Who has one of these accounts as a role, directly or through another; the trusted aside.
pub(crate) async fn members(
    session: &mut Session,
    grantees: &BTreeSet<Grantee>,
) -> Result<Vec<Member>, Error> {
    let sql = "SELECT FROM_USER, FROM_HOST, TO_USER, TO_HOST, WITH_ADMIN_OPTION = 'Y' \
               FROM mysql.role_edges ORDER BY 1, 2, 3, 4";
    let edges: Vec<(String, String, String, String, bool)> =
        session.rows("reading the roles", sql).await?;
    let trusted = crate::privileges::trusted(session);
    let mut roles: BTreeSet<(String, String)> =
        grantees.iter().map(|g| (g.user.clone(), g.host.clone())).collect();
    let mut members: Vec<Member> = Vec::new();
    loop {
        let before = members.len();
        for (role, role_host, user, host, admin) in &edges {
            let grantee = Grantee { user: user.clone(), host: host.clone(), role: false };
            let member =
                Member { role: role.clone(), role_host: role_host.clone(), grantee, admin: *admin };
            let of_ours = roles.contains(&(role.clone(), role_host.clone()));
            if of_ours && !trusted.contains(&member.grantee.plain()) && !members.contains(&member) {
                roles.insert((user.clone(), host.clone()));
                members.push(member);
            }
        }
        if members.len() == before {
            return Ok(members);
        }
    }
}

/// The roles that an account begins with.
pub(crate) async fn default_roles(
    session: &mut Session,
    grantee: &Grantee,
) -> Result<Vec<Grantee>, Error> {
    let sql = format!(
        "SELECT DEFAULT_ROLE_USER, DEFAULT_ROLE_HOST FROM mysql.default_roles \
         WHERE USER = {} AND HOST = {} ORDER BY 1, 2",
        literal(&grantee.user),
        literal(&grantee.host)
    );
    let found: Vec<(String, String)> = session.rows("reading the roles", &sql).await?;
    Ok(found.into_iter().map(|(user, host)| Grantee { user, host, role: false }).collect())
}

/// Refuses a grant by pattern to somebody who is or has a role: see the top of this file.
pub(crate) async fn no_pattern_with_roles(
    session: &mut Session,
    database: &str,
    held: &Held,
) -> Result<(), Error> {
    let by_pattern: Vec<(&Grantee, &str)> = held
        .grants
        .iter()
        .filter_map(|grant| match &grant.target {
            Target::Databases(text) if !is_exact(text) => Some((&grant.grantee, text.as_str())),
            Target::Databases(_) | Target::Table(_) | Target::Routine(..) => None,
        })
        .collect();
    if by_pattern.is_empty() {
        return Ok(());
    }
    let sql = "SELECT FROM_USER, FROM_HOST FROM mysql.role_edges UNION SELECT TO_USER, TO_HOST \
               FROM mysql.role_edges";
    let with_roles: Vec<(String, String)> = session.rows("reading the roles", sql).await?;
    let found = by_pattern.into_iter().find(|(grantee, _)| {
        with_roles.iter().any(|(user, host)| *user == grantee.user && *host == grantee.host)
    });
    match found {
        None => Ok(()),
        Some((grantee, text)) => Err(session.server().found(
            Code::ForeignWriter,
            format!(
                "{}: {} has a grant by pattern (ON {}.*), and is or has a role",
                ident(database),
                grantee.sql(),
                ident(text)
            ),
        )),
    }
}

/// What the server keeps of an account: its plugin, its hash in hexadecimal, its further factors,
/// whether a second password is kept, and whether it has a global right.
pub(crate) type Kept = (String, String, String, bool, bool);

/// Reads what the server keeps of an account; nothing where there is no such account.
pub(crate) async fn kept(session: &mut Session, grantee: &Grantee) -> Result<Option<Kept>, Error> {
    let doing = "reading an account";
    let (user, host) = (literal(&grantee.user), literal(&grantee.host));
    let columns = "SELECT COLUMN_NAME FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = 'mysql' \
                   AND TABLE_NAME = 'user' AND COLUMN_NAME LIKE '%\\_priv'";
    let columns: Vec<String> = session.rows(doing, columns).await?;
    let columns: Vec<String> = columns.iter().map(|column| ident(column)).collect();
    let sql = format!(
        "SELECT plugin, HEX(authentication_string), \
         COALESCE(CAST(User_attributes -> '$.multi_factor_authentication' AS CHAR), ''), \
         COALESCE(JSON_CONTAINS_PATH(User_attributes, 'one', '$.additional_password'), 0), \
         'Y' IN ({}) OR EXISTS (SELECT 1 FROM mysql.global_grants g \
         WHERE g.USER = {user} AND g.HOST = {host}) \
         FROM mysql.user WHERE User = {user} AND Host = {host}",
        columns.join(",")
    );
    Ok(session.rows(doing, &sql).await?.into_iter().next())
}

/// What stands behind the name in an account's CREATE USER, without its default roles: those are
/// set when it has them.
pub(crate) fn without_default_roles(definition: &str) -> String {
    const CLAUSE: &str = " DEFAULT ROLE ";
    const NEXT: &str = " REQUIRE ";
    let Some(start) = find_outside_quotes(definition, CLAUSE) else { return definition.to_owned() };
    let (before, clause) = definition.split_at(start);
    let end = find_outside_quotes(clause, NEXT).unwrap_or(clause.len());
    format!("{before}{}", &clause[end..])
}

/// The columns of `mysql.user` by which an account may write to any database, or give itself the
/// right to.
const WRITING_COLUMNS: &str = "Insert_priv, Update_priv, Delete_priv, Create_priv, Drop_priv, \
     Grant_priv, Index_priv, Alter_priv, Super_priv, Execute_priv, Create_view_priv, \
     Create_routine_priv, Alter_routine_priv, Create_user_priv, Event_priv, Trigger_priv";

/// The dynamic privileges that come to the same: to name any definer, to take any role, to apply
/// another server's rows, to replace all data, to change the server's settings.
const WRITING_PRIVILEGES: [&str; 9] = [
    "CLONE_ADMIN",
    "GROUP_REPLICATION_ADMIN",
    "PERSIST_RO_VARIABLES_ADMIN",
    "REPLICATION_APPLIER",
    "REPLICATION_SLAVE_ADMIN",
    "ROLE_ADMIN",
    "SET_ANY_DEFINER",
    "SET_USER_ID",
    "SYSTEM_VARIABLES_ADMIN",
];

/// The query for the accounts with a global right to write: user and host.
pub(crate) fn global_writers() -> String {
    format!(
        "SELECT User, Host FROM mysql.user WHERE 'Y' IN ({WRITING_COLUMNS}) \
         UNION SELECT USER, HOST FROM mysql.global_grants WHERE PRIV IN ({})",
        literals(WRITING_PRIVILEGES)
    )
}

/// The query for routines and enabled events of other databases with one of these definers, whose
/// text holds the name of one of these: database, name, kind, text.
pub(crate) fn bodies(databases: &[&str], definers: &str) -> String {
    let named = guard::named_elsewhere;
    format!(
        "SELECT ROUTINE_SCHEMA, ROUTINE_NAME, LOWER(ROUTINE_TYPE), \
         CAST(COALESCE(ROUTINE_DEFINITION, '') AS BINARY) FROM information_schema.ROUTINES \
         WHERE DEFINER IN ({definers}) AND ROUTINE_SCHEMA <> 'sys' \
         AND SECURITY_TYPE = 'DEFINER' AND ({}) \
         UNION ALL SELECT EVENT_SCHEMA, EVENT_NAME, 'event', \
         CAST(COALESCE(EVENT_DEFINITION, '') AS BINARY) FROM information_schema.EVENTS \
         WHERE DEFINER IN ({definers}) AND STATUS = 'ENABLED' AND ({})",
        named(databases, "ROUTINE_SCHEMA", "ROUTINE_DEFINITION"),
        named(databases, "EVENT_SCHEMA", "EVENT_DEFINITION")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_roles_are_cut_out_of_a_definition() {
        let rest = " REQUIRE NONE PASSWORD EXPIRE DEFAULT";
        for (roles, kept) in [
            ("", " IDENTIFIED WITH 'p' AS 0x00"),
            (" DEFAULT ROLE `r`@`%`", " IDENTIFIED WITH 'p' AS 0x00"),
            (" DEFAULT ROLE `a REQUIRE b`@`%`,`c`@`%`", " IDENTIFIED WITH 'p' AS 0x00"),
            ("", " IDENTIFIED WITH 'p' AS 'x\\' DEFAULT ROLE '"),
        ] {
            assert_eq!(
                without_default_roles(&format!("{kept}{roles}{rest}")),
                format!("{kept}{rest}")
            );
        }
    }
}
