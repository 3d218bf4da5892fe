//! Everything that a database may be, moved, and held against what the stock programs say: of the
//! source before and the destination after, and of a third server into which the stock client
//! loaded Drover's dump. (What views that are broken already are is in `broken.rs`.)
//!
//! `corpus/everything.sql` is the corpus: statements with an empty line between them. Not in it is
//! what the stock programs cannot do: `mariadb-dump` never ends where an event's text holds `;;`.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test's helpers fail as the test itself does"
)]

mod pair;

use std::time::Duration;

use drover_mysql::{accounts, freeze};
use pair::{Pair, order, pair, third};

const EVERYTHING: &str = include_str!("corpus/everything.sql");

/// As many columns as a table may well have.
const COLUMNS: usize = 1_000;

/// More tables than are asked for in one packet.
const TABLES: usize = 230;

async fn sow(pair: &Pair, database: &str) {
    use mysql_async::prelude::Queryable as _;
    let mut root = pair.source.mariadb.root().await.unwrap();
    root.query_drop(format!(
        "SET NAMES utf8mb4; CREATE DATABASE {database} CHARACTER SET latin2 \
         COLLATE latin2_czech_cs COMMENT 'o''hara ü'; USE {database}"
    ))
    .await
    .unwrap();
    for statement in EVERYTHING.trim().split("\n\n") {
        let done = root.query_drop(statement).await;
        assert!(done.is_ok(), "{statement}: {done:?}");
    }
    let columns: Vec<String> = (0..COLUMNS).map(|i| format!("c{i} INT")).collect();
    let ones: Vec<String> = (0..COLUMNS).map(|i| i.to_string()).collect();
    let wide = format!(
        "SET sql_mode = ''; CREATE TABLE wide ({}); INSERT INTO wide VALUES ({})",
        columns.join(","),
        ones.join(",")
    );
    root.query_drop(wide).await.unwrap();
    for i in 0..TABLES {
        let sql = format!("CREATE TABLE many_{i} (a INT) ENGINE=MyISAM SELECT {i} AS a");
        root.query_drop(sql).await.unwrap();
    }
}

/// The first line in which two texts differ, for the message.
fn same(what: &str, a: &str, b: &str) {
    let differ = a.lines().zip(b.lines()).find(|(a, b)| a != b);
    assert!(a == b, "{what}: {differ:?}, {} and {} bytes", a.len(), b.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_arrives_as_the_stock_program_says() {
    let pair = pair().await;
    let third = third().await;
    let database = "corpus";
    let other = "CREATE DATABASE corpus_other; CREATE TABLE corpus_other.there (id INT PRIMARY KEY); \
                 INSERT INTO corpus_other.there VALUES (1)";
    for end in [&pair.source, &pair.destination, &third] {
        end.mariadb.execute(other).await.unwrap();
    }
    sow(pair, database).await;
    let before = pair.source.stock_dump(database);
    freeze(&pair.source.server, &order(database, 1), Duration::ZERO).await.unwrap();
    let enabled = accounts(&pair.source.server, &order(database, 2)).await.unwrap().events;
    let dumped = pair.dump(database, &enabled).await;
    pair.import(&dumped, 3).await.unwrap();
    pair.verify(&dumped, 4).await.unwrap();
    let frozen = pair.source.stock_dump(database);
    same("the copy", &frozen, &pair.destination.stock_dump(database));

    third.mariadb.execute(&format!("CREATE DATABASE {database}")).await.unwrap();
    third.stock_load(database, &dumped.text()).await;
    same("the customer's file", &before, &third.stock_dump(database));
}
