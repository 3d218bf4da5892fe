//! What can go wrong while the configuration is made.

use std::{io, path::PathBuf};

use drover_schemas::{Code, Failure, codes::chain};

/// Why it was not made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be written or read.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A key that is there cannot be used.
    #[error(transparent)]
    Secret(#[from] drover_secrets::Error),
    /// A key that is there is none.
    #[error("{path}: {reason}")]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A certificate cannot be made.
    #[error("making a certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    /// A user's key cannot be made.
    #[error("making a key: {0}")]
    NewKey(String),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let code = match error {
            Error::File { .. } => Code::InitFailed,
            Error::Secret(_) => Code::SecretUnreadable,
            Error::Key { .. } | Error::Certificate(_) | Error::NewKey(_) => Code::InitRefused,
        };
        Self::new(code, chain(&error))
    }
}
