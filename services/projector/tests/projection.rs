//! The tables are the same however the log reached them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failed test may panic anywhere"
)]

mod history;

use std::path::{Path, PathBuf};

use chrono::Utc;
use drover_bus::Item;
use drover_lifecycle::Command;
use drover_projector::{
    Projection,
    view::{Counts, Filter},
};
use drover_schemas::{
    Code, Failure, MigrationId,
    envelope::CloudEvent,
    subjects,
    v1::{self, campaign_event},
};
use history::{History, POLICY};
use proptest::{collection::vec, prelude::*};
use rusqlite::{Connection, types::Value};

/// Everything in a file, as text.
fn tables(path: &Path) -> Vec<String> {
    let connection = Connection::open(path).unwrap();
    let names: Vec<String> = connection
        .prepare("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")
        .unwrap()
        .query_map([], |row| row.get(0))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    let mut lines = Vec::new();
    for name in names {
        let mut statement = connection.prepare(&format!("SELECT * FROM {name}")).unwrap();
        let columns = statement.column_count();
        let mut rows = statement.query([]).unwrap();
        while let Some(row) = rows.next().unwrap() {
            let values: Vec<Value> = (0..columns).map(|column| row.get(column).unwrap()).collect();
            lines.push(format!("{name}: {values:?}"));
        }
    }
    lines.sort();
    lines
}

fn file(dir: &tempfile::TempDir, name: &str) -> PathBuf {
    dir.path().join(name)
}

/// What happens to a log. Numbers choose among the migrations that there are.
#[derive(Debug, Clone)]
enum Happening {
    Plan(u8, u8),
    Advance(u8),
    Fail(u8, bool),
    RollBack(u8),
    /// An event that its history does not allow.
    Misplaced(u8),
    /// An event of it that names other servers, or plans it for them.
    Foreign(u8, bool),
    OfAnUnknownMigration,
    Garbage(u8),
    NotAnEvent,
    Start(u32),
    Pause,
    Resume,
    Quarantine(u8),
    HoldDown(u8, u32),
}

fn happenings() -> impl Strategy<Value = Happening> {
    prop_oneof![
        4 => (any::<u8>(), any::<u8>()).prop_map(|(a, b)| Happening::Plan(a, b)),
        40 => any::<u8>().prop_map(Happening::Advance),
        5 => (any::<u8>(), any::<bool>()).prop_map(|(a, b)| Happening::Fail(a, b)),
        3 => any::<u8>().prop_map(Happening::RollBack),
        1 => any::<u8>().prop_map(Happening::Misplaced),
        2 => (any::<u8>(), any::<bool>()).prop_map(|(a, b)| Happening::Foreign(a, b)),
        1 => Just(Happening::OfAnUnknownMigration),
        1 => any::<u8>().prop_map(Happening::Garbage),
        1 => Just(Happening::NotAnEvent),
        1 => (1_u32..9).prop_map(Happening::Start),
        1 => Just(Happening::Pause),
        1 => Just(Happening::Resume),
        1 => any::<u8>().prop_map(Happening::Quarantine),
        1 => (0..4_u8, 0..3_u32).prop_map(|(n, slots)| Happening::HoldDown(n, slots)),
    ]
}

fn happen(history: &mut History, happening: &Happening) {
    let chosen = |history: &History, n: u8| {
        let ids = &history.ids;
        (!ids.is_empty()).then(|| ids[usize::from(n) % ids.len()])
    };
    let misplaced = |id: MigrationId, history: &mut History| {
        let event = v1::migration_event::Event::MigrationPlanned(v1::MigrationPlanned::default());
        let event = CloudEvent::migration(event, "drover/test/1", Utc::now());
        history.append(history.of(id), event);
    };
    history.wait(137);
    match *happening {
        Happening::Plan(a, b) => {
            let (database, source) = (format!("db{a}"), format!("src-{}", b % 3));
            let id = MigrationId::new(&history.campaign, &source.parse().unwrap(), &database);
            if !history.states.contains_key(&id) {
                let (destination, wave) = (format!("dst-{}", a % 2), ["", "w"][usize::from(b % 2)]);
                history.plan(&database, (&source, &destination), wave);
            }
        }
        Happening::Advance(n) => {
            if let Some(id) = chosen(history, n) {
                history.advance(id, None);
            }
        }
        Happening::Fail(n, transient) => {
            if let Some(id) = chosen(history, n) {
                let code = if transient { Code::ImportFailed } else { Code::ImportRefused };
                history.advance(id, Some(Failure::new(code, format!("`db{n}`: error 7"))));
            }
        }
        Happening::RollBack(n) => {
            if let Some(id) = chosen(history, n) {
                history.command(
                    id,
                    Command::RollBack {
                        by: "me".into(),
                        reason: "so".into(),
                        discard_writes: false,
                    },
                );
            }
        }
        Happening::Misplaced(n) => {
            if let Some(id) = chosen(history, n) {
                misplaced(id, history);
            }
        }
        Happening::Foreign(n, plans) => {
            if let Some(id) = chosen(history, n) {
                use v1::migration_event::Event;
                let planned = v1::MigrationPlanned {
                    destination: "thief".into(),
                    ..history.states[&id].planned.clone()
                };
                let place = subjects::History::of(id, &planned).unwrap();
                // Both would be allowed where it stands, were they its own.
                let rolled_back = v1::RollbackRequested::default();
                let event = match plans {
                    true => Event::MigrationPlanned(planned),
                    false => Event::RollbackRequested(rolled_back),
                };
                history.append(place, CloudEvent::migration(event, "drover/test/1", Utc::now()));
            }
        }
        Happening::OfAnUnknownMigration => {
            let id = MigrationId::new(&history.campaign, &"nowhere".parse().unwrap(), "");
            let event = v1::migration_event::Event::DumpExpired(v1::DumpExpired {});
            let event = CloudEvent::migration(event, "drover/test/1", Utc::now());
            let (source, destination) = ("nowhere".parse().unwrap(), "dst-1".parse().unwrap());
            history.append(subjects::History::Migration { id, source, destination }, event);
        }
        Happening::Garbage(n) => {
            let place = chosen(history, n);
            let place = place.map_or(subjects::History::Campaign, |id| history.of(id));
            let event = v1::migration_event::Event::DumpExpired(v1::DumpExpired {});
            let event = CloudEvent::migration(event, "drover/test/1", Utc::now());
            history.append(place, CloudEvent { data: vec![0xff; usize::from(n)], ..event });
        }
        Happening::NotAnEvent => history.append_undecodable(),
        Happening::Start(in_flight_max) => {
            history.campaign_event(campaign_event::Event::CampaignStarted(v1::CampaignStarted {
                in_flight_max,
                ..Default::default()
            }))
        }
        Happening::Pause => history
            .campaign_event(campaign_event::Event::CampaignPaused(v1::CampaignPaused::default())),
        Happening::Resume => history
            .campaign_event(campaign_event::Event::CampaignResumed(v1::CampaignResumed::default())),
        Happening::HoldDown(n, slots_max) => {
            let host = format!("src-{n}");
            let hosts = vec![v1::HostSlots { host, slots_max, reason: String::new() }];
            history.campaign_event(campaign_event::Event::HostSlotsChanged(v1::HostSlotsChanged {
                hosts,
            }))
        }
        Happening::Quarantine(n) => {
            history.campaign_event(campaign_event::Event::HostQuarantined(v1::HostQuarantined {
                host: format!("src-{n}"),
                reason: String::new(),
            }))
        }
    }
}

fn history(happenings: &[Happening]) -> History {
    let mut history = History::new("night");
    history.campaign_event(campaign_event::Event::CampaignCreated(v1::CampaignCreated {
        policy: Some(POLICY),
    }));
    for happening in happenings {
        happen(&mut history, happening);
    }
    history
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 32,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// Whatever the batches, with each begun again some messages earlier than it must be, with
    /// the process ended and begun again between any two.
    #[test]
    fn the_tables_follow_from_the_log_alone(
        happenings in vec(happenings(), 0..160),
        batches in vec((1_usize..40, 0_usize..5, any::<bool>()), 1..20),
    ) {
        let history = history(&happenings);
        let dir = tempfile::tempdir().unwrap();
        let (whole, pieces) = (file(&dir, "whole"), file(&dir, "pieces"));
        Projection::open(&whole).unwrap().apply(&history.campaign, &history.items).unwrap();

        let mut projection = Projection::open(&pieces).unwrap();
        let mut taken = 0;
        for (size, repeated, restart) in batches.iter().cycle() {
            if taken == history.items.len() {
                break;
            }
            if *restart {
                drop(projection);
                projection = Projection::open(&pieces).unwrap();
                prop_assert_eq!(projection.position(&history.campaign).unwrap().sequence, taken as u64);
            }
            let (from, to) = (taken.saturating_sub(*repeated), (taken + size).min(history.items.len()));
            projection.apply(&history.campaign, &history.items[from..to]).unwrap();
            taken = to;
        }
        let expected = tables(&whole);
        prop_assert_eq!(&tables(&pieces), &expected);

        // Forgotten and folded again.
        projection.forget(&history.campaign).unwrap();
        prop_assert!(tables(&pieces).is_empty());
        projection.apply(&history.campaign, &history.items).unwrap();
        prop_assert_eq!(&tables(&pieces), &expected);
    }

    /// At every prefix, rows and counts are the lifecycle's states.
    #[test]
    fn the_phases_are_the_lifecycles(happenings in vec(happenings(), 0..120)) {
        let mut history = History::new("night");
        let mut projection = Projection::in_memory().unwrap();
        history.append_undecodable();
        let mut taken = 0;
        for happening in &happenings {
            happen(&mut history, happening);
            projection.apply(&history.campaign, &history.items[taken..]).unwrap();
            taken = history.items.len();
            let views = projection.views();
            let rows = views.migrations(&history.campaign, &Filter::default()).unwrap();
            prop_assert_eq!(rows.len(), history.ids.len());
            let mut counts = Counts::default();
            for (row, id) in rows.iter().zip(&history.ids) {
                let state = &history.states[id];
                prop_assert_eq!(row.id, *id);
                prop_assert_eq!(&row.phase, state.phase.name());
                prop_assert_eq!((row.run, row.revision), (state.run, state.revision));
                counts.total += 1;
                match (state.phase.name(), state.holds_slot()) {
                    (_, true) => counts.in_flight += 1,
                    ("planned", _) => counts.planned += 1,
                    ("parked", _) => counts.parked += 1,
                    ("completed", _) => counts.completed += 1,
                    ("rolled back", _) => counts.rolled_back += 1,
                    _ => counts.finishing += 1,
                }
            }
            let status = views.status(&history.campaign, history.now_unix_ms).unwrap();
            prop_assert_eq!(status.counts, counts);
            let waves: u64 = status.waves.iter().map(|wave| wave.counts.total).sum();
            let sources: u64 = status.hosts.iter().map(|host| host.as_source.total).sum();
            prop_assert_eq!((waves, sources), (counts.total, counts.total));
        }
    }
}

#[test]
fn a_batch_that_fails_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let path = file(&dir, "projections");
    let mut history = History::new("night");
    let id = history.plan("db", ("a", "b"), "");
    let mut projection = Projection::open(&path).unwrap();
    projection.apply(&history.campaign, &history.items).unwrap();
    history.advance_to(id, "import");
    projection.apply(&history.campaign, &history.items).unwrap();
    let before = tables(&path);
    history.advance_to(id, "completed");
    // The tables are taken away under it, and given back.
    let other = Connection::open(&path).unwrap();
    other.execute_batch("ALTER TABLE tally RENAME TO hidden").unwrap();
    assert!(projection.apply(&history.campaign, &history.items).is_err());
    other.execute_batch("ALTER TABLE hidden RENAME TO tally").unwrap();
    assert_eq!(tables(&path), before);
    projection.apply(&history.campaign, &history.items).unwrap();
    let whole = file(&dir, "whole");
    Projection::open(&whole).unwrap().apply(&history.campaign, &history.items).unwrap();
    assert_eq!(tables(&path), tables(&whole));
}

#[test]
fn campaigns_do_not_mix() {
    let mut projection = Projection::in_memory().unwrap();
    let mut histories = ["a", "b"].map(History::new);
    for history in &mut histories {
        let id = history.plan("db", ("src", "dst"), "");
        history.advance_to(id, "dump");
    }
    // Side by side, an event each in turn.
    let lengths = histories.each_ref().map(|history| history.items.len());
    for n in 0..lengths[0].max(lengths[1]) {
        for history in &histories {
            let items: Vec<Item> = history.items.get(n).cloned().into_iter().collect();
            projection.apply(&history.campaign, &items).unwrap();
        }
    }
    projection.forget(&histories[0].campaign).unwrap();
    let views = projection.views();
    assert!(views.status(&histories[0].campaign, 0).is_err());
    let status = views.status(&histories[1].campaign, 0).unwrap();
    assert_eq!((status.counts.total, status.counts.in_flight), (1, 1));
}
