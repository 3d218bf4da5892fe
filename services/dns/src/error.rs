//! What can go wrong here, and under which code it is reported.

use std::{net::SocketAddr, path::PathBuf};

use drover_schemas::{Code, Failure, codes};

use crate::records::Kind;

/// Why a host name was not switched, reverted or accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No connection, or no answer in time. After an update it is not known whether it was done;
    /// the next attempt finds out by the mark.
    #[error("{server}: {reason}")]
    Unreachable {
        /// The server that was asked.
        server: SocketAddr,
        /// What happened.
        reason: String,
    },
    /// The server knows the question and will not do it.
    #[error("{server} answers {answer} for the zone {zone}")]
    Refused {
        /// The server that was asked.
        server: SocketAddr,
        /// The zone.
        zone: String,
        /// The response code, and TSIG's where it gave one.
        answer: String,
    },
    /// The server could not do it.
    #[error("{server}: {reason}")]
    Failed {
        /// The server that was asked.
        server: SocketAddr,
        /// What it answered.
        reason: String,
    },
    /// Somebody else has changed the record.
    #[error("{host_name}: {found}")]
    Changed {
        /// The host name.
        host_name: String,
        /// What was found there.
        found: String,
    },
    /// There is no record to change.
    #[error("{host_name} has no CNAME, A or AAAA record{detail}")]
    Missing {
        /// The host name.
        host_name: String,
        /// More, or empty.
        detail: &'static str,
    },
    /// A server does not give the new answer, although the primary has taken it.
    #[error("{server} does not give the new {kind} of {host_name} yet")]
    NotSeen {
        /// The server that was asked.
        server: SocketAddr,
        /// The record's type.
        kind: Kind,
        /// The host name.
        host_name: String,
    },
    /// The zone's mark says that a later order has acted.
    #[error("{host_name}: the mark is of revision {marked}, this order of revision {ordered}")]
    Outdated {
        /// The host name.
        host_name: String,
        /// The mark's revision.
        marked: u64,
        /// The order's.
        ordered: u64,
    },
    /// The configuration does not fit what is to be done.
    #[error("{0}")]
    Configuration(String),
    /// A host name cannot be used.
    #[error("{name:?}: {problem}")]
    HostName {
        /// The name as it was given, cut to its first characters.
        name: String,
        /// What is wrong with it, and what to write.
        problem: &'static str,
    },
    /// A key's file cannot be used.
    #[error("{path}: {problem}")]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The order lacks something.
    #[error("the job lacks its {0}")]
    Incomplete(&'static str),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let code = match &error {
            Error::Unreachable { .. } => Code::DnsUnreachable,
            Error::Refused { .. } => Code::DnsRefused,
            Error::Failed { .. } => Code::DnsFailed,
            Error::Changed { .. } => Code::DnsChanged,
            Error::Missing { .. } => Code::DnsMissing,
            Error::NotSeen { .. } => Code::DnsNotSeen,
            Error::Outdated { .. } => Code::DnsOutdated,
            Error::Configuration(_) => Code::DnsConfiguration,
            Error::HostName { .. } => Code::InventoryHostName,
            Error::Key { .. } => Code::SecretUnreadable,
            Error::Incomplete(_) => Code::JobIncomplete,
        };
        Self::new(code, codes::chain(&error))
    }
}
