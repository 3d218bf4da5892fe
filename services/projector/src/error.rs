//! What can go wrong with a projection.

use std::path::PathBuf;

use drover_schemas::{CampaignName, Code, Failure, codes::chain};

/// An error of the projections. None of them holds a row of a customer's data.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file belongs to another program; it is not touched.
    #[error("{} is not a file of Drover's projections", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// The file was written by another version, and only its writer makes it anew.
    #[error("{} is of version {found}, this program reads version {wanted}", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// The version in it.
        found: i64,
        /// The version that is read here.
        wanted: i64,
    },
    /// A row holds what no version has written.
    #[error("the projections' file is damaged: {what} is {text:?}")]
    Damaged {
        /// Which part of the row.
        what: &'static str,
        /// What stands there.
        text: String,
    },
    /// The file, or the disk under it, failed.
    #[error("the projections' file failed")]
    Sqlite(#[from] rusqlite::Error),
    /// The file could not be opened, locked or removed.
    #[error("{}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The bus failed.
    #[error(transparent)]
    Bus(#[from] drover_bus::Error),
    /// The campaign is not in the log.
    #[error("{0}")]
    CampaignUnknown(CampaignName),
    /// The tables have not reached the log's end yet.
    #[error("the projections of {0} are still being folded")]
    Behind(CampaignName),
    /// The question is not one of this version.
    #[error("the projector does not know the question: {0}")]
    Question(String),
    /// A task ended before its work was done.
    #[error("a task of the projector ended: {0}")]
    Task(#[from] tokio::task::JoinError),
}

impl Error {
    /// Its code.
    pub fn code(&self) -> Code {
        match self {
            Self::Foreign { .. } => Code::ProjectionForeign,
            Self::Version { .. }
            | Self::Damaged { .. }
            | Self::Sqlite(_)
            | Self::File { .. }
            | Self::Task(_) => Code::ProjectionFailed,
            Self::Bus(error) => error.code(),
            Self::CampaignUnknown(_) => Code::CampaignUnknown,
            Self::Behind(_) => Code::NoAnswer,
            Self::Question(_) => Code::EventUndecodable,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::new(error.code(), chain(&error))
    }
}
