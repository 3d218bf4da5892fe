//! The loop, wired to a real bus: orders become events.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::os::unix::fs::PermissionsExt as _;

use chrono::Utc;
use drover_bus::Bus;
use drover_dumpstore::{Attempt, Object, Store, link};
use drover_notify::{Options, Service};
use drover_schemas::{
    CampaignName, MigrationId,
    envelope::CloudEvent,
    subjects::{History, Host},
    v1::{DumpStored, Job, MigrationPlanned, Policy, Step, migration_event::Event},
};
use drover_testbed::{Bed, Nats, bed};
use tokio_util::sync::CancellationToken;

#[tokio::test]
async fn an_order_becomes_the_steps_event() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let bed = Bed::new().unwrap();
    let nats = Nats::start(&bed).unwrap();
    let options = drover_bus::Options { url: nats.url(), ..drover_bus::Options::default() };
    let bus = Bus::connect(&options, "notify-test").await.unwrap();
    let campaign: CampaignName = "night-1".parse().unwrap();
    bus.ensure_base().await.unwrap();
    bus.ensure_campaign(&campaign).await.unwrap();

    let url = bed.dir().join("store").to_str().unwrap().to_owned();
    let options =
        drover_dumpstore::Options { url, fsync: false, ..drover_dumpstore::Options::default() };
    let store = Store::open(&options).unwrap();
    let key_file = bed.dir().join("link-key");
    std::fs::write(&key_file, "k".repeat(32)).unwrap();
    std::fs::set_permissions(&key_file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let links = link::Options { public_url: "https://dumps.example.org".to_owned(), key_file };
    let service = Service::new(&Options::default(), &links, store.clone()).unwrap();
    let shutdown = CancellationToken::new();
    let running = tokio::spawn({
        let (bus, shutdown) = (bus.clone(), shutdown.clone());
        async move { service.run(bus, "test", shutdown).await }
    });

    let id = MigrationId::new(&campaign, &"old-1".parse().unwrap(), "shop");
    let planned = MigrationPlanned {
        database: "shop".to_owned(),
        source: "old-1".to_owned(),
        destination: "new-1".to_owned(),
        ..MigrationPlanned::default()
    };
    let history = History::of(id, &planned).unwrap();
    let event = Event::MigrationPlanned(planned.clone());
    let event = CloudEvent::migration(event, "drover/test/1", Utc::now());
    let revision = bus.append(&campaign, &history, 0, &event).await.unwrap();
    let dump = Attempt::new(campaign.clone(), id, 1, 1).key(Object::Dump);
    let written = store.put_small(&dump, b"dump").await.unwrap();
    let job = Job {
        campaign: campaign.to_string(),
        migration_id: id.to_string(),
        step: Step::Publish.into(),
        revision,
        run: 1,
        attempt: 1,
        policy: Some(Policy::default()),
        planned: Some(planned),
        dump: Some(DumpStored {
            dump_object: dump.to_string(),
            dump_bytes: written.bytes,
            dump_sha256: written.sha256,
            ..DumpStored::default()
        }),
        ..Job::default()
    };
    bus.order(&job, &Host::Notify).await.unwrap();
    let stored = async || {
        let events = bus.history(&campaign, history.aggregate()).await?;
        Ok::<_, drover_bus::Error>(events.into_iter().map(|recorded| recorded.event))
    };
    // What is published is told at once; here that lacks something, and ends in a failure that is
    // not tried again.
    bed::eventually(bed::DEADLINE, async || Ok(stored().await?.len() == 3)).await.unwrap();
    let events: Vec<CloudEvent> = stored().await.unwrap().collect();
    let kinds: Vec<&str> = events.iter().skip(1).map(|event| event.kind.as_str()).collect();
    assert_eq!(kinds, ["drover.v1.DumpPublished", "drover.v1.StepFailed"]);
    assert_eq!(events[1].source, "drover/notify/test");
    let failed = events[2].decode_migration().unwrap();
    let Event::StepFailed(failed) = failed else { panic!("{failed:?}") };
    assert_eq!(failed.step(), Step::Announce);
    assert_eq!((failed.code.as_str(), failed.next_attempt_at_unix_ms), ("DRV-0703", 0));

    shutdown.cancel();
    running.await.unwrap().unwrap();
}
