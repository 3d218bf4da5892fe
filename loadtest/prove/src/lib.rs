//! The proof: the real lifecycle, against every order of deaths, delays and a person's words.
//!
//! A state ([`Instant`]) is what the log of one migration makes of it, the jobs that were ever
//! ordered, the events that services have found and not yet appended, and the world outside
//! ([`World`]). From each, everything that
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

mod instant;
mod world;

use drover_lifecycle::{Command, Phase, Wait, ledger::Move};
use drover_schemas::v1::{Job, Step};
use stateright::{Model, Property};

pub use instant::Instant;
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

impl Model for Drover {
    type State = Instant;
    type Action = Action;

    fn init_states(&self) -> Vec<Instant> {
        Instant::first(self.rehearsal).into_iter().collect()
    }

    fn actions(&self, state: &Instant, actions: &mut Vec<Action>) {
        actions.extend([Action::Order, Action::Orchestrate]);
        actions.extend((0..state.jobs().len()).map(Action::Work));
        actions.extend((0..state.found.len()).map(Action::Append));
        // Nothing asks what was written before the way back has begun: a write that comes earlier
        // leads to the same as one that comes then.
        let is_way_back = |job: &Job| matches!(job.step(), Step::Revert | Step::Close);
        if state.jobs().any(is_way_back) {
            actions.push(Action::Write);
        }
        if state.world.watchdog_may() == Some(Move::GoOn) {
            actions.push(Action::Watch);
        }
        if state.mishaps < self.bounds.mishaps {
            actions.extend((0..state.jobs().len()).map(Action::Die));
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
        let (by, reason) = ("a person".to_owned(), String::new());
        let mut mishap = 0;
        let changed = match action {
            Action::Order => next.order(),
            Action::Orchestrate => match next.migration.wait() {
                Wait::Admission { .. } => next.command(Command::Admit, self),
                Wait::Settlement => next.command(Command::Settle, self),
                Wait::Job { .. } | Wait::Findings | Wait::Person | Wait::Nothing => false,
            },
            Action::Work(n) => next.work(n, false, self),
            Action::Append(n) => {
                let found = next.found.remove(n);
                next.append(found.revision, found.event, self)
            }
            Action::Die(n) => {
                mishap = 1;
                next.work(n, true, self)
            }
            Action::Fail { transient } => {
                mishap = 1;
                next.fail(transient, self)
            }
            Action::BreakOff => {
                mishap = 1;
                next.command(Command::BreakOff, self)
            }
            Action::Recall => {
                mishap = 1;
                next.command(Command::Recall { by, reason }, self)
            }
            Action::RollBack { discard_writes } => {
                mishap = 1;
                next.world.let_go |= discard_writes;
                next.command(Command::RollBack { by, reason, discard_writes }, self)
            }
            Action::Write => {
                next.world.write();
                next.world != state.world
            }
            Action::Retry => {
                mishap = 1;
                // The next run replaces a copy that a rollback has kept: that is what was said.
                next.world.precious &= next.world.switched;
                next.command(Command::Retry { by }, self)
            }
            Action::Watch => {
                mishap = u8::from(next.world.watchdog_may() == Some(Move::Begin));
                next.world.watch();
                next.world != state.world
            }
            Action::Lose { facts, reuse } => next.lose(facts, reuse, self),
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
            // So an order that is given out at once stands for it.
            Property::always(
                "what is gone on with is what would be ordered",
                |_, state: &Instant| !state.world.went_astray,
            ),
            Property::always(
                "4: from everywhere it comes to an end",
                |model: &Self, state: &Instant| {
                    let end = state.calm(model);
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
