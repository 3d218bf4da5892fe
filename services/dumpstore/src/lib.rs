//! The object store: where dumps, their manifests and the sealed accounts lie between source,
//! destination and customer.
//!
//! 1. What is written is streamed in parts of a fixed size and visible only as a whole: a writer
//!    that fails, is dropped or dies leaves no object.
//! 2. What is read is checked: a reader hands out an object's last byte only after size and
//!    digest have proved to be those that were written.
//! 3. Keys hold the run, the attempt and a random number, so no two uploads ever meet.
//! 4. A customer's link to a dump is signed and checked by the same few lines ([`link`]).

pub mod link;

mod error;
mod keys;
mod options;
mod reader;
mod store;
mod writer;

pub use error::Error;
pub use keys::{Attempt, Key, Object};
pub use options::{DumpForm, Options, S3};
pub use reader::Reader;
pub use store::{SMALL_BYTES_MAX, Store, Stored};
pub use writer::{OBJECT_BYTES_MAX, Writer, Written};
