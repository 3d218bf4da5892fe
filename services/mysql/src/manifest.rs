//! What lies beside a dump in the store, for whoever loads it.

use serde::{Deserialize, Serialize};

use crate::Description;

/// The version of the manifest that is written, and the only one that is read.
const VERSION: u32 = 1;

/// A dump's manifest, as JSON in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    version: u32,
    /// The source database at the consistency point.
    pub description: Description,
    /// Of the stored dump: how many compressed bytes, from its beginning, an import loads. What
    /// follows is for customers only: it enables the scheduled events.
    pub loaded_bytes: u64,
    /// The size of the SQL in those, in bytes.
    pub sql_bytes: u64,
    /// The digest of the sealed accounts, in hexadecimal.
    pub accounts_sha256: String,
}

/// A manifest that this version cannot read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not JSON, or not of this form.
    #[error("the manifest cannot be read: {0}")]
    Malformed(#[from] serde_json::Error),
    /// Of another version.
    #[error("the manifest has version {0}, not {VERSION}")]
    Version(u32),
}

impl Manifest {
    /// A manifest of the present version.
    pub fn new(
        description: Description,
        loaded_bytes: u64,
        sql_bytes: u64,
        accounts_sha256: String,
    ) -> Self {
        Self { version: VERSION, description, loaded_bytes, sql_bytes, accounts_sha256 }
    }

    /// Its JSON.
    ///
    /// # Errors
    /// None that is known of: all keys are texts.
    pub fn to_json(&self) -> Result<Vec<u8>, Error> {
        Ok(serde_json::to_vec(self)?)
    }

    /// Reads it.
    ///
    /// # Errors
    /// When it is not a manifest of this version.
    pub fn from_json(json: &[u8]) -> Result<Self, Error> {
        let manifest: Self = serde_json::from_slice(json)?;
        if manifest.version == VERSION {
            Ok(manifest)
        } else {
            Err(Error::Version(manifest.version))
        }
    }
}
