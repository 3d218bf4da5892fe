//! A rehearsal on real servers, with a database that cannot be imported: the cause is named before
//! the night, no customer notices anything, and nothing is left.

use drover_testbed::seed::{Shape, Site};
use mysql_async::prelude::Queryable as _;
use serde_json::Value;

use crate::world::{CAMPAIGN, DEADLINE, World, reads_and_writes};

const REHEARSAL: &str = "night-rehearsal";

/// Until nothing of the rehearsal is under way.
async fn at_rest(world: &World) -> Value {
    let mut last = Value::Null;
    // What was said a moment ago may not be in the view yet.
    let said = world.events_of(REHEARSAL).await;
    let end: u64 = said.last().unwrap()["sequence"].as_str().unwrap().parse().unwrap();
    let waited = drover_testbed::bed::eventually(DEADLINE, || async {
        let counts = world.json(&["status", REHEARSAL, "--json"]).await;
        let moving = ["planned", "in_flight", "finishing"].map(|name| counts[name].as_u64());
        let settled = counts["position"].as_u64() >= Some(end);
        Ok(settled && moving == [Some(0); 3])
    })
    .await;
    assert!(waited.is_ok(), "never at rest\n{}", world.logs());
    if waited.is_ok() {
        last = world.json(&["status", REHEARSAL, "--json"]).await;
    }
    last
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rehearsal_names_what_would_fail_and_no_customer_notices() {
    let sites = ["good", "bad", "sound"].map(|name| Site::new(name, Shape::Shop, 5));
    let world = World::new(2, sites.into()).await;
    // What would run at the destination if it were enabled there.
    for sql in [
        "CREATE TABLE good.ticks (a INT)",
        "CREATE EVENT good.tick ON SCHEDULE EVERY 1 SECOND DO INSERT INTO good.ticks VALUES (1)",
        // A table of a kind that this destination does not write.
        "CREATE TABLE bad.c (a INT) ROW_FORMAT=COMPRESSED SELECT 1 AS a",
    ] {
        world.source().execute(sql).await.unwrap();
    }
    let writes = |on: &str| format!("SET GLOBAL innodb_read_only_compressed = {on}");
    world.destination().execute(&writes("ON")).await.unwrap();
    let [source, destination] =
        [world.privileges(world.source()).await, world.privileges(world.destination()).await];
    let operators = [("DROVER_NOTIFY__OPERATORS__MAIL_TO", "['night@operators.example']")];
    let _services = world.serve_with("drover", &["all"], &operators);
    let inventory = world.inventory();
    world.ok(&["plan", CAMPAIGN, "--inventory", inventory.to_str().unwrap()]).await;

    // A write every now and then, from before the rehearsal to after it.
    let rows: Site = Site::new("sound", Shape::Shop, 5);
    let mut customer =
        world.source().connect(&rows.owner.user, &rows.owner.password).await.unwrap();
    customer.query_drop("CREATE TABLE sound.kept (a INT)").await.unwrap();
    let said = world.ok(&["rehearse", CAMPAIGN, "--sample", "100%"]).await;
    assert!(said.contains("3 of 3 are rehearsed"), "{said}");
    customer.query_drop("INSERT INTO sound.kept VALUES (1)").await.unwrap();
    let counts = at_rest(&world).await;
    customer.query_drop("INSERT INTO sound.kept VALUES (2)").await.unwrap();
    assert_eq!((&counts["completed"], &counts["parked"]), (&2.into(), &1.into()), "{counts:#}");
    assert_eq!(counts["phases"]["rehearsed"], 2, "{counts:#}");
    let failures = world.json(&["failures", REHEARSAL, "--json"]).await;
    assert_eq!((&failures[0]["code"], &failures[0]["waiting"]), (&"DRV-0402".into(), &1.into()));

    // As if nothing had been.
    assert_eq!(world.privileges(world.source()).await, source);
    assert_eq!(world.privileges(world.destination()).await, destination);
    for row in &world.rows {
        assert!(!world.has(world.destination(), &row.site.database).await);
        reads_and_writes(&row.site, world.source()).await.unwrap();
    }
    let mut root = world.source().root().await.unwrap();
    let ledger = "SELECT COUNT(*) FROM drover.ledger";
    assert_eq!(root.query_first::<u64, _>(ledger).await.unwrap(), Some(0), "nothing was done");
    let enabled = "SELECT status FROM mysql.event WHERE db = 'good'";
    assert_eq!(root.query_first::<String, _>(enabled).await.unwrap().as_deref(), Some("ENABLED"));
    root.disconnect().await.unwrap();
    assert_eq!(world.fleet.smtp.messages().len(), 0, "nobody was told");
    let stored = world.fleet.bed.dir().join("store").join(REHEARSAL);
    let left = walk(&stored);
    assert!(left.is_empty(), "{left:?}");

    // What is rehearsed is not begun for real; then it is, and completes.
    world.ok(&["pause", REHEARSAL]).await;
    world.ok(&["retry", REHEARSAL, "--all"]).await;
    world.ok(&["resume", REHEARSAL]).await;
    at_rest(&world).await;
    let said = world.ok(&["forecast", CAMPAIGN]).await;
    assert!(said.contains("as rehearsed"), "{said}");
    assert!(said.contains("last may be src-1 (100 %)\n    sound of 3.0 MB\n"), "{said}");
    world.destination().execute(&writes("OFF")).await.unwrap();
    world.ok(&["start", CAMPAIGN]).await;
    for late in [&["rehearse", CAMPAIGN][..], &["retry", REHEARSAL, "--all"]] {
        let late = world.drover(late).await;
        assert!(late.code == 1 && late.err.contains("DRV-0765"), "{late:?}");
    }
    world.until("completed", |counts| counts["completed"] == 3).await;
    for row in &world.rows {
        reads_and_writes(&row.site, world.destination()).await.unwrap();
    }
    let mut root = world.destination().root().await.unwrap();
    let kept: Vec<u32> = root.query("SELECT a FROM sound.kept ORDER BY a").await.unwrap();
    assert_eq!(kept, [1, 2]);
    root.disconnect().await.unwrap();
    let mail = drover_testbed::bed::eventually(DEADLINE, || async {
        let subjects = world.fleet.smtp.messages().into_iter().filter_map(|m| m.header("subject"));
        let told = subjects.filter(|text| text == "Drover: campaign night has completed");
        Ok(told.count() == 1)
    });
    assert!(mail.await.is_ok(), "the operators were not told\n{}", world.logs());
    customer.disconnect().await.unwrap();
}

/// The files under a folder.
fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let paths = entries.map(|entry| entry.path());
    paths.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_campaign_does_not_begin_while_it_is_rehearsed() {
    let site = |n| Site::new(&format!("r{n}"), Shape::Empty, n as u64);
    let world = World::new(2, (0..2).map(site).collect()).await;
    let inventory = world.inventory();
    world.ok(&["plan", CAMPAIGN, "--inventory", inventory.to_str().unwrap()]).await;
    let plan = ["plan", REHEARSAL, "--inventory", inventory.to_str().unwrap()];
    let refused = world.drover(&plan).await;
    assert!(refused.code == 1 && refused.err.contains("DRV-0766"), "{refused:?}");
    // No service runs, so it stays where it is.
    world.ok(&["rehearse", CAMPAIGN, "--wave", "w1"]).await;
    let refused = world.drover(&["start", CAMPAIGN]).await;
    assert!(refused.code == 1 && refused.err.contains("DRV-0764"), "{refused:?}");
    let nobody = world.drover(&["rehearse", CAMPAIGN, "--wave", "other"]).await;
    assert!(nobody.code == 1, "{nobody:?}");
    world.ok(&["pause", REHEARSAL]).await;
    // As many as is best, from the start.
    let auto = ["--max-in-flight", "auto", "--floor", "2", "--ceiling", "8"];
    let said = world.ok(&[&["start", CAMPAIGN], &auto[..]].concat()).await;
    assert!(said.contains("at most 4 in flight"), "{said}");
    assert!(said.contains("in flight between 2 and 8 by itself"), "{said}");
    // What servers may be under then is said too.
    assert!(said.contains("at most 25 threads at a server"), "{said}");
    let said = world.ok(&["tune", CAMPAIGN, "--per-source", "1"]).await;
    assert!(said.contains("in flight between 2 and 8 by itself"), "{said}");
    let refused = ["start", CAMPAIGN, "--max-in-flight", "auto", "--floor", "9", "--ceiling", "8"];
    assert!(world.drover(&refused).await.err.contains("DRV-0761"));
}
