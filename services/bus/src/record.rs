//! An event as it stands in its stream: CloudEvents headers around a protobuf message.
//!
//! The headers name the history, and are held against the subject: JetStream sends what it is
//! asked for to any subject that is named to it, so a copy of an event of one history can come to
//! stand in another, and must not count there.

use async_nats::{HeaderMap, Subject};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use drover_schemas::{
    CampaignName,
    envelope::{CONTENT_TYPE, CloudEvent, header},
    subjects::{self, Aggregate, History},
};
use uuid::Uuid;

use crate::Error;

/// CloudEvents' version.
const SPEC_VERSION: &str = "1.0";

/// An event and its place in its campaign's history.
#[derive(Debug, Clone, PartialEq)]
pub struct Recorded {
    /// The campaign.
    pub campaign: CampaignName,
    /// Where it stands.
    pub history: History,
    /// Its place in the campaign's stream: the revision of its aggregate.
    pub sequence: u64,
    /// The event.
    pub event: CloudEvent,
}

impl Recorded {
    /// Whose it is.
    pub fn aggregate(&self) -> Aggregate {
        self.history.aggregate()
    }
}

/// The headers of an event.
pub(crate) fn headers(campaign: &CampaignName, history: &History, event: &CloudEvent) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(header::SPEC_VERSION, SPEC_VERSION);
    headers.insert(header::ID, event.id.to_string());
    headers.insert(header::TYPE, event.kind.as_str());
    headers.insert(header::SOURCE, event.source.as_str());
    headers.insert(header::TIME, event.time_text());
    headers.insert(header::CONTENT_TYPE, CONTENT_TYPE);
    headers.insert(header::CAMPAIGN, campaign.as_str());
    headers.insert(header::SUBJECT, subject_of(history));
    headers
}

fn subject_of(history: &History) -> String {
    match history {
        History::Campaign => "campaign".to_owned(),
        History::Migration { id, .. } => id.to_string(),
    }
}

/// The event's identity, where the headers have one.
pub(crate) fn id(headers: &HeaderMap) -> Option<Uuid> {
    headers.get(header::ID)?.as_str().parse().ok()
}

/// The event in a stream's message.
pub(crate) fn decode(
    subject: &Subject,
    sequence: u64,
    headers: Option<&HeaderMap>,
    payload: &Bytes,
) -> Result<Recorded, Error> {
    let undecodable =
        |reason: String| Error::Undecodable { subject: subject.to_string(), sequence, reason };
    let (campaign, history) = subjects::parse_event(subject)
        .ok_or_else(|| undecodable("not an event's subject".to_owned()))?;
    let text = |name: &'static str| {
        headers
            .and_then(|headers| headers.get(name))
            .map(|value| value.as_str())
            .ok_or_else(|| undecodable(format!("it has no header {name}")))
    };
    let version = text(header::SPEC_VERSION)?;
    if version != SPEC_VERSION {
        return Err(undecodable(format!("it is of CloudEvents {version:?}")));
    }
    if text(header::CAMPAIGN)? != campaign.as_str()
        || text(header::SUBJECT)? != subject_of(&history)
    {
        return Err(undecodable("it is a copy of another history's event".to_owned()));
    }
    let id = text(header::ID)?
        .parse::<Uuid>()
        .map_err(|error| undecodable(format!("{}: {error}", header::ID)))?;
    let time = DateTime::parse_from_rfc3339(text(header::TIME)?)
        .map_err(|error| undecodable(format!("{}: {error}", header::TIME)))?
        .with_timezone(&Utc);
    let event = CloudEvent {
        id,
        kind: text(header::TYPE)?.to_owned(),
        source: text(header::SOURCE)?.to_owned(),
        time,
        data: payload.to_vec(),
    };
    Ok(Recorded { campaign, history, sequence, event })
}
