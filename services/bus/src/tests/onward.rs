//! A step that is gone on with after another, on the same order.

use drover_schemas::streams::Service;
use drover_testbed::bed::eventually;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{scene::*, *};

/// A worker that goes on with the dump after the freeze.
fn going_on(
    scene: &Scene,
    stage: &Stage,
    shutdown: &CancellationToken,
) -> JoinHandle<Result<(), crate::Error>> {
    let (bus, consumer, shutdown) = (scene.bus.clone(), scene.consumer.clone(), shutdown.clone());
    let trade = stage.trade(Some(Step::Dump));
    tokio::spawn(
        async move { bus.work_at(pace(), &consumer, Service::Dump, shutdown, trade).await },
    )
}

#[tokio::test]
async fn the_next_step_is_gone_on_with_and_one_order_serves_for_both() {
    let scene = Scene::new(shared().bus().await, 1).await;
    scene.order("a").await;
    let (stage, shutdown) = (Stage::new(1), CancellationToken::new());
    let _worker = going_on(&scene, &stage, &shutdown);
    until(|| stage.starts() == 2).await;
    assert_eq!(scene.events("a").await, 2);
    assert!(scene.is_queued("a").await, "the order stays until the last step has ended");
    stage.gate.add_permits(1);
    eventually(DEADLINE, || async { Ok(!scene.is_queued("a").await) }).await.unwrap();
    assert_eq!(scene.events("a").await, 3);
    assert_eq!(*stage.steps.lock().unwrap(), [Step::Freeze, Step::Dump]);
}

#[tokio::test]
async fn who_dies_on_the_way_is_followed_by_one_who_goes_on_from_there() {
    let scene = Scene::new(shared().bus().await, 1).await;
    scene.order("a").await;
    let (stage, shutdown) = (Stage::new(1), CancellationToken::new());
    let worker = going_on(&scene, &stage, &shutdown);
    until(|| stage.starts() == 2).await;
    worker.abort();
    let next = Stage::open();
    let _worker = going_on(&scene, &next, &shutdown);
    eventually(DEADLINE, || async { Ok(!scene.is_queued("a").await) }).await.unwrap();
    assert_eq!(*next.steps.lock().unwrap(), [Step::Dump]);
    assert_eq!(scene.events("a").await, 3);
}

#[tokio::test]
async fn what_has_moved_on_is_not_gone_on_with() {
    let scene = Scene::new(shared().bus().await, 1).await;
    scene.order("a").await;
    let (stage, shutdown) = (Stage::new(1), CancellationToken::new());
    let worker = going_on(&scene, &stage, &shutdown);
    until(|| stage.starts() == 2).await;
    worker.abort();
    let a = scene.history("a");
    let last = scene.bus.last(&scene.campaign, &a).await.unwrap().unwrap().sequence;
    scene.bus.append(&scene.campaign, &a, last, &event(9)).await.unwrap();
    let next = Stage::open();
    let _worker = going_on(&scene, &next, &shutdown);
    eventually(DEADLINE, || async { Ok(!scene.is_queued("a").await) }).await.unwrap();
    assert_eq!(next.starts(), 0);
    assert_eq!(scene.events("a").await, 3);
}

#[tokio::test]
async fn who_is_told_to_end_leaves_the_next_step_to_another() {
    let scene = Scene::new(shared().bus().await, 1).await;
    scene.order("a").await;
    let (stage, shutdown) = (Stage::new(0), CancellationToken::new());
    let worker = going_on(&scene, &stage, &shutdown);
    until(|| stage.starts() == 1).await;
    shutdown.cancel();
    stage.gate.add_permits(2);
    worker.await.unwrap().unwrap();
    assert_eq!(*stage.steps.lock().unwrap(), [Step::Freeze]);
    let next = Stage::open();
    let _worker = going_on(&scene, &next, &CancellationToken::new());
    eventually(DEADLINE, || async { Ok(!scene.is_queued("a").await) }).await.unwrap();
    assert_eq!(*next.steps.lock().unwrap(), [Step::Dump]);
}
