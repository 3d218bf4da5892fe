//! The contract between Drover's services, and with any program that reads its events.
//!
//! The `.proto` files are the contract's first half ([`v1`]); the other half is what stands
//! around a message: who may be named how ([`names`]), on which subject it travels
//! ([`subjects`]), which streams and consumers hold it ([`streams`]), the CloudEvents headers
//! ([`envelope`]), and the codes under which a failure is reported ([`codes`]).

pub mod codes;
pub mod envelope;
pub mod names;
pub mod streams;
pub mod subjects;
pub mod users;

/// The messages of `proto/drover/v1`, generated when this crate is built.
#[allow(missing_docs)]
#[allow(clippy::large_enum_variant, reason = "events are short-lived; a box each costs more")]
pub mod v1 {
    include!(concat!(env!("OUT_DIR"), "/drover.v1.rs"));
}

/// The compiled description of `proto/drover/v1`, a `google.protobuf.FileDescriptorSet`.
pub const DESCRIPTOR: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/drover.v1.binpb"));

pub use codes::{Code, Failure};
pub use names::{CampaignName, MigrationId, ServerName};
