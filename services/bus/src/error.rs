//! What can go wrong between Drover and NATS.

use drover_schemas::{CampaignName, Code, Failure};

/// An error of the bus. None of them holds a message's content.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A key of `[nats]` is wrong.
    #[error("[nats] {key}: {reason}")]
    Configuration {
        /// The key.
        key: &'static str,
        /// What is wrong with its value.
        reason: String,
    },
    /// A file with a secret cannot be used.
    #[error(transparent)]
    Secret(#[from] drover_secrets::Error),
    /// No server answers, or it does not answer in time.
    #[error("{doing}: {reason}")]
    Unreachable {
        /// What was being done.
        doing: String,
        /// What the connection said.
        reason: String,
    },
    /// The server is older than [`crate::VERSION_MIN`].
    #[error("{server} is nats-server {version}")]
    TooOld {
        /// The server's address.
        server: String,
        /// What it says of itself.
        version: String,
    },
    /// The server or the account has no JetStream.
    #[error("{server}: {reason}")]
    NoJetStream {
        /// The server's address.
        server: String,
        /// What it answered.
        reason: String,
    },
    /// A stream, bucket or consumer is otherwise than it must be.
    #[error("{thing}: {option} is {found}, and must be {wanted}")]
    Mismatch {
        /// The stream, bucket or consumer.
        thing: String,
        /// The option that differs.
        option: &'static str,
        /// What it is.
        found: String,
        /// What it must be.
        wanted: String,
    },
    /// The server refused or failed a request.
    #[error("{doing}: {reason}")]
    Failed {
        /// What was being done.
        doing: String,
        /// What the server answered.
        reason: String,
    },
    /// The history's last event is not the one that the caller decided on.
    #[error("{subject}: its last event is no longer {expected}")]
    Conflict {
        /// The history's subject.
        subject: String,
        /// The sequence that the caller expected; 0 for an empty history.
        expected: u64,
    },
    /// A stream's message is not one of Drover's.
    #[error("message {sequence} on {subject}: {reason}")]
    Undecodable {
        /// Its subject.
        subject: String,
        /// Its place in its stream.
        sequence: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// The server refused the credentials, or the account may not do this.
    #[error("{doing}: {reason}")]
    Denied {
        /// What was being done.
        doing: String,
        /// What the server said.
        reason: String,
    },
    /// The server's certificate is not accepted.
    #[error("{doing}: {reason}")]
    Untrusted {
        /// What was being done.
        doing: String,
        /// What is wrong with the certificate.
        reason: String,
    },
    /// A stream or consumer is not there, or is otherwise, and this user may not make it.
    #[error("{thing}: {state}, and this user may not make it: {reason}")]
    NotPrepared {
        /// The stream, bucket or consumer.
        thing: String,
        /// How it was found.
        state: String,
        /// What the server said.
        reason: String,
    },
    /// The stream ends before an event that was read or acknowledged earlier.
    #[error("{stream} ends at {found}, and event {known} was read before")]
    HistoryShortened {
        /// The stream.
        stream: String,
        /// The last sequence that it holds now.
        found: u64,
        /// The last sequence known to have been in it.
        known: u64,
    },
    /// The campaign has no stream.
    #[error("there is no campaign {campaign}")]
    CampaignUnknown {
        /// The campaign.
        campaign: CampaignName,
    },
    /// No service answers a request.
    #[error("nothing answers on {subject}")]
    NoAnswer {
        /// Where it was asked.
        subject: String,
    },
}

impl Error {
    /// Its code.
    pub fn code(&self) -> Code {
        match self {
            Self::Configuration { .. } => Code::ConfigInvalid,
            Self::Secret(_) => Code::SecretUnreadable,
            Self::Unreachable { .. } => Code::BusUnreachable,
            Self::TooOld { .. } => Code::BusTooOld,
            Self::NoJetStream { .. } => Code::BusNoJetStream,
            Self::Mismatch { .. } => Code::BusConfiguration,
            Self::Failed { .. } => Code::BusFailed,
            Self::Conflict { .. } => Code::BusConflict,
            Self::Undecodable { .. } => Code::EventUndecodable,
            Self::Denied { .. } => Code::BusDenied,
            Self::Untrusted { .. } => Code::PeerUntrusted,
            Self::NotPrepared { .. } => Code::BusNotPrepared,
            Self::HistoryShortened { .. } => Code::HistoryShortened,
            Self::CampaignUnknown { .. } => Code::CampaignUnknown,
            Self::NoAnswer { .. } => Code::NoAnswer,
        }
    }

    /// Whether the bus may do it later: it was not reached, or failed in passing.
    pub fn is_passing(&self) -> bool {
        matches!(self.code(), Code::BusUnreachable | Code::BusFailed)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::new(error.code(), drover_schemas::codes::chain(&error))
    }
}
