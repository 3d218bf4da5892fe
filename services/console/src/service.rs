//! The HTTP service.

use std::{future::IntoFuture as _, sync::Arc, time::Duration};

use axum::{Router, routing::get};
use drover_bus::Bus;
use drover_dumpstore::{
    Store,
    link::{self, Signer},
};
use tokio::{net::TcpListener, sync::Semaphore};
use tokio_util::sync::CancellationToken;

use crate::{
    Error, Options,
    download::{self, Door},
    listener::Bounded,
};

/// How long downloads may go on after the shutdown began; a client can take them up again.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(20);

/// Gives customers their dumps. Cheap to clone.
#[derive(Clone)]
pub struct Service {
    options: Options,
    signer: Signer,
    store: Store,
}

impl Service {
    /// Reads the links' key; does not listen yet.
    ///
    /// # Errors
    /// [`Error::Configuration`], and [`Error::Store`] for `links`.
    pub fn new(options: Options, links: &link::Options, store: Store) -> Result<Self, Error> {
        for (key, value) in [
            ("connections_max", options.connections_max as u64),
            ("downloads_max", options.downloads_max as u64),
            ("idle_ms_max", options.idle_ms_max),
        ] {
            if value == 0 {
                return Err(Error::Configuration(format!("{key}: at least 1")));
            }
        }
        Ok(Self { options, signer: Signer::open(links)?, store })
    }

    /// Listens and serves until `shutdown`, then lets downloads go on for a short grace.
    ///
    /// # Errors
    /// [`Error::Address`] where it cannot listen.
    pub async fn run(self, bus: Bus, shutdown: CancellationToken) -> Result<(), Error> {
        let address = self.options.listen;
        let listener = TcpListener::bind(address).await;
        let listener = listener.map_err(|source| Error::Address { address, source })?;
        let idle_max = Duration::from_millis(self.options.idle_ms_max);
        let listener = Bounded::new(listener, self.options.connections_max, idle_max);
        let door = Arc::new(Door {
            bus,
            store: self.store,
            signer: self.signer,
            places: Arc::new(Semaphore::new(self.options.downloads_max)),
        });
        // GET routes answer HEAD too.
        let app = Router::new()
            .route("/dumps/{campaign}/{migration}", get(download::serve))
            .route("/healthz", get(|| async { "ok\n" }))
            .with_state(door);
        tracing::info!(%address, "the console listens");
        let stop = shutdown.clone().cancelled_owned();
        let serving = axum::serve(listener, app).with_graceful_shutdown(stop).into_future();
        let overdue = async {
            shutdown.cancelled().await;
            tokio::time::sleep(SHUTDOWN_GRACE).await;
        };
        tokio::select! {
            ended = serving => ended.map_err(Error::Serving),
            () = overdue => Ok(()),
        }
    }
}
