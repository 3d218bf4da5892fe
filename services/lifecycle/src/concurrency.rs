//! `--max-in-flight auto`: finds how many migrations in flight are best, between a floor and a
//! ceiling.
//!
//! After TCP Vegas (Brakmo and Peterson, 1995), as Netflix's concurrency-limits uses it for
//! servers. Past a fleet's knee more in flight only queue: by Little's law each takes longer in
//! proportion, and of `limit` in flight `limit × (1 - baseline / latency)` stand in queues, where
//! `baseline` is the latency without any. That many are to be a small share of the limit: none
//! would leave servers idle between two migrations, and more are customers who wait frozen. AIMD
//! on failures alone would find the knee only by breaking promises; a search for the highest
//! throughput must cross the knee again and again to see it.
//!
//! 1. The latency is that of the steps whose work is the same for every database: disarming the
//!    source and opening the destination. That of the whole way tells of the databases' sizes, which
//!    differ by orders of magnitude, and not of the servers. It is the geometric mean over a window.
//! 2. Servers may become slower for good, and then the baseline is of the past: each time that less
//!    in flight did not make it faster, what remains was no queue, and becomes the baseline.
//! 3. From time to time the limit goes down for a window by itself, to see that; Vegas calls it a
//!    probe.
//! 4. Where many fail, the limit goes down whatever the latency.
//! 5. A limit that is not used says nothing about more: it does not grow then.
//! 6. What a window shows is uncertain by its standard error, and what lies within that is no queue:
//!    a large campaign so stays closer to its knee than a small one, which cannot see it.
//! 7. Until it has shrunk once it grows as long as it need not shrink (Vegas's slow start), so that
//!    an unlucky first window does not hold it at the floor.

/// The shortest window, in milliseconds.
pub const WINDOW_MS_MIN: i64 = 10_000;
/// The longest window: after it what there is must do, if it is anything, in milliseconds.
const WINDOW_MS_MAX: i64 = 60_000;
/// How many migrations a window has before its latency is judged.
const SAMPLES_MIN: u32 = 150;
/// How many it has before it can show that many fail.
const FAILING_MIN: u32 = 60;
/// Below this share of the limit in queues, and what cannot be told from it, it grows.
const QUEUED_LOW: f64 = 0.01;
/// Above this share, and what cannot be told from it, it shrinks.
const QUEUED_HIGH: f64 = 0.07;
/// To this share it shrinks.
const QUEUED_AIM: f64 = 0.03;
/// How many standard errors of a window cannot be told from what it shows.
const ERRORS: f64 = 1.5;
/// How far it grows in one window, as a factor: near the knee, and where it has grown in each of the
/// last windows, or never shrunk, so that the knee is far.
const GROWTH: [f64; 2] = [1.05, 1.2];
/// How many windows of growth make the knee far.
const GROWN_FAR: u32 = 3;
/// How far it shrinks at most in one window, as a factor.
const SHRINKING_MAX: f64 = 0.5;
/// How far it goes down where many fail, and for a probe, as a factor.
const BACK_OFF: f64 = 0.75;
/// Windows from one probe to the next.
const PROBE_EVERY: u32 = 15;
/// The share of failures above which it backs off.
const FAILED_MAX: f64 = 0.2;
/// How much of a new window's latency is taken into the smoothed one.
const SMOOTHING: f64 = 0.6;
/// How much of a lower latency the baseline takes on: it is noisy, and the lowest of many is luck.
const LOWERING: f64 = 0.2;
/// How much of a higher latency the baseline takes on after a decrease that did not help.
const RELEARN: f64 = 0.5;
/// Over the limit by this factor or less, what was lowered has come about.
const DRAINED: f64 = 1.08;
/// A latency of this share of the one before has not moved.
const UNMOVED: f64 = 0.93;
/// Changes of a smaller share are not worth an event.
const CHANGE_MIN: f64 = 0.03;

/// Between what the controller moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// At least so many.
    pub floor: u32,
    /// Never more.
    pub ceiling: u32,
}

/// A new limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Migrations in flight.
    pub in_flight_max: u32,
    /// Why, in words with the numbers that led to it.
    pub reason: String,
}

/// What was seen since the last decision.
#[derive(Debug, Clone, Copy, Default)]
struct Window {
    since_unix_ms: Option<i64>,
    samples: u32,
    sum_ln_ms: f64,
    sum_ln_ms_squared: f64,
    failed: u32,
}

impl Window {
    /// The mean of the latencies' logarithms, and its standard error. `samples` is not 0.
    fn ln_ms(&self) -> (f64, f64) {
        let samples = f64::from(self.samples);
        let mean = self.sum_ln_ms / samples;
        let variance = (self.sum_ln_ms_squared / samples - mean * mean).max(0.0);
        (mean, (variance / samples).sqrt())
    }
}

/// What the last decision was.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Last {
    /// Nothing that the next window could tell from.
    Steady,
    /// Down by this factor, at this latency.
    Lowered { factor: f64, latency_ms: f64 },
    /// For one window, from this limit, at this latency.
    Probing { from: f64, latency_ms: f64 },
}

/// The controller of one campaign.
#[derive(Debug, Clone)]
pub struct Controller {
    limit: f64,
    window: Window,
    latency_ms: Option<f64>,
    baseline_ms: Option<f64>,
    last: Last,
    to_probe: u32,
    /// For how many windows it has grown.
    grown: u32,
    /// It has shrunk before: the knee was seen.
    has_shrunk: bool,
    /// The limit was lowered, and more is in flight.
    drains: bool,
}

impl Controller {
    /// From this limit on.
    pub fn new(in_flight_max: u32) -> Self {
        Self {
            limit: f64::from(in_flight_max.max(1)),
            window: Window::default(),
            latency_ms: None,
            baseline_ms: None,
            last: Last::Steady,
            to_probe: PROBE_EVERY,
            grown: GROWN_FAR,
            has_shrunk: false,
            drains: false,
        }
    }

    /// A migration was opened, and its steps of the same work took so long; or one failed, which
    /// is none.
    pub fn take(&mut self, now_unix_ms: i64, steps_ms: Option<i64>) {
        self.window.since_unix_ms.get_or_insert(now_unix_ms);
        match steps_ms {
            Some(ms) => {
                self.window.samples += 1;
                let ln_ms = (ms.max(1) as f64).ln();
                self.window.sum_ln_ms += ln_ms;
                self.window.sum_ln_ms_squared += ln_ms * ln_ms;
            }
            None => self.window.failed += 1,
        }
    }

    /// The limit from now on, where it is another than the present one. `in_flight` is how many are.
    pub fn decide(
        &mut self,
        range: Range,
        now_unix_ms: i64,
        in_flight: u32,
        in_flight_max: u32,
    ) -> Option<Change> {
        if self.whole(range) != in_flight_max {
            // Somebody else has set it, or the range is another.
            self.limit = f64::from(in_flight_max);
            let into = self.whole(range);
            let reason = format!("to between {} and {}", range.floor, range.ceiling);
            return (into != in_flight_max).then_some(Change { in_flight_max: into, reason });
        }
        let before = in_flight_max;
        if let Some(reason) = self.judge(range, now_unix_ms, in_flight) {
            let after = self.whole(range);
            let moved = f64::from(after.abs_diff(before));
            self.drains = after < before;
            if after != before && moved >= CHANGE_MIN * f64::from(before) {
                return Some(Change { in_flight_max: after, reason });
            }
            // Too little for an event: it stands as it is in the log.
            self.limit = f64::from(before);
        }
        None
    }

    fn whole(&self, range: Range) -> u32 {
        (self.limit.round() as u32).clamp(range.floor, range.ceiling.max(range.floor))
    }

    fn judge(&mut self, range: Range, now_unix_ms: i64, in_flight: u32) -> Option<String> {
        let window = self.window;
        let Window { since_unix_ms, samples, failed, .. } = window;
        let age_ms = now_unix_ms.saturating_sub(since_unix_ms?);
        let failing = f64::from(failed) / f64::from((samples + failed).max(1));
        let enough = if failing > FAILED_MAX { FAILING_MIN } else { SAMPLES_MIN };
        let whole = samples + failed >= enough && age_ms >= WINDOW_MS_MIN;
        if !whole && age_ms < WINDOW_MS_MAX {
            return None;
        }
        self.window = Window::default();
        if self.drains && f64::from(in_flight) > DRAINED * self.limit {
            // What is seen is still of the higher limit.
            return None;
        }
        self.drains = false;
        let (floor, ceiling) = (f64::from(range.floor), f64::from(range.ceiling));
        if failing > FAILED_MAX {
            self.last = Last::Steady;
            self.limit = (self.limit * BACK_OFF).max(floor);
            return Some(format!("{:.0} % failed", 100.0 * failing));
        }
        if samples == 0 {
            return None;
        }
        let (seen_ln_ms, error) = window.ln_ms();
        let seen_ms = seen_ln_ms.exp();
        let latency_ms = match self.latency_ms {
            Some(before) => before.powf(1.0 - SMOOTHING) * seen_ms.powf(SMOOTHING),
            None => seen_ms,
        };
        self.latency_ms = Some(latency_ms);
        let baseline_ms = self.learn(latency_ms);
        let queued = (1.0 - baseline_ms / latency_ms).max(0.0);
        let reason = format!(
            "disarm and open take {latency_ms:.0} ms, {baseline_ms:.0} ms without a queue: {:.0} % \
             queued",
            100.0 * queued
        );
        self.step(queued, ERRORS * error, in_flight).map(|word| {
            self.limit = self.limit.clamp(floor, ceiling.max(floor));
            format!("{reason}; {word}")
        })
    }

    /// The latency without a queue, after this one was seen.
    fn learn(&mut self, latency_ms: f64) -> f64 {
        let mut baseline_ms = self.baseline_ms.unwrap_or(latency_ms);
        if latency_ms < baseline_ms {
            baseline_ms = baseline_ms.powf(1.0 - LOWERING) * latency_ms.powf(LOWERING);
        }
        let lowered = match self.last {
            Last::Steady => None,
            Last::Lowered { factor, latency_ms } => Some((factor, latency_ms)),
            Last::Probing { latency_ms, .. } => Some((BACK_OFF, latency_ms)),
        };
        if let Some((factor, before)) = lowered {
            // A queue would have become shorter: what is left of it is none.
            let expected = before * factor.max(baseline_ms / before);
            if latency_ms > expected.midpoint(before).max(UNMOVED * before) {
                baseline_ms = baseline_ms.powf(1.0 - RELEARN) * latency_ms.powf(RELEARN);
            }
        }
        self.baseline_ms = Some(baseline_ms);
        baseline_ms
    }

    fn step(&mut self, queued: f64, untold: f64, in_flight: u32) -> Option<&'static str> {
        if let Last::Probing { from, .. } = self.last {
            self.last = Last::Steady;
            self.limit = from;
            return Some("back from a probe");
        }
        if queued > QUEUED_HIGH + untold {
            let factor = ((1.0 - queued) / (1.0 - QUEUED_AIM)).max(SHRINKING_MAX);
            let latency_ms = self.latency_ms.unwrap_or_default();
            self.last = Last::Lowered { factor, latency_ms };
            self.limit *= factor;
            self.grown = 0;
            self.has_shrunk = true;
            return Some("fewer");
        }
        self.last = Last::Steady;
        self.to_probe = self.to_probe.saturating_sub(1);
        let low = if self.has_shrunk { QUEUED_LOW } else { QUEUED_HIGH };
        if queued < low + untold && f64::from(in_flight) >= 0.9 * self.limit.floor() {
            let growth = GROWTH[usize::from(self.grown >= GROWN_FAR)];
            self.grown = self.grown.saturating_add(1);
            self.limit = (self.limit * growth).max(self.limit + 1.0);
            return Some("more");
        }
        self.grown = 0;
        if self.to_probe == 0 {
            self.to_probe = PROBE_EVERY;
            let latency_ms = self.latency_ms.unwrap_or_default();
            self.last = Last::Probing { from: self.limit, latency_ms };
            self.limit *= BACK_OFF;
            return Some("fewer for a moment, as a probe");
        }
        None
    }
}
