//! The jobs that one worker has begun, so that none is begun a second time while it is in work.

use std::collections::HashMap;

use tokio::task::{self, JoinSet};

/// The jobs in work.
#[derive(Default)]
pub(crate) struct Running {
    /// One a job.
    pub(crate) tasks: JoinSet<()>,
    /// Their places in the queue.
    places: HashMap<task::Id, u64>,
}

impl Running {
    /// Whether the job at this place of the queue is in work.
    pub(crate) fn has(&self, place: u64) -> bool {
        // As many as there are slots: a few.
        self.places.values().any(|running| *running == place)
    }

    /// Begins a job; `place` is its stream sequence, where the message tells it.
    pub(crate) fn begin(
        &mut self,
        place: Option<u64>,
        work: impl Future<Output = ()> + Send + 'static,
    ) {
        let task = self.tasks.spawn(work);
        self.places.extend(place.map(|place| (task.id(), place)));
    }

    /// Takes note that a job's task has ended.
    pub(crate) fn ended(&mut self, consumer: &str, ended: Result<(task::Id, ()), task::JoinError>) {
        let id = match ended {
            Ok((id, ())) => id,
            Err(error) => {
                tracing::error!(consumer, %error, "a job's task ended");
                error.id()
            }
        };
        self.places.remove(&id);
    }
}
