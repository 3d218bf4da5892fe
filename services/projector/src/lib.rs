//! Progress and failures, folded from the logs into tables that can be deleted and rebuilt.
//!
//! | module | what |
//! | --- | --- |
//! | `projection` | the tables: opened, folded in transactions with the position |
//! | [`view`] | what the tables tell: status, failures, single migrations |
//! | `question` | a projector asked, or the log folded where none answers |
//! | `service` | the service that keeps the tables up to date |
//! | [`render`] | views and events as text for a terminal, and events as JSON |
//!
//! Nothing is decided here, and nothing is here that is not in the log: whoever decides reads
//! the log, and is held by the compare-and-set of its append.

mod campaign_row;
mod entry;
mod error;
mod fold;
mod follower;
mod projection;
mod question;
pub mod render;
mod schema;
mod service;
mod state;
mod tally;
pub mod view;

pub use error::Error;
pub use projection::{BATCH_EVENTS_MAX, Position, Projection, Reader};
pub use question::{failures, load, migrations, status};
pub use service::{Options, Service};

/// Now, by this machine's clock.
fn now_unix_ms() -> i64 {
    chrono::Utc::now().timestamp_millis()
}
