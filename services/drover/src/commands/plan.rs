//! `drover plan`: every row is validated, then all are recorded; or none.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::{Path, PathBuf},
};

use chrono::Utc;
use drover_bus::{Append, Bus, Error as BusError, From, Item};
use drover_mysql::Server;
use drover_schemas::{
    CampaignName, Code, Failure, MigrationId,
    envelope::CloudEvent,
    subjects::{Aggregate, History},
    v1::{CampaignCreated, MigrationPlanned, Policy, campaign_event, migration_event},
};
use futures::{StreamExt as _, TryStreamExt as _, stream};

use super::print;
use crate::{
    config::Config,
    context::{Context, operator},
    discover::WaveBy,
    inventory::{self, Row},
    report::Trouble,
};

/// How many servers are asked at once.
const SERVERS_AT_ONCE: usize = 32;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The campaign's name; made when it is new.
    campaign: CampaignName,
    /// A CSV file with a header: database, source, destination, host_names (separated by spaces),
    /// wave, owner; further columns are kept as labels. Two of these are heeded: priority (of a wave
    /// the higher goes first) and bytes (a database's size, for the forecast).
    #[arg(long, value_name = "FILE", required_unless_present = "discover")]
    inventory: Option<PathBuf>,
    /// Plans nothing, but writes such a file, of what is on the sources: to be checked and edited.
    #[arg(long, value_name = "FILE", conflicts_with = "inventory")]
    discover: Option<PathBuf>,
    /// With --discover: what goes together in one wave.
    #[arg(long, value_enum, default_value = "source", requires = "discover")]
    wave_by: WaveBy,
}

impl Args {
    /// To plan an inventory.
    pub fn of(campaign: CampaignName, inventory: PathBuf) -> Self {
        Self { campaign, inventory: Some(inventory), discover: None, wave_by: WaveBy::Source }
    }
}

pub async fn run(config: &Path, args: Args) -> Result<(), Trouble> {
    let Args { campaign, inventory, discover, wave_by } = args;
    if campaign.is_rehearsal() {
        return Err(Failure::new(Code::RehearsalName, format!("campaign {campaign}")).into());
    }
    if let Some(file) = discover {
        return super::discover::run(config, &file, wave_by).await;
    }
    let Some(inventory) = inventory else { return Ok(()) };
    let context = Context::open(config, "plan").await?;
    let text = std::fs::read(&inventory).map_err(|error| {
        Failure::new(Code::InventoryUnreadable, format!("{}: {error}", inventory.display()))
    })?;
    // All faults in one go: those of the file, of the campaign, and of the servers.
    let (rows, mut faults) = inventory::read(&text, &campaign, &context.config);
    let total = rows.len();
    context.bus.ensure_base().await?;
    let known = planned_before(&context.bus, &campaign).await?;
    let (rows, found) = inventory::against_planned(rows, &known);
    faults.extend(found);
    faults.extend(look_at_servers(&context.config, &rows).await?);
    if !faults.is_empty() {
        faults.sort_by_key(|fault| fault.line);
        return Err(Trouble::Faults(faults));
    }
    warn_of_watchdogs(&context.config, &rows).await?;
    let policy = (&context.config.campaign).into();
    let new = record(&context.bus, &campaign, policy, rows).await?;
    print(&format!("{campaign}: {new} migrations planned, {} were planned before\n", total - new));
    Ok(())
}

/// What the campaign has planned already.
pub(super) async fn planned_before(
    bus: &Bus,
    campaign: &CampaignName,
) -> Result<HashMap<MigrationId, MigrationPlanned>, Failure> {
    let mut planned = HashMap::new();
    if !bus.campaigns().await?.contains(campaign) {
        return Ok(planned);
    }
    let mut items = bus.replay(campaign, From::Start, None);
    while let Some(item) = items.try_next().await? {
        if let Item::Event(recorded) = item
            && let Aggregate::Migration(id) = recorded.aggregate()
            && let Ok(event) = recorded.event.decode_migration()
            && recorded.history.admits(campaign, planned.get(&id), &event)
            && let migration_event::Event::MigrationPlanned(row) = event
        {
            planned.insert(id, row);
        }
    }
    Ok(planned)
}

/// Asks every server of the rows for their databases.
async fn look_at_servers(config: &Config, rows: &[Row]) -> Result<Vec<inventory::Fault>, Failure> {
    let mut asked: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for row in rows {
        for server in [&row.planned.source, &row.planned.destination] {
            asked.entry(server).or_default().insert(row.planned.database.clone());
        }
    }
    let existing: Vec<(String, BTreeSet<String>)> = stream::iter(asked)
        .map(|(name, databases)| async move {
            let unknown = |_| Failure::new(Code::InventoryServerUnknown, name.to_owned());
            let name = name.parse().map_err(unknown)?;
            let Some(server) = config.servers.get(&name) else {
                return Err(Failure::new(Code::InventoryServerUnknown, name.to_string()));
            };
            let server = Server::new(name.clone(), server.mysql.clone())?;
            let databases: Vec<String> = databases.into_iter().collect();
            let found = drover_mysql::existing(&server, &databases).await?;
            Ok((name.to_string(), found))
        })
        .buffer_unordered(SERVERS_AT_ONCE)
        .try_collect()
        .await?;
    let there: BTreeSet<(String, String)> = existing
        .into_iter()
        .flat_map(|(server, found)| found.into_iter().map(move |name| (server.clone(), name)))
        .collect();
    Ok(inventory::against_servers(rows, &there))
}

/// Says which sources will not thaw themselves.
async fn warn_of_watchdogs(config: &Config, rows: &[Row]) -> Result<(), Failure> {
    let sources: BTreeSet<&str> = rows.iter().map(|row| row.planned.source.as_str()).collect();
    let asked = stream::iter(sources)
        .map(|source| async move {
            let Some((name, server)) =
                config.servers.iter().find(|(name, _)| name.as_str() == source)
            else {
                return Ok((source, true));
            };
            let server = Server::new(name.clone(), server.mysql.clone())?;
            Ok::<_, Failure>((source, drover_mysql::watchdog::runs(&server).await?))
        })
        .buffered(SERVERS_AT_ONCE);
    let asked: Vec<(&str, bool)> = asked.try_collect().await?;
    for (source, _) in asked.into_iter().filter(|(_, runs)| !runs) {
        print(&format!(
            "warning: {source}: without a watchdog: its event scheduler does not run (SET GLOBAL \
             event_scheduler = ON), or it is not MariaDB. Should every service die, what is frozen \
             there stays frozen until one runs again.\n"
        ));
    }
    Ok(())
}

/// Records a campaign, where it is new, and its rows: how many of these are new.
pub(super) async fn record(
    bus: &Bus,
    campaign: &CampaignName,
    policy: Policy,
    rows: Vec<Row>,
) -> Result<usize, Failure> {
    let source = format!("drover/cli/{}", operator());
    bus.ensure_campaign(campaign).await?;
    let created = CampaignCreated { policy: Some(policy) };
    let created = campaign_event::Event::CampaignCreated(created);
    let created = CloudEvent::campaign(created, &source, Utc::now());
    match bus.append(campaign, &History::Campaign, 0, &created).await {
        Ok(_) | Err(BusError::Conflict { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    let append = |row: Row| {
        let history = History::of(row.id, &row.planned)
            .map_err(|error| Failure::new(Code::InventoryServerUnknown, error.to_string()))?;
        let event = migration_event::Event::MigrationPlanned(row.planned);
        let event = CloudEvent::migration(event, &source, Utc::now());
        Ok::<_, Failure>(Append { history, expected_revision: 0, event })
    };
    let appends: Vec<Append> = rows.into_iter().map(append).collect::<Result<_, _>>()?;
    let mut outcomes = std::pin::pin!(bus.append_many(campaign, appends));
    let mut new = 0;
    while let Some(outcome) = outcomes.next().await {
        match outcome {
            Ok(_) => new += 1,
            // Another `plan` of the same inventory was faster with this row.
            Err(BusError::Conflict { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(new)
}
