//! A migration lives against the real rules of the ledgers, its log loses its end at any place, and
//! what is missing is found from what the places show.

#![allow(clippy::unwrap_used, reason = "a failed test may panic anywhere")]

use drover_lifecycle::{
    Command, Fact, Forward, Migration, Phase, Wait, conclude,
    ledger::{Act, Asked, Move, Row, State, fence, permit},
    reconcile::{Shows, Sighting, missing},
};
use drover_schemas::{
    CampaignName, Code, Failure, MigrationId,
    v1::{self, Job, Policy, RetryPolicy, Step, migration_event::Event},
};
use proptest::prelude::*;

/// A server's ledger, and the last order that acted there.
type Kept = Option<(Row, Job)>;

#[derive(Default)]
struct Places {
    source: Kept,
    destination: Kept,
    zone: Option<(bool, Job)>,
}

fn change() -> v1::DnsChange {
    v1::DnsChange { host_name: "h".into(), old_ttl_seconds: 1, ..Default::default() }
}

fn event_of(step: Step) -> Event {
    match step {
        Step::Freeze => Event::SourceFrozen(v1::SourceFrozen::default()),
        Step::Dump => Event::DumpStored(v1::DumpStored::default()),
        Step::Import => Event::ImportCompleted(v1::ImportCompleted::default()),
        Step::Verify => Event::CopyVerified(v1::CopyVerified::default()),
        Step::Disarm => Event::SourceDisarmed(v1::SourceDisarmed::default()),
        Step::Open => Event::DestinationOpened(v1::DestinationOpened::default()),
        Step::Switch => Event::DnsSwitched(v1::DnsSwitched { changes: vec![change()] }),
        Step::Retire => Event::SourceRetired(v1::SourceRetired::default()),
        Step::Publish => Event::DumpPublished(v1::DumpPublished::default()),
        Step::Announce => Event::CustomerNotified(v1::CustomerNotified::default()),
        Step::Expire => Event::DumpExpired(v1::DumpExpired::default()),
        Step::Revert => Event::DnsReverted(v1::DnsReverted { changes: vec![change()] }),
        Step::Close => Event::DestinationClosed(v1::DestinationClosed::default()),
        Step::Drop => Event::DestinationDropped(v1::DestinationDropped::default()),
        Step::Thaw => Event::SourceThawed(v1::SourceThawed::default()),
        Step::Unspecified => unreachable!(),
    }
}

impl Places {
    /// Does what an order says, by the ledgers' rules; false where it is refused.
    fn act(&mut self, job: &Job) -> bool {
        let (kept, act, state) = match job.step() {
            Step::Freeze => (&mut self.source, Act::Freeze, State::Frozen),
            Step::Disarm => (&mut self.source, Act::Disarm, State::Disarmed),
            Step::Retire => (&mut self.source, Act::Retire, State::Retired),
            Step::Thaw => (&mut self.source, Act::Thaw, State::Thawed),
            Step::Import => (&mut self.destination, Act::Import, State::Imported),
            Step::Open => (&mut self.destination, Act::Open, State::Open),
            Step::Close => (&mut self.destination, Act::Close, State::Closed),
            Step::Drop => (&mut self.destination, Act::Drop, State::Dropped),
            Step::Dump => {
                let row = self.source.as_ref().map(|(row, _)| *row);
                return permit(Act::Dump, row, asked(job)).is_ok();
            }
            Step::Verify => {
                let row = self.destination.as_ref().map(|(row, _)| *row);
                return permit(Act::Verify, row, asked(job)).is_ok();
            }
            step @ (Step::Switch | Step::Revert) => {
                if self.zone.as_ref().is_some_and(|(_, order)| order.revision > job.revision) {
                    return false;
                }
                self.zone = Some((step == Step::Switch, job.clone()));
                return true;
            }
            Step::Publish | Step::Announce | Step::Expire | Step::Unspecified => return true,
        };
        let row = kept.as_ref().map(|(row, _)| *row);
        if fence(row, asked(job)).is_err() {
            return false;
        }
        let state = match permit(act, row, asked(job)) {
            Err(_) => return false,
            Ok(Move::Rest) => row.map_or(state, |row| row.state),
            Ok(Move::Begin | Move::GoOn | Move::Again) => state,
        };
        *kept = Some((Row { state, revision: job.revision, run: job.run }, job.clone()));
        true
    }

    fn sightings(&self) -> Vec<Sighting> {
        let of = |shows, order: &Job| Sighting {
            revision: order.revision,
            run: order.run,
            shows,
            order: Some(order.clone()),
            tells: match shows {
                Shows::Ledger(State::Frozen) => vec![event_of(Step::Freeze)],
                Shows::Ledger(State::Open) => vec![event_of(Step::Open)],
                Shows::Switched => vec![event_of(Step::Switch)],
                Shows::Ledger(_) | Shows::Reverted | Shows::Ordered(_) => Vec::new(),
            },
        };
        let ledgers = [&self.source, &self.destination].into_iter().flatten();
        let ledgers = ledgers.map(|(row, order)| of(Shows::Ledger(row.state), order));
        let zone = self.zone.iter().map(|(switched, order)| {
            of(if *switched { Shows::Switched } else { Shows::Reverted }, order)
        });
        ledgers.chain(zone).collect()
    }

    fn open(&self) -> bool {
        matches!(&self.destination, Some((Row { state: State::Open, .. }, _)))
    }
}

fn asked(job: &Job) -> Asked {
    let rehearsal = job.planned.as_ref().is_some_and(|planned| planned.rehearsal);
    let Job { revision, run, destination_shut, .. } = *job;
    Asked { revision, run, destination_shut, rehearsal }
}

struct World {
    state: Migration,
    log: Vec<Fact>,
    places: Places,
    sequence: u64,
}

impl World {
    fn new() -> Self {
        let planned = v1::MigrationPlanned {
            database: "db".into(),
            source: "a".into(),
            destination: "b".into(),
            host_names: vec!["h".into()],
            ..Default::default()
        };
        let fact = Fact { revision: 1, at_unix_ms: 0, event: Event::MigrationPlanned(planned) };
        let state = Migration::begin(fact.clone()).unwrap();
        Self { state, log: vec![fact], places: Places::default(), sequence: 1 }
    }

    fn append(&mut self, event: Event) {
        self.sequence += 1;
        let fact = Fact { revision: self.sequence, at_unix_ms: 0, event };
        self.state.evolve(fact.clone()).unwrap();
        self.log.push(fact);
    }

    fn command(&mut self, command: Command) {
        if let Ok(event) = self.state.decide(command) {
            self.append(event);
        }
    }

    /// The next thing that happens; `fails` for good, after the step's effect. False at rest.
    fn go_on(&mut self, fails: bool) -> bool {
        match self.state.wait() {
            Wait::Admission { .. } => self.command(Command::Admit),
            Wait::Settlement => self.command(Command::Settle),
            Wait::Job { .. } => {
                let job = self.job();
                let done = self.places.act(&job);
                let forward = Forward::ALL.iter().any(|forward| forward.step() == job.step());
                let outcome = match (done, fails && forward) {
                    (false, _) => Err(Failure::new(Code::LedgerOutdated, "ahead")),
                    (true, true) => Err(Failure::new(Code::ServerRefused, "as the test wants")),
                    (true, false) => Ok(event_of(job.step())),
                };
                self.append(conclude(&job, outcome, 1, 0.5));
            }
            Wait::Person | Wait::Findings | Wait::Nothing => return false,
        }
        true
    }

    fn job(&self) -> Job {
        let campaign: CampaignName = "night".parse().unwrap();
        let id = MigrationId::new(&campaign, &"a".parse().unwrap(), "db");
        let retry = RetryPolicy { attempts_max: 3, backoff_base_ms: 1, backoff_max_ms: 2 };
        let policy = Policy { retry: Some(retry), ..Policy::default() };
        self.state.job(&campaign, id, &policy, 0).unwrap()
    }

    /// The log loses all but its first `left` facts, and is repaired.
    fn lose_and_repair(&mut self, left: usize) {
        self.log.truncate(left);
        let log = Migration::replay(self.log.clone()).unwrap();
        let missing = missing(log.as_ref(), &self.places.sightings(), "test");
        self.sequence += 100;
        match log {
            Some(log) => self.state = log,
            None => {
                let Some(planned) = missing.first().cloned() else { return *self = Self::new() };
                let fact = Fact { revision: self.sequence, at_unix_ms: 0, event: planned };
                self.state = Migration::begin(fact.clone()).unwrap();
                self.log = vec![fact];
                return missing.into_iter().skip(1).for_each(|event| self.append(event));
            }
        }
        missing.into_iter().for_each(|event| self.append(event));
    }
}

/// What happens in a life: how many steps go well before one fails, and what a person says then.
fn life() -> impl Strategy<Value = Vec<(usize, bool, u8)>> {
    prop::collection::vec((0usize..16, any::<bool>(), 0u8..3), 0..4)
}

fn live(life: Vec<(usize, bool, u8)>) -> World {
    let mut world = World::new();
    for (steps, fails, word) in life {
        for _ in 0..steps {
            world.go_on(false);
        }
        world.go_on(fails);
        match word {
            0 => world.command(Command::Retry { by: "me".into() }),
            1 => world.command(Command::RollBack {
                by: "me".into(),
                reason: String::new(),
                discard_writes: false,
            }),
            _ => {}
        }
    }
    world
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_sound_log_lacks_nothing(life in life()) {
        let world = live(life);
        let lacks = missing(Some(&world.state), &world.places.sightings(), "test");
        prop_assert!(lacks.is_empty(), "{:?}: {lacks:?}", world.state.phase);
    }

    #[test]
    fn whatever_was_lost_it_comes_to_rest_and_the_ledgers_refuse_nothing(
        life in life(), left: prop::sample::Index
    ) {
        let mut world = live(life);
        let was_open = world.places.open();
        let left = left.index(world.log.len() + 1);
        world.lose_and_repair(left);
        let again = missing(Some(&world.state), &world.places.sightings(), "test");
        prop_assert!(again.is_empty(), "once is enough: {again:?}");
        prop_assert!(!was_open || world.places.open());
        for _ in 0..60 {
            if !world.go_on(false) {
                break;
            }
            let failure = world.log.last().map(|fact| &fact.event);
            prop_assert!(
                !matches!(failure, Some(Event::StepFailed(failed)) if failed.code == "DRV-0205"),
                "{:?}: {:#?}", world.state.phase, world.places.sightings()
            );
        }
        let at_rest = match &world.state.phase {
            Phase::Expired | Phase::ExpiryFailed | Phase::RolledBack | Phase::Parked { undone: true, .. } => true,
            // What failed behind the switch waits for a person.
            Phase::Parked { at: drover_lifecycle::At::Forward(step), .. } => {
                *step > Forward::Switch
            }
            _ => false,
        };
        prop_assert!(at_rest, "{:?}", world.state.phase);
    }
}

#[test]
fn a_life_without_failure_is_found_to_its_last_step_and_nothing_is_done_twice() {
    for left in 0..11 {
        let mut world = World::new();
        for _ in 0..9 {
            world.go_on(false);
        }
        assert!(matches!(world.state.phase, Phase::Doing(Forward::Publish, _)));
        world.lose_and_repair(left.min(world.log.len()));
        // The zone's and the ledgers' last orders know all that was done; what they do not tell
        // any more, such as an event that only its own step would give, is found again.
        let Phase::Doing(step, _) = world.state.phase else { panic!("{:?}", world.state.phase) };
        assert!(step >= Forward::Retire, "{left}: {step:?}");
    }
}
