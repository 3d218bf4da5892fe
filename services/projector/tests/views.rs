//! The numbers of each view, on a history made by hand.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test may panic anywhere")]

mod history;

use drover_lifecycle::Command;
use drover_projector::{
    Projection,
    view::{Counts, Filter, Status},
};
use drover_schemas::{
    Code, MigrationId,
    v1::{self, campaign_event::Event},
};
use history::{BEGIN_UNIX_MS, History, POLICY};

struct Night {
    history: History,
    projection: Projection,
    ids: Vec<MigrationId>,
}

impl Night {
    fn status(&self) -> Status {
        let Self { history, projection, .. } = self;
        projection.views().status(&history.campaign, history.now_unix_ms).unwrap()
    }

    fn rows(&self, filter: &Filter) -> Vec<String> {
        let rows = self.projection.views().migrations(&self.history.campaign, filter).unwrap();
        rows.into_iter().map(|row| row.database).collect()
    }
}

/// Eight databases, each somewhere else on its way.
fn night() -> Night {
    let mut history = History::new("night");
    history.campaign_event(Event::CampaignCreated(v1::CampaignCreated { policy: Some(POLICY) }));
    let plan = |history: &mut History, name: &str, source: &str, wave: &str| {
        history.plan(name, (source, "dst-1"), wave)
    };
    let ids: Vec<MigrationId> = [
        ("waiting", "src-1", "w1"),
        ("importing", "src-1", "w1"),
        ("retiring", "src-1", "w1"),
        ("done", "src-1", "w2"),
        ("refused", "src-2", "w2"),
        ("too", "src-2", "w2"),
        ("back", "src-2", ""),
        ("slow", "src-2", ""),
    ]
    .map(|(name, source, wave)| plan(&mut history, name, source, wave))
    .into();
    history.campaign_event(Event::CampaignStarted(v1::CampaignStarted {
        in_flight_max: 5,
        by: "me".into(),
    }));
    // Frozen for 4 s, completed 10 s after the first admission, which is at 1 s.
    history.advance_to(ids[3], "completed");
    for id in [ids[4], ids[5]] {
        history.advance_to(id, "import");
        history.fail(id, Code::ImportRefused, "`x`: error 1153 at the destination");
        history.advance_to(id, "parked");
    }
    history.command(
        ids[6],
        Command::RollBack { by: "me".into(), reason: String::new(), discard_writes: false },
    );
    history.advance_to(ids[6], "rolled back");
    history.advance_to(ids[2], "open");
    history.wait(9000);
    history.advance_to(ids[2], "retire");
    history.advance_to(ids[7], "dump");
    history.fail(ids[7], Code::DumpFailed, "it ended with 3");
    history.advance_to(ids[1], "import");
    history.wait(2000);
    let mut projection = Projection::in_memory().unwrap();
    projection.apply(&history.campaign, &history.items).unwrap();
    Night { history, projection, ids }
}

#[test]
fn status() {
    let night = night();
    let status = night.status();
    assert_eq!((status.phase.as_str(), status.in_flight_max), ("running", 5));
    let expected = Counts {
        total: 8,
        planned: 1,
        in_flight: 2,
        finishing: 1,
        held: 0,
        parked: 2,
        completed: 1,
        rolled_back: 1,
    };
    assert_eq!(status.counts, expected);
    let phases: Vec<(&str, u64)> = status.phases.iter().map(|(k, n)| (k.as_str(), *n)).collect();
    let expected = [
        ("completed", 1),
        ("dump", 1),
        ("import", 1),
        ("parked", 2),
        ("planned", 1),
        ("retire", 1),
        ("rolled back", 1),
    ];
    assert_eq!(phases, expected);
    let waves: Vec<(&str, u64, u64)> = status
        .waves
        .iter()
        .map(|wave| (wave.wave.as_str(), wave.counts.total, wave.counts.in_flight))
        .collect();
    assert_eq!(waves, [("", 2, 1), ("w1", 3, 1), ("w2", 3, 0)]);
    let hosts: Vec<(&str, u64, u64, u64)> = status
        .hosts
        .iter()
        .map(|host| {
            (host.host.as_str(), host.as_source.total, host.as_destination.parked, host.failures)
        })
        .collect();
    assert_eq!(hosts, [("dst-1", 0, 2, 2), ("src-1", 4, 0, 0), ("src-2", 4, 0, 1)]);
    assert_eq!((status.failures, status.set_aside), (3, 0));
    assert_eq!(status.position, night.history.last());
    assert_eq!(status.first_admission_unix_ms, Some(BEGIN_UNIX_MS + 1000));
    assert_eq!(status.last_completion_unix_ms, Some(BEGIN_UNIX_MS + 12_000));
}

#[test]
fn rates_and_what_is_left() {
    let night = night();
    let status = night.status();
    // One in the 11 s from the first admission to its completion.
    assert_eq!(status.rate_per_hour_overall.unwrap().round(), 327.0);
    let seconds = (night.history.now_unix_ms - BEGIN_UNIX_MS - 1000) as f64 / 1000.0;
    let rate = status.rate_per_hour.unwrap();
    assert!((rate - 3600.0 / seconds).abs() < 1e-6, "{rate}");
    // Four are to come, and each takes as long as the one took.
    assert_eq!(status.time_left_seconds, Some((4.0 * seconds).ceil() as u64));
    // Ten minutes later there is no rate, and nothing to be said of the end.
    let Night { history, projection, .. } = night;
    let later =
        projection.views().status(&history.campaign, history.now_unix_ms + 700_000).unwrap();
    assert_eq!((later.rate_per_hour, later.time_left_seconds), (None, None));
    assert_eq!(later.rate_per_hour_overall, status.rate_per_hour_overall);
}

#[test]
fn time_frozen() {
    let frozen = night().status().frozen;
    assert_eq!(frozen.opened, 2);
    assert_eq!(frozen.median_seconds, Some(5.0));
    let p99 = frozen.p99_seconds.unwrap();
    assert!((13.98..=14.0).contains(&p99), "{p99}");
    assert_eq!(frozen.max_seconds, Some(14.0));
    // Of those that are parked or rolled back none; the two on their way.
    assert_eq!(frozen.frozen_now, 2);
    assert_eq!(frozen.frozen_now_longest_seconds, Some(5.0));
    assert_eq!((frozen.promised_seconds, frozen.deferrals), (300.0, 0));
    let now = night().history.now_unix_ms;
    assert_eq!(frozen.next_thaw_unix_ms, Some(now - 5_000 + 300_000));
}

#[test]
fn what_is_put_off_to_keep_the_promise_is_counted() {
    let mut night = night();
    let id = night.ids[1];
    assert!(night.history.command(id, Command::BreakOff));
    night.history.advance_to(id, "planned");
    let Night { history, projection, .. } = &mut night;
    projection.apply(&history.campaign, &history.items).unwrap();
    let frozen = night.status().frozen;
    assert_eq!((frozen.deferrals, frozen.frozen_now), (1, 1));
    let filter = Filter { database: Some("importing".to_owned()), ..Filter::default() };
    let row = night.projection.views().migrations(&night.history.campaign, &filter);
    assert_eq!(row.unwrap()[0].thaw_at_unix_ms, None);
}

#[test]
fn a_customer_is_frozen_again_while_a_rollback_goes_on() {
    let mut night = night();
    let id = night.ids[3];
    assert!(night.history.command(
        id,
        Command::RollBack { by: "me".into(), reason: String::new(), discard_writes: false }
    ));
    let frozen_now = |night: &mut Night| {
        let Night { history, projection, .. } = night;
        projection.apply(&history.campaign, &history.items).unwrap();
        night.status().frozen.frozen_now
    };
    night.history.advance_to(id, "close");
    assert_eq!(frozen_now(&mut night), 2);
    night.history.advance_to(id, "thaw");
    assert_eq!(frozen_now(&mut night), 3);
    night.history.advance_to(id, "rolled back");
    assert_eq!(frozen_now(&mut night), 2);
    let status = night.status();
    assert_eq!((status.counts.completed, status.counts.rolled_back), (0, 2));
}

#[test]
fn failures() {
    let night = night();
    let groups = night.projection.views().failures(&night.history.campaign).unwrap();
    assert_eq!(groups.len(), 2);
    let refused = &groups[0];
    assert_eq!(refused.signature, "DRV-0402 …: error 1153 at the destination");
    assert_eq!((refused.code.as_str(), refused.transient), ("DRV-0402", false));
    assert_eq!(refused.title, Code::ImportRefused.title());
    assert_eq!((refused.count, refused.migrations, refused.waiting), (2, 2, 2));
    assert_eq!(refused.page, "ops/errors/DRV-0402.md");
    assert_eq!((refused.hosts[0].host.as_str(), refused.hosts[0].count), ("dst-1", 2));
    assert_eq!(
        (refused.example.migration, refused.example.database.as_str()),
        (night.ids[5], "too")
    );
    assert!(refused.first_seen_unix_ms < refused.last_seen_unix_ms);
    let failed = &groups[1];
    assert_eq!((failed.transient, failed.count, failed.waiting), (true, 1, 0));
}

#[test]
fn migrations() {
    let night = night();
    let rows = |filter: Filter| night.rows(&filter);
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(rows(Filter::default()).len(), 8);
    assert_eq!(rows(Filter { phase: some("parked"), ..Filter::default() }), ["refused", "too"]);
    assert_eq!(rows(Filter { waits_for: some("person"), ..Filter::default() }), ["refused", "too"]);
    assert_eq!(rows(Filter { wave: some("w1"), ..Filter::default() }).len(), 3);
    assert_eq!(rows(Filter { database: some("slow"), ..Filter::default() }), ["slow"]);
    let signature = some("DRV-0402 …: error 1153 at the destination");
    let filter = Filter { signature, waits_for: some("person"), ..Filter::default() };
    assert_eq!(rows(filter), ["refused", "too"]);
    let page = Filter { limit: Some(3), ..Filter::default() };
    assert_eq!(rows(page.clone()), ["waiting", "importing", "retiring"]);
    let page = Filter { after: Some(night.ids[2]), ..page };
    assert_eq!(rows(page), ["done", "refused", "too"]);
    let views = night.projection.views();
    let filter = Filter { database: some("slow"), ..Filter::default() };
    let row = views.migrations(&night.history.campaign, &filter).unwrap().remove(0);
    assert_eq!((row.phase.as_str(), row.waits_for.as_str()), ("dump", "job"));
    assert_eq!((row.run, row.attempt, row.code.as_deref()), (1, 2, Some("DRV-0300")));
    assert!(row.frozen_since_unix_ms.is_some() && row.frozen_seconds.is_none());
    assert_eq!(row.thaw_at_unix_ms, row.frozen_since_unix_ms.map(|since| since + 300_000));
    let filter = Filter { database: some("done"), ..Filter::default() };
    let row = views.migrations(&night.history.campaign, &filter).unwrap().remove(0);
    assert_eq!((row.frozen_since_unix_ms, row.frozen_seconds), (None, Some(5.0)));
}

#[test]
fn a_retried_migration_forgets_why_it_was_parked() {
    let mut night = night();
    let id = night.ids[4];
    assert!(night.history.advance(id, None));
    night.history.advance_to(id, "completed");
    let Night { history, projection, .. } = &mut night;
    projection.apply(&history.campaign, &history.items).unwrap();
    let groups = projection.views().failures(&history.campaign).unwrap();
    assert_eq!((groups[0].count, groups[0].migrations, groups[0].waiting), (2, 2, 1));
}

#[test]
fn hosts_that_are_set_aside_or_held_down_are_told_until_they_are_no_more() {
    let mut night = night();
    let slots = |host: &str, slots_max| {
        let (host, reason) = (host.to_owned(), "40 threads run, at most 25".to_owned());
        Event::HostSlotsChanged(v1::HostSlotsChanged {
            hosts: vec![v1::HostSlots { host, slots_max, reason }],
        })
    };
    let aside = v1::HostQuarantined { host: "src-2".into(), reason: "no answer".into() };
    let mut told = |events: Vec<Event>| {
        let before = night.history.items.len();
        for event in events {
            night.history.campaign_event(event);
        }
        let items = &night.history.items[before..];
        night.projection.apply(&night.history.campaign, items).unwrap();
        let status = night.status();
        (status.quarantined.join(" "), status.held_down.join(" "))
    };
    let text = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    assert_eq!(told(Vec::new()), text("", ""));
    let events = vec![slots("src-1", 3), slots("dst-1", 2), Event::HostQuarantined(aside)];
    assert_eq!(told(events), text("src-2", "dst-1=2 src-1=3"));
    let released = v1::HostReleased { host: "src-2".into(), by: "me".into() };
    let events = vec![slots("src-1", 1), slots("dst-1", 0), Event::HostReleased(released)];
    assert_eq!(told(events), text("", "src-1=1"));
}
