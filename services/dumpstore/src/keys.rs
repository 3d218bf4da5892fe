//! What objects are called: `<campaign>/<migration>/<run>-<attempt>-<random>/<object>`.
//!
//! The random part makes sure that two instances which believe they do the same attempt write to
//! different objects; run and attempt tell a person, and `reconcile`, where a stray one is from.
//! Only keys of this form reach the store: a key is read back from an event that somebody else
//! wrote, and must not be able to name anything outside.

use std::{fmt, str::FromStr};

use drover_schemas::{CampaignName, MigrationId};
use uuid::Uuid;

use crate::Error;

/// One attempt at a migration's dump: the folder of its objects.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Attempt {
    campaign: CampaignName,
    migration: MigrationId,
    run: u32,
    attempt: u32,
    nonce: Uuid,
}

impl Attempt {
    /// A folder that nobody else has.
    pub fn new(campaign: CampaignName, migration: MigrationId, run: u32, attempt: u32) -> Self {
        Self { campaign, migration, run, attempt, nonce: Uuid::new_v4() }
    }

    /// The key of one of its objects.
    pub fn key(&self, object: Object) -> Key {
        Key { attempt: self.clone(), object }
    }

    /// The campaign.
    pub fn campaign(&self) -> &CampaignName {
        &self.campaign
    }

    /// The migration.
    pub fn migration(&self) -> MigrationId {
        self.migration
    }

    /// The migration's run, counted from 1.
    pub fn run(&self) -> u32 {
        self.run
    }

    /// The folder's own name, in the migration's folder.
    pub(crate) fn folder(&self) -> String {
        format!("{}-{}-{}", self.run, self.attempt, self.nonce.simple())
    }

    fn parse(campaign: &str, migration: &str, folder: &str) -> Option<Self> {
        let mut parts = folder.splitn(3, '-');
        let found = Self {
            campaign: campaign.parse().ok()?,
            migration: migration.parse().ok()?,
            run: parts.next()?.parse().ok()?,
            attempt: parts.next()?.parse().ok()?,
            nonce: Uuid::try_parse(parts.next()?).ok()?,
        };
        // One text for one key: "+1" or an upper-case id are numbers too, but not ours.
        (found.folder() == folder && found.migration.to_string() == migration).then_some(found)
    }
}

/// The kinds of objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Object {
    /// The dump, which the customer gets, in zstd.
    Dump,
    /// The same in gzip.
    GzipDump,
    /// What the dump holds.
    Manifest,
    /// The accounts with their password hashes, sealed to the destination.
    Accounts,
    /// The mark that the customer's mail has been accepted.
    Mailed,
}

impl Object {
    const ALL: [Self; 5] =
        [Self::Dump, Self::GzipDump, Self::Manifest, Self::Accounts, Self::Mailed];

    pub(crate) fn file_name(self) -> &'static str {
        match self {
            Self::Dump => "dump.sql.zst",
            Self::GzipDump => "dump.sql.gz",
            Self::Manifest => "manifest.json",
            Self::Accounts => "accounts.age",
            Self::Mailed => "mailed",
        }
    }
}

/// The key of one object; in events as its text.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key {
    attempt: Attempt,
    object: Object,
}

impl Key {
    /// The attempt that wrote it.
    pub fn attempt(&self) -> &Attempt {
        &self.attempt
    }

    /// What it is.
    pub fn object(&self) -> Object {
        self.object
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Attempt { campaign, migration, .. } = &self.attempt;
        write!(f, "{campaign}/{migration}/{}/{}", self.attempt.folder(), self.object.file_name())
    }
}

impl FromStr for Key {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        parse(text).ok_or_else(|| Error::NotAKey(text.chars().take(200).collect()))
    }
}

fn parse(text: &str) -> Option<Key> {
    let mut parts = text.splitn(4, '/');
    let attempt = Attempt::parse(parts.next()?, parts.next()?, parts.next()?)?;
    let file_name = parts.next()?;
    let object = Object::ALL.into_iter().find(|object| object.file_name() == file_name)?;
    Some(Key { attempt, object })
}

/// The run in an attempt folder's name; none where it is not one.
pub(crate) fn run_of_folder(folder: &str) -> Option<u32> {
    let (run, rest) = folder.split_once('-')?;
    let (attempt, nonce) = rest.split_once('-')?;
    attempt.parse::<u32>().ok()?;
    Uuid::try_parse(nonce).ok()?;
    run.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn attempt(database: &str, run: u32, number: u32) -> Attempt {
        let campaign: CampaignName = "night-1".parse().unwrap();
        let id = MigrationId::new(&campaign, &"src".parse().unwrap(), database);
        Attempt::new(campaign, id, run, number)
    }

    proptest! {
        #[test]
        fn keys_are_read_as_they_are_written(
            database: String, run: u32, number: u32, object in 0_usize..5,
        ) {
            let key = attempt(&database, run, number).key(Object::ALL[object]);
            let text = key.to_string();
            prop_assert!(text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-/.".contains(&b)));
            prop_assert!(!text.contains("..") && !text.starts_with('/'));
            prop_assert_eq!(run_of_folder(&key.attempt().folder()), Some(run));
            prop_assert_eq!(text.parse::<Key>().unwrap(), key);
        }

        #[test]
        fn no_other_text_is_a_key(text: String) {
            prop_assert!(text.parse::<Key>().is_err());
        }

        #[test]
        fn a_changed_key_is_another_or_none(at in 0_usize..200, with: char) {
            let key = attempt("a", 1, 1).key(Object::Dump);
            let mut text: Vec<char> = key.to_string().chars().collect();
            let at = at % text.len();
            prop_assume!(text[at] != with);
            text[at] = with;
            let text: String = text.into_iter().collect();
            if let Ok(other) = text.parse::<Key>() {
                prop_assert_ne!(&other, &key);
                prop_assert_eq!(other.to_string(), text);
            }
        }
    }

    #[test]
    fn no_two_attempts_meet() {
        assert_ne!(attempt("a", 1, 1).key(Object::Dump), attempt("a", 1, 1).key(Object::Dump));
    }

    #[test]
    fn a_key_cannot_leave_the_store() {
        let key = attempt("a", 1, 1).key(Object::Dump).to_string();
        for bad in [format!("../{key}"), format!("/{key}"), format!("{key}/.."), "a/../../b".into()]
        {
            assert!(bad.parse::<Key>().is_err(), "{bad}");
        }
    }
}
