//! What a person reads, letter by letter.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test may panic anywhere")]

mod history;

use drover_bus::{Item, Recorded};
use drover_projector::{Projection, render, view::Foreseen};
use drover_schemas::{
    Code,
    envelope::CloudEvent,
    subjects,
    v1::{self, campaign_event::Event as CampaignEvent, migration_event::Event},
};
use history::{History, POLICY};

fn recorded(history: &History) -> Vec<Recorded> {
    let events = history.items.iter().filter_map(|item| match item {
        Item::Event(recorded) => Some(recorded.clone()),
        Item::CaughtUp | Item::Resumed | Item::Undecodable { .. } => None,
    });
    events.collect()
}

fn small_night() -> History {
    let mut history = History::new("night-1");
    history.campaign_event(CampaignEvent::CampaignCreated(v1::CampaignCreated {
        policy: Some(POLICY),
    }));
    let names = ["shop", "evil\u{1b}[2J", "forum"];
    let ids = names.map(|name| history.plan(name, ("src-1", "dst-1"), "web 1"));
    history.plan("later", ("src-2", "dst-1"), "web 2");
    history.campaign_event(CampaignEvent::CampaignStarted(v1::CampaignStarted {
        in_flight_max: 400,
        by: "me".into(),
    }));
    history.advance_to(ids[0], "completed");
    history.advance_to(ids[1], "dump");
    history.fail(ids[1], Code::DumpRefused, "table `x` of database `evil\u{1b}[2J`: error 1356");
    history.advance_to(ids[1], "parked");
    history.advance_to(ids[2], "import");
    history
}

#[test]
fn status() {
    let history = small_night();
    let mut projection = Projection::in_memory().unwrap();
    projection.apply(&history.campaign, &history.items).unwrap();
    let status = projection.views().status(&history.campaign, history.now_unix_ms).unwrap();
    assert_eq!(
        render::status(&status),
        "\
night-1: running, 400 slots

                    total  planned     held  in flight  finishing   parked  completed  rolled back
all                     4        1        0          1          0        1          1            0
wave web 1              3        0        0          1          0        1          1            0
wave web 2              1        1        0          0          0        0          0            0

now               import 1
rate              200 an hour; 327 an hour over all; 36 s left
time frozen       median 5.0 s, p99 5.0 s, longest 5.0 s; 1 frozen now, up to 1.0 s
promise           at most 5 min 0 s; the next source thaws itself at 2023-11-14T22:18:38.000Z
failures          1 failed attempt, 1 parked; see: drover failures night-1
hosts             src-1: 1 failure
"
    );
}

#[test]
fn a_status_before_anything_has_happened() {
    let mut history = History::new("night-1");
    history.plan("shop", ("src-1", "dst-1"), "");
    let mut projection = Projection::in_memory().unwrap();
    projection.apply(&history.campaign, &history.items).unwrap();
    let status = projection.views().status(&history.campaign, history.now_unix_ms).unwrap();
    assert_eq!(
        render::status(&status),
        "\
night-1: not created

                    total  planned     held  in flight  finishing   parked  completed  rolled back
all                     1        1        0          0          0        0          0            0

rate              none completed in the last ten minutes
time frozen       no destination has opened yet
failures          none
"
    );
}

#[test]
fn failures() {
    let history = small_night();
    let mut projection = Projection::in_memory().unwrap();
    projection.apply(&history.campaign, &history.items).unwrap();
    let groups = projection.views().failures(&history.campaign).unwrap();
    let id = groups[0].example.migration;
    assert_eq!(
        render::failures(&groups),
        format!(
            "\
DRV-0301 this database cannot be dumped
  DRV-0301 table … of database …: error 1356
  1 failure of 1 migration, 1 parked now; does not go away by itself
  first 2023-11-14T22:13:34.000Z, last 2023-11-14T22:13:34.000Z
  at src-1 (1)
  e.g. evil\\u{{1b}}[2J, migration {id}: table `x` of database `evil\\u{{1b}}[2J`: error 1356
  now: See the page for what the message names.
  page: ops/errors/DRV-0301.md
"
        )
    );
    assert_eq!(render::failures(&[]), "no failures\n");
}

#[test]
fn an_audit() {
    let mut history = History::new("night-1");
    let id = history.plan("shop", ("src-1", "dst-1"), "web 1");
    history.advance_to(id, "freeze");
    history.wait(412).migration_event(
        id,
        Event::SourceFrozen(v1::SourceFrozen {
            consistency_point: Some(v1::ConsistencyPoint {
                gtid: "0-1-42".into(),
                ..Default::default()
            }),
            accounts: 2,
            sessions_ended: 3,
            ..Default::default()
        }),
    );
    history.fail(id, Code::DumpRefused, "error 1356");
    history.wait(-10).advance(id, None);
    assert_eq!(
        render::audit(&recorded(&history)),
        "\
2023-11-14T22:13:20.000Z              MigrationPlanned     shop from src-1 to dst-1, wave web 1
2023-11-14T22:13:21.000Z     +1.000s  MigrationAdmitted    run 1
2023-11-14T22:13:21.412Z     +0.412s  SourceFrozen         2 accounts, 3 sessions ended, at gtid 0-1-42
2023-11-14T22:13:21.412Z     +0.000s  StepFailed           attempt 1 at src-1, not tried again; dump: DRV-0301 error 1356
2023-11-14T22:13:21.402Z     -0.010s  SourceThawed         was not frozen
"
    );
}

fn change() -> v1::DnsChange {
    v1::DnsChange {
        host_name: "shop.example.net".into(),
        record_type: "A".into(),
        old_values: vec!["192.0.2.1".into()],
        new_values: vec!["192.0.2.2".into()],
        old_ttl_seconds: 300,
        new_ttl_seconds: 300,
    }
}

/// An event of each kind, and what is said of it.
fn migration_events() -> Vec<(Event, &'static str)> {
    let point = |gtid: &str, file: &str| v1::ConsistencyPoint {
        gtid: gtid.into(),
        binlog_file: file.into(),
        binlog_position: 4,
        at_unix_ms: 0,
    };
    let frozen = |point| {
        Event::SourceFrozen(v1::SourceFrozen {
            consistency_point: Some(point),
            frozen_at_unix_ms: 0,
            accounts: 1,
            sessions_ended: 0,
            scheduled_events_stopped: 2,
            thaw_at_unix_ms: 1,
            watchdog_armed: false,
        })
    };
    vec![
        (
            Event::MigrationPlanned(v1::MigrationPlanned {
                database: "a\nb".into(),
                source: "s".into(),
                destination: "d".into(),
                host_names: vec!["shop.example.net".into()],
                ..Default::default()
            }),
            "a\\u{a}b from s to d, shop.example.net",
        ),
        (Event::MigrationAdmitted(v1::MigrationAdmitted { run: 2, rehearsal: false }), "run 2"),
        (
            frozen(point("", "bin.1")),
            "1 account, 0 sessions ended, 2 scheduled events stopped, at bin.1:4, \
             until 1970-01-01T00:00:00.001Z, without a watchdog",
        ),
        (
            frozen(point("", "")),
            "1 account, 0 sessions ended, 2 scheduled events stopped, at 1970-01-01T00:00:00.000Z, \
             without a binary log, until 1970-01-01T00:00:00.001Z, without a watchdog",
        ),
        (
            Event::DumpStored(v1::DumpStored {
                dump_bytes: 7,
                tables: 12,
                rows: 1,
                ..Default::default()
            }),
            "12 tables, 1 row, 7 bytes",
        ),
        (
            Event::ImportCompleted(v1::ImportCompleted { tables: 12, dump_bytes: 7 }),
            "12 tables, 7 bytes",
        ),
        (Event::CopyVerified(v1::CopyVerified { tables: 1, rows: 5 }), "1 table, 5 rows equal"),
        (
            Event::SourceDisarmed(v1::SourceDisarmed { disarmed_at_unix_ms: 1, took_us: 0 }),
            "at 1970-01-01T00:00:00.001Z",
        ),
        (
            Event::MigrationDeferred(v1::MigrationDeferred {
                step: v1::Step::Dump.into(),
                code: "DRV-0704".into(),
                message: "m".into(),
                deferral: 2,
                not_before_unix_ms: 1,
                ..Default::default()
            }),
            "deferral 2, until 1970-01-01T00:00:00.001Z; dump: DRV-0704 m",
        ),
        (
            Event::DestinationOpened(v1::DestinationOpened {
                accounts: 1,
                opened_at_unix_ms: 1,
                took_us: 0,
            }),
            "1 account, at 1970-01-01T00:00:00.001Z",
        ),
        (
            Event::DnsSwitched(v1::DnsSwitched { changes: vec![change()] }),
            "shop.example.net A 192.0.2.1 -> 192.0.2.2",
        ),
        (Event::SourceRetired(v1::SourceRetired { accounts: 2 }), "2 accounts"),
        (
            Event::DumpPublished(v1::DumpPublished {
                link: "https://dumps.example.net/secret".into(),
                expires_at_unix_ms: 0,
            }),
            "until 1970-01-01T00:00:00.000Z",
        ),
        (
            Event::CustomerNotified(v1::CustomerNotified {
                channels: vec!["smtp".into(), "webhook".into()],
                idempotency_key: "k".into(),
            }),
            "by smtp and webhook",
        ),
        (Event::CustomerNotified(v1::CustomerNotified::default()), "nobody to tell"),
        (Event::MigrationCompleted(v1::MigrationCompleted {}), ""),
        (Event::DumpExpired(v1::DumpExpired {}), ""),
        (
            Event::StepFailed(v1::StepFailed {
                step: v1::Step::Import.into(),
                attempt: 3,
                code: "DRV-0403".into(),
                message: "gone".into(),
                next_attempt_at_unix_ms: 5,
                ..Default::default()
            }),
            "attempt 3, again at 1970-01-01T00:00:00.005Z; import: DRV-0403 gone",
        ),
        (
            Event::MigrationParked(v1::MigrationParked {
                step: v1::Step::Verify.into(),
                code: "DRV-0404".into(),
                message: "table `x`".into(),
                undone: true,
                ..Default::default()
            }),
            "undone; verify: DRV-0404 table `x`",
        ),
        (Event::RetryRequested(v1::RetryRequested { by: "me".into() }), "by me"),
        (
            Event::RollbackRequested(v1::RollbackRequested {
                by: "me".into(),
                reason: "so".into(),
                discard_writes: false,
            }),
            "by me: so",
        ),
        (
            Event::RollbackRequested(v1::RollbackRequested {
                by: "me".into(),
                reason: "so".into(),
                discard_writes: true,
            }),
            "by me: so; the destination's writes may be lost",
        ),
        (Event::MigrationRolledBack(v1::MigrationRolledBack {}), ""),
        (
            Event::MigrationChecked(v1::MigrationChecked {
                blocking_codes: vec!["DRV-0240".into()],
                ignored: false,
                by: "me".into(),
            }),
            "held back: DRV-0240, by me",
        ),
        (Event::DnsReverted(v1::DnsReverted::default()), "no host names"),
        (Event::DestinationClosed(v1::DestinationClosed { accounts: 1 }), "1 account"),
        (Event::DestinationDropped(v1::DestinationDropped {}), ""),
        (Event::SourceThawed(v1::SourceThawed::default()), "was not frozen"),
        (
            Event::SourceThawed(v1::SourceThawed { thawed_at_unix_ms: 9, accounts: 2 }),
            "2 accounts, at 1970-01-01T00:00:00.009Z",
        ),
    ]
}

fn campaign_events() -> Vec<(CampaignEvent, &'static str)> {
    vec![
        (
            CampaignEvent::CampaignCreated(v1::CampaignCreated { policy: Some(POLICY) }),
            "at most 2 attempts a step, 0.0 s for open sessions, 5 min 0 s without writes, dumps kept for 30 days",
        ),
        (
            CampaignEvent::CampaignStarted(v1::CampaignStarted {
                in_flight_max: 400,
                by: "me".into(),
            }),
            "400 slots, by me",
        ),
        (
            CampaignEvent::ConcurrencyChanged(v1::ConcurrencyChanged {
                in_flight_max: 1,
                reason: "slow".into(),
                by: "me".into(),
            }),
            "1 slot, by me: slow",
        ),
        (
            CampaignEvent::LimitsChanged(v1::LimitsChanged {
                limits: Some(v1::Limits { per_source_max: 2, ..v1::Limits::default() }),
                reason: "busy".into(),
                by: "me".into(),
            }),
            "at most 2 at a source; waves in order, by me: busy",
        ),
        (
            CampaignEvent::CampaignPaused(v1::CampaignPaused {
                recalls: false,
                reason: String::new(),
                by: "me".into(),
            }),
            "by me",
        ),
        (
            CampaignEvent::CampaignPaused(v1::CampaignPaused {
                reason: "stop".into(),
                by: "me".into(),
                recalls: true,
            }),
            "what is under way is undone, by me: stop",
        ),
        (CampaignEvent::CampaignResumed(v1::CampaignResumed { by: "me".into() }), "by me"),
        (
            CampaignEvent::HostQuarantined(v1::HostQuarantined {
                host: "src-1".into(),
                reason: "flaps".into(),
            }),
            "src-1: flaps",
        ),
        (
            CampaignEvent::HostReleased(v1::HostReleased { host: "src-1".into(), by: "me".into() }),
            "src-1, by me",
        ),
        (
            CampaignEvent::HostSlotsChanged(v1::HostSlotsChanged {
                hosts: vec![
                    v1::HostSlots {
                        host: "dst-1".into(),
                        slots_max: 1,
                        reason: "40 threads run, at most 25".into(),
                    },
                    v1::HostSlots {
                        host: "dst-2".into(),
                        slots_max: 0,
                        reason: "4 threads run, at most 25".into(),
                    },
                ],
            }),
            "dst-1: 1 slot, 40 threads run, at most 25; \
             dst-2: all of its slots, 4 threads run, at most 25",
        ),
        (
            CampaignEvent::CampaignCompleted(v1::CampaignCompleted {
                completed: 5,
                rolled_back: 1,
            }),
            "completed 5, rolled back 1",
        ),
        (
            CampaignEvent::PreflightCompleted(v1::PreflightCompleted {
                migrations: 5,
                blocked: 1,
                findings: vec![v1::PreflightFinding {
                    code: "DRV-0240".into(),
                    blocking: true,
                    migrations: 1,
                    examples: Vec::new(),
                }],
                by: "me".into(),
            }),
            "5 migrations, 1 blocked; 1 DRV-0240; by me",
        ),
    ]
}

#[test]
fn every_kind_of_event_has_its_words_and_its_json() {
    let mut history = History::new("night-1");
    let id = history.plan("shop", ("src-1", "dst-1"), "");
    let time = chrono::DateTime::from_timestamp_millis(0).unwrap();
    let mut expected = Vec::new();
    for (event, words) in migration_events() {
        let event = CloudEvent::migration(event, "drover/test/1", time);
        expected.push((history.of(id), event, words));
    }
    for (event, words) in campaign_events() {
        let event = CloudEvent::campaign(event, "drover/test/1", time);
        expected.push((subjects::History::Campaign, event, words));
    }
    for (place, event, words) in expected {
        let campaign = history.campaign.clone();
        let kind = event.kind.clone();
        let recorded = Recorded { campaign, history: place, sequence: 7, event };
        let line = render::event(&recorded);
        let name = kind.strip_prefix("drover.v1.").unwrap();
        let tail = line.split_once(name).unwrap().1.trim_start();
        assert_eq!(tail, words, "{kind}");
        let json = render::json(&recorded);
        assert_eq!(
            (json["type"].as_str(), json["sequence"].as_str()),
            (Some(kind.as_str()), Some("7"))
        );
        assert!(json["data"].is_object() && json.get("data_base64").is_none(), "{json}");
    }
}

#[test]
fn json_is_of_cloudevents() {
    let history = small_night();
    let failed = recorded(&history).into_iter().find(|r| r.event.kind.ends_with("StepFailed"));
    let failed = failed.unwrap();
    let json = render::json(&failed);
    assert_eq!(json["specversion"], "1.0");
    assert_eq!(json["id"], failed.event.id.to_string());
    assert_eq!(json["source"], "drover/test/1");
    assert_eq!(json["time"], "2023-11-14T22:13:34.000000Z");
    assert_eq!(json["datacontenttype"], "application/json");
    assert_eq!(json["campaign"], "night-1");
    assert_eq!(
        (&json["data"]["step"], &json["data"]["code"]),
        (&"dump".into(), &"DRV-0301".into())
    );
    let event = CloudEvent { data: vec![0xff, 0, 1], ..failed.event.clone() };
    let json = render::json(&Recorded { event, ..failed });
    assert_eq!((&json["data_base64"], json.get("data")), (&"/wAB".into(), None));
    assert_eq!(json["datacontenttype"], "application/protobuf");
}

#[test]
fn a_status_says_when_it_ends_as_an_interval_and_whether_that_fits() {
    let foreseen = |window_left_seconds| Foreseen {
        low_seconds: 600.0,
        high_seconds: 1_200.0,
        tail: vec![("src-7".to_owned(), 0.4)],
        waves: vec![("paris-1".to_owned(), 60.0, 120.0), ("paris-2".to_owned(), 600.0, 1_200.0)],
        window_left_seconds,
    };
    let history = small_night();
    let mut projection = Projection::in_memory().unwrap();
    projection.apply(&history.campaign, &history.items).unwrap();
    let mut status = projection.views().status(&history.campaign, history.now_unix_ms).unwrap();
    for (left, fits) in
        [(1_300.0, "all of it fits"), (900.0, "it may not fit"), (500.0, "it does not fit")]
    {
        status.foreseen = Some(foreseen(Some(left)));
        let text = render::status(&status);
        for part in
            [fits, "in 10 min 0 s to 20 min 0 s (9 of 10 times)", "wave paris-1", "src-7 (40 %)"]
        {
            assert!(text.contains(part), "{part}\n{text}");
        }
        assert!(!text.contains("wave paris-2"), "it ends with the campaign\n{text}");
    }
    status.foreseen = Some(foreseen(None));
    assert!(!render::status(&status).contains("window"));
}
