//! Names that become part of subjects, streams and paths, checked once where they come in.
//!
//! A customer's database may have any name at all; it never becomes part of a subject. What does
//! is the migration's id, and the operator's own names of campaigns and servers, which are held
//! to a small alphabet.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The longest name of a campaign or server, in bytes: a DNS label's limit.
pub const NAME_BYTES_MAX: usize = 63;

/// Why a text is not a name.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "{text:?} is not a name: 1 to {NAME_BYTES_MAX} of a-z, 0-9 and -, beginning and ending with a letter or digit"
)]
pub struct InvalidName {
    /// What was given.
    pub text: String,
}

fn check(text: &str) -> Result<(), InvalidName> {
    let edge = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    let ok = bytes.len() <= NAME_BYTES_MAX
        && edge(bytes.first())
        && edge(bytes.last())
        && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-');
    if ok { Ok(()) } else { Err(InvalidName { text: text.to_owned() }) }
}

// Shared, since the orchestrator holds them by the hundred thousand.
macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;
            fn from_str(text: &str) -> Result<Self, InvalidName> {
                check(text)?;
                Ok(Self(text.into()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidName;
            fn try_from(text: String) -> Result<Self, InvalidName> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0.as_ref().to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name!(
    /// The name of a campaign; part of its stream's name and its subjects.
    CampaignName
);
name!(
    /// A server's name in the configuration; part of the subjects of its jobs.
    ServerName
);

/// What the name of a campaign of rehearsals ends with.
const REHEARSAL: &str = "-rehearsal";

impl CampaignName {
    /// The campaign of this one's rehearsals.
    ///
    /// # Errors
    /// When that name would be too long.
    pub fn rehearsal(&self) -> Result<Self, InvalidName> {
        format!("{self}{REHEARSAL}").parse()
    }

    /// Whether it is a campaign of rehearsals.
    pub fn is_rehearsal(&self) -> bool {
        self.rehearsed().is_some()
    }

    /// The campaign that this one rehearses; none where it is no campaign of rehearsals.
    pub fn rehearsed(&self) -> Option<Self> {
        self.as_str().strip_suffix(REHEARSAL)?.parse().ok()
    }
}

/// The namespace under which migrations' ids are made. Never changes.
const NAMESPACE: Uuid = Uuid::from_u128(0x0d80_7e80_4d69_4772_8174_696f_6e73_2121);

/// A migration's id: a UUIDv5 of campaign, source server and database name, so that planning the
/// same inventory twice names the same migrations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MigrationId(Uuid);

impl MigrationId {
    /// The id of the migration of `database` from `source` in `campaign`.
    pub fn new(campaign: &CampaignName, source: &ServerName, database: &str) -> Self {
        let name = format!("{campaign}\0{source}\0{database}");
        Self(Uuid::new_v5(&NAMESPACE, name.as_bytes()))
    }

    /// The UUID.
    pub fn uuid(self) -> Uuid {
        self.0
    }
}

impl fmt::Display for MigrationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for MigrationId {
    type Err = uuid::Error;
    fn from_str(text: &str) -> Result<Self, uuid::Error> {
        Uuid::try_parse(text).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ids_are_stable() {
        let id = MigrationId::new(&"night-1".parse().unwrap(), &"src-1".parse().unwrap(), "wp");
        assert_eq!(id.to_string(), "b8138132-3afd-5247-92ac-c432a77ee259");
    }

    #[test]
    fn a_rehearsals_name_tells_whose_it_is() {
        let night: CampaignName = "night-1".parse().unwrap();
        let rehearsal = night.rehearsal().unwrap();
        assert_eq!((rehearsal.as_str(), night.is_rehearsal()), ("night-1-rehearsal", false));
        assert_eq!(rehearsal.rehearsed(), Some(night));
        assert!("a".repeat(54).parse::<CampaignName>().unwrap().rehearsal().is_err());
    }

    #[test]
    fn names_are_held_to_their_alphabet() {
        for bad in ["", "-a", "a-", "A", "a.b", "a b", "a*", "a>", "ä", &"a".repeat(64)] {
            assert!(bad.parse::<CampaignName>().is_err(), "{bad:?}");
        }
        for good in ["a", "night-1", "7", &"a".repeat(63)] {
            assert!(good.parse::<ServerName>().is_ok(), "{good:?}");
        }
    }

    proptest! {
        #[test]
        fn an_id_is_a_subject_token_whatever_the_database_is_called(database: String) {
            let id = MigrationId::new(&"c".parse()?, &"s".parse()?, &database).to_string();
            prop_assert!(id.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-'));
            prop_assert_eq!(id.parse::<MigrationId>()?.to_string(), id);
        }

        #[test]
        fn different_databases_have_different_ids(a: String, b: String) {
            prop_assume!(a != b);
            let (campaign, source) = ("c".parse()?, "s".parse()?);
            prop_assert_ne!(
                MigrationId::new(&campaign, &source, &a),
                MigrationId::new(&campaign, &source, &b)
            );
        }
    }
}
