//! Databases that others wrote: the schemas that Debian's packages install, and what the server
//! project's own tests make. Of each the stock program says the same before and after.
//!
//! `ops/others` brings the files, and runs this.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test's helpers fail as the test itself does"
)]

mod pair;
#[path = "others/script.rs"]
mod script;
#[path = "random/whole.rs"]
mod whole;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use drover_mysql::ident::ident;
use mysql_async::prelude::Queryable as _;
use pair::{Pair, pair, third};
use whole::moved;

/// The longest that one statement of theirs may take, in seconds.
const STATEMENT_SECONDS_MAX: u32 = 5;

const MOMENTARY: &str =
    "the order of rows: without a key, history that lasted for no time lies in front";

/// What is refused or found different, and rightly: no text of a server's brings it back.
const NOT_BROUGHT_BACK: &[(&str, &str, &str)] = &[
    ("main-column_compression.test", "its rows differ", "ten characters in a column of nine"),
    (
        "main-myisam-big.test",
        "the copy: ",
        "the order of rows: a covering index gives it, whose keys are disabled at the source",
    ),
    (
        "main-partition.test",
        "its definition differs",
        "an AUTO_INCREMENT below the table's own rows",
    ),
    ("main-show_check.test", "DEFINER=root@localhost", "a definer that was written without quotes"),
    ("main-trigger.test", "DRV-0439", "a trigger that names a column that is gone"),
    ("suite-parts-t-mdev_24610.test", "its definition differs", "an AUTO_INCREMENT at its end"),
    ("suite-period-t-delete.test", "error 167", "NULL in a column that is AUTO_INCREMENT"),
    ("suite-sql_sequence-grant.test", "DRV-0439", "a default from a sequence that is gone"),
    ("suite-sql_sequence-replication.test", "DRV-0439", "a default from a sequence that is gone"),
    ("suite-vcol-t-query_cache.test", "the copy: ", "a virtual column of random numbers"),
    ("suite-versioning-t-alter.test", "definition differs", "NULL in an AUTO_INCREMENT column"),
    ("suite-versioning-t-delete_history.test", "the copy: ", MOMENTARY),
    ("suite-versioning-t-foreign.test", "the copy: ", MOMENTARY),
];

/// All files of a folder and of those in it, sorted.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Makes a database of what a file has, whatever is refused of it.
async fn make(pair: &Pair, database: &str, file: &Path) {
    let mut conn = pair.source.mariadb.root().await.unwrap();
    let d = ident(database);
    conn.query_drop(format!("CREATE DATABASE {d}; USE {d}")).await.unwrap();
    if file.extension().is_some_and(|extension| extension == "sql") {
        return load(pair, database, file).await;
    }
    let text = String::from_utf8_lossy(&std::fs::read(file).unwrap()).into_owned();
    let limit = format!("SET max_statement_time = {STATEMENT_SECONDS_MAX}, lock_wait_timeout = 1");
    conn.query_drop(limit).await.unwrap();
    for statement in script::statements(&text) {
        match conn.query_drop(&statement).await {
            Ok(()) | Err(mysql_async::Error::Server(_)) => {}
            Err(other) => panic!("{}: {statement}: {other}", file.display()),
        }
    }
}

/// Runs a package's file, as its installation would.
async fn load(pair: &Pair, database: &str, file: &Path) {
    let command = pair.source.mariadb.client_command().unwrap();
    let output = tokio::process::Command::from(command)
        .args(["--force", "--", database])
        .stdin(std::fs::File::open(file).unwrap())
        .output()
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let refused = said.lines().filter(|line| line.starts_with("ERROR")).count();
    if refused > 0 {
        println!("{}: {refused} statements were refused", file.display());
    }
}

/// Drops the views and tables that cannot be read any more.
async fn without_broken_ones(pair: &Pair, database: &str) {
    let mut root = pair.source.mariadb.root().await.unwrap();
    root.query_drop(format!("USE {}", ident(database))).await.unwrap();
    loop {
        let sql =
            "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = DATABASE()";
        let names: Vec<String> = root.query(sql).await.unwrap();
        let mut dropped = false;
        for name in names.iter().map(|name| ident(name)) {
            let shows = format!("SHOW CREATE TABLE {name}; SHOW FIELDS FROM {name}");
            if root.query_drop(shows).await.is_err() {
                let drops = [format!("DROP VIEW {name}"), format!("DROP TABLE {name}")];
                for drop in drops {
                    dropped |= root.query_drop(drop).await.is_ok();
                }
            }
        }
        if !dropped {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs others' files, see ops/others"]
async fn databases_that_others_wrote_arrive_as_the_stock_program_says() {
    let folder = PathBuf::from(std::env::var_os("DROVER_OTHERS").expect("see ops/others"));
    let (pair, third) = (pair().await, third().await);
    let (mut tables, mut equal, mut failures) = (0_u64, 0, BTreeMap::new());
    for (i, file) in files(&folder).iter().enumerate() {
        let database = format!("others_{i}");
        make(pair, &database, file).await;
        without_broken_ones(pair, &database).await;
        let short = file.strip_prefix(&folder).unwrap().display().to_string();
        if let Err(what) = pair.source.try_stock_dump(&database) {
            println!("{short}: left out, the stock program cannot dump it: {what}");
            continue;
        }
        let sql = format!(
            "SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA = '{database}'"
        );
        tables += pair.source.value::<u64>(&sql).await;
        match moved(pair, &third, &database).await {
            Ok(()) => equal += 1,
            Err(what) => {
                println!("{short}: {what}");
                let known =
                    |(file, says, _): &&(&str, &str, &str)| short == *file && what.contains(says);
                if let Some((.., why)) = NOT_BROUGHT_BACK.iter().find(known) {
                    println!("{short}: {why}");
                    continue;
                }
                failures.insert(short, what);
            }
        }
    }
    println!("{equal} databases with {tables} tables are equal, {} are not", failures.len());
    assert!(failures.is_empty(), "{failures:#?}");
}
