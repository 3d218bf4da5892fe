//! What can go wrong with the store.

use std::io;

use drover_schemas::{Code, Failure, codes::chain};

/// How much of a store's own words an error repeats, in characters: some answer with whole pages.
const TEXT_CHARS_MAX: usize = 300;

/// Why the store could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration does not describe a store.
    #[error("{0}")]
    Configuration(String),
    /// `[links]` cannot be used.
    #[error("[links] {0}")]
    Link(String),
    /// A secret's file cannot be used.
    #[error(transparent)]
    Secret(#[from] drover_secrets::Error),
    /// The store refused the credentials, or a right is missing.
    #[error("the store refused to {action} {key}: its credentials or rights do not suffice")]
    Denied {
        /// What was tried.
        action: &'static str,
        /// On which object.
        key: String,
    },
    /// A text that is not the key of any object of Drover's.
    #[error("{0:?} is not an object's key")]
    NotAKey(String),
    /// The object is not there.
    #[error("{0} is not in the store")]
    Missing(String),
    /// The object is not what was written.
    #[error("{key}: {difference}")]
    Corrupt {
        /// Which object.
        key: String,
        /// In what it differs.
        difference: String,
    },
    /// The object is larger than any may be.
    #[error("{key} is larger than {bytes_max} bytes")]
    TooLarge {
        /// Which object.
        key: String,
        /// The limit that it breaks.
        bytes_max: u64,
    },
    /// The store, or the way to it, failed; also a full disk.
    #[error("could not {action} {key}: {text}")]
    Failed {
        /// What was tried.
        action: &'static str,
        /// On which object.
        key: String,
        /// The store's own words.
        text: String,
    },
}

impl Error {
    /// The error within an I/O error of a [`crate::Reader`] or [`crate::Writer`]; any other I/O
    /// error is a failure of the store.
    pub fn from_io(error: io::Error) -> Self {
        match error.downcast::<Self>() {
            Ok(error) => error,
            Err(error) => Self::failed("use", "the store", &error),
        }
    }

    pub(crate) fn failed(
        action: &'static str,
        key: impl ToString,
        source: &dyn std::error::Error,
    ) -> Self {
        let text = chain(source).replace(['\n', '\r'], " ").chars().take(TEXT_CHARS_MAX).collect();
        Self::Failed { action, key: key.to_string(), text }
    }

    pub(crate) fn of_store(
        action: &'static str,
        key: impl ToString,
        source: &object_store::Error,
    ) -> Self {
        use object_store::Error as Source;
        match source {
            Source::NotFound { .. } => Self::Missing(key.to_string()),
            Source::PermissionDenied { .. } | Source::Unauthenticated { .. } => {
                Self::Denied { action, key: key.to_string() }
            }
            _ => Self::failed(action, key, source),
        }
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = match &error {
            Error::Missing(_) | Error::NotAKey(_) => io::ErrorKind::NotFound,
            Error::Corrupt { .. } => io::ErrorKind::InvalidData,
            Error::Denied { .. } | Error::Configuration(_) | Error::Link(_) | Error::Secret(_) => {
                io::ErrorKind::PermissionDenied
            }
            Error::TooLarge { .. } => io::ErrorKind::FileTooLarge,
            Error::Failed { .. } => io::ErrorKind::Other,
        };
        Self::new(kind, error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let code = match &error {
            Error::Configuration(_) | Error::Denied { .. } => Code::StoreConfiguration,
            Error::Link(_) => Code::NotifyConfiguration,
            Error::Secret(_) => Code::SecretUnreadable,
            Error::NotAKey(_) | Error::Missing(_) => Code::StoreMissing,
            Error::Corrupt { .. } => Code::StoreCorrupt,
            Error::TooLarge { .. } => Code::StoreTooLarge,
            Error::Failed { .. } => Code::StoreFailed,
        };
        Self::new(code, error.to_string())
    }
}
