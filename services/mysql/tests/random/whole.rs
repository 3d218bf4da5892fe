//! One database the whole way, held against what the stock program says.

use std::time::Duration;

use drover_mysql::{accounts, drop_copy, freeze, thaw};

use crate::pair::{End, Pair, order};

/// A text of the stock program without what that program's text does not bring back either: no
/// default at all where a column may be NULL, the order of the keys, and of rows without one.
fn comparable(text: &str) -> String {
    let is_key = |line: &str| line.contains(" KEY `");
    let is_row = |line: &str| line.starts_with('(');
    let belong_together = |a: &&str, b: &&str| is_key(a) && is_key(b) || is_row(a) && is_row(b);
    let lines: Vec<&str> = text.split('\n').collect();
    let mut comparable = Vec::with_capacity(lines.len());
    for run in lines.chunk_by(belong_together) {
        let mut run: Vec<&str> = run.iter().map(|l| l.trim_end_matches([',', ';'])).collect();
        run.sort_unstable();
        comparable.extend(run);
    }
    comparable.join("\n").replace(" DEFAULT NULL", "")
}

/// The first line in which two texts differ, for the message.
fn difference(what: &str, a: &str, b: &str) -> Result<(), String> {
    let [a, b] = [a, b].map(comparable);
    if a == b {
        return Ok(());
    }
    let differ = a.lines().zip(b.lines()).find(|(a, b)| a != b);
    Err(format!("{what}: {differ:?}, {} and {} bytes", a.len(), b.len()))
}

/// Moves a database, and gives it back: the stock program says the same of the source, of the copy,
/// of a third server into which the stock client loaded the dump, and of the thawed source.
pub async fn moved(pair: &Pair, third: &End, database: &str) -> Result<(), String> {
    let before = pair.source.stock_dump(database);
    let source = &pair.source.server;
    let failed = |e: drover_mysql::Error| format!("{} {e}", e.code());
    freeze(source, &order(database, 1), Duration::ZERO).await.map_err(failed)?;
    let enabled = accounts(source, &order(database, 2)).await.map_err(failed)?.events;
    let dumped = pair.try_dump(database, &enabled).await.map_err(failed)?;
    pair.import(&dumped, 3).await.map_err(failed)?;
    pair.verify(&dumped, 4).await.map_err(failed)?;
    let frozen = pair.source.stock_dump(database);
    difference("the copy", &frozen, &pair.destination.stock_dump(database))?;
    third.mariadb.execute(&format!("CREATE DATABASE {database}")).await.unwrap();
    third.stock_load(database, &dumped.text()).await;
    difference("the customer's file", &before, &third.stock_dump(database))?;
    drop_copy(&pair.destination.server, &order(database, 5)).await.map_err(failed)?;
    thaw(source, &order(database, 5)).await.map_err(failed)?;
    difference("the thawed source", &before, &pair.source.stock_dump(database))?;
    for end in [&pair.source, third] {
        end.mariadb.execute(&format!("DROP DATABASE {database}")).await.unwrap();
    }
    Ok(())
}
