//! What is known of servers and databases before anything moves.

use std::collections::{BTreeMap, BTreeSet};

use drover_schemas::Code;

use crate::{Flavour, privileges::Grantee};

/// Something that will fail, or be different afterwards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Its kind.
    pub code: Code,
    /// Whether the move would fail; otherwise it would succeed, and something be different.
    pub blocking: bool,
    /// Whose; none: every database's that moves between these servers.
    pub database: Option<String>,
    /// What was found, on which thing. No secret, no row.
    pub what: String,
}

/// What a server says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settings {
    pub name: String,
    pub flavour: Flavour,
    pub version: (u16, u16, u16),
    pub lower_case_table_names: u8,
    pub sql_mode: BTreeSet<String>,
    pub strict: bool,
    pub page_bytes: u64,
    pub packet_bytes: u64,
    pub scheduler_runs: bool,
}

/// How an account proves who it is: secret, and compared only. It has no `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Login {
    pub grantee: Grantee,
    pub plugins: BTreeSet<String>,
    pub secret: String,
}

/// Where something was found, as `table.column`, and how many there are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Places {
    pub first: String,
    pub count: u64,
}

impl Places {
    pub fn of(first: impl Into<String>, count: u64) -> Self {
        Self { first: first.into(), count }
    }

    /// `t` and 3 more
    pub fn text(&self) -> String {
        match self.count.saturating_sub(1) {
            0 => self.first.clone(),
            more => format!("{} and {more} more", self.first),
        }
    }
}

/// A database at its source.
#[derive(Clone, Default)]
pub(crate) struct Database {
    pub bytes: u64,
    pub engines: BTreeMap<String, Places>,
    pub collations: BTreeMap<String, Places>,
    pub types: BTreeMap<String, Places>,
    pub zero_dates: Option<Places>,
    /// Tables and columns whose names fold to others.
    pub upper_case: Option<Places>,
    /// InnoDB tables: the bytes of a row that lie in its page, an estimate.
    pub rows: BTreeMap<String, u64>,
    /// Sequences, packages, system-versioned tables: the kind, and which.
    pub own_kinds: BTreeMap<&'static str, Places>,
    /// Who is a definer, and of what.
    pub definers: BTreeMap<String, Places>,
    /// Other databases that are named: in what, and whether that must exist for it to be made.
    pub references: BTreeMap<String, (Places, bool)>,
    /// Triggers, with what they name of their tables.
    pub triggers: Vec<Trigger>,
    /// Partitioned MEMORY tables whose AUTO_INCREMENT is the largest number that there is.
    pub counters_ended: Option<Places>,
    /// Whether a column that is AUTO_INCREMENT may be NULL.
    pub counts_from_null: bool,
    /// Whether a column's default is taken from a sequence.
    pub takes_from_sequences: bool,
    /// Tables that may have a value of more than a packet.
    pub wide: BTreeMap<String, Wide>,
    /// Who holds something on it.
    pub grantees: BTreeSet<Grantee>,
}

/// A table with long columns, large enough to hold a value of more than a packet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Wide {
    /// The columns that are taken in pieces ([`long`](crate::long)).
    pub columns: Vec<String>,
    /// Those that are not: a row's are in one packet, together.
    pub whole: Vec<String>,
    pub bytes: u64,
    /// None where that was not told in time.
    pub largest: Option<Largest>,
}

/// The largest of a table's long values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Largest {
    /// Of those that are taken in pieces, in bytes.
    pub value_bytes: u64,
    /// Of those that are not, all of a row's together, in bytes.
    pub whole_bytes: u64,
}

/// A trigger: its table, and the columns of it that its text names, in small letters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Trigger {
    pub name: String,
    pub table: String,
    pub columns: BTreeSet<String>,
}
