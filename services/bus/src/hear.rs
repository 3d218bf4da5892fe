//! The facts of one history, handed out one after the other over every restart: each until it was
//! taken, and no more after that.
//!
//! The server keeps what was taken ([`streams::Consumer::kept`](Consumer)), so that whoever hears need keep
//! nothing. Whoever dies between taking a fact and saying so is handed it once more.

use std::time::Duration;

use drover_schemas::streams::Consumer;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::{Bus, Error, Recorded, metrics, record, source::Source, ticket::Ticket, worker::Pace};

impl Bus {
    /// Hands out what `consumer`, which it makes where it is missing, has not handed out yet, until
    /// `shutdown`. `take` is idempotent; where it gives a time, the fact is handed out again after
    /// that, before any that follows.
    ///
    /// # Errors
    /// One of the first creation of the consumer; afterwards it waits for the bus as long as it takes.
    pub async fn hear<T, F>(
        &self,
        consumer: &Consumer,
        shutdown: CancellationToken,
        take: T,
    ) -> Result<(), Error>
    where
        T: Fn(Recorded) -> F,
        F: Future<Output = Result<(), Duration>>,
    {
        let pace = Pace::new(self.ack_wait());
        self.ensure_consumer_with(consumer, pace.ack_wait).await?;
        let mut source = Source::new(self, pace, consumer);
        let ended = async {
            shutdown.cancelled().await;
            sleep(pace.shutdown_grace).await;
        };
        tokio::pin!(ended);
        loop {
            let ticket = tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                given = source.next(1) => Ticket::new(self, given),
            };
            let given = ticket.given();
            let message = &given.message;
            let place = message.info().map_or(0, |info| info.stream_sequence);
            let (subject, headers) = (&message.subject, message.headers.as_ref());
            let recorded = match record::decode(subject, place, headers, &message.payload) {
                Ok(recorded) => recorded,
                Err(error) => {
                    metrics::undecodable("event");
                    tracing::error!(%error, "set aside");
                    acknowledge(message).await;
                    continue;
                }
            };
            let taken = tokio::select! {
                taken = take(recorded) => Some(taken),
                () = &mut ended => None,
                never = ticket.say_in_progress(pace.ack_wait) => match never {},
            };
            match taken {
                Some(Ok(())) => acknowledge(message).await,
                Some(Err(after)) => ticket.give_back(Some(after)).await,
                None => break,
            }
        }
        source.close().await;
        Ok(())
    }
}

/// Says that a fact was taken, and waits for the server's word: one whose acknowledgement is lost is
/// handed out again.
async fn acknowledge(message: &async_nats::jetstream::Message) {
    if let Err(error) = message.double_ack().await {
        tracing::warn!(%error, "what was taken may be handed out again");
    }
}
