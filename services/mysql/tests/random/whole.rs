//! One database the whole way, held against what the stock program says.

use std::time::Duration;

use drover_mysql::{accounts, drop_copy, freeze, thaw};

use crate::pair::{End, Pair, order};

/// The first line in which two texts differ, for the message.
fn difference(what: &str, a: &str, b: &str) -> Result<(), String> {
    // What the stock program's own text does not bring back either: no default at all, where a
    // column may be NULL.
    let [a, b] = [a, b].map(|text| text.replace(" DEFAULT NULL", ""));
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
