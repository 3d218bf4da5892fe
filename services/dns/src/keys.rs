//! TSIG keys (RFC 8945), read from their files.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use hickory_proto::rr::{Name, TSigner, rdata::tsig::TsigAlgorithm};

use crate::{
    error::Error,
    options::{Algorithm, Zone},
};

/// How far the server's clock may be from ours, and how long an update may be on its way, in
/// seconds: the value that RFC 8945 recommends. It also bounds what a process may do that slept.
const FUDGE_SECONDS: u16 = 300;

/// The signer of a zone's updates. No error text holds anything of the key.
pub(crate) fn signer(zone: &Zone) -> Result<TSigner, Error> {
    let wrong = |problem: String| Error::Key { path: zone.key_file.clone(), problem };
    let secret = drover_secrets::read(&zone.key_file).map_err(|error| wrong(error.to_string()))?;
    let key = BASE64_STANDARD.decode(secret.expose().trim()).ok().filter(|key| !key.is_empty());
    let key =
        key.ok_or_else(|| wrong("it does not hold a key in base64 and nothing else".into()))?;
    let algorithm = match zone.algorithm {
        Algorithm::HmacSha256 => TsigAlgorithm::HmacSha256,
        Algorithm::HmacSha384 => TsigAlgorithm::HmacSha384,
        Algorithm::HmacSha512 => TsigAlgorithm::HmacSha512,
    };
    let name = Name::from_ascii(&zone.key_name)
        .map_err(|_| Error::Configuration(format!("zone {}: key_name is not a name", zone.name)))?;
    TSigner::new(key, algorithm, name, FUDGE_SECONDS).map_err(|error| wrong(error.to_string()))
}
