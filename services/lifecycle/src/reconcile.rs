//! A log that has lost its end, held against what servers, zone and queue show of a migration.
//!
//! 1. Every order carries what the history said when it was decided, and each server's ledger
//!    keeps the last order that acted on it. So the ledgers know the inventory's row, and most of
//!    what was found, by themselves.
//! 2. The log is behind when a place shows something that comes after where the log stands: a
//!    later run, a later step, or an undo that was begun ([`is_behind`]). Revisions alone do not
//!    tell: a log that lost its end gives the same sequences out again.
//! 3. What was lost is appended in the order of a migration's life, each fact as a place tells it
//!    ([`missing`]); the last step that was begun is left to be found again by its order, as each
//!    step can be run twice. What undid it is not known, a failure or a person's word, so the
//!    migration is undone to its end and parked; behind the switch only a person's word undoes.
//! 4. A rehearsal has changed nothing but its copy, so it goes on from where its log stands.

use drover_schemas::{
    Code,
    v1::{self, Job, MigrationPlanned, Step, migration_event::Event},
};

use crate::{
    At, Command, Fact, Forward, Migration, Phase, Rehearsal, Settlement, Undo, Wait,
    after::{after_bring_back, is_complete, log_is_behind},
    ledger::State,
    signature,
};

/// How many facts a repair of one migration has at most: several runs, forth and back.
const MISSING_MAX: usize = 500;

/// What a place shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shows {
    /// A server's ledger, in this state.
    Ledger(State),
    /// The zone's mark: the host name points to the destination.
    Switched,
    /// The zone's mark: it does not.
    Reverted,
    /// An order for this step, on the queue.
    Ordered(Step),
}

/// What one place shows of one migration.
#[derive(Debug, Clone, PartialEq)]
pub struct Sighting {
    /// The revision of the order that acted last, or lies there.
    pub revision: u64,
    /// Its run.
    pub run: u32,
    /// What is there.
    pub shows: Shows,
    /// The order, with what the history said then.
    pub order: Option<Job>,
    /// What was found then, where the place keeps it.
    pub tells: Vec<Event>,
}

/// How far a sighting shows that a run came.
enum Reached {
    /// So many of [`Forward::ALL`] are done, and the next may have been begun.
    Forth(usize),
    /// It was being undone.
    Back,
}

fn place_of(step: Forward) -> usize {
    Forward::ALL.iter().position(|other| *other == step).unwrap_or(Forward::ALL.len())
}

impl Sighting {
    fn reached(&self) -> Reached {
        let begun = |step| Reached::Forth(place_of(step));
        let done = |step| Reached::Forth(place_of(step) + 1);
        match self.shows {
            Shows::Switched => done(Forward::Switch),
            Shows::Reverted => Reached::Back,
            Shows::Ordered(step) => match Forward::ALL.iter().find(|f| f.step() == step) {
                Some(forward) => begun(*forward),
                None => Reached::Back,
            },
            Shows::Ledger(state) => match state {
                State::Freezing => begun(Forward::Freeze),
                // One that thawed itself tells its own order so.
                State::Frozen | State::Lapsing | State::Lapsed => done(Forward::Freeze),
                State::Disarmed => done(Forward::Disarm),
                State::Retiring => begun(Forward::Retire),
                State::Retired | State::Aside => done(Forward::Retire),
                State::Importing => begun(Forward::Import),
                State::Imported => done(Forward::Import),
                State::Opening => begun(Forward::Open),
                State::Open => done(Forward::Open),
                State::Thawing
                | State::Thawed
                | State::Closing
                | State::Closed
                | State::Dropping
                | State::Dropped => Reached::Back,
            },
        }
    }

    /// The inventory's row, where the order is known.
    pub fn planned(&self) -> Option<&MigrationPlanned> {
        self.order.as_ref()?.planned.as_ref()
    }
}

/// All that is shown of a migration's last run.
struct Shown<'a> {
    run: u32,
    forth: usize,
    back: bool,
    sightings: Vec<&'a Sighting>,
}

impl<'a> Shown<'a> {
    fn of(sightings: &'a [Sighting]) -> Option<Self> {
        let run = sightings.iter().map(|sighting| sighting.run).max()?;
        let mut shown = Self { run, forth: 0, back: false, sightings: Vec::new() };
        for sighting in sightings.iter().filter(|sighting| sighting.run == run) {
            match sighting.reached() {
                Reached::Forth(steps) => shown.forth = shown.forth.max(steps),
                Reached::Back => shown.back = true,
            }
            // An order tells what was done before it, whatever came of it.
            if let Some(order) = &sighting.order {
                shown.forth = shown.forth.max(known_of(order));
            }
            shown.sightings.push(sighting);
        }
        Some(shown)
    }

    /// The highest revision that was given out in this run.
    fn given_out(&self) -> u64 {
        self.sightings.iter().map(|sighting| sighting.revision).max().unwrap_or(0)
    }

    /// Whether what is shown is no more than the step that the log waits for, begun or done: then
    /// its event is on its way, or its order comes again.
    fn may_still_be_told(&self, log: &Migration) -> bool {
        match &log.phase {
            Phase::Doing(step, _) => {
                log.run == self.run
                    && !self.back
                    && self.forth <= place_of(*step) + 1
                    && self.given_out() <= log.revision
            }
            Phase::Planned { .. }
            | Phase::Held { .. }
            | Phase::Undoing(..)
            | Phase::Rehearsing(..)
            | Phase::Settling(_)
            | Phase::Parked { .. }
            | Phase::RolledBack
            | Phase::Rehearsed
            | Phase::Completed(_)
            | Phase::ExpiryFailed
            | Phase::Expired => false,
        }
    }

    /// What a place tells of this step.
    fn told(&self, step: Step) -> Option<Event> {
        let mut told = self.sightings.iter().flat_map(|sighting| &sighting.tells);
        told.find(|event| crate::steps::step_of(event) == Some(step)).cloned()
    }

    /// That it is brought back, as the old source's ledger tells: it was set aside for that.
    fn bring_back(&self) -> Option<Event> {
        let mut told = self.sightings.iter().flat_map(|sighting| &sighting.tells);
        told.find(|event| matches!(event, Event::BringBackRequested(_))).cloned()
    }

    fn known<T>(&self, of: impl Fn(&Job) -> Option<T>) -> Option<T> {
        self.sightings.iter().find_map(|sighting| of(sighting.order.as_ref()?))
    }

    /// The event of a step that was done; none where what it found is known nowhere, and the step
    /// is to be done again.
    fn event(&self, step: Forward) -> Option<Event> {
        if let Some(event) = self.told(step.step()) {
            return Some(event);
        }
        let dump = || self.known(|job| job.dump.clone());
        Some(match step {
            Forward::Freeze => Event::SourceFrozen(self.known(|job| job.frozen.clone())?),
            Forward::Dump => Event::DumpStored(dump()?),
            Forward::Import => {
                let v1::DumpStored { tables, dump_bytes, .. } = dump()?;
                Event::ImportCompleted(v1::ImportCompleted { tables, dump_bytes })
            }
            Forward::Verify => {
                let v1::DumpStored { tables, rows, .. } = dump()?;
                Event::CopyVerified(v1::CopyVerified { tables, rows })
            }
            Forward::Disarm => Event::SourceDisarmed(v1::SourceDisarmed::default()),
            Forward::Open => Event::DestinationOpened(self.known(|job| job.opened)?),
            Forward::Switch => Event::DnsSwitched(self.known(|job| job.switched.clone())?),
            Forward::Retire => Event::SourceRetired(v1::SourceRetired::default()),
            Forward::Publish => Event::DumpPublished(self.known(|job| job.published.clone())?),
            Forward::Announce => Event::CustomerNotified(v1::CustomerNotified::default()),
            Forward::Expire => Event::DumpExpired(v1::DumpExpired {}),
        })
    }
}

/// How many steps are done as far as an order knows.
fn known_of(order: &Job) -> usize {
    let known = [
        (order.frozen.is_some(), Forward::Freeze),
        (order.dump.is_some(), Forward::Dump),
        (order.opened.is_some(), Forward::Open),
        (order.switched.is_some(), Forward::Switch),
        (order.published.is_some(), Forward::Publish),
    ];
    let done = known.into_iter().filter(|(known, _)| *known).map(|(_, step)| place_of(step) + 1);
    done.max().unwrap_or(0)
}

/// The facts that the log has lost, in order; `by` stands in those that are a person's word.
pub fn missing(log: Option<&Migration>, sightings: &[Sighting], by: &str) -> Vec<Event> {
    let mut missing = Vec::new();
    let Some(shown) = Shown::of(sightings) else { return missing };
    let mut state = match log {
        Some(log) if shown.may_still_be_told(log) => return missing,
        Some(log) => log.clone(),
        None => {
            let Some(planned) = sightings.iter().find_map(Sighting::planned) else {
                return missing;
            };
            let event = Event::MigrationPlanned(planned.clone());
            let Ok(begun) = Migration::begin(fact(1, event.clone())) else { return missing };
            missing.push(event);
            begun
        }
    };
    while missing.len() < MISSING_MAX
        && let Some(event) = next(&state, &shown, by)
    {
        if state.evolve(fact(state.revision + 1, event.clone())).is_err() {
            break;
        }
        missing.push(event);
    }
    if missing.is_empty()
        && let Some(event) = nudge(&state, &shown)
    {
        missing.push(event);
    }
    missing
}

/// A fact that changes nothing but the revision: the next order is to be above what was given out.
fn nudge(state: &Migration, shown: &Shown<'_>) -> Option<Event> {
    let Wait::Job { step, .. } = state.wait() else { return None };
    // What is complete waits for its dump's end only, which no ledger knows of.
    if is_complete(&state.phase) {
        return None;
    }
    let what = "the log had lost its end; the step is done again";
    let again = v1::StepFailed {
        transient: true,
        next_attempt_at_unix_ms: 1,
        ..failure(step, Code::LogBehind, what)
    };
    (shown.given_out() > state.revision).then_some(Event::StepFailed(again))
}

fn failure(step: Step, code: Code, what: &str) -> v1::StepFailed {
    let failure = drover_schemas::Failure::new(code, what);
    v1::StepFailed {
        step: step.into(),
        attempt: 1,
        code: failure.code.to_string(),
        signature: signature::of(&failure),
        message: failure.message,
        transient: false,
        next_attempt_at_unix_ms: 0,
        host: String::new(),
    }
}

/// Whether the log lacks something that was done.
pub fn is_behind(log: Option<&Migration>, sightings: &[Sighting]) -> bool {
    !missing(log, sightings, "").is_empty()
}

fn fact(revision: u64, event: Event) -> Fact {
    Fact { revision, at_unix_ms: 0, event }
}

fn next(state: &Migration, shown: &Shown<'_>, by: &str) -> Option<Event> {
    match state.run.cmp(&shown.run) {
        std::cmp::Ordering::Less => to_next_run(state, by),
        std::cmp::Ordering::Equal if state.run > 0 => within_run(state, shown, by),
        std::cmp::Ordering::Equal | std::cmp::Ordering::Greater => None,
    }
}

/// The log's run has ended, and another was begun since.
fn to_next_run(state: &Migration, by: &str) -> Option<Event> {
    match &state.phase {
        Phase::Planned { .. } => state.decide(Command::Admit).ok(),
        // It was begun, so it had been released.
        Phase::Held { .. } => Some(Event::MigrationChecked(v1::MigrationChecked::default())),
        Phase::Doing(step, _) => Some(ended(*step, by)),
        Phase::Undoing(undo, ..) => Some(match undo {
            Undo::Revert => Event::DnsReverted(v1::DnsReverted::default()),
            Undo::Close => Event::DestinationClosed(v1::DestinationClosed::default()),
            Undo::Drop => Event::DestinationDropped(v1::DestinationDropped {}),
            Undo::Thaw => Event::SourceThawed(v1::SourceThawed::default()),
        }),
        Phase::Rehearsing(rehearsal, _) => Some(match rehearsal {
            Rehearsal::Dump | Rehearsal::Import | Rehearsal::Verify => undone(rehearsal.step()),
            Rehearsal::Drop(_) => Event::DestinationDropped(v1::DestinationDropped {}),
            Rehearsal::Sweep(_) => Event::DumpExpired(v1::DumpExpired {}),
        }),
        Phase::Settling(_) => state.decide(Command::Settle).ok(),
        Phase::Parked { undone: true, .. } | Phase::RolledBack | Phase::Rehearsed => retry(by),
        Phase::Parked { at: At::Undo(..) | At::Rehearsal(_), undone: false } => retry(by),
        Phase::Parked { at: At::Forward(_), undone: false }
        | Phase::Completed(_)
        | Phase::ExpiryFailed
        | Phase::Expired => roll_back(by),
    }
}

fn within_run(state: &Migration, shown: &Shown<'_>, by: &str) -> Option<Event> {
    let refused = state.failure.as_ref().is_some_and(log_is_behind);
    if state.brought_back.is_none()
        && after_bring_back(&state.phase).is_some()
        && let Some(asked) = shown.bring_back()
    {
        return Some(asked);
    }
    match &state.phase {
        // What it found is known nowhere: it is done again, unless it was being undone.
        Phase::Doing(step, _) if place_of(*step) < shown.forth => {
            shown.event(*step).or_else(|| shown.back.then(|| ended(*step, by)))
        }
        Phase::Doing(step, _) if shown.back => Some(ended(*step, by)),
        Phase::Settling(Settlement::Park { undone: false, .. }) if refused => {
            state.decide(Command::Settle).ok()
        }
        Phase::Parked { undone: false, .. } if refused => retry(by),
        // What a person had rolled back behind the switch.
        Phase::Completed(_)
        | Phase::ExpiryFailed
        | Phase::Expired
        | Phase::Settling(Settlement::Complete | Settlement::Park { at: At::Forward(_), .. })
        | Phase::Parked { at: At::Forward(_), undone: false }
            if shown.back =>
        {
            roll_back(by)
        }
        Phase::Planned { .. }
        | Phase::Held { .. }
        | Phase::Doing(..)
        | Phase::Undoing(..)
        | Phase::Rehearsing(..)
        | Phase::Settling(_)
        | Phase::Parked { .. }
        | Phase::RolledBack
        | Phase::Rehearsed
        | Phase::Completed(_)
        | Phase::ExpiryFailed
        | Phase::Expired => None,
    }
}

/// What ended a run at this step: the log does not know.
fn ended(step: Forward, by: &str) -> Event {
    if !step.is_undone_by_itself() {
        return Event::RollbackRequested(v1::RollbackRequested {
            by: by.to_owned(),
            reason: "it was being rolled back when the log lost its end".to_owned(),
            discard_writes: false,
        });
    }
    undone(step.step())
}

/// A step that was undone; the log does not know why.
fn undone(step: Step) -> Event {
    let what = "the servers show that it was being undone; the log has lost why";
    Event::StepFailed(failure(step, Code::UndoneUnseen, what))
}

#[allow(clippy::unnecessary_wraps, reason = "as the other arms give it")]
fn retry(by: &str) -> Option<Event> {
    Some(Event::RetryRequested(v1::RetryRequested { by: by.to_owned() }))
}

#[allow(clippy::unnecessary_wraps, reason = "as the other arms give it")]
fn roll_back(by: &str) -> Option<Event> {
    Some(Event::RollbackRequested(v1::RollbackRequested {
        by: by.to_owned(),
        reason: "it was rolled back when the log lost its end".to_owned(),
        discard_writes: false,
    }))
}

/// What stands out of its customer's reach, or copied, without a migration that is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Orphan {
    /// A source that is frozen or retired.
    Frozen,
    /// A copy that nobody waits for.
    Copy,
    /// Nothing at all, where the log says that there is something.
    EffectMissing,
}

/// What a ledger shows that the log explains by nothing; `state` is none where it has no row.
pub fn orphan(log: &Migration, is_source: bool, state: Option<State>) -> Option<Orphan> {
    let waits = matches!(log.phase, Phase::Planned { .. } | Phase::Held { .. });
    let at_rest = waits || log.phase.is_undone();
    let reached = match &log.phase {
        Phase::Doing(step, _) | Phase::Parked { at: At::Forward(step), undone: false } => {
            place_of(*step)
        }
        Phase::Completed(_) | Phase::ExpiryFailed => place_of(Forward::Expire),
        Phase::Planned { .. }
        | Phase::Held { .. }
        | Phase::Undoing(..)
        | Phase::Rehearsing(..)
        | Phase::Settling(_)
        | Phase::Parked { .. }
        | Phase::RolledBack
        | Phase::Rehearsed
        | Phase::Expired => 0,
    };
    let needed = place_of(if is_source { Forward::Freeze } else { Forward::Import });
    match state {
        None => (reached > needed).then_some(Orphan::EffectMissing),
        Some(
            State::Freezing
            | State::Frozen
            | State::Disarmed
            | State::Lapsing
            | State::Retiring
            | State::Retired
            | State::Aside,
        ) => at_rest.then_some(Orphan::Frozen),
        // A copy that was switched to is kept, closed, by a rollback.
        Some(State::Importing | State::Imported | State::Opening | State::Open) => {
            at_rest.then_some(Orphan::Copy)
        }
        Some(State::Thawing | State::Thawed) => (reached > needed).then_some(Orphan::EffectMissing),
        Some(State::Lapsed | State::Closing | State::Closed | State::Dropping | State::Dropped) => {
            None
        }
    }
}
