//! Views that are broken already, which the stock dump stops at: they arrive as they are.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test's helpers fail as the test itself does"
)]

mod pair;

use std::time::Duration;

use drover_mysql::{dump, freeze, preflight::begin};
use drover_schemas::Code;
use mysql_async::{Row, prelude::Queryable as _};
use pair::{End, failure, order, pair, third, unique};

/// Statements with an empty line between them: views, and what takes from under them what they read.
const BROKEN: &str = include_str!("corpus/broken.sql");

/// What the server says of each view: its definition with what it was made under, and what
/// `information_schema` has of it.
async fn views(end: &End, database: &str) -> Vec<String> {
    let mut root = end.mariadb.root().await.unwrap();
    let sql = format!(
        "SELECT CONCAT_WS('|', TABLE_NAME, VIEW_DEFINITION, CHECK_OPTION, IS_UPDATABLE, DEFINER, \
         SECURITY_TYPE, CHARACTER_SET_CLIENT, COLLATION_CONNECTION, ALGORITHM), TABLE_NAME \
         FROM information_schema.VIEWS WHERE TABLE_SCHEMA = '{database}' ORDER BY TABLE_NAME"
    );
    let listed: Vec<(String, String)> = root.query(sql).await.unwrap();
    let mut found = Vec::new();
    for (all, name) in listed {
        let name = drover_mysql::ident::ident(&name);
        let show = format!("SHOW CREATE VIEW `{database}`.{name}");
        let row: Row = root.query_first(show).await.unwrap().unwrap();
        let (text, charset): (String, String) = (row.get(1).unwrap(), row.get(2).unwrap());
        found.push(format!("{all}\n{text} {charset}"));
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_views_arrive_as_they_are() {
    let (pair, third) = (pair().await, third().await);
    let database = "broken";
    let mut root = pair.source.mariadb.root().await.unwrap();
    root.query_drop("SET NAMES utf8mb4; CREATE DATABASE broken; USE broken").await.unwrap();
    for statement in BROKEN.trim().split("\n\n") {
        let done = root.query_drop(statement).await;
        assert!(done.is_ok(), "{statement}: {done:?}");
    }
    let stock = pair.source.mariadb.dump_command().unwrap().arg(database).output().unwrap();
    assert!(!stock.status.success(), "the stock program dumps them now: it can be the oracle");
    let before = views(&pair.source, database).await;
    let dumped = pair.frozen_and_dumped(database).await;
    pair.import(&dumped, 3).await.unwrap();
    pair.verify(&dumped, 4).await.unwrap();
    third.mariadb.execute("CREATE DATABASE broken").await.unwrap();
    third.stock_load(database, &dumped.text()).await;
    for end in [&pair.destination, &third] {
        let after = views(end, database).await;
        for (before, after) in before.iter().zip(&after) {
            assert_eq!(before, after);
        }
        assert_eq!(before.len(), after.len());
        let sql = "SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA = 'broken'";
        assert_eq!(end.value::<usize>(sql).await, before.len() + 1, "no stand-in is left");
    }
    // A view that was dropped, or is another, is named.
    for (change, said) in [
        ("DROP VIEW broken.no_table", "VIEW no_table is missing"),
        (
            "CREATE OR REPLACE VIEW broken.no_table AS SELECT 1 AS a",
            "VIEW no_table: its definition differs",
        ),
    ] {
        pair.destination.mariadb.execute(change).await.unwrap();
        let found = failure(pair.verify(&dumped, 4).await);
        assert!(found.message.ends_with(said), "{found}");
    }
    // The pre-flight says of each that it moves.
    let source = begin(&pair.source.server).await.unwrap();
    let findings = source.read(&[database.to_owned()]).await.unwrap().findings;
    assert_eq!(findings.len(), before.len() - 1, "{findings:?}");
    assert!(findings.iter().all(|f| f.code == Code::ViewBroken && !f.blocking), "{findings:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_without_its_definer_is_not_broken() {
    let pair = pair().await;
    let sql = "CREATE TABLE t (a INT); \
               CREATE DEFINER=gone@nowhere VIEW without AS SELECT a FROM t";
    let dumped = pair.dumped_from(&unique("views"), sql).await;
    pair.import(&dumped, 3).await.unwrap();
    pair.verify(&dumped, 4).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_no_stand_in_can_make_is_held_beforehand() {
    let pair = pair().await;
    let (database, other) = (unique("views"), unique("gone"));
    let sql = format!(
        "CREATE DATABASE {database}; CREATE DATABASE {other}; CREATE TABLE {other}.t (a INT); \
         CREATE VIEW {database}.`bro``ken` AS SELECT a FROM {other}.t; DROP DATABASE {other}; USE {database}; \
         CREATE TABLE t (a INT); CREATE VIEW w AS SELECT a FROM t; CREATE VIEW v AS SELECT a FROM w; \
         DROP TABLE t; RENAME TABLE v TO t"
    );
    pair.source.mariadb.execute(&sql).await.unwrap();
    let server = &pair.source.server;
    let source = begin(server).await.unwrap();
    let findings = source.read(std::slice::from_ref(&database)).await.unwrap().findings;
    assert_eq!(findings.len(), 3, "{findings:?}");
    let held = |f: &drover_mysql::preflight::Finding| f.code == Code::ViewBroken && f.blocking;
    assert!(findings.iter().all(held), "{findings:?}");
    pair.source.mariadb.execute(&format!("DROP VIEW {database}.w")).await.unwrap();
    freeze(server, &order(&database, 1), Duration::ZERO).await.unwrap();
    let failure = failure(
        dump(server, &order(&database, 2), &[], drover_mysql::Form::Zstd, &mut Vec::new()).await,
    );
    assert_eq!(failure.code, Code::ViewBroken, "{failure}");
    assert!(failure.message.contains("VIEW `bro``ken`: error 1146"), "{failure}");
}
