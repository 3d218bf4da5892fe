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
//!    source and opening the destination; each step's own time, in which nothing is of the bus. That of
//!    the whole way tells of the databases' sizes, which differ by orders of magnitude, and not of the
//!    servers. It is the sum of both kinds' geometric means over a window, since one takes several times
//!    as long as the other, which is no uncertainty.
//! 2. Servers may become slower for good, and then the baseline is of the past: where less in flight
//!    did not make it faster, what remains was no queue, and becomes the baseline. A window in which
//!    everything became slower is no measure for that, since it shows a little of both.
//! 3. From time to time the limit goes down for a window by itself, to see that; Vegas calls it a
//!    probe.
//! 4. Where many fail, the limit goes down whatever the latency.
//! 5. A limit that is not used says nothing about more: it does not grow then.
//! 6. What a window shows is uncertain by its standard error, and what lies within that is no queue:
//!    a large campaign so stays closer to its knee than a small one, which cannot see it.
//! 7. Until it has shrunk once it grows as long as it need not shrink (Vegas's slow start), so that
//!    an unlucky first window does not hold it at the floor. The same once what it went down for
//!    turns out to have been no queue.
//! 8. Where it has shrunk it stays for some windows, as TCP CUBIC does, and then goes on in small
//!    steps first: near its knee it does not swing.
//! 9. After it has gone down, a window begins when as few are in flight.
//! 10. A queue that one window shows may be chance, or a hiccup of the network: but for a large one
//!     it is heeded only where the next window shows one as well.

mod seen;

pub use self::seen::Seen;
use self::seen::Window;

/// The shortest window, in milliseconds.
pub const WINDOW_MS_MIN: i64 = 10_000;
/// The longest window: after it what there is must do, if it is anything, in milliseconds.
const WINDOW_MS_MAX: i64 = 60_000;
/// How many steps a window has before its latency is judged.
const SAMPLES_MIN: u32 = 150;
/// How many it has before it can show that many fail.
const FAILING_MIN: u32 = 60;
/// Below this share of the limit in queues, and what cannot be told from it, it grows.
const QUEUED_LOW: f64 = 0.02;
/// Above this share, and what cannot be told from it, it shrinks.
const QUEUED_HIGH: f64 = 0.07;
/// Above this share it shrinks at once, without waiting for what the next window shows.
const QUEUED_SURELY: f64 = 0.3;
/// To this share it shrinks.
const QUEUED_AIM: f64 = 0.01;
/// How many standard errors of a window cannot be told from what it shows.
const ERRORS: f64 = 1.5;
/// How far it grows in one window, as a factor: in small steps near the knee, and in larger ones
/// where it has grown in each of the last windows, so that the knee is far.
const GROWTH: [f64; 5] = [1.04, 1.04, 1.08, 1.14, 1.2];
/// Which of these is the largest where something may be queued, or what it shrank for has passed.
const GROWTH_MIDDLE: usize = 2;
/// For how many windows after it has shrunk it stays where it is.
const HOLD: u32 = 3;
/// How far it shrinks at most in one window, as a factor.
const SHRINKING_MAX: f64 = 0.5;
/// How far it goes down where many fail, and for a probe, as a factor.
const BACK_OFF: f64 = 0.75;
/// Windows from one probe to the next.
const PROBE_EVERY: u32 = 15;
/// The share of failures above which it backs off.
const FAILED_MAX: f64 = 0.2;
/// How much of a lower latency the baseline takes on: it is noisy, and the lowest of many is luck.
const LOWERING: f64 = 0.2;
/// Over the limit by this factor or less, what was lowered has come about.
const DRAINED: f64 = 1.08;
/// A limit that is down by this factor or more tells whether there was a queue: a smaller one makes
/// less of a difference than chance does.
const TOLD: f64 = 0.8;
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
    /// The limit and the latency of the last window.
    before: Option<(f64, f64)>,
    /// In the last window everything became slower.
    is_mixed: bool,
    baseline_ms: Option<f64>,
    last: Last,
    to_probe: u32,
    /// For how many windows it has grown.
    grown: usize,
    /// To where it has shrunk, which is where the knee is.
    knee: Option<f64>,
    /// For so many windows it does not grow past that.
    held: u32,
    /// The last window showed a queue.
    is_suspected: bool,
    /// The limit was lowered, and more is in flight.
    drains: bool,
}

impl Controller {
    /// From this limit on.
    pub fn new(in_flight_max: u32) -> Self {
        Self {
            limit: f64::from(in_flight_max.max(1)),
            window: Window::default(),
            before: None,
            is_mixed: false,
            baseline_ms: None,
            last: Last::Steady,
            to_probe: PROBE_EVERY,
            grown: GROWTH.len(),
            knee: None,
            held: 0,
            is_suspected: false,
            drains: false,
        }
    }

    /// Takes in what was seen of a migration.
    pub fn take(&mut self, now_unix_ms: i64, seen: Seen) {
        self.window.take(now_unix_ms, seen);
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
        if self.drains {
            // What is seen is still of the higher limit.
            self.drains = f64::from(in_flight) > DRAINED * self.limit;
            if self.drains {
                self.window = Window::default();
                return None;
            }
        }
        let window = self.window;
        let (samples, failed) = (window.samples(), window.failed);
        let age_ms = now_unix_ms.saturating_sub(window.since_unix_ms?);
        let failing = f64::from(failed) / f64::from((samples + failed).max(1));
        let enough = if failing > FAILED_MAX { FAILING_MIN } else { SAMPLES_MIN };
        let whole = samples + failed >= enough && age_ms >= WINDOW_MS_MIN;
        if !whole && age_ms < WINDOW_MS_MAX {
            return None;
        }
        self.window = Window::default();
        let (floor, ceiling) = (f64::from(range.floor), f64::from(range.ceiling));
        if failing > FAILED_MAX {
            self.last = Last::Steady;
            self.limit = (self.limit * BACK_OFF).max(floor);
            return Some(format!("{:.0} % failed", 100.0 * failing));
        }
        let (latency_ms, error) = window.latency_ms()?;
        let untold = ERRORS * error;
        self.is_mixed = self.is_mixed(latency_ms);
        self.before = Some((self.limit, latency_ms));
        let baseline_ms = self.learn(latency_ms, untold);
        let queued = (1.0 - baseline_ms / latency_ms).max(0.0);
        let reason = format!(
            "disarm and open take {latency_ms:.0} ms, {baseline_ms:.0} ms without a queue: {:.0} % \
             queued",
            100.0 * queued
        );
        self.step(queued, untold, latency_ms, in_flight).map(|word| {
            self.limit = self.limit.clamp(floor, ceiling.max(floor));
            format!("{reason}; {word}")
        })
    }

    /// The latency without a queue, after this one was seen, of which so much cannot be told.
    fn learn(&mut self, latency_ms: f64, untold: f64) -> f64 {
        let mut baseline_ms = self.baseline_ms.unwrap_or(latency_ms);
        if latency_ms < baseline_ms {
            let luck = baseline_ms.powf(1.0 - LOWERING) * latency_ms.powf(LOWERING);
            baseline_ms = luck.min(latency_ms * untold.exp());
        }
        let lowered = match self.last {
            Last::Steady => None,
            Last::Lowered { factor, latency_ms } => Some((factor, latency_ms)),
            Last::Probing { latency_ms, .. } => Some((BACK_OFF, latency_ms)),
        };
        if let Some((factor, before)) = lowered
            && factor <= TOLD
        {
            // A queue would have become shorter: what is left of it is none. Where all takes longer than
            // before, the servers have become slower meanwhile, and the next decrease will tell.
            let expected = before * factor.max(baseline_ms / before);
            let is_left = latency_ms > expected.midpoint(before).max(UNMOVED * before);
            if is_left && latency_ms * UNMOVED < before {
                if latency_ms * UNMOVED > baseline_ms {
                    // What it went down for was no queue: where the knee is, is not known any more.
                    (self.knee, self.held, self.grown) = (None, 0, GROWTH.len());
                }
                baseline_ms = latency_ms;
            }
        }
        self.baseline_ms = Some(baseline_ms);
        baseline_ms
    }

    /// Down by this factor, at this latency: with the decreases right before it, if there were any.
    fn lowered(&self, factor: f64, latency_ms: f64) -> Last {
        match self.last {
            Last::Lowered { factor: before, latency_ms } => {
                Last::Lowered { factor: before * factor, latency_ms }
            }
            Last::Steady | Last::Probing { .. } => Last::Lowered { factor, latency_ms },
        }
    }

    /// Whether everything has become slower within this window: then what it shows is neither of
    /// before nor of after. What a second one in a row shows is of after.
    fn is_mixed(&self, latency_ms: f64) -> bool {
        let Some((limit, before_ms)) = self.before else { return false };
        let grown = (self.limit / limit).max(1.0);
        !self.is_mixed && latency_ms * UNMOVED > before_ms * grown
    }

    /// Moves the limit by what a window shows; a word for why.
    fn step(
        &mut self,
        queued: f64,
        untold: f64,
        latency_ms: f64,
        in_flight: u32,
    ) -> Option<&'static str> {
        if let Last::Probing { from, .. } = self.last {
            self.last = Last::Steady;
            self.limit = from;
            return Some("back from a probe");
        }
        let is_over = queued > QUEUED_HIGH + untold;
        let was_over = std::mem::replace(&mut self.is_suspected, is_over);
        if is_over && (was_over || queued >= QUEUED_SURELY) {
            self.shrink(queued, latency_ms);
            return Some("fewer");
        }
        self.last = Last::Steady;
        if is_over {
            return None;
        }
        self.to_probe = self.to_probe.saturating_sub(1);
        if self.grow(queued, untold, in_flight) {
            return Some("more");
        }
        self.grown = self.grown.saturating_sub(1);
        if self.to_probe == 0 {
            self.to_probe = PROBE_EVERY;
            self.last = Last::Probing { from: self.limit, latency_ms };
            self.limit *= BACK_OFF;
            return Some("fewer for a moment, as a probe");
        }
        None
    }

    /// Down to where the queue would be short, which is where the knee is taken to be.
    fn shrink(&mut self, queued: f64, latency_ms: f64) {
        let factor = ((1.0 - queued) / (1.0 - QUEUED_AIM)).max(SHRINKING_MAX);
        (self.last, self.held) = match self.is_mixed {
            true => (Last::Steady, 0),
            false => (self.lowered(factor, latency_ms), HOLD),
        };
        self.limit *= factor;
        (self.knee, self.grown) = (Some(self.limit), 0);
    }

    /// Up, where nothing queues, the limit is used, and it is not just held below the knee; whether it went.
    fn grow(&mut self, queued: f64, untold: f64, in_flight: u32) -> bool {
        let mut highest = f64::INFINITY;
        if self.held > 0 {
            self.held -= 1;
            (highest, self.grown) = (self.knee.unwrap_or(f64::INFINITY), 0);
        }
        let none_queued = queued < QUEUED_LOW + untold;
        if none_queued && self.knee.is_some_and(|knee| self.limit > knee) {
            // What it shrank for has passed: the knee is not here.
            (self.knee, self.grown) = (None, GROWTH_MIDDLE);
        }
        let low = if self.knee.is_some() { QUEUED_LOW } else { QUEUED_HIGH };
        let is_used = f64::from(in_flight) >= 0.9 * self.limit.floor();
        if queued >= low + untold || !is_used || self.limit >= highest {
            return false;
        }
        let far = if none_queued { GROWTH.len() - 1 } else { GROWTH_MIDDLE };
        let growth = GROWTH[self.grown.min(far)];
        self.grown += 1;
        self.limit = (self.limit * growth).max(self.limit + 1.0).min(highest);
        true
    }
}
