//! Tells the customer and the information system, and keeps the customer's dump for its time.
//!
//! Three steps, each with one event:
//!
//! 1. `publish` removes what only the move needed from the store (the sealed accounts, earlier
//!    attempts' rests), and says where the dump is and until when.
//! 2. `announce` sends the messages, by mail and by webhook, each where it is configured.
//! 3. `expire` deletes the dump.
//!
//! And the operators are told what befalls a campaign (`operators`).
//!
//! A message is sent at least once, as no mail server or receiver can be asked to join a
//! transaction. Both messages carry the same key, made of the migration and the run whose dump it
//! is, by which a receiver drops a duplicate: in the mail's `Message-ID` and as `webhook-id`. So
//! that the customer sees hardly any, an accepted mail is noted in the store at once; a retry
//! that only the webhook needs, or whose event got lost, does not mail again.

mod error;
mod mail;
mod message;
mod operators;
mod options;
mod service;
mod templates;
mod webhook;

pub use error::Error;
pub use options::{Operators, Options, Smtp, Tls, Webhook};
pub use service::Service;
