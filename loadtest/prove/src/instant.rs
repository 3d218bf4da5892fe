//! Everything at one instant, and what can become of it.
//!
//! Two instants are the same when nothing that may come can tell them apart:
//!
//! - what a migration has become counts, not by which facts; of the log itself only the end is
//!   kept that can still be lost;
//! - of revisions only the order counts, as nothing reckons with them;
//! - an order that can neither be appended to nor act any more is forgotten.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use drover_lifecycle::{
    At, Command, Fact, Forward, Goal, Migration, Phase, Settlement, Undo, Wait, conclude,
    onward::{onward, step_after},
    steps::step_of,
};
use drover_schemas::{
    CampaignName, Code, Failure, MigrationId,
    envelope::migration_kind,
    v1::{Job, MigrationPlanned, Policy, RetryPolicy, Step, migration_event::Event},
};
use prost::Message;

use crate::{Action, Drover, Without, World};

/// More steps than any life has in which nothing goes wrong.
const CALM_STEPS_MAX: usize = 120;

/// Any time: nothing in the model waits.
const NOW_MS: i64 = 1;

/// An event that a service has found, and on which revision.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Found {
    pub(crate) revision: u64,
    pub(crate) event: Event,
}

/// A job that was ordered.
#[derive(Debug, Clone, PartialEq)]
struct Ordered {
    job: Arc<Job>,
    /// Stands for all of it but the revision.
    content: u64,
}

/// Everything at one instant.
#[derive(Debug, Clone, PartialEq)]
pub struct Instant {
    /// What the log can still fall back to, the oldest first.
    before: Vec<Migration>,
    pub(crate) migration: Migration,
    jobs: Vec<Ordered>,
    pub(crate) found: Vec<Found>,
    pub(crate) world: World,
    pub(crate) mishaps: u8,
    pub(crate) losses: u8,
    /// The last fact's number, also of those that were lost.
    highest: u64,
}

impl Eq for Instant {}

impl Hash for Instant {
    fn hash<H: Hasher>(&self, to: &mut H) {
        let Self { before, migration, jobs, found, world, mishaps, losses, highest } = self;
        let mut revisions = vec![*highest];
        revisions.extend(self.states().map(|state| state.revision));
        revisions.extend(jobs.iter().map(|ordered| ordered.job.revision));
        revisions.extend(found.iter().map(|found| found.revision));
        world.map_revisions(|revision| {
            revisions.push(revision);
            revision
        });
        revisions.sort_unstable();
        revisions.dedup();
        let place = |revision: u64| match revisions.binary_search(&revision) {
            Ok(place) | Err(place) => place as u64,
        };

        for state in self.states() {
            place(state.revision).hash(to);
            hash_migration(state, to);
        }
        for ordered in jobs {
            (place(ordered.job.revision), ordered.content).hash(to);
        }
        for found in found {
            place(found.revision).hash(to);
            encoded(&found.event).hash(to);
        }
        (before.len(), jobs.len(), found.len(), migration.run, mishaps, losses).hash(to);
        (world.map_revisions(place), place(*highest)).hash(to);
    }
}

/// All that a migration's future depends on, but its revision.
fn hash_migration(migration: &Migration, to: &mut impl Hasher) {
    let Migration {
        revision: _,
        // The model has no time, one inventory row, and no other migration that brings this one back:
        // that is done to one at rest, which takes no order from then on.
        at_unix_ms: _,
        brought_back: _,
        planned: _,
        phase,
        run,
        frozen,
        dump,
        opened,
        destination_shut,
        switched,
        published,
        rollback,
        failure,
        deferred,
    } = migration;
    (phase, run, destination_shut, rollback).hash(to);
    hash_message(frozen.as_ref(), to);
    hash_message(dump.as_ref(), to);
    hash_message(opened.as_ref(), to);
    hash_message(switched.as_ref(), to);
    hash_message(published.as_ref(), to);
    hash_message(failure.as_ref(), to);
    hash_message(deferred.as_ref(), to);
}

fn hash_message(message: Option<&impl Message>, to: &mut impl Hasher) {
    message.map(Message::encode_to_vec).hash(to);
}

impl Instant {
    pub(crate) fn first(rehearsal: bool) -> Option<Self> {
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
            before: Vec::new(),
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

    /// An action here in words: which job, which event, and where the migration stands.
    pub fn tell(&self, action: Action) -> String {
        let job = |n: usize| {
            self.jobs().nth(n).map(|job| format!("{:?} on {}", job.step(), job.revision))
        };
        let object = match action {
            Action::Work(n) | Action::Die(n) => job(n),
            Action::Append(n) => self
                .found
                .get(n)
                .map(|found| format!("{} on {}", migration_kind(&found.event), found.revision)),
            _ => None,
        };
        let Migration { phase, revision, .. } = &self.migration;
        format!("{action:?} {} when {phase:?} at {revision}", object.unwrap_or_default())
    }

    /// The jobs that were ordered and may still do something, the oldest first.
    pub(crate) fn jobs(&self) -> impl ExactSizeIterator<Item = &Job> {
        self.jobs.iter().map(|ordered| ordered.job.as_ref())
    }

    /// What the migration was at the log's end, and is.
    fn states(&self) -> impl Iterator<Item = &Migration> {
        self.before.iter().chain([&self.migration])
    }

    /// The job that the migration waits for.
    fn job(&self) -> Option<Job> {
        Self::job_of(&self.migration)
    }

    fn job_of(migration: &Migration) -> Option<Job> {
        let campaign: CampaignName = "night".parse().ok()?;
        let id = MigrationId::new(&campaign, &"a".parse().ok()?, "db");
        let retry = RetryPolicy { attempts_max: 2, backoff_base_ms: 1, backoff_max_ms: 1 };
        let policy = Policy { retry: Some(retry), max_frozen_ms: 1, ..Policy::default() };
        migration.job(&campaign, id, &policy, NOW_MS)
    }

    /// Appends, if the log still ends there; a fact that is not allowed is set aside.
    pub(crate) fn append(&mut self, on: u64, event: Event, model: &Drover) -> bool {
        let without = model.without;
        if on != self.migration.revision && without != Without::Revisions {
            return false;
        }
        let goes_on = step_of(&event).is_some_and(|step| step_after(step).is_some());
        let fact = Fact { revision: self.highest + 1, at_unix_ms: NOW_MS, event };
        let led_to = goes_on.then(|| fact.clone());
        let before = self.migration.clone();
        if self.migration.evolve(fact).is_err() {
            return false;
        }
        self.highest += 1;
        let done = Self::job_of(&before);
        if let Some((job, fact)) = done.zip(led_to)
            && let Some(next) = onward(&job, fact, NOW_MS)
        {
            self.world.went_astray |= self.job() != Some(next);
        }
        if without == Without::UndoOfTheStep {
            self.migration.phase = begin_undo_too_late(before.phase, self.migration.phase);
        }
        self.before.push(before);
        self.forget(model);
        true
    }

    /// Forgets what can have no consequence any more.
    pub(crate) fn forget(&mut self, model: &Drover) {
        let can_be_lost =
            if self.losses < model.bounds.losses { model.bounds.lost_facts_max } else { 0 };
        self.before.drain(..self.before.len().saturating_sub(can_be_lost));
        if model.without == Without::Revisions {
            return;
        }
        // On another revision nothing is appended, unless the log falls back to it; then it can be
        // found once more.
        let revision = self.migration.revision;
        self.found.retain(|found| found.revision >= revision);
        let oldest = self.states().map(|state| state.revision).min().unwrap_or(revision);
        let (world, without) = (&self.world, model.without);
        self.jobs.retain(|ordered| {
            ordered.job.revision >= oldest || !world.is_past(&ordered.job, without)
        });
    }

    pub(crate) fn command(&mut self, command: Command, model: &Drover) -> bool {
        match self.migration.decide(command) {
            Ok(event) => self.append(self.migration.revision, event, model),
            Err(_) => false,
        }
    }

    pub(crate) fn order(&mut self) -> bool {
        let Some(job) = self.job() else { return false };
        let known = self.jobs().any(|known| known.revision == job.revision);
        if !known {
            let mut hasher = DefaultHasher::new();
            Job { revision: 0, ..job.clone() }.encode_to_vec().hash(&mut hasher);
            self.jobs.push(Ordered { job: Arc::new(job), content: hasher.finish() });
        }
        !known
    }

    pub(crate) fn work(&mut self, n: usize, dies: bool, model: &Drover) -> bool {
        let Some(ordered) = self.jobs.get(n) else { return false };
        let (job, without) = (Arc::clone(&ordered.job), model.without);
        let before = self.world.clone();
        let outcome = self.world.work(&job, dies, without);
        let mut changed = self.world != before;
        if !dies {
            let found = Found { revision: job.revision, event: conclude(&job, outcome, 1, 0.0) };
            let can_be_appended =
                found.revision >= self.migration.revision || without == Without::Revisions;
            if can_be_appended && !self.found.contains(&found) {
                changed = true;
                self.found.push(found);
                self.found.sort_by_key(|found| (found.revision, encoded(&found.event)));
            }
        }
        if changed {
            self.forget(model);
        }
        changed
    }

    pub(crate) fn fail(&mut self, transient: bool, model: &Drover) -> bool {
        let Some(job) = self.job().filter(|job| self.jobs().any(|ordered| ordered == job)) else {
            return false;
        };
        let back = Undo::ALL.map(Undo::step).contains(&job.step()) || job.step() == Step::Expire;
        if back && !transient {
            return false;
        }
        let code = if transient { Code::ServerFailed } else { Code::ServerRefused };
        let event = conclude(&job, Err(Failure::new(code, "as it happens")), 1, 0.0);
        self.append(job.revision, event, model)
    }

    pub(crate) fn lose(&mut self, facts: usize, reuse: bool, model: &Drover) -> bool {
        let Some(left) = self.before.len().checked_sub(facts) else { return false };
        let Some(state) = self.before.drain(left..).next() else { return false };
        self.migration = state;
        if reuse {
            self.highest = self.migration.revision;
        }
        self.losses += 1;
        self.forget(model);
        true
    }

    /// From here on nothing goes wrong: how it ends; none when it does not.
    pub(crate) fn calm(&self, model: &Drover) -> Option<Self> {
        let mut then = self.clone();
        for _ in 0..CALM_STEPS_MAX {
            match then.migration.wait() {
                Wait::Admission { .. } => {
                    then.command(Command::Admit, model);
                }
                Wait::Settlement => {
                    then.command(Command::Settle, model);
                }
                Wait::Job { .. } => {
                    let job = then.job()?;
                    let outcome = then.world.work(&job, false, model.without);
                    let event = conclude(&job, outcome, 1, 0.0);
                    then.append(job.revision, event, model);
                }
                Wait::Findings | Wait::Person | Wait::Nothing => return Some(then),
            }
        }
        None
    }

    /// Whether the customer is as if nothing had been done.
    pub(crate) fn is_untouched(&self) -> bool {
        let World { source, source_writes, destination_writes, switched, mark, .. } = self.world;
        source.is_none() && source_writes && !destination_writes && !switched && mark.is_none()
    }

    /// Whether a migration that has come to rest leaves its customer where they should be.
    pub(crate) fn is_in_order(&self) -> bool {
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

fn encoded(event: &Event) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(event.encoded_len());
    event.encode(&mut bytes);
    bytes
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
