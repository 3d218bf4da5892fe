//! Accounts at the destination: made, or found to be the same, and dropped again when nobody uses them.

use drover_schemas::{Code, MigrationId};

use super::{
    Account, renamed,
    stored::{Stored, kept, of_kept, stored},
};
use crate::{
    Error, Flavour, Session,
    grant_tables::mangled,
    ident::literal,
    ledger::{self, Locked},
    privileges::Grantee,
    questions::{Question, Questions},
};

/// Errors of CREATE USER that mean that this server has no such account: unknown plugin, a hash
/// of another form (two), not supported, a syntax of another version.
const UNSUPPORTED: [u16; 5] = [1524, 1372, 1827, 1235, 1064];

/// Makes an account or role at the destination, or finds the same one there, and notes that this
/// migration uses it. `own`: that of this name is the customer's, of the retired database.
pub(crate) async fn make(
    locked: &mut Locked,
    grantee: &Grantee,
    account: Option<&Account>,
    own: bool,
) -> Result<(), Error> {
    let order = locked.order().clone();
    let session = locked.session();
    let flavour = session.about().flavour;
    let lock = ledger::account_lock(&grantee.sql());
    let mut questions = Questions::default();
    let locking = questions.add(ledger::locking(std::slice::from_ref(&lock)));
    let used = questions.add(used(grantee));
    // What MySQL keeps of an account it is asked for by the names of columns that it is asked for first.
    let there = (flavour == Flavour::MariaDb).then(|| questions.add(kept(grantee)));
    let mut answers = session.ask_all(questions).await?;
    ledger::locked(session, answers.one(locking)?, &order)?;
    let there = match there {
        Some(there) => of_kept(session, answers.take(there)?)?,
        None => stored(session, grantee).await?,
    };
    let found = (there, answers.take(used)?);
    let ours = (order.migration, order.brings_back.filter(|_| own));
    make_locked(session, ours, (grantee, account), found).await?;
    ledger::unlock(session, &lock).await
}

/// Asks for the migrations that use an account.
fn used(grantee: &Grantee) -> Question<String> {
    let sql = format!("SELECT migration FROM drover.account WHERE {}", is(grantee));
    Question::new("reading the ledger", sql)
}

async fn make_locked(
    session: &mut Session,
    (migration, own): (MigrationId, Option<MigrationId>),
    (grantee, account): (&Grantee, Option<&Account>),
    (mut there, used): (Option<Stored>, Vec<String>),
) -> Result<(), Error> {
    let name = grantee.sql();
    let same = match (&there, account) {
        (None, _) => false,
        (Some(stored), Some(account)) if stored.open => {
            stored.login == account.login && (own.is_some() || !used.is_empty())
        }
        (Some(stored), Some(account)) => stored.login == account.login,
        // A role has no password: it is the same when Drover made it, or it was the customer's.
        (Some(_), None) => own.is_some() || !used.is_empty(),
    };
    if there.is_some() && !same {
        let ours = own.filter(|_| account.is_some()).map(|own| (migration, own));
        match ours {
            Some(ours) if renamed::may_be(session, ours, grantee).await? => {
                note(session, migration, grantee, false).await?;
                renamed::rename(session, grantee).await?;
                there = None;
            }
            Some(_) | None => return Err(session.server().found(Code::AccountTaken, name)),
        }
    }
    note(session, migration, grantee, there.is_none()).await?;
    if there.is_some() {
        return Ok(());
    }
    match account {
        None => session.run("making a role", &format!("CREATE ROLE {name}")).await,
        Some(account) => create(session, account).await,
    }
}

/// Notes that a migration uses an account, and whether Drover makes it: before it does, as one without
/// a note would never be dropped again.
async fn note(
    session: &mut Session,
    migration: MigrationId,
    grantee: &Grantee,
    made: bool,
) -> Result<(), Error> {
    let (user, host, made) = (literal(&grantee.user), literal(&grantee.host), u8::from(made));
    let sql = format!(
        "INSERT INTO drover.account VALUES ({user},{host},'{migration}',{made}) \
         ON DUPLICATE KEY UPDATE made = GREATEST(made, VALUES(made))"
    );
    session.run("writing the ledger", &sql).await
}

async fn create(session: &mut Session, account: &Account) -> Result<(), Error> {
    session.run("turning the general log off", "SET SESSION sql_log_off = 1").await?;
    let name = account.grantee.sql();
    let sql = format!("CREATE USER {name}{}", account.definition);
    match session.run("making an account", &sql).await {
        Err(error) if error.number().is_some_and(|number| UNSUPPORTED.contains(&number)) => {
            let number = error.number().unwrap_or_default();
            let what = format!("{name}, plugin {} (error {number})", account.plugin);
            Err(session.server().found(Code::AccountUnsupported, what))
        }
        other => other,
    }
}

/// Ends this migration's use of its accounts, and drops those that Drover made and that have
/// nothing left. Answers how many it had used.
pub(crate) async fn release(locked: &mut Locked) -> Result<u32, Error> {
    let order = locked.order().clone();
    let session = locked.session();
    let sql =
        format!("SELECT user, host FROM drover.account WHERE migration = '{}'", order.migration);
    let used: Vec<(String, String)> = session.rows("reading the ledger", &sql).await?;
    let mut count = 0;
    for (user, host) in used {
        let role = session.about().flavour == Flavour::MariaDb && host.is_empty();
        let grantee = Grantee { role, user, host };
        count += u32::from(!grantee.role);
        let lock = ledger::account_lock(&grantee.sql());
        ledger::lock(session, std::slice::from_ref(&lock), &order).await?;
        release_locked(session, order.migration, &grantee).await?;
        ledger::unlock(session, &lock).await?;
    }
    Ok(count)
}

async fn release_locked(
    session: &mut Session,
    migration: MigrationId,
    grantee: &Grantee,
) -> Result<(), Error> {
    let doing = "reading the ledger";
    let condition = is(grantee);
    let sql = format!("SELECT migration, made FROM drover.account WHERE {condition}");
    let uses: Vec<(String, bool)> = session.rows(doing, &sql).await?;
    let made = uses.iter().any(|(_, made)| *made);
    let alone = uses.iter().all(|(other, _)| *other == migration.to_string());
    if made && alone && !has_anything(session, migration, grantee).await? {
        let kind = if grantee.role { "ROLE" } else { "USER" };
        let sql = format!("DROP {kind} IF EXISTS {}", grantee.sql());
        session.run("dropping an account", &sql).await?;
    }
    if alone && !grantee.role {
        renamed::give_back(session, grantee).await?;
    }
    // Who is left inherits that Drover made it.
    let keep_made = if made {
        format!("UPDATE drover.account SET made = 1 WHERE {condition}; ")
    } else {
        String::new()
    };
    let sql = format!(
        "START TRANSACTION; {keep_made}DELETE FROM drover.account WHERE {condition} \
         AND migration = '{migration}'; COMMIT"
    );
    session.run("writing the ledger", &sql).await
}

/// Whether an account holds anything at all on this server, its roles aside.
pub(super) async fn has_anything(
    session: &mut Session,
    migration: MigrationId,
    grantee: &Grantee,
) -> Result<bool, Error> {
    let Some(stored) = stored(session, grantee).await? else { return Ok(false) };
    if stored.global_rights {
        return Ok(true);
    }
    let condition = is(grantee);
    let tables = ["db", "tables_priv", "columns_priv"];
    let mut any: Vec<String> = tables
        .map(|table| format!("EXISTS (SELECT 1 FROM mysql.{table} WHERE {condition})"))
        .to_vec();
    let (user, host) = (literal(&grantee.user), literal(&grantee.host));
    if session.about().flavour == Flavour::MySql {
        any.push(format!(
            "EXISTS (SELECT 1 FROM mysql.procs_priv WHERE {condition}) \
             OR EXISTS (SELECT 1 FROM mysql.role_edges WHERE FROM_USER = {user} \
             AND FROM_HOST = {host} AND (TO_USER, TO_HOST) NOT IN \
             (SELECT a.user, a.host FROM drover.account a WHERE a.migration = '{migration}'))"
        ));
        let sql = format!("SELECT {}", any.join(" OR "));
        let (any,): (bool,) = session.one("reading the grant tables", &sql).await?;
        return Ok(any);
    }
    any.push(format!(
        "EXISTS (SELECT 1 FROM mysql.procs_priv WHERE User IN ({user}, {}) AND Host = {host})",
        mangled(&user)
    ));
    if grantee.role {
        let (user, _) = &session.about().account;
        any.push(format!(
            "EXISTS (SELECT 1 FROM mysql.roles_mapping WHERE Role = {} AND User <> {})",
            literal(&grantee.user),
            literal(user)
        ));
    }
    let sql = format!("SELECT {}", any.join(" OR "));
    let (any,): (bool,) = session.one("reading the grant tables", &sql).await?;
    Ok(any)
}

fn is(grantee: &Grantee) -> String {
    format!("user = {} AND host = {}", literal(&grantee.user), literal(&grantee.host))
}
