use std::collections::{HashMap, HashSet};

use drover_schemas::{Code, subjects};
use futures::{StreamExt as _, future::join_all};
use proptest::prelude::*;

use super::*;
use crate::{Append, Error};

#[tokio::test]
async fn an_append_needs_the_last_revision() {
    let bus = shared().bus().await;
    let campaign = new_campaign(&bus).await;
    let a = history(&campaign, "a");
    assert_eq!(bus.last(&campaign, &a).await.unwrap(), None);
    let first = bus.append(&campaign, &a, 0, &event(1)).await.unwrap();
    let other = bus.append(&campaign, &History::Campaign, 0, &event(2)).await.unwrap();
    assert!(other > first);
    for expected in [0, first + 1, other] {
        let error = bus.append(&campaign, &a, expected, &event(3)).await.unwrap_err();
        assert_eq!(error.code(), Code::BusConflict, "{expected}: {error}");
    }
    let second = bus.append(&campaign, &a, first, &event(4)).await.unwrap();
    let history = bus.history(&campaign, a.aggregate()).await.unwrap();
    let numbers: Vec<u32> = history.iter().map(|recorded| number_of(&recorded.event)).collect();
    assert_eq!(numbers, [1, 4]);
    let last = bus.last(&campaign, &a).await.unwrap().unwrap();
    assert_eq!((last.sequence, &last.history, &last.campaign), (second, &a, &campaign));
    assert_eq!(&last, history.last().unwrap());
}

#[tokio::test]
async fn an_event_is_read_as_it_was_appended() {
    let bus = shared().bus().await;
    let campaign = new_campaign(&bus).await;
    let a = history(&campaign, "a");
    let mut sent = event(7);
    // Headers hold microseconds.
    sent.time = chrono::DateTime::from_timestamp_micros(sent.time.timestamp_micros()).unwrap();
    bus.append(&campaign, &a, 0, &sent).await.unwrap();
    assert_eq!(bus.last(&campaign, &a).await.unwrap().unwrap().event, sent);
}

#[tokio::test]
async fn of_many_at_once_exactly_one_wins() {
    let server = shared();
    let bus = server.bus().await;
    let campaign = new_campaign(&bus).await;
    let a = history(&campaign, "a");
    let others = [server.bus().await, server.bus().await, bus.clone()];
    let mut revision = 0;
    for round in 0..20 {
        let events: Vec<_> = (0..12).map(|n| event(round * 100 + n)).collect();
        let appends = events
            .iter()
            .enumerate()
            .map(|(n, event)| others[n % others.len()].append(&campaign, &a, revision, event));
        let outcomes = join_all(appends).await;
        let won: Vec<usize> = (0..outcomes.len()).filter(|n| outcomes[*n].is_ok()).collect();
        assert_eq!(won.len(), 1, "{outcomes:?}");
        assert!(outcomes.iter().all(|outcome| match outcome {
            Ok(_) => true,
            Err(error) => matches!(error, Error::Conflict { .. }),
        }));
        revision = *outcomes[won[0]].as_ref().unwrap();
        let last = bus.last(&campaign, &a).await.unwrap().unwrap();
        assert_eq!((last.sequence, last.event.id), (revision, events[won[0]].id));
    }
    assert_eq!(bus.history(&campaign, a.aggregate()).await.unwrap().len(), 20);
}

#[tokio::test]
async fn an_append_whose_answer_was_lost_is_recognised() {
    let bus = shared().bus().await;
    let campaign = new_campaign(&bus).await;
    let a = history(&campaign, "a");
    let first = event(1);
    let sequence = bus.append(&campaign, &a, 0, &first).await.unwrap();
    assert_eq!(bus.append(&campaign, &a, 0, &first).await.unwrap(), sequence);
    // Also when the history has gone on since.
    bus.append(&campaign, &a, sequence, &event(2)).await.unwrap();
    assert_eq!(bus.append(&campaign, &a, 0, &first).await.unwrap(), sequence);
    assert!(bus.append(&campaign, &a, 0, &event(1)).await.is_err());
    assert_eq!(bus.history(&campaign, a.aggregate()).await.unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_costs_no_event_and_doubles_none() {
    let server = Server::start();
    let bus = server.bus().await;
    let campaign = new_campaign(&bus).await;
    let a = history(&campaign, "a");
    let appender = tokio::spawn({
        let (bus, campaign, a) = (bus.clone(), campaign.clone(), a.clone());
        async move {
            let mut revision = 0;
            for number in 0..400 {
                let event = event(number);
                revision = loop {
                    match bus.append(&campaign, &a, revision, &event).await {
                        Ok(revision) => break revision,
                        Err(error) if error.is_passing() => {}
                        Err(error) => panic!("{error}"),
                    }
                };
            }
        }
    });
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        tokio::task::block_in_place(|| {
            server.nats.kill().unwrap();
            server.nats.restart().unwrap();
        });
    }
    appender.await.unwrap();
    let history = bus.history(&campaign, a.aggregate()).await.unwrap();
    let numbers: Vec<u32> = history.iter().map(|recorded| number_of(&recorded.event)).collect();
    assert_eq!(numbers, (0..400).collect::<Vec<_>>());
}

#[tokio::test]
async fn many_appends_are_pipelined_and_each_has_its_outcome() {
    let bus = shared().bus().await;
    let campaign = new_campaign(&bus).await;
    let taken = history(&campaign, "500");
    bus.append(&campaign, &taken, 0, &event(0)).await.unwrap();
    let appends = (0..3_000).map(|number| Append {
        history: history(&campaign, &number.to_string()),
        expected_revision: 0,
        event: event(number),
    });
    let outcomes: Vec<_> = bus.append_many(&campaign, appends).collect().await;
    assert_eq!(outcomes.len(), 3_000);
    for (number, outcome) in outcomes.iter().enumerate() {
        assert_eq!(outcome.is_ok(), number != 500, "{number}: {outcome:?}");
    }
}

/// Appends that come while others are under way go together; each has its own outcome all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_stored_together_has_each_its_own_outcome() {
    let server = Server::start_synced();
    let buses = [server.bus().await, server.bus().await];
    let campaign = new_campaign(&buses[0]).await;
    // Both append first events to the same histories, some several times over.
    let appends = |bus: usize| {
        let (bus, campaign) = (&buses[bus], &campaign);
        (0..600_u32).map(move |number| async move {
            let event = event(number);
            let to = history(campaign, &(number % 400).to_string());
            (event.id, bus.append(campaign, &to, 0, &event).await)
        })
    };
    let (one, two) = tokio::join!(join_all(appends(0)), join_all(appends(1)));
    let mut won = HashMap::new();
    for (id, outcome) in one.into_iter().chain(two) {
        match outcome {
            Ok(sequence) => assert_eq!(won.insert(sequence, id), None),
            Err(error) => assert_eq!(error.code(), Code::BusConflict, "{error}"),
        }
    }
    assert_eq!(won.len(), 400);
    let mut stored = buses[0].replay(&campaign, crate::From::Start, None);
    let mut histories = HashSet::new();
    while let Some(item) = stored.next().await {
        let crate::Item::Event(recorded) = item.unwrap() else { panic!("not an event") };
        assert_eq!(won.remove(&recorded.sequence), Some(recorded.event.id));
        assert!(histories.insert(recorded.history));
    }
    assert!(won.is_empty(), "{won:?}");
}

#[tokio::test]
async fn appends_that_wait_for_one_another_are_stored_in_batches() {
    let server = Server::start_synced();
    let bus = server.bus().await;
    let campaign = new_campaign(&bus).await;
    let appends = (0..2_000).map(|number| Append {
        history: history(&campaign, &number.to_string()),
        expected_revision: 0,
        event: event(number),
    });
    let outcomes: Vec<_> = bus.append_many(&campaign, appends).collect().await;
    let mut sequences: Vec<u64> = outcomes.into_iter().map(|outcome| outcome.unwrap()).collect();
    sequences.sort_unstable();
    assert_eq!(sequences, (1..=2_000).collect::<Vec<_>>());
    let stream = bus.stream(&drover_schemas::streams::events_name(&campaign)).await.unwrap();
    let mut together = 0;
    for sequence in 1..=2_000 {
        let stored = stream.get_raw_message(sequence).await.unwrap();
        together += u32::from(stored.headers.get("Nats-Batch-Id").is_some());
    }
    assert!(together > 1_000, "{together}");
}

#[tokio::test]
async fn a_batch_that_is_refused_is_appended_one_by_one() {
    let server = Server::start_synced();
    let bus = server.bus().await;
    let campaign: CampaignName = unique("c").parse().unwrap();
    let mut config = bus.config_of(drover_schemas::streams::events(&campaign));
    config.allow_atomic_publish = false;
    bus.ensure_stream(config).await.unwrap();
    let appends = (0..300).map(|number| Append {
        history: history(&campaign, &number.to_string()),
        expected_revision: 0,
        event: event(number),
    });
    let outcomes: Vec<_> = bus.append_many(&campaign, appends).collect().await;
    let mut sequences: Vec<u64> = outcomes.into_iter().map(|outcome| outcome.unwrap()).collect();
    sequences.sort_unstable();
    assert_eq!(sequences, (1..=300).collect::<Vec<_>>());
}

#[tokio::test]
async fn an_append_that_is_given_up_keeps_nobody_elses_place() {
    let server = Server::start_synced();
    let bus = server.bus().await;
    let campaign = new_campaign(&bus).await;
    for round in 0..20 {
        let appends = (0..100).map(|number| {
            let (bus, campaign) = (bus.clone(), campaign.clone());
            let to = history(&campaign, &format!("{round} {number}"));
            tokio::spawn(async move { bus.append(&campaign, &to, 0, &event(number)).await })
        });
        let appends: Vec<_> = appends.collect();
        tokio::task::yield_now().await;
        for append in appends.iter().step_by(2) {
            append.abort();
        }
        for append in appends.into_iter().skip(1).step_by(2) {
            append.await.unwrap().unwrap();
        }
    }
}

#[tokio::test]
async fn nothing_can_be_deleted_from_a_history() {
    let bus = shared().bus().await;
    let campaign = new_campaign(&bus).await;
    let a = history(&campaign, "a");
    let sequence = bus.append(&campaign, &a, 0, &event(1)).await.unwrap();
    let stream = bus.stream(&drover_schemas::streams::events_name(&campaign)).await.unwrap();
    assert!(stream.delete_message(sequence).await.is_err());
    assert!(stream.purge().await.is_err());
    // Nor rolled up by a message that asks for it.
    let mut headers = async_nats::HeaderMap::new();
    headers.insert("Nats-Rollup", "sub");
    let rolled = bus.store(&subjects::event(&campaign, &a), None, headers, "".into(), None).await;
    assert!(rolled.is_err());
    assert_eq!(bus.history(&campaign, a.aggregate()).await.unwrap().len(), 1);
}

/// What an appender does: to which history, and how far behind its idea of the revision is.
fn actions() -> impl Strategy<Value = Vec<(u8, u8)>> {
    prop::collection::vec((0_u8..3, 0_u8..3), 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Appends on present and stale revisions, interleaved over histories, against a model.
    #[test]
    fn histories_hold_what_was_accepted_and_nothing_else(actions in actions()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let bus = shared().bus().await;
            let campaign = new_campaign(&bus).await;
            let mut model: [Vec<(u64, u32)>; 3] = Default::default();
            for (number, (which, behind)) in actions.into_iter().enumerate() {
                let number = u32::try_from(number).unwrap();
                let a = history(&campaign, &which.to_string());
                let kept = &mut model[usize::from(which)];
                let revisions: Vec<u64> =
                    std::iter::once(0).chain(kept.iter().map(|(sequence, _)| *sequence)).collect();
                let place = revisions.len().saturating_sub(1 + usize::from(behind));
                let is_last = place + 1 == revisions.len();
                let outcome = bus.append(&campaign, &a, revisions[place], &event(number)).await;
                prop_assert_eq!(outcome.is_ok(), is_last);
                if let Ok(sequence) = outcome {
                    kept.push((sequence, number));
                }
            }
            for (which, kept) in model.iter().enumerate() {
                let a = history(&campaign, &which.to_string()).aggregate();
                let found = bus.history(&campaign, a).await.unwrap();
                let found: Vec<(u64, u32)> =
                    found.iter().map(|r| (r.sequence, number_of(&r.event))).collect();
                prop_assert_eq!(&found, kept);
            }
            Ok(())
        })?;
    }
}
