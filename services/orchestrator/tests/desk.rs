//! Orchestrators on a real bus: one acts, another takes over, and no migration is forgotten.

#![allow(clippy::unwrap_used, reason = "a failed test may panic anywhere")]

use std::{collections::HashMap, fs, time::Duration};

use chrono::Utc;
use drover_bus::{Bus, Options as BusOptions};
use drover_lifecycle::admission::Slots;
use drover_orchestrator::{Options, Service};
use drover_schemas::{
    CampaignName, MigrationId, ServerName,
    envelope::CloudEvent,
    streams::JOBS_PREFIX,
    subjects::{Aggregate, History, Host},
    v1::{self, Step, campaign_event, migration_event::Event},
};
use drover_testbed::{Bed, bed::eventually, nats::Nats};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const DEADLINE: Duration = Duration::from_secs(60);

struct World {
    bus: Bus,
    campaign: CampaignName,
    nats: Nats,
    _bed: Bed,
}

/// Where the events of a migration from `a` to `b` stand.
fn history(id: MigrationId) -> History {
    History::Migration { id, source: "a".parse().unwrap(), destination: "b".parse().unwrap() }
}

impl World {
    /// A campaign of so many migrations from `a` to `b`, started.
    async fn new(migrations: usize, in_flight_max: u32) -> Self {
        let bed = Bed::new().unwrap();
        let nats = Nats::start(&bed).unwrap();
        let options = BusOptions { url: nats.url(), ..BusOptions::default() };
        let bus = Bus::connect(&options, "test").await.unwrap();
        let campaign: CampaignName = "night".parse().unwrap();
        bus.ensure_base().await.unwrap();
        bus.ensure_campaign(&campaign).await.unwrap();
        let world = Self { bus, campaign, nats, _bed: bed };
        let policy = Some(v1::Policy::default());
        let created = campaign_event::Event::CampaignCreated(v1::CampaignCreated { policy });
        let started = v1::CampaignStarted { in_flight_max, by: "test".into() };
        let revision = world.campaign_event(0, created).await;
        world.campaign_event(revision, campaign_event::Event::CampaignStarted(started)).await;
        for n in 0..migrations {
            let planned = v1::MigrationPlanned {
                database: format!("db{n}"),
                source: "a".into(),
                destination: "b".into(),
                ..Default::default()
            };
            world.append(world.id(n), 0, Event::MigrationPlanned(planned)).await;
        }
        world
    }

    fn id(&self, n: usize) -> MigrationId {
        MigrationId::new(&self.campaign, &"a".parse().unwrap(), &format!("db{n}"))
    }

    async fn campaign_event(&self, on: u64, event: campaign_event::Event) -> u64 {
        let event = CloudEvent::campaign(event, "test", Utc::now());
        self.bus.append(&self.campaign, &History::Campaign, on, &event).await.unwrap()
    }

    async fn append(&self, id: MigrationId, on: u64, event: Event) -> u64 {
        let event = CloudEvent::migration(event, "test", Utc::now());
        self.bus.append(&self.campaign, &history(id), on, &event).await.unwrap()
    }

    /// What the source's service appends of a freeze and the dump that it goes on with; the revision.
    async fn dumped(&self, id: MigrationId) -> u64 {
        let frozen = Event::SourceFrozen(v1::SourceFrozen::default());
        let revision = self.append(id, self.revision(id).await, frozen).await;
        self.append(id, revision, Event::DumpStored(v1::DumpStored::default())).await
    }

    async fn revision(&self, id: MigrationId) -> u64 {
        let last = self.bus.last(&self.campaign, &history(id)).await.unwrap();
        last.unwrap().sequence
    }

    /// An orchestrator; aborting it is its sudden death.
    fn orchestrator(&self, name: &str) -> JoinHandle<()> {
        let slots = Slots { as_source: 4, as_destination: 4 };
        let hosts = ["a", "b"].map(|host| (host.parse::<ServerName>().unwrap(), slots));
        let options = Options { lease_ms: 1_000 };
        let hosts: HashMap<_, _> = hosts.into_iter().collect();
        let service = Service::new(self.bus.clone(), options, hosts, name.to_owned());
        tokio::spawn(async move { service.run(CancellationToken::new()).await.unwrap() })
    }

    /// Waits until the order for a step stands on the queue at the migration's last revision.
    async fn ordered(&self, step: Step, host: &str, id: MigrationId) {
        let host = Host::Server(host.parse().unwrap());
        eventually(DEADLINE, || async {
            let outstanding = self.bus.outstanding(step, &host, id).await?;
            Ok(outstanding == Some(self.revision(id).await))
        })
        .await
        .unwrap();
    }

    async fn queued(&self) -> usize {
        self.bus.queued().await.unwrap().len()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_takes_over_what_the_first_one_left_undone() {
    let world = World::new(1, 10).await;
    let first = world.orchestrator("first");
    let id = world.id(0);
    world.ordered(Step::Freeze, "a", id).await;
    first.abort();
    // While nobody decides, a service goes on and ends its steps.
    world.dumped(id).await;
    let _second = world.orchestrator("second");
    world.ordered(Step::Import, "b", id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_at_once_admit_no_more_than_the_campaign_allows() {
    let world = World::new(12, 3).await;
    let _both = [world.orchestrator("one"), world.orchestrator("two")];
    eventually(DEADLINE, || async { Ok(world.queued().await == 3) }).await.unwrap();
    // One ends, and one more is admitted.
    let mut admitted = Vec::new();
    for n in 0..12 {
        let id = world.id(n);
        if world.bus.history(&world.campaign, Aggregate::Migration(id)).await.unwrap().len() > 1 {
            admitted.push(id);
        }
    }
    assert_eq!(admitted.len(), 3);
    let failed = v1::StepFailed { step: Step::Freeze.into(), attempt: 1, ..Default::default() };
    let id = admitted[0];
    world.append(id, world.revision(id).await, Event::StepFailed(failed)).await;
    world.ordered(Step::Thaw, "a", id).await;
    let thawed = Event::SourceThawed(v1::SourceThawed::default());
    world.append(id, world.revision(id).await, thawed).await;
    eventually(DEADLINE, || async {
        let history = world.bus.history(&world.campaign, Aggregate::Migration(id)).await?;
        Ok(history.last().is_some_and(|last| last.event.kind == "drover.v1.MigrationParked"))
    })
    .await
    .unwrap();
    // The queue holds its done jobs here, as no service takes them; a fourth freeze comes.
    eventually(DEADLINE, || async {
        let queued = world.bus.queued().await?;
        Ok(queued.iter().filter(|subject| subject.contains(".freeze.")).count() == 4)
    })
    .await
    .unwrap();
}

/// What a service of another host can append: the same migration, between other servers.
#[tokio::test(flavor = "multi_thread")]
async fn what_names_other_servers_moves_no_migration() {
    let world = World::new(1, 10).await;
    let _one = world.orchestrator("one");
    let id = world.id(0);
    world.ordered(Step::Freeze, "a", id).await;
    let destination = "thief".parse().unwrap();
    let foreign = History::Migration { id, source: "a".parse().unwrap(), destination };
    let mut on = 0;
    for event in [
        Event::SourceFrozen(v1::SourceFrozen::default()),
        Event::MigrationParked(v1::MigrationParked::default()),
    ] {
        let event = CloudEvent::migration(event, "test", Utc::now());
        on = world.bus.append(&world.campaign, &foreign, on, &event).await.unwrap();
    }
    // The log is read in order: what is ordered on the own history was decided after those.
    let revision = world.dumped(id).await;
    world.ordered(Step::Import, "b", id).await;
    let history = world.bus.history(&world.campaign, Aggregate::Migration(id)).await.unwrap();
    assert_eq!(history.last().map(|last| last.sequence), Some(revision));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bus_may_go_and_come_back() {
    let world = World::new(2, 10).await;
    let _one = world.orchestrator("one");
    let id = world.id(0);
    world.ordered(Step::Freeze, "a", id).await;
    world.nats.kill().unwrap();
    world.nats.restart().unwrap();
    eventually(DEADLINE, || async { Ok(world.bus.campaigns().await.is_ok()) }).await.unwrap();
    world.dumped(id).await;
    world.ordered(Step::Import, "b", id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_that_a_killed_server_has_lost_are_made_again() {
    let world = World::new(1, 10).await;
    let _one = world.orchestrator("one");
    let id = world.id(0);
    world.ordered(Step::Freeze, "a", id).await;
    world.nats.kill().unwrap();
    for stream in fs::read_dir(world.nats.dir().join("store/jetstream/$G/streams")).unwrap() {
        let stream = stream.unwrap();
        if stream.file_name().to_string_lossy().starts_with(JOBS_PREFIX) {
            fs::remove_dir_all(stream.path().join("msgs")).unwrap();
        }
    }
    world.nats.restart().unwrap();
    eventually(DEADLINE, || async { Ok(world.bus.campaigns().await.is_ok()) }).await.unwrap();
    world.ordered(Step::Freeze, "a", id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_time_to_wait_survives_a_change_of_orchestrators() {
    let world = World::new(1, 10).await;
    let first = world.orchestrator("first");
    let id = world.id(0);
    world.ordered(Step::Freeze, "a", id).await;
    let next_attempt_at_unix_ms = Utc::now().timestamp_millis() + 3_000;
    let failed = v1::StepFailed {
        step: Step::Freeze.into(),
        attempt: 1,
        transient: true,
        next_attempt_at_unix_ms,
        ..Default::default()
    };
    let revision = world.append(id, world.revision(id).await, Event::StepFailed(failed)).await;
    first.abort();
    let _second = world.orchestrator("second");
    world.ordered(Step::Freeze, "a", id).await;
    assert!(Utc::now().timestamp_millis() >= next_attempt_at_unix_ms, "not before its time");
    assert_eq!(world.revision(id).await, revision);
}
