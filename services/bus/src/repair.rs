//! What a log that has lost its end is repaired with.
//!
//! Everything that was decided on a lost event carries that event's sequence as its revision: the
//! servers' ledgers, the zone's marks, orders on the queue and in the hands of instances that are
//! paused. A stream that was put back to an older copy would give the same sequences out again,
//! to other events, and nothing could tell old from new any more. So before anything new is
//! decided the stream's last sequence is brought above all of them. A sequence cannot be skipped
//! in a stream, so it is filled with events that say what they are; only a stream that is made
//! anew can begin where it likes.

use drover_schemas::{
    CampaignName,
    envelope::CloudEvent,
    streams,
    subjects::{self, History},
    v1::Job,
};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use prost::Message as _;

use crate::{Bus, Error, jobs::queue_of, record, request::Unstored};

/// How many fillers are under way at once: enough to keep a server busy.
const FILLERS_AT_ONCE: usize = 512;
/// How many orders are read at once.
const ORDERS_AT_ONCE: usize = 64;
/// How often one filler is sent while answers stay away. One that is stored twice does no harm.
const ATTEMPTS_MAX: u32 = 3;

/// An order as it lies on the queue.
#[derive(Debug, Clone, PartialEq)]
pub struct Queued {
    /// Its subject.
    pub subject: String,
    /// The order; none where it cannot be decoded.
    pub job: Option<Job>,
}

impl Bus {
    /// The last sequence of a campaign's stream.
    ///
    /// # Errors
    /// [`Error::CampaignUnknown`] where it has none.
    pub async fn campaign_sequence(&self, campaign: &CampaignName) -> Result<u64, Error> {
        Ok(self.campaign_info(campaign).await?.state.last_sequence)
    }

    /// Makes a campaign's stream anew, its first event to get the sequence after `above`.
    pub async fn begin_campaign_above(
        &self,
        campaign: &CampaignName,
        above: u64,
    ) -> Result<(), Error> {
        let mut config = self.config_of(streams::events(campaign));
        config.first_sequence = Some(above + 1);
        self.ensure_stream(config).await
    }

    /// Appends fillers to the campaign's own history until the stream's last sequence is above
    /// `above`, but one at least; the last sequence then. Many are under way at once, and none of
    /// them names a revision: whoever decides on the campaign meanwhile reads again.
    pub async fn raise(
        &self,
        campaign: &CampaignName,
        above: u64,
        filler: impl Fn() -> CloudEvent,
    ) -> Result<u64, Error> {
        let mut last = self.campaign_sequence(campaign).await?;
        loop {
            let missing = (above + 1).saturating_sub(last).max(1);
            let fillers = (0..missing).map(|_| filler());
            let stored = stream::iter(fillers)
                .map(|event| async move { self.fill(campaign, &event).await })
                .buffer_unordered(FILLERS_AT_ONCE);
            last = stored.try_fold(last, |last, now| async move { Ok(last.max(now)) }).await?;
            if last > above {
                return Ok(last);
            }
        }
    }

    async fn fill(&self, campaign: &CampaignName, event: &CloudEvent) -> Result<u64, Error> {
        let subject = &subjects::event(campaign, &History::Campaign);
        let headers = record::headers(campaign, &History::Campaign, event);
        let mut attempts = 0;
        loop {
            let payload = event.data.clone().into();
            let error = match self.store(subject, None, headers.clone(), payload, None).await {
                Ok(sequence) => return Ok(sequence),
                Err(Unstored::Unknown(error)) if attempts < ATTEMPTS_MAX => error,
                Err(Unstored::Unknown(error) | Unstored::Refused(error)) => return Err(error),
                Err(Unstored::Wrong | Unstored::Busy) => Error::Failed {
                    doing: format!("storing on {subject}"),
                    reason: "another append to it does not end".to_owned(),
                },
            };
            attempts += 1;
            if attempts > ATTEMPTS_MAX {
                return Err(error);
            }
        }
    }

    /// All orders on the queues, waiting or in work.
    pub async fn orders(&self) -> Result<Vec<Queued>, Error> {
        let read = |subject: String| async move {
            let found = self.leader_last(&queue_of(&subject)?, &subject).await?;
            Ok::<_, Error>(found.map(|message| {
                let job = Job::decode(message.payload).ok();
                Queued { subject, job }
            }))
        };
        let orders: Vec<Option<Queued>> = stream::iter(self.queued().await?)
            .map(read)
            .buffer_unordered(ORDERS_AT_ONCE)
            .try_collect()
            .await?;
        Ok(orders.into_iter().flatten().collect())
    }
}
