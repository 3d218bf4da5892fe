//! What places show of a migration, and how far it came by that.

use drover_schemas::v1::{self, Job, MigrationPlanned, Step, migration_event::Event};

use crate::{Forward, Migration, Phase, ledger::State};

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

pub(super) fn place_of(step: Forward) -> usize {
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
pub(super) struct Shown<'a> {
    pub(super) run: u32,
    pub(super) forth: usize,
    pub(super) back: bool,
    sightings: Vec<&'a Sighting>,
}

impl<'a> Shown<'a> {
    pub(super) fn of(sightings: &'a [Sighting]) -> Option<Self> {
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
    pub(super) fn given_out(&self) -> u64 {
        self.sightings.iter().map(|sighting| sighting.revision).max().unwrap_or(0)
    }

    /// Whether what is shown is no more than the step that the log waits for, begun or done: then
    /// its event is on its way, or its order comes again.
    pub(super) fn may_still_be_told(&self, log: &Migration) -> bool {
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
    pub(super) fn bring_back(&self) -> Option<Event> {
        let mut told = self.sightings.iter().flat_map(|sighting| &sighting.tells);
        told.find(|event| matches!(event, Event::BringBackRequested(_))).cloned()
    }

    pub(super) fn known<T>(&self, of: impl Fn(&Job) -> Option<T>) -> Option<T> {
        self.sightings.iter().find_map(|sighting| of(sighting.order.as_ref()?))
    }

    /// The event of a step that was done; none where what it found is known nowhere, and the step
    /// is to be done again.
    pub(super) fn event(&self, step: Forward) -> Option<Event> {
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
