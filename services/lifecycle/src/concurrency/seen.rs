//! What is seen of migrations between two decisions.

use std::time::Duration;

/// What was seen of a migration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// Its source was disarmed, which took so long.
    Disarmed(Duration),
    /// Its destination was opened, which took so long.
    Opened(Duration),
    /// A step before its switch failed.
    Failed,
}

/// No step is taken to be shorter: where clocks differ, none may seem to take any time.
const SHORTEST_MS: f64 = 0.1;

/// How long the steps of one kind took.
#[derive(Debug, Clone, Copy, Default)]
struct Times {
    samples: u32,
    sum_ln_ms: f64,
    sum_ln_ms_squared: f64,
}

/// What was seen since the last decision.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Window {
    /// When the first of it was seen.
    pub(super) since_unix_ms: Option<i64>,
    disarmed: Times,
    opened: Times,
    pub(super) failed: u32,
}

impl Times {
    fn take(&mut self, took: Duration) {
        let ln_ms = (took.as_secs_f64() * 1e3).max(SHORTEST_MS).ln();
        self.samples += 1;
        self.sum_ln_ms += ln_ms;
        self.sum_ln_ms_squared += ln_ms * ln_ms;
    }

    /// The mean of the logarithms, and the variance of that; none of nothing.
    fn ln_ms(&self) -> Option<(f64, f64)> {
        let samples = f64::from(self.samples);
        let mean = self.sum_ln_ms / samples;
        let variance = (self.sum_ln_ms_squared / samples - mean * mean).max(0.0);
        (self.samples > 0).then_some((mean, variance / samples))
    }
}

impl Window {
    /// Takes in what was seen of a migration.
    pub(super) fn take(&mut self, now_unix_ms: i64, seen: Seen) {
        self.since_unix_ms.get_or_insert(now_unix_ms);
        match seen {
            Seen::Disarmed(took) => self.disarmed.take(took),
            Seen::Opened(took) => self.opened.take(took),
            Seen::Failed => self.failed += 1,
        }
    }

    /// How many steps were seen that did not fail.
    pub(super) fn samples(&self) -> u32 {
        self.disarmed.samples + self.opened.samples
    }

    /// What disarming and opening take together, in milliseconds, and the relative standard error of
    /// that. None where not both are there.
    pub(super) fn latency_ms(&self) -> Option<(f64, f64)> {
        let mut sum_ms = 0.0;
        let mut variance = 0.0;
        for (ln_ms, of_ln_ms) in [self.disarmed.ln_ms()?, self.opened.ln_ms()?] {
            sum_ms += ln_ms.exp();
            variance += ln_ms.exp().powi(2) * of_ln_ms;
        }
        Some((sum_ms, variance.sqrt() / sum_ms))
    }
}
