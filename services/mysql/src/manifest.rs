//! What lies beside a dump in the store, for whoever loads it.

use serde::{Deserialize, Serialize};

use crate::{
    Description,
    draft::Form,
    frames::{self, Frame},
};

/// The version of the manifest that is written, and the only one that is read.
const VERSION: u32 = 2;

/// What a dump holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contents {
    /// The source database at the consistency point.
    pub description: Description,
    /// The server that it was read from.
    pub source: Source,
    /// How its frames are compressed.
    #[serde(default)]
    pub form: Form,
    /// The frames of the stored object, in order.
    pub frames: Vec<Frame>,
}

impl Contents {
    /// The size of the stored object, in bytes.
    pub fn stored_bytes(&self) -> u64 {
        self.frames.last().map_or(0, |frame| frame.offset.saturating_add(frame.bytes))
    }
}

/// The server that a dump was read from, beside its version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// Its `sql_mode`.
    pub sql_mode: String,
    /// Its default character set.
    pub charset: String,
    /// The consistency point: the GTIDs, and the place in the binary log; empty without one.
    pub gtid: String,
    /// The binary log's file.
    pub binlog_file: String,
    /// The place in it, in bytes.
    pub binlog_position: u64,
    /// When that was, by the source's clock, in milliseconds since 1970.
    pub at_unix_ms: i64,
}

/// A dump's manifest, as JSON in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    version: u32,
    /// What the dump holds.
    #[serde(flatten)]
    pub contents: Contents,
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
    /// Its frames cannot be those of a dump.
    #[error("the manifest is wrong: {0}")]
    Frames(String),
}

/// What every version has.
#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

impl Manifest {
    /// A manifest of the present version.
    pub fn new(contents: Contents, accounts_sha256: String) -> Self {
        Self { version: VERSION, contents, accounts_sha256 }
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
    /// When it is not a manifest of this version, or of no dump that there could be.
    pub fn from_json(json: &[u8]) -> Result<Self, Error> {
        let Versioned { version } = serde_json::from_slice(json)?;
        if version != VERSION {
            return Err(Error::Version(version));
        }
        let manifest: Self = serde_json::from_slice(json)?;
        frames::check(&manifest.contents.frames).map_err(Error::Frames)?;
        Ok(manifest)
    }
}
