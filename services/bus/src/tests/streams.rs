use async_nats::jetstream::stream::PersistenceMode;
use drover_schemas::{
    Code,
    streams::{self, Service},
};
use futures::future::try_join_all;

use super::*;
use crate::Error;

fn option_of(error: &Error) -> &str {
    match error {
        Error::Mismatch { option, .. } => option,
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn making_everything_twice_and_at_once_is_harmless() {
    let server = Server::start();
    let options = server.options();
    let buses = try_join_all((0..6).map(|_| Bus::connect(&options, "test"))).await.unwrap();
    let campaign: CampaignName = "night-1".parse().unwrap();
    for _ in 0..2 {
        try_join_all(buses.iter().map(|bus| async {
            bus.ensure_base().await?;
            bus.ensure_campaign(&campaign).await?;
            bus.ensure_campaign(&"a-2".parse().unwrap()).await
        }))
        .await
        .unwrap();
    }
    let names = buses[0].campaigns().await.unwrap();
    assert_eq!(names, ["a-2".parse().unwrap(), campaign]);
}

#[tokio::test]
async fn what_was_changed_by_someone_else_is_named() {
    let server = Server::start();
    let bus = server.bus().await;
    let campaign = new_campaign(&bus).await;
    let name = streams::events_name(&campaign);
    let change =
        async |stream: &str, change: &dyn Fn(&mut async_nats::jetstream::stream::Config)| {
            let mut config = bus.stream_info(stream).await.unwrap().config;
            change(&mut config);
            bus.context().update_stream(config).await.unwrap();
        };
    change(&name, &|config| config.max_age = Duration::from_secs(3600)).await;
    let error = bus.ensure_campaign(&campaign).await.unwrap_err();
    assert_eq!((error.code(), option_of(&error)), (Code::BusConfiguration, "max_age"));
    assert!(error.to_string().contains(&name), "{error}");
    change(&name, &|config| config.max_age = Duration::ZERO).await;
    bus.ensure_campaign(&campaign).await.unwrap();

    let unsynced = format!("{name}-x");
    let campaign: CampaignName = unsynced[streams::EVENTS_PREFIX.len()..].parse().unwrap();
    let mut config = bus.config_of(streams::events(&campaign));
    (config.persist_mode, config.allow_atomic_publish) = (Some(PersistenceMode::Async), false);
    bus.context().create_stream(config).await.unwrap();
    let error = bus.ensure_campaign(&campaign).await.unwrap_err();
    assert_eq!(option_of(&error), "persist_mode");

    let queue = streams::queue_of(&Host::Dns);
    let found = bus.stream_info(&queue).await.unwrap().config;
    assert_eq!(found.persist_mode, Some(PersistenceMode::Async));
    change(&queue, &|config| config.max_messages_per_subject = 2).await;
    let error = bus.ensure_base().await.unwrap_err();
    assert_eq!(option_of(&error), "max_msgs_per_subject");
    change(&queue, &|config| config.max_messages_per_subject = 1).await;
    bus.ensure_base().await.unwrap();
}

#[tokio::test]
async fn a_history_that_can_be_deleted_from_is_refused() {
    let bus = shared().bus().await;
    let campaign: CampaignName = unique("c").parse().unwrap();
    let stream = streams::events(&campaign);
    let lax = async_nats::jetstream::stream::Config {
        name: stream.name,
        subjects: stream.subjects,
        max_message_size: streams::MESSAGE_BYTES_MAX,
        num_replicas: 1,
        ..Default::default()
    };
    bus.context().create_stream(lax).await.unwrap();
    let error = bus.ensure_campaign(&campaign).await.unwrap_err();
    assert_eq!(option_of(&error), "deny_delete");
}

#[tokio::test]
async fn a_consumers_slots_follow_the_configuration() {
    let bus = shared().bus().await;
    let host = new_host();
    for slots in [3, 3, 8] {
        let consumer = streams::consumer(Service::Dump, &host, slots);
        bus.ensure_consumer(&consumer).await.unwrap();
    }
    let single = streams::Consumer {
        name: unique("single"),
        ..streams::consumer(Service::Dump, &new_host(), 1)
    };
    bus.ensure_consumer(&single).await.unwrap();
    let filter = format!("{}.*", single.filter.trim_end_matches(".*"));
    let other = streams::Consumer { filter, ..single };
    // The server moves the filter, or refuses: either way nobody is left with the old one.
    if let Err(error) = bus.ensure_consumer(&other).await {
        assert!(matches!(error.code(), Code::BusFailed | Code::BusConfiguration), "{error}");
    }
}
