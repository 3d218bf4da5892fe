//! The commands, one file each.

pub mod audit;
mod discover;
pub mod doctor;
pub mod events;
pub mod failures;
pub mod forecast;
pub mod hosts;
pub mod in_flight;
pub mod init;
pub mod pause;
pub mod plan;
pub mod reconcile;
pub mod rehearse;
pub mod retry;
pub mod rollback;
pub mod sandbox;
pub mod serve;
pub mod start;
pub mod status;
pub mod tune;

use std::io::{self, Write as _};

use drover_schemas::{Code, Failure};
use serde::Serialize;

use crate::report::Trouble;

/// Prints one JSON document.
fn print_json(value: &impl Serialize) -> Result<(), Trouble> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| Failure::new(Code::EventUndecodable, error.to_string()))?;
    print(&format!("{text}\n"));
    Ok(())
}

/// Prints to standard output. A reader that has gone away (`| head`) is no error.
pub fn print(text: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
