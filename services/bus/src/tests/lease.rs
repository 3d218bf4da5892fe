use std::{sync::mpsc, thread, time::Instant};

use drover_testbed::bed::eventually;
use tokio::time::timeout;

use super::*;

const TIME: Duration = Duration::from_millis(1_500);

#[tokio::test]
async fn one_has_it_and_gives_it_to_the_next_at_once() {
    let bus = shared().bus().await;
    let name = unique("lease");
    assert_eq!(bus.lease_holder(&name).await.unwrap(), None);
    let first = bus.lease(&name, "one", TIME).acquire().await.unwrap();
    assert!(first.is_held());
    assert_eq!(bus.lease_holder(&name).await.unwrap().as_deref(), Some("one"));
    let second = bus.lease(&name, "two", TIME);
    // It is renewed: nobody gets it in three times its time.
    assert!(timeout(TIME * 3, second.acquire()).await.is_err());
    assert!(first.is_held());
    let epoch = first.epoch();
    let start = Instant::now();
    first.release().await;
    let held = second.acquire().await.unwrap();
    assert!(start.elapsed() < TIME, "{:?}", start.elapsed());
    assert!(held.epoch() > epoch);
    // Dropping gives it back as well.
    drop(held);
    eventually(DEADLINE, || async { Ok(bus.lease_holder(&name).await?.is_none()) }).await.unwrap();
}

#[tokio::test]
async fn a_holder_that_died_is_followed_in_the_leases_time() {
    let bus = shared().bus().await;
    let name = unique("lease");
    let (sender, receiver) = mpsc::channel();
    // Its tasks end with its runtime, as a killed process's do: nothing is given back.
    let (lease_name, server) = (name.clone(), shared());
    let dying = thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let held = runtime.block_on(async {
            server.bus().await.lease(&lease_name, "dying", TIME).acquire().await.unwrap()
        });
        sender.send(held.epoch()).unwrap();
        std::mem::forget(held);
        runtime.shutdown_background();
    });
    let epoch = receiver.recv().unwrap();
    dying.join().unwrap();
    let start = Instant::now();
    let next = bus.lease(&name, "next", TIME).acquire().await.unwrap();
    assert!(next.epoch() > epoch);
    assert!(start.elapsed() < TIME * 2, "{:?}", start.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_holder_knows_when_it_wakes() {
    let bus = shared().bus().await;
    let name = unique("lease");
    let (held_sender, held_receiver) = mpsc::channel();
    let (wake_sender, wake_receiver) = mpsc::channel::<()>();
    let (lease_name, server) = (name.clone(), shared());
    // All of its tasks run on its one thread, which stands still until it is woken.
    let paused = thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let held =
                server.bus().await.lease(&lease_name, "paused", TIME).acquire().await.unwrap();
            assert!(held.is_held());
            held_sender.send(held.epoch()).unwrap();
            wake_receiver.recv().unwrap();
            let knew_at_once = !held.is_held();
            timeout(DEADLINE, held.lost()).await.unwrap();
            // Its renewal, late by now, brings nothing back.
            tokio::time::sleep(TIME).await;
            (knew_at_once, held.is_held())
        })
    });
    let epoch = held_receiver.recv().unwrap();
    let next = bus.lease(&name, "next", TIME).acquire().await.unwrap();
    assert!(next.epoch() > epoch);
    wake_sender.send(()).unwrap();
    assert_eq!(paused.join().unwrap(), (true, false));
    assert!(next.is_held());
    assert_eq!(bus.lease_holder(&name).await.unwrap().as_deref(), Some("next"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_lost_when_the_bus_is_away_and_had_again_after() {
    let server = Server::start();
    let bus = server.bus().await;
    let lease = bus.lease("orchestrator", "one", TIME);
    let held = lease.acquire().await.unwrap();
    server.nats.kill().unwrap();
    let start = Instant::now();
    timeout(DEADLINE, held.lost()).await.unwrap();
    assert!(!held.is_held());
    assert!(start.elapsed() < TIME * 2);
    server.nats.restart().unwrap();
    let again = timeout(DEADLINE, lease.acquire()).await.unwrap().unwrap();
    assert!(again.epoch() > held.epoch());
    assert!(!held.is_held());
}

#[tokio::test]
async fn of_many_at_once_one_has_it() {
    let server = shared();
    let name = unique("lease");
    let holders = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(0));
    let mut tasks = tokio::task::JoinSet::new();
    for instance in 0..6 {
        let (name, holders) = (name.clone(), std::sync::Arc::clone(&holders));
        tasks.spawn(async move {
            let bus = server.bus().await;
            let lease = bus.lease(&name, &instance.to_string(), Duration::from_secs(10));
            let held = lease.acquire().await.unwrap();
            use std::sync::atomic::Ordering::SeqCst;
            assert_eq!(holders.fetch_add(1, SeqCst), 0);
            tokio::time::sleep(Duration::from_millis(20)).await;
            assert!(held.is_held());
            holders.fetch_sub(1, SeqCst);
            held.release().await;
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
}
