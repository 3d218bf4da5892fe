//! What a database is, written down, so that the source and the copy can be held against each
//! other: its defaults, the definition of every object, and for each table its rows' number and
//! digest. It stands in the dump's manifest.
//!
//! A definition is the server's own text (`SHOW CREATE …`), changed only where versions print the
//! same thing differently ([`normal`](crate::normal)). The state of a scheduled event, enabled or not, is left
//! out: it is not the same during a move.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::digest::DigestText;

/// How many differences an error names; the others are counted.
const DIFFERENCES_NAMED_MAX: usize = 10;

/// A database, written down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// What the server said of itself, such as `10.11.14-MariaDB`.
    pub server_version: String,
    /// The database's defaults.
    pub defaults: Defaults,
    /// The base tables, by name.
    pub tables: BTreeMap<String, Table>,
    /// Everything else, by kind and name.
    pub objects: Vec<Object>,
}

/// A database's defaults.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Defaults {
    /// The character set.
    pub charset: String,
    /// The collation.
    pub collation: String,
    /// The comment; MySQL has none.
    pub comment: String,
}

/// A base table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// Its definition.
    pub definition: String,
    /// How many rows it has, history included.
    pub rows: u64,
    /// The digest of its rows.
    pub digest: DigestText,
    /// Whether it keeps its rows' history.
    pub system_versioned: bool,
}

/// The kinds of objects beside tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A sequence, with its position.
    Sequence,
    /// A view.
    View,
    /// A trigger, with its place among those of its table.
    Trigger,
    /// A stored function.
    Function,
    /// A stored procedure.
    Procedure,
    /// A package's declarations.
    Package,
    /// A package's body.
    PackageBody,
    /// A scheduled event, without its state.
    Event,
}

impl Kind {
    /// The word for it in SQL and in messages.
    pub fn word(self) -> &'static str {
        match self {
            Self::Sequence => "SEQUENCE",
            Self::View => "VIEW",
            Self::Trigger => "TRIGGER",
            Self::Function => "FUNCTION",
            Self::Procedure => "PROCEDURE",
            Self::Package => "PACKAGE",
            Self::PackageBody => "PACKAGE BODY",
            Self::Event => "EVENT",
        }
    }
}

/// An object beside the tables.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Object {
    /// What it is.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// Its definition, with the settings that it was made under.
    pub definition: String,
}

impl Description {
    /// The rows of all tables.
    pub fn rows(&self) -> u64 {
        self.tables.values().map(|table| table.rows).sum()
    }

    /// How many tables there are.
    pub fn tables(&self) -> u32 {
        u32::try_from(self.tables.len()).unwrap_or(u32::MAX)
    }

    /// In what `copy` differs from this: one line a difference, names only, no rows.
    pub fn differences(&self, copy: &Self) -> Vec<String> {
        let mut found = Vec::new();
        for (what, mine, theirs) in [
            ("character set", &self.defaults.charset, &copy.defaults.charset),
            ("collation", &self.defaults.collation, &copy.defaults.collation),
            ("comment", &self.defaults.comment, &copy.defaults.comment),
        ] {
            if mine != theirs {
                found.push(format!("the database's {what} differs"));
            }
        }
        let names: BTreeSet<&String> = self.tables.keys().chain(copy.tables.keys()).collect();
        for name in names {
            match (self.tables.get(name), copy.tables.get(name)) {
                (Some(mine), Some(theirs)) => found.extend(mine.difference(name, theirs)),
                (Some(_), None) => found.push(format!("TABLE {name} is missing")),
                (None, _) => found.push(format!("TABLE {name} is not at the source")),
            }
        }
        let (mine, theirs) = (self.by_name(), copy.by_name());
        let names: BTreeSet<&(Kind, &str)> = mine.keys().chain(theirs.keys()).collect();
        for key in names {
            let (word, name) = (key.0.word(), key.1);
            match (mine.get(key), theirs.get(key)) {
                (Some(a), Some(b)) if a == b => {}
                (Some(_), Some(_)) => found.push(format!("{word} {name}: its definition differs")),
                (Some(_), None) => found.push(format!("{word} {name} is missing")),
                (None, _) => found.push(format!("{word} {name} is not at the source")),
            }
        }
        found
    }

    /// The definitions of what is no table.
    pub(crate) fn by_name(&self) -> BTreeMap<(Kind, &str), &str> {
        let key = |object: &Object| object.kind;
        self.objects.iter().map(|o| ((key(o), o.name.as_str()), o.definition.as_str())).collect()
    }
}

impl Table {
    fn difference(&self, name: &str, copy: &Self) -> Option<String> {
        if self.definition != copy.definition {
            Some(format!("TABLE {name}: its definition differs"))
        } else if self.rows != copy.rows {
            Some(format!("TABLE {name}: {} rows instead of {}", copy.rows, self.rows))
        } else if self.digest != copy.digest {
            Some(format!("TABLE {name}: its rows differ"))
        } else {
            None
        }
    }
}

/// The differences in one line, at most [`DIFFERENCES_NAMED_MAX`] of them by name.
pub fn in_one_line(differences: &[String]) -> String {
    let named: Vec<&str> =
        differences.iter().take(DIFFERENCES_NAMED_MAX).map(String::as_str).collect();
    let rest = differences.len().saturating_sub(DIFFERENCES_NAMED_MAX);
    let more = if rest > 0 { format!("; and {rest} more") } else { String::new() };
    format!("{}{more}", named.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_differences_are_counted() {
        let many: Vec<String> = (0..12).map(|i| format!("d{i}")).collect();
        assert!(in_one_line(&many).ends_with("; d9; and 2 more"));
        assert_eq!(in_one_line(&many[..2]), "d0; d1");
    }
}
