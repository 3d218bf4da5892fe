//! The way of password hashes from the source to the destination: sealed to that server with age
//! (X25519), so that whoever reads the object store learns nothing.
//!
//! The seal hides; it proves nothing of who wrote it. That the sealed object is the one that the
//! dump service wrote is told by its digest in the manifest, and the manifest's in the event.

use std::path::PathBuf;

use age::x25519::{Identity, Recipient};
use drover_schemas::{Code, Failure};
use serde::{Deserialize, Serialize};

use crate::Accounts;

/// How accounts are sealed to a destination.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// The public key, `age1…`; needed by dump services.
    pub to: String,
    /// The file with the private key, `AGE-SECRET-KEY-1…`, mode 0600; needed by import services.
    pub identity_file: PathBuf,
}

/// Why a seal could not be made or opened.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The public key is none.
    #[error("seal.to is no age public key")]
    Recipient,
    /// The private key cannot be read.
    #[error(transparent)]
    Secret(#[from] drover_secrets::Error),
    /// The private key is none.
    #[error("{} holds no age private key", .0.display())]
    Identity(PathBuf),
    /// Not sealed to this key, or not a seal.
    #[error("the seal does not open with {}", .0.display())]
    Closed(PathBuf),
    /// It could not be sealed.
    #[error("the accounts could not be sealed")]
    Encrypt(#[source] age::EncryptError),
    /// What was sealed is not a list of accounts.
    #[error("the seal holds something else")]
    Content,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::new(Code::SealUnreadable, drover_schemas::codes::chain(&error))
    }
}

impl Options {
    /// Seals accounts to the destination.
    ///
    /// # Errors
    /// When the public key is none.
    pub fn seal(&self, accounts: &Accounts) -> Result<Vec<u8>, Error> {
        let recipient: Recipient = self.to.trim().parse().map_err(|_| Error::Recipient)?;
        let plain = serde_json::to_vec(accounts).map_err(|_| Error::Content)?;
        age::encrypt(&recipient, &plain).map_err(Error::Encrypt)
    }

    /// Opens what was sealed to this destination.
    ///
    /// # Errors
    /// When the private key cannot be read, or is not the one that it was sealed to.
    pub fn open(&self, sealed: &[u8]) -> Result<Accounts, Error> {
        let file = || self.identity_file.clone();
        let secret = drover_secrets::read(&self.identity_file)?;
        // An identity file may hold comments, as age-keygen writes them.
        let key = secret.expose().lines().find(|line| line.starts_with("AGE-SECRET-KEY-"));
        let identity: Identity =
            key.and_then(|key| key.trim().parse().ok()).ok_or_else(|| Error::Identity(file()))?;
        let plain = age::decrypt(&identity, sealed).map_err(|_| Error::Closed(file()))?;
        serde_json::from_slice(&plain).map_err(|_| Error::Content)
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use age::secrecy::ExposeSecret as _;

    use super::*;

    fn options() -> (tempfile::TempDir, Options) {
        let folder = tempfile::tempdir().unwrap();
        let identity = Identity::generate();
        let identity_file = folder.path().join("identity");
        let text = format!("# a comment\n{}\n", identity.to_string().expose_secret());
        fs::write(&identity_file, text).unwrap();
        fs::set_permissions(&identity_file, fs::Permissions::from_mode(0o600)).unwrap();
        (folder, Options { to: identity.to_public().to_string(), identity_file })
    }

    fn nobody() -> Accounts {
        let json = r#"{"accounts":[],"roles":["r"],"members":[],"grants":[],"events":[]}"#;
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn what_was_sealed_is_opened_by_its_destination_only() {
        let ((_a, here), (_b, elsewhere)) = (options(), options());
        let sealed = here.seal(&nobody()).unwrap();
        assert!(here.open(&sealed).unwrap() == nobody());
        assert!(matches!(elsewhere.open(&sealed), Err(Error::Closed(_))));
    }

    #[test]
    fn a_changed_seal_does_not_open() {
        let (_folder, options) = options();
        let mut sealed = options.seal(&nobody()).unwrap();
        let last = sealed.len() - 1;
        sealed[last] ^= 1;
        assert!(matches!(options.open(&sealed), Err(Error::Closed(_))));
    }

    #[test]
    fn a_wrong_key_is_named_before_anything_is_done() {
        let (_folder, mut options) = options();
        options.to = "age1nonsense".to_owned();
        assert!(matches!(options.seal(&nobody()), Err(Error::Recipient)));
    }
}
