//! A server of the configuration, and how it is connected to.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use drover_schemas::{Code, ServerName};
use mysql_async::{Conn, Opts, OptsBuilder, SslOpts};

use crate::{
    Error, Options, Session,
    connection::{Begun, SILENCE_S_MAX},
    keep::Keep,
    ledger::LOCK_S_MAX,
    options::{Replica, Tls},
    questions::Questions,
};

/// How long a connection may take to be made, or to answer at the end of a step or the beginning of the
/// next, in seconds.
const CONNECT_S_MAX: u64 = 10;
pub(crate) const LIMIT: Duration = Duration::from_secs(CONNECT_S_MAX);

/// How long a step may take to begin: also with both of its locks to be waited for.
const BEGIN_LIMIT: Duration = Duration::from_secs(CONNECT_S_MAX + 2 * LOCK_S_MAX as u64);

/// What a session may send at once; the server's own limit applies as well.
const PACKET_BYTES_MAX: usize = 1 << 30;

/// A server of the configuration. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Server {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    name: ServerName,
    options: Options,
    replicas: Vec<Server>,
    keep: Arc<Keep>,
}

impl Server {
    /// A server; nothing is connected yet. An error when its password file cannot be read.
    pub fn new(name: ServerName, options: Options) -> Result<Self, Error> {
        options.password()?;
        let replica = |Replica { host, port }: &Replica| {
            let (host, port, replicas) = (host.clone(), *port, Vec::new());
            Self::new(name.clone(), Options { host, port, replicas, ..options.clone() })
        };
        let replicas = options.replicas.iter().map(replica).collect::<Result<_, _>>()?;
        Ok(Self { inner: Arc::new(Inner { name, options, replicas, keep: Arc::default() }) })
    }

    /// Its connections that are kept.
    pub(crate) fn keep(&self) -> &Arc<Keep> {
        &self.inner.keep
    }

    /// Its replicas.
    pub(crate) fn replicas(&self) -> &[Self] {
        &self.inner.replicas
    }

    /// Its name in the configuration.
    pub fn name(&self) -> &ServerName {
        &self.inner.name
    }

    /// Its part of the configuration.
    pub fn options(&self) -> &Options {
        &self.inner.options
    }

    /// An error about this server that has a code of its own.
    pub(crate) fn found(&self, code: Code, what: impl Into<String>) -> Error {
        Error::Found { code, server: self.name().to_string(), what: what.into() }
    }

    /// The driver's options for Drover's account here.
    pub fn driver_options(&self) -> Result<Opts, Error> {
        let options = self.options();
        let builder = OptsBuilder::default()
            .ip_or_hostname(options.host.clone())
            .tcp_port(options.port)
            .user(Some(options.user.clone()))
            .pass(options.password()?)
            .prefer_socket(false)
            .tcp_nodelay(true)
            .max_allowed_packet(Some(PACKET_BYTES_MAX))
            .wait_timeout(Some(SILENCE_S_MAX as usize))
            .ssl_opts(options.tls.as_ref().map(ssl));
        Ok(builder.into())
    }

    /// A connection, its settings made and the server's kind and version checked.
    pub async fn session(&self) -> Result<Session, Error> {
        Ok(self.session_asking(Questions::default()).await?.0)
    }

    /// The same, with questions in the packet that it begins with, and what was answered to them.
    async fn session_asking(&self, more: Questions) -> Result<Begun, Error> {
        let conn = self.connect(self.driver_options()?).await?;
        Session::begin(self.clone(), conn, Instant::now(), more).await
    }

    /// The same for a step, which may get a connection that is kept. Where that one does not begin well,
    /// as the server has ended it, a new one is made.
    pub(crate) async fn step_session(&self, more: Questions) -> Result<Begun, Error> {
        if let Some((conn, made)) = self.inner.keep.take(&self.driver_options()?) {
            let beginning = Session::begin(self.clone(), conn, made, more.clone());
            match tokio::time::timeout(BEGIN_LIMIT, beginning).await {
                Ok(Ok(begun)) if !begun.0.selects() => return Ok(begun),
                Ok(Ok(_) | Err(_)) | Err(_) => {}
            }
        }
        self.session_asking(more).await
    }

    async fn connect(&self, opts: Opts) -> Result<Conn, Error> {
        match tokio::time::timeout(LIMIT, Conn::new(opts)).await {
            Ok(made) => made.map_err(|e| self.statement_error("connecting", &e)),
            Err(_) => Err(self.silent("connecting")),
        }
    }

    pub(crate) fn silent(&self, doing: &'static str) -> Error {
        let reason = format!("no answer within {CONNECT_S_MAX} s");
        Error::Unreachable { server: self.name().to_string(), doing, reason }
    }

    pub(crate) fn statement_error(&self, doing: &'static str, error: &mysql_async::Error) -> Error {
        Error::of_statement(self.name().as_str(), (&self.options().user, "%"), doing, error)
    }
}

fn ssl(tls: &Tls) -> SslOpts {
    let mut opts = SslOpts::default();
    if let Some(file) = &tls.ca_file {
        opts = opts.with_root_certs(vec![file.clone().into()]).with_disable_built_in_roots(true);
    }
    if let Some(name) = &tls.server_name {
        opts = opts.with_danger_tls_hostname_override(Some(name.clone()));
    }
    opts
}
