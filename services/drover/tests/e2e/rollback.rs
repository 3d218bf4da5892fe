//! Taken back on a person's word, at every phase: host names, destination and source are as they
//! were before, to the last privilege. What a customer has written at the destination is named, and
//! is never lost without a word.

use drover_testbed::{
    bed::eventually,
    fleet::ZONE,
    mariadb::Mariadb,
    seed::{Shape, Site},
};
use mysql_async::prelude::Queryable as _;
use serde_json::Value;

use crate::world::{CAMPAIGN, DEADLINE, World, reads_and_writes};

/// Everything but what speaks to the zone.
const OTHERS: [&str; 6] = ["orchestrator", "dump", "import", "notify", "projector", "console"];

/// Sites at a source, each with a small table beside its own.
async fn world(names: &[&str]) -> World {
    with_visits(World::new(2, shops(names)).await, names).await
}

pub fn shops(names: &[&str]) -> Vec<Site> {
    names.iter().map(|name| Site::new(name, Shape::Shop, 5)).collect()
}

/// Gives each of the sites its small table.
pub async fn with_visits(world: World, names: &[&str]) -> World {
    for name in names {
        let sql = format!(
            "CREATE TABLE {name}.visits (a INT PRIMARY KEY, b VARCHAR(20)); \
             INSERT INTO {name}.visits VALUES (1, 'one'), (2, 'two')"
        );
        world.source().execute(&sql).await.unwrap();
    }
    world
}

/// What the server says of who may do what: the grant tables, and what an owner is shown.
pub async fn grants(world: &World) -> Vec<String> {
    let mut all = world.privileges(world.source()).await;
    let mut root = world.source().root().await.unwrap();
    for row in &world.rows {
        let sql = format!("SHOW GRANTS FOR '{}'@'%'", row.site.owner.user);
        all.extend(root.query::<String, _>(sql).await.unwrap());
    }
    root.disconnect().await.unwrap();
    all
}

pub async fn by_owner(site: &Site, server: &Mariadb, sql: &str) -> Result<(), mysql_async::Error> {
    let mut conn = server.connect(&site.owner.user, &site.owner.password).await?;
    conn.query_drop(format!("USE `{}`", site.database)).await?;
    conn.query_drop(sql).await?;
    conn.disconnect().await
}

pub async fn id(world: &World, n: usize) -> String {
    let database = &world.rows[n].site.database;
    let events = world.events().await;
    let planned = events.iter().find(|event| event["data"]["database"] == database.as_str());
    planned.unwrap()["subject"].as_str().unwrap().to_owned()
}

/// The last event of a migration.
async fn last(world: &World, id: &str) -> Value {
    let mut events = world.events().await;
    events.retain(|event| event["subject"] == id);
    events.pop().unwrap()
}

async fn until(world: &World, id: &str, kind: &str) {
    let waited = eventually(DEADLINE, || async {
        Ok::<_, anyhow::Error>(last(world, id).await["type"] == format!("drover.v1.{kind}"))
    })
    .await;
    assert!(waited.is_ok(), "{kind}: {:#}\n{}", last(world, id).await, world.logs());
}

/// Customer, host name and both servers are where they were before the migration.
pub async fn is_home(world: &World, n: usize) {
    let row = &world.rows[n];
    let name = &row.site.database;
    reads_and_writes(&row.site, world.source()).await.unwrap();
    assert!(reads_and_writes(&row.site, world.destination()).await.is_err(), "{name}");
    assert_eq!(points_to(world, n), [format!("src-1.{ZONE}.")], "{name}");
}

pub async fn is_moved(world: &World, n: usize) {
    let row = &world.rows[n];
    let name = &row.site.database;
    reads_and_writes(&row.site, world.destination()).await.unwrap();
    assert!(reads_and_writes(&row.site, world.source()).await.is_err(), "{name}");
    assert_eq!(points_to(world, n), [format!("dst-1.{ZONE}.")], "{name}");
}

fn points_to(world: &World, n: usize) -> Vec<String> {
    world.fleet.bind.answer(&format!("{}.", world.rows[n].host_name), "CNAME").unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wave_that_has_hardly_begun() {
    let world = world(&["begun", "waits"]).await;
    let before = grants(&world).await;
    // Without who imports: the first stands frozen, and the second has no slot.
    let _others = world.serve("drover-1", &["orchestrator", "dump", "dns", "notify", "projector"]);
    world.start(1).await;
    world.until("frozen", |counts| counts["phases"]["import"] == 1).await;
    let frozen = grants(&world).await;
    assert_ne!(frozen, before);
    let said = world.ok(&["rollback", CAMPAIGN, "--wave", "w1"]).await;
    assert!(said.contains("is taken back: drop, thaw"), "{said}");
    assert!(said.contains("is ended: nothing of it is to be undone"), "{said}");
    assert!(said.contains("2 of 2 migrations are taken back"), "{said}");
    let _import = world.serve("drover-2", &["import"]);
    world.until("taken back", |counts| counts["rolled_back"] == 2).await;
    assert_eq!(grants(&world).await, before);
    for n in [0, 1] {
        is_home(&world, n).await;
        assert!(!world.has(world.destination(), &world.rows[n].site.database).await);
    }
    // Once more does no harm, and says so.
    let events = world.events().await.len();
    let said = world.ok(&["rollback", CAMPAIGN, "--wave", "w1"]).await;
    assert!(said.contains("0 of 2 migrations are taken back"), "{said}");
    assert_eq!(world.events().await.len(), events);
    let said = world.drover(&["rollback", CAMPAIGN, "--wave", "w2"]).await;
    assert_eq!((said.code, said.err.contains("DRV-0022")), (1, true), "{said:?}");
    let said = world.drover(&["rollback", CAMPAIGN]).await;
    assert_eq!(said.code, 2, "{said:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_switched_and_what_is_complete() {
    let world = world(&["switched", "complete"]).await;
    let before = grants(&world).await;
    let name = format!("{}.", world.rows[0].host_name);
    // Caches keep this one for an hour: its source is frozen that long, and not yet retired.
    let slow = format!("update add {name} 3600 CNAME src-1.{ZONE}.");
    world.fleet.bind.update(&[&format!("update delete {name} CNAME"), &slow]).unwrap();
    let _others = world.serve("drover-1", &OTHERS);
    let _dns = world.serve("drover-2", &["dns"]);
    world.start(2).await;
    let so = |counts: &Value| counts["completed"] == 1 && counts["phases"]["retire"] == 1;
    world.until("one completed, one switched", so).await;
    let (switched, complete) = (id(&world, 0).await, id(&world, 1).await);
    is_moved(&world, 1).await;

    // Nothing was written: it is taken back, and its privileges are those of before.
    let said = world.ok(&["rollback", CAMPAIGN, "--migration", &complete]).await;
    assert!(said.contains("is taken back: revert, close, thaw"), "{said}");
    world.until("taken back", |counts| counts["rolled_back"] == 1).await;
    is_home(&world, 1).await;
    assert!(world.has(world.destination(), "complete").await, "the copy is kept, closed");

    // And there once more.
    world.ok(&["retry", CAMPAIGN, "--migration", &complete]).await;
    world.until("completed again", |counts| counts["completed"] == 1).await;
    is_moved(&world, 1).await;
    written_at_the_destination(&world, &complete).await;

    // The host name was switched a moment ago, and caches still point to the frozen source.
    world.ok(&["rollback", CAMPAIGN, "--migration", &switched]).await;
    world.until("taken back", |counts| counts["rolled_back"] == 2).await;
    is_home(&world, 0).await;
    assert_eq!(grants(&world).await, before);

    // With that the campaign has ended; what is tried again begins it once more.
    world.until("ended", |counts| counts["phase"] == "completed").await;
    world.ok(&["retry", CAMPAIGN, "--migration", &complete]).await;
    world.ok(&["start", CAMPAIGN]).await;
    world.until("completed once more", |counts| counts["completed"] == 1).await;
    is_moved(&world, 1).await;
}

/// The customer writes there: refused, named, and done on the person's word only.
async fn written_at_the_destination(world: &World, id: &str) {
    let site = &world.rows[1].site;
    let write = "INSERT INTO visits VALUES (3, 'three'); UPDATE visits SET b = 'more' WHERE a = 1";
    by_owner(site, world.destination(), write).await.unwrap();
    let events = world.events().await.len();
    let said = world.drover(&["rollback", CAMPAIGN, "--migration", id]).await;
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.err.contains("DRV-0408"), "{said:?}");
    let named = "TABLE visits rows were written, rows then 2, now 3, 2 of them only here";
    assert!(said.out.contains(named), "{said:?}");
    let said = world.drover(&["rollback", CAMPAIGN, "--migration", id, "--json"]).await;
    let document: Value = serde_json::from_str(&said.out).unwrap();
    let row = &document["migrations"][0];
    assert_eq!((said.code, &row["outcome"]), (1, &"left".into()), "{document:#}");
    assert_eq!(row["writes"][0]["rows_lost"], 2, "{document:#}");
    assert_eq!(world.events().await.len(), events, "nothing was said to the log");
    is_moved(world, 1).await;

    let said =
        world.ok(&["rollback", CAMPAIGN, "--migration", id, "--discard-writes", "--json"]).await;
    let document: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(document["migrations"][0]["outcome"], "taken_back", "{document:#}");
    until(world, id, "MigrationRolledBack").await;
    is_home(world, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn written_between_the_look_and_the_close() {
    let world = world(&["late"]).await;
    let _others = world.serve("drover-1", &OTHERS);
    let dns = world.serve("drover-2", &["dns"]);
    world.start(1).await;
    world.until("completed", |counts| counts["completed"] == 1).await;
    let (id, site) = (id(&world, 0).await, &world.rows[0].site);
    let there = world.privileges(world.destination()).await;
    dns.stop().unwrap();
    world.ok(&["rollback", CAMPAIGN, "--migration", &id]).await;
    by_owner(site, world.destination(), "INSERT INTO visits VALUES (3, 'late')").await.unwrap();
    let _dns = world.serve("drover-3", &["dns"]);
    until(&world, &id, "MigrationCompleted").await;

    is_moved(&world, 0).await;
    assert_eq!(world.privileges(world.destination()).await, there, "as before");
    by_owner(site, world.destination(), "UPDATE visits SET b = 'kept' WHERE b = 'late'")
        .await
        .unwrap();
    let events = world.events().await;
    let failed = events.iter().find(|event| event["type"] == "drover.v1.StepFailed").unwrap();
    assert_eq!(failed["data"]["code"], "DRV-0408", "{failed:#}");
    assert!(failed["data"]["message"].as_str().unwrap().contains("TABLE visits: 3 rows"));
    assert_eq!(world.fleet.smtp.messages().len(), 1, "told once");

    world.ok(&["rollback", CAMPAIGN, "--migration", &id, "--discard-writes"]).await;
    until(&world, &id, "MigrationRolledBack").await;
    is_home(&world, 0).await;
}
