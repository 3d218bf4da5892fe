//! One look at everything that tells of a campaign: the servers' ledgers, the queue, the zone, the
//! store, and last the log, so that in a sound system the log knows whatever was found before.

use std::collections::{BTreeMap, HashMap};

use drover_bus::{Bus, Error as BusError, From, Item};
use drover_dumpstore::Store;
use drover_lifecycle::{
    Fact, Migration,
    campaign::{self, Campaign},
    reconcile::{Shows, Sighting},
};
use drover_mysql::{Server, survey, survey::Row};
use drover_schemas::{
    CampaignName, Code, Failure, MigrationId, ServerName,
    subjects::Aggregate,
    v1::{MigrationPlanned, Policy, ServiceStatus, migration_event::Event},
};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use prost::Message as _;

use crate::config::Config;

/// How many servers, or host names, are asked at once.
const AT_ONCE: usize = 32;
/// The services that know how far the log went.
const FOLLOWERS: [&str; 2] = ["orchestrator", "projector"];

/// All that was found.
pub struct Picture {
    /// Of the stream; none where there is none.
    pub last_sequence: Option<u64>,
    /// The campaign's own state.
    pub campaign: Option<Campaign>,
    /// What the log says of each migration.
    pub log: HashMap<MigrationId, Migration>,
    /// What the places show of each.
    pub sightings: BTreeMap<MigrationId, Vec<Sighting>>,
    /// The ledgers' rows, with the server.
    pub rows: Vec<(ServerName, Row)>,
    /// The servers whose ledgers were read.
    pub servers: Vec<ServerName>,
    /// The highest revision that anybody has seen.
    pub seen_revision: u64,
    /// Subjects of orders that cannot be read.
    pub unread_orders: Vec<String>,
    /// The highest run that the store has objects of, for each migration.
    pub objects: BTreeMap<MigrationId, u32>,
    /// The policy, as the orders carry it.
    pub policy: Option<Policy>,
}

impl Picture {
    /// Looks.
    ///
    /// # Errors
    /// When anything cannot be read: a picture with a hole tells nothing.
    pub async fn take(
        config: &Config,
        bus: &Bus,
        campaign: &CampaignName,
    ) -> Result<Self, Failure> {
        let mut picture = Self {
            last_sequence: None,
            campaign: None,
            log: HashMap::new(),
            sightings: BTreeMap::new(),
            rows: Vec::new(),
            servers: config.servers.keys().cloned().collect(),
            seen_revision: followed(bus, campaign).await?,
            unread_orders: Vec::new(),
            objects: BTreeMap::new(),
            policy: None,
        };
        picture.read_store(config, campaign).await?;
        picture.read_queue(bus, campaign).await?;
        picture.read_ledgers(config, campaign).await?;
        // Which host names there are, the log tells best; it is read again after the zone.
        picture.read_log(bus, campaign).await?;
        picture.read_zone(config).await?;
        picture.read_log(bus, campaign).await?;
        let seen = picture.sightings.values().flatten().map(|sighting| sighting.revision).max();
        picture.seen_revision = picture.seen_revision.max(seen.unwrap_or(0));
        let orders = picture.sightings.values().flatten().filter_map(|it| it.order.as_ref());
        picture.policy = orders.filter_map(|order| order.policy.clone()).next();
        Ok(picture)
    }

    async fn read_store(
        &mut self,
        config: &Config,
        campaign: &CampaignName,
    ) -> Result<(), Failure> {
        let mut objects = Store::open(&config.store)?.list(campaign, None);
        while let Some(stored) = objects.try_next().await? {
            let attempt = stored.key.attempt();
            let run = self.objects.entry(attempt.migration()).or_default();
            *run = attempt.run().max(*run);
        }
        Ok(())
    }

    async fn read_queue(&mut self, bus: &Bus, campaign: &CampaignName) -> Result<(), Failure> {
        bus.ensure_base().await?;
        for queued in bus.orders().await? {
            let id = queued.job.as_ref().and_then(|job| job.migration_id.parse().ok());
            let (Some(job), Some(id)) = (queued.job, id) else {
                self.unread_orders.push(queued.subject);
                continue;
            };
            if job.campaign == campaign.as_str() {
                self.sightings.entry(id).or_default().push(Sighting {
                    revision: job.revision,
                    run: job.run,
                    shows: Shows::Ordered(job.step()),
                    order: Some(job),
                    tells: Vec::new(),
                });
            }
        }
        Ok(())
    }

    async fn read_ledgers(
        &mut self,
        config: &Config,
        campaign: &CampaignName,
    ) -> Result<(), Failure> {
        let read = |(name, server): (&ServerName, &crate::config::Server)| {
            let (name, options) = (name.clone(), server.mysql.clone());
            async move {
                let server = Server::new(name.clone(), options)?;
                Ok::<_, Failure>((name, survey(&server, campaign).await?))
            }
        };
        let all: Vec<(ServerName, Vec<Row>)> = stream::iter(config.servers.iter().map(read))
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await?;
        for (name, rows) in all {
            for row in rows {
                self.sightings.entry(row.migration).or_default().push(Sighting {
                    revision: row.revision,
                    run: row.run,
                    shows: Shows::Ledger(row.state),
                    order: row.order.clone(),
                    tells: row.tells.clone(),
                });
                self.rows.push((name.clone(), row));
            }
        }
        Ok(())
    }

    /// The marks of all migrations that were begun.
    async fn read_zone(&mut self, config: &Config) -> Result<(), Failure> {
        let targets = config.servers.iter().map(|(name, it)| (name.clone(), it.dns.clone()));
        let dns = &drover_dns::Service::new(config.dns.clone(), targets.collect())?;
        let rows = self.begun().into_iter();
        let asked = rows.map(|(id, planned)| async move {
            Ok::<_, Failure>((id, dns.marked(id, &planned).await?))
        });
        let marked: Vec<_> = stream::iter(asked).buffer_unordered(AT_ONCE).try_collect().await?;
        for (id, marked) in marked {
            let Some(marked) = marked else { continue };
            let switched = drover_schemas::v1::DnsSwitched { changes: marked.changes };
            self.sightings.entry(id).or_default().push(Sighting {
                revision: marked.revision,
                run: marked.run,
                shows: if marked.switched { Shows::Switched } else { Shows::Reverted },
                order: None,
                tells: vec![Event::DnsSwitched(switched)],
            });
        }
        Ok(())
    }

    fn begun(&self) -> Vec<(MigrationId, MigrationPlanned)> {
        let mut begun: HashMap<MigrationId, MigrationPlanned> = HashMap::new();
        for (id, sightings) in &self.sightings {
            let planned = sightings.iter().find_map(Sighting::planned);
            begun.extend(planned.map(|planned| (*id, planned.clone())));
        }
        let logged = self.log.iter().filter(|(_, migration)| migration.run > 0);
        begun.extend(logged.map(|(id, migration)| (*id, migration.planned.clone())));
        begun.into_iter().collect()
    }

    async fn read_log(&mut self, bus: &Bus, campaign: &CampaignName) -> Result<(), Failure> {
        self.log.clear();
        self.campaign = None;
        self.last_sequence = match bus.campaign_sequence(campaign).await {
            Ok(sequence) => Some(sequence),
            Err(BusError::CampaignUnknown { .. }) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let mut items = bus.replay(campaign, From::Start, None);
        while let Some(item) = items.next().await {
            let Item::Event(recorded) = item? else { continue };
            let revision = recorded.sequence;
            let at_unix_ms = recorded.event.time.timestamp_millis();
            let damaged = |what: String| {
                Failure::new(Code::EventUndecodable, format!("event {revision}: {what}"))
            };
            match recorded.aggregate() {
                Aggregate::Campaign => {
                    let event = recorded.event.decode_campaign();
                    let event = event.map_err(|error| damaged(error.to_string()))?;
                    let fact = campaign::Fact { revision, event };
                    match &mut self.campaign {
                        Some(campaign) => campaign.evolve(fact),
                        none => Campaign::begin(fact).map(|begun| *none = Some(begun)),
                    }
                    .map_err(|error| damaged(error.to_string()))?;
                }
                Aggregate::Migration(id) => {
                    let event = recorded.event.decode_migration();
                    let event = event.map_err(|error| damaged(error.to_string()))?;
                    let planned = self.log.get(&id).map(|migration| &migration.planned);
                    if !recorded.history.admits(campaign, planned, &event) {
                        continue;
                    }
                    let fact = Fact { revision, at_unix_ms, event };
                    match self.log.get_mut(&id) {
                        Some(migration) => migration.evolve(fact),
                        None => Migration::begin(fact).map(|begun| {
                            self.log.insert(id, begun);
                        }),
                    }
                    .map_err(|error| damaged(error.to_string()))?;
                }
            }
        }
        Ok(())
    }

    /// What a migration is called for a person.
    pub fn database(&self, id: MigrationId) -> String {
        let logged = self.log.get(&id).map(|migration| migration.planned.database.clone());
        let row = || self.rows.iter().find(|(_, row)| row.migration == id);
        logged.or_else(|| row().map(|(_, row)| row.database.clone())).unwrap_or_default()
    }
}

/// The highest sequence of the campaign that a running service has taken in.
async fn followed(bus: &Bus, campaign: &CampaignName) -> Result<u64, Failure> {
    let mut highest = 0;
    for service in FOLLOWERS {
        let answers = match bus.ask(service, Vec::new().into()).await {
            Ok(answers) => answers,
            Err(BusError::NoAnswer { .. }) => continue,
            Err(error) => return Err(error.into()),
        };
        let statuses = answers.into_iter().filter_map(|answer| ServiceStatus::decode(answer).ok());
        let known = statuses.flat_map(|status| status.campaigns);
        let known = known.filter(|known| known.campaign == campaign.as_str());
        highest = known.map(|known| known.sequence).fold(highest, u64::max);
    }
    Ok(highest)
}
