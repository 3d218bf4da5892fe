//! All that Drover says to a MySQL or MariaDB server.
//!
//! The control side: [`freeze`], [`thaw`] and [`retire`] at the source; [`open`] and [`close`] at
//! the destination. Each changes the server and its [`ledger`] under one lock, can be run twice,
//! and can be run again after an end between any two statements.

pub mod connection;
pub mod error;
pub mod ident;
pub mod inspect;
pub mod ledger;
pub mod options;

pub use connection::{About, Flavour, Server, Session};
pub use error::Error;
pub use inspect::{existing, grants_needed};
pub use ledger::Order;
pub use options::{Options, Tls};
