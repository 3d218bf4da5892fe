//! The red button, and that it survives everything.

use drover_testbed::seed::{Shape, Site};
use serde_json::Value;

use crate::world::{CAMPAIGN, DEADLINE, World};

const DATABASES: usize = 6;

/// Everything but what imports. While nobody does, what is admitted stands frozen before its import,
/// and the button is pressed at a known moment on every machine, however fast.
const OTHERS: [&str; 6] = ["orchestrator", "dump", "dns", "notify", "projector", "console"];

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_stops_admissions_and_both_pause_and_resume_survive_a_restart_of_everything() {
    let site = |n| Site::new(&format!("p{n}"), Shape::Empty, n as u64);
    let world = World::new(2, (0..DATABASES).map(site).collect()).await;
    let services = world.serve("drover-1", &OTHERS);
    world.start(2).await;
    world.until("two are frozen", |counts| counts["phases"]["import"] == 2).await;

    let said = world.ok(&["pause", CAMPAIGN]).await;
    assert!(said.contains("in flight will finish"), "{said}");
    assert_eq!(admissions(&world).await, 2);
    // What is in flight finishes.
    let import = world.serve("drover-import-1", &["import"]);
    world.until("both completed", |counts| counts["completed"] == 2).await;
    assert_eq!(admissions(&world).await, 2, "nothing was admitted after the button");
    assert!(world.ok(&["pause", CAMPAIGN]).await.contains("it was already"));

    // What is tuned is recorded with its reason, and what is no window is refused.
    let said = world.ok(&["tune", CAMPAIGN, "--per-source", "1", "--reason", "busy"]).await;
    assert!(said.contains("at most 2 in flight; at most 1 at a source"), "{said}");
    let refused = world.drover(&["tune", CAMPAIGN, "--window", "22-06"]).await;
    assert!(refused.code == 1 && refused.err.contains("DRV-0762"), "{refused:?}");
    let is_tuned = |event: &Value| event["type"] == "drover.v1.LimitsChanged";
    let tuned: Vec<Value> = world.events().await.into_iter().filter(is_tuned).collect();
    assert!(tuned.len() == 1 && tuned[0].to_string().contains("busy"), "{tuned:#?}");

    // Everything restarts, also the bus; the campaign is still paused.
    import.stop().unwrap();
    services.stop().unwrap();
    world.fleet.nats.restart().unwrap();
    let services = world.serve("drover-2", &OTHERS);
    orchestrating(&world).await;
    assert_eq!(world.json(&["status", CAMPAIGN, "--json"]).await["phase"], "paused");
    assert_eq!(admissions(&world).await, 2);

    // The button works while nobody is there to see it.
    services.stop().unwrap();
    let said = world.ok(&["resume", CAMPAIGN]).await;
    assert!(said.contains("no orchestrator is running"), "{said}");
    let _services = world.serve("drover-3", &OTHERS);
    world.until("one more is frozen", |counts| counts["phases"]["import"] == 1).await;

    // The sharper button: what is not being switched yet is undone, and no customer is left frozen.
    let said = world.ok(&["pause", CAMPAIGN, "--now"]).await;
    assert!(said.contains("the others are undone"), "{said}");
    let _import = world.serve("drover-import-2", &["import"]);
    let at_rest = |counts: &Value| counts["in_flight"] == 0 && counts["finishing"] == 0;
    let counts = world.until("all at rest", at_rest).await;
    assert_eq!(counts["frozen"]["frozen_now"], 0, "{counts:#}");
    let [completed, planned] = ["completed", "planned"].map(|name| counts[name].as_u64().unwrap());
    assert_eq!((completed, planned), (2, DATABASES as u64 - 2), "nothing is parked: {counts:#}");
    let events = world.events().await;
    let count = |kind: &str| events.iter().filter(|event| event["type"] == kind).count();
    assert_eq!(
        (count("drover.v1.MigrationRecalled"), count("drover.v1.MigrationDeferred")),
        (1, 1)
    );
    world.ok(&["resume", CAMPAIGN]).await;
    assert!(world.ok(&["forecast", CAMPAIGN]).await.starts_with(CAMPAIGN));
    world.until("all completed", |counts| counts["completed"] == DATABASES).await;
}

async fn admissions(world: &World) -> usize {
    let admitted = |event: &&Value| event["type"] == "drover.v1.MigrationAdmitted";
    world.events().await.iter().filter(admitted).count()
}

/// Waits until an orchestrator has read the log and says that it is paused.
async fn orchestrating(world: &World) {
    drover_testbed::bed::eventually(DEADLINE, || async {
        Ok(world.ok(&["pause", CAMPAIGN]).await.contains("in flight will finish"))
    })
    .await
    .unwrap();
}
