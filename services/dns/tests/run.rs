//! The loop: an order on the queue becomes the step's event in the history.

#![allow(clippy::unwrap_used)]

mod support;

use drover_bus::{Bus, Options};
use drover_schemas::{
    CampaignName,
    envelope::CloudEvent,
    subjects::{History, Host},
    v1::{Job, MigrationEvent, MigrationPlanned, Step, migration_event::Event},
};
use drover_testbed::{Nats, bed::eventually};
use prost::Message as _;
use support::{DESTINATION, SOURCE, add, answer, job, service, shared};
use tokio_util::sync::CancellationToken;

fn history(job: &Job) -> History {
    History::of(job.migration_id.parse().unwrap(), job.planned.as_ref().unwrap()).unwrap()
}

async fn last(bus: &Bus, campaign: &CampaignName, job: &Job) -> (u64, Event) {
    let recorded = bus.last(campaign, &history(job)).await.unwrap().unwrap();
    let event = MigrationEvent::decode(recorded.event.data.as_slice()).unwrap();
    (recorded.sequence, event.event.unwrap())
}

#[tokio::test]
async fn orders_become_events() {
    add(&["run.example.test 300 A 192.0.2.1"]);
    let nats = Nats::start(&shared().bed).unwrap();
    let options = Options { url: nats.url(), ..Options::default() };
    let bus = Bus::connect(&options, "test").await.unwrap();
    let campaign: CampaignName = "night".parse().unwrap();
    bus.ensure_base().await.unwrap();
    bus.ensure_campaign(&campaign).await.unwrap();
    let mut job = job(&["run.example.test"]);
    let planned = Event::MigrationPlanned(MigrationPlanned::default());
    let planned = CloudEvent::migration(planned, "test", chrono::Utc::now());
    let planned = bus.append(&campaign, &history(&job), 0, &planned).await.unwrap();

    let shutdown = CancellationToken::new();
    let running = tokio::spawn({
        let (bus, shutdown) = (bus.clone(), shutdown.clone());
        async move { service().run(bus, "a", shutdown).await }
    });
    let mut revision = planned;
    for (step, value) in [(Step::Switch, DESTINATION), (Step::Revert, SOURCE)] {
        job = Job { step: step.into(), revision, ..job };
        bus.order(&job, &Host::Dns).await.unwrap();
        eventually(drover_testbed::bed::DEADLINE, || async {
            Ok(last(&bus, &campaign, &job).await.0 > revision)
        })
        .await
        .unwrap();
        let (sequence, event) = last(&bus, &campaign, &job).await;
        match (step, event) {
            (Step::Switch, Event::DnsSwitched(done)) => assert_eq!(done.changes.len(), 1),
            (Step::Revert, Event::DnsReverted(done)) => assert_eq!(done.changes.len(), 1),
            (step, event) => unreachable!("{step:?} ended in {event:?}"),
        }
        assert_eq!(answer("run.example.test", "A"), [value]);
        revision = sequence;
    }
    shutdown.cancel();
    running.await.unwrap().unwrap();
}
