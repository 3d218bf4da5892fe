//! The door to the customers' dumps: checks a link, and streams what it opens.
//!
//! It stands towards the internet, so it does little and trusts nothing. A link is checked
//! before anything else is asked of bus or store; connections and downloads are bounded, and one
//! that stands still is closed. Which object is a migration's dump is read from its history.

mod download;
mod error;
mod file_name;
mod listener;
mod options;
mod range;
mod service;

pub use error::Error;
pub use options::Options;
pub use service::Service;
