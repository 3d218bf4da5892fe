//! The board, fed fact by fact.

use drover_lifecycle::{Command, forecast::Rest};
use drover_schemas::v1::{
    self, CampaignPaused, MigrationPlanned, Policy, Step, campaign_event, migration_event::Event,
};

use super::{
    due::{GONE_ON_MS, NEAR_MS},
    *,
};

mod heir;
mod hosts;

struct Log {
    board: Board,
    campaign: CampaignName,
    sequence: u64,
}

impl Log {
    fn new(slots: u32, in_flight_max: u32) -> Self {
        let slots = Slots { as_source: slots, as_destination: slots };
        let hosts = ["a", "b"].map(|host| (host.parse().unwrap(), slots));
        let board = Board::new(hosts.into_iter().collect());
        let mut log = Self { board, campaign: "night".parse().unwrap(), sequence: 0 };
        log.board.go_live(&log.campaign);
        let policy = Some(Policy::default());
        log.campaign(campaign_event::Event::CampaignCreated(v1::CampaignCreated { policy }));
        log.campaign(campaign_event::Event::CampaignStarted(v1::CampaignStarted {
            in_flight_max,
            by: "me".into(),
        }));
        log
    }

    fn campaign(&mut self, event: campaign_event::Event) {
        self.sequence += 1;
        self.board.take_campaign(&self.campaign, self.sequence, event).unwrap();
    }

    fn migration(&mut self, key: &Key, event: Event) {
        self.sequence += 1;
        self.board.take_migration(key, self.sequence, 0, event).unwrap();
    }

    fn plan(&mut self, n: u32) -> Key {
        self.plan_in("", n)
    }

    fn plan_in(&mut self, wave: &str, n: u32) -> Key {
        let database = format!("db{n}");
        let id = MigrationId::new(&self.campaign, &"a".parse().unwrap(), &database);
        let key = (self.campaign.clone(), id);
        let planned = MigrationPlanned {
            database,
            source: "a".into(),
            destination: "b".into(),
            wave: wave.into(),
            ..Default::default()
        };
        self.migration(&key, Event::MigrationPlanned(planned));
        key
    }

    fn admit(&mut self) -> Option<Key> {
        let key = self.board.admit(0)?;
        let event = self.board.migration(&key)?.decide(Command::Admit).unwrap();
        self.migration(&key, event);
        Some(key)
    }
}

/// What befalls a migration from its admission until its destination is open.
fn opened() -> [Event; 6] {
    [
        Event::SourceFrozen(v1::SourceFrozen::default()),
        Event::DumpStored(v1::DumpStored::default()),
        Event::ImportCompleted(v1::ImportCompleted::default()),
        Event::CopyVerified(v1::CopyVerified::default()),
        Event::SourceDisarmed(v1::SourceDisarmed::default()),
        Event::DestinationOpened(v1::DestinationOpened::default()),
    ]
}

#[test]
fn a_slot_comes_free_when_the_host_names_are_switched() {
    let mut log = Log::new(1, 10);
    let (first, second) = (log.plan(1), log.plan(2));
    assert_eq!(log.admit(), Some(first.clone()));
    assert_eq!(log.admit(), None);
    for event in opened() {
        log.migration(&first, event);
        assert_eq!(log.admit(), None);
    }
    log.migration(&first, Event::DnsSwitched(v1::DnsSwitched::default()));
    assert_eq!(log.admit(), Some(second));
}

#[test]
fn an_admission_that_was_overtaken_gives_its_slots_back() {
    let mut log = Log::new(1, 10);
    let (first, second) = (log.plan(1), log.plan(2));
    assert_eq!(log.board.admit(0), Some(first.clone()));
    let rollback =
        Command::RollBack { by: "me".into(), reason: String::new(), discard_writes: false };
    let event = log.board.migration(&first).unwrap().decide(rollback).unwrap();
    log.migration(&first, event);
    log.board.not_admitted(&first);
    assert_eq!(log.board.action(&first, 0), Some(Action::Settle));
    assert_eq!(log.admit(), Some(second));
}

#[test]
fn an_admission_that_failed_stands_in_line_again_once() {
    let mut log = Log::new(1, 10);
    let first = log.plan(1);
    assert_eq!(log.board.admit(0), Some(first.clone()));
    log.board.not_admitted(&first);
    assert_eq!(log.admit(), Some(first));
    assert_eq!(log.board.admit(0), None);
}

#[test]
fn what_another_orchestrator_admitted_counts() {
    let mut log = Log::new(2, 1);
    let (first, _) = (log.plan(1), log.plan(2));
    log.migration(
        &first,
        Event::MigrationAdmitted(v1::MigrationAdmitted { run: 1, rehearsal: false }),
    );
    assert_eq!(log.board.admit(0), None, "the campaign has one slot");
    let action = log.board.action(&first, 0);
    assert!(matches!(action, Some(Action::Order { job, .. }) if job.step() == Step::Freeze));
}

#[test]
fn the_dump_is_ordered_only_where_nobody_goes_on_with_it_after_the_freeze() {
    let mut log = Log::new(1, 10);
    let key = log.plan(1);
    log.admit();
    let asked = |log: &mut Log, at| match log.board.action(&key, at) {
        Some(Action::Order { job, gone_on_from }) => (job.step(), gone_on_from),
        Some(Action::Timer { at_unix_ms: GONE_ON_MS, .. }) => (Step::Unspecified, None),
        other => panic!("{other:?}"),
    };
    assert_eq!(asked(&mut log, 0), (Step::Freeze, None));
    log.migration(&key, Event::SourceFrozen(v1::SourceFrozen::default()));
    assert_eq!(asked(&mut log, 1), (Step::Unspecified, None), "it is looked at later");
    assert_eq!(asked(&mut log, GONE_ON_MS), (Step::Dump, Some(Step::Freeze)));
    // A failure says that somebody did, and that the next attempt is ordered.
    let failed = v1::StepFailed {
        step: Step::Dump.into(),
        attempt: 1,
        transient: true,
        next_attempt_at_unix_ms: 1,
        ..Default::default()
    };
    log.migration(&key, Event::StepFailed(failed));
    assert_eq!(asked(&mut log, 1), (Step::Dump, None));
    log.migration(&key, Event::DumpStored(v1::DumpStored::default()));
    assert_eq!(asked(&mut log, 1), (Step::Import, None));
}

#[test]
fn nothing_is_admitted_before_the_log_was_read_to_its_end() {
    let mut log = Log::new(2, 10);
    log.plan(1);
    let name = log.campaign.clone();
    log.board.herds.get_mut(&name).unwrap().live = false;
    log.campaign(campaign_event::Event::CampaignPaused(CampaignPaused::default()));
    log.campaign(campaign_event::Event::CampaignResumed(v1::CampaignResumed::default()));
    assert_eq!(log.board.admit(0), None);
    log.board.go_live(&name);
    assert!(log.board.admit(0).is_some());
}

#[test]
fn a_forgotten_campaign_gives_its_slots_back() {
    let mut log = Log::new(1, 10);
    log.plan(1);
    assert!(log.admit().is_some());
    let name = log.campaign.clone();
    log.board.forget(&name);
    assert_eq!(log.board.admission.in_flight(&name), 0);
}

#[test]
fn a_pause_stops_admissions_and_a_resume_goes_on() {
    let mut log = Log::new(2, 10);
    let first = log.plan(1);
    let event = CampaignPaused { reason: "test".into(), ..Default::default() };
    log.campaign(campaign_event::Event::CampaignPaused(event));
    assert_eq!(log.board.admit(0), None);
    let event = v1::CampaignResumed { by: "me".into() };
    log.campaign(campaign_event::Event::CampaignResumed(event));
    assert_eq!(log.board.admit(0), Some(first));
}

#[test]
fn a_pause_that_recalls_undoes_what_is_not_being_switched() {
    let mut log = Log::new(4, 10);
    let keys: Vec<Key> = (1..4).map(|n| log.plan(n)).collect();
    for _ in 0..2 {
        log.admit();
    }
    for event in opened() {
        log.migration(&keys[1], event);
    }
    let paused = CampaignPaused { recalls: true, ..Default::default() };
    log.campaign(campaign_event::Event::CampaignPaused(paused));
    let mut found = log.board.to_recall(&log.campaign);
    found.sort();
    assert_eq!(found.len(), 2, "what waits for a slot goes on waiting");
    assert!(matches!(log.board.action(&keys[0], 0), Some(Action::Recall(_))));
    let switch = log.board.action(&keys[1], 0);
    assert!(matches!(switch, Some(Action::Order { job, .. }) if job.step() == Step::Switch));
    let recall = Command::Recall { by: "me".into(), reason: String::new() };
    let event = log.board.migration(&keys[0]).unwrap().decide(recall).unwrap();
    log.migration(&keys[0], event);
    let thaw = log.board.action(&keys[0], 0);
    assert!(matches!(thaw, Some(Action::Order { job, .. }) if job.step() == Step::Thaw));
    log.migration(&keys[0], Event::SourceThawed(v1::SourceThawed::default()));
    let event = log.board.migration(&keys[0]).unwrap().decide(Command::Settle).unwrap();
    log.migration(&keys[0], event);
    assert_eq!(log.board.admit(0), None, "the pause lasts");
    log.campaign(campaign_event::Event::CampaignResumed(v1::CampaignResumed::default()));
    let again = [log.admit(), log.admit()];
    assert!(again.contains(&Some(keys[0].clone())), "{again:?}");
}

#[test]
fn the_campaign_ends_with_its_last_migration() {
    let mut log = Log::new(2, 10);
    let key = log.plan(1);
    assert_eq!(log.board.all_ended(&log.campaign), None);
    let rollback =
        Command::RollBack { by: "me".into(), reason: String::new(), discard_writes: false };
    for command in [rollback, Command::Settle] {
        let event = log.board.migration(&key).unwrap().decide(command).unwrap();
        log.migration(&key, event);
    }
    assert_eq!(log.board.all_ended(&log.campaign), Some((0, 1)));
}

#[test]
fn nothing_goes_before_the_canary_wave_has_completed() {
    let mut log = Log::new(4, 10);
    let limits = v1::Limits { canary_wave: "w1".into(), ..Default::default() };
    let changed = v1::LimitsChanged { limits: Some(limits), ..Default::default() };
    log.campaign(campaign_event::Event::LimitsChanged(changed));
    let (first, canary) = (log.plan(1), log.plan_in("w1", 2));
    assert_eq!([log.admit(), log.admit()], [Some(canary.clone()), None]);
    for event in opened().into_iter().chain([
        Event::DnsSwitched(v1::DnsSwitched::default()),
        Event::SourceRetired(v1::SourceRetired::default()),
        Event::DumpPublished(v1::DumpPublished::default()),
        Event::CustomerNotified(v1::CustomerNotified::default()),
    ]) {
        log.migration(&canary, event);
        assert_eq!(log.admit(), None);
    }
    log.migration(&canary, Event::MigrationCompleted(v1::MigrationCompleted {}));
    assert_eq!(log.admit(), Some(first));
}

#[test]
fn a_dump_ends_at_its_time_and_has_no_timer_long_before() {
    const ENDS_MS: i64 = 30 * 86_400_000;
    let mut log = Log::new(1, 10);
    let key = log.plan(1);
    log.admit();
    let published = v1::DumpPublished { expires_at_unix_ms: ENDS_MS, ..Default::default() };
    for event in opened().into_iter().chain([
        Event::DnsSwitched(v1::DnsSwitched::default()),
        Event::SourceRetired(v1::SourceRetired::default()),
        Event::DumpPublished(published),
        Event::CustomerNotified(v1::CustomerNotified::default()),
        Event::MigrationCompleted(v1::MigrationCompleted {}),
    ]) {
        log.migration(&key, event);
    }
    assert_eq!(log.board.coming(0), []);
    assert_eq!(log.board.action(&key, 0), None);
    assert_eq!(log.board.waiting(&log.campaign), [], "nor has whoever takes over");
    let near = ENDS_MS - NEAR_MS;
    assert_eq!(log.board.coming(near - 1), []);
    assert_eq!(log.board.coming(near), std::slice::from_ref(&key));
    assert_eq!(log.board.coming(near + 1), [], "told once");
    assert_eq!(log.board.waiting(&log.campaign), std::slice::from_ref(&key));
    let timer = Action::Timer { at_unix_ms: ENDS_MS, revision: log.sequence };
    assert_eq!(log.board.action(&key, near), Some(timer));
    let expire = log.board.action(&key, ENDS_MS);
    assert!(matches!(expire, Some(Action::Order { job, .. }) if job.step() == Step::Expire));
}

#[test]
fn switches_take_turns_and_keep_them() {
    let mut log = Log::new(4, 10);
    let limits = v1::Limits { dns_per_second_max: 2, ..Default::default() };
    let changed = v1::LimitsChanged { limits: Some(limits), ..Default::default() };
    let keys: Vec<Key> = (1..4).map(|n| log.plan(n)).collect();
    for _ in 0..3 {
        assert!(log.admit().is_some());
    }
    log.campaign(campaign_event::Event::LimitsChanged(changed));
    for key in &keys {
        for event in opened() {
            log.migration(key, event);
        }
    }
    let mut at = |key: &Key, now| match log.board.action(key, now) {
        Some(Action::Timer { at_unix_ms, .. }) => at_unix_ms,
        Some(Action::Order { .. }) => now,
        other => panic!("{other:?}"),
    };
    let first: Vec<i64> = keys.iter().map(|key| at(key, 1_000)).collect();
    assert_eq!(first, [1_000, 1_500, 2_000]);
    let again: Vec<i64> = keys.iter().map(|key| at(key, 1_000)).collect();
    assert_eq!(first, again, "asked again, the turn is the same");
    assert_eq!(at(&keys[2], 2_100), 2_100, "and when it has come, it is ordered");
}

#[test]
fn messages_take_turns_when_what_they_tell_of_is_published() {
    let mut log = Log::new(4, 10);
    let limits = v1::Limits { notices_per_second_max: 2, ..Default::default() };
    let changed = v1::LimitsChanged { limits: Some(limits), ..Default::default() };
    log.campaign(campaign_event::Event::LimitsChanged(changed));
    let keys = [log.plan(1), log.plan(2)];
    let mut turns = Vec::new();
    for key in &keys {
        assert!(log.admit().is_some());
        for event in opened().into_iter().chain([
            Event::DnsSwitched(v1::DnsSwitched::default()),
            Event::SourceRetired(v1::SourceRetired::default()),
        ]) {
            log.migration(key, event);
        }
        turns.push(match log.board.action(key, 1_000) {
            Some(Action::Timer { at_unix_ms, .. }) => at_unix_ms,
            Some(Action::Order { job, .. }) if job.step() == Step::Publish => 1_000,
            other => panic!("{other:?}"),
        });
    }
    assert_eq!(turns, [1_000, 1_500]);
    log.migration(&keys[0], Event::DumpPublished(v1::DumpPublished::default()));
    let next = log.board.action(&keys[0], 1_000);
    assert!(matches!(next, Some(Action::Timer { at_unix_ms: GONE_ON_MS, .. })), "{next:?}");
}

#[test]
fn a_campaign_has_its_hours_and_begins_nothing_that_would_not_finish_in_them() {
    const HOUR_MS: i64 = 3_600_000;
    let mut log = Log::new(4, 10);
    let windows = vec!["02:00-03:00 UTC".to_owned()];
    let limits = v1::Limits { windows, ..Default::default() };
    let changed = v1::LimitsChanged { limits: Some(limits), ..Default::default() };
    log.campaign(campaign_event::Event::LimitsChanged(changed));
    let key = log.plan(1);
    // What nothing is known of yet may take the five minutes that it is allowed to.
    for (at, admitted) in [(HOUR_MS, false), (3 * HOUR_MS - 299_999, false), (2 * HOUR_MS, true)] {
        log.board.tell_time(at);
        assert_eq!(log.admit() == Some(key.clone()), admitted, "{at}");
    }
}

fn limited(limits: v1::Limits) -> campaign_event::Event {
    let limits = Some(limits);
    campaign_event::Event::LimitsChanged(v1::LimitsChanged { limits, ..Default::default() })
}

#[test]
fn what_is_left_is_told_by_wave_and_with_those_before_it() {
    let mut log = Log::new(10, 10);
    for (n, wave) in ["w2", "w1", "w2", "w1", "w3", "w4"].into_iter().enumerate() {
        log.plan_in(wave, n as u32);
    }
    let rests = log.board.rests(0).pop().unwrap().1;
    let waiting = |rest: &Rest| rest.lines.iter().map(|line| line.waiting).sum::<u64>();
    let waves: Vec<_> = rests.waves.iter().map(|(wave, r)| (wave.as_str(), waiting(r))).collect();
    assert_eq!(waves, [("w1", 2), ("w2", 4), ("w3", 5)]);
    assert_eq!(waiting(&rests.whole), 6);
    log.campaign(limited(v1::Limits { waves_at_once: true, ..Default::default() }));
    assert_eq!(log.board.rests(0).pop().unwrap().1.waves, []);
}
