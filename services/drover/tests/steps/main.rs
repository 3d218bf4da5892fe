//! Every step, forward and back, on real servers: its service dies before its effect, in the
//! middle of it, after it and before its event, after its event and before its acknowledgement;
//! the step is done twice, one after the other and at the same time; it is undone from each of
//! those places; and who slept through all of that does no harm on waking.
//!
//! One table: places by steps. The steps are those of the lifecycle, so a new one is in the table
//! by itself ([`expect`] does not compile until somebody has said what it is for).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failed test may panic anywhere"
)]

mod case;
mod expect;
mod life;
mod world;

use std::{collections::BTreeSet, panic::AssertUnwindSafe, sync::Arc};

use drover_lifecycle::{Forward, Undo};
use drover_schemas::v1::Step;
use futures::{FutureExt as _, future::BoxFuture};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::sync::{Barrier, Mutex, Notify};

use crate::{
    case::{Case, steps},
    life::Place,
    world::World,
};

/// How many cases run side by side: enough to fill the waiting for servers.
const LANES: usize = 4;
/// The most that a step is driven on before it is dropped in the middle; some end before.
const DRIVES_MAX: usize = 60;

/// Where a service can be when it dies, or what else can befall it.
const PLACES: [&str; 6] =
    ["before effect", "midway", "after effect", "after event", "twice", "at once"];

fn place(name: &str, random: &mut StdRng) -> Place {
    match name {
        "before effect" => Place::BeforeEffect,
        "midway" => Place::Midway(random.random_range(1..DRIVES_MAX)),
        "after effect" => Place::AfterEffect,
        "after event" => Place::AfterEvent,
        "twice" => Place::Twice,
        "at once" => Place::AtOnce(Arc::new(Barrier::new(2))),
        other => panic!("no place is called {other}"),
    }
}

/// A case's part of the table; the case tells its story when it fails.
type Part = Box<dyn for<'a> Fn(&'a mut Case, &'a mut StdRng) -> BoxFuture<'a, ()> + Send + Sync>;

/// Runs all parts, some side by side, and tells of every one that failed.
async fn run(parts: Vec<(String, Part)>) {
    let seed = std::env::var("DROVER_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed: u64 = seed.unwrap_or_else(rand::random);
    let world = Arc::new(World::new().await);
    let parts = Mutex::new(parts.into_iter().enumerate().collect::<Vec<_>>());
    let failed = Mutex::new(Vec::new());
    let lane = async |_| {
        let mut lane = world.lane().await;
        while let Some((n, (name, part))) = take(&parts).await {
            let mut case = world.case(&lane).await;
            let mut random = StdRng::seed_from_u64(seed ^ n as u64);
            let ran = AssertUnwindSafe(part(&mut case, &mut random)).catch_unwind();
            if ran.await.is_err() {
                failed.lock().await.push(format!("{name}: {:?}", case.story));
                // What it left on the queue is nobody else's.
                lane = world.lane().await;
            }
        }
    };
    futures::future::join_all((0..LANES).map(lane)).await;
    let failed = failed.lock().await;
    assert!(failed.is_empty(), "DROVER_SEED={seed}: {failed:#?}");
}

async fn take<T>(parts: &Mutex<Vec<T>>) -> Option<T> {
    parts.lock().await.pop()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_step_may_end_anywhere() {
    let parts = [
        each_dies_and_comes_to_its_end(),
        each_is_gone_on_with(),
        each_is_undone(),
        each_undo_sleeps(),
        each_refusal_comes_to_its_end(),
        each_rehearsal_leaves_nothing(),
    ];
    run(parts.into_iter().flatten().collect()).await;
}

/// Each step dies everywhere, and comes to its end.
fn each_dies_and_comes_to_its_end() -> Vec<(String, Part)> {
    let mut parts: Vec<(String, Part)> = Vec::new();
    for name in PLACES {
        parts.push((
            format!("all the way and back, {name}"),
            Box::new(move |case, random| all_the_way(case, random, name).boxed()),
        ));
        parts.push((
            format!("half the way and back, {name}"),
            Box::new(move |case, random| half_the_way(case, random, name).boxed()),
        ));
    }
    parts
}

/// Who goes on with a step dies in it everywhere, and another goes on from there.
fn each_is_gone_on_with() -> Vec<(String, Part)> {
    let part = |name: &'static str| -> (String, Part) {
        let part: Part = Box::new(move |case, random| gone_on_with(case, random, name).boxed());
        (format!("gone on with, {name}"), part)
    };
    PLACES[..4].iter().copied().map(part).collect()
}

async fn gone_on_with(case: &mut Case, random: &mut StdRng, name: &'static str) {
    case.step_onward(place(name, random)).await;
    case.step_onward(place(name, random)).await;
    case.forward_to(Forward::Publish.step()).await;
    case.step_onward(place(name, random)).await;
    case.check_log().await;
    case.roll_back(false).await;
    case.all(|| Place::Calm).await;
}

/// All steps to the end, and back on a person's word; then there again.
async fn all_the_way(case: &mut Case, random: &mut StdRng, name: &'static str) {
    let mut tried: BTreeSet<Step> = case.all(|| place(name, random)).await.into_iter().collect();
    // The dump has expired, so nobody can tell what was written since.
    case.roll_back(true).await;
    tried.extend(case.all(|| place(name, random)).await);
    case.check_log().await;
    // A copy that was switched to is not dropped: that is the other half of the table.
    assert_eq!(tried, steps().filter(|step| *step != Step::Drop).collect());
    case.retry().await;
    case.forward_to(Forward::Switch.step()).await;
    case.check_log().await;
}

/// Taken back before anybody was sent to the copy: it is dropped. Then there again.
async fn half_the_way(case: &mut Case, random: &mut StdRng, name: &'static str) {
    case.forward_to(Forward::Switch.step()).await;
    case.roll_back(false).await;
    let tried: BTreeSet<Step> = case.all(|| place(name, random)).await.into_iter().collect();
    assert_eq!(tried, Undo::ALL.map(Undo::step).into());
    case.retry().await;
    case.forward_to(Forward::Switch.step()).await;
    case.check_log().await;
}

/// Each step is undone from wherever it died.
fn each_is_undone() -> Vec<(String, Part)> {
    let mut parts: Vec<(String, Part)> = Vec::new();
    for step in Forward::ALL.map(Forward::step) {
        for name in &PLACES[..4] {
            // Half retired is for the customer either retired or not, and nobody can tell when a
            // statement ends whose session has died. In services/mysql it is cut at each of them.
            if step == Step::Retire && *name == "midway" {
                continue;
            }
            parts.push((
                format!("{step:?} undone from {name}"),
                Box::new(move |case, random| undone(case, random, step, name).boxed()),
            ));
        }
        parts.push((
            format!("{step:?} asleep while it is undone"),
            Box::new(move |case, _| overslept(case, step).boxed()),
        ));
    }
    parts
}

async fn undone(case: &mut Case, random: &mut StdRng, step: Step, name: &'static str) {
    case.forward_to(step).await;
    let job = case.order().await.unwrap();
    let place = place(name, random);
    case.story.push(format!("{step:?} dies {place:?}"));
    case.die(&job, &place).await;
    case.note(step, &place).await;
    case.roll_back(step == Step::Expire).await;
    case.take_back(&job).await;
}

/// The service had the job before the undo, and wakes up after it.
async fn overslept(case: &mut Case, step: Step) {
    case.forward_to(step).await;
    let job = case.order().await.unwrap();
    case.story.push(format!("{step:?} falls asleep"));
    let wake = Arc::new(Notify::new());
    let sleeper = case.begin(&job, Place::Asleep(wake.clone())).await;
    sleeper.told.reached.notified().await;
    case.roll_back(false).await;
    case.take_back(&job).await;
    wake.notify_one();
    sleeper.end().await;
    if matches!(step, Step::Announce | Step::Expire) {
        // A mail server and a store have no ledger that could refuse what comes late.
        case.note(step, &Place::AfterEffect).await;
    }
    case.check("after the sleeper woke up").await;
    case.check_log().await;
}

/// An undo that slept undoes nothing of the next run.
fn each_undo_sleeps() -> Vec<(String, Part)> {
    let mut parts: Vec<(String, Part)> = Vec::new();
    for undo in Undo::ALL.map(Undo::step) {
        parts.push((
            format!("{undo:?} asleep"),
            Box::new(move |case, _| slept_into_the_next_run(case, undo).boxed()),
        ));
    }
    parts
}

async fn slept_into_the_next_run(case: &mut Case, undo: Step) {
    case.forward_to(Forward::Switch.step()).await;
    case.roll_back(false).await;
    case.forward_to(undo).await;
    let job = case.order().await.unwrap();
    case.story.push(format!("{undo:?} falls asleep"));
    let wake = Arc::new(Notify::new());
    let sleeper = case.begin(&job, Place::Asleep(wake.clone())).await;
    sleeper.told.reached.notified().await;
    life::give_out_again(&case.lane, &job).await;
    case.all(|| Place::Calm).await;
    case.retry().await;
    case.forward_to(Forward::Retire.step()).await;
    case.story.push("the sleeper wakes up".into());
    wake.notify_one();
    sleeper.end().await;
    case.check("after the sleeper woke up").await;
    case.check_log().await;
}

/// What was written at the destination is kept, wherever the closing's service has died, and
/// whatever befalls those of the steps that lead there again. Then it is let go on a word.
fn each_refusal_comes_to_its_end() -> Vec<(String, Part)> {
    let mut parts: Vec<(String, Part)> = Vec::new();
    for dies in ["before effect", "midway", "midway"] {
        for name in ["midway", "twice", "at once"] {
            parts.push((
                format!("refused after {dies}, and on {name}"),
                Box::new(move |case, random| refused(case, random, dies, name).boxed()),
            ));
        }
    }
    parts
}

async fn refused(case: &mut Case, random: &mut StdRng, dies: &'static str, name: &'static str) {
    case.forward_to(Forward::Publish.step()).await;
    case.write().await;
    case.roll_back(false).await;
    case.forward_to(Undo::Close.step()).await;
    case.refused(&place(dies, random)).await;
    let steps = case.all(|| place(name, random)).await;
    let again = [Forward::Open, Forward::Switch, Forward::Retire].map(Forward::step);
    assert_eq!(steps[..3], again);
    case.roll_back(true).await;
    let steps = case.all(|| place(name, random)).await;
    assert_eq!(steps, [Undo::Revert, Undo::Close, Undo::Thaw].map(Undo::step));
}

/// The steps of a rehearsal, in order.
const REHEARSED: [Step; 5] = [Step::Dump, Step::Import, Step::Verify, Step::Drop, Step::Expire];

/// A rehearsal comes to its end wherever its services die, and whatever breaks it off; its source is
/// as it was at any time.
fn each_rehearsal_leaves_nothing() -> Vec<(String, Part)> {
    let mut parts: Vec<(String, Part)> = Vec::new();
    for name in PLACES {
        parts.push((
            format!("rehearsed, {name}"),
            Box::new(move |case, random| rehearsed(case, random, name).boxed()),
        ));
    }
    for step in [Step::Dump, Step::Import, Step::Verify] {
        for name in ["midway", "after effect"] {
            parts.push((
                format!("{step:?} of a rehearsal broken off {name}"),
                Box::new(move |case, random| broken_off(case, random, step, name).boxed()),
            ));
        }
    }
    parts
}

async fn rehearsed(case: &mut Case, random: &mut StdRng, name: &'static str) {
    case.rehearse().await;
    assert_eq!(case.all(|| place(name, random)).await, REHEARSED);
    case.check_log().await;
    // Once more, as another run.
    case.retry().await;
    assert_eq!(case.all(|| Place::Calm).await, REHEARSED);
    case.check_log().await;
}

async fn broken_off(case: &mut Case, random: &mut StdRng, step: Step, name: &'static str) {
    case.rehearse().await;
    undone(case, random, step, name).await;
    case.check_log().await;
}
