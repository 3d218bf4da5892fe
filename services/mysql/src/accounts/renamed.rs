//! The account of a retired database, out of the way of the one that is brought back under its name:
//! the customer has given that one another password at the destination.
//!
//! The ledger holds no password's hash, so the old account keeps it itself, under another name, and gets
//! its name back when the new one goes. Only one that holds nothing on the server any more, and that no
//! other retired database waits for, is renamed.

use drover_schemas::MigrationId;

use super::{make::has_anything, stored};
use crate::{
    Error, Session,
    ident::{account, literal},
    privileges::Grantee,
};

/// The name that an account has meanwhile; its host stays. 45 characters.
fn meanwhile(grantee: &Grantee) -> Grantee {
    let hash = blake3::hash(grantee.sql().as_bytes()).to_hex();
    let user = format!("drover_aside_{}", &hash[..32]);
    Grantee { user, host: grantee.host.clone(), role: false }
}

/// Whether an account may be renamed.
pub(super) async fn may_be(
    session: &mut Session,
    (migration, brought_back): (MigrationId, MigrationId),
    grantee: &Grantee,
) -> Result<bool, Error> {
    if has_anything(session, migration, grantee).await?
        || stored(session, &meanwhile(grantee)).await?.is_some()
    {
        return Ok(false);
    }
    let named = serde_json::to_string(grantee)
        .map_err(|e| session.unexpected("reading the ledger", e.to_string()))?;
    let sql = format!(
        "SELECT NOT EXISTS (SELECT 1 FROM drover.ledger WHERE side = 'source' \
         AND migration <> '{brought_back}' AND state NOT IN ('thawed', 'aside') \
         AND LOCATE({}, `undo`))",
        literal(&named)
    );
    let (free,): (bool,) = session.one("reading the ledger", &sql).await?;
    Ok(free)
}

/// Renames it. The note that this migration uses the name must be there.
pub(super) async fn rename(session: &mut Session, grantee: &Grantee) -> Result<(), Error> {
    rename_to(session, grantee, &meanwhile(grantee)).await
}

/// Gives an account its name back, where it was renamed and the name is free.
pub(super) async fn give_back(session: &mut Session, grantee: &Grantee) -> Result<(), Error> {
    let meanwhile = meanwhile(grantee);
    let free = stored(session, grantee).await?.is_none();
    if free && stored(session, &meanwhile).await?.is_some() {
        rename_to(session, &meanwhile, grantee).await?;
    }
    Ok(())
}

async fn rename_to(session: &mut Session, from: &Grantee, to: &Grantee) -> Result<(), Error> {
    let [from, to] = [from, to].map(|it| account(&it.user, &it.host));
    session.run("renaming an account", &format!("RENAME USER {from} TO {to}")).await
}
