//! Where jobs come from, over every loss of the connection.

use std::{future, sync::Arc, time::Duration};

use drover_schemas::streams::Consumer;
use tokio::time::sleep;

use crate::{
    Bus,
    pull::{Lost, Pull},
    ticket::{Given, Ticket},
    worker::{PAUSE_MAX, PAUSE_MIN, Pace},
};

/// How many jobs are asked for ahead, so that one request serves for many: the server gives out no
/// more than there are slots, however many it was asked for.
const AHEAD: usize = 64;

/// Where the jobs come from, over every loss of the connection.
pub(crate) struct Source<'a> {
    bus: Bus,
    pace: Pace,
    consumer: &'a Consumer,
    pull: Option<Pull>,
    pause: Duration,
}

impl<'a> Source<'a> {
    pub(crate) fn new(bus: &Bus, pace: Pace, consumer: &'a Consumer) -> Self {
        Self { bus: bus.clone(), pace, consumer, pull: None, pause: PAUSE_MIN }
    }

    /// The next job, once there is room for one. May be dropped while it waits.
    pub(crate) async fn next(&mut self, free: usize) -> Arc<Given> {
        if free == 0 {
            future::pending::<()>().await;
        }
        loop {
            match self.try_next().await {
                Ok(Some(given)) => {
                    self.pause = PAUSE_MIN;
                    return given;
                }
                Ok(None) => {}
                Err(lost) => {
                    self.pull = None;
                    tracing::debug!(
                        consumer = self.consumer.name,
                        reason = lost.reason,
                        "asking for jobs anew"
                    );
                    sleep(self.pause).await;
                    self.pause = (self.pause * 2).min(PAUSE_MAX);
                    if lost.is_gone {
                        self.make_again().await;
                    }
                }
            }
        }
    }

    async fn try_next(&mut self) -> Result<Option<Arc<Given>>, Lost> {
        let pull = match &mut self.pull {
            Some(pull) => pull,
            none @ None => {
                let opened = Pull::open(&self.bus, &self.consumer.queue, &self.consumer.name).await;
                none.insert(
                    opened.map_err(|error| Lost { reason: error.to_string(), is_gone: false })?,
                )
            }
        };
        // By halves: few requests wait at the server, which keeps a limited number of them, and
        // there is always one.
        if pull.outstanding() <= AHEAD / 2 {
            pull.ask(AHEAD - pull.outstanding()).await?;
        }
        let (message, connection) = (pull.next().await?, pull.connection());
        Ok(message.map(|message| self.bus.given(message, connection)))
    }

    /// Makes the consumer again where it was deleted.
    async fn make_again(&self) {
        let made = self.bus.ensure_consumer_with(self.consumer, self.pace.ack_wait).await;
        if let Err(error) = made {
            tracing::warn!(consumer = self.consumer.name, %error, "the consumer is not there");
        }
    }

    /// Asks for nothing more, and gives back what came and was not begun.
    pub(crate) async fn close(self) {
        let Some(pull) = self.pull else { return };
        let connection = pull.connection();
        for message in pull.rest().await {
            let given = self.bus.given(message, connection);
            Ticket::new(&self.bus, given).give_back(None).await;
        }
    }
}
