//! The proof: the real lifecycle, against every order of deaths, delays and a person's words.
//!
//! A state is the log of one migration, the jobs that were ever ordered, the events that services
//! have found and not yet appended, and the world outside ([`World`]). From each, everything that
//! may happen next is tried:
//!
//! 1. any job that was ever ordered is done, once more, late, or out of order; or its service dies
//!    in the middle. A service that dies between its effect and its event never appends it;
//! 2. an event that was found is appended, if the log has not moved on;
//! 3. a step fails, for a moment or for good;
//! 4. the orchestrator admits, settles, or breaks off; being stale, it can order what was ordered
//!    before, and can append nothing;
//! 5. a person says to roll back or to retry; a customer writes at the destination;
//! 6. the watchdog begins or ends its work at the source, at any time before the disarming;
//! 7. the log loses its end ([`Bounds::losses`]), and its numbers are given out once more or not.
//!
//! 8. a person pauses and calls back what is under way. A pause that does not only keeps the
//!    orchestrator from admitting for a while, which is among these.
//!
//! A rehearsal ([`Drover::rehearsal`]) is gone through in the same way; its source must never be touched.
//!
//! Time is not in it: what may happen after some time may happen at once. What makes the states
//! finite is a budget of mishaps and words ([`Bounds::mishaps`]); redeliveries cost none.

mod world;

use std::hash::{Hash, Hasher};

use drover_lifecycle::{
    At, Command, Fact, Forward, Goal, Migration, Phase, Settlement, Undo, Wait, conclude,
};
use drover_schemas::{
    CampaignName, Code, Failure, MigrationId,
    envelope::migration_kind,
    v1::{Job, MigrationPlanned, Policy, RetryPolicy, Step, migration_event::Event},
};
use stateright::{Model, Property};

pub use world::World;

/// How far the states are followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// How many failures, deaths in the middle, words of a person, breaks and lapses there are.
    pub mishaps: u8,
    /// How often the log loses its end.
    pub losses: u8,
    /// How many facts it loses at most.
    pub lost_facts_max: usize,
}

/// What is taken out, to see that the proof notices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Without {
    /// All is there.
    Nothing,
    /// An event is appended whatever the log's revision.
    Revisions,
    /// An undo begins before the step in progress.
    UndoOfTheStep,
    /// The ledgers and the zone's mark refuse nothing.
    Ledgers,
    /// The destination opens without the source being disarmed.
    Disarming,
    /// A rollback does not look for what the destination has taken in.
    Comparison,
}

/// The model.
#[derive(Debug, Clone, Copy)]
pub struct Drover {
    /// How far it goes.
    pub bounds: Bounds,
    /// What it lacks.
    pub without: Without,
    /// The migration is a rehearsal.
    pub rehearsal: bool,
}

/// An event that a service has found, and on which revision.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    revision: u64,
    event: Event,
}

/// Everything at one instant.
#[derive(Debug, Clone, PartialEq)]
pub struct Instant {
    log: Vec<Fact>,
    migration: Migration,
    jobs: Vec<Job>,
    found: Vec<Found>,
    world: World,
    mishaps: u8,
    losses: u8,
    /// The last fact's number, also of those that were lost.
    highest: u64,
}

/// What happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// The orchestrator orders what the migration waits for.
    Order,
    /// The orchestrator appends what a slot or the end of all steps leads to.
    Orchestrate,
    /// The orchestrator breaks off what would not be in time.
    BreakOff,
    /// A person pauses, and what is not being switched is called back.
    Recall,
    /// A service does the n-th job that was ever ordered.
    Work(usize),
    /// A service dies in the middle of it.
    Die(usize),
    /// The n-th event that was found is appended.
    Append(usize),
    /// The step in progress fails without an effect, for a moment or for good.
    Fail {
        /// It may go away by itself.
        transient: bool,
    },
    /// A person says to take it back.
    RollBack {
        /// What the destination has taken in may be lost.
        discard_writes: bool,
    },
    /// A customer writes at the destination.
    Write,
    /// A person says to try again.
    Retry,
    /// The watchdog at the source works.
    Watch,
    /// The log loses its last facts.
    Lose {
        /// How many.
        facts: usize,
        /// Their numbers are given out once more.
        reuse: bool,
    },
}

/// More steps than any life has in which nothing goes wrong.
const CALM_STEPS_MAX: usize = 120;

impl Eq for Instant {}

impl Hash for Instant {
    fn hash<H: Hasher>(&self, to: &mut H) {
        let Self { log, migration, jobs, found, world, mishaps, losses, highest } = self;
        for fact in log {
            (fact.revision, migration_kind(&fact.event)).hash(to);
        }
        (migration.phase, migration.run, migration.destination_shut).hash(to);
        (migration.rollback, migration.opened.is_some(), migration.published.is_some()).hash(to);
        (migration.switched.is_some(), migration.dump.as_ref().map(|dump| dump.tables)).hash(to);
        for job in jobs {
            (job.step, job.revision, job.keep_writes).hash(to);
        }
        for found in found {
            (found.revision, migration_kind(&found.event)).hash(to);
        }
        (world, mishaps, losses, highest).hash(to);
    }
}

impl Instant {
    fn first(rehearsal: bool) -> Option<Self> {
        let planned = MigrationPlanned {
            campaign: "night".into(),
            database: "db".into(),
            source: "a".into(),
            destination: "b".into(),
            host_names: vec!["db.example.net".into()],
            rehearsal,
            ..Default::default()
        };
        let event = Event::MigrationPlanned(planned);
        let fact = Fact { revision: 1, at_unix_ms: 1, event };
        Some(Self {
            log: vec![fact.clone()],
            migration: Migration::begin(fact).ok()?,
            jobs: Vec::new(),
            found: Vec::new(),
            world: World::new(),
            mishaps: 0,
            losses: 0,
            highest: 1,
        })
    }

    /// Everything outside the log.
    pub fn world(&self) -> &World {
        &self.world
    }

    /// The job that the migration waits for.
    fn job(&self) -> Option<Job> {
        let campaign: CampaignName = "night".parse().ok()?;
        let id = MigrationId::new(&campaign, &"a".parse().ok()?, "db");
        let retry = RetryPolicy { attempts_max: 2, backoff_base_ms: 1, backoff_max_ms: 1 };
        let policy = Policy { retry: Some(retry), max_frozen_ms: 1, ..Policy::default() };
        self.migration.job(&campaign, id, &policy, 1)
    }

    /// Appends, if the log still ends there; a fact that is not allowed is set aside.
    fn append(&mut self, on: u64, event: Event, without: Without) -> bool {
        if on != self.migration.revision && without != Without::Revisions {
            return false;
        }
        let fact = Fact { revision: self.highest + 1, at_unix_ms: 1, event };
        let before = self.migration.phase;
        if self.migration.evolve(fact.clone()).is_err() {
            return false;
        }
        self.highest += 1;
        self.log.push(fact);
        if without == Without::UndoOfTheStep {
            self.migration.phase = begin_undo_too_late(before, self.migration.phase);
        }
        // On another revision they are appended no more, unless numbers are given out twice.
        let revision = self.migration.revision;
        if without != Without::Revisions {
            self.found.retain(|found| found.revision >= revision);
        }
        true
    }

    fn command(&mut self, command: Command, without: Without) -> bool {
        match self.migration.decide(command) {
            Ok(event) => self.append(self.migration.revision, event, without),
            Err(_) => false,
        }
    }

    fn order(&mut self) -> bool {
        let Some(job) = self.job() else { return false };
        let known = self.jobs.iter().any(|known| known.revision == job.revision);
        if !known {
            self.jobs.push(job);
        }
        !known
    }

    fn work(&mut self, n: usize, dies: bool, without: Without) -> bool {
        let Some(job) = self.jobs.get(n).cloned() else { return false };
        let before = self.world.clone();
        let outcome = self.world.work(&job, dies, without);
        if dies {
            return self.world != before;
        }
        let found = Found { revision: job.revision, event: conclude(&job, outcome, 1, 0.0) };
        let can_be_appended =
            found.revision >= self.migration.revision || without == Without::Revisions;
        let new = can_be_appended && !self.found.contains(&found);
        if new {
            self.found.push(found);
            self.found.sort_by_key(|found| (found.revision, migration_kind(&found.event)));
        }
        new || self.world != before
    }

    fn fail(&mut self, transient: bool, without: Without) -> bool {
        let Some(job) = self.job().filter(|job| self.jobs.contains(job)) else { return false };
        let back = Undo::ALL.map(Undo::step).contains(&job.step()) || job.step() == Step::Expire;
        if back && !transient {
            return false;
        }
        let code = if transient { Code::ServerFailed } else { Code::ServerRefused };
        let event = conclude(&job, Err(Failure::new(code, "as it happens")), 1, 0.0);
        self.append(job.revision, event, without)
    }

    fn lose(&mut self, facts: usize, reuse: bool) -> bool {
        let Some(left) = self.log.len().checked_sub(facts).filter(|left| *left > 0) else {
            return false;
        };
        self.log.truncate(left);
        let Ok(Some(migration)) = Migration::replay(self.log.clone()) else { return false };
        self.migration = migration;
        if reuse {
            self.highest = self.migration.revision;
        }
        true
    }

    /// From here on nothing goes wrong: how it ends; none when it does not.
    fn calm(&self, without: Without) -> Option<Self> {
        let mut then = self.clone();
        for _ in 0..CALM_STEPS_MAX {
            match then.migration.wait() {
                Wait::Admission { .. } => {
                    then.command(Command::Admit, without);
                }
                Wait::Settlement => {
                    then.command(Command::Settle, without);
                }
                Wait::Job { .. } => {
                    let job = then.job()?;
                    let outcome = then.world.work(&job, false, without);
                    let event = conclude(&job, outcome, 1, 0.0);
                    then.append(job.revision, event, without);
                }
                Wait::Findings | Wait::Person | Wait::Nothing => return Some(then),
            }
        }
        None
    }

    /// Whether the customer is as if nothing had been done.
    fn is_untouched(&self) -> bool {
        let World { source, source_writes, destination_writes, switched, mark, .. } = self.world;
        source.is_none() && source_writes && !destination_writes && !switched && mark.is_none()
    }

    /// Whether a migration that has come to rest leaves its customer where they should be.
    fn is_in_order(&self) -> bool {
        let World { source_writes, destination_writes, switched, .. } = self.world;
        let at_source = source_writes && !destination_writes && !switched;
        let at_destination = !source_writes && destination_writes && switched;
        match self.migration.phase {
            Phase::Completed(_) | Phase::ExpiryFailed | Phase::Expired => at_destination,
            Phase::Held { .. }
            | Phase::RolledBack
            | Phase::Rehearsed
            | Phase::Parked { undone: true, .. } => {
                at_source && !(self.migration.planned.rehearsal && self.world.copy.is_some())
            }
            Phase::Parked { at: At::Forward(forward), undone: false } => {
                // After a rollback that was refused the host name may point to the source still.
                let refused = self.migration.rollback.refused;
                let open = !source_writes && destination_writes;
                forward > Forward::Switch && at_destination || refused && open
            }
            Phase::Parked { at: At::Undo(..) | At::Rehearsal(_), undone: false }
            | Phase::Planned { .. }
            | Phase::Doing(..)
            | Phase::Undoing(..)
            | Phase::Rehearsing(..)
            | Phase::Settling(_) => false,
        }
    }
}

/// What an undo would be that leaves out the step in progress.
fn begin_undo_too_late(before: Phase, after: Phase) -> Phase {
    let (Phase::Doing(forward, _), Phase::Undoing(undo, attempt, goal)) = (before, after) else {
        return after;
    };
    if undo != forward.first_undo() {
        return after;
    }
    let earlier = Forward::ALL.into_iter().rfind(|earlier| *earlier < forward);
    match (earlier, goal) {
        (Some(earlier), _) => Phase::Undoing(earlier.first_undo(), attempt, goal),
        (None, Goal::RollBack) => Phase::Settling(Settlement::RollBack),
        (None, Goal::Defer) => Phase::Settling(Settlement::Defer),
        (None, Goal::Recall) => Phase::Settling(Settlement::Recall),
        (None, Goal::Park) => {
            Phase::Settling(Settlement::Park { at: At::Undo(Undo::Thaw, goal), undone: true })
        }
    }
}

impl Model for Drover {
    type State = Instant;
    type Action = Action;

    fn init_states(&self) -> Vec<Instant> {
        Instant::first(self.rehearsal).into_iter().collect()
    }

    fn actions(&self, state: &Instant, actions: &mut Vec<Action>) {
        actions.extend([Action::Order, Action::Orchestrate]);
        actions.extend((0..state.jobs.len()).map(Action::Work));
        actions.extend((0..state.found.len()).map(Action::Append));
        // Nothing asks what was written before the way back has begun: a write that comes earlier
        // leads to the same as one that comes then.
        let is_way_back = |job: &Job| matches!(job.step(), Step::Revert | Step::Close);
        if state.jobs.iter().any(is_way_back) {
            actions.push(Action::Write);
        }
        if state.world.watchdog_may() == Some(drover_lifecycle::ledger::Move::GoOn) {
            actions.push(Action::Watch);
        }
        if state.mishaps < self.bounds.mishaps {
            actions.extend((0..state.jobs.len()).map(Action::Die));
            actions.extend([true, false].map(|transient| Action::Fail { transient }));
            actions.extend([true, false].map(|discard_writes| Action::RollBack { discard_writes }));
            actions.extend([Action::BreakOff, Action::Recall, Action::Retry, Action::Watch]);
        }
        if state.losses < self.bounds.losses {
            for facts in 1..=self.bounds.lost_facts_max {
                actions.extend([true, false].map(|reuse| Action::Lose { facts, reuse }));
            }
        }
    }

    fn next_state(&self, state: &Instant, action: Action) -> Option<Instant> {
        let mut next = state.clone();
        let without = self.without;
        let (by, reason) = ("a person".to_owned(), String::new());
        let mut mishap = 0;
        let changed = match action {
            Action::Order => next.order(),
            Action::Orchestrate => match next.migration.wait() {
                Wait::Admission { .. } => next.command(Command::Admit, without),
                Wait::Settlement => next.command(Command::Settle, without),
                Wait::Job { .. } | Wait::Findings | Wait::Person | Wait::Nothing => false,
            },
            Action::Work(n) => next.work(n, false, without),
            Action::Append(n) => {
                let found = next.found.remove(n);
                next.append(found.revision, found.event, without)
            }
            Action::Die(n) => {
                mishap = 1;
                next.work(n, true, without)
            }
            Action::Fail { transient } => {
                mishap = 1;
                next.fail(transient, without)
            }
            Action::BreakOff => {
                mishap = 1;
                next.command(Command::BreakOff, without)
            }
            Action::Recall => {
                mishap = 1;
                next.command(Command::Recall { by, reason }, without)
            }
            Action::RollBack { discard_writes } => {
                mishap = 1;
                next.command(Command::RollBack { by, reason, discard_writes }, without)
            }
            Action::Write => {
                next.world.write();
                next.world != state.world
            }
            Action::Retry => {
                mishap = 1;
                // The next run replaces a copy that a rollback has kept: that is what was said.
                next.world.precious &= next.world.switched;
                next.command(Command::Retry { by }, without)
            }
            Action::Watch => {
                mishap = u8::from(
                    next.world.watchdog_may() == Some(drover_lifecycle::ledger::Move::Begin),
                );
                next.world.watch();
                next.world != state.world
            }
            Action::Lose { facts, reuse } => {
                next.losses += 1;
                next.lose(facts, reuse)
            }
        };
        next.mishaps += mishap;
        changed.then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::always("1: at most one side accepts writes", |_, state: &Instant| {
                !(state.world.source_writes && state.world.destination_writes)
            }),
            Property::always(
                "2: a name points to what is verified and open",
                |_, state: &Instant| {
                    let World { switched, verified, destination_writes, .. } = state.world;
                    !switched || verified && destination_writes
                },
            ),
            Property::always("3: what opens equals the source", |_, state: &Instant| {
                !state.world.opened_other
            }),
            Property::always(
                "a copy that was pointed to is never dropped",
                |_, state: &Instant| !state.world.lost_writes,
            ),
            Property::always(
                "the source takes over only where the destination's writes are none, or were let go",
                |_, state: &Instant| !state.world.forgot_writes,
            ),
            Property::always(
                "4: from everywhere it comes to an end",
                |model: &Self, state: &Instant| {
                    let end = state.calm(model.without);
                    // Where the log has lost its end it may stop for a person.
                    end.is_some_and(|end| end.losses > 0 || end.is_in_order())
                },
            ),
            Property::always(
                "a rehearsal leaves the source as it is, and lets nobody in",
                |model: &Self, state: &Instant| !model.rehearsal || state.is_untouched(),
            ),
            Property::sometimes("it is parked, and undone", |_, state: &Instant| {
                matches!(state.migration.phase, Phase::Parked { undone: true, .. })
            }),
            Property::sometimes("it completes", |_, state: &Instant| {
                matches!(state.migration.phase, Phase::Expired | Phase::Rehearsed)
            }),
        ];
        if !self.rehearsal {
            properties.extend(of_migrations());
        }
        properties
    }
}

/// What may become of a migration, and not of a rehearsal.
fn of_migrations() -> [Property<Drover>; 2] {
    [
        Property::sometimes("a rollback is refused, and it completes", |_, state: &Instant| {
            state.migration.rollback.refused && state.migration.phase == Phase::Expired
        }),
        Property::sometimes("it is deferred", |_, state: &Instant| {
            matches!(state.migration.phase, Phase::Planned { not_before_unix_ms: 1.. })
        }),
    ]
}
