//! Tests on real nats-servers: one shared by all, and one of their own for those that stop it.

mod append;
mod connect;
mod control;
mod follow;
mod jobs;
mod lease;
mod onward;
mod scene;
mod streams;
mod worker;

use std::{sync::OnceLock, time::Duration};

use chrono::Utc;
use drover_schemas::{
    CampaignName, MigrationId,
    envelope::CloudEvent,
    subjects::{Aggregate, History, Host},
    v1::{Job, MigrationAdmitted, MigrationPlanned, Step, migration_event::Event},
};
use drover_testbed::{Bed, Nats};
use uuid::Uuid;

use crate::{Bus, Options};

/// How long a condition is waited for; many tests share a small machine.
const DEADLINE: Duration = Duration::from_secs(60);

struct Server {
    nats: Nats,
    // Ends after the server.
    _bed: Bed,
}

impl Server {
    fn start() -> Self {
        let bed = Bed::new().unwrap();
        Self { nats: Nats::start(&bed).unwrap(), _bed: bed }
    }

    /// One that syncs each message to the disk before it acknowledges it.
    fn start_synced() -> Self {
        let bed = Bed::new().unwrap();
        let extra = "jetstream { store_dir: \"$DIR/store\", sync_interval: always }";
        Self { nats: Nats::start_with(&bed, extra).unwrap(), _bed: bed }
    }

    fn options(&self) -> Options {
        options(&self.nats.url())
    }

    async fn bus(&self) -> Bus {
        let bus = Bus::connect(&self.options(), "test").await.unwrap();
        bus.ensure_base().await.unwrap();
        bus
    }
}

fn options(url: &str) -> Options {
    Options { url: url.to_owned(), ..Options::default() }
}

/// The server that tests share which do not stop it.
fn shared() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(Server::start)
}

fn unique(prefix: &str) -> String {
    format!("{prefix}-{}", Uuid::new_v4().simple())
}

async fn new_campaign(bus: &Bus) -> CampaignName {
    let campaign: CampaignName = unique("c").parse().unwrap();
    bus.ensure_campaign(&campaign).await.unwrap();
    campaign
}

fn new_host() -> Host {
    Host::Server(unique("h").parse().unwrap())
}

fn migration(campaign: &CampaignName, database: &str) -> MigrationId {
    MigrationId::new(campaign, &"source".parse().unwrap(), database)
}

fn planned(database: &str) -> MigrationPlanned {
    MigrationPlanned {
        database: database.to_owned(),
        source: "source".to_owned(),
        destination: "destination".to_owned(),
        ..MigrationPlanned::default()
    }
}

fn history(campaign: &CampaignName, database: &str) -> History {
    History::of(migration(campaign, database), &planned(database)).unwrap()
}

/// An event that tells itself apart by its number.
fn event(number: u32) -> CloudEvent {
    let event = Event::MigrationAdmitted(MigrationAdmitted { run: number, rehearsal: false });
    CloudEvent::migration(event, "drover/test/1", Utc::now())
}

fn number_of(event: &CloudEvent) -> u32 {
    match event.decode_migration().unwrap() {
        Event::MigrationAdmitted(admitted) => admitted.run,
        other => panic!("{other:?}"),
    }
}

fn job(campaign: &CampaignName, database: &str, step: Step, revision: u64) -> Job {
    Job {
        campaign: campaign.to_string(),
        migration_id: migration(campaign, database).to_string(),
        planned: Some(planned(database)),
        step: step.into(),
        revision,
        issued_at_unix_ms: Utc::now().timestamp_millis(),
        revision_at_unix_ms: Utc::now().timestamp_millis(),
        ..Job::default()
    }
}
