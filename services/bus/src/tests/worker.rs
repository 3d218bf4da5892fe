use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering::SeqCst},
};

use async_nats::jetstream::{AckKind, consumer::pull};
use drover_schemas::{Code, Failure, streams::Service, subjects};
use drover_testbed::bed::eventually;
use futures::StreamExt as _;
use tokio_util::sync::CancellationToken;

use super::{scene::*, *};
use crate::worker::Pace;

#[tokio::test]
async fn a_job_becomes_an_event() {
    let scene = Scene::new(shared().bus().await, 4).await;
    let (stage, shutdown) = (Stage::open(), CancellationToken::new());
    let revision = scene.order("a").await;
    let worker = stage.work(&scene.bus, &scene.consumer, &shutdown);
    scene.done("a").await;
    scene.order("b").await;
    scene.done("b").await;
    let last = scene.bus.last(&scene.campaign, &scene.history("a")).await.unwrap().unwrap();
    assert!(last.sequence > revision);
    assert_eq!(number_of(&last.event), 77);
    assert_eq!(stage.starts(), 2);
    shutdown.cancel();
    worker.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_job_whose_revision_has_passed_is_dropped() {
    let scene = Scene::new(shared().bus().await, 4).await;
    let (stage, shutdown) = (Stage::open(), CancellationToken::new());
    // As after a death between the event and the acknowledgement.
    let a = scene.history("a");
    let revision = scene.bus.append(&scene.campaign, &a, 0, &event(1)).await.unwrap();
    scene.bus.order(&old(scene.job("a", revision)), &scene.host).await.unwrap();
    scene.bus.append(&scene.campaign, &a, revision, &event(2)).await.unwrap();
    let _worker = stage.work(&scene.bus, &scene.consumer, &shutdown);
    scene.done("a").await;
    assert_eq!(stage.starts(), 0);
}

#[tokio::test]
async fn a_fresh_job_is_begun_without_a_look_and_its_event_refused_where_its_revision_has_passed() {
    let scene = Scene::new(shared().bus().await, 4).await;
    let (stage, shutdown) = (Stage::open(), CancellationToken::new());
    let a = scene.history("a");
    let revision = scene.bus.append(&scene.campaign, &a, 0, &event(1)).await.unwrap();
    scene.bus.order(&fresh(scene.job("a", revision)), &scene.host).await.unwrap();
    scene.bus.append(&scene.campaign, &a, revision, &event(2)).await.unwrap();
    let _worker = stage.work(&scene.bus, &scene.consumer, &shutdown);
    scene.done("a").await;
    assert_eq!(stage.starts(), 1);
    let last = scene.bus.last(&scene.campaign, &a).await.unwrap().unwrap();
    assert_eq!(number_of(&last.event), 2);
}

#[tokio::test]
async fn what_was_ordered_before_the_connection_was_made_is_looked_at() {
    let scene = Scene::new(shared().bus().await, 4).await;
    let revision = scene.order("a").await;
    let a = scene.history("a");
    scene.bus.append(&scene.campaign, &a, revision, &event(2)).await.unwrap();
    let (stage, shutdown) = (Stage::open(), CancellationToken::new());
    let later = shared().bus().await;
    let _worker = stage.work(&later, &scene.consumer, &shutdown);
    scene.done("a").await;
    assert_eq!(stage.starts(), 0);
}

#[tokio::test]
async fn a_job_of_a_history_that_lost_its_end_is_dropped() {
    let scene = Scene::new(shared().bus().await, 4).await;
    let (stage, shutdown) = (Stage::open(), CancellationToken::new());
    scene.bus.order(&old(scene.job("a", 99)), &scene.host).await.unwrap();
    let _worker = stage.work(&scene.bus, &scene.consumer, &shutdown);
    eventually(DEADLINE, || async { Ok(!scene.is_queued("a").await) }).await.unwrap();
    assert_eq!((stage.starts(), scene.events("a").await), (0, 0));
}

#[tokio::test]
async fn a_death_before_the_event_does_the_step_again() {
    let scene = Scene::new(shared().bus().await, 4).await;
    scene.order("a").await;
    let (dying, shutdown) = (Stage::new(0), CancellationToken::new());
    let worker = dying.work(&scene.bus, &scene.consumer, &shutdown);
    until(|| dying.starts() == 1).await;
    // Its steps' tasks end with it.
    worker.abort();
    let next = Stage::open();
    let _worker = next.work(&scene.bus, &scene.consumer, &shutdown);
    scene.done("a").await;
    assert_eq!((dying.starts(), next.starts()), (1, 1));
}

#[tokio::test]
async fn of_two_on_one_job_one_event_stays() {
    let scene = Scene::new(shared().bus().await, 4).await;
    let revision = scene.order("a").await;
    let (slow, shutdown) = (Stage::new(0), CancellationToken::new());
    let _worker = slow.work(&scene.bus, &scene.consumer, &shutdown);
    until(|| slow.starts() == 1).await;
    let a = scene.history("a");
    scene.bus.append(&scene.campaign, &a, revision, &event(2)).await.unwrap();
    slow.gate.add_permits(1);
    scene.done("a").await;
    let last = scene.bus.last(&scene.campaign, &a).await.unwrap().unwrap();
    assert_eq!(number_of(&last.event), 2);
}

#[tokio::test]
async fn a_long_step_keeps_its_job() {
    let scene = Scene::new(shared().bus().await, 4).await;
    scene.order("a").await;
    let (stage, shutdown) = (Stage::new(0), CancellationToken::new());
    let _one = stage.work(&scene.bus, &scene.consumer, &shutdown);
    let _two = stage.work(&scene.bus, &scene.consumer, &shutdown);
    until(|| stage.starts() == 1).await;
    tokio::time::sleep(ACK_WAIT * 4).await;
    stage.gate.add_permits(1);
    scene.done("a").await;
    assert_eq!(stage.starts(), 1);
}

#[tokio::test]
async fn the_slots_hold_over_all_instances() {
    let scene = Scene::new(shared().bus().await, 3).await;
    for database in 0..12 {
        scene.order(&database.to_string()).await;
    }
    let (stage, shutdown) = (Stage::new(0), CancellationToken::new());
    let other = shared().bus().await;
    let _one = stage.work(&scene.bus, &scene.consumer, &shutdown);
    let _two = stage.work(&other, &scene.consumer, &shutdown);
    until(|| stage.starts() == 3).await;
    // Longer than silence is taken for a loss: a full host is not a lost one.
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(stage.starts(), 3);
    stage.gate.add_permits(12);
    for database in 0..12 {
        scene.done(&database.to_string()).await;
    }
    assert_eq!((stage.starts(), stage.running_most.load(SeqCst)), (12, 3));
}

#[tokio::test]
async fn a_job_in_work_is_not_begun_again_when_a_restarted_server_gives_it_out_again() {
    let server = Server::start();
    let scene = Scene::new(server.bus().await, 4).await;
    let (stage, shutdown) = (Stage::new(0), CancellationToken::new());
    scene.order("a").await;
    let _worker = stage.work(&scene.bus, &scene.consumer, &shutdown);
    until(|| stage.starts() == 1).await;
    server.nats.restart().unwrap();
    // It lies behind the first on the queue: when it has begun, the first was given out again.
    let revision = scene.order("b").await;
    until(|| stage.starts() == 2).await;
    stage.gate.add_permits(2);
    for database in ["a", "b"] {
        scene.done(database).await;
    }
    // What is given out again after its end has passed.
    scene.bus.order(&old(scene.job("b", revision)), &scene.host).await.unwrap();
    eventually(DEADLINE, || async { Ok(!scene.is_queued("b").await) }).await.unwrap();
    assert_eq!(stage.starts(), 2);
}

#[tokio::test]
async fn an_order_that_a_killed_server_has_lost_and_that_is_made_again_is_not_begun_again() {
    let server = Server::start();
    let scene = Scene::new(server.bus().await, 4).await;
    let (stage, shutdown) = (Stage::new(0), CancellationToken::new());
    let revision = scene.order("a").await;
    let worker = stage.work(&scene.bus, &scene.consumer, &shutdown);
    until(|| stage.starts() == 1).await;
    let stream = scene.bus.stream(&scene.consumer.queue).await.unwrap();
    stream.purge().await.unwrap();
    server.nats.restart().unwrap();
    scene.order("b").await;
    scene.bus.order(&scene.job("a", revision), &scene.host).await.unwrap();
    scene.order("c").await;
    until(|| stage.starts() == 3).await;
    stage.gate.add_permits(3);
    for database in ["a", "b", "c"] {
        scene.done(database).await;
    }
    assert_eq!(stage.starts(), 3);
    shutdown.cancel();
    worker.await.unwrap().unwrap();
}

#[tokio::test]
async fn over_another_connection_a_job_is_given_back_and_not_taken_from_the_queue() {
    let server = Server::start();
    let scene = Scene::new(server.bus().await, 4).await;
    scene.bus.ensure_consumer_with(&scene.consumer, DEADLINE).await.unwrap();
    scene.order("a").await;
    let mut source = crate::source::Source::new(&scene.bus, pace(), &scene.consumer);
    let ticket = crate::ticket::Ticket::new(&scene.bus, source.next(1).await);
    let before = scene.bus.connection();
    let mut connections = scene.bus.connections();
    server.nats.restart().unwrap();
    connections.wait_for(|now| *now > before).await.unwrap();
    ticket.acknowledge().await;
    let again = source.next(1).await;
    assert_eq!(again.message.subject, ticket.given().message.subject);
    assert!(ticket.renew(again).is_err(), "the last word was said of it");
    assert!(scene.is_queued("a").await);
}

#[tokio::test]
async fn what_is_not_a_job_is_taken_from_the_queue() {
    let scene = Scene::new(shared().bus().await, 4).await;
    let subject = subjects::job(Step::Freeze, &scene.host, migration(&scene.campaign, "a"));
    let garbage = scene.bus.context().publish(subject.clone(), "\u{7f}".into()).await.unwrap();
    garbage.await.unwrap();
    let (stage, shutdown) = (Stage::open(), CancellationToken::new());
    let _worker = stage.work(&scene.bus, &scene.consumer, &shutdown);
    eventually(DEADLINE, || async { Ok(!scene.bus.queued().await?.contains(&subject)) })
        .await
        .unwrap();
    scene.order("b").await;
    scene.done("b").await;
    assert_eq!(stage.starts(), 1);
}

#[tokio::test]
async fn a_job_that_never_ends_is_abandoned_with_an_event() {
    let scene = Scene::new(shared().bus().await, 4).await;
    scene.order("a").await;
    scene.bus.ensure_consumer_with(&scene.consumer, ACK_WAIT).await.unwrap();
    let stream = scene.bus.stream(&scene.consumer.queue).await.unwrap();
    let consumer: async_nats::jetstream::consumer::Consumer<pull::Config> =
        stream.get_consumer(&scene.consumer.name).await.unwrap();
    for _ in 0..crate::DELIVERIES_MAX {
        let mut batch =
            consumer.batch().max_messages(1).expires(DEADLINE).messages().await.unwrap();
        let message = batch.next().await.unwrap().unwrap();
        message.ack_with(AckKind::Nak(None)).await.unwrap();
    }
    let (stage, shutdown) = (Stage::open(), CancellationToken::new());
    let _worker = stage.work(&scene.bus, &scene.consumer, &shutdown);
    scene.done("a").await;
    assert_eq!(stage.starts(), 0);
    let last = scene.bus.last(&scene.campaign, &scene.history("a")).await.unwrap().unwrap();
    match last.event.decode_migration().unwrap() {
        Event::StepFailed(failed) => assert_eq!(failed.code, Code::JobAbandoned.to_string()),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_failure_and_a_panic_leave_the_worker_at_work() {
    let scene = Scene::new(shared().bus().await, 1).await;
    scene.order("a").await;
    let attempts = Arc::new(AtomicU32::new(0));
    let shutdown = CancellationToken::new();
    let worker = tokio::spawn({
        let (bus, consumer) = (scene.bus.clone(), scene.consumer.clone());
        let (attempts, shutdown) = (Arc::clone(&attempts), shutdown.clone());
        async move {
            let step = move |_: Job| {
                let attempt = attempts.fetch_add(1, SeqCst);
                async move {
                    assert!(attempt > 0, "the first attempt panics");
                    Err(Failure::new(Code::ServerFailed, "no luck"))
                }
            };
            let trade = Steps { step, then: None };
            bus.work_at(pace(), &consumer, Service::Dump, shutdown, trade).await
        }
    });
    scene.done("a").await;
    assert_eq!(attempts.load(SeqCst), 2);
    shutdown.cancel();
    worker.await.unwrap().unwrap();
}

#[tokio::test]
async fn at_its_end_it_finishes_what_runs_and_leaves_the_rest() {
    let scene = Scene::new(shared().bus().await, 2).await;
    for database in ["a", "b", "c", "d"] {
        scene.order(database).await;
    }
    let (stage, shutdown) = (Stage::new(0), CancellationToken::new());
    let worker = stage.work(&scene.bus, &scene.consumer, &shutdown);
    until(|| stage.starts() == 2).await;
    shutdown.cancel();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!worker.is_finished());
    stage.gate.add_permits(10);
    worker.await.unwrap().unwrap();
    assert_eq!(stage.starts(), 2);
    let next = Stage::open();
    let _worker = next.work(&scene.bus, &scene.consumer, &CancellationToken::new());
    for database in ["a", "b", "c", "d"] {
        scene.done(database).await;
    }
    assert_eq!(next.starts(), 2);
}

#[tokio::test]
async fn a_step_that_does_not_end_is_dropped_after_the_grace() {
    let scene = Scene::new(shared().bus().await, 2).await;
    scene.order("a").await;
    let (stage, shutdown) = (Stage::new(0), CancellationToken::new());
    let grace = Pace { shutdown_grace: Duration::from_millis(50), ..pace() };
    let worker = tokio::spawn({
        let (bus, consumer) = (scene.bus.clone(), scene.consumer.clone());
        let (stage, shutdown) = (stage.clone(), shutdown.clone());
        async move { bus.work_at(grace, &consumer, Service::Dump, shutdown, stage.trade(None)).await }
    });
    until(|| stage.starts() == 1).await;
    shutdown.cancel();
    worker.await.unwrap().unwrap();
    assert!(scene.is_queued("a").await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_that_ends_while_the_bus_is_away_has_its_event_after() {
    let server = Server::start();
    let scene = Scene::new(server.bus().await, 4).await;
    for database in ["a", "b"] {
        scene.order(database).await;
    }
    let (stage, shutdown) = (Stage::new(0), CancellationToken::new());
    let patient = Pace { ack_wait: Duration::from_secs(30), ..pace() };
    let worker = tokio::spawn({
        let (bus, consumer) = (scene.bus.clone(), scene.consumer.clone());
        let (stage, shutdown) = (stage.clone(), shutdown.clone());
        async move { bus.work_at(patient, &consumer, Service::Dump, shutdown, stage.trade(None)).await }
    });
    until(|| stage.starts() == 2).await;
    server.nats.kill().unwrap();
    stage.gate.add_permits(2);
    until(|| stage.running.load(SeqCst) == 0).await;
    server.nats.restart().unwrap();
    for database in ["a", "b"] {
        scene.done(database).await;
    }
    assert_eq!(stage.starts(), 2);
    // It takes jobs again without being told.
    stage.gate.add_permits(1);
    scene.order("c").await;
    scene.done("c").await;
    shutdown.cancel();
    worker.await.unwrap().unwrap();
}
