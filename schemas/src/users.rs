//! Who speaks on the bus: each has a key of its own and the least rights (`services/access`).
//!
//! A name is also a file's (`dump.src-1.nk`) and part of an inbox's subject, so that nobody hears
//! what another was answered.

use std::fmt;

use crate::names::ServerName;

/// A user of the bus.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum User {
    /// Makes streams.
    Admin,
    /// Whoever plans, starts, pauses and retries.
    Operator,
    /// Whoever only looks: commands and programs that read the log.
    Reader,
    /// The orchestrator.
    Orchestrator,
    /// The projector.
    Projector,
    /// The HTTP service for customers' dumps.
    Console,
    /// The host names.
    Dns,
    /// The customers' messages.
    Notify,
    /// The dump service of one source.
    Dump(ServerName),
    /// The import service of one destination.
    Import(ServerName),
}

impl User {
    /// The users that every campaign has, whatever its servers.
    pub const COMMON: [Self; 8] = [
        Self::Admin,
        Self::Operator,
        Self::Reader,
        Self::Orchestrator,
        Self::Projector,
        Self::Console,
        Self::Dns,
        Self::Notify,
    ];

    /// What the subjects begin with on which it is answered.
    pub fn inbox(&self) -> String {
        format!("_INBOX.{self}")
    }
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Admin => f.write_str("admin"),
            Self::Operator => f.write_str("operator"),
            Self::Reader => f.write_str("reader"),
            Self::Orchestrator => f.write_str("orchestrator"),
            Self::Projector => f.write_str("projector"),
            Self::Console => f.write_str("console"),
            Self::Dns => f.write_str("dns"),
            Self::Notify => f.write_str("notify"),
            Self::Dump(server) => write!(f, "dump.{server}"),
            Self::Import(server) => write!(f, "import.{server}"),
        }
    }
}
