//! The pre-flight: what would fail, or change, if databases moved from one server to another; read
//! from both, and nothing changed at either.
//!
//! 1. Reading and judging are apart: [`Source`] and [`Destination`] are plain facts, [`judge`] is a
//!    pure function of them, so that every case can be tested without a server.
//! 2. Queries are of sets: a handful a server for its settings, accounts and grants, and a handful
//!    for each chunk of its databases ([`CHUNK`]), not some a database. A condition on the schema's
//!    name is applied before the server opens a table.
//! 3. A right that Drover's account lacks is a finding like others, and the only one of its server:
//!    without it the rest cannot be read.
//! 4. Logins (plugin and password hash) are held in memory to be compared, and are in no finding.

mod accounts;
mod counters;
mod destination;
mod facts;
mod gone;
mod judge;
pub(crate) mod rights;
pub(crate) mod server;
mod shape;
mod source;
mod text;

pub use destination::{Destination, destination};
pub use facts::Finding;
pub use judge::judge;
pub use source::{Source, begin};

/// How many databases are read at once: their facts are some kilobytes each, and a query's text
/// with all their names stays far under any packet.
pub const CHUNK: usize = 500;
