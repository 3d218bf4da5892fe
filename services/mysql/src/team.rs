//! Several sessions that do parts of one thing, each in a task of its own.
//!
//! The first that fails is heard at once; with the team go its tasks, and with them their sessions.

use std::time::Duration;

use tokio::{
    task::JoinSet,
    time::{Instant, Interval, MissedTickBehavior, interval_at},
};

use crate::{Error, connection::SILENCE_S_MAX};

/// How often the session for which a team works speaks: often enough that one word may be late.
const WORD_EVERY: Duration = Duration::from_secs(SILENCE_S_MAX as u64 / 4);

/// Tasks that come to a result each.
pub(crate) struct Team<T> {
    tasks: JoinSet<Result<T, Error>>,
}

impl<T> Default for Team<T> {
    fn default() -> Self {
        Self { tasks: JoinSet::new() }
    }
}

impl<T: Send + 'static> Team<T> {
    pub(crate) fn spawn(&mut self, task: impl Future<Output = Result<T, Error>> + Send + 'static) {
        self.tasks.spawn(task);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    /// The next result; waits for ever where there is none to come. Nothing is lost when it is
    /// dropped.
    pub(crate) async fn next(&mut self) -> Result<T, Error> {
        match self.tasks.join_next().await {
            Some(Ok(result)) => result,
            Some(Err(error)) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => std::future::pending().await,
            },
            None => std::future::pending().await,
        }
    }
}

/// Ticks whenever the session for which a team works should speak.
pub(crate) fn words() -> Interval {
    let mut words = interval_at(Instant::now() + WORD_EVERY, WORD_EVERY);
    words.set_missed_tick_behavior(MissedTickBehavior::Delay);
    words
}
