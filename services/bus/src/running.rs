//! The jobs that one worker has begun, so that none is begun a second time while it is in work.
//!
//! A job is known by what is ordered, not by its place in the queue: an order that a killed server
//! has lost is made again, and comes from another place.

use std::{collections::HashMap, sync::Arc};

use tokio::task::{self, JoinSet};

use crate::ticket::{Given, Ticket};

/// What is ordered: the job's subject, and the revision that it was decided on.
pub(crate) type Ordered = (String, u64);

/// The jobs in work.
#[derive(Default)]
pub(crate) struct Running {
    /// One a job.
    pub(crate) tasks: JoinSet<()>,
    orders: HashMap<task::Id, (Ordered, Arc<Ticket>)>,
    tickets: HashMap<Ordered, Arc<Ticket>>,
}

impl Running {
    /// Where the job is in work, the word that is owed for it is for this message from now on.
    ///
    /// # Errors
    /// The message, where the job is not in work.
    pub(crate) fn renew(&self, ordered: &Ordered, given: Arc<Given>) -> Result<(), Arc<Given>> {
        match self.tickets.get(ordered) {
            Some(ticket) => ticket.renew(given),
            None => Err(given),
        }
    }

    /// Begins a job.
    pub(crate) fn begin(
        &mut self,
        ordered: Ordered,
        ticket: Arc<Ticket>,
        work: impl Future<Output = ()> + Send + 'static,
    ) {
        let task = self.tasks.spawn(work);
        self.orders.insert(task.id(), (ordered.clone(), Arc::clone(&ticket)));
        self.tickets.insert(ordered, ticket);
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
        // Given out again between its last word and its end, it may have been begun anew.
        if let Some((ordered, ticket)) = self.orders.remove(&id)
            && self.tickets.get(&ordered).is_some_and(|last| Arc::ptr_eq(last, &ticket))
        {
            self.tickets.remove(&ordered);
        }
    }
}
