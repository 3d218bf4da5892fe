//! A lease: at most one of several instances is the active one.
//!
//! 1. The lease is one key of a key-value bucket. Its holder writes it anew every third of the
//!    lease's time, each time on the condition that nobody else did.
//! 2. No clock is compared with another. The holder counts from before it sent its last renewal;
//!    who waits counts from after it saw that renewal, and takes over, on the condition that it is
//!    still the last, when the time is over. So the holder knows first, also one that was paused:
//!    it looks at its clock when it wakes.
//! 3. Knowing and acting are two moments all the same. What is done as the holder is therefore
//!    fenced: by the compare-and-set of histories and jobs, and by [`Held::epoch`].

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use async_nats::{HeaderMap, jetstream::message::StreamMessage};
use drover_schemas::streams;
use serde::{Deserialize, Serialize};
use tokio::{sync::watch, task::JoinHandle, time::sleep};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{Bus, Error, request::Unstored, streams::lease_stream};

/// How long a lease holds without a renewal: a compromise between a quick takeover and holders
/// that lose it to a pause of the machine.
pub const LEASE_TIME: Duration = Duration::from_secs(5);
/// In a lease's time: one renewal may fail and the next still comes in time.
const RENEWALS: u32 = 3;
/// In a lease's time: how often who waits looks.
const LOOKS: u32 = 20;
/// In a lease's time: how much earlier than the others its holder considers it lost, for clocks
/// that run at different speeds.
const MARGIN: u32 = 20;
/// The header by which a key-value bucket marks a key as deleted, and its value.
const OPERATION: (&str, &str) = ("KV-Operation", "DEL");

/// A lease to be had.
pub struct Lease {
    bus: Bus,
    name: String,
    instance: String,
    time: Duration,
}

/// What the key holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    instance: String,
    /// Of one acquisition: tells it apart from the same instance's earlier ones.
    nonce: Uuid,
    time_ms: u64,
}

impl Bus {
    /// The lease called `name` (as a campaign's name: `a-z`, `0-9`, `-`), for `instance`, which
    /// is only shown. [`LEASE_TIME`] is a good `time`.
    pub fn lease(&self, name: &str, instance: &str, time: Duration) -> Lease {
        let (name, instance) = (name.to_owned(), instance.to_owned());
        Lease { bus: self.clone(), name, instance, time }
    }

    /// Which instance has the lease, as far as one can see; none when it was given back.
    pub async fn lease_holder(&self, name: &str) -> Result<Option<String>, Error> {
        let found = self.leader_last(&lease_stream(), &subject(name)).await?;
        Ok(found.as_ref().and_then(entry).map(|entry| entry.instance))
    }
}

impl Lease {
    /// Waits until this instance has the lease, however long, also over losses of the
    /// connection. An error is one that waiting does not mend.
    pub async fn acquire(&self) -> Result<Held, Error> {
        let mine = Entry {
            instance: self.instance.clone(),
            nonce: Uuid::new_v4(),
            time_ms: u64::try_from(self.time.as_millis()).unwrap_or(u64::MAX),
        };
        let mut seen: Option<(u64, Instant)> = None;
        loop {
            match self.try_acquire(&mine, &mut seen).await {
                Ok(Some((revision, sent))) => return Ok(Held::new(self, mine, revision, sent)),
                Ok(None) => {}
                Err(error) if error.is_passing() => {
                    tracing::debug!(lease = self.name, %error, "cannot see who has the lease");
                }
                Err(error) => return Err(error),
            }
            sleep(self.time / LOOKS).await;
        }
    }

    /// Looks once; revision and time of the acquisition when it worked.
    async fn try_acquire(
        &self,
        mine: &Entry,
        seen: &mut Option<(u64, Instant)>,
    ) -> Result<Option<(u64, Instant)>, Error> {
        let found = self.bus.leader_last(&lease_stream(), &subject(&self.name)).await?;
        let expected = match &found {
            None => 0,
            Some(message) => match entry(message) {
                // Given back, or our own acquisition, whose answer was lost.
                None => message.sequence,
                Some(entry) if entry == *mine => message.sequence,
                Some(entry) => {
                    let since = match seen {
                        Some((revision, since)) if *revision == message.sequence => *since,
                        Some(_) | None => seen.insert((message.sequence, Instant::now())).1,
                    };
                    if since.elapsed() < self.time.max(Duration::from_millis(entry.time_ms)) {
                        return Ok(None);
                    }
                    tracing::warn!(
                        lease = self.name,
                        holder = entry.instance,
                        "the lease is not renewed any more; taking it over"
                    );
                    message.sequence
                }
            },
        };
        let sent = Instant::now();
        match write(&self.bus, &self.name, mine, expected, self.time).await {
            Ok(revision) => Ok(Some((revision, sent))),
            // Someone else was faster.
            Err(Unstored::Wrong | Unstored::Busy) => Ok(None),
            Err(Unstored::Unknown(error) | Unstored::Refused(error)) => Err(error),
        }
    }
}

/// A lease that this instance has, or had. Given back when it is dropped.
pub struct Held {
    epoch: u64,
    state: Arc<State>,
    shutdown: CancellationToken,
    renewal: Option<JoinHandle<()>>,
}

struct State {
    /// Until when it is held; moved by each renewal.
    until: Mutex<Instant>,
    lost: watch::Sender<bool>,
}

impl Held {
    fn new(lease: &Lease, mine: Entry, revision: u64, sent: Instant) -> Self {
        let until = Mutex::new(sent + held_for(lease.time));
        let state = Arc::new(State { until, lost: watch::Sender::new(false) });
        let shutdown = CancellationToken::new();
        let renewal = Renewal {
            bus: lease.bus.clone(),
            name: lease.name.clone(),
            time: lease.time,
            mine,
            revision,
            state: Arc::clone(&state),
        };
        tracing::info!(lease = lease.name, epoch = revision, "the lease is ours");
        let renewal = Some(tokio::spawn(renewal.run(shutdown.clone())));
        Self { epoch: revision, state, shutdown, renewal }
    }

    /// Grows with each acquisition by anybody: of two holders, the one with the higher epoch is
    /// the present one.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Whether it is still held, by this process's monotonic clock. Once lost, it stays lost.
    pub fn is_held(&self) -> bool {
        self.state.is_held()
    }

    /// Waits until it is lost.
    pub async fn lost(&self) {
        let mut lost = self.state.lost.subscribe();
        while self.state.is_held() {
            let until = self.state.until();
            tokio::select! {
                changed = lost.wait_for(|lost| *lost) => drop(changed),
                () = tokio::time::sleep_until(until.into()) => {}
            }
        }
    }

    /// Gives it back, so that another has it at once.
    pub async fn release(mut self) {
        self.shutdown.cancel();
        if let Some(renewal) = self.renewal.take() {
            // A panic in it is an error that was logged; there is nothing left to give back.
            let _ = renewal.await;
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // The renewal gives it back, and ends.
        self.shutdown.cancel();
    }
}

impl State {
    fn until(&self) -> Instant {
        *self.until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_held(&self) -> bool {
        if *self.lost.borrow() {
            return false;
        }
        let held = Instant::now() < self.until();
        if !held {
            self.lost.send_replace(true);
        }
        held
    }

    /// After an answered renewal that was sent at `sent`; a late one brings nothing back.
    fn extend(&self, until: Instant) {
        if self.is_held() {
            *self.until.lock().unwrap_or_else(PoisonError::into_inner) = until;
        }
    }
}

struct Renewal {
    bus: Bus,
    name: String,
    time: Duration,
    mine: Entry,
    revision: u64,
    state: Arc<State>,
}

impl Renewal {
    async fn run(mut self, shutdown: CancellationToken) {
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return self.give_back().await,
                () = sleep(self.time / RENEWALS) => {}
            }
            while !self.renew().await {
                if !self.state.is_held() {
                    tracing::warn!(lease = self.name, "the lease is lost");
                    return self.give_back().await;
                }
                sleep(self.time / LOOKS).await;
            }
        }
    }

    /// Whether it is renewed; if not, it may be tried again while it is held.
    async fn renew(&mut self) -> bool {
        if !self.state.is_held() {
            return false;
        }
        let sent = Instant::now();
        let wait = self.time / RENEWALS;
        match write(&self.bus, &self.name, &self.mine, self.revision, wait).await {
            Ok(revision) => {
                self.revision = revision;
                self.state.extend(sent + held_for(self.time));
                self.state.is_held()
            }
            Err(Unstored::Wrong | Unstored::Busy) => {
                self.find_own().await;
                false
            }
            Err(Unstored::Unknown(error) | Unstored::Refused(error)) => {
                tracing::warn!(lease = self.name, %error, "the lease is not renewed yet");
                false
            }
        }
    }

    /// After a refusal: an earlier renewal of ours whose answer was lost, or another's lease.
    async fn find_own(&mut self) {
        let found = self.bus.leader_last(&lease_stream(), &subject(&self.name)).await;
        match found {
            Ok(Some(message)) if entry(&message).as_ref() == Some(&self.mine) => {
                self.revision = message.sequence;
            }
            Ok(_) => {
                self.state.lost.send_replace(true);
            }
            // It is not known; the clock decides.
            Err(error) => tracing::debug!(lease = self.name, %error, "cannot see the lease"),
        }
    }

    /// Marks the key as deleted if it is still ours.
    async fn give_back(self) {
        self.state.lost.send_replace(true);
        let mut headers = HeaderMap::new();
        headers.insert(OPERATION.0, OPERATION.1);
        let (subject, expected) = (subject(&self.name), Some(self.revision));
        // When it fails, the lease ends by its time.
        if let Err(error) =
            self.bus.store(&subject, expected, headers, "".into(), Some(self.time)).await
        {
            tracing::debug!(lease = self.name, ?error, "the lease was not given back");
        }
    }
}

fn held_for(time: Duration) -> Duration {
    time - time / MARGIN
}

fn subject(name: &str) -> String {
    format!("$KV.{}.{name}", streams::LEASES)
}

/// The holder's entry; none where the key was deleted, or holds something else.
fn entry(message: &StreamMessage) -> Option<Entry> {
    serde_json::from_slice(&message.payload).ok()
}

async fn write(
    bus: &Bus,
    name: &str,
    entry: &Entry,
    expected: u64,
    wait: Duration,
) -> Result<u64, Unstored> {
    let payload = serde_json::to_vec(entry).map_err(|error| {
        let doing = format!("writing lease {name}");
        Unstored::Refused(Error::Failed { doing, reason: error.to_string() })
    })?;
    bus.store(&subject(name), Some(expected), HeaderMap::new(), payload.into(), Some(wait)).await
}
