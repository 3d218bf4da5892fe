//! A bus as `drover init` configures it, on a real nats-server.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test may panic anywhere")]

mod rights;
mod tls;
mod world;
