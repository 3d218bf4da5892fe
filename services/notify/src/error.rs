//! What can go wrong while telling.

use drover_schemas::{Code, Failure, codes::chain};

/// Why a step was not done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The object store.
    #[error(transparent)]
    Store(drover_dumpstore::Error),
    /// The bus.
    #[error(transparent)]
    Bus(#[from] drover_bus::Error),
    /// A secret's file cannot be used.
    #[error(transparent)]
    Secret(#[from] drover_secrets::Error),
    /// The configuration cannot be used.
    #[error("{0}")]
    Configuration(String),
    /// The order lacks something.
    #[error("the job lacks its {0}")]
    Incomplete(&'static str),
    /// A template cannot be used.
    #[error("template {name}: {problem}")]
    Template {
        /// Which one.
        name: &'static str,
        /// What is wrong with it, and in which line.
        problem: String,
    },
    /// The certificate of the mail server or of the webhook's receiver is not accepted, or it
    /// speaks no TLS. Nothing was said to it.
    #[error("{0}")]
    Untrusted(String),
    /// The mail server did not take the message; it may later.
    #[error("{0}")]
    MailFailed(String),
    /// The mail server will never take the message.
    #[error("{0}")]
    MailRefused(String),
    /// The webhook's receiver did not take the message; it may later.
    #[error("{0}")]
    WebhookFailed(String),
    /// The webhook's receiver will never take the message.
    #[error("{0}")]
    WebhookRefused(String),
}

impl From<drover_dumpstore::Error> for Error {
    fn from(error: drover_dumpstore::Error) -> Self {
        match error {
            drover_dumpstore::Error::Secret(error) => Self::Secret(error),
            error => Self::Store(error),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let code = match error {
            Error::Store(error) => return error.into(),
            Error::Bus(error) => return error.into(),
            Error::Secret(_) => Code::SecretUnreadable,
            Error::Configuration(_) => Code::NotifyConfiguration,
            Error::Incomplete(_) => Code::JobIncomplete,
            Error::Template { .. } => Code::TemplateInvalid,
            Error::Untrusted(_) => Code::PeerUntrusted,
            Error::MailFailed(_) => Code::MailFailed,
            Error::MailRefused(_) => Code::MailRefused,
            Error::WebhookFailed(_) => Code::WebhookFailed,
            Error::WebhookRefused(_) => Code::WebhookRefused,
        };
        Self::new(code, chain(&error))
    }
}

impl Error {
    /// Whether the step is worth trying again.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Self::Untrusted(_) | Self::MailFailed(_) | Self::WebhookFailed(_) => true,
            Self::Bus(error) => error.code().is_transient(),
            Self::Store(drover_dumpstore::Error::Failed { .. }) => true,
            Self::Store(_)
            | Self::Secret(_)
            | Self::Configuration(_)
            | Self::Incomplete(_)
            | Self::Template { .. }
            | Self::MailRefused(_)
            | Self::WebhookRefused(_) => false,
        }
    }
}
