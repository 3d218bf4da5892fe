//! The last message on a subject: a history's revision, a queue's order, a lease's holder.
//!
//! It may be asked of any replica, which is quick and may be a little behind, or of the stream's
//! leader, which never is.

use async_nats::jetstream::{
    message::StreamMessage,
    stream::{DirectGetErrorKind, LastRawMessageErrorKind},
};
use drover_schemas::{
    CampaignName, streams,
    subjects::{self, History},
};

use crate::{
    Bus, Error,
    record::{self, Recorded},
};

impl Bus {
    /// A history's last event; none while it is empty.
    ///
    /// Any replica may answer, so it may be a little behind: decide on it only together with the
    /// compare-and-set of [`Bus::append`].
    pub async fn last(
        &self,
        campaign: &CampaignName,
        history: &History,
    ) -> Result<Option<Recorded>, Error> {
        let stream = streams::events_name(campaign);
        let subject = subjects::event(campaign, history);
        match self.direct_last(&stream, &subject).await? {
            None => Ok(None),
            Some(message) => {
                let headers = Some(&message.headers);
                record::decode(&message.subject, message.sequence, headers, &message.payload)
                    .map(Some)
            }
        }
    }

    /// The event that follows a revision in its history, from the stream's leader; none where that is
    /// the last.
    pub(crate) async fn after(
        &self,
        campaign: &CampaignName,
        history: &History,
        revision: u64,
    ) -> Result<Option<Recorded>, Error> {
        let subject = subjects::event(campaign, history);
        match self.successor(&streams::events_name(campaign), &subject, revision).await? {
            None => Ok(None),
            Some(message) => {
                let headers = Some(&message.headers);
                record::decode(&message.subject, message.sequence, headers, &message.payload)
                    .map(Some)
            }
        }
    }

    /// The message that follows a revision on a subject, from the stream's leader: another replica may
    /// not have it yet.
    pub(crate) async fn successor(
        &self,
        stream: &str,
        subject: &str,
        revision: u64,
    ) -> Result<Option<StreamMessage>, Error> {
        let handle = self.stream(stream).await?;
        let asked = handle.raw_message_builder().sequence(revision + 1).next_by_subject(subject);
        match asked.send().await {
            Ok(message) => Ok(Some(message)),
            Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(None),
            Err(error) => Err(Error::Unreachable {
                doing: format!("reading what follows {revision} on {subject}"),
                reason: error.to_string(),
            }),
        }
    }

    /// The sequence of a history's last event, 0 for none, from any replica.
    pub(crate) async fn last_sequence(
        &self,
        campaign: &CampaignName,
        history: &History,
    ) -> Result<u64, Error> {
        let (stream, subject) =
            (streams::events_name(campaign), subjects::event(campaign, history));
        let last = self.direct_last(&stream, &subject).await?;
        Ok(last.map_or(0, |message| message.sequence))
    }

    /// As [`Bus::last_sequence`], from the stream's leader.
    pub(crate) async fn leader_last_sequence(
        &self,
        campaign: &CampaignName,
        history: &History,
    ) -> Result<u64, Error> {
        let (stream, subject) =
            (streams::events_name(campaign), subjects::event(campaign, history));
        let last = self.leader_last(&stream, &subject).await?;
        Ok(last.map_or(0, |message| message.sequence))
    }

    /// A subject's last message in a stream, from any replica.
    async fn direct_last(
        &self,
        stream: &str,
        subject: &str,
    ) -> Result<Option<StreamMessage>, Error> {
        let handle = self.stream(stream).await?;
        let doing = || format!("reading the last message on {subject}");
        handle.direct_get_last_for_subject(subject).await.map_or_else(
            |error| match error.kind() {
                DirectGetErrorKind::NotFound => Ok(None),
                DirectGetErrorKind::TimedOut => {
                    Err(Error::Unreachable { doing: doing(), reason: error.to_string() })
                }
                DirectGetErrorKind::InvalidSubject
                | DirectGetErrorKind::Request
                | DirectGetErrorKind::ErrorResponse(..)
                | DirectGetErrorKind::Other => {
                    Err(Error::Failed { doing: doing(), reason: error.to_string() })
                }
            },
            |message| Ok(Some(message)),
        )
    }

    /// A subject's last message in a stream, from the stream's leader: never behind.
    pub(crate) async fn leader_last(
        &self,
        stream: &str,
        subject: &str,
    ) -> Result<Option<StreamMessage>, Error> {
        let handle = self.stream(stream).await?;
        match handle.get_last_raw_message_by_subject(subject).await {
            Ok(message) => Ok(Some(message)),
            Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(None),
            Err(error) => Err(Error::Unreachable {
                doing: format!("reading the last message on {subject}"),
                reason: error.to_string(),
            }),
        }
    }
}
