//! The dns service: points a migration's host names to the destination, and back.
//!
//! 1. All host names of a migration lie in one zone, so that their switch is one UPDATE message
//!    (RFC 2136), signed by TSIG: either all of them point to the destination, or none.
//! 2. Each update carries the present records as its prerequisites. What somebody else changed
//!    meanwhile is reported, never overwritten.
//! 3. The zone keeps a ledger of its own: with each change the same message writes a [`Mark`], a
//!    TXT record beside the host name. By it a service that died between update and event finds
//!    its own work again, the undo knows the exact old values, and an order older than what has
//!    been done is refused, also when the log has lost events.
//! 4. An update is signed with the time at which its records were read. The server refuses it
//!    when that is too long ago, so that a process which slept between reading and writing does
//!    no harm.
//! 5. A step has ended when every authoritative server gives the new answer.
//!
//! What is decided is in `decide`, a pure function from what was found to what is to be written.

mod client;
mod decide;
mod error;
mod keys;
mod look;
mod mark;
mod names;
mod options;
mod pace;
mod records;
mod run;
mod service;
mod transfer;
mod update;

pub use error::Error;
pub use look::Marked;
pub use mark::{Mark, State};
pub use names::{HOST_NAMES_MAX, HostName, check_host_name, check_host_names};
pub use options::{Algorithm, Options, Target, Zone};
pub use records::{Change, Kind, Rrset, Values};
pub use service::Service;
