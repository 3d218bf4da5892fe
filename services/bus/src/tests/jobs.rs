use async_nats::jetstream::{self, consumer::pull};
use drover_schemas::{
    streams::{self, Service},
    subjects,
};
use futures::{StreamExt as _, future::try_join_all};
use prost::Message as _;

use super::*;
use crate::Ordered;

/// Takes the next job at `host` from the queue without acknowledging it.
async fn take(bus: &Bus, host: &Host) -> Option<jetstream::Message> {
    let consumer = streams::consumer(Service::Dump, host, 10);
    bus.ensure_consumer(&consumer).await.unwrap();
    let stream = bus.stream(&consumer.queue).await.unwrap();
    let consumer: jetstream::consumer::Consumer<pull::Config> =
        stream.get_consumer(&consumer.name).await.unwrap();
    let mut batch = consumer.fetch().max_messages(1).messages().await.unwrap();
    batch.next().await.map(Result::unwrap)
}

#[tokio::test]
async fn an_order_is_kept_once_and_gives_way_to_a_newer_one_only() {
    let bus = shared().bus().await;
    let (campaign, host): (CampaignName, _) = (unique("c").parse().unwrap(), new_host());
    let order = async |revision| {
        bus.order(&job(&campaign, "a", Step::Freeze, revision), &host).await.unwrap()
    };
    let outstanding =
        async || bus.outstanding(Step::Freeze, &host, migration(&campaign, "a")).await.unwrap();
    assert_eq!(outstanding().await, None);
    assert_eq!(order(5).await, Ordered::Stored);
    assert_eq!(order(5).await, Ordered::AlreadyThere);
    assert_eq!(order(4).await, Ordered::Overtaken);
    assert_eq!(outstanding().await, Some(5));
    assert_eq!(order(9).await, Ordered::Stored);
    assert_eq!(order(5).await, Ordered::Overtaken);
    assert_eq!(outstanding().await, Some(9));
    let subject = subjects::job(Step::Freeze, &host, migration(&campaign, "a"));
    let queued = bus.queued().await.unwrap();
    assert_eq!(queued.iter().filter(|queued| **queued == subject).count(), 1);
    let taken = take(&bus, &host).await.unwrap();
    assert_eq!(Job::decode(taken.payload.clone()).unwrap().revision, 9);
    assert!(take(&bus, &host).await.is_none());
}

#[tokio::test]
async fn a_subject_is_free_again_once_its_job_is_done() {
    let bus = shared().bus().await;
    let (campaign, host): (CampaignName, _) = (unique("c").parse().unwrap(), new_host());
    for revision in [3, 7, 7, 2] {
        let order = job(&campaign, "a", Step::Freeze, revision);
        assert_eq!(bus.order(&order, &host).await.unwrap(), Ordered::Stored);
        take(&bus, &host).await.unwrap().double_ack().await.unwrap();
        assert!(!bus.queued().await.unwrap().contains(&subjects::job(
            Step::Freeze,
            &host,
            migration(&campaign, "a")
        )));
    }
}

#[tokio::test]
async fn an_order_in_work_is_outstanding_and_can_be_overtaken() {
    let bus = shared().bus().await;
    let (campaign, host): (CampaignName, _) = (unique("c").parse().unwrap(), new_host());
    bus.order(&job(&campaign, "a", Step::Freeze, 3), &host).await.unwrap();
    let old = take(&bus, &host).await.unwrap();
    let outstanding = bus.outstanding(Step::Freeze, &host, migration(&campaign, "a")).await;
    assert_eq!(outstanding.unwrap(), Some(3));
    let newer = job(&campaign, "a", Step::Freeze, 4);
    assert_eq!(bus.order(&newer, &host).await.unwrap(), Ordered::Stored);
    // The old one's acknowledgement does not take the new one away.
    old.double_ack().await.unwrap();
    let taken = take(&bus, &host).await.unwrap();
    assert_eq!(Job::decode(taken.payload.clone()).unwrap().revision, 4);
}

#[tokio::test]
async fn of_orders_at_once_the_newest_stays() {
    let server = shared();
    let buses = [server.bus().await, server.bus().await, server.bus().await];
    let campaign: CampaignName = unique("c").parse().unwrap();
    for round in 0..15 {
        let (host, database) = (new_host(), round.to_string());
        let revisions = [7, 2, 9, 9, 4, 1, 8, 3, 9, 5];
        let orders = revisions.iter().enumerate().map(|(n, revision)| {
            let job = job(&campaign, &database, Step::Freeze, *revision);
            let (bus, host) = (&buses[n % buses.len()], &host);
            async move { bus.order(&job, host).await }
        });
        let outcomes = try_join_all(orders).await.unwrap();
        let newest = revisions.iter().zip(&outcomes).filter(|(revision, _)| **revision == 9);
        let mut stored = 0;
        for (_, outcome) in newest {
            assert_ne!(*outcome, Ordered::Overtaken);
            stored += u32::from(*outcome == Ordered::Stored);
        }
        assert_eq!(stored, 1, "{outcomes:?}");
        let found =
            buses[0].outstanding(Step::Freeze, &host, migration(&campaign, &database)).await;
        assert_eq!(found.unwrap(), Some(9));
    }
}

#[tokio::test]
async fn what_is_not_a_job_gives_way() {
    let bus = shared().bus().await;
    let (campaign, host): (CampaignName, _) = (unique("c").parse().unwrap(), new_host());
    let subject = subjects::job(Step::Freeze, &host, migration(&campaign, "a"));
    bus.context().publish(subject, "\u{7f}".into()).await.unwrap().await.unwrap();
    let order = job(&campaign, "a", Step::Freeze, 1);
    assert_eq!(bus.order(&order, &host).await.unwrap(), Ordered::Stored);
    assert!(bus.order(&Job { step: 0, ..order.clone() }, &host).await.is_err());
    assert!(bus.order(&Job { migration_id: "x".to_owned(), ..order }, &host).await.is_err());
}
