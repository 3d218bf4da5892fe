//! What can go wrong with a server, and under which code it is reported.
//!
//! A server's own messages quote names, values and whole rows of a customer's. Only what stands
//! outside the quotes is taken over ([`scrub`]), with the error's number.

use std::io;

use drover_schemas::{Code, Failure, codes};

/// What went wrong, on which server.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No connection, or it was lost.
    #[error("{server}: {doing}: {reason}")]
    Unreachable {
        /// The server's name in the configuration.
        server: String,
        /// What was being done.
        doing: &'static str,
        /// The connection's end of it; no server message.
        reason: String,
    },
    /// Its certificate is not accepted, or it speaks no TLS.
    #[error("{server}: {doing}: {reason}")]
    Untrusted {
        /// The server's name in the configuration.
        server: String,
        /// What was being done.
        doing: &'static str,
        /// What is wrong with the certificate.
        reason: String,
    },
    /// Drover's account was refused.
    #[error("{server}: the account {user} was refused (error {number})")]
    Denied {
        /// The server's name in the configuration.
        server: String,
        /// Drover's user name.
        user: String,
        /// The server's error number.
        number: u16,
    },
    /// The file of Drover's password cannot be used.
    #[error(transparent)]
    Secret(#[from] drover_secrets::Error),
    /// Drover's account may not do what is needed.
    #[error("{server}: {doing}: error {number}; needed: {grant}")]
    RightMissing {
        /// The server's name in the configuration.
        server: String,
        /// What was being done.
        doing: &'static str,
        /// The server's error number.
        number: u16,
        /// The statement that gives the account all that it needs.
        grant: String,
    },
    /// A statement failed in the server.
    #[error("{server}: {doing}: error {number}: {text}")]
    Statement {
        /// The server's name in the configuration.
        server: String,
        /// What was being done.
        doing: &'static str,
        /// The server's error number.
        number: u16,
        /// The server's message without what stands between quotes.
        text: String,
    },
    /// The server answered what cannot be understood.
    #[error("{server}: {doing}: {what}")]
    Unexpected {
        /// The server's name in the configuration.
        server: String,
        /// What was being done.
        doing: &'static str,
        /// What was found.
        what: String,
    },
    /// The server is not one that Drover knows how to move.
    #[error("{server} is {version}")]
    Unsupported {
        /// The server's name in the configuration.
        server: String,
        /// What the server says that it is.
        version: String,
    },
    /// The ledger holds a later order than this one.
    #[error(
        "{server}: the ledger of {migration} is {state} at revision {ledger}, the order is of revision {order}"
    )]
    LedgerOutdated {
        /// The server's name in the configuration.
        server: String,
        /// The migration's id.
        migration: String,
        /// The ledger's state.
        state: String,
        /// The ledger's revision.
        ledger: u64,
        /// The order's revision.
        order: u64,
    },
    /// Another instance holds the lock.
    #[error("{server}: the lock of {migration} was not free within {seconds} s")]
    LedgerBusy {
        /// The server's name in the configuration.
        server: String,
        /// The migration's id.
        migration: String,
        /// How long it was waited for.
        seconds: u32,
    },
    /// Anything else that has a code of its own: what was found, on which thing.
    #[error("{server}: {what}")]
    Found {
        /// The code.
        code: Code,
        /// The server's name in the configuration.
        server: String,
        /// What was found.
        what: String,
    },
    /// The dump that was to be loaded could not be read. The source may be the error of whoever
    /// reads it, with a code of its own.
    #[error("{server}: reading the dump")]
    Reading {
        /// The server that it was to be loaded into.
        server: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The dump could not be written. The source may be the error of whoever writes it, with a code
    /// of its own.
    #[error("{server}: writing the dump")]
    Writing {
        /// The server that it was read from.
        server: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// An order lacks a part, or a part cannot be read.
    #[error("the job's {0}")]
    Order(String),
}

/// Access denied: to the server, by its password; by its plugin.
const DENIED: [u16; 3] = [1045, 1698, 1130];

/// A right is missing: on a database, a table, a column, a global right, a routine, to grant.
const RIGHT_MISSING: [u16; 7] = [1044, 1142, 1143, 1227, 1370, 1410, 1132];

/// What goes away by itself: too many connections, disk full, shutdown, lock waits, deadlocks,
/// interrupted, killed, statement timeouts, aborted connections, a table or schema that is being
/// changed, an engine's momentary failure.
const TRANSIENT: [u16; 24] = [
    1020, 1021, 1030, 1040, 1041, 1053, 1078, 1080, 1152, 1158, 1159, 1160, 1161, 1203, 1205, 1206,
    1213, 1317, 1412, 1637, 1927, 1969, 3024, 4031,
];

/// Whether an error of this number may go away by itself.
pub(crate) fn is_transient(number: u16) -> bool {
    TRANSIENT.contains(&number)
}

impl Error {
    /// What a statement's error is called, told by the driver; `account` is Drover's user and host.
    pub(crate) fn of_statement(
        server: &str,
        account: (&str, &str),
        doing: &'static str,
        error: &mysql_async::Error,
    ) -> Self {
        let (user, host) = account;
        let server = server.to_owned();
        match error {
            mysql_async::Error::Server(e) if DENIED.contains(&e.code) => {
                Self::Denied { server, user: user.to_owned(), number: e.code }
            }
            mysql_async::Error::Server(e) if RIGHT_MISSING.contains(&e.code) => {
                let grant = crate::inspect::grants_needed(user, host);
                Self::RightMissing { server, doing, number: e.code, grant }
            }
            mysql_async::Error::Server(e) => {
                Self::Statement { server, doing, number: e.code, text: scrub(&e.message) }
            }
            mysql_async::Error::Io(e) => {
                let reason = codes::chain(e);
                match codes::untrusted(&reason) {
                    Some(reason) => Self::Untrusted { server, doing, reason },
                    None => Self::Unreachable { server, doing, reason },
                }
            }
            mysql_async::Error::Driver(e) => Self::of_driver(server, doing, e),
            mysql_async::Error::Other(_) | mysql_async::Error::Url(_) => Self::Unexpected {
                server,
                doing,
                what: "the driver refused the connection's options".to_owned(),
            },
        }
    }

    fn of_driver(server: String, doing: &'static str, error: &mysql_async::DriverError) -> Self {
        use mysql_async::DriverError as Driver;
        match error {
            Driver::ConnectionClosed | Driver::PoolDisconnected => {
                Self::Unreachable { server, doing, reason: "the connection was lost".to_owned() }
            }
            Driver::NoClientSslFlagFromServer => {
                Self::Untrusted { server, doing, reason: "the server speaks no TLS".to_owned() }
            }
            // The others' texts may hold a row.
            other => {
                let debug = format!("{other:?}");
                let kind: String = debug.chars().take_while(char::is_ascii_alphanumeric).collect();
                Self::Unexpected { server, doing, what: format!("the driver's error {kind}") }
            }
        }
    }

    /// The server's error number, when it was a statement that failed.
    pub fn number(&self) -> Option<u16> {
        match self {
            Self::Statement { number, .. }
            | Self::RightMissing { number, .. }
            | Self::Denied { number, .. } => Some(*number),
            Self::Unreachable { .. }
            | Self::Untrusted { .. }
            | Self::Secret(_)
            | Self::Unexpected { .. }
            | Self::Unsupported { .. }
            | Self::LedgerOutdated { .. }
            | Self::LedgerBusy { .. }
            | Self::Found { .. }
            | Self::Reading { .. }
            | Self::Writing { .. }
            | Self::Order(_) => None,
        }
    }

    /// The code under which it is reported.
    pub fn code(&self) -> Code {
        match self {
            Self::Unreachable { .. } => Code::ServerUnreachable,
            Self::Untrusted { .. } => Code::PeerUntrusted,
            Self::Denied { .. } => Code::ServerDenied,
            Self::Secret(_) => Code::SecretUnreadable,
            Self::RightMissing { .. } => Code::ServerRightMissing,
            Self::Statement { number, .. } if is_transient(*number) => Code::ServerFailed,
            Self::Statement { .. } | Self::Unexpected { .. } => Code::ServerRefused,
            Self::Unsupported { .. } => Code::ServerUnsupported,
            Self::LedgerOutdated { .. } => Code::LedgerOutdated,
            Self::LedgerBusy { .. } => Code::LedgerBusy,
            Self::Found { code, .. } => *code,
            Self::Reading { .. } => Code::ImportFailed,
            Self::Writing { .. } => Code::DumpFailed,
            Self::Order(_) => Code::JobIncomplete,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::new(error.code(), codes::chain(&error))
    }
}

/// A server's message without the names and rows that it quotes: from the first quote to the last,
/// of whatever kind, is replaced by `'…'`. An apostrophe inside a word opens nothing; the last
/// quote taken is always at or behind the server's own, whatever a customer's text holds.
pub fn scrub(message: &str) -> String {
    let chars: Vec<(usize, char)> = message.char_indices().collect();
    let letter =
        |i: Option<usize>| i.and_then(|i| chars.get(i)).is_some_and(|(_, c)| c.is_alphanumeric());
    let quote = |i: usize| matches!(chars[i].1, '\'' | '"' | '`');
    let opens =
        (0..chars.len()).find(|&i| quote(i) && !(letter(i.checked_sub(1)) && letter(Some(i + 1))));
    let Some(first) = opens else { return message.to_owned() };
    let closes = (first + 1..chars.len()).rev().find(|&i| quote(i) && !letter(Some(i + 1)));
    let (start, _) = chars[first];
    let end = closes.map_or(message.len(), |i| chars[i].0 + 1);
    format!("{}'…'{}", &message[..start], &message[end..])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn messages_lose_what_they_quote() {
        for (message, text) in [
            ("Duplicate entry 'o'brien' for key 'PRIMARY'", "Duplicate entry '…'"),
            (
                "Can't create database 'x'; database exists",
                "Can't create database '…'; database exists",
            ),
            ("Got an error", "Got an error"),
            ("near 'secret", "near '…'"),
            ("Unknown column `a` in \"b\" clause", "Unknown column '…' clause"),
        ] {
            assert_eq!(scrub(message), text);
        }
    }

    proptest! {
        #[test]
        fn no_quoted_text_survives(row in "[a-z'\"` ]{0,20}SECRET[a-z'\"` ]{0,20}") {
            let text = scrub(&format!("Duplicate entry '{row}' for key 'k'"));
            prop_assert!(!text.contains("SECRET"));
        }
    }
}
