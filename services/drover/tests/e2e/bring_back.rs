//! Brought back with all that the customer has written at the destination: to the old source, whose
//! retired database is set aside and kept.

use drover_testbed::{
    mariadb::Mariadb,
    seed::{Shape, Site},
};
use mysql_async::prelude::Queryable as _;
use serde_json::Value;

use crate::{
    rollback::{by_owner, id, is_home, is_moved, shops, with_visits},
    world::{CAMPAIGN, World},
};

/// The campaign in which it is done.
const BACK: &str = "night-back";

/// Caches forget the destination soon.
const SHORT: (&str, &str) = ("DROVER_DNS__ZONES__0__TTL_SECONDS", "1");

/// Sites at a source, each with a small table beside its own; every server may be the other end.
async fn world(names: &[&str]) -> World {
    with_visits(World::both_ways(2, shops(names)).await, names).await
}

/// The customer goes on at the destination.
async fn written(world: &World, n: usize) {
    let write = "INSERT INTO visits VALUES (3, 'three'); UPDATE visits SET b = 'more' WHERE a = 1; \
                 CREATE TABLE later (a INT PRIMARY KEY); INSERT INTO later VALUES (7); \
                 CREATE VIEW seen AS SELECT b FROM visits; \
                 CREATE PROCEDURE note() INSERT INTO later VALUES (11)";
    by_owner(&world.rows[n].site, world.destination(), write).await.unwrap();
}

async fn texts(server: &Mariadb, sql: &str) -> Vec<String> {
    let mut root = server.root().await.unwrap();
    let found = root.query(sql).await.unwrap();
    root.disconnect().await.unwrap();
    found
}

/// What was written at the destination is there, and what the procedure adds.
async fn has_all(server: &Mariadb, name: &str) {
    let visits = texts(server, &format!("SELECT b FROM {name}.seen ORDER BY b")).await;
    assert_eq!(visits, ["more", "three", "two"], "{name}");
    server.execute(&format!("CALL {name}.note()")).await.unwrap();
    let later = texts(server, &format!("SELECT CONCAT(a) FROM {name}.later ORDER BY a")).await;
    assert_eq!(later, ["7", "11"], "{name}");
}

async fn completed(world: &World, campaign: &str, count: u64) {
    world.until_of(campaign, "completed", |counts| counts["completed"] == count).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wave_with_what_was_written_at_the_destination() {
    let mut world = world(&["shop", "blog"]).await;
    let _services = world.serve_with("drover-1", &["all"], &[SHORT]);
    let inventory = world.inventory();
    world.ok(&["plan", CAMPAIGN, "--inventory", inventory.to_str().unwrap()]).await;
    let back = ["rollback", CAMPAIGN, "--wave", "w1", "--bring-back"];
    let said = world.drover(&back).await;
    assert_eq!((said.code, said.err.contains("DRV-0409")), (1, true), "{said:?}");
    assert!(said.out.contains("it is planned: the customer is at the source"), "{said:?}");
    world.ok(&["start", CAMPAIGN]).await;
    completed(&world, CAMPAIGN, 2).await;
    let ids = [id(&world, 0).await, id(&world, 1).await];
    for n in [0, 1] {
        written(&world, n).await;
    }
    let said = world.drover(&["rollback", CAMPAIGN, "--wave", "w1"]).await;
    assert_eq!((said.code, said.err.contains("DRV-0408")), (1, true), "{said:?}");

    // The customer has another password there; and the old one is good for something else.
    let events = world.events().await.len();
    let owner = &mut world.rows[1].site.owner;
    owner.password = "another".to_owned();
    let account = format!("'{}'@'%'", owner.user);
    let password = format!("ALTER USER {account} IDENTIFIED BY 'another'");
    world.destination().execute(&password).await.unwrap();
    let other = format!("CREATE DATABASE elsewhere; GRANT SELECT ON elsewhere.* TO {account}");
    world.source().execute(&other).await.unwrap();
    let said = world.drover(&back).await;
    assert_eq!((said.code, said.err.contains("DRV-0261")), (1, true), "{said:?}");
    assert!(said.out.contains("DRV-0401"), "{said:?}");
    assert_eq!(world.events().await.len(), events, "nothing was said to the log");
    let none = format!("REVOKE SELECT ON elsewhere.* FROM {account}");
    world.source().execute(&none).await.unwrap();

    let said = world.ok(&back).await;
    assert!(said.contains("2 of 2 migrations are brought back"), "{said}");
    assert!(said.contains("drover status night-back"), "{said}");
    completed(&world, BACK, 2).await;
    for (n, id) in ids.iter().enumerate() {
        let name = &world.rows[n].site.database;
        is_home(&world, n).await;
        has_all(world.source(), name).await;
        assert!(world.has(world.destination(), name).await, "the destination's data is kept");
        let aside = format!("drover_aside_{}", id.replace('-', ""));
        let old = texts(world.source(), &format!("SELECT b FROM {aside}.visits ORDER BY a")).await;
        assert_eq!(old, ["one", "two"], "the old source's data is kept");
    }
    world.until_of(BACK, "ended", |counts| counts["phase"] == "completed").await;
    let events = [world.events().await.len(), world.events_of(BACK).await.len()];
    nothing_else_is_done(&world, &ids[0], &back).await;
    assert_eq!([world.events().await.len(), world.events_of(BACK).await.len()], events);
}

/// The first migration says by which one it is brought back, and nothing else acts on it.
async fn nothing_else_is_done(world: &World, id: &str, back: &[&str]) {
    world.until("said", |counts| counts["phases"]["brought back"] == 2).await;
    let said = world.drover(&["rollback", CAMPAIGN, "--migration", id, "--discard-writes"]).await;
    assert_eq!((said.code, said.err.contains("DRV-0410")), (1, true), "{said:?}");
    assert!(said.err.contains("of campaign night-back"), "{said:?}");
    let said = world.drover(&["retry", CAMPAIGN, "--migration", id]).await;
    assert_eq!((said.code, said.err.contains("DRV-0700")), (1, true), "{said:?}");
    let said = world.ok(back).await;
    assert!(said.contains("2 of 2 migrations are brought back"), "{said}");
    let said = world.ok(&["audit", CAMPAIGN, "--database", "shop"]).await;
    assert!(said.contains("BringBackRequested"), "{said}");
    for campaign in [CAMPAIGN, BACK] {
        let said = world.drover(&["reconcile", campaign]).await;
        assert_eq!(said.code, 0, "{said:?}");
    }
    // What was brought back is not brought back once more.
    let said = world.drover(&["rollback", BACK, "--wave", "w1", "--bring-back"]).await;
    assert_eq!((said.code, said.err.contains("DRV-0409")), (1, true), "{said:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn taken_back_on_its_way_and_tried_again() {
    let world = world(&["shop"]).await;
    let others = ["orchestrator", "dump", "import", "notify", "projector"];
    let _others = world.serve("drover-1", &others);
    let dns = world.serve_with("drover-2", &["dns"], &[SHORT]);
    world.start(1).await;
    completed(&world, CAMPAIGN, 1).await;
    let first = id(&world, 0).await;
    written(&world, 0).await;
    let there = world.privileges(world.destination()).await;
    let here = world.privileges(world.source()).await;
    let retired = texts(world.source(), "SHOW TABLES FROM shop").await;
    dns.stop().unwrap();

    let said =
        world.ok(&["rollback", CAMPAIGN, "--migration", &first, "--bring-back", "--json"]).await;
    let document: Value = serde_json::from_str(&said).unwrap();
    let row = &document["migrations"][0];
    assert_eq!(row["outcome"], "brought_back", "{document:#}");
    let other = row["brought_back"]["id"].as_str().unwrap().to_owned();
    world.until_of(BACK, "opened", |counts| counts["phases"]["switch"] == 1).await;
    assert!(texts(world.source(), "SHOW TABLES FROM shop").await.contains(&"later".to_owned()));

    // The host name points to the destination still: there the customer is again.
    world.ok(&["rollback", BACK, "--migration", &other, "--discard-writes"]).await;
    let _dns = world.serve_with("drover-3", &["dns"], &[SHORT]);
    world.until_of(BACK, "taken back", |counts| counts["rolled_back"] == 1).await;
    is_moved(&world, 0).await;
    assert_eq!(world.privileges(world.destination()).await, there);
    assert_eq!(world.privileges(world.source()).await, here);
    assert_eq!(texts(world.source(), "SHOW TABLES FROM shop").await, retired);

    world.ok(&["retry", BACK, "--migration", &other]).await;
    world.ok(&["start", BACK]).await;
    completed(&world, BACK, 1).await;
    is_home(&world, 0).await;
    has_all(world.source(), "shop").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_not_set_up_for_it_is_named() {
    let world = World::new(1, vec![Site::new("shop", Shape::Shop, 5)]).await;
    let _services = world.serve("drover-1", &["all"]);
    world.start(1).await;
    completed(&world, CAMPAIGN, 1).await;
    let (first, events) = (id(&world, 0).await, world.events().await.len());
    let said = world.drover(&["rollback", CAMPAIGN, "--migration", &first, "--bring-back"]).await;
    assert_eq!((said.code, said.err.contains("DRV-0411")), (1, true), "{said:?}");
    for lacking in ["src-1 has slots_as_destination = 0", "dst-1 has slots_as_source = 0"] {
        assert!(said.err.contains(lacking), "{said:?}");
    }
    assert_eq!(world.events().await.len(), events, "nothing was said to the log");
}
