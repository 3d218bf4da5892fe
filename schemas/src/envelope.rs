//! CloudEvents 1.0 in binary mode: the attributes are headers, the data is the protobuf message.
//!
//! Any subscriber can route by `ce-type` without decoding. The type is `drover.v1.` and the name
//! of the event's message in `events.proto`.

use chrono::{DateTime, SecondsFormat, Utc};
use prost::Message;
use uuid::Uuid;

use crate::v1::{CampaignEvent, MigrationEvent, campaign_event, migration_event};

/// Header names (CloudEvents NATS protocol binding, 1.0).
pub mod header {
    /// The version of CloudEvents, `1.0`.
    pub const SPEC_VERSION: &str = "ce-specversion";
    /// The event's identity.
    pub const ID: &str = "ce-id";
    /// `drover.v1.<message>`.
    pub const TYPE: &str = "ce-type";
    /// The service and instance that found the fact.
    pub const SOURCE: &str = "ce-source";
    /// The migration's id, or `campaign`.
    pub const SUBJECT: &str = "ce-subject";
    /// The campaign's name (an extension attribute).
    pub const CAMPAIGN: &str = "ce-campaign";
    /// RFC 3339, UTC.
    pub const TIME: &str = "ce-time";
    /// `application/protobuf`.
    pub const CONTENT_TYPE: &str = "content-type";
}

/// The `content-type` of every event.
pub const CONTENT_TYPE: &str = "application/protobuf";

/// An event with its CloudEvents attributes, ready to be appended or as it was read.
#[derive(Debug, Clone, PartialEq)]
pub struct CloudEvent {
    /// Unique; UUIDv7 where Drover makes it.
    pub id: Uuid,
    /// `drover.v1.<message>`.
    pub kind: String,
    /// `drover/<service>/<instance>`.
    pub source: String,
    /// When the fact was found, by the clock of the service that found it.
    pub time: DateTime<Utc>,
    /// The encoded [`MigrationEvent`] or [`CampaignEvent`].
    pub data: Vec<u8>,
}

impl CloudEvent {
    /// The event as it is appended to a migration's history.
    pub fn migration(event: migration_event::Event, source: &str, time: DateTime<Utc>) -> Self {
        let kind = migration_kind(&event);
        let data = MigrationEvent { event: Some(event) }.encode_to_vec();
        Self::new(kind, source, time, data)
    }

    /// The event as it is appended to a campaign's history.
    pub fn campaign(event: campaign_event::Event, source: &str, time: DateTime<Utc>) -> Self {
        let kind = campaign_kind(&event);
        let data = CampaignEvent { event: Some(event) }.encode_to_vec();
        Self::new(kind, source, time, data)
    }

    fn new(kind: &str, source: &str, time: DateTime<Utc>, data: Vec<u8>) -> Self {
        let kind = format!("drover.v1.{kind}");
        Self { id: Uuid::now_v7(), kind, source: source.to_owned(), time, data }
    }

    /// `ce-time`'s text: RFC 3339 with microseconds.
    pub fn time_text(&self) -> String {
        self.time.to_rfc3339_opts(SecondsFormat::Micros, true)
    }

    /// Decodes a migration's event. The error is for counting: the message is set aside.
    pub fn decode_migration(&self) -> Result<migration_event::Event, Undecodable> {
        MigrationEvent::decode(self.data.as_slice())?.event.ok_or_else(|| self.unknown())
    }

    /// Decodes a campaign's event.
    pub fn decode_campaign(&self) -> Result<campaign_event::Event, Undecodable> {
        CampaignEvent::decode(self.data.as_slice())?.event.ok_or_else(|| self.unknown())
    }

    fn unknown(&self) -> Undecodable {
        Undecodable::UnknownType(self.kind.clone())
    }
}

/// A message that this version cannot read.
#[derive(Debug, thiserror::Error)]
pub enum Undecodable {
    /// Not protobuf, or not this message.
    #[error("not a protobuf message of the expected type: {0}")]
    Malformed(#[from] prost::DecodeError),
    /// An event of a newer version.
    #[error("an event of the unknown type {0:?}")]
    UnknownType(String),
}

/// The name of a migration event's message.
pub fn migration_kind(event: &migration_event::Event) -> &'static str {
    use migration_event::Event;
    match event {
        Event::MigrationPlanned(_) => "MigrationPlanned",
        Event::MigrationAdmitted(_) => "MigrationAdmitted",
        Event::SourceFrozen(_) => "SourceFrozen",
        Event::DumpStored(_) => "DumpStored",
        Event::ImportCompleted(_) => "ImportCompleted",
        Event::CopyVerified(_) => "CopyVerified",
        Event::SourceDisarmed(_) => "SourceDisarmed",
        Event::DestinationOpened(_) => "DestinationOpened",
        Event::DnsSwitched(_) => "DnsSwitched",
        Event::SourceRetired(_) => "SourceRetired",
        Event::DumpPublished(_) => "DumpPublished",
        Event::CustomerNotified(_) => "CustomerNotified",
        Event::MigrationCompleted(_) => "MigrationCompleted",
        Event::DumpExpired(_) => "DumpExpired",
        Event::StepFailed(_) => "StepFailed",
        Event::MigrationParked(_) => "MigrationParked",
        Event::RetryRequested(_) => "RetryRequested",
        Event::RollbackRequested(_) => "RollbackRequested",
        Event::BringBackRequested(_) => "BringBackRequested",
        Event::MigrationRolledBack(_) => "MigrationRolledBack",
        Event::MigrationDeferred(_) => "MigrationDeferred",
        Event::MigrationChecked(_) => "MigrationChecked",
        Event::DnsReverted(_) => "DnsReverted",
        Event::DestinationClosed(_) => "DestinationClosed",
        Event::DestinationDropped(_) => "DestinationDropped",
        Event::SourceThawed(_) => "SourceThawed",
        Event::MigrationRecalled(_) => "MigrationRecalled",
        Event::MigrationRehearsed(_) => "MigrationRehearsed",
    }
}

/// The name of a campaign event's message.
pub fn campaign_kind(event: &campaign_event::Event) -> &'static str {
    use campaign_event::Event;
    match event {
        Event::CampaignCreated(_) => "CampaignCreated",
        Event::CampaignStarted(_) => "CampaignStarted",
        Event::ConcurrencyChanged(_) => "ConcurrencyChanged",
        Event::CampaignPaused(_) => "CampaignPaused",
        Event::CampaignResumed(_) => "CampaignResumed",
        Event::HostQuarantined(_) => "HostQuarantined",
        Event::HostReleased(_) => "HostReleased",
        Event::CampaignCompleted(_) => "CampaignCompleted",
        Event::PreflightCompleted(_) => "PreflightCompleted",
        Event::LogRepaired(_) => "LogRepaired",
        Event::LimitsChanged(_) => "LimitsChanged",
        Event::HostSlotsChanged(_) => "HostSlotsChanged",
    }
}
