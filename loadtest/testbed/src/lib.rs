//! Real servers on this machine, for tests, the sandbox and the benchmarks: started in a folder
//! of their own on loopback addresses of their own, and ended whatever happens to who started
//! them.

pub mod bed;
pub mod mariadb;
pub mod bind;
pub mod nats;
pub mod smtp;
pub mod seed;

pub use bed::{Bed, Process};
pub use mariadb::Mariadb;
pub use bind::{Bind, Follow};
pub use nats::Nats;
pub use smtp::Smtp;
