//! A program in another language follows a campaign with a public NATS client and the .proto
//! files alone: `schemas/examples/follow.py`, in the environment that `ops/setup` makes.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failed test may panic anywhere"
)]

use std::{
    io::{BufRead as _, BufReader, Lines},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
};

use chrono::{DateTime, Utc};
use drover_bus::Bus;
use drover_schemas::{
    CampaignName, MigrationId,
    envelope::CloudEvent,
    subjects::History,
    v1::{
        CampaignStarted, DumpStored, MigrationPlanned, Step, StepFailed, campaign_event,
        migration_event,
    },
};
use drover_testbed::{Bed, Nats};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

const SOURCE: &str = "drover/test/1";

fn repository() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

fn program(campaign: &CampaignName, nats: &Nats) -> Command {
    let python: PathBuf = repository().join(".drover/venv/bin/python");
    assert!(python.exists(), "{} is missing: run ops/setup", python.display());
    let mut command = Command::new(python);
    command.arg(repository().join("schemas/examples/follow.py")).args([
        campaign.as_str(),
        "--server",
        &nats.url(),
    ]);
    command
}

/// The program while it follows; ends with the test.
struct Follower {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Follower {
    fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    fn next(&mut self) -> String {
        self.lines.next().expect("another line").unwrap()
    }

    fn interrupt(&mut self) -> Option<i32> {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), Signal::SIGINT).unwrap();
        self.child.wait().unwrap().code()
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The fixed instant of all events here.
fn time() -> DateTime<Utc> {
    "2026-03-01T22:00:00.000001Z".parse().unwrap()
}

fn planned() -> CloudEvent {
    let planned = MigrationPlanned {
        campaign: "night-1".to_owned(),
        database: "shop\n`é`".to_owned(),
        source: "src-1".to_owned(),
        destination: "dst-1".to_owned(),
        host_names: vec!["shop.example.net".to_owned()],
        ..MigrationPlanned::default()
    };
    CloudEvent::migration(migration_event::Event::MigrationPlanned(planned), SOURCE, time())
}

fn started() -> CloudEvent {
    let started = CampaignStarted { in_flight_max: 400, by: "ana".to_owned() };
    CloudEvent::campaign(campaign_event::Event::CampaignStarted(started), SOURCE, time())
}

fn stored() -> CloudEvent {
    let stored = DumpStored { tables: 12, rows: 4711, ..DumpStored::default() };
    CloudEvent::migration(migration_event::Event::DumpStored(stored), SOURCE, time())
}

fn failed() -> CloudEvent {
    let failed = StepFailed {
        step: Step::Import.into(),
        attempt: 1,
        code: "DRV-0403".to_owned(),
        transient: true,
        ..StepFailed::default()
    };
    CloudEvent::migration(migration_event::Event::StepFailed(failed), SOURCE, time())
}

fn line(kind: &str, whose: &str, fields: &str) -> String {
    format!("2026-03-01T22:00:00.000001Z  {kind:<19}  {whose:<36}  {fields}")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_in_python_follows_a_campaign() {
    let bed = Bed::new().unwrap();
    let nats = Nats::start(&bed).unwrap();
    let options = drover_bus::Options { url: nats.url(), ..drover_bus::Options::default() };
    let bus = Bus::connect(&options, "test").await.unwrap();
    let campaign: CampaignName = "night-1".parse().unwrap();
    bus.ensure_campaign(&campaign).await.unwrap();
    let id = MigrationId::new(&campaign, &"src-1".parse().unwrap(), "shop");
    let (source, destination) = ("src-1".parse().unwrap(), "dst-1".parse().unwrap());
    let migration = History::Migration { id, source, destination };

    let first = bus.append(&campaign, &migration, 0, &planned()).await.unwrap();
    bus.append(&campaign, &History::Campaign, 0, &started()).await.unwrap();
    let mut expected = vec![
        line(
            "MigrationPlanned",
            &id.to_string(),
            r#"{"campaign": "night-1", "database": "shop\n`\u00e9`", "source": "src-1", "destination": "dst-1", "host_names": ["shop.example.net"]}"#,
        ),
        line("CampaignStarted", "campaign", r#"{"in_flight_max": 400, "by": "ana"}"#),
    ];
    let mut follower = Follower::start(program(&campaign, &nats));
    assert_eq!([follower.next(), follower.next()], *expected);

    let second = bus.append(&campaign, &migration, first, &stored()).await.unwrap();
    bus.append(&campaign, &migration, second, &failed()).await.unwrap();
    expected.push(line("DumpStored", &id.to_string(), r#"{"tables": 12, "rows": "4711"}"#));
    expected.push(line(
        "StepFailed",
        &id.to_string(),
        r#"{"step": "STEP_IMPORT", "attempt": 1, "code": "DRV-0403", "transient": true}"#,
    ));
    assert_eq!([follower.next(), follower.next()], expected[2..]);
    assert_eq!(follower.interrupt(), Some(0));

    let output = program(&campaign, &nats).args(["--once", "--after", "2"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let again: Vec<&str> = std::str::from_utf8(&output.stdout).unwrap().lines().collect();
    assert_eq!(again, expected[2..]);

    let unknown = program(&"night-2".parse().unwrap(), &nats).output().unwrap();
    assert!(!unknown.status.success());
    let text = String::from_utf8_lossy(&unknown.stderr);
    assert!(text.contains("there is no campaign night-2"), "{text}");
}
