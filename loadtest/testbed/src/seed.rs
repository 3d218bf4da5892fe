//! Databases like those of real sites, made from a number: the same number makes the same ones.
//!
//! What a hosting company's servers hold: mostly WordPress-like databases of 12 tables and some
//! 300 KB, shops with foreign keys, triggers, views and routines, forums with full-text indexes
//! and older engines, empty ones; each with an account of its own, some with more accounts, narrow
//! grants and a scheduled event. Among them every kind of name that a server takes.

mod shapes;

use anyhow::{Context as _, Result};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use mysql_async::{Conn, prelude::Queryable as _};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

use crate::mariadb::Mariadb;

/// How many connections sow side by side.
const CONNECTIONS: usize = 4;

/// One site in this many has a scheduled event, and one a second, narrow account.
const ONE_IN_WITH_EVENT: usize = 7;
const ONE_IN_WITH_READER: usize = 5;

/// One name in this many is an odd one, until there are no more.
const ONE_IN_ODD: usize = 4;

/// The longest text in `mysql.db` for a grant's database, in characters.
const GRANT_CHARS_MAX: usize = 64;

/// Names that a server takes and a program may stumble over.
pub const ODD_NAMES: &[&str] = &[
    "my shop",
    "site.example.org",
    "back`tick",
    "o'brien",
    "100%_sure",
    "under_score",
    "日本語データ",
    "Größe",
    "select",
    "UpperCase",
    "-dash",
    "say \"cheese\"",
    "back\\slash",
    "semi;colon -- x",
    "#hash",
    "a/b",
    "x.`y`.'z' %_\\",
    "this_name_is_as_long_as_a_server_takes_it_which_is_64_characters",
    "данные",
    "..",
];

/// What a site's database holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// 12 tables and some 300 KB.
    Wordpress,
    /// Foreign keys, decimals, a trigger, a view, a procedure and a function.
    Shop,
    /// Full-text indexes, and a table each of MyISAM and Aria.
    Forum,
    /// No table.
    Empty,
    /// Three tables with about so many bytes of rows.
    Large {
        /// How many.
        bytes: u64,
    },
}

/// An account of a site: the same user from several hosts, with one password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// The user's name.
    pub user: String,
    /// The hosts' patterns; the first is one that a test can connect from.
    pub hosts: Vec<String>,
    /// The password.
    pub password: String,
}

/// A site's database and accounts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// The database's name.
    pub database: String,
    /// What it holds.
    pub shape: Shape,
    /// The account that reads and writes everything in it.
    pub owner: Account,
    /// An account that may read one table, and a column of another; only in some sites.
    pub reader: Option<Account>,
    /// Whether it has a scheduled event, `purge`, that is enabled.
    pub has_event: bool,
    /// From which its rows are made.
    pub seed: u64,
}

impl Site {
    /// A site with this name and shape, one account and no event.
    pub fn new(database: &str, shape: Shape, seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let owner = account(&mut random, format!("u_{database}"), vec!["%".to_owned()]);
        let (reader, has_event) = (None, false);
        Self { database: database.to_owned(), shape, owner, reader, has_event, seed }
    }

    /// The statements that make it.
    pub fn statements(&self) -> Vec<String> {
        let mut statements = vec![format!("CREATE DATABASE {}", name(&self.database))];
        for account in [Some(&self.owner), self.reader.as_ref()].into_iter().flatten() {
            statements.extend(account.hosts.iter().map(|host| {
                format!(
                    "CREATE USER {} IDENTIFIED BY '{}'",
                    who(&account.user, host),
                    account.password
                )
            }));
        }
        let scope = grant_scope(&self.database);
        statements.extend(self.owner.hosts.iter().map(|host| {
            format!("GRANT ALL PRIVILEGES ON {scope}.* TO {}", who(&self.owner.user, host))
        }));
        statements.push(format!("USE {}", name(&self.database)));
        statements.extend(shapes::statements(self));
        statements.extend(self.narrow_grants());
        if self.has_event {
            statements.push(format!(
                "CREATE DEFINER={} EVENT `purge` ON SCHEDULE EVERY 1 HOUR \
                 STARTS CURRENT_TIMESTAMP + INTERVAL 1 HOUR COMMENT 'keeps the table small' \
                 DO {}",
                self.definer(),
                shapes::purge(self.shape)
            ));
        }
        statements
    }

    /// The owner, as a statement names the definer of a view, trigger, routine or event.
    fn definer(&self) -> String {
        who(&self.owner.user, self.owner.hosts.first().map_or("%", String::as_str))
    }

    fn narrow_grants(&self) -> Vec<String> {
        let (Some(reader), Some((table, column))) = (&self.reader, shapes::narrow(self.shape))
        else {
            return Vec::new();
        };
        let to = |host: &String| who(&reader.user, host);
        let on = name(table);
        reader
            .hosts
            .iter()
            .flat_map(|host| {
                [
                    format!("GRANT SELECT ON {on} TO {}", to(host)),
                    format!("GRANT UPDATE ({}) ON {on} TO {}", name(column), to(host)),
                ]
            })
            .collect()
    }
}

/// So many sites, the same for the same seed. `tag`, in the names of those that are not odd, keeps
/// apart the sites of several servers.
pub fn sites(seed: u64, tag: &str, number: usize) -> Vec<Site> {
    let mut random = StdRng::seed_from_u64(seed);
    (0..number)
        .map(|i| {
            let odd =
                (i % ONE_IN_ODD == ONE_IN_ODD - 1).then(|| ODD_NAMES.get(i / ONE_IN_ODD)).flatten();
            let shape = match i % 20 {
                3 | 11 => Shape::Shop,
                7 | 15 => Shape::Forum,
                19 => Shape::Empty,
                _ => Shape::Wordpress,
            };
            let database = odd.map_or_else(|| format!("site_{tag}_{i}"), |odd| (*odd).to_owned());
            // An odd name stands once in a campaign's servers, but the account's may be shared.
            let user = odd.map_or_else(|| format!("u_{tag}_{i}"), |odd| format!("{odd} {tag}"));
            let hosts: &[&str] = match i % 3 {
                0 => &["%"],
                1 => &["%", "localhost"],
                _ => &["127.%", "10.%", "localhost"],
            };
            let hosts = hosts.iter().map(|host| (*host).to_owned()).collect();
            let owner = account(&mut random, user, hosts);
            let has_reader = i % ONE_IN_WITH_READER == 0;
            let reader = has_reader
                .then(|| account(&mut random, format!("r_{tag}_{i}"), vec!["%".to_owned()]));
            let has_event = i % ONE_IN_WITH_EVENT == 0 && shape != Shape::Empty;
            Site { database, shape, owner, reader, has_event, seed: random.random() }
        })
        .collect()
}

/// Makes the sites' databases and accounts at a server.
pub async fn sow(server: &Mariadb, sites: &[Site]) -> Result<()> {
    stream::iter(chunks(sites))
        .map(|some| async move {
            let mut root = server.root().await?;
            for site in some {
                make(&mut root, site).await?;
            }
            anyhow::Ok(root.disconnect().await?)
        })
        .buffer_unordered(CONNECTIONS)
        .try_collect()
        .await
}

fn chunks(sites: &[Site]) -> Vec<&[Site]> {
    sites.chunks(sites.len().div_ceil(CONNECTIONS).max(1)).collect()
}

async fn make(root: &mut Conn, site: &Site) -> Result<()> {
    for statement in site.statements() {
        root.query_drop(statement).await.with_context(|| format!("making {}", site.database))?;
    }
    Ok(())
}

fn account(random: &mut StdRng, user: String, hosts: Vec<String>) -> Account {
    Account { user, hosts, password: format!("{:032x}", random.random::<u128>()) }
}

fn name(text: &str) -> String {
    format!("`{}`", text.replace('`', "``"))
}

fn who(user: &str, host: &str) -> String {
    format!("{}@{}", name(user), name(host))
}

/// The database in a `GRANT`, its wildcards escaped where there is room.
fn grant_scope(database: &str) -> String {
    let escaped: String = database
        .chars()
        .flat_map(|c| matches!(c, '_' | '%' | '\\').then_some('\\').into_iter().chain([c]))
        .collect();
    let fits = escaped.chars().count() <= GRANT_CHARS_MAX;
    name(if fits { &escaped } else { database })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::{Bed, mariadb::Settings};

    #[test]
    fn a_seed_makes_the_same_sites_and_names_stand_once() {
        let some = sites(7, "a", 200);
        assert_eq!(some, sites(7, "a", 200));
        let statements =
            |sites: &[Site]| sites[..8].iter().map(Site::statements).collect::<Vec<_>>();
        assert_eq!(statements(&some), statements(&sites(7, "a", 200)));
        assert_ne!(some[0].owner.password, sites(8, "a", 1)[0].owner.password);
        let names: BTreeSet<&str> = some.iter().map(|site| site.database.as_str()).collect();
        assert_eq!(names.len(), 200);
        for odd in ODD_NAMES {
            assert!(names.contains(odd) && (1..=64).contains(&odd.chars().count()), "{odd}");
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn sites_of_every_shape_and_name_are_made_and_their_accounts_get_in() {
        let bed = Bed::new().unwrap();
        let settings = Settings { relaxed_durability: true, ..Settings::default() };
        let server = Mariadb::start_with(&bed, "a", settings).await.unwrap();
        let mut some = sites(1, "a", 4 * ODD_NAMES.len());
        some.push(Site::new("large", Shape::Large { bytes: 4 << 20 }, 2));
        sow(&server, &some).await.unwrap();
        for site in &some {
            let owner = &site.owner;
            let mut conn = server.connect(&owner.user, &owner.password).await.unwrap();
            conn.query_drop(format!("USE {}", name(&site.database))).await.unwrap();
        }
        let mut root = server.root().await.unwrap();
        let (tables, bytes): (u32, u64) = root
            .query_first(
                "SELECT COUNT(*), SUM(data_length) FROM information_schema.TABLES \
                 WHERE TABLE_SCHEMA = 'site_a_0'",
            )
            .await
            .unwrap()
            .unwrap();
        assert!(tables == 12 && (250_000..1_500_000).contains(&bytes), "{tables} {bytes}");
        let rows: u64 =
            root.query_first("SELECT SUM(LENGTH(body)) FROM large.large_1").await.unwrap().unwrap();
        assert!((1 << 20..4 << 20).contains(&rows), "{rows}");
        let events: u32 = root
            .query_first("SELECT COUNT(*) FROM mysql.event WHERE status = 'ENABLED'")
            .await
            .unwrap()
            .unwrap();
        assert!(events > 5, "{events}");
    }
}
