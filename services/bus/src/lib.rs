//! Everything that is said to NATS JetStream, and nothing about what it is for.
//!
//! | module | what |
//! | --- | --- |
//! | `connect` | the connection |
//! | `request` | requests, in bounded time |
//! | `streams` | streams and consumers made, and read back |
//! | `append` | events onto histories, with compare-and-set |
//! | `gather` | appends that wait for one another, stored together |
//! | `follow` | campaigns' events read: followed, replayed |
//! | `history` | one history, as a whole |
//! | `last` | the last message on a subject |
//! | `jobs` | orders onto the work queue |
//! | `repair` | a log that has lost its end: its sequence raised, or begun anew |
//! | `worker` | the loop that does jobs |
//! | `hear` | the facts of one history, each handed out until it was taken |
//! | `source` | where its jobs come from |
//! | `running` | the jobs that a worker has begun |
//! | `ticket` | what a queue hears of what it has given out |
//! | `lease` | the one active instance |
//! | `control` | requests to running services; signals |
//! | [`metrics`] | what is counted |
//!
//! The history decides. Everything else on the bus may be lost, doubled or late, and is told so
//! by the compare-and-set of an append: whoever acts on an old view of a history is refused.

mod append;
mod connect;
mod control;
mod error;
mod follow;
mod gather;
mod hear;
mod history;
mod jobs;
mod last;
mod lease;
pub mod metrics;
mod options;
mod pull;
mod record;
mod repair;
mod request;
mod running;
mod source;
mod streams;
mod ticket;
mod worker;

#[cfg(test)]
mod tests;

pub use append::Append;
pub use connect::{Bus, VERSION_MIN};
pub use error::Error;
pub use follow::{From, Item, Items};
pub use jobs::Ordered;
pub use lease::{Held, LEASE_TIME, Lease};
pub use options::Options;
pub use record::Recorded;
pub use repair::Queued;
pub use worker::{DELIVERIES_MAX, Trade};
