//! The rate of updates, shared by all migrations of this process.

use std::time::Duration;

use tokio::{
    sync::Mutex,
    time::{Instant, sleep_until},
};

/// Gives out turns, evenly spaced; no burst after a quiet time.
pub(crate) struct Pace {
    interval: Duration,
    next: Mutex<Instant>,
}

impl Pace {
    pub fn new(per_second_max: u32) -> Self {
        Self {
            interval: Duration::from_secs(1) / per_second_max.max(1),
            next: Mutex::new(Instant::now()),
        }
    }

    /// Waits for a turn.
    pub async fn turn(&self) {
        let at = {
            let mut next = self.next.lock().await;
            let at = (*next).max(Instant::now());
            *next = at + self.interval;
            at
        };
        sleep_until(at).await;
    }
}

#[cfg(test)]
mod tests {
    use futures::future::join_all;

    use super::*;

    #[tokio::test]
    async fn turns_are_spaced() {
        let pace = Pace::new(100);
        let start = Instant::now();
        join_all((0..6).map(|_| pace.turn())).await;
        assert!(start.elapsed() >= Duration::from_millis(50));
    }
}
