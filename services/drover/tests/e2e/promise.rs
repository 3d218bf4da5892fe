//! The promise of a longest time without writes, where a part of Drover is away for longer.

use drover_testbed::{
    bed::eventually,
    seed::{Shape, Site},
};
use serde_json::Value;

use crate::world::{CAMPAIGN, DEADLINE, World, reads_and_writes};

/// Long enough for a freeze and a dump on a busy machine, short enough for a test.
const MAX_FROZEN_MS: &str = "6000";

#[tokio::test(flavor = "multi_thread")]
async fn what_would_take_too_long_is_undone_thawed_and_put_off() {
    let world = World::new(2, vec![Site::new("slow", Shape::Shop, 5)]).await;
    let before = world.privileges(world.source()).await;
    // Nobody serves the destination.
    let others = ["orchestrator", "dump", "dns", "notify", "projector", "console"];
    let _others = world.serve("drover-others", &others);
    let inventory = world.inventory();
    let plan = ["plan", CAMPAIGN, "--inventory", inventory.to_str().unwrap()];
    let promise = [("DROVER_CAMPAIGN__MAX_FROZEN_MS", MAX_FROZEN_MS)];
    let said = world.drover_with(&plan, &promise).await;
    assert_eq!(said.code, 0, "{said:?}");
    world.ok(&["start", CAMPAIGN]).await;
    let is_frozen = |counts: &Value| counts["frozen"]["next_thaw_unix_ms"].is_i64();
    let counts = world.until("frozen", is_frozen).await;
    assert_eq!(counts["frozen"]["promised_seconds"], 6.0, "{counts:#}");

    // The source thaws itself, before anybody comes to undo the rest.
    let site = &world.rows[0].site;
    let thawed = eventually(DEADLINE, || async {
        Ok::<_, anyhow::Error>(reads_and_writes(site, world.source()).await.is_ok())
    });
    assert!(thawed.await.is_ok(), "never thawed\n{}", world.logs());
    world.until("broken off", |counts| counts["failures"].as_u64() >= Some(1)).await;
    let broken_off = world.json(&["failures", CAMPAIGN, "--json"]).await;
    assert_eq!(broken_off[0]["code"], "DRV-0704", "{broken_off:#}");

    let _import = world.serve("drover-import", &["import"]);
    let put_off = |counts: &Value| counts["frozen"]["deferrals"] == 1;
    let counts = world.until("put off", put_off).await;
    assert_eq!((&counts["planned"], &counts["parked"]), (&1.into(), &0.into()), "{counts:#}");
    assert_eq!(world.privileges(world.source()).await, before, "the exact privileges are back");
    assert!(!world.has(world.destination(), "slow").await, "no copy is left");
    let last = world.events().await.pop().unwrap();
    assert_eq!(last["type"], "drover.v1.MigrationDeferred");
    assert!(last["data"]["not_before_unix_ms"].as_i64() > Some(0), "{last:#}");
}
