//! All that Drover says to a MySQL or MariaDB server.
//!
//! The control side: [`freeze`], [`disarm`], [`thaw`] and [`retire`] at the source; [`open`] and [`close`] at
//! the destination. Each changes the server and its [`ledger`] under one lock, can be run twice,
//! and can be run again after an end between any two statements.
//!
//! At a destination that was a source before, an import first sets the retired database [`aside`].
//!
//! The copy side: [`describe`] and [`dump`] at the source; [`import`], [`verify`] and [`drop_copy`]
//! at the destination. What passes is an object of compressed SQL, and its [`Contents`].

pub mod accounts;
pub mod aside;
mod bodies;
mod broken;
mod clause;
pub mod close;
pub mod connection;
pub mod copy;
mod definers;
pub mod describe;
pub mod digest;
pub mod disarm;
mod discover;
mod draft;
pub mod dump;
pub mod error;
pub mod events;
mod foreign_keys;
mod frames;
pub mod freeze;
mod given;
mod grant_tables;
pub mod guard;
mod helpers;
pub mod ident;
pub mod import;
mod insert;
pub mod inspect;
mod keep;
mod keys;
pub mod ledger;
mod listing;
mod live;
mod load;
mod long;
pub mod lost;
pub mod manifest;
mod momentary;
pub mod mysql;
mod normal;
pub mod open;
pub mod options;
mod order;
mod outside;
pub mod precedence;
pub mod preflight;
pub mod privileges;
mod programs;
mod questions;
mod quotes;
mod ranges;
mod refusals;
pub mod retire;
mod rows;
pub mod schema;
pub mod seal;
mod server;
mod server_load;
pub mod sessions;
mod slices;
pub mod successors;
pub mod survey;
mod table_rows;
pub mod takeaway;
mod team;
pub mod thaw;
mod tokens;
mod varying;
pub mod verify;
mod viewing;
mod views;
pub mod watchdog;

use std::time::Duration;

pub use accounts::{Account, Accounts, accounts};
pub use close::{close, reopen};
pub use connection::{About, Flavour, Session};
pub use copy::drop_copy;
pub use describe::describe;
pub use disarm::disarm;
pub use discover::{Database, Found, discover, is_no_customers};
pub use draft::Form;
pub use dump::dump;
pub use error::Error;
pub use frames::{Frame, FrameKind, KeyRange};
pub use freeze::freeze;
pub use import::import;
pub use inspect::{existing, grants_needed};
pub use ledger::{Locked, Order};
pub use lost::{Lost, lost};
pub use manifest::{Contents, Manifest};
pub use open::open;
pub use options::{Options, Replica, Tls};
pub use retire::retire;
pub use schema::Description;
pub use server::Server;
pub use server_load::load;
pub use successors::{Definers, Successors, expected};
pub use survey::survey;
pub use thaw::thaw;
pub use verify::verify;

/// How often a session with the lock speaks while another works: often enough that one word may be
/// late.
const WORD_EVERY: Duration = Duration::from_secs(connection::SILENCE_S_MAX as u64 / 4);

/// Waits for what another session does, with the locks held. The server would end this one if it
/// said nothing for long.
async fn meanwhile<T>(
    locked: &mut Locked,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    tokio::pin!(work);
    loop {
        tokio::select! {
            result = &mut work => return result,
            () = tokio::time::sleep(WORD_EVERY) => {
                locked.session().run("holding the lock", "DO 1").await?;
            }
        }
    }
}

/// Ends a step: the locks are free when this returns. A step that failed has its own error; its
/// session is closed without a word, as it may be in any state.
async fn finish<T>(locked: Locked, result: Result<T, Error>) -> Result<T, Error> {
    match result {
        Ok(value) => locked.release().await.map(|()| value),
        Err(error) => {
            drop(locked);
            Err(error)
        }
    }
}
