//! An inventory made of what is on the servers: a proposal, for a person to check and edit.
//!
//! 1. A destination is of the source's kind and not older, is another server, has no database of the
//!    name, and keeps a fifth of its free room, where it tells that.
//! 2. The largest go first, each to the destination that is the least full then: by the bytes that it
//!    holds and was given, and a busy one counts as fuller.
//! 3. Host names are those that point to the source, and whose first label is the database's name.
//!    Which site uses which database is written nowhere.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use drover_lifecycle::labels::BYTES;
use drover_mysql::{Database, Found};
use drover_schemas::{Code, Failure, ServerName};

/// Of the free room, what is given away, in percent: the rest is for what grows meanwhile.
const ROOM_PERCENT_MAX: u64 = 80;
/// What a database takes besides its rows and indexes, in bytes: tables' first pages.
const DATABASE_BYTES_MIN: u64 = 1 << 20;
/// With so many threads running, a server counts as twice as full.
const BUSY_THREADS: u64 = 16;

/// What goes together in one wave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum WaveBy {
    /// All of a source.
    Source,
    /// All that one account reaches: a customer's.
    Account,
}

/// A proposed row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The database's name.
    pub database: String,
    /// Where it is.
    pub source: ServerName,
    /// Where it may go; none where nothing is fit for it.
    pub destination: Option<ServerName>,
    /// The host names that are likely its own.
    pub host_names: Vec<String>,
    /// Its wave.
    pub wave: String,
    /// Rows and indexes, in bytes.
    pub bytes: u64,
    /// Who has rights on it.
    pub accounts: Vec<String>,
}

/// A destination that is being filled.
struct Filled<'a> {
    name: &'a ServerName,
    found: &'a Found,
    names: BTreeSet<String>,
    held_bytes: u64,
    given_bytes: u64,
}

impl Filled<'_> {
    fn takes(&self, source: &ServerName, from: &Found, database: &Database) -> bool {
        let needed = self.given_bytes.saturating_add(bytes_of(database));
        let fits = |room: u64| needed <= room / 100 * ROOM_PERCENT_MAX;
        self.name != source
            && self.found.flavour == from.flavour
            && self.found.version >= from.version
            && !self.names.contains(&database.name.to_lowercase())
            && self.found.room_bytes.is_none_or(fits)
    }

    /// How full it is, the busy ones fuller.
    fn fullness(&self) -> u128 {
        let bytes = u128::from(self.held_bytes) + u128::from(self.given_bytes);
        bytes * u128::from(BUSY_THREADS + self.found.threads_running)
    }
}

fn bytes_of(database: &Database) -> u64 {
    database.bytes.saturating_add(DATABASE_BYTES_MIN)
}

/// The rows of all sources, in the order of their names; `pointing` are host names with the server that
/// they point to.
pub fn propose(
    sources: &BTreeMap<ServerName, Found>,
    destinations: &BTreeMap<ServerName, Found>,
    pointing: &[(String, ServerName)],
    wave_by: WaveBy,
) -> Vec<Row> {
    let mut filled: Vec<Filled<'_>> = destinations
        .iter()
        .map(|(name, found)| Filled {
            name,
            found,
            names: found.databases.iter().map(|it| it.name.to_lowercase()).collect(),
            held_bytes: found.databases.iter().map(bytes_of).sum(),
            given_bytes: 0,
        })
        .collect();
    let mut names: BTreeMap<(&ServerName, String), Vec<String>> = BTreeMap::new();
    for (host_name, server) in pointing {
        let label = host_name.split('.').next().unwrap_or_default();
        names.entry((server, like_label(label))).or_default().push(host_name.clone());
    }
    let mut all: Vec<(&ServerName, &Found, &Database)> = sources
        .iter()
        .flat_map(|(name, found)| found.databases.iter().map(move |it| (name, found, it)))
        .collect();
    all.sort_by_key(|(name, _, database)| {
        (std::cmp::Reverse(database.bytes), *name, &database.name)
    });
    let mut rows = Vec::with_capacity(all.len());
    for (source, from, database) in all {
        let fit = filled.iter_mut().filter(|it| it.takes(source, from, database));
        let destination = fit.min_by_key(|it| it.fullness()).map(|it| {
            it.given_bytes = it.given_bytes.saturating_add(bytes_of(database));
            it.names.insert(database.name.to_lowercase());
            it.name.clone()
        });
        let wave = match wave_by {
            WaveBy::Source => source.to_string(),
            WaveBy::Account => database.accounts.first().cloned().unwrap_or_default(),
        };
        rows.push(Row {
            database: database.name.clone(),
            source: source.clone(),
            destination,
            host_names: names
                .get(&(source, like_label(&database.name)))
                .cloned()
                .unwrap_or_default(),
            wave,
            bytes: database.bytes,
            accounts: database.accounts.clone(),
        });
    }
    rows.sort_by(|a, b| (&a.source, &a.database).cmp(&(&b.source, &b.database)));
    rows
}

/// A host name's label knows no underscore.
fn like_label(name: &str) -> String {
    name.to_lowercase().replace('_', "-")
}

/// The rows as an inventory. `bytes` and `accounts` become labels when it is planned.
///
/// # Errors
/// [`Code::InventoryUnreadable`], which no text of a database's should cause.
pub fn to_csv(rows: &[Row]) -> Result<Vec<u8>, Failure> {
    let failed =
        |error: &dyn fmt::Display| Failure::new(Code::InventoryUnreadable, error.to_string());
    let mut writer = csv::Writer::from_writer(Vec::new());
    let header =
        ["database", "source", "destination", "host_names", "wave", "owner", BYTES, "accounts"];
    writer.write_record(header).map_err(|error| failed(&error))?;
    for row in rows {
        let destination = row.destination.as_ref().map_or("", ServerName::as_str);
        let (host_names, bytes) = (row.host_names.join(" "), row.bytes.to_string());
        let accounts = row.accounts.join(" ");
        let fields = [
            row.database.as_str(),
            row.source.as_str(),
            destination,
            &host_names,
            &row.wave,
            "",
            &bytes,
            &accounts,
        ];
        writer.write_record(fields).map_err(|error| failed(&error))?;
    }
    writer.into_inner().map_err(|error| failed(&error))
}

#[cfg(test)]
mod tests {
    use drover_mysql::Flavour;
    use proptest::prelude::*;

    use super::*;

    fn server(version: u16, sizes: &[(&str, u64)], room_bytes: Option<u64>) -> Found {
        let database = |(name, bytes): &(&str, u64)| Database {
            name: (*name).to_owned(),
            bytes: *bytes,
            accounts: vec![format!("{name}@%")],
        };
        Found {
            flavour: Flavour::MariaDb,
            version: (10, version, 0),
            databases: sizes.iter().map(database).collect(),
            room_bytes,
            threads_running: 1,
        }
    }

    fn named<const N: usize>(servers: [(&str, Found); N]) -> BTreeMap<ServerName, Found> {
        servers.into_iter().map(|(name, found)| (name.parse().unwrap(), found)).collect()
    }

    fn to<'a>(rows: &'a [Row], database: &str) -> Option<&'a str> {
        let row = rows.iter().find(|row| row.database == database).unwrap();
        row.destination.as_ref().map(ServerName::as_str)
    }

    #[test]
    fn a_destination_is_fit_and_the_least_full() {
        const MB: u64 = 1 << 20;
        let sources = named([("src", server(6, &[("big", 100 * MB), ("shop_a", 3 * MB)], None))]);
        let rows = |destinations: BTreeMap<ServerName, Found>| {
            let pointing = [
                ("shop-a.db.example".to_owned(), "src".parse().unwrap()),
                ("shop-a.other.example".to_owned(), "other".parse().unwrap()),
                ("www.example".to_owned(), "src".parse().unwrap()),
            ];
            propose(&sources, &destinations, &pointing, WaveBy::Account)
        };
        let both = rows(named([("a", server(6, &[], None)), ("b", server(11, &[], None))]));
        assert_eq!((to(&both, "big"), to(&both, "shop_a")), (Some("a"), Some("b")));
        assert_eq!(both[1].host_names, ["shop-a.db.example"]);
        assert_eq!(both[1].wave, "shop_a@%");
        // Older; too small; the name is taken; itself; busy.
        let older =
            rows(named([("a", server(5, &[], None)), ("b", server(6, &[], Some(50 * MB)))]));
        assert_eq!((to(&older, "big"), to(&older, "shop_a")), (None, Some("b")));
        let taken = rows(named([("a", server(6, &[("SHOP_A", 0)], None))]));
        assert_eq!((to(&taken, "big"), to(&taken, "shop_a")), (Some("a"), None));
        let itself = rows(named([("src", server(6, &[], None))]));
        assert_eq!(to(&itself, "big"), None);
        let held = [("x", 10 * MB)];
        let busy = Found { threads_running: 64, ..server(6, &held, None) };
        let busy = rows(named([("a", busy), ("b", server(6, &[("y", 12 * MB)], None))]));
        assert_eq!(to(&busy, "big"), Some("b"));
    }

    proptest! {
        #[test]
        fn no_destination_is_given_a_name_twice_and_all_are_filled_alike(
            sizes in prop::collection::vec((0u64..1 << 30, 0u64..1 << 30), 1..30),
            destinations in 2usize..6, shared: bool,
        ) {
            // The same names on both sources, or not.
            let names = |on: &str| -> Vec<String> {
                let on = if shared { "" } else { on };
                (0..sizes.len()).map(|n| format!("db{on}{n}")).collect()
            };
            let (names_a, names_b) = (names("a"), names("b"));
            let of = |names: &[String], bytes: Vec<u64>| {
                let sizes: Vec<(&str, u64)> =
                    names.iter().map(String::as_str).zip(bytes).collect();
                server(6, &sizes, None)
            };
            let sources = named([
                ("s1", of(&names_a, sizes.iter().map(|(a, _)| *a).collect())),
                ("s2", of(&names_b, sizes.iter().map(|(_, b)| *b).collect())),
            ]);
            let to: BTreeMap<ServerName, Found> = (0..destinations)
                .map(|n| (format!("d{n}").parse().unwrap(), server(6, &[], None)))
                .collect();
            let rows = propose(&sources, &to, &[], WaveBy::Source);
            prop_assert_eq!(rows.len(), 2 * sizes.len());
            let mut given: BTreeMap<&ServerName, (u64, BTreeSet<&str>)> = BTreeMap::new();
            for row in &rows {
                let name = row.destination.as_ref().unwrap();
                let (bytes, names) = given.entry(name).or_default();
                *bytes += row.bytes + DATABASE_BYTES_MIN;
                prop_assert!(names.insert(&row.database), "{} twice at {name}", row.database);
            }
            if !shared {
                let filled = to.keys().map(|name| given.get(name).map_or(0, |(bytes, _)| *bytes));
                let (least, most) = (filled.clone().min().unwrap(), filled.max().unwrap());
                let largest = rows.iter().map(|row| row.bytes).max().unwrap() + DATABASE_BYTES_MIN;
                prop_assert!(most - least <= largest, "{least} {most}");
            }
        }
    }
}
