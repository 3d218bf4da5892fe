//! A small campaign on the simulated fleet: through the real bus, orchestrator, projector and
//! loops, each migration comes to its end, and a host that lies is found out.

#![allow(clippy::unwrap_used, reason = "a failed test may panic anywhere")]

use std::process::Command;

fn trial(arguments: &[&str]) -> serde_json::Value {
    fleet("trial", arguments)
}

fn fleet(command: &str, arguments: &[&str]) -> serde_json::Value {
    let output = Command::new(env!("CARGO_BIN_EXE_drover-fleet"))
        .arg(command)
        .args(arguments)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let figures: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(figures["breaches"], 0, "{figures:#}");
    figures
}

#[test]
fn every_migration_ends_and_a_host_that_lies_opens_nothing() {
    let figures = trial(&[
        "--migrations=600",
        "--sources=30",
        "--destinations=10",
        "--lying=1",
        "--slow=1",
        "--failures-per-million=5000",
    ]);
    let count = |name: &str| figures[name].as_u64().unwrap();
    // A tenth of the destinations lies: its databases are all found out. It may be set aside
    // meanwhile, and then the rest of them waits.
    assert!(count("completed") >= 500, "{figures:#}");
    assert!(count("completed") + count("parked") <= 600, "{figures:#}");
}

/// The fleet of the reference campaign.
const HOSTS: [&str; 2] = ["--sources=780", "--destinations=300"];

#[test]
fn one_dead_and_three_flapping_hosts_of_780_are_set_aside_and_the_others_go_on() {
    let figures = trial(&[
        HOSTS[0],
        HOSTS[1],
        "--migrations=3900",
        "--flapping=3",
        "--dead=1",
        "--failures-per-million=0",
        "--time-scale=20",
    ]);
    let set_aside = serde_json::json!(["src-000", "src-001", "src-002", "src-003"]);
    assert_eq!(figures["quarantined"], set_aside, "{figures:#}");
    assert_eq!(figures["phase"], "running", "{figures:#}");
    // All of the other 776, and what had come through while the three were there.
    let completed = figures["completed"].as_u64().unwrap();
    assert!((3_880..3_895).contains(&completed), "{figures:#}");
}

#[test]
fn what_fails_everywhere_pauses_the_campaign_and_sets_nobody_aside() {
    let figures =
        trial(&[HOSTS[0], HOSTS[1], "--migrations=1560", "--hopeless-per-million=1000000"]);
    assert_eq!(figures["phase"], "paused", "{figures:#}");
    assert_eq!(figures["quarantined"], serde_json::json!([]), "{figures:#}");
}

#[test]
fn the_red_button_stops_admissions_and_calls_back_what_is_not_being_switched() {
    let figures = fleet(
        "button",
        &[
            "--migrations=600",
            "--sources=60",
            "--destinations=20",
            "--max-in-flight=100",
            // So slow that it has not come to its end before the second button.
            "--time-scale=2",
        ],
    );
    let [plain, now] = [&figures["buttons"][0], &figures["buttons"][1]];
    assert_eq!(plain["recalled"], 0, "{figures:#}");
    assert!(now["recalled"].as_u64() > Some(0), "{figures:#}");
    // What was on its way to the log when the button was pressed, and no more.
    for button in [plain, now] {
        let (admitted, in_flight) = (&button["admitted_after"], &button["in_flight_at_button"]);
        assert!(admitted.as_u64() <= in_flight.as_u64(), "{figures:#}");
    }
}

#[test]
fn when_all_destinations_become_slow_no_customer_stands_frozen_in_a_queue() {
    // The sources alone would freeze 240 at once.
    let figures = trial(&[
        "--migrations=500",
        "--sources=60",
        "--per-source=4",
        "--destinations=5",
        "--per-destination=4",
        "--max-in-flight=400",
        "--failures-per-million=0",
        "--slowed-after=200",
    ]);
    assert_eq!(figures["completed"], 500, "{figures:#}");
    // As many as the destinations have in work, whose slots each holds from before its freeze: so the
    // time frozen is that of its own steps, however slow they are.
    let frozen = figures["frozen_slowed_max"].as_u64().unwrap();
    assert!((1..=20).contains(&frozen), "{figures:#}");
    assert_eq!(figures["broken_promises"], 0, "{figures:#}");
    assert_eq!(figures["failures"], 0, "{figures:#}");
    assert_eq!(figures["quarantined"], serde_json::json!([]), "{figures:#}");
}

#[test]
fn slots_that_move_by_themselves_stay_between_their_floor_and_ceiling_and_say_why() {
    let figures = fleet(
        "auto",
        &[
            "--json",
            "--settings=10",
            "--floor=20",
            "--ceiling=22",
            "--settle-seconds=12",
            "--measure-seconds=1",
            "--migrations=3000",
            "--sources=20",
            "--destinations=10",
            "--stretch=1",
        ],
    );
    assert!(figures["in_flight_max"].as_u64() <= Some(22), "{figures:#}");
    for change in &figures["changes"].as_array().unwrap()[1..] {
        assert!((20..=22).contains(&change["in_flight_max"].as_u64().unwrap()), "{figures:#}");
        assert_ne!(change["reason"], "", "{figures:#}");
    }
}

#[test]
fn hosts_past_their_bound_are_held_down_and_say_why() {
    let figures = fleet(
        "hosts",
        &[
            "--json",
            "--settings=16",
            "--max-in-flight=60",
            "--settle-seconds=16",
            "--measure-seconds=1",
            "--migrations=3000",
            "--sources=40",
            "--destinations=4",
            "--knee=4",
        ],
    );
    let changes = figures["changes"].as_array().unwrap();
    for change in changes {
        assert!((0..16).contains(&change["slots_max"].as_u64().unwrap()), "{figures:#}");
        assert!(
            change["reason"].as_str().unwrap().contains("threads run, at most 4"),
            "{figures:#}"
        );
    }
    let held = |host: &str| changes.iter().any(|change| change["host"] == host);
    assert!((0..4).all(|n| held(&format!("dst-00{n}"))), "{figures:#}");
}
