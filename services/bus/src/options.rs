//! How to reach NATS: the `[nats]` part of the configuration.

use std::{
    ops::RangeInclusive,
    path::{Path, PathBuf},
    time::Duration,
};

use async_nats::{ConnectOptions, ServerAddr};
use drover_schemas::users::User;
use serde::{Deserialize, Serialize};

use crate::Error;

/// The `[nats]` part of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// Where the servers are, `nats://host:4222` or `tls://host:4222`; several of one cluster are
    /// separated by commas. Without credentials in it: those have files of their own.
    pub url: String,
    /// A credentials file (`.creds`) with a JWT and its seed.
    pub credentials_file: Option<PathBuf>,
    /// The folder of users' keys that `drover init` made: each service and command connects as the
    /// user of its own, `dump.src-1.nk` and so on, with its own rights.
    pub users_folder: Option<PathBuf>,
    /// A file with the seed of an NKey.
    pub nkey_seed_file: Option<PathBuf>,
    /// The user's name, where the server knows users by password.
    pub user: Option<String>,
    /// A file with the user's password.
    pub password_file: Option<PathBuf>,
    /// A file with the certificates of the authorities that the servers' certificates come from.
    /// Setting it makes TLS mandatory.
    pub tls_ca_file: Option<PathBuf>,
    /// Drover's own certificate, where the server asks for one.
    pub tls_certificate_file: Option<PathBuf>,
    /// The key of `tls_certificate_file`.
    pub tls_key_file: Option<PathBuf>,
    /// How many servers keep each stream: 1, or 3 in a cluster (odd, at most 5).
    pub replicas: usize,
    /// Whether the servers sync each message to the disk before they acknowledge it
    /// (`sync_interval: always`), as those do that `drover init` configures. Then events that wait
    /// for one another are stored together.
    pub synced: bool,
    /// How long the first connection is tried for, in milliseconds. Later ones are tried for ever.
    pub connect_wait_ms: u64,
    /// How long a job may go without a sign of life from the instance that has it, in
    /// milliseconds, before it is given to another: 2,000 to 600,000, the same at every service.
    pub ack_wait_ms: u64,
    /// What the subjects begin with on which this client is answered: its user's.
    #[serde(skip)]
    pub inbox: Option<String>,
}

/// The bounds of `ack_wait_ms`. A sign of life is sent several times in it, over a bus that may be
/// slow; and a job of an instance that died lies still for so long.
const ACK_WAIT_MS: RangeInclusive<u64> = 2_000..=600_000;

impl Default for Options {
    fn default() -> Self {
        Self {
            url: "nats://127.0.0.1:4222".to_owned(),
            credentials_file: None,
            users_folder: None,
            nkey_seed_file: None,
            user: None,
            password_file: None,
            tls_ca_file: None,
            tls_certificate_file: None,
            tls_key_file: None,
            replicas: 1,
            synced: true,
            connect_wait_ms: 5_000,
            ack_wait_ms: 30_000,
            inbox: None,
        }
    }
}

impl Options {
    /// The options by which `user` connects: with its own key where there is a folder of them, as
    /// everybody else otherwise.
    ///
    /// # Errors
    /// [`Error::Configuration`] where other credentials are given too.
    pub fn of(&self, user: &User) -> Result<Self, Error> {
        let Some(folder) = &self.users_folder else { return Ok(self.clone()) };
        if self.credentials_file.is_some() || self.nkey_seed_file.is_some() || self.user.is_some() {
            let reason = "other credentials are given too".to_owned();
            return Err(Error::Configuration { key: "users_folder", reason });
        }
        let mut options = self.clone();
        options.nkey_seed_file = Some(folder.join(format!("{user}.nk")));
        options.inbox = Some(user.inbox());
        Ok(options)
    }

    /// The servers' addresses. An address with credentials in it is refused: it would be in every
    /// error text.
    pub(crate) fn servers(&self) -> Result<Vec<ServerAddr>, Error> {
        let wrong = |reason: String| Error::Configuration { key: "url", reason };
        let mut servers = Vec::new();
        for (number, text) in self.url.split(',').map(str::trim).enumerate() {
            // The text is quoted only once it is known to hold no password.
            if text.contains('@') {
                let place = number + 1;
                return Err(wrong(format!(
                    "address {place} holds credentials; use user and password_file"
                )));
            }
            let server: ServerAddr =
                text.parse().map_err(|_| wrong(format!("{text:?} is not nats://host:port")))?;
            servers.push(server);
        }
        Ok(servers)
    }

    /// The client's options that follow from these.
    pub(crate) fn client(&self) -> Result<ConnectOptions, Error> {
        if !matches!(self.replicas, 1 | 3 | 5) {
            let reason = format!("{} is not 1, 3 or 5", self.replicas);
            return Err(Error::Configuration { key: "replicas", reason });
        }
        if !ACK_WAIT_MS.contains(&self.ack_wait_ms) {
            let (least, most) = (ACK_WAIT_MS.start(), ACK_WAIT_MS.end());
            let reason = format!("{} is not from {least} to {most}", self.ack_wait_ms);
            return Err(Error::Configuration { key: "ack_wait_ms", reason });
        }
        let mut options = ConnectOptions::new();
        if let Some(path) = &self.credentials_file {
            options = options.credentials(&secret(path)?).map_err(|_| Error::Configuration {
                key: "credentials_file",
                reason: format!("{} is not a credentials file", path.display()),
            })?;
        }
        if let Some(path) = &self.nkey_seed_file {
            options = options.nkey(secret(path)?);
        }
        if let Some(inbox) = &self.inbox {
            options = options.custom_inbox_prefix(inbox);
        }
        match (&self.user, &self.password_file) {
            (Some(user), Some(path)) => {
                options = options.user_and_password(user.clone(), secret(path)?);
            }
            (None, None) => {}
            (Some(_), None) | (None, Some(_)) => {
                let reason = "user and password_file belong together".to_owned();
                return Err(Error::Configuration { key: "user", reason });
            }
        }
        if let Some(path) = &self.tls_ca_file {
            options = options.add_root_certificates(path.clone()).require_tls(true);
        }
        match (&self.tls_certificate_file, &self.tls_key_file) {
            (Some(certificate), Some(key)) => {
                options = options.add_client_certificate(certificate.clone(), key.clone());
            }
            (None, None) => {}
            (Some(_), None) | (None, Some(_)) => {
                let reason = "tls_certificate_file and tls_key_file belong together".to_owned();
                return Err(Error::Configuration { key: "tls_certificate_file", reason });
            }
        }
        Ok(options)
    }

    pub(crate) fn ack_wait(&self) -> Duration {
        Duration::from_millis(self.ack_wait_ms)
    }

    pub(crate) fn connect_wait(&self) -> Duration {
        Duration::from_millis(self.connect_wait_ms)
    }
}

fn secret(path: &Path) -> Result<String, Error> {
    Ok(drover_secrets::read(path)?.expose().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_url(url: &str) -> Options {
        Options { url: url.to_owned(), ..Options::default() }
    }

    #[test]
    fn several_servers_are_separated_by_commas() {
        assert_eq!(with_url("nats://a:4222, nats://b:4222").servers().unwrap().len(), 2);
        assert!(with_url("nats://a:port").servers().is_err());
    }

    #[test]
    fn a_password_in_the_address_is_refused_and_not_repeated() {
        let error = with_url("nats://u:hunter2@a:4222").servers().unwrap_err();
        assert_eq!(error.code(), drover_schemas::Code::ConfigInvalid);
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }

    #[test]
    fn what_belongs_together_comes_together() {
        let lone = Options { user: Some("u".to_owned()), ..Options::default() };
        assert!(lone.client().is_err());
        let even = Options { replicas: 2, ..Options::default() };
        assert!(even.client().is_err());
        let hasty = Options { ack_wait_ms: 100, ..Options::default() };
        assert!(hasty.client().is_err());
        let missing = Options { nkey_seed_file: Some("/nonexistent".into()), ..Options::default() };
        let error = missing.client().map(drop).unwrap_err();
        assert_eq!(error.code(), drover_schemas::Code::SecretUnreadable);
    }
}
