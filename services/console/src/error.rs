//! What can go wrong at the door.

use std::{io, net::SocketAddr};

use drover_schemas::{Code, Failure};

/// Why the console cannot serve, or could not give a dump.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `[console]` cannot be used.
    #[error("[console] {0}")]
    Configuration(String),
    /// The address cannot be listened at.
    #[error("[console] listen {address}: {source}")]
    Address {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The object store.
    #[error(transparent)]
    Store(#[from] drover_dumpstore::Error),
    /// The bus.
    #[error(transparent)]
    Bus(#[from] drover_bus::Error),
    /// The HTTP server ended.
    #[error("the HTTP server ended: {0}")]
    Serving(io::Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::Store(error) => error.into(),
            Error::Bus(error) => error.into(),
            Error::Configuration(_) | Error::Address { .. } | Error::Serving(_) => {
                Self::new(Code::ConfigInvalid, error.to_string())
            }
        }
    }
}
