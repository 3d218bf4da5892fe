//! A campaign from its plan to its end, as separate processes, two of each service.

use drover_testbed::seed;

use crate::world::{CAMPAIGN, World, reads_and_writes};

const SERVICES: [&str; 7] =
    ["orchestrator", "dump", "import", "dns", "notify", "projector", "console"];

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_of_each_service_move_a_herd() {
    // Sites of every shape, one in five of them with an odd name.
    let world = World::new(4, seed::sites(7, "e", 20)).await;
    let mut processes = Vec::new();
    for service in SERVICES {
        processes.push(world.serve(&format!("drover-{service}-a"), &[service]));
        // Two consoles on one machine would need two addresses.
        if service != "console" {
            processes.push(world.serve(&format!("drover-{service}-b"), &[service]));
        }
    }
    world.start(8).await;
    let counts = world
        .until("at rest", |c| {
            c["completed"].as_u64().unwrap() + c["parked"].as_u64().unwrap() == 20
        })
        .await;
    assert_eq!(counts["completed"], 20, "{}", world.ok(&["failures", CAMPAIGN]).await);

    for row in &world.rows {
        let name = &row.site.database;
        reads_and_writes(&row.site, world.destination()).await.unwrap();
        assert!(
            reads_and_writes(&row.site, world.source()).await.is_err(),
            "{name}: at the source"
        );
        let answer = world.fleet.bind.answer(&format!("{}.", row.host_name), "CNAME").unwrap();
        assert_eq!(answer, ["dst-1.sandbox.example."], "{name}");
        let mail = world.fleet.smtp.messages();
        let arrived = mail.iter().filter(|message| message.to == [row.owner.clone()]).count();
        assert_eq!(arrived, 1, "{name}: one message");
    }
    // With least rights each has all that it needs: the server refused nothing.
    let refused = world.refused_by_nats();
    assert!(refused.is_empty(), "{refused:#?}");
    audit_tells_the_whole_history(&world).await;
    every_step_was_done_once(&world).await;

    // What was planned once is planned: the same inventory changes nothing.
    let inventory = world.inventory();
    let said = world.drover(&["plan", CAMPAIGN, "--inventory", inventory.to_str().unwrap()]).await;
    assert!(said.out.contains("0 migrations planned, 20 were planned before"), "{said:?}");
}

async fn audit_tells_the_whole_history(world: &World) {
    for row in &world.rows {
        let audit = world.ok(&["audit", CAMPAIGN, "--database", &row.site.database]).await;
        let steps = [
            "MigrationPlanned",
            "MigrationAdmitted",
            "SourceFrozen",
            "DumpStored",
            "ImportCompleted",
            "CopyVerified",
            "SourceDisarmed",
            "DestinationOpened",
            "DnsSwitched",
            "SourceRetired",
            "DumpPublished",
            "CustomerNotified",
            "MigrationCompleted",
        ];
        let mut rest = audit.as_str();
        for step in steps {
            let (_, after) = rest.split_once(step).unwrap_or_else(|| panic!("{step}: {audit}"));
            rest = after;
        }
    }
}

/// With two instances of everything, still each fact is there once.
async fn every_step_was_done_once(world: &World) {
    let events = world.events().await;
    for kind in ["SourceFrozen", "DestinationOpened", "DnsSwitched", "CustomerNotified"] {
        let count = events.iter().filter(|e| e["type"] == format!("drover.v1.{kind}")).count();
        assert_eq!(count, 20, "{kind}");
    }
    // By whose own times a campaign's slots are moved.
    for kind in ["SourceDisarmed", "DestinationOpened"] {
        let mut of_kind = events.iter().filter(|e| e["type"] == format!("drover.v1.{kind}"));
        assert!(of_kind.all(|event| event["data"]["took_us"].as_u64() > Some(0)), "{events:#?}");
    }
    let finished = events.last().unwrap();
    assert_eq!(finished["type"], "drover.v1.CampaignCompleted");
}
