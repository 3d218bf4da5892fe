//! Failures, each caused for real: what is transient is tried again; what is not is undone, parked,
//! and done after its cause is gone.

use drover_testbed::{
    fleet::ZONE,
    seed::{Shape, Site},
    smtp::Fault,
};
use serde_json::Value;

use crate::world::{CAMPAIGN, World, reads_and_writes};

fn site(name: &str) -> Site {
    Site::new(name, Shape::Shop, 5)
}

/// Runs the campaign of one database until it is parked, and holds what must be so then.
async fn parked(world: &World, before: &[String], code: &str) -> Value {
    world.start(4).await;
    world.until("parked", |counts| counts["parked"] == 1).await;
    let groups = world.json(&["failures", CAMPAIGN, "--json"]).await;
    let group = groups[0].clone();
    assert_eq!(group["code"], code, "{groups:#}");
    assert!(group["signature"].as_str().unwrap().starts_with(code), "{groups:#}");
    assert_eq!(group["waiting"], 1, "{groups:#}");
    let site = &world.rows[0].site;
    assert_eq!(world.privileges(world.source()).await, before, "the exact privileges are back");
    reads_and_writes(site, world.source()).await.unwrap();
    assert!(reads_and_writes(site, world.destination()).await.is_err());
    let last = world.events().await.pop().unwrap();
    assert_eq!(last["type"], "drover.v1.MigrationParked");
    group
}

/// The cause is gone: one retry of all that failed alike, and it completes.
async fn retried(world: &World, group: &Value) {
    let signature = group["signature"].as_str().unwrap();
    world.ok(&["retry", CAMPAIGN, "--signature", signature]).await;
    world.until("completed", |counts| counts["completed"] == 1).await;
    let site = &world.rows[0].site;
    reads_and_writes(site, world.destination()).await.unwrap();
    assert!(reads_and_writes(site, world.source()).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_that_the_destination_refuses() {
    let world = World::new(2, vec![site("compressed")]).await;
    // The source has a table of a kind that this destination does not write.
    let table = "CREATE TABLE compressed.c (a INT) ROW_FORMAT=COMPRESSED SELECT 1 AS a";
    world.source().execute(table).await.unwrap();
    let writes = |on: &str| format!("SET GLOBAL innodb_read_only_compressed = {on}");
    world.destination().execute(&writes("ON")).await.unwrap();
    let _services = world.serve("drover", &["all"]);
    let before = world.privileges(world.source()).await;
    let group = parked(&world, &before, "DRV-0402").await;
    assert!(!world.has(world.destination(), "compressed").await, "no copy is left");
    world.destination().execute(&writes("OFF")).await.unwrap();
    retried(&world, &group).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_is_not_equal() {
    let world = World::new(2, vec![site("unequal")]).await;
    // A destination that makes tables otherwise than it is told: compressed.
    let compress = |on: &str| format!("SET GLOBAL innodb_compression_default = {on}");
    world.destination().execute(&compress("ON")).await.unwrap();
    let _services = world.serve("drover", &["all"]);
    let before = world.privileges(world.source()).await;
    let group = parked(&world, &before, "DRV-0404").await;
    assert!(!world.has(world.destination(), "unequal").await, "no copy is left");
    world.destination().execute(&compress("OFF")).await.unwrap();
    retried(&world, &group).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_somebody_else_changed() {
    let world = World::new(2, vec![site("renamed")]).await;
    let bind = &world.fleet.bind;
    let name = format!("db0.{ZONE}.");
    let set = |target: &str| {
        let delete = format!("update delete {name} CNAME");
        let add = format!("update add {name} 1 CNAME {target}.{ZONE}.");
        bind.update(&[&delete, &add]).unwrap();
    };
    set("elsewhere");
    let _services = world.serve("drover", &["all"]);
    let before = world.privileges(world.source()).await;
    let group = parked(&world, &before, "DRV-0502").await;
    assert!(!world.has(world.destination(), "renamed").await, "no copy is left");
    let answer = bind.answer(&name, "CNAME").unwrap();
    assert_eq!(answer, [format!("elsewhere.{ZONE}.")], "never overwritten");
    set("src-1");
    retried(&world, &group).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_transient_is_tried_again() {
    let world = World::new(2, vec![site("mail")]).await;
    world.fleet.smtp.misbehave(None, Fault::Refuse(451), 2);
    let _services = world.serve("drover", &["all"]);
    world.start(4).await;
    world.until("completed", |counts| counts["completed"] == 1).await;
    let groups = world.json(&["failures", CAMPAIGN, "--json"]).await;
    assert_eq!(groups[0]["code"], "DRV-0600", "{groups:#}");
    assert_eq!(groups[0]["count"], 2, "{groups:#}");
    assert_eq!(world.fleet.smtp.messages().len(), 1, "told once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_that_is_away_and_comes_back() {
    let world = World::new(2, vec![site("away")]).await;
    let _services = world.serve("drover", &["all"]);
    let inventory = world.inventory();
    world.ok(&["plan", CAMPAIGN, "--inventory", inventory.to_str().unwrap()]).await;
    world.destination().kill().unwrap();
    world.ok(&["start", CAMPAIGN]).await;
    let failed = |counts: &Value| counts["in_flight"] == 1;
    world.until("under way", failed).await;
    drover_testbed::bed::eventually(crate::world::DEADLINE, || async {
        let groups = world.json(&["failures", CAMPAIGN, "--json"]).await;
        Ok(groups[0]["code"] == "DRV-0200")
    })
    .await
    .unwrap();
    world.destination().restart().await.unwrap();
    world.until("completed", |counts| counts["completed"] == 1).await;
    reads_and_writes(&world.rows[0].site, world.destination()).await.unwrap();
}
