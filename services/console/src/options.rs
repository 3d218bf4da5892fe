//! Where the console listens, and how much it bears.

use std::net::{Ipv4Addr, SocketAddr};

use serde::Deserialize;

/// The part `[console]` of the configuration. Links are under `[links]`, the store under
/// `[store]`, both the same as the notify service's.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// The address to listen at. Plain HTTP: put a proxy with TLS before it.
    pub listen: SocketAddr,
    /// The most connections; further ones wait.
    pub connections_max: usize,
    /// The most downloads at once; further ones are told to come again later.
    pub downloads_max: usize,
    /// How long a connection may stand still, in milliseconds, before it is closed.
    pub idle_ms_max: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 8700),
            connections_max: 512,
            downloads_max: 64,
            idle_ms_max: 60_000,
        }
    }
}
