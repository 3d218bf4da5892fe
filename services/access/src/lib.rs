//! The bus's configuration: its certificates, a user for each service and host with the least
//! rights, and the files of all that.
//!
//! It speaks to nobody. `drover init` writes what it makes for a campaign's bus, and the testbed
//! for each test's, so that what is tested is what is run.
//!
//! 1. Users are known by NKeys: the server holds public keys only, and nothing secret travels.
//! 2. A file that is there is never changed. What would be different now is put beside it as
//!    `….new`; a person compares.
//! 3. Secrets are in files of mode 0600.

mod authority;
mod conf;
mod error;
mod files;
mod init;
pub mod rights;

pub use authority::Authority;
pub use error::Error;
pub use files::{Folder, Written};
pub use init::{Bus, Certificates, Node, init};
