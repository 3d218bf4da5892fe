//! Real servers on this machine, for tests, the sandbox and the benchmarks: started in a folder
//! of their own on loopback addresses of their own, and ended whatever happens to who started
//! them.

pub mod bed;
pub mod bind;
pub mod cluster;
pub mod fleet;
mod fleet_config;
pub mod link;
pub mod mariadb;
pub mod nats;
pub mod seed;
pub mod smtp;
pub mod tls;

pub use bed::{Bed, Process};
pub use bind::{Bind, Follow};
pub use cluster::Cluster;
pub use fleet::Fleet;
pub use link::Link;
pub use mariadb::Mariadb;
pub use nats::Nats;
pub use smtp::Smtp;
