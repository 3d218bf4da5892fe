//! Admits migrations, turns outcomes into the next order, and brings each to its rest.
//!
//! 1. What it knows it folds from the log ([`board`]); nothing is kept anywhere else.
//! 2. One instance is active, by a lease; the others fold the same log and wait. The lease only
//!    spares work: every order and every fact is fenced by its revision, so that a stale
//!    instance that wakes up can change nothing.
//! 3. Every migration in flight has an order on the queue or a time in this process. What an
//!    instance that died had not yet ordered, the next one orders; and from time to time all that
//!    is due is ordered again, which changes nothing where the order is there.

mod act;
pub mod board;
mod desk;
mod follow;
mod press;
mod state;

use std::{collections::HashMap, time::Duration};

use drover_bus::Bus;
use drover_lifecycle::admission::Slots;
use drover_schemas::{Failure, ServerName};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

/// The `[orchestrator]` part of the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// How long the lease of the active instance lasts without renewal, in milliseconds: after a
    /// `kill -9`, another takes over within it.
    pub lease_ms: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { lease_ms: 5_000 }
    }
}

/// An error that ends the service.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The bus failed for good.
    #[error(transparent)]
    Bus(#[from] drover_bus::Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::Bus(error) => error.into(),
        }
    }
}

/// The service.
pub struct Service {
    bus: Bus,
    options: Options,
    slots: HashMap<ServerName, Slots>,
    instance: String,
}

impl Service {
    /// With the slots of each server; `instance` is unique among all orchestrators.
    pub fn new(
        bus: Bus,
        options: Options,
        slots: HashMap<ServerName, Slots>,
        instance: String,
    ) -> Self {
        Self { bus, options, slots, instance }
    }

    /// Runs until `shutdown`.
    ///
    /// # Errors
    /// When the streams cannot be made.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), Error> {
        self.bus.ensure_base().await?;
        let lease = Duration::from_millis(self.options.lease_ms);
        desk::Desk::new(self.bus, lease, self.slots, self.instance).run(shutdown).await
    }
}
