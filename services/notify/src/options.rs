//! By which channels customers and the information system are told.

use std::path::PathBuf;

use serde::Deserialize;

/// The part `[notify]` of the configuration. Without `smtp` no mail is sent, without `webhook` no
/// webhook; with neither, migrations complete in silence.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// The mail server.
    pub smtp: Option<Smtp>,
    /// The information system.
    pub webhook: Option<Webhook>,
    /// Whoever runs the campaigns. Without, nobody is told when one pauses by itself or completes, or a
    /// host is set aside.
    pub operators: Option<Operators>,
    /// A folder with templates in place of the built-in ones: `mail.subject.txt`,
    /// `mail.body.txt`, `webhook.json`. One that is missing there is the built-in one.
    pub templates: Option<PathBuf>,
    /// How many jobs are in work at once, over all instances: what mail server and receiver bear.
    pub slots: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self { smtp: None, webhook: None, operators: None, templates: None, slots: 8 }
    }
}

/// Whoever is told of the campaigns themselves; by one of the two ways at least.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Operators {
    /// Mail addresses, by `[notify.smtp]`.
    pub mail_to: Vec<String>,
    /// By `[notify.webhook]` too.
    pub webhook: bool,
}

/// How the way to the mail server is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tls {
    /// Begins in plain text and must go over to TLS before anything is said (port 587).
    #[default]
    StartTls,
    /// TLS from the first byte (port 465).
    Tls,
    /// None: for a mail server on this machine.
    None,
}

impl Tls {
    pub(crate) fn default_port(self) -> u16 {
        match self {
            Self::StartTls => 587,
            Self::Tls => 465,
            Self::None => 25,
        }
    }
}

/// The mail server that takes the customers' messages.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Smtp {
    /// Its name, which its certificate must bear, or its address.
    pub host: String,
    /// Its port; by default 587, 465 or 25, by `tls`.
    pub port: Option<u16>,
    /// How the way is protected.
    #[serde(default)]
    pub tls: Tls,
    /// A PEM file with an authority to trust beside the system's.
    pub ca_file: Option<PathBuf>,
    /// The sender, `Name <address@domain>`. Its domain is part of each `Message-ID`.
    pub from: String,
    /// Where answers go.
    pub reply_to: Option<String>,
    /// The account there; together with `password_file`.
    pub username: Option<String>,
    /// A file with its password, mode 0600.
    pub password_file: Option<PathBuf>,
    /// How long a message may take, in milliseconds, 100 at least.
    #[serde(default = "timeout_ms_default")]
    pub timeout_ms: u64,
}

/// The information system that is told by HTTP, with a signature of Standard Webhooks.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Webhook {
    /// Where messages are posted. `http://` only where the way is safe: they hold the links.
    pub url: String,
    /// A file with the secret that signs, mode 0600: `whsec_` and 24 to 64 random bytes in
    /// base64.
    pub secret_file: PathBuf,
    /// A PEM file with an authority to trust beside the system's.
    pub ca_file: Option<PathBuf>,
    /// How long the receiver may take to answer, in milliseconds, 100 at least.
    #[serde(default = "timeout_ms_default")]
    pub timeout_ms: u64,
}

/// Some mail servers greet only after 20 s or more, to keep spammers away.
fn timeout_ms_default() -> u64 {
    60_000
}

/// The shortest time that is not a mistake.
pub(crate) const TIMEOUT_MS_MIN: u64 = 100;
