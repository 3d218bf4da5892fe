//! Ordering steps: the same order is kept once, and an older one never takes a newer one's place.
//!
//! The queue holds one message a subject, and a newer one takes the older one's place. Whose
//! order is newer is told by its revision, which only grows in a migration. So an order is first
//! stored on the condition that there is none; if there is one, it is looked at, and replaced on
//! the condition that it is still the same. A stale orchestrator finds the newer order, and stops.

use std::{collections::HashSet, time::Duration};

use async_nats::HeaderMap;
use drover_schemas::{
    MigrationId, streams,
    subjects::{self, Host},
    v1::{Job, Step},
};
use prost::Message as _;
use serde::Deserialize;
use serde_json::json;
use tokio::time::sleep;

use crate::{Bus, Error, metrics, request::Unstored};

/// How often an order is sent while answers stay away.
const ATTEMPTS_MAX: u32 = 3;
/// How often an order is looked at again because the queue changed meanwhile.
const ROUNDS_MAX: u32 = 50;
/// Between those.
const ROUND_PAUSE: Duration = Duration::from_millis(20);

/// What became of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ordered {
    /// It is on the queue, in place of an older one if there was one.
    Stored,
    /// The same order is on the queue.
    AlreadyThere,
    /// A newer order is on the queue: whoever sent this one has been overtaken.
    Overtaken,
}

impl Bus {
    /// Puts a job on the queue of its step and host. May be repeated.
    pub async fn order(&self, job: &Job, host: &Host) -> Result<Ordered, Error> {
        let subject = subject_of(job, host)?;
        let payload = bytes::Bytes::from(job.encode_to_vec());
        let mut expected = 0;
        let (mut attempts, mut rounds) = (0, 0);
        loop {
            let stored =
                self.store(&subject, Some(expected), HeaderMap::new(), payload.clone(), None).await;
            match stored {
                Ok(_) => return Ok(Ordered::Stored),
                Err(Unstored::Wrong) => match self.queued_order(&subject).await? {
                    Some((_, revision)) if revision == job.revision => {
                        return Ok(Ordered::AlreadyThere);
                    }
                    Some((_, revision)) if revision > job.revision => {
                        return Ok(Ordered::Overtaken);
                    }
                    Some((sequence, _)) => expected = sequence,
                    // Done and gone since.
                    None => expected = 0,
                },
                Err(Unstored::Busy) => sleep(ROUND_PAUSE).await,
                Err(Unstored::Unknown(error)) => {
                    attempts += 1;
                    if attempts == ATTEMPTS_MAX {
                        return Err(error);
                    }
                }
                Err(Unstored::Refused(error)) => return Err(error),
            }
            rounds += 1;
            if rounds == ROUNDS_MAX {
                let reason = "the queue changes all the time".to_owned();
                return Err(Error::Failed { doing: format!("ordering on {subject}"), reason });
            }
        }
    }

    /// The revision of the job of `step` at `host` for a migration that is on the queue, waiting
    /// or in work; none if there is none.
    pub async fn outstanding(
        &self,
        step: Step,
        host: &Host,
        migration: MigrationId,
    ) -> Result<Option<u64>, Error> {
        let found = self.queued_order(&subjects::job(step, host, migration)).await?;
        Ok(found.map(|(_, revision)| revision))
    }

    /// The subjects of all jobs on the queues, waiting or in work: to be compared with
    /// [`subjects::job`]. For each queue, one request for each 100,000 jobs.
    pub async fn queued(&self) -> Result<HashSet<String>, Error> {
        let mut queued = HashSet::new();
        for queue in streams::queues() {
            let mut of_queue = HashSet::new();
            loop {
                let request = json!({ "subjects_filter": ">", "offset": of_queue.len() });
                let subject = format!("STREAM.INFO.{}", queue.name);
                let page: Page = self.api(&subject, &request, "listing a queue").await?;
                let subjects = page.state.subjects.unwrap_or_default();
                let before = of_queue.len();
                of_queue.extend(subjects.into_keys());
                let total = page.total.unwrap_or(0);
                if of_queue.len() == before || of_queue.len() as u64 >= total {
                    break;
                }
            }
            queued.extend(of_queue);
        }
        Ok(queued)
    }

    /// How many jobs are on the queues, waiting or in work.
    pub async fn queue_length(&self) -> Result<u64, Error> {
        let mut length = 0;
        for queue in streams::queues() {
            length += self.stream_info(&queue.name).await?.state.messages;
        }
        Ok(length)
    }

    /// Sequence and revision of the order on a subject.
    async fn queued_order(&self, subject: &str) -> Result<Option<(u64, u64)>, Error> {
        let Some(message) = self.leader_last(&queue_of(subject)?, subject).await? else {
            return Ok(None);
        };
        match Job::decode(message.payload) {
            Ok(job) => Ok(Some((message.sequence, job.revision))),
            Err(error) => {
                // Nobody can do it: the next order may take its place.
                metrics::undecodable("job");
                tracing::error!(subject, sequence = message.sequence, %error, "not a job");
                Ok(Some((message.sequence, 0)))
            }
        }
    }
}

#[derive(Deserialize)]
struct Page {
    total: Option<u64>,
    state: PageState,
}

#[derive(Deserialize)]
struct PageState {
    subjects: Option<std::collections::HashMap<String, u64>>,
}

/// The stream of a job's subject.
pub(crate) fn queue_of(subject: &str) -> Result<String, Error> {
    let token = subjects::queue_token(subject).ok_or_else(|| Error::Failed {
        doing: format!("finding the queue of {subject}"),
        reason: "it is no job's subject".to_owned(),
    })?;
    Ok(format!("{}{token}", streams::JOBS_PREFIX))
}

fn subject_of(job: &Job, host: &Host) -> Result<String, Error> {
    let doing = "ordering a job".to_owned();
    let migration: MigrationId = match job.migration_id.parse() {
        Ok(migration) => migration,
        Err(error) => {
            return Err(Error::Failed { doing, reason: format!("its migration_id: {error}") });
        }
    };
    match job.step() {
        Step::Unspecified => Err(Error::Failed { doing, reason: "it has no step".to_owned() }),
        step => Ok(subjects::job(step, host, migration)),
    }
}
