//! A small campaign on the simulated fleet: through the real bus, orchestrator, projector and
//! loops, each migration comes to its end, and a host that lies is found out.

#![allow(clippy::unwrap_used, reason = "a failed test may panic anywhere")]

use std::process::Command;

#[test]
fn every_migration_ends_and_a_host_that_lies_opens_nothing() {
    let output = Command::new(env!("CARGO_BIN_EXE_drover-fleet"))
        .args(["trial", "--migrations=600", "--sources=30", "--destinations=10"])
        .args(["--lying=1", "--flapping=1", "--slow=1", "--failures-per-million=5000"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let figures: serde_json::Value = serde_json::from_str(&text).unwrap();
    let count = |name: &str| figures[name].as_u64().unwrap();
    assert_eq!(count("completed") + count("parked"), 600, "{figures:#}");
    assert_eq!(count("breaches"), 0);
    // A tenth of the destinations lies, and its databases are all that need be parked for that.
    assert!(count("parked") >= 30, "{figures:#}");
    assert!(count("failures") > count("parked"), "{figures:#}");
}
