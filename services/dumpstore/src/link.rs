//! The customer's link to a dump: made by the notify service, checked by the console.
//!
//! A link is `<public_url>/dumps/<campaign>/<migration>?expires=<unix>&signature=<hex>`. The
//! signature lets its bearer fetch a whole database, so it is made where the link leaves for the
//! customer and is in no event or log; events hold the link without it.

use std::path::PathBuf;

use chrono::{DateTime, Utc};
use drover_schemas::{CampaignName, MigrationId};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::Deserialize;
use sha2::Sha256;
use url::Url;

use crate::Error;

/// The shortest key, in bytes: the strength of what it signs with.
pub const KEY_BYTES_MIN: usize = 32;

/// Where customers fetch their dumps, and what links are signed with; the same for notify and
/// console.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// What links begin with: the console's address as customers see it, without a query,
    /// `https://dumps.example.org`.
    pub public_url: String,
    /// A file with the key that signs links: 32 characters or more, random, mode 0600.
    pub key_file: PathBuf,
}

/// Makes and checks links. Cheap to clone.
#[derive(Clone)]
pub struct Signer {
    base: String,
    key: Hmac<Sha256>,
}

/// Why a link is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The signature is not ours, or not for this dump and time.
    #[error("the link's signature is wrong")]
    Forged,
    /// Its time is over.
    #[error("the link has expired")]
    Expired,
}

impl Signer {
    /// Reads the key and checks the address.
    pub fn open(options: &Options) -> Result<Self, Error> {
        let key = drover_secrets::read(&options.key_file)?;
        if key.expose().len() < KEY_BYTES_MIN {
            let path = options.key_file.display();
            return Err(Error::Link(format!(
                "key_file: {path} has fewer than {KEY_BYTES_MIN} characters"
            )));
        }
        Self::new(&options.public_url, key.expose().as_bytes())
    }

    fn new(public_url: &str, key: &[u8]) -> Result<Self, Error> {
        let wrong = |why: &str| Error::Link(format!("public_url {public_url:?}: {why}"));
        let url = Url::parse(public_url).map_err(|error| wrong(&error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            return Err(wrong("not an http or https address"));
        }
        if url.query().is_some() || url.fragment().is_some() || url.password().is_some() {
            return Err(wrong("has a query, a fragment or a password"));
        }
        let key = Hmac::new_from_slice(key).map_err(|error| wrong(&error.to_string()))?;
        Ok(Self { base: url.as_str().trim_end_matches('/').to_owned(), key })
    }

    /// The link without its signature: names the dump, opens nothing.
    pub fn unsigned(&self, campaign: &CampaignName, migration: MigrationId) -> String {
        format!("{}/dumps/{campaign}/{migration}", self.base)
    }

    /// The link as the customer gets it, good until `expires` (whole seconds).
    pub fn signed(
        &self,
        campaign: &CampaignName,
        migration: MigrationId,
        expires: DateTime<Utc>,
    ) -> String {
        let expires = expires.timestamp();
        let digest = self.mac(campaign, migration, expires).finalize().into_bytes();
        let link = self.unsigned(campaign, migration);
        format!("{link}?expires={expires}&signature={}", hex(&digest))
    }

    /// Whether the bearer of this link may have the dump at `now`. Compares in constant time.
    pub fn verify(
        &self,
        campaign: &CampaignName,
        migration: MigrationId,
        expires: i64,
        signature: &str,
        now: DateTime<Utc>,
    ) -> Result<(), Refusal> {
        let signature = unhex(signature).ok_or(Refusal::Forged)?;
        let mac = self.mac(campaign, migration, expires);
        mac.verify_slice(&signature).map_err(|_| Refusal::Forged)?;
        if now.timestamp() >= expires { Err(Refusal::Expired) } else { Ok(()) }
    }

    fn mac(&self, campaign: &CampaignName, id: MigrationId, expires: i64) -> Hmac<Sha256> {
        let mut mac = self.key.clone();
        // A name has no line's end, so no two messages are alike; the first line keeps this
        // signature from being taken for one of another purpose.
        mac.update(format!("drover dump link 1\n{campaign}\n{id}\n{expires}").as_bytes());
        mac
    }
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    const SIGNATURE_CHARS: usize = 64;
    if text.len() != SIGNATURE_CHARS || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(text.get(i..i + 2)?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parts() -> (Signer, CampaignName, MigrationId, DateTime<Utc>) {
        let signer = Signer::new("https://dumps.example.org/", &[7; 32]).unwrap();
        let campaign: CampaignName = "night-1".parse().unwrap();
        let id = MigrationId::new(&campaign, &"s".parse().unwrap(), "wp");
        (signer, campaign, id, DateTime::from_timestamp(1_800_000_000, 0).unwrap())
    }

    fn query(link: &str) -> (i64, String) {
        let url = Url::parse(link).unwrap();
        let value = |name| url.query_pairs().find(|pair| pair.0 == name).unwrap().1.into_owned();
        (value("expires").parse().unwrap(), value("signature"))
    }

    #[test]
    fn a_link_opens_its_dump_until_its_time() {
        let (signer, campaign, id, at) = parts();
        let link = signer.signed(&campaign, id, at);
        assert!(link.starts_with(&signer.unsigned(&campaign, id)), "{link}");
        let (expires, signature) = query(&link);
        let verify = |now| signer.verify(&campaign, id, expires, &signature, now);
        assert_eq!(verify(at - chrono::TimeDelta::seconds(1)), Ok(()));
        assert_eq!(verify(at), Err(Refusal::Expired));
    }

    #[test]
    fn a_link_opens_nothing_else() {
        let (signer, campaign, id, at) = parts();
        let (expires, signature) = query(&signer.signed(&campaign, id, at));
        let now = at - chrono::TimeDelta::days(1);
        let other = "night-2".parse().unwrap();
        let other_id = MigrationId::new(&campaign, &"s".parse().unwrap(), "wp2");
        let other_signer = Signer::new("https://dumps.example.org", &[8; 32]).unwrap();
        let forged = Err(Refusal::Forged);
        assert_eq!(signer.verify(&other, id, expires, &signature, now), forged);
        assert_eq!(signer.verify(&campaign, other_id, expires, &signature, now), forged);
        assert_eq!(signer.verify(&campaign, id, expires + 1, &signature, now), forged);
        assert_eq!(other_signer.verify(&campaign, id, expires, &signature, now), forged);
        // An expired link with a changed time is forged, not expired: its bearer learns nothing.
        assert_eq!(signer.verify(&campaign, id, 0, &signature, now), forged);
    }

    #[test]
    fn an_address_that_is_none_is_refused() {
        for bad in ["", "dumps", "ftp://a/", "https://a/?b=c", "https://a/#b", "https://u:p@a/"] {
            assert!(Signer::new(bad, &[7; 32]).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_text_is_a_signature_by_chance(text in ".{0,80}", expires: i64) {
            let (signer, campaign, id, now) = parts();
            prop_assert_eq!(
                signer.verify(&campaign, id, expires, &text, now),
                Err(Refusal::Forged)
            );
        }
    }
}
