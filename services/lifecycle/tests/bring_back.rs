//! A migration that another one brings back: when it may be, and that nothing else is done for it then
//! but the dump's end; not by its history, and not by the old source's ledger.

#![allow(clippy::unwrap_used, reason = "a failed test may panic anywhere")]

use drover_lifecycle::{
    Command, Fact, Migration, Phase,
    ledger::{Act, Asked, Refusal, Row, State, permit, watchdog},
    reconcile::{Shows, Sighting, missing},
};
use drover_schemas::{
    CampaignName, MigrationId,
    v1::{self, migration_event::Event},
};

/// All facts of a migration, in their order, to the end of its dump.
fn facts() -> Vec<Event> {
    vec![
        Event::MigrationPlanned(v1::MigrationPlanned::default()),
        Event::MigrationAdmitted(v1::MigrationAdmitted { run: 1, rehearsal: false }),
        Event::SourceFrozen(v1::SourceFrozen::default()),
        Event::DumpStored(v1::DumpStored::default()),
        Event::ImportCompleted(v1::ImportCompleted::default()),
        Event::CopyVerified(v1::CopyVerified::default()),
        Event::SourceDisarmed(v1::SourceDisarmed::default()),
        Event::DestinationOpened(v1::DestinationOpened::default()),
        Event::DnsSwitched(v1::DnsSwitched::default()),
        Event::SourceRetired(v1::SourceRetired::default()),
        Event::DumpPublished(v1::DumpPublished { expires_at_unix_ms: 99, ..Default::default() }),
        Event::CustomerNotified(v1::CustomerNotified::default()),
        Event::MigrationCompleted(v1::MigrationCompleted {}),
        Event::DumpExpired(v1::DumpExpired {}),
    ]
}

/// After so many of them.
fn after(count: usize) -> Migration {
    let facts = facts().into_iter().take(count).zip(1..);
    let facts = facts.map(|(event, revision)| Fact { revision, at_unix_ms: 0, event });
    Migration::replay(facts).unwrap().unwrap()
}

fn take(migration: &mut Migration, event: Event) {
    let revision = migration.revision + 1;
    migration.evolve(Fact { revision, at_unix_ms: 0, event }).unwrap();
}

fn by() -> String {
    "op@console".to_owned()
}

fn bring_back() -> Command {
    let campaign: CampaignName = "night-back".parse().unwrap();
    let migration = MigrationId::new(&campaign, &"b".parse().unwrap(), "db");
    Command::BringBack { by: by(), reason: String::new(), campaign, migration }
}

fn roll_back(discard_writes: bool) -> Command {
    Command::RollBack { by: by(), reason: String::new(), discard_writes }
}

#[test]
fn only_what_is_completed_is_brought_back_and_once() {
    for count in 1..=facts().len() {
        let mut migration = after(count);
        let decided = migration.decide(bring_back());
        assert_eq!(decided.is_ok(), count >= facts().len() - 1, "{:?}", migration.phase);
        let Ok(event) = decided else { continue };
        let (phase, wait) = (migration.phase, migration.wait());
        take(&mut migration, event);
        assert_eq!((migration.phase, migration.wait()), (phase, wait));
        assert_eq!(migration.name(), "brought back");
        for refused in
            [bring_back(), roll_back(false), roll_back(true), Command::Retry { by: by() }]
        {
            assert!(migration.decide(refused.clone()).is_err(), "{refused:?}");
        }
        assert!(migration.steps_back().is_err());
        assert!(!migration.goes_back() && migration.has_ended());
    }
}

#[test]
fn the_dump_still_comes_to_its_end() {
    let mut migration = after(facts().len() - 1);
    let event = migration.decide(bring_back()).unwrap();
    take(&mut migration, event);
    let failed = v1::StepFailed { step: v1::Step::Expire.into(), attempt: 1, ..Default::default() };
    take(&mut migration, Event::StepFailed(failed));
    assert_eq!(migration.phase, Phase::ExpiryFailed);
    let event = migration.decide(Command::Retry { by: by() }).unwrap();
    take(&mut migration, event);
    take(&mut migration, Event::DumpExpired(v1::DumpExpired {}));
    assert_eq!(migration.phase, Phase::Expired);
    assert!(migration.decide(roll_back(true)).is_err());
}

#[test]
fn a_source_that_is_set_aside_takes_no_order_of_its_own_migration() {
    let row = Some(Row { state: State::Aside, revision: 5, run: 1 });
    let acts = [
        Act::Freeze,
        Act::Dump,
        Act::Disarm,
        Act::Retire,
        Act::Thaw,
        Act::Import,
        Act::Verify,
        Act::Open,
        Act::Reopen,
        Act::Close,
        Act::Drop,
    ];
    for act in acts {
        for (revision, run) in [(5, 1), (9, 2)] {
            let asked = Asked { revision, run, destination_shut: true, rehearsal: false };
            assert!(permit(act, row, asked).is_err(), "{act:?}");
        }
    }
    let asked = Asked { revision: 9, run: 2, destination_shut: true, rehearsal: false };
    assert_eq!(permit(Act::Thaw, row, asked), Err(Refusal::Outdated));
    assert_eq!(watchdog(State::Aside), None);
}

#[test]
fn a_log_that_has_lost_the_word_is_told_by_the_old_source() {
    let mut migration = after(facts().len() - 1);
    let asked = v1::BringBackRequested { campaign: "night-back".into(), ..Default::default() };
    let sighting = Sighting {
        revision: 9,
        run: 1,
        shows: Shows::Ledger(State::Aside),
        order: None,
        tells: vec![Event::BringBackRequested(asked.clone())],
    };
    let told = missing(Some(&migration), std::slice::from_ref(&sighting), "op");
    assert_eq!(told, [Event::BringBackRequested(asked.clone())]);
    take(&mut migration, Event::BringBackRequested(asked));
    assert_eq!(missing(Some(&migration), &[sighting], "op"), []);
}
