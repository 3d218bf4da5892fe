//! An event as it stands in its stream: CloudEvents headers around a protobuf message.
//!
//! The headers name the history, and are held against the subject: JetStream sends what it is
//! asked for to any subject that is named to it, so a copy of an event of one history can come to
//! stand in another, and must not count there.

use async_nats::{HeaderMap, HeaderValue, Subject};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use drover_schemas::{
    CampaignName,
    envelope::{CONTENT_TYPE, CloudEvent, header},
    subjects::{self, Aggregate, History},
};
use uuid::{Uuid, fmt::Hyphenated};

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

/// Whether `text` is the history's, as [`subject_of`] writes it.
fn names(text: &str, history: &History) -> bool {
    match history {
        History::Campaign => text == "campaign",
        History::Migration { id, .. } => {
            let mut buffer = [0; Hyphenated::LENGTH];
            text == id.uuid().hyphenated().encode_lower(&mut buffer)
        }
    }
}

/// What the headers say; each is looked at once, since a log is read by the hundred thousand.
#[derive(Default)]
struct Attributes<'a> {
    version: Option<&'a str>,
    id: Option<&'a str>,
    kind: Option<&'a str>,
    source: Option<&'a str>,
    time: Option<&'a str>,
    campaign: Option<&'a str>,
    subject: Option<&'a str>,
}

impl<'a> Attributes<'a> {
    fn of(headers: Option<&'a HeaderMap>) -> Self {
        let mut attributes = Self::default();
        for (name, values) in headers.into_iter().flat_map(HeaderMap::iter) {
            let attribute = match name.as_ref() {
                header::SPEC_VERSION => &mut attributes.version,
                header::ID => &mut attributes.id,
                header::TYPE => &mut attributes.kind,
                header::SOURCE => &mut attributes.source,
                header::TIME => &mut attributes.time,
                header::CAMPAIGN => &mut attributes.campaign,
                header::SUBJECT => &mut attributes.subject,
                _ => continue,
            };
            *attribute = values.first().map(HeaderValue::as_str);
        }
        attributes
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
    let attributes = Attributes::of(headers);
    let missing = |name: &str| undecodable(format!("it has no header {name}"));
    let version = attributes.version.ok_or_else(|| missing(header::SPEC_VERSION))?;
    if version != SPEC_VERSION {
        return Err(undecodable(format!("it is of CloudEvents {version:?}")));
    }
    if attributes.campaign.ok_or_else(|| missing(header::CAMPAIGN))? != campaign.as_str()
        || !names(attributes.subject.ok_or_else(|| missing(header::SUBJECT))?, &history)
    {
        return Err(undecodable("it is a copy of another history's event".to_owned()));
    }
    let id = attributes
        .id
        .ok_or_else(|| missing(header::ID))?
        .parse::<Uuid>()
        .map_err(|error| undecodable(format!("{}: {error}", header::ID)))?;
    let time = DateTime::parse_from_rfc3339(attributes.time.ok_or_else(|| missing(header::TIME))?)
        .map_err(|error| undecodable(format!("{}: {error}", header::TIME)))?
        .with_timezone(&Utc);
    let event = CloudEvent {
        id,
        kind: attributes.kind.ok_or_else(|| missing(header::TYPE))?.to_owned(),
        source: attributes.source.ok_or_else(|| missing(header::SOURCE))?.to_owned(),
        time,
        data: payload.to_vec(),
    };
    Ok(Recorded { campaign, history, sequence, event })
}
