//! `drover plan --discover`: an inventory of what is on the sources, to be checked and edited. Plans
//! nothing, and needs no bus.

use std::{collections::BTreeMap, env, fs, io::Write as _, path::Path};

use drover_mysql::{Found, Server};
use drover_schemas::{Code, Failure, ServerName};
use futures::{StreamExt as _, TryStreamExt as _, stream};

use super::print;
use crate::{
    config::{self, Config},
    discover::{WaveBy, propose, to_csv},
    report::Trouble,
};

/// How many servers are looked at at once.
const SERVERS_AT_ONCE: usize = 16;

/// Writes the inventory; a file that is there is not overwritten.
pub async fn run(config: &Path, file: &Path, wave_by: WaveBy) -> Result<(), Trouble> {
    let config = Config::load(config, env::vars())?;
    let unwritable = |error: std::io::Error| {
        Failure::new(Code::InventoryUnreadable, format!("{}: {error}", file.display()))
    };
    let mut to = fs::File::create_new(file).map_err(unwritable)?;
    let sources = look(&config, |server| server.slots_as_source > 0).await?;
    let destinations = look(&config, |server| server.slots_as_destination > 0).await?;
    let pointing = pointing(&config).await?;
    let rows = propose(&sources, &destinations, &pointing, wave_by);
    to.write_all(&to_csv(&rows)?).map_err(unwritable)?;
    let nowhere = rows.iter().filter(|row| row.destination.is_none()).count();
    let named: usize = rows.iter().map(|row| row.host_names.len()).sum();
    print(&format!(
        "{}: {} databases; sources {}, destinations {}, of which none is fit for {nowhere} databases\n\
         {named} of {} host names belong to one by their names; owners are for you to fill in\n",
        file.display(),
        rows.len(),
        sources.len(),
        destinations.len(),
        pointing.len(),
    ));
    Ok(())
}

async fn look(
    config: &Config,
    is_meant: impl Fn(&config::Server) -> bool,
) -> Result<BTreeMap<ServerName, Found>, Failure> {
    let meant = config.servers.iter().filter(|(_, server)| is_meant(server));
    let found = stream::iter(meant).map(|(name, server)| async move {
        let server = Server::new(name.clone(), server.mysql.clone())?;
        Ok::<_, Failure>((name.clone(), drover_mysql::discover(&server).await?))
    });
    found.buffer_unordered(SERVERS_AT_ONCE).try_collect().await
}

/// The host names that point to a server, of each zone that lets itself be transferred.
async fn pointing(config: &Config) -> Result<Vec<(String, ServerName)>, Failure> {
    let targets = config.servers.iter().map(|(name, it)| (name.clone(), it.dns.clone()));
    let dns = drover_dns::Service::new(config.dns.clone(), targets.collect())?;
    let mut all = Vec::new();
    for zone in &config.dns.zones {
        match dns.pointing(zone).await {
            Ok(found) => all.extend(found),
            Err(error) => {
                print(&format!("warning: zone {}: no host names: {error}\n", zone.name));
            }
        }
    }
    Ok(all)
}
