//! A dump in gzip, and one of a database so large that it is read and loaded side by side.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail as the test itself does")]

mod pair;

use std::{io::Write as _, process::Stdio};

use drover_mysql::{Form, dump};
use drover_testbed::seed::{Shape, Site, sow};
use pair::{Dumped, failure, order, pair, unique};

/// What `zcat` makes of a file.
fn zcat(stored: &[u8]) -> Vec<u8> {
    let mut child = std::process::Command::new("zcat")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let stored = stored.to_vec();
    let feeding = std::thread::spawn(move || input.write_all(&stored).unwrap());
    let output = child.wait_with_output().unwrap();
    feeding.join().unwrap();
    assert!(output.status.success());
    output.stdout
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dump_in_gzip_is_loaded_by_drover_and_by_the_stock_client() {
    let pair = pair().await;
    let site = Site::new(&unique("gzip"), Shape::Shop, 3);
    pair.dumped(&site).await;
    let (server, database) = (&pair.source.server, site.database.as_str());
    let before = pair.source.stock_dump(database);
    let mut stored = Vec::new();
    let contents = dump(server, &order(database, 2), &[], Form::Gzip, &mut stored).await.unwrap();
    let mut dumped = Dumped { database: database.to_owned(), contents, stored };
    let other = unique("gzip_other");
    pair.destination.mariadb.execute(&format!("CREATE DATABASE {other}")).await.unwrap();
    pair.destination.stock_load(&other, &zcat(&dumped.stored)).await;
    assert_eq!(pair.destination.stock_dump(&other), before);
    pair.import(&dumped, 3).await.unwrap();
    pair.verify(&dumped, 4).await.unwrap();
    assert_eq!(pair.destination.stock_dump(database), before);
    let last = dumped.stored.len() - 1;
    dumped.stored[last] ^= 1;
    let refused = failure(pair.import(&dumped, 5).await);
    assert_eq!(refused.code, drover_schemas::Code::DumpDamaged);
}

/// Large tables with keys of every kind: some come behind their rows, some must not.
const KEYS: &str = "SET FOREIGN_KEY_CHECKS = 0; ALTER TABLE large_3 ADD own INT UNSIGNED DEFAULT 7, \
     ADD KEY pointed_to (own, at), ADD KEY points (number); \
     ALTER TABLE large_1 ADD `a ``KEY``, é` INT UNSIGNED DEFAULT 7, ADD auto INT AUTO_INCREMENT UNIQUE, \
     ADD UNIQUE KEY twice (code, id), ADD KEY points (`a ``KEY``, é`), \
     ADD KEY `k ``ü, (` (at DESC, `a ``KEY``, é`, body(20)) COMMENT 'it''s, KEY (ü', \
     ADD KEY ignored_one (at) IGNORED, ADD FULLTEXT KEY words (code), \
     ADD FOREIGN KEY (`a ``KEY``, é`) REFERENCES large_3 (own)";

/// What comes behind the rows.
const LATER: [&str; 2] = [
    "ALTER TABLE `large_1` ADD UNIQUE KEY `twice` (`code`,`id`), ADD KEY `k ``ü, (` \
     (`at` DESC,`a ``KEY``, é`,`body`(20)) COMMENT 'it''s, KEY (ü', \
     ADD KEY `ignored_one` (`at`) IGNORED;",
    "ALTER TABLE `large_3` ADD KEY `points` (`number`);",
];

#[tokio::test(flavor = "multi_thread")]
async fn a_large_database_arrives_and_a_difference_in_it_is_named_by_its_keys() {
    let pair = pair().await;
    let site = Site::new(&unique("side"), Shape::Large { bytes: 36 << 20 }, 5);
    sow(&pair.source.mariadb, std::slice::from_ref(&site)).await.unwrap();
    let database = &site.database;
    // Without a key, and in an order of its own; and the server's estimates as they are in life.
    let more = format!(
        "SET NAMES utf8mb4; USE {database}; CREATE TABLE keyless SELECT code, at FROM large_1 ORDER BY code; \
         ALTER TABLE large_2 ADD `näher ``b` INT AS (1) INVISIBLE; {KEYS}; \
         ANALYZE TABLE large_1, large_2, large_3, keyless"
    );
    pair.source.mariadb.execute(&more).await.unwrap();
    let before = pair.source.stock_dump(database);
    let dumped = pair.frozen_and_dumped(database).await;
    let text = dumped.text();
    let text = String::from_utf8_lossy(&text);
    let later: Vec<&str> =
        text.lines().filter(|line| line.starts_with("ALTER TABLE `la")).collect();
    assert_eq!(later, LATER);
    pair.import(&dumped, 3).await.unwrap();
    pair.verify(&dumped, 4).await.unwrap();
    assert!(pair.destination.stock_dump(database) == before, "the stock program sees a difference");
    let other = unique("side_other");
    pair.destination.mariadb.execute(&format!("CREATE DATABASE {other}")).await.unwrap();
    pair.destination.stock_load(&other, &dumped.text()).await;
    assert!(pair.destination.stock_dump(&other) == before, "the file gives another database");
    let change = format!("UPDATE {database}.large_2 SET number = -1 WHERE id = 7000");
    pair.destination.mariadb.execute(&change).await.unwrap();
    let refused = failure(pair.verify(&dumped, 5).await).to_string();
    assert!(refused.contains("TABLE large_2: where `id` is "), "{refused}");
    assert!(!refused.contains("large_1"), "{refused}");
}
