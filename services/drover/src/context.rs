//! What commands share: the configuration, the bus, and how a decision comes to the log.

use std::{env, path::Path};

use chrono::Utc;
use drover_bus::{Bus, Error as BusError, Recorded};
use drover_lifecycle::{
    Command, Fact, Migration,
    campaign::{self, Campaign},
};
use drover_schemas::{
    CampaignName, Code, Failure, MigrationId,
    envelope::CloudEvent,
    subjects::{Aggregate, History},
    users::User,
};

use crate::config::Config;

/// How often a decision is made again because the history moved on in between.
const TRIES_MAX: usize = 10;

/// The configuration and a connection to the bus.
pub struct Context {
    /// The configuration.
    pub config: Config,
    /// The bus.
    pub bus: Bus,
}

impl Context {
    /// Reads the configuration and connects as the operator, for the command `name`.
    pub async fn open(path: &Path, name: &str) -> Result<Self, Failure> {
        Self::open_as(&User::Operator, path, name).await
    }

    /// The same as another user.
    pub async fn open_as(user: &User, path: &Path, name: &str) -> Result<Self, Failure> {
        let config = Config::load(path, env::vars())?;
        let bus = Bus::connect(&config.nats.of(user)?, &format!("drover {name}")).await?;
        Ok(Self { config, bus })
    }

    /// The same, for a campaign that must be there.
    pub async fn of(path: &Path, name: &str, campaign: &CampaignName) -> Result<Self, Failure> {
        Self::open(path, name).await?.with(campaign).await
    }

    /// The same, for a command that only reads.
    pub async fn read(path: &Path, name: &str, campaign: &CampaignName) -> Result<Self, Failure> {
        Self::open_as(&User::Reader, path, name).await?.with(campaign).await
    }

    async fn with(self, campaign: &CampaignName) -> Result<Self, Failure> {
        let context = self;
        if !context.bus.campaigns().await?.contains(campaign) {
            return Err(Failure::new(Code::CampaignUnknown, format!("campaign {campaign}")));
        }
        Ok(context)
    }
}

/// Who gives a command: recorded with it.
pub fn operator() -> String {
    let user = ["SUDO_USER", "USER", "LOGNAME"].iter().find_map(|name| env::var(name).ok());
    let host = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    let [user, host] = [user, host].map(|part| part.unwrap_or_else(|| "unknown".to_owned()));
    format!("{user}@{host}")
}

/// What makes an instance of a service unique.
pub fn instance() -> String {
    let host = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    let id = uuid::Uuid::new_v4().simple().to_string();
    format!("{}-{}-{}", host.unwrap_or_default(), std::process::id(), &id[..8])
}

/// Decides on a campaign, and appends what was decided; the sequence of its last event.
///
/// # Errors
/// [`Code::CampaignUnknown`]; [`Code::TransitionNotAllowed`].
pub async fn command_campaign(
    bus: &Bus,
    name: &CampaignName,
    command: campaign::Command,
) -> Result<Decided, Failure> {
    for _ in 0..TRIES_MAX {
        let campaign = campaign_state(bus, name).await?;
        let Some(event) = campaign.decide(command.clone()).map_err(not_allowed)? else {
            return Ok(Decided { revision: campaign.revision, changed: false });
        };
        let event = CloudEvent::campaign(event, &format!("drover/cli/{}", operator()), Utc::now());
        match bus.append(name, &History::Campaign, campaign.revision, &event).await {
            Ok(revision) => return Ok(Decided { revision, changed: true }),
            Err(BusError::Conflict { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(Failure::new(Code::BusConflict, format!("campaign {name} changes all the time")))
}

/// A campaign's state, from its log.
///
/// # Errors
/// [`Code::CampaignUnknown`].
pub async fn campaign_state(bus: &Bus, name: &CampaignName) -> Result<Campaign, Failure> {
    let mut facts = Vec::new();
    for Recorded { sequence: revision, event, .. } in bus.history(name, Aggregate::Campaign).await?
    {
        let event = event
            .decode_campaign()
            .map_err(|error| Failure::new(Code::EventUndecodable, error.to_string()))?;
        facts.push(campaign::Fact { revision, event });
    }
    let campaign = Campaign::replay(facts).map_err(not_allowed)?;
    campaign.ok_or_else(|| Failure::new(Code::CampaignUnknown, format!("campaign {name}")))
}

/// What a command led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decided {
    /// The sequence of the last event.
    pub revision: u64,
    /// False where it was so already.
    pub changed: bool,
}

/// Decides on a migration, and appends what was decided.
///
/// # Errors
/// [`Code::MigrationUnknown`]; [`Code::TransitionNotAllowed`].
pub async fn command_migration(
    bus: &Bus,
    campaign: &CampaignName,
    id: MigrationId,
    command: &Command,
) -> Result<(), Failure> {
    let aggregate = Aggregate::Migration(id);
    for _ in 0..TRIES_MAX {
        let facts = facts(bus.history(campaign, aggregate).await?)?;
        let migration = Migration::replay(facts).map_err(not_allowed)?;
        let unknown = || Failure::new(Code::MigrationUnknown, format!("migration {id}"));
        let migration = migration.ok_or_else(unknown)?;
        let event = migration.decide(command.clone()).map_err(not_allowed)?;
        let source = format!("drover/cli/{}", operator());
        let event = CloudEvent::migration(event, &source, Utc::now());
        let history = History::of(id, &migration.planned)
            .map_err(|error| Failure::new(Code::EventUndecodable, error.to_string()))?;
        match bus.append(campaign, &history, migration.revision, &event).await {
            Ok(_) => return Ok(()),
            Err(BusError::Conflict { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(Failure::new(Code::BusConflict, format!("migration {id} changes all the time")))
}

fn facts(history: Vec<Recorded>) -> Result<Vec<Fact>, Failure> {
    let fact = |Recorded { sequence: revision, event, .. }: Recorded| {
        let at_unix_ms = event.time.timestamp_millis();
        let event = event
            .decode_migration()
            .map_err(|error| Failure::new(Code::EventUndecodable, error.to_string()))?;
        Ok(Fact { revision, at_unix_ms, event })
    };
    history.into_iter().map(fact).collect()
}

fn not_allowed(error: drover_lifecycle::NotAllowed) -> Failure {
    Failure::new(Code::TransitionNotAllowed, error.to_string())
}
