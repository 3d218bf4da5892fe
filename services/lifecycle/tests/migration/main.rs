//! A migration under random outcomes, deaths, duplicates and a person's words, against a small
//! model of the servers, their ledgers and the zone.
//!
//! What a service does to a server is modelled as its real counterpart: refused when the
//! server's ledger has seen a higher revision, and idempotent otherwise. What it appends is
//! refused when the log has moved on. Everything else is the real lifecycle.

#![allow(clippy::unwrap_used, reason = "a failed test may panic anywhere")]

mod world;

use drover_lifecycle::{
    Command, Fact, Migration, Phase, Settlement, Undo, Wait, conclude, promise::DEFERRALS_MAX,
};
use drover_schemas::{
    Code, Failure,
    v1::{self, Step, migration_event::Event},
};
use proptest::prelude::*;

use world::{FAR, Happening, World, event_of, happening, ids, planned, policy};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn whatever_happens_the_rules_hold_and_it_comes_to_rest(
        happenings in prop::collection::vec(happening(), 0..40)
    ) {
        let mut world = World::new();
        for happening in happenings {
            world.orchestrate()?;
            world.happen(happening)?;
        }
        world.come_to_rest()?;
        let replayed = Migration::replay(world.log.clone()).map_err(|e| TestCaseError::fail(e.to_string()))?;
        prop_assert_eq!(replayed.as_ref(), Some(&world.state), "the log tells the same");
    }

    #[test]
    fn facts_out_of_order_or_lost_are_refused_or_known(
        picks in prop::collection::vec(0usize..14, 1..30)
    ) {
        let mut world = World::new();
        world.come_to_rest()?;
        let mut state = planned();
        for (n, pick) in picks.into_iter().enumerate() {
            let before = state.clone();
            let mut fact = world.log[pick % world.log.len()].clone();
            fact.revision += (n as u64 % 3) * 100;
            if state.evolve(fact.clone()).is_err() || fact.revision <= before.revision {
                prop_assert_eq!(&state, &before, "a refused or known fact changes nothing");
            }
        }
    }
}

#[test]
fn the_plain_life_of_a_migration() {
    let mut world = World::new();
    world.come_to_rest().unwrap();
    let kinds: Vec<&str> = world
        .log
        .iter()
        .map(|fact| drover_schemas::envelope::migration_kind(&fact.event))
        .collect();
    assert_eq!(
        kinds,
        [
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
            "DumpExpired"
        ]
    );
}

#[test]
fn each_step_that_fails_for_good_before_the_switch_is_undone_from_there_and_retried() {
    let steps = [
        Step::Freeze,
        Step::Dump,
        Step::Import,
        Step::Verify,
        Step::Disarm,
        Step::Open,
        Step::Switch,
    ];
    for (failing, effect) in steps.into_iter().flat_map(|step| [(step, false), (step, true)]) {
        let mut world = World::new();
        world.orchestrate().unwrap();
        while world.job(0).unwrap().step() != failing {
            world.happen(Happening::Done(0)).unwrap();
            world.orchestrate().unwrap();
        }
        let failure = if effect {
            Happening::FailedAfter(0, false)
        } else {
            Happening::FailedBefore(0, false)
        };
        world.happen(failure).unwrap();
        world.come_to_rest().unwrap();
        assert!(
            matches!(world.state.phase, Phase::Parked { undone: true, .. }),
            "{failing:?}: {:?}",
            world.state.phase
        );
        assert!(!world.servers.copy, "{failing:?} leaves no copy");
        world.happen(Happening::Retry).unwrap();
        world.come_to_rest().unwrap();
        assert_eq!(world.state.phase, Phase::Expired, "{failing:?}");
        assert_eq!(world.state.run, 2);
    }
}

#[test]
fn after_the_switch_nothing_is_undone_without_a_persons_word() {
    for failing in [Step::Retire, Step::Publish, Step::Announce] {
        let mut world = World::new();
        world.orchestrate().unwrap();
        while world.job(0).unwrap().step() != failing {
            world.happen(Happening::Done(0)).unwrap();
            world.orchestrate().unwrap();
        }
        world.happen(Happening::FailedBefore(0, false)).unwrap();
        world.come_to_rest().unwrap();
        assert!(matches!(world.state.phase, Phase::Parked { undone: false, .. }));
        assert!(world.servers.switched && world.servers.open);
        world.happen(Happening::Retry).unwrap();
        world.come_to_rest().unwrap();
        assert_eq!(world.state.phase, Phase::Expired);
    }
}

#[test]
fn a_copy_that_was_switched_to_is_closed_but_kept_by_a_rollback() {
    let mut world = World::new();
    world.come_to_rest().unwrap();
    world.happen(Happening::RollBack).unwrap();
    world.come_to_rest().unwrap();
    assert_eq!(world.state.phase, Phase::RolledBack);
    assert!(world.servers.copy && !world.servers.open);
}

#[test]
fn a_copy_is_kept_also_when_only_the_revert_tells_that_it_was_switched_to() {
    let world = until(Step::Switch);
    let mut state = world.state.clone();
    let mut happens = |event| {
        let revision = state.revision + 1;
        state.evolve(Fact { revision, at_unix_ms: world.now, event }).unwrap();
        state.phase
    };
    happens(Event::RollbackRequested(v1::RollbackRequested::default()));
    let changes = vec![v1::DnsChange::default()];
    happens(Event::DnsReverted(v1::DnsReverted { changes }));
    let phase = happens(event_of(Step::Close));
    assert!(matches!(phase, Phase::Undoing(Undo::Thaw, ..)), "{phase:?}");
}

#[test]
fn a_switch_that_failed_but_was_seen_loses_no_writes() {
    let world = until(Step::Switch);
    let (campaign, id) = ids();
    for seen in [true, false] {
        let mut state = world.state.clone();
        let mut happens = |event: Result<Event, Failure>| {
            let job = state.job(&campaign, id, &policy(), 0).unwrap();
            let event = conclude(&job, event, 0, 0.5);
            state.evolve(Fact { revision: state.revision + 1, at_unix_ms: 0, event }).unwrap();
            (state.phase, state.job(&campaign, id, &policy(), 0))
        };
        happens(Err(Failure::new(Code::DnsRefused, "one of the servers")));
        let changes = vec![v1::DnsChange::default(); usize::from(seen)];
        let (_, close) = happens(Ok(Event::DnsReverted(v1::DnsReverted { changes })));
        assert_eq!(close.unwrap().keep_writes, seen);
        if seen {
            // The customer has written: they stay where they are, also when the switch fails again.
            let (_, open) = happens(Err(Failure::new(Code::DestinationWritten, "2 rows")));
            assert_eq!(open.unwrap().step(), Step::Open);
            happens(Ok(event_of(Step::Open)));
            let (phase, _) = happens(Err(Failure::new(Code::DnsRefused, "one of the servers")));
            let stays = matches!(phase, Phase::Settling(Settlement::Park { undone: false, .. }));
            assert!(stays, "{phase:?}");
        }
    }
}

#[test]
fn a_switch_is_not_given_up_for_what_passes() {
    let world = until(Step::Switch);
    let mut state = world.state.clone();
    let (campaign, id) = ids();
    for _ in 0..10 * policy().retry.unwrap().attempts_max {
        let job = state.job(&campaign, id, &policy(), 0).unwrap();
        assert_eq!(job.step(), Step::Switch);
        let away = Failure::new(Code::DnsUnreachable, "no answer");
        let event = conclude(&job, Err(away), 0, 0.5);
        state.evolve(Fact { revision: state.revision + 1, at_unix_ms: 0, event }).unwrap();
    }
}

#[test]
fn a_clock_that_is_ahead_holds_nothing_up() {
    let hour_ms = 3_600_000;
    let now = 1_700_000_000_000;
    let (campaign, id) = ids();
    let mut state = planned();
    state
        .evolve(Fact { revision: 2, at_unix_ms: now, event: state.decide(Command::Admit).unwrap() })
        .unwrap();
    let job = state.job(&campaign, id, &policy(), now).unwrap();
    for (clock, waits_ms) in [(now + hour_ms, 5..=10), (now, 5..=10), (now - hour_ms, -hour_ms..=0)]
    {
        let failure = Err(Failure::new(Code::ServerFailed, "as the test wants it"));
        let event = conclude(&job, failure, clock, 0.5);
        let fact = Fact { revision: 3, at_unix_ms: clock, event }.taken_at(now);
        let mut state = state.clone();
        state.evolve(fact).unwrap();
        let Wait::Job { not_before_unix_ms, .. } = state.wait() else { panic!("{state:?}") };
        assert!(waits_ms.contains(&(not_before_unix_ms - now)), "{clock}: {not_before_unix_ms}");
    }
}

#[test]
fn retirement_waits_until_no_cache_holds_the_old_address() {
    let mut world = until(Step::Switch);
    world.happen(Happening::Done(0)).unwrap();
    let switched_at = world.now;
    assert_eq!(
        world.state.wait(),
        Wait::Job { step: Step::Retire, attempt: 1, not_before_unix_ms: switched_at + 300_000 }
    );
    assert!(!world.state.holds_slot(), "the wait keeps nobody else from going");
}

#[test]
fn transient_failures_are_tried_again_until_the_attempts_are_used_up() {
    let mut world = World::new();
    for attempt in 1..=3 {
        world.orchestrate().unwrap();
        assert_eq!(world.job(0).unwrap().attempt, attempt);
        world.happen(Happening::FailedBefore(0, true)).unwrap();
    }
    world.come_to_rest().unwrap();
    assert!(matches!(world.state.phase, Phase::Parked { undone: true, .. }));
}

/// Goes on until a job of this step is ordered.
fn until(step: Step) -> World {
    let mut world = World::new();
    world.orchestrate().unwrap();
    while world.job(0).unwrap().step() != step {
        world.happen(Happening::Done(0)).unwrap();
        world.orchestrate().unwrap();
    }
    world
}

#[test]
fn what_is_not_in_time_is_undone_and_tried_again_later_but_not_for_ever() {
    for step in [Step::Dump, Step::Import, Step::Verify, Step::Disarm, Step::Open] {
        let mut world = until(step);
        for deferral in 1..=DEFERRALS_MAX {
            assert_eq!(world.state.deadline_unix_ms(), Some(FAR), "{step:?}");
            world.command(Command::BreakOff).unwrap();
            while world.state.wait() != Wait::Settlement {
                assert_eq!(world.state.deadline_unix_ms(), None);
                world.orchestrate_one().unwrap();
            }
            assert!(!world.servers.frozen && !world.servers.copy, "{step:?}");
            let before = world.state.at_unix_ms;
            world.command(Command::Settle).unwrap();
            let Phase::Planned { not_before_unix_ms } = world.state.phase else {
                panic!("{:?}", world.state.phase)
            };
            assert!(not_before_unix_ms >= before + 60_000 * (1 << (deferral - 1)));
            world.orchestrate().unwrap();
            assert_eq!(world.state.run, deferral + 1);
            while world.job(0).unwrap().step() != step {
                world.happen(Happening::Done(0)).unwrap();
                world.orchestrate().unwrap();
            }
        }
        world.command(Command::BreakOff).unwrap();
        world.come_to_rest().unwrap();
        assert!(matches!(world.state.phase, Phase::Parked { undone: true, .. }), "{step:?}");
        world.happen(Happening::Retry).unwrap();
        assert_eq!(world.state.deferred, None, "a person's word begins anew");
    }
}

#[test]
fn after_the_opening_the_promise_is_kept() {
    for step in [Step::Freeze, Step::Switch, Step::Retire] {
        let world = until(step);
        assert_eq!(world.state.deadline_unix_ms(), None);
        world.state.decide(Command::BreakOff).unwrap_err();
    }
}

#[test]
fn what_is_called_back_is_undone_and_planned_again_uncounted() {
    for step in [Step::Freeze, Step::Dump, Step::Import, Step::Verify, Step::Disarm, Step::Open] {
        let mut world = until(step);
        for _ in 0..=DEFERRALS_MAX {
            world.happen(Happening::Recall).unwrap();
            while world.state.wait() != Wait::Settlement {
                world.orchestrate_one().unwrap();
            }
            assert!(!world.servers.frozen && !world.servers.copy, "{step:?}");
            world.command(Command::Settle).unwrap();
            assert_eq!(world.state.wait(), Wait::Admission { not_before_unix_ms: 0 }, "{step:?}");
            assert_eq!(world.state.deferred.as_ref().map(|d| d.deferral), Some(0), "{step:?}");
            world.orchestrate().unwrap();
        }
    }
    let recall = || Command::Recall { by: "me".into(), reason: String::new() };
    until(Step::Switch).state.decide(recall()).unwrap_err();
    until(Step::Retire).state.decide(recall()).unwrap_err();
}

#[test]
fn a_source_that_has_thawed_itself_is_tried_again_later() {
    for (step, code) in [
        (Step::Freeze, Code::FrozenTooLong),
        (Step::Dump, Code::WatchdogFired),
        (Step::Disarm, Code::WatchdogFired),
    ] {
        let mut world = until(step);
        let job = world.job(0).unwrap();
        world.finish(&job, Err(Failure::new(code, "too late"))).unwrap();
        while world.state.wait() != Wait::Settlement {
            world.orchestrate_one().unwrap();
        }
        let event = world.state.decide(Command::Settle).unwrap();
        assert!(matches!(event, Event::MigrationDeferred(_)), "{event:?}");
        world.happen(Happening::RollBack).unwrap();
        world.come_to_rest().unwrap();
        assert_eq!(world.state.phase, Phase::RolledBack, "a person's word comes first");
    }
}

#[test]
fn what_the_pre_flight_found_holds_it_back_until_it_is_gone_or_ignored() {
    let mut state = planned();
    let give = |state: &mut Migration, command: Command| {
        let event = state.decide(command).unwrap();
        let fact = Fact { revision: state.revision + 1, at_unix_ms: 0, event };
        state.evolve(fact).unwrap();
    };
    let check = |codes: &[&str]| Command::Check {
        blocking_codes: codes.iter().map(|code| (*code).to_owned()).collect(),
        by: "me".into(),
    };
    give(&mut state, check(&["DRV-0240"]));
    assert_eq!(state.wait(), Wait::Findings);
    assert!(state.decide(Command::Admit).is_err(), "not admitted while it is held");
    give(&mut state, check(&[]));
    assert_eq!(state.wait(), Wait::Admission { not_before_unix_ms: 0 });
    give(&mut state, check(&["DRV-0240"]));
    give(&mut state, Command::IgnoreFindings { by: "me".into() });
    give(&mut state, Command::Admit);
    assert!(state.decide(check(&["DRV-0240"])).is_err(), "on its way nothing holds it back");
}
