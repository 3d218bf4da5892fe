//! What a destination has taken in since it opened, found without touching it.

use drover_dumpstore::{Key, Store};
use drover_lifecycle::{Migration, Undo};
use drover_mysql::{Lost, Manifest, Server};
use drover_schemas::{Code, Failure, MigrationId, ServerName};

use crate::config::Config;

/// Whether a destination may have taken writes that a rollback would lose: it has opened, and its
/// closing is among the steps back.
pub fn may_be_there(migration: &Migration) -> bool {
    let closes = migration.steps_back().is_ok_and(|steps| steps.contains(&Undo::Close));
    closes && migration.opened.is_some()
}

/// Reads the open database, and names what is not as it was when it opened.
///
/// # Errors
/// The servers' and the store's; [`Code::DestinationWritten`] where the dump has expired, so that
/// nobody can tell.
pub async fn find(
    config: &Config,
    store: &Store,
    (id, migration): (MigrationId, &Migration),
) -> Result<Vec<Lost>, Failure> {
    let planned = &migration.planned;
    let dump = migration.dump.as_ref();
    let unknown = |what: &str| {
        let text = format!("{}: nobody knows what it was when it opened: {what}", planned.database);
        Failure::new(Code::DestinationWritten, text)
    };
    let dump = dump.ok_or_else(|| unknown("its history tells of no dump"))?;
    let key: Key = dump.manifest_object.parse()?;
    let json = match store.get_small(&key, Some(&dump.manifest_sha256)).await {
        Err(error @ drover_dumpstore::Error::Missing(_)) => {
            return Err(unknown(&error.to_string()));
        }
        other => other?,
    };
    let manifest = Manifest::from_json(&json)
        .map_err(|error| Failure::new(Code::StoreCorrupt, format!("{key}: {error}")))?;
    let destination = server(config, &planned.destination)?;
    let source = server(config, &planned.source)?;
    let described = &manifest.contents.description;
    let opened_with = drover_mysql::expected(&destination, id, described).await?;
    Ok(drover_mysql::lost(&destination, &source, &planned.database, &opened_with).await?)
}

fn server(config: &Config, name: &str) -> Result<Server, Failure> {
    let unknown = || Failure::new(Code::InventoryServerUnknown, name.to_owned());
    let name: ServerName = name.parse().map_err(|_| unknown())?;
    let known = config.servers.get(&name).ok_or_else(unknown)?;
    Ok(Server::new(name, known.mysql.clone())?)
}
