//! Appends that wait for one another are stored together.
//!
//! A server that syncs each message to the disk before it acknowledges it stores a few hundred a
//! second in one stream, one sync each. A batch (ADR-50) is stored or refused as a whole and costs
//! it a handful of syncs, however many events are in it; below [`BATCH_MIN`] it costs more than it
//! spares. So only [`UNDER_WAY_MAX`] appends of this process are under way at once in a stream; what
//! comes meanwhile waits, and goes together. Nobody waits for a batch to fill: where nothing is under
//! way, nothing waits.
//!
//! Each event in a batch names its history's last sequence, as it would alone. A batch does not tell
//! whose was wrong, nor, where no answer came, whether it was stored: then each is appended alone,
//! which finds out for itself.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

use async_nats::{
    HeaderMap, header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, jetstream::response::Response,
};
use bytes::Bytes;
use serde::Deserialize;
use tokio::{runtime::Handle, sync::oneshot};
use uuid::Uuid;

use crate::{Bus, request::REQUEST_WAIT};

/// How many appends and batches of one process are under way at once in a stream. As many as keep
/// the disk busy while answers travel.
const UNDER_WAY_MAX: usize = 8;
/// The fewest events that are worth a batch, which costs the server some files and four syncs.
const BATCH_MIN: usize = 12;
/// The most in one: the server takes a thousand, and stores nothing else meanwhile.
const BATCH_MAX: usize = 256;

/// The headers of a batch's messages (ADR-50).
const BATCH_ID: &str = "Nats-Batch-Id";
const BATCH_SEQUENCE: &str = "Nats-Batch-Sequence";
const BATCH_COMMIT: &str = "Nats-Batch-Commit";

/// An event on its way to its stream.
#[derive(Clone)]
pub(crate) struct Entry {
    pub(crate) subject: String,
    /// The sequence of the subject's last message, 0 for none.
    pub(crate) expected: u64,
    pub(crate) headers: HeaderMap,
    pub(crate) payload: Bytes,
}

/// The streams that events are appended to.
#[derive(Default)]
pub(crate) struct Gather {
    lanes: Mutex<HashMap<String, Lane>>,
}

#[derive(Default)]
struct Lane {
    under_way: usize,
    waiting: VecDeque<Waiting>,
}

struct Waiting {
    entry: Entry,
    turn: oneshot::Sender<Turn>,
}

/// What becomes of an event that may have waited.
pub(crate) enum Turn {
    /// It was stored with others; its sequence.
    Stored(u64),
    /// It is to be stored alone, while the place is held; none where no place is kept for it.
    Alone(Option<Place>),
}

/// A place among those that are under way.
pub(crate) struct Place {
    bus: Bus,
    stream: String,
}

impl Gather {
    fn lanes(&self) -> MutexGuard<'_, HashMap<String, Lane>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Bus {
    /// Waits for an event's turn in its stream.
    pub(crate) async fn turn(&self, stream: &str, entry: Entry) -> Turn {
        let waits = {
            let mut lanes = self.gather().lanes();
            let lane = lanes.entry(stream.to_owned()).or_default();
            if lane.under_way < UNDER_WAY_MAX {
                lane.under_way += 1;
                let place = Place { bus: self.clone(), stream: stream.to_owned() };
                return Turn::Alone(Some(place));
            }
            let (turn, waits) = oneshot::channel();
            lane.waiting.push_back(Waiting { entry, turn });
            waits
        };
        waits.await.unwrap_or(Turn::Alone(None))
    }

    /// A place is free: gives it to those who wait.
    fn leave(&self, stream: &str) {
        // Places that nobody took, to be given on once the lanes are free again.
        let mut untaken = Vec::new();
        let mut lanes = self.gather().lanes();
        let Some(lane) = lanes.get_mut(stream) else { return };
        lane.under_way -= 1;
        while lane.under_way < UNDER_WAY_MAX && !lane.waiting.is_empty() {
            let place = Place { bus: self.clone(), stream: stream.to_owned() };
            let batch = lane.take_batch();
            lane.under_way += 1;
            match Handle::try_current() {
                Ok(runtime) if batch.len() >= BATCH_MIN => drop(runtime.spawn(place.store(batch))),
                Ok(_) | Err(_) => {
                    let mut batch = batch.into_iter();
                    let first = batch.next();
                    batch.rev().for_each(|waiting| lane.waiting.push_front(waiting));
                    let turn = Turn::Alone(Some(place));
                    untaken.extend(match first {
                        Some(waiting) => waiting.turn.send(turn).err(),
                        None => Some(turn),
                    });
                }
            }
        }
        if lane.under_way == 0 {
            lanes.remove(stream);
        }
        drop(lanes);
        drop(untaken);
    }

    /// Stores a batch; the sequence of its last event. The error says why it is not known to be
    /// stored.
    async fn store_batch(&self, batch: &[Waiting]) -> Result<u64, String> {
        let id = Uuid::now_v7().simple().to_string();
        let count = batch.len();
        for (number, Waiting { entry, .. }) in (1..).zip(batch) {
            let Entry { subject, expected, mut headers, payload } = entry.clone();
            headers.insert(NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, expected.to_string());
            headers.insert(BATCH_ID, id.as_str());
            headers.insert(BATCH_SEQUENCE, number.to_string());
            if number < count {
                let sent = self.client().publish_with_headers(subject, headers, payload).await;
                sent.map_err(|error| error.to_string())?;
                continue;
            }
            headers.insert(BATCH_COMMIT, "1");
            let answer = self.request(&subject, Some(headers), payload, REQUEST_WAIT).await;
            let answer = answer.map_err(|error| error.to_string())?;
            let stored = serde_json::from_slice::<Response<Stored>>(&answer.payload);
            return match stored.map_err(|error| error.to_string())? {
                Response::Ok(stored) if stored.count == count => Ok(stored.sequence),
                Response::Ok(stored) => Err(format!("{} of {count} stored", stored.count)),
                Response::Err { error } => Err(error.to_string()),
            };
        }
        Err("it is empty".to_owned())
    }
}

/// The answer to a batch's last message.
#[derive(Deserialize)]
struct Stored {
    #[serde(rename = "seq")]
    sequence: u64,
    #[serde(default)]
    count: usize,
}

impl Lane {
    /// Those in front, one of each subject: the server would compare two of the same with what is
    /// stored, and not with each other.
    fn take_batch(&mut self) -> Vec<Waiting> {
        let (mut batch, mut subjects) = (Vec::new(), HashSet::new());
        while batch.len() < BATCH_MAX
            && let Some(waiting) = self.waiting.pop_front()
        {
            if waiting.turn.is_closed() {
                continue;
            }
            if !subjects.insert(waiting.entry.subject.clone()) {
                self.waiting.push_front(waiting);
                break;
            }
            batch.push(waiting);
        }
        batch
    }
}

impl Place {
    /// Stores a batch, and tells each of its events what became of it.
    async fn store(self, batch: Vec<Waiting>) {
        match self.bus.store_batch(&batch).await {
            Ok(last) => {
                for (behind, waiting) in (0..batch.len() as u64).rev().zip(batch) {
                    // Who waits no more does not need to know.
                    let _ = waiting.turn.send(Turn::Stored(last - behind));
                }
            }
            Err(reason) => {
                tracing::debug!(stream = self.stream, reason, "each event of a batch goes alone");
                for waiting in batch {
                    let _ = waiting.turn.send(Turn::Alone(None));
                }
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.bus.leave(&self.stream);
    }
}
