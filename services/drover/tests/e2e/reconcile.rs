//! The bus loses its end, or everything: the ledgers refuse what is out of date, `drover reconcile`
//! names what differs, and the campaign completes after its repair.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use drover_testbed::seed::{Shape, Site};
use mysql_async::prelude::Queryable as _;
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::world::{CAMPAIGN, World, reads_and_writes};

const DATABASES: usize = 16;
const IN_FLIGHT_MAX: u32 = 2;

/// So many are moved first; the others are then planned, and wait for a start. So it is known on
/// every machine, however fast, what the log holds at a moment.
const FIRST: usize = 6;

async fn world() -> World {
    let shape = |n| if n % 3 == 0 { Shape::Shop } else { Shape::Empty };
    let site = |n: usize| Site::new(&format!("r{n}"), shape(n), n as u64);
    World::new(3, (0..DATABASES).map(site).collect()).await
}

/// Moves the first, and plans the others.
async fn the_first_are_moved(world: &World) {
    let inventory = world.inventory();
    let rows = fs::read_to_string(&inventory).unwrap();
    let first: String = rows.split_inclusive('\n').take(1 + FIRST).collect();
    let first = world.write("first.csv", first.as_bytes());
    world.ok(&["plan", CAMPAIGN, "--inventory", first.to_str().unwrap()]).await;
    start(world).await;
    world.until("the first moved", |counts| counts["phase"] == "completed").await;
    world.ok(&["plan", CAMPAIGN, "--inventory", inventory.to_str().unwrap()]).await;
}

async fn start(world: &World) {
    world.ok(&["start", CAMPAIGN, "--max-in-flight", &IN_FLIGHT_MAX.to_string()]).await;
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

fn store(world: &World) -> PathBuf {
    world.fleet.nats.dir().join("store")
}

/// A row that a customer writes at the destination: it must still be there at the end.
async fn write(world: &World, site: &Site) -> bool {
    let server = world.destination();
    let Ok(mut conn) = server.connect(&site.owner.user, &site.owner.password).await else {
        return false;
    };
    let table = format!("`{}`.written_after", site.database);
    let done = conn.query_drop(format!("CREATE TABLE {table} (a INT)")).await.is_ok()
        && conn.query_drop(format!("INSERT INTO {table} VALUES (4711)")).await.is_ok();
    conn.disconnect().await.unwrap();
    done
}

async fn check_all(world: &World, written: &BTreeSet<String>) {
    for row in &world.rows {
        let name = &row.site.database;
        reads_and_writes(&row.site, world.destination()).await.unwrap();
        assert!(reads_and_writes(&row.site, world.source()).await.is_err(), "{name}: two homes");
        let mail = world.fleet.smtp.messages();
        let arrived = mail.iter().filter(|message| message.to == [row.owner.clone()]).count();
        assert_eq!(arrived, 1, "{name}: announced once");
        if written.contains(name) {
            let mut root = world.destination().root().await.unwrap();
            let sql = format!("SELECT a FROM `{name}`.written_after");
            let found: Option<u32> = root.query_first(sql).await.unwrap();
            assert_eq!(found, Some(4711), "{name}: a customer's write is lost");
            root.disconnect().await.unwrap();
        }
    }
}

async fn codes(world: &World) -> BTreeSet<String> {
    let said = world.drover(&["reconcile", CAMPAIGN, "--json"]).await;
    assert_eq!(said.code, 1, "{said:?}");
    let report: Value = serde_json::from_str(&said.out).unwrap();
    let differences = report["differences"].as_array().unwrap();
    assert!(!report["unknown"].as_array().unwrap().is_empty(), "it says what it cannot know");
    differences.iter().map(|it| it["code"].as_str().unwrap().to_owned()).collect()
}

async fn write_where_open(world: &World) -> BTreeSet<String> {
    let mut written = BTreeSet::new();
    for row in &world.rows {
        if write(world, &row.site).await {
            written.insert(row.site.database.clone());
        }
    }
    written
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bus_loses_its_tail() {
    let world = world().await;
    let services = world.serve("drover", &["all"]);
    the_first_are_moved(&world).await;
    let (nats, backup) = (&world.fleet.nats, world.fleet.nats.dir().join("backup"));
    nats.stop().unwrap();
    copy(&store(&world), &backup);
    nats.restart().unwrap();
    start(&world).await;
    let more = |counts: &Value| counts["completed"].as_u64() >= Some(FIRST as u64 + 4);
    world.until("more moved", more).await;
    // The services stand still until what the loss left has been seen: on their own they would have
    // done some of it again by then.
    services.signal(Signal::SIGSTOP).unwrap();
    nats.stop().unwrap();
    fs::remove_dir_all(store(&world)).unwrap();
    fs::rename(&backup, store(&world)).unwrap();
    let written = write_where_open(&world).await;
    assert!(written.len() >= FIRST + 4, "{written:?}");
    nats.restart().unwrap();

    let codes = codes(&world).await;
    assert!(codes.contains("DRV-0710"), "{codes:?}\n{}", world.logs());
    assert!(codes.contains("DRV-0712"), "{codes:?}\n{}", world.logs());
    services.signal(Signal::SIGCONT).unwrap();
    let said = world.ok(&["reconcile", CAMPAIGN, "--repair"]).await;
    assert!(said.contains(", repaired"), "{said}");
    // That the others were started is in no ledger.
    start(&world).await;
    world.until("all completed", |counts| counts["completed"] == DATABASES).await;
    check_all(&world, &written).await;
    let said = world.ok(&["reconcile", CAMPAIGN]).await;
    assert!(said.contains("agree"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_whole_stream_is_gone() {
    let world = world().await;
    let services = world.serve("drover-1", &["all"]);
    the_first_are_moved(&world).await;
    let nats = &world.fleet.nats;
    nats.kill().unwrap();
    services.stop().unwrap();
    fs::remove_dir_all(store(&world)).unwrap();
    let written = write_where_open(&world).await;
    nats.restart().unwrap();
    // The queues are gone too, and only the bus's administrator makes them.
    world.ok(&["init", "--streams"]).await;

    let codes = codes(&world).await;
    assert!(codes.contains("DRV-0711"), "{codes:?}");
    world.ok(&["reconcile", CAMPAIGN, "--repair"]).await;
    let _services = world.serve("drover-2", &["all"]);
    // What was planned and never begun is in no ledger, nor that the campaign was started.
    world.start(IN_FLIGHT_MAX).await;
    world.until("all completed", |counts| counts["completed"] == DATABASES).await;
    check_all(&world, &written).await;
    let said = world.ok(&["reconcile", CAMPAIGN]).await;
    assert!(said.contains("agree"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_migration_answers_for_is_named() {
    let world = World::new(2, vec![Site::new("orphan", Shape::Empty, 1)]).await;
    let _services = world.serve("drover", &["all"]);
    let inventory = world.inventory();
    world.ok(&["plan", CAMPAIGN, "--inventory", inventory.to_str().unwrap()]).await;
    // Somebody takes the name at the destination: the migration is undone and parked.
    world
        .destination()
        .execute("CREATE DATABASE orphan; CREATE TABLE orphan.t (a INT)")
        .await
        .unwrap();
    world.ok(&["start", CAMPAIGN]).await;
    world.until("parked", |counts| counts["parked"] == 1).await;
    let said = world.ok(&["reconcile", CAMPAIGN]).await;
    assert!(said.contains("agree"), "{said}");

    // Both servers are put back to a time when it was under way.
    for (server, side, state) in
        [(world.source(), "source", "frozen"), (world.destination(), "destination", "imported")]
    {
        let sql = format!("UPDATE drover.ledger SET state = '{state}' WHERE side = '{side}'");
        server.execute(&sql).await.unwrap();
    }
    let said = world.drover(&["reconcile", CAMPAIGN, "--json", "--repair"]).await;
    assert_eq!(said.code, 1, "{said:?}");
    let report: Value = serde_json::from_str(&said.out).unwrap();
    let differences = report["differences"].as_array().unwrap();
    let found: BTreeSet<_> = differences.iter().map(|it| it["code"].as_str().unwrap()).collect();
    assert_eq!(found, ["DRV-0713", "DRV-0714"].into(), "{report:#}");
    assert!(differences.iter().all(|it| it["repaired"] == false), "nothing on suspicion");
    assert!(world.has(world.destination(), "orphan").await);
}
