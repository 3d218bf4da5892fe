//! The dns service's part of the configuration.

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
};

use drover_schemas::ServerName;
use serde::{Deserialize, Serialize};

use crate::{error::Error, names::canonical, records::ADDRESSES_MAX};

/// `[dns]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// The zones in which host names may lie. A name belongs to the longest one that fits.
    pub zones: Vec<Zone>,
    /// How many updates this process sends in a second, at most, over all zones. Each is signed
    /// and written to a journal by the server, which others use too.
    pub updates_per_second_max: u32,
    /// How many migrations are switched at once, over all instances.
    pub slots: u32,
    /// How long one question or update may take, connecting included, in milliseconds.
    pub answer_wait_ms: u32,
    /// How long a step waits until all authoritative servers give the new answer, in
    /// milliseconds; then it fails, and is tried again.
    pub seen_wait_ms: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            zones: Vec::new(),
            updates_per_second_max: 100,
            slots: 16,
            answer_wait_ms: 5_000,
            seen_wait_ms: 60_000,
        }
    }
}

/// One of `[[dns.zones]]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Zone {
    /// The zone's name, such as `example.com`.
    pub name: String,
    /// The server that takes updates, address and port.
    pub primary: SocketAddr,
    /// The authoritative servers that must give the new answer before a step has ended, as
    /// customers' resolvers ask them; empty: the primary.
    #[serde(default)]
    pub servers: Vec<SocketAddr>,
    /// The TSIG key's name.
    pub key_name: String,
    /// A file that holds the TSIG key in base64, and nothing else.
    pub key_file: PathBuf,
    /// The TSIG key's algorithm.
    #[serde(default)]
    pub algorithm: Algorithm,
    /// The new records' TTL, in seconds. Short: it is how long an undo takes to be seen.
    #[serde(default = "ttl_seconds")]
    pub ttl_seconds: u32,
}

fn ttl_seconds() -> u32 {
    60
}

/// A TSIG algorithm (RFC 8945). Older ones are broken or not implemented.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Algorithm {
    /// What `tsig-keygen` makes unless told otherwise.
    #[default]
    #[serde(rename = "hmac-sha256")]
    HmacSha256,
    /// HMAC with SHA-384.
    #[serde(rename = "hmac-sha384")]
    HmacSha384,
    /// HMAC with SHA-512.
    #[serde(rename = "hmac-sha512")]
    HmacSha512,
}

/// What a host name holds that points to a MySQL server; part of that server's configuration.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Target {
    /// Of a host name that is a CNAME: the name that it points to.
    pub dns_name: Option<String>,
    /// Of a host name with A records: all of them. At most 16.
    pub ipv4: Vec<Ipv4Addr>,
    /// Of a host name with AAAA records: all of them. At most 16.
    pub ipv6: Vec<Ipv6Addr>,
}

impl Target {
    /// That it can be used: said at start, not when a host name is to be switched.
    pub(crate) fn check(&self, server: &ServerName) -> Result<(), Error> {
        let wrong = |what: String| Err(Error::Configuration(format!("server {server}: {what}")));
        if let Some(name) = &self.dns_name
            && let Err(problem) = canonical(name)
        {
            return wrong(format!("dns_name {name:?}: {problem}"));
        }
        if self.ipv4.len().max(self.ipv6.len()) > ADDRESSES_MAX {
            return wrong(format!("more than {ADDRESSES_MAX} addresses of one family"));
        }
        Ok(())
    }
}
