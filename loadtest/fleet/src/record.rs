//! What is measured while the fleet works: the hand-offs, and the time that databases stay frozen.
//!
//! A step's end is taken when its work ends, before its event is appended: so a hand-off is the
//! whole way from there over the log, the orchestrator and the queue to the start of the next
//! step's work.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use drover_lifecycle::{Forward, onward::step_after};
use drover_schemas::v1::{Job, Step};
use prost::Message as _;
use uuid::Uuid;

/// How often a step is tried in the model's campaigns.
pub const ATTEMPTS_MAX: u32 = 5;

/// The measurements of one campaign.
#[derive(Debug, Default)]
pub struct Record {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    way: HashMap<String, Way>,
    handoffs_us: Vec<u32>,
    /// In thousandths.
    frozen_ratios: Vec<u32>,
    frozen_ms: Vec<u32>,
    /// When each was opened, and how long it was frozen where none of its steps had failed.
    opened: Vec<(Instant, Option<u32>)>,
    steps: u64,
    failures: u64,
    newest_order_unix_ms: i64,
    ended: HashSet<Uuid>,
    jobs: u64,
    jobs_bytes: u64,
}

/// One migration on its way.
#[derive(Debug)]
struct Way {
    last_end: Instant,
    frozen_at: Option<Instant>,
    own: Duration,
    /// A retry's backoff is in it: it says nothing about queueing.
    has_failed: bool,
}

/// What a campaign came to.
#[derive(Debug, Clone, Default)]
pub struct Summary {
    /// Steps that were done.
    pub steps: u64,
    /// Attempts that failed.
    pub failures: u64,
    /// How large an order was, in bytes, on average.
    pub job_bytes: u64,
    /// From a step's end to the start of the next one's work, in ms: median and p99.
    pub handoff_ms: [f64; 2],
    /// The time frozen against the own times of the steps in it: median and p99.
    pub frozen_ratio: [f64; 2],
    /// The time frozen, in ms: median and p99.
    pub frozen_ms: [f64; 2],
}

/// What came to pass between two moments.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Span {
    /// Databases opened, a second.
    pub per_second: f64,
    /// The time they had been frozen, in ms: median and p99.
    pub frozen_ms: [f64; 2],
}

/// Whether a step is begun on an orchestrator's word, and not gone on with by who did the one before.
fn is_ordered(step: Step) -> bool {
    Forward::ALL.iter().all(|before| step_after(before.step()) != Some(step))
}

impl Record {
    /// A step's work begins.
    pub fn begin(&self, job: &Job) -> Instant {
        let now = Instant::now();
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if is_ordered(job.step()) {
            inner.newest_order_unix_ms = inner.newest_order_unix_ms.max(job.issued_at_unix_ms);
            inner.jobs += 1;
            inner.jobs_bytes += job.encoded_len() as u64;
        }
        let waited = inner.way.get(&job.migration_id).map(|way| now - way.last_end);
        if job.attempt == 1
            && let Some(waited) = waited
        {
            inner.handoffs_us.push(u32::try_from(waited.as_micros()).unwrap_or(u32::MAX));
        }
        now
    }

    /// A step's work has ended. `own` is the time that it takes by the model.
    pub fn end(&self, job: &Job, begun: Instant, own: Duration, is_done: bool) {
        let now = Instant::now();
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if !is_done {
            inner.failures += 1;
            if let Some(way) = inner.way.get_mut(&job.migration_id) {
                way.has_failed = true;
                way.last_end = now;
            }
            let is_behind_the_switch =
                matches!(job.step(), Step::Retire | Step::Publish | Step::Announce);
            if is_behind_the_switch && job.attempt >= ATTEMPTS_MAX {
                // It is parked, and nothing undoes it by itself.
                inner.way.remove(&job.migration_id);
                inner.ended.extend(job.migration_id.parse::<Uuid>());
            }
            return;
        }
        inner.steps += 1;
        if matches!(job.step(), Step::Announce | Step::Thaw) {
            inner.way.remove(&job.migration_id);
            inner.ended.extend(job.migration_id.parse::<Uuid>());
            return;
        }
        let fresh =
            || Way { last_end: now, frozen_at: None, own: Duration::ZERO, has_failed: false };
        let way = inner.way.entry(job.migration_id.clone()).or_insert_with(fresh);
        way.last_end = now;
        if job.step() == Step::Freeze {
            *way = Way { frozen_at: Some(begun), ..fresh() };
        }
        way.own += own;
        if job.step() == Step::Open {
            let frozen = way.frozen_at.filter(|_| !way.has_failed).map(|since| now - since);
            let own = way.own.max(Duration::from_micros(1));
            let frozen_ms = frozen.map(|it| u32::try_from(it.as_millis()).unwrap_or(u32::MAX));
            inner.opened.push((now, frozen_ms));
            if let (Some(frozen), Some(frozen_ms)) = (frozen, frozen_ms) {
                inner.frozen_ratios.push((1e3 * frozen.as_secs_f64() / own.as_secs_f64()) as u32);
                inner.frozen_ms.push(frozen_ms);
            }
        }
    }

    /// What came to pass between two moments.
    pub fn between(&self, from: Instant, until: Instant) -> Span {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let opened = inner.opened.iter().filter(|(at, _)| (from..until).contains(at));
        let mut frozen_ms: Vec<u32> = opened.clone().filter_map(|(_, frozen)| *frozen).collect();
        let seconds = (until - from).as_secs_f64();
        let per_second = opened.count() as f64 / seconds.max(f64::MIN_POSITIVE);
        Span { per_second, frozen_ms: quantiles(&mut frozen_ms) }
    }

    /// When the newest order whose step has begun was issued.
    pub fn newest_order_unix_ms(&self) -> i64 {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).newest_order_unix_ms
    }

    /// How many steps have ended well.
    pub fn begun(&self) -> u64 {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).steps
    }

    /// How many migrations were announced, thawed, or given up behind their switch: the end of each, but
    /// for the closing fact.
    pub fn ended(&self) -> u64 {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).ended.len() as u64
    }

    /// Whether a migration was announced, thawed, or given up behind its switch.
    pub fn has_ended(&self, id: Uuid) -> bool {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).ended.contains(&id)
    }

    /// What it has come to.
    pub fn summary(&self) -> Summary {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let inner = &mut *inner;
        Summary {
            steps: inner.steps,
            failures: inner.failures,
            job_bytes: inner.jobs_bytes / inner.jobs.max(1),
            handoff_ms: quantiles(&mut inner.handoffs_us).map(|us| us / 1e3),
            frozen_ratio: quantiles(&mut inner.frozen_ratios).map(|thousandths| thousandths / 1e3),
            frozen_ms: quantiles(&mut inner.frozen_ms),
        }
    }
}

/// The median and the p99; zero of nothing.
fn quantiles(values: &mut [u32]) -> [f64; 2] {
    values.sort_unstable();
    [0.5, 0.99].map(|share| {
        let at = (values.len() as f64 * share) as usize;
        values.get(at.min(values.len().saturating_sub(1))).copied().map_or(0.0, f64::from)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_the_sorted_values() {
        let mut values: Vec<u32> = (1..=100).rev().collect();
        assert_eq!(quantiles(&mut values), [51.0, 100.0]);
        assert_eq!(quantiles(&mut []), [0.0, 0.0]);
    }
}
