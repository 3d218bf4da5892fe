//! The whole product on real servers: the binary, its services as processes of their own, and
//! what a customer, an operator and a DNS server see of it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failed test may panic anywhere"
)]

mod bring_back;
mod busy;
mod campaign;
mod discover;
mod doctor;
mod input;
mod pause;
mod promise;
mod reconcile;
mod rehearsal;
mod rollback;
mod secrets;
mod undo;
mod world;
