//! A rehearsal's life, and that no ledger lets an order for it do more.

#![allow(clippy::unwrap_used, reason = "a failed test may panic anywhere")]

use drover_lifecycle::{
    Command, Fact, Migration, Phase, Wait,
    ledger::{Act, Asked, Refusal, Row, State, permit},
    reconcile::{Shows, Sighting, missing},
};
use drover_schemas::{
    MigrationId,
    v1::{
        CopyVerified, DestinationDropped, DumpExpired, DumpStored, ImportCompleted,
        MigrationPlanned, Policy, Step, StepFailed, migration_event::Event,
    },
};

struct Life(Migration);

impl Life {
    fn begun() -> Self {
        let planned = MigrationPlanned { rehearsal: true, ..Default::default() };
        let event = Event::MigrationPlanned(planned);
        let mut life = Self(Migration::begin(Fact { revision: 1, at_unix_ms: 0, event }).unwrap());
        life.command(Command::Admit);
        life
    }

    fn happen(&mut self, event: Event) {
        let fact = Fact { revision: self.0.revision + 1, at_unix_ms: 0, event };
        self.0.evolve(fact).unwrap();
    }

    fn command(&mut self, command: Command) {
        let event = self.0.decide(command).unwrap();
        self.happen(event);
    }

    /// Does all that it waits for without failure: which steps those were.
    fn go_on(&mut self) -> Vec<Step> {
        let mut steps = Vec::new();
        loop {
            match self.0.wait() {
                Wait::Job { step, .. } => {
                    steps.push(step);
                    self.happen(done(step));
                }
                Wait::Settlement => self.command(Command::Settle),
                Wait::Admission { .. } | Wait::Findings | Wait::Person | Wait::Nothing => {
                    return steps;
                }
            }
        }
    }
}

fn done(step: Step) -> Event {
    match step {
        Step::Dump => Event::DumpStored(DumpStored::default()),
        Step::Import => Event::ImportCompleted(ImportCompleted::default()),
        Step::Verify => Event::CopyVerified(CopyVerified::default()),
        Step::Drop => Event::DestinationDropped(DestinationDropped {}),
        Step::Expire => Event::DumpExpired(DumpExpired {}),
        other => unreachable!("{other:?} in a rehearsal"),
    }
}

#[test]
fn it_dumps_imports_verifies_and_clears_up_as_often_as_one_likes() {
    let all = [Step::Dump, Step::Import, Step::Verify, Step::Drop, Step::Expire];
    let mut life = Life::begun();
    for _ in 0..2 {
        assert_eq!(life.go_on(), all);
        assert_eq!(life.0.phase, Phase::Rehearsed);
        assert!(life.0.decide(roll_back()).is_err(), "nothing is left to take back");
        life.command(Command::Retry { by: "me".into() });
        life.command(Command::Admit);
    }
}

#[test]
fn it_clears_up_whatever_ends_it_and_wherever() {
    let cleared = [Step::Drop, Step::Expire];
    for steps in 0..3 {
        let at = || {
            let mut life = Life::begun();
            for _ in 0..steps {
                let Wait::Job { step, .. } = life.0.wait() else { unreachable!() };
                life.happen(done(step));
            }
            life
        };
        let mut failed = at();
        let Wait::Job { step, .. } = failed.0.wait() else { unreachable!() };
        let failure = StepFailed { step: step.into(), attempt: 1, ..Default::default() };
        failed.happen(Event::StepFailed(failure));
        assert_eq!(failed.go_on(), cleared);
        assert!(matches!(failed.0.phase, Phase::Parked { undone: true, .. }));

        let mut recalled = at();
        recalled.command(Command::Recall { by: "me".into(), reason: String::new() });
        assert_eq!(recalled.go_on(), cleared);
        assert_eq!(recalled.0.phase, Phase::Planned { not_before_unix_ms: 0 });

        let mut rolled_back = at();
        rolled_back.command(roll_back());
        assert_eq!(rolled_back.go_on(), cleared);
        assert_eq!(rolled_back.0.phase, Phase::RolledBack);
    }
}

#[test]
fn it_is_never_admitted_to_be_moved() {
    let planned = MigrationPlanned { rehearsal: true, ..Default::default() };
    let event = Event::MigrationPlanned(planned);
    let mut migration = Migration::begin(Fact { revision: 1, at_unix_ms: 0, event }).unwrap();
    let event = Event::MigrationAdmitted(drover_schemas::v1::MigrationAdmitted {
        run: 1,
        rehearsal: false,
    });
    assert!(migration.evolve(Fact { revision: 2, at_unix_ms: 0, event }).is_err());
}

#[test]
fn no_ledger_lets_it_touch_the_source_or_let_anybody_in() {
    let asked = Asked { revision: 9, run: 1, destination_shut: true, rehearsal: true };
    let rows = [
        None,
        Some(State::Frozen),
        Some(State::Disarmed),
        Some(State::Thawed),
        Some(State::Imported),
        Some(State::Opening),
        Some(State::Open),
        Some(State::Closed),
    ];
    for state in rows {
        let row = state.map(|state| Row { state, revision: 3, run: 1 });
        for act in
            [Act::Freeze, Act::Disarm, Act::Retire, Act::Thaw, Act::Open, Act::Reopen, Act::Close]
        {
            assert_eq!(permit(act, row, asked), Err(Refusal::Rehearsal), "{act:?} {state:?}");
        }
        let is_open = matches!(state, Some(State::Opening | State::Open));
        if is_open {
            assert_eq!(permit(Act::Drop, row, asked), Err(Refusal::Outdated));
        }
    }
}

#[test]
fn a_log_that_has_lost_it_goes_on_from_the_beginning_and_leaves_nothing() {
    let mut life = Life::begun();
    life.happen(done(Step::Dump));
    let campaign = "night-rehearsal".parse().unwrap();
    let id = MigrationId::new(&campaign, &"a".parse().unwrap(), "db");
    let order = life.0.job(&campaign, id, &Policy::default(), 0);
    // What the destination's ledger shows after the import.
    let shows = Shows::Ledger(State::Imported);
    let sighting = Sighting { revision: 3, run: 1, shows, order, tells: Vec::new() };
    let facts = missing(None, &[sighting], "me");
    let log = facts.into_iter().enumerate().map(|(n, event)| Fact {
        revision: 10 + n as u64,
        at_unix_ms: 0,
        event,
    });
    let mut again = Life(Migration::replay(log).unwrap().unwrap());
    let all = [Step::Dump, Step::Import, Step::Verify, Step::Drop, Step::Expire];
    assert_eq!(again.go_on(), all);
}

fn roll_back() -> Command {
    Command::RollBack { by: "me".into(), reason: String::new(), discard_writes: false }
}
