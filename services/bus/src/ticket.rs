//! What a queue hears of a message that it has given out: that it is in work, done, or given back.
//!
//! A queue knows a message by its place. A server that was killed may have lost the last ones, and
//! gives their places to others then. So what was given out over a connection that has ended since
//! is not acknowledged but given back: where it is still there it comes again, and its history
//! tells that it was done; another in its place is at worst given out twice.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_nats::jetstream::{AckKind, Message};
use tokio::time::{Instant, interval_at};

use crate::Bus;

/// A message as it was given out.
pub(crate) struct Given {
    pub(crate) message: Message,
    /// Which connection it came over ([`Bus::connection`]).
    pub(crate) connection: u64,
}

/// The word that is still owed for a message, however often it was given out meanwhile.
pub(crate) struct Ticket {
    bus: Bus,
    state: Mutex<State>,
}

struct State {
    given: Arc<Given>,
    /// The last word was said.
    is_settled: bool,
}

impl Ticket {
    pub(crate) fn new(bus: &Bus, given: Arc<Given>) -> Self {
        let state = State { given, is_settled: false };
        Self { bus: bus.clone(), state: Mutex::new(state) }
    }

    /// It was given out once more, perhaps from another place.
    ///
    /// # Errors
    /// The message, where the last word was said already.
    pub(crate) fn renew(&self, given: Arc<Given>) -> Result<(), Arc<Given>> {
        let mut state = self.state();
        if state.is_settled {
            return Err(given);
        }
        state.given = given;
        Ok(())
    }

    /// As it was given out last.
    pub(crate) fn given(&self) -> Arc<Given> {
        Arc::clone(&self.state().given)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes it from the queue. Nothing waits for the answer: what is still there comes again.
    pub(crate) async fn acknowledge(&self) {
        self.answer(AckKind::Ack).await;
    }

    /// Takes it from the queue, since nobody can do anything with it.
    pub(crate) async fn set_aside(&self) {
        self.answer(AckKind::Term).await;
    }

    /// Lets it be given out again, not before `delay` has passed.
    pub(crate) async fn give_back(&self, delay: Option<Duration>) {
        self.answer(AckKind::Nak(delay)).await;
    }

    /// Gives signs of life for as long as it is let: a message that nobody hears of for
    /// `ack_wait` is given out again.
    pub(crate) async fn say_in_progress(&self, ack_wait: Duration) -> Infallible {
        let every = ack_wait / 3;
        let mut ticks = interval_at(Instant::now() + every, every);
        loop {
            ticks.tick().await;
            self.answer(AckKind::Progress).await;
        }
    }

    async fn answer(&self, kind: AckKind) {
        let given = {
            let mut state = self.state();
            state.is_settled |= !matches!(kind, AckKind::Progress);
            Arc::clone(&state.given)
        };
        let is_done = matches!(kind, AckKind::Ack | AckKind::Term);
        let kind = if is_done && given.connection != self.bus.connection() {
            AckKind::Nak(None)
        } else {
            kind
        };
        if let Err(error) = given.message.ack_with(kind).await {
            let subject = given.message.subject.as_str();
            tracing::debug!(subject, %error, "the queue hears nothing of it");
        }
    }
}
