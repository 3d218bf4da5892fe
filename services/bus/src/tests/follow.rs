use std::{fs, path::Path};

use drover_schemas::{
    Code, subjects,
    v1::{LogRepaired, campaign_event},
};
use futures::StreamExt as _;
use tokio::time::timeout;

use super::*;
use crate::{From, Item, Items};

async fn next(items: &mut Items) -> Item {
    timeout(DEADLINE, items.next()).await.expect("in time").expect("an item").unwrap()
}

/// The numbers of the events up to the stream's end or its catching up, which is told by `true`.
async fn numbers(items: &mut Items) -> (Vec<u32>, bool) {
    let mut numbers = Vec::new();
    while let Some(item) = timeout(DEADLINE, items.next()).await.expect("in time") {
        match item.unwrap() {
            Item::Event(recorded) => numbers.push(number_of(&recorded.event)),
            Item::CaughtUp => return (numbers, true),
            Item::Resumed => {}
            Item::Undecodable { sequence, .. } => panic!("{sequence}"),
        }
    }
    (numbers, false)
}

/// Appends events with these numbers, each to a history of its own; their sequences.
async fn append(bus: &Bus, campaign: &CampaignName, range: std::ops::Range<u32>) -> Vec<u64> {
    let mut sequences = Vec::new();
    for number in range {
        let a = history(campaign, &number.to_string());
        sequences.push(bus.append(campaign, &a, 0, &event(number)).await.unwrap());
    }
    sequences
}

#[tokio::test]
async fn a_replay_begins_and_ends_where_it_is_told_to() {
    let bus = shared().bus().await;
    let campaign = new_campaign(&bus).await;
    for from in [From::Start, From::Sequence(1), From::Time(Utc::now())] {
        assert_eq!(numbers(&mut bus.replay(&campaign, from, None)).await, (vec![], false));
    }
    let sequences = append(&bus, &campaign, 0..10).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    let middle = Utc::now();
    tokio::time::sleep(Duration::from_millis(20)).await;
    append(&bus, &campaign, 10..20).await;
    for (from, until, wanted) in [
        (From::Start, None, 0..20),
        (From::Start, Some(sequences[3]), 0..4),
        (From::Sequence(0), None, 0..20),
        (From::Sequence(sequences[5]), None, 5..20),
        (From::Sequence(sequences[5]), Some(sequences[5]), 5..6),
        (From::Sequence(sequences[5]), Some(sequences[4]), 0..0),
        (From::Sequence(21), None, 0..0),
        (From::Time(middle), None, 10..20),
        (From::Time(Utc::now()), None, 0..0),
        (From::Start, Some(1_000), 0..20),
    ] {
        let found = numbers(&mut bus.replay(&campaign, from, until)).await;
        assert_eq!(found, (wanted.collect(), false), "{from:?} {until:?}");
    }
}

#[tokio::test]
async fn following_says_once_that_it_has_caught_up() {
    let bus = shared().bus().await;
    let campaign = new_campaign(&bus).await;
    let mut empty = bus.follow(&campaign, From::Start);
    assert_eq!(next(&mut empty).await, Item::CaughtUp);
    append(&bus, &campaign, 0..5).await;
    let mut items = bus.follow(&campaign, From::Start);
    assert_eq!(numbers(&mut items).await, ((0..5).collect(), true));
    append(&bus, &campaign, 5..6).await;
    assert!(matches!(next(&mut items).await, Item::Event(_)));
    for _ in 0..6 {
        assert!(matches!(next(&mut empty).await, Item::Event(_)));
    }
}

#[tokio::test]
async fn a_campaign_that_is_not_there_is_said_to_be_so() {
    let bus = shared().bus().await;
    let missing: CampaignName = unique("missing").parse().unwrap();
    let error = bus.replay(&missing, From::Start, None).next().await.unwrap().unwrap_err();
    assert_eq!(error.code(), Code::CampaignUnknown);
    let error = bus.history(&missing, Aggregate::Campaign).await.unwrap_err();
    assert_eq!(error.code(), Code::CampaignUnknown);
}

#[tokio::test]
async fn a_message_that_is_no_event_is_given_out_as_such() {
    let bus = shared().bus().await;
    let campaign = new_campaign(&bus).await;
    append(&bus, &campaign, 0..1).await;
    let foreign = subjects::event(&campaign, &history(&campaign, "x"));
    bus.context().publish(foreign.clone(), "hello".into()).await.unwrap().await.unwrap();
    append(&bus, &campaign, 1..2).await;
    let items: Vec<Item> =
        bus.replay(&campaign, From::Start, None).map(Result::unwrap).collect().await;
    assert_eq!(items.len(), 3);
    assert_eq!(items[1], Item::Undecodable { sequence: 2, subject: foreign });
    let error = bus.history(&campaign, history(&campaign, "x").aggregate()).await.unwrap_err();
    assert_eq!(error.code(), Code::EventUndecodable);
    let error = bus.last(&campaign, &history(&campaign, "x")).await.unwrap_err();
    assert_eq!(error.code(), Code::EventUndecodable);
}

#[tokio::test]
async fn a_history_is_of_the_servers_it_was_planned_with_whoever_came_first() {
    let bus = shared().bus().await;
    let campaign = new_campaign(&bus).await;
    let own = history(&campaign, "x");
    let destination = "thief".parse().unwrap();
    let source = "source".parse().unwrap();
    let foreign = History::Migration { id: migration(&campaign, "x"), source, destination };
    let first = bus.append(&campaign, &foreign, 0, &event(1)).await.unwrap();
    let begun = CloudEvent::migration(Event::MigrationPlanned(planned("x")), "test", Utc::now());
    let second = bus.append(&campaign, &own, 0, &begun).await.unwrap();
    bus.append(&campaign, &foreign, first, &event(2)).await.unwrap();
    let third = bus.append(&campaign, &own, second, &event(3)).await.unwrap();
    let garbage = subjects::event(&campaign, &foreign);
    bus.context().publish(garbage, "hello".into()).await.unwrap().await.unwrap();
    let read = bus.history(&campaign, own.aggregate()).await.unwrap();
    let read: Vec<u64> = read.iter().map(|recorded| recorded.sequence).collect();
    assert_eq!(read, [second, third]);
}

#[tokio::test]
async fn one_sources_histories_are_read_without_the_others() {
    let bus = shared().bus().await;
    let campaign = new_campaign(&bus).await;
    bus.append(&campaign, &History::Campaign, 0, &event(0)).await.unwrap();
    let mut of_source = Vec::new();
    for (number, source) in [(1, "source"), (2, "other"), (3, "source")] {
        let (id, destination) = (migration(&campaign, &number.to_string()), "source");
        let planned = MigrationPlanned {
            source: source.to_owned(),
            destination: destination.to_owned(),
            ..MigrationPlanned::default()
        };
        let history = History::of(id, &planned).unwrap();
        let sequence = bus.append(&campaign, &history, 0, &event(number)).await.unwrap();
        if source == "source" {
            of_source.push(sequence);
        }
    }
    let items = bus.replay_from(&campaign, &"source".parse().unwrap());
    let read: Vec<u64> = items
        .map(|item| match item.unwrap() {
            Item::Event(recorded) => recorded.sequence,
            other => panic!("{other:?}"),
        })
        .collect()
        .await;
    assert_eq!(read, of_source);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn following_goes_on_over_a_killed_server_without_a_gap() {
    let server = Server::start();
    let bus = server.bus().await;
    let campaign = new_campaign(&bus).await;
    let restart = || {
        tokio::task::block_in_place(|| {
            server.nats.kill().unwrap();
            server.nats.restart().unwrap();
        });
    };
    let mut items = bus.follow(&campaign, From::Start);
    let mut found = numbers(&mut items).await.0;
    let (mut sequence, mut resumed) = (0, 0);
    for round in 0..3 {
        append(&bus, &campaign, round * 50..round * 50 + 50).await;
        // Some are taken before, the rest after the server's restart.
        for count in [20, 30] {
            let until = sequence + count;
            while sequence < until {
                match next(&mut items).await {
                    Item::Event(recorded) => {
                        assert_eq!(recorded.sequence, sequence + 1);
                        sequence += 1;
                        found.push(number_of(&recorded.event));
                    }
                    // Before the first event after it: what was not taken may have come before.
                    Item::Resumed => resumed += 1,
                    other => panic!("{other:?}"),
                }
            }
            restart();
        }
    }
    assert_eq!(found, (0..150).collect::<Vec<_>>());
    // Where nothing was in between, two restarts are one.
    assert!((1..=5).contains(&resumed), "{resumed}");
}

#[tokio::test]
async fn a_long_history_is_read_whole() {
    let bus = shared().bus().await;
    let campaign = new_campaign(&bus).await;
    let appends = (0..6_000).map(|number| crate::Append {
        history: history(&campaign, &number.to_string()),
        expected_revision: 0,
        event: event(number),
    });
    let stored = bus.append_many(&campaign, appends).filter(|stored| {
        let is_ok = stored.is_ok();
        async move { is_ok }
    });
    assert_eq!(stored.count().await, 6_000);
    let (found, _) = numbers(&mut bus.replay(&campaign, From::Start, None)).await;
    assert_eq!(found.len(), 6_000);
}

#[tokio::test]
async fn a_new_campaign_is_hinted_at() {
    let bus = shared().bus().await;
    let mut hints = bus.campaign_events().await.unwrap();
    bus.client().flush().await.unwrap();
    let campaign = new_campaign(&bus).await;
    append(&bus, &campaign, 0..1).await;
    bus.append(&campaign, &History::Campaign, 0, &event(0)).await.unwrap();
    while timeout(DEADLINE, hints.next()).await.unwrap() != Some(campaign.clone()) {}
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_lost_its_end_and_grew_again_is_not_followed_on() {
    let server = Server::start();
    let bus = server.bus().await;
    let campaign = new_campaign(&bus).await;
    let (store, backup) = (server.nats.dir().join("store"), server.nats.dir().join("backup"));
    append(&bus, &campaign, 0..5).await;
    server.nats.stop().unwrap();
    copy(&store, &backup);
    server.nats.restart().unwrap();
    append(&bus, &campaign, 5..10).await;
    let mut items = bus.follow(&campaign, From::Start);
    assert_eq!(numbers(&mut items).await.0.len(), 10);
    server.nats.stop().unwrap();
    fs::remove_dir_all(&store).unwrap();
    fs::rename(&backup, &store).unwrap();
    server.nats.restart().unwrap();
    // The follower asks for nothing before it is polled: it finds a log that is longer than the
    // one it knows, and another.
    append(&bus, &campaign, 20..30).await;
    let error = timeout(DEADLINE, items.next()).await.unwrap().unwrap().unwrap_err();
    assert_eq!(error.code(), Code::HistoryShortened, "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_is_raised_above_what_was_given_out_and_begun_anew_above_it() {
    let server = Server::start();
    let bus = server.bus().await;
    let campaign = new_campaign(&bus).await;
    append(&bus, &campaign, 0..3).await;
    let filler = || {
        let event = campaign_event::Event::LogRepaired(LogRepaired::default());
        CloudEvent::campaign(event, "test", Utc::now())
    };
    let last = bus.raise(&campaign, 1_000, filler).await.unwrap();
    assert_eq!((last, bus.campaign_sequence(&campaign).await.unwrap()), (1_001, 1_001));
    assert_eq!(bus.raise(&campaign, 5, filler).await.unwrap(), 1_002, "one says that it was done");
    let anew: CampaignName = "anew".parse().unwrap();
    bus.begin_campaign_above(&anew, 4_711).await.unwrap();
    assert_eq!(bus.append(&anew, &History::Campaign, 0, &filler()).await.unwrap(), 4_712);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_lost_its_end_is_not_followed_on() {
    let server = Server::start();
    let bus = server.bus().await;
    let campaign = new_campaign(&bus).await;
    let (store, backup) = (server.nats.dir().join("store"), server.nats.dir().join("backup"));
    append(&bus, &campaign, 0..5).await;
    server.nats.stop().unwrap();
    copy(&store, &backup);
    server.nats.restart().unwrap();
    append(&bus, &campaign, 5..10).await;
    let mut items = bus.follow(&campaign, From::Start);
    assert_eq!(numbers(&mut items).await.0.len(), 10);
    server.nats.stop().unwrap();
    fs::remove_dir_all(&store).unwrap();
    fs::rename(&backup, &store).unwrap();
    server.nats.restart().unwrap();
    let error = timeout(DEADLINE, items.next()).await.unwrap().unwrap().unwrap_err();
    assert_eq!(error.code(), Code::HistoryShortened, "{error}");
    assert!(items.next().await.is_none());
    // Who comes back to a place that is no longer there is told as well.
    let error = bus.follow(&campaign, From::Sequence(11)).next().await.unwrap().unwrap_err();
    assert_eq!(error.code(), Code::HistoryShortened, "{error}");
}
