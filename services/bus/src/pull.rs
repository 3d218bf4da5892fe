//! Pulling from a consumer: asks for as many messages as there is room for, and notices when
//! nothing will come any more.
//!
//! The client's own streams ask for more than what there is room for, and need up to a minute to
//! notice that a restarted server has forgotten what they asked for. This one is told when the
//! connection came back, and hears a heartbeat otherwise.

use std::time::Duration;

use async_nats::{Message, StatusCode, Subscriber};
use futures::StreamExt as _;
use serde_json::json;
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

use crate::{Bus, Error, request::API};

/// How long the server keeps a request for messages; then it is made anew.
const REQUEST_EXPIRES: Duration = Duration::from_secs(30);
/// How often an idle server says that it still knows of the request.
const HEARTBEAT: Duration = Duration::from_secs(2);
/// Silence after which the request counts as forgotten.
const SILENCE_MAX: Duration = Duration::from_secs(5);

/// Requests on one consumer. To be dropped and opened anew after [`Lost`].
pub(crate) struct Pull {
    bus: Bus,
    next_subject: String,
    inbox: String,
    subscriber: Subscriber,
    connections: watch::Receiver<u64>,
    /// Which connection it was opened over.
    connection: u64,
    /// Messages asked for that have not come.
    outstanding: usize,
    /// When the server was last heard of, or asked after it owed nothing.
    last_sign: Instant,
}

/// Why no message will come on this pull any more.
#[derive(Debug)]
pub(crate) struct Lost {
    pub(crate) reason: String,
    /// The consumer does not exist, as far as one can tell.
    pub(crate) is_gone: bool,
}

impl Pull {
    pub(crate) async fn open(bus: &Bus, stream: &str, consumer: &str) -> Result<Self, Error> {
        let inbox = bus.client().new_inbox();
        let mut connections = bus.connections();
        let connection = *connections.borrow_and_update();
        let subscriber = bus.client().subscribe(inbox.clone()).await.map_err(|error| {
            Error::Failed { doing: format!("pulling from {consumer}"), reason: error.to_string() }
        })?;
        let next_subject = format!("{API}.CONSUMER.MSG.NEXT.{stream}.{consumer}");
        Ok(Self {
            bus: bus.clone(),
            next_subject,
            inbox,
            subscriber,
            connections,
            connection,
            outstanding: 0,
            last_sign: Instant::now(),
        })
    }

    /// Which connection it was opened over, and over which its messages come.
    pub(crate) fn connection(&self) -> u64 {
        self.connection
    }

    /// Messages asked for that have not come.
    pub(crate) fn outstanding(&self) -> usize {
        self.outstanding
    }

    /// Asks for `count` more.
    pub(crate) async fn ask(&mut self, count: usize) -> Result<(), Lost> {
        let request = json!({
            "batch": count,
            "expires": REQUEST_EXPIRES.as_nanos() as u64,
            "idle_heartbeat": HEARTBEAT.as_nanos() as u64,
        });
        let (subject, inbox) = (self.next_subject.clone(), self.inbox.clone());
        let payload = request.to_string().into();
        match self.bus.client().publish_with_reply(subject, inbox, payload).await {
            Ok(()) => {
                if self.outstanding == 0 {
                    self.last_sign = Instant::now();
                }
                self.outstanding += count;
                Ok(())
            }
            Err(error) => Err(lost(error.to_string())),
        }
    }

    /// The next message; nothing when there is room to ask for more. May be dropped while it
    /// waits without losing a message.
    pub(crate) async fn next(&mut self) -> Result<Option<Message>, Lost> {
        let silent_at = self.last_sign + SILENCE_MAX;
        let message = tokio::select! {
            biased;
            message = self.subscriber.next() => message,
            _ = self.connections.changed() => return Err(lost("the connection was made anew")),
            // Who was asked for nothing says nothing.
            () = sleep_until(silent_at), if self.outstanding > 0 => {
                let refusal = self.bus.refusal_of(&self.next_subject);
                let reason = refusal.unwrap_or_else(|| "no sign of life from the server".to_owned());
                return Err(lost(reason));
            }
        };
        self.last_sign = Instant::now();
        match message {
            Some(message) => self.take(message),
            None => Err(lost("the subscription ended")),
        }
    }

    /// What has arrived already and was not taken.
    pub(crate) async fn rest(mut self) -> Vec<Message> {
        let mut rest = Vec::new();
        // From here on nothing is delivered any more, and the stream ends with what there is.
        if self.subscriber.unsubscribe().await.is_ok() {
            while let Some(message) = self.subscriber.next().await {
                if let Ok(Some(message)) = self.take(message) {
                    rest.push(message);
                }
            }
        }
        rest
    }

    fn take(&mut self, message: Message) -> Result<Option<Message>, Lost> {
        let Some(status) = message.status.filter(|status| *status != StatusCode::OK) else {
            self.outstanding = self.outstanding.saturating_sub(1);
            return Ok(Some(message));
        };
        match status {
            StatusCode::IDLE_HEARTBEAT => Ok(None),
            // The request has expired; the header says how much of it was not used.
            StatusCode::TIMEOUT | StatusCode::NOT_FOUND => {
                let unused = message
                    .headers
                    .as_ref()
                    .and_then(|headers| headers.get("Nats-Pending-Messages"))
                    .and_then(|count| count.as_str().parse().ok())
                    .unwrap_or(self.outstanding);
                self.outstanding = self.outstanding.saturating_sub(unused);
                Ok(None)
            }
            other => {
                let description = message.description.unwrap_or_default();
                Err(Lost {
                    is_gone: other == StatusCode::NO_RESPONDERS
                        || description.contains("Consumer Deleted"),
                    reason: format!("{other} {description}"),
                })
            }
        }
    }
}

fn lost(reason: impl Into<String>) -> Lost {
    Lost { reason: reason.into(), is_gone: false }
}
