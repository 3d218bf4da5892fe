//! The pre-flight: what it finds holds a migration back, over every restart, until it is gone or
//! ignored; the others go.

use drover_testbed::{
    fleet::ZONE,
    seed::{Shape, Site},
};
use serde_json::Value;

use crate::world::{CAMPAIGN, World};

fn finding<'a>(document: &'a Value, code: &str) -> Option<&'a Value> {
    document["findings"].as_array().unwrap().iter().find(|finding| finding["code"] == code)
}

/// Runs the pre-flight: its exit code, and its document.
async fn doctor(world: &World) -> (i32, Value) {
    let said = world.drover(&["doctor", CAMPAIGN, "--json"]).await;
    let document = serde_json::from_str(&said.out);
    assert!(document.is_ok(), "{said:?}");
    (said.code, document.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_found_holds_back_until_it_is_gone_or_ignored() {
    let site = |name: &str| Site::new(name, Shape::Shop, 7);
    let world = World::new(2, vec![site("well"), site("doubled"), site("astray")]).await;
    let inventory = world.inventory();
    world.ok(&["plan", CAMPAIGN, "--inventory", inventory.to_str().unwrap()]).await;
    let account = "CREATE USER u_doubled@'%' IDENTIFIED BY 'of somebody else'";
    world.destination().execute(account).await.unwrap();
    let name = format!("db2.{ZONE}.");
    let delete = format!("update delete {name} CNAME");
    let add = format!("update add {name} 1 CNAME elsewhere.{ZONE}.");
    world.fleet.bind.update(&[&delete, &add]).unwrap();

    let (code, document) = doctor(&world).await;
    assert_eq!((code, &document["blocked"]), (1, &Value::from(2)), "{document:#}");
    for code in ["DRV-0401", "DRV-0502"] {
        let found = finding(&document, code);
        assert!(
            found.is_some_and(|it| it["blocking"] == true && it["migrations"] == 1),
            "{document:#}"
        );
    }
    // Again, nothing new: no migration is told twice.
    let before = world.events().await.len();
    doctor(&world).await;
    assert_eq!(world.events().await.len(), before + 1, "only the pre-flight itself is noted");

    {
        let _services = world.serve("drover", &["all"]);
        let said = world.ok(&["start", CAMPAIGN]).await;
        assert!(said.contains("2 are held back"), "{said}");
        world.until("well moved", |counts| counts["completed"] == 1).await;
    }
    // Whoever comes next has only the log.
    let _services = world.serve("drover-2", &["all"]);
    world.until("held", |counts| counts["held"] == 2 && counts["planned"] == 0).await;

    world.destination().execute("DROP USER u_doubled@'%'").await.unwrap();
    let (code, document) = doctor(&world).await;
    assert_eq!((code, &document["blocked"]), (1, &Value::from(1)), "{document:#}");
    world.until("released", |counts| counts["completed"] == 2).await;

    world.ok(&["start", CAMPAIGN, "--ignore-findings"]).await;
    world.until("parked", |counts| counts["parked"] == 1).await;
    let groups = world.json(&["failures", CAMPAIGN, "--json"]).await;
    assert_eq!(groups[0]["code"], "DRV-0502", "it fails as was foretold: {groups:#}");
}
