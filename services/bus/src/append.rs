//! Appending to a history, with compare-and-set.
//!
//! An event is stored only if the last event of its history is the one that the caller decided
//! on. Since that lets one event at most follow each, the event that follows tells, whenever it
//! is not known whether an append succeeded, exactly whether it did: it has our id, or not. So
//! nothing else is needed to append once: an unanswered append is sent again, and a refused one
//! looked up.

use std::time::Duration;

use bytes::Bytes;
use drover_schemas::{
    CampaignName,
    envelope::CloudEvent,
    streams,
    subjects::{self, History},
};
use futures::{Stream, StreamExt as _, stream};
use tokio::time::sleep;
use uuid::Uuid;

use crate::{
    Bus, Error,
    gather::{Entry, Turn},
    metrics, record,
    request::Unstored,
};

/// How often an append is sent before its caller hears that the bus cannot be reached: with the
/// wait for each answer, some 15 s.
const ATTEMPTS_MAX: u32 = 3;
/// How often an append is sent while another on the same history is being stored, which takes
/// milliseconds.
const BUSY_ATTEMPTS_MAX: u32 = 50;
/// Between those.
const BUSY_PAUSE: Duration = Duration::from_millis(20);
/// How many appends of [`Bus::append_many`] are under way: enough to keep a server busy, few
/// enough to bound memory (some megabytes).
const PIPELINE_DEPTH: usize = 1_024;

/// One of many appends.
#[derive(Debug, Clone)]
pub struct Append {
    /// The history.
    pub history: History,
    /// The sequence of the history's last event; 0 for none.
    pub expected_revision: u64,
    /// What is appended.
    pub event: CloudEvent,
}

impl Bus {
    /// Appends an event to a history whose last event has the sequence `expected_revision` (0:
    /// none yet), and gives its own sequence, the history's new revision.
    ///
    /// [`Error::Conflict`] when the history has moved on: read again, decide again. When it is
    /// not known whether the event was stored ([`Error::Unreachable`]), appending the same event
    /// again later is safe: one that was stored is recognised by its id and not stored twice.
    pub async fn append(
        &self,
        campaign: &CampaignName,
        history: &History,
        expected_revision: u64,
        event: &CloudEvent,
    ) -> Result<u64, Error> {
        let subject = subjects::event(campaign, history);
        let headers = record::headers(campaign, history, event);
        let payload = Bytes::copy_from_slice(&event.data);
        let _place = if self.gathers() {
            let (subject, headers, payload) = (subject.clone(), headers.clone(), payload.clone());
            let entry = Entry { subject, expected: expected_revision, headers, payload };
            match self.turn(&streams::events_name(campaign), entry).await {
                Turn::Stored(sequence) => {
                    metrics::appended("stored");
                    return Ok(sequence);
                }
                Turn::Alone(place) => place,
            }
        } else {
            None
        };
        let (mut attempts, mut busy) = (0, 0);
        loop {
            let stored = self
                .store(&subject, Some(expected_revision), headers.clone(), payload.clone(), None)
                .await;
            let error = match stored {
                Ok(sequence) => {
                    metrics::appended("stored");
                    return Ok(sequence);
                }
                Err(Unstored::Wrong) => {
                    return self.find_own(campaign, &subject, expected_revision, event.id).await;
                }
                Err(Unstored::Busy) => {
                    busy += 1;
                    if busy < BUSY_ATTEMPTS_MAX {
                        sleep(BUSY_PAUSE).await;
                        continue;
                    }
                    let reason = "another append to it does not end".to_owned();
                    Error::Failed { doing: format!("appending to {subject}"), reason }
                }
                Err(Unstored::Unknown(error)) => {
                    attempts += 1;
                    if attempts < ATTEMPTS_MAX {
                        continue;
                    }
                    error
                }
                Err(Unstored::Refused(error)) => error,
            };
            metrics::appended("failed");
            return Err(error);
        }
    }

    /// Appends many events with many appends under way at once; the outcomes are in order.
    ///
    /// Two appends to the same history must not be in one call: their order is not kept.
    pub fn append_many<'a, I>(
        &'a self,
        campaign: &'a CampaignName,
        appends: I,
    ) -> impl Stream<Item = Result<u64, Error>> + Send + 'a
    where
        I: IntoIterator<Item = Append>,
        I::IntoIter: Send + 'a,
    {
        stream::iter(appends)
            .map(move |append| async move {
                let Append { history, expected_revision, event } = append;
                self.append(campaign, &history, expected_revision, &event).await
            })
            .buffered(PIPELINE_DEPTH)
    }

    /// After a refusal: the sequence of our own event, if it is the one that follows `expected`.
    async fn find_own(
        &self,
        campaign: &CampaignName,
        subject: &str,
        expected: u64,
        id: Uuid,
    ) -> Result<u64, Error> {
        let stream = streams::events_name(campaign);
        let mut attempts = 0;
        let successor = loop {
            match self.successor(&stream, subject, expected).await {
                Ok(successor) => break successor,
                Err(error) => {
                    attempts += 1;
                    if attempts == ATTEMPTS_MAX {
                        metrics::appended("failed");
                        return Err(error);
                    }
                }
            }
        };
        match successor {
            Some(message) if record::id(&message.headers) == Some(id) => {
                metrics::appended("recovered");
                Ok(message.sequence)
            }
            Some(_) | None => {
                metrics::appended("conflict");
                Err(Error::Conflict { subject: subject.to_owned(), expected })
            }
        }
    }
}
