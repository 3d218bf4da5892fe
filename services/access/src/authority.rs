//! A small authority of certificates, for the servers of one bus.

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use time::{Duration, OffsetDateTime};

use crate::Error;

/// How long the authority holds, in days: longer than any campaign.
const AUTHORITY_DAYS: i64 = 3_650;
/// How long a server's certificate holds, in days.
const SERVER_DAYS: i64 = 825;
/// Clocks differ; a certificate holds from a little before it was made.
const EARLIER: Duration = Duration::days(1);

/// The authority.
pub struct Authority {
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// The authority whose key this is, in PEM.
    ///
    /// # Errors
    /// Where it is no key.
    pub fn of_key(key: &str) -> Result<Self, Error> {
        let key = KeyPair::from_pem(key)?;
        let mut about = CertificateParams::default();
        about.distinguished_name.push(DnType::CommonName, "Drover bus authority");
        about.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        about.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        hold(&mut about, AUTHORITY_DAYS);
        let certificate = about.self_signed(&key)?.pem();
        Ok(Self { certificate, issuer: Issuer::new(about, key) })
    }

    /// A new key, of an authority or of a server, in PEM.
    ///
    /// # Errors
    /// Where the system gives no random numbers.
    pub fn new_key() -> Result<String, Error> {
        Ok(KeyPair::generate()?.serialize_pem())
    }

    /// Its own certificate, in PEM: what everybody trusts.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// A certificate, in PEM, for a server with this key and these names, host names or addresses.
    ///
    /// # Errors
    /// Where the key or a name is none.
    pub fn certify(&self, key: &str, names: &[String]) -> Result<String, Error> {
        let key = KeyPair::from_pem(key)?;
        let mut about = CertificateParams::new(names)?;
        if let Some(name) = names.first() {
            about.distinguished_name.push(DnType::CommonName, name.as_str());
        }
        about.use_authority_key_identifier_extension = true;
        about.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        // Servers of a cluster are each other's clients.
        about.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        hold(&mut about, SERVER_DAYS);
        Ok(about.signed_by(&key, &self.issuer)?.pem())
    }
}

fn hold(about: &mut CertificateParams, days: i64) {
    let now = OffsetDateTime::now_utc();
    about.not_before = now - EARLIER;
    about.not_after = now + Duration::days(days);
}
