//! Decides; does nothing else.
//!
//! The life of a migration and of a campaign as pure functions: what an event makes of a state
//! (`evolve`), which event a command or an outcome leads to (`decide`, [`conclude`]), which job,
//! timer or person a state waits for ([`Wait`]), what the servers' ledgers allow ([`ledger`]), and
//! what a log has lost ([`reconcile`]). There is no input or output here, no clock and no
//! randomness: both are arguments, so that a test or a model checker holds every thread.

pub mod admission;
mod after;
pub mod backoff;
pub mod breaker;
pub mod budget;
pub mod campaign;
mod conclude;
pub mod concurrency;
pub mod forecast;
pub mod host_slots;
pub mod labels;
pub mod ledger;
pub mod limits;
mod migration;
pub mod onward;
pub mod pace;
mod phase;
pub mod promise;
mod queue;
pub mod reconcile;
mod rehearsal;
pub mod signature;
pub mod slot_times;
pub mod step_times;
pub mod steps;
pub mod wave;
pub mod window;
pub mod zone;

pub use conclude::{Conclusion, conclude};
pub use migration::Migration;
pub use phase::{At, Attempt, Command, Fact, Goal, NotAllowed, Phase, Rollback, Settlement, Wait};
pub use rehearsal::{Ending, Rehearsal};
pub use steps::{Forward, Undo};
