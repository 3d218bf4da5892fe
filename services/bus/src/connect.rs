//! The connection.
//!
//! The first connection is tried for a bounded time; afterwards the client reconnects by itself for ever,
//! and only single requests fail.

use std::{
    collections::VecDeque,
    future,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_nats::{
    Client, ConnectErrorKind, ConnectOptions, Event, Message, ServerError,
    jetstream::{self, ErrorCode, response::Response, stream::Stream},
};
use drover_schemas::codes;
use tokio::{
    sync::{Semaphore, SemaphorePermit, watch},
    time::{Instant, sleep, timeout},
};

use crate::{
    Error, gather::Gather, metrics, options::Options, request::REQUEST_WAIT, ticket::Given,
};

/// The oldest nats-server, as (major, minor), that knows every option that Drover depends on;
/// older ones accept them and ignore them.
pub const VERSION_MIN: (u32, u32) = (2, 12);
/// The oldest that stores a batch with a few syncs, however many messages are in it; older ones sync
/// each of them.
const VERSION_GATHERS: (u32, u32) = (2, 15);

/// Between two attempts of the first connection.
const CONNECT_PAUSE: Duration = Duration::from_millis(200);
/// How many refusals are remembered: they are read right after they arrive.
const REFUSALS_MAX: usize = 64;
/// How many consumers are made at once. A service of a large fleet makes hundreds when it starts:
/// asked for all at the same time, a busy server would not answer the last ones within
/// [`REQUEST_WAIT`].
const MAKING_MAX: usize = 8;
/// A connection to NATS. Cheap to clone; ends with its last clone.
#[derive(Clone)]
pub struct Bus {
    inner: Arc<Inner>,
}

struct Inner {
    client: Client,
    context: jetstream::Context,
    address: String,
    replicas: usize,
    ack_wait: Duration,
    making: Semaphore,
    gather: Gather,
    /// Appends that wait for one another are stored together.
    gathers: bool,
    link: Arc<Link>,
}

/// What the client tells about the connection.
struct Link {
    /// How often a connection was made.
    connections: watch::Sender<u64>,
    /// When the last one was made.
    connected_at: Mutex<Instant>,
    refusals: Mutex<VecDeque<String>>,
    /// How often the server refused a subject.
    refused: watch::Sender<u64>,
}

impl Bus {
    /// Connects as `name`, which the server shows in its list of connections.
    ///
    /// Tries for `connect_wait_ms`. The errors tell apart what a person must do next:
    /// [`Error::Unreachable`], [`Error::Denied`], [`Error::TooOld`], [`Error::NoJetStream`].
    pub async fn connect(options: &Options, name: &str) -> Result<Self, Error> {
        let servers = options.servers()?;
        let link = Arc::new(Link {
            connections: watch::Sender::new(0),
            connected_at: Mutex::new(Instant::now()),
            refusals: Mutex::default(),
            refused: watch::Sender::new(0),
        });
        let deadline = Instant::now() + options.connect_wait();
        let client = loop {
            let settings = client_options(options, name, &link)?;
            match settings.connect(servers.clone()).await {
                Ok(client) => break client,
                Err(error) => {
                    let error = connect_error(&options.url, &error);
                    if !error.is_passing() || Instant::now() >= deadline {
                        return Err(error);
                    }
                    tracing::debug!(%error, "NATS is not there yet");
                    sleep(CONNECT_PAUSE).await;
                }
            }
        };
        let version = client.server_info().version;
        if !is_at_least(&version, VERSION_MIN) {
            return Err(Error::TooOld { server: options.url.clone(), version });
        }
        let context = jetstream::new(client.clone());
        let bus = Self {
            inner: Arc::new(Inner {
                client,
                context,
                address: options.url.clone(),
                replicas: options.replicas,
                making: Semaphore::new(MAKING_MAX),
                gather: Gather::default(),
                gathers: options.synced && is_at_least(&version, VERSION_GATHERS),
                ack_wait: options.ack_wait(),
                link,
            }),
        };
        // The client reports its first connection a little later; what is counted from here on
        // is that the connection came back.
        let mut connections = bus.connections();
        let reported = connections.wait_for(|count| *count > 0);
        let _ = timeout(REQUEST_WAIT, reported).await;
        bus.find_jetstream().await?;
        Ok(bus)
    }

    /// The server's address, as configured.
    pub fn address(&self) -> &str {
        &self.inner.address
    }

    pub(crate) fn client(&self) -> &Client {
        &self.inner.client
    }

    pub(crate) fn context(&self) -> &jetstream::Context {
        &self.inner.context
    }

    /// A turn at making a consumer; the semaphore is never closed.
    pub(crate) async fn making(&self) -> Option<SemaphorePermit<'_>> {
        self.inner.making.acquire().await.ok()
    }

    pub(crate) fn gather(&self) -> &Gather {
        &self.inner.gather
    }

    /// Whether appends that wait for one another are stored together.
    pub(crate) fn gathers(&self) -> bool {
        self.inner.gathers
    }

    pub(crate) fn replicas(&self) -> usize {
        self.inner.replicas
    }

    /// How long a job may go without a sign of life.
    pub(crate) fn ack_wait(&self) -> Duration {
        self.inner.ack_wait
    }

    /// Counts the connections made; changes when the connection came back.
    pub(crate) fn connections(&self) -> watch::Receiver<u64> {
        self.inner.link.connections.subscribe()
    }

    /// Counts the subjects that the server refused; changes with each.
    pub(crate) fn refusals(&self) -> watch::Receiver<u64> {
        self.inner.link.refused.subscribe()
    }

    /// Which connection there is, or was last: their number so far.
    pub(crate) fn connection(&self) -> u64 {
        *self.inner.link.connections.borrow()
    }

    /// How long ago that one was made.
    pub(crate) fn connected_for(&self) -> Duration {
        self.inner.link.connected_at.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }

    /// A message that came over a connection.
    pub(crate) fn given(&self, message: Message, connection: u64) -> Arc<Given> {
        let context = self.context().clone();
        Arc::new(Given { message: jetstream::Message { message, context }, connection })
    }

    async fn find_jetstream(&self) -> Result<(), Error> {
        let server = self.address().to_owned();
        let doing = "asking for JetStream";
        match self.api_response::<serde_json::Value>("INFO", &(), doing).await {
            Ok(Response::Ok(_)) => Ok(()),
            Ok(Response::Err { error }) => match error.error_code() {
                ErrorCode::JETSTREAM_NOT_ENABLED | ErrorCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT => {
                    Err(Error::NoJetStream { server, reason: error.to_string() })
                }
                _ => Err(Error::Failed { doing: doing.to_owned(), reason: error.to_string() }),
            },
            // The account may not ask, which says nothing about what else it may do.
            Err(Error::Denied { .. }) => Ok(()),
            Err(Error::Failed { reason, .. }) => Err(Error::NoJetStream { server, reason }),
            Err(other) => Err(other),
        }
    }

    /// A handle on a stream, made without asking the server.
    pub(crate) async fn stream(&self, name: &str) -> Result<Stream<()>, Error> {
        self.context().get_stream_no_info(name).await.map_err(|error| Error::Failed {
            doing: format!("stream {name}"),
            reason: error.to_string(),
        })
    }

    /// What the server said when it refused `subject`, or nothing.
    pub(crate) fn refusal_of(&self, subject: &str) -> Option<String> {
        let refusals = self.inner.link.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        refusals.iter().rev().find(|text| text.contains(&format!("\"{subject}\""))).cloned()
    }
}

impl Link {
    fn take(&self, event: &Event) {
        match event {
            Event::Connected => {
                *self.connected_at.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
                self.connections.send_modify(|count| *count += 1);
                metrics::connected();
                tracing::info!("connected to NATS");
            }
            Event::Disconnected => tracing::warn!("the connection to NATS is lost"),
            Event::ServerError(ServerError::Other(text)) => {
                tracing::warn!(text, "NATS refused something");
                let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
                if refusals.len() == REFUSALS_MAX {
                    refusals.pop_front();
                }
                refusals.push_back(text.clone());
                drop(refusals);
                self.refused.send_modify(|count| *count += 1);
            }
            Event::ServerError(
                error @ (ServerError::AuthorizationViolation | ServerError::SlowConsumer(_)),
            ) => tracing::warn!(%error, "NATS reports"),
            Event::SlowConsumer(subscription) => {
                tracing::warn!(subscription, "messages were dropped: they came too fast");
            }
            Event::LameDuckMode | Event::Draining | Event::Closed | Event::ClientError(_) => {
                tracing::debug!(%event, "NATS connection");
            }
        }
    }
}

fn client_options(
    options: &Options,
    name: &str,
    link: &Arc<Link>,
) -> Result<ConnectOptions, Error> {
    let link = Arc::clone(link);
    Ok(options.client()?.name(name).max_reconnects(None).event_callback(move |event| {
        link.take(&event);
        future::ready(())
    }))
}

fn connect_error(url: &str, error: &async_nats::ConnectError) -> Error {
    let (doing, reason) = (format!("connecting to {url}"), error.to_string());
    if let Some(reason) = codes::untrusted(&reason) {
        return Error::Untrusted { doing, reason };
    }
    match error.kind() {
        ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => {
            Error::Denied { doing, reason }
        }
        ConnectErrorKind::ServerParse
        | ConnectErrorKind::Dns
        | ConnectErrorKind::TimedOut
        | ConnectErrorKind::Tls
        | ConnectErrorKind::Io
        | ConnectErrorKind::MaxReconnects => Error::Unreachable { doing, reason },
    }
}

fn is_at_least(version: &str, oldest: (u32, u32)) -> bool {
    let mut numbers = version.split(['.', '-']).map_while(|number| number.parse::<u32>().ok());
    match (numbers.next(), numbers.next()) {
        (Some(major), Some(minor)) => (major, minor) >= oldest,
        (_, None) | (None, _) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        for (version, enough) in [
            ("2.12.0", true),
            ("2.12.0-RC.1", true),
            ("2.15.1", true),
            ("3.0.0", true),
            ("2.9.10", false),
            ("2.11.99", false),
            ("", false),
            ("dev", false),
        ] {
            assert_eq!(is_at_least(version, VERSION_MIN), enough, "{version}");
        }
    }
}
