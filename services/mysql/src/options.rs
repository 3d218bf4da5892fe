//! A server's part of the configuration.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::Error;

/// How Drover reaches one MySQL or MariaDB server, and whom it trusts there.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// The server's host name or address.
    pub host: String,
    /// The server's TCP port.
    #[serde(default = "port")]
    pub port: u16,
    /// Drover's account.
    #[serde(default = "user")]
    pub user: String,
    /// The file that holds its password and nothing else; a newline at its end is left out. An
    /// empty path: the account has no password.
    #[serde(default)]
    pub password_file: PathBuf,
    /// TLS towards the server; without it the connection is in the clear.
    #[serde(default)]
    pub tls: Option<Tls>,
    /// Accounts (`user@host`, as in `mysql.user`; a role without the `@`) that may write
    /// anywhere on the server, and that will not write to a database while it moves: the
    /// provider's own. Drover's account is always among them.
    #[serde(default = "trusted_accounts")]
    pub trusted_accounts: Vec<String>,
    /// Its replicas, with the same account: how far they are behind is part of what it is under.
    #[serde(default)]
    pub replicas: Vec<Replica>,
    /// How long the sessions that are older than a freeze may take to end after they were killed,
    /// their rollback included, in milliseconds.
    #[serde(default = "sessions_end_ms_max")]
    pub sessions_end_ms_max: u64,
}

/// Where a replica is.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Replica {
    /// Its host name or address.
    pub host: String,
    /// Its TCP port.
    #[serde(default = "port")]
    pub port: u16,
}

/// TLS towards a server.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tls {
    /// Certificate authorities in PEM; none: the system's.
    pub ca_file: Option<PathBuf>,
    /// The name that must stand in the server's certificate; none: `host`.
    pub server_name: Option<String>,
}

fn port() -> u16 {
    3306
}

fn user() -> String {
    "drover".to_owned()
}

fn sessions_end_ms_max() -> u64 {
    30_000
}

/// What MySQL and MariaDB make when they are installed, and Debian's packages.
fn trusted_accounts() -> Vec<String> {
    [
        "root@localhost",
        "root@127.0.0.1",
        "root@::1",
        "mysql@localhost",
        "mariadb.sys@localhost",
        "debian-sys-maint@localhost",
        "mysql.sys@localhost",
        "mysql.session@localhost",
        "mysql.infoschema@localhost",
    ]
    .map(str::to_owned)
    .to_vec()
}

impl Options {
    /// The defaults, for a server at this address.
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self {
            host: host.into(),
            port,
            user: user(),
            password_file: PathBuf::new(),
            tls: None,
            trusted_accounts: trusted_accounts(),
            replicas: Vec::new(),
            sessions_end_ms_max: sessions_end_ms_max(),
        }
    }

    /// The password of Drover's account, read anew each time, so that it may be changed.
    pub(crate) fn password(&self) -> Result<Option<String>, Error> {
        if self.password_file == Path::new("") {
            return Ok(None);
        }
        Ok(Some(drover_secrets::read(&self.password_file)?.expose().to_owned()))
    }
}
