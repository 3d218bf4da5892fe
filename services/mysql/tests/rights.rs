//! Least rights: without any one of the rights that Drover's account is asked for, some step of a
//! migration fails.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test's helpers fail as the test itself does"
)]

mod pair;

use std::time::Duration;

use drover_mysql::{
    Error, accounts, close, disarm, drop_copy, freeze, grants_needed, open, retire, thaw,
};
use mysql_async::Conn;
use pair::{Pair, order, pair, unique};

/// Before MariaDB 11.0, SUPER stands for these too (MDEV-29668).
const IN_SUPER: [&str; 5] =
    ["SET USER", "CONNECTION ADMIN", "BINLOG ADMIN", "BINLOG MONITOR", "REPLICA MONITOR"];

/// A database with one of everything that wants a right of its own, and its customer.
fn everything(database: &str) -> String {
    let user = format!("{database}_user");
    format!(
        "CREATE USER {user} IDENTIFIED BY 'secret'; \
         CREATE TABLE t (id INT PRIMARY KEY) WITH SYSTEM VERSIONING; \
         INSERT INTO t VALUES (1), (2); DELETE FROM t WHERE id = 2; \
         CREATE SEQUENCE s; CREATE TABLE parent (id INT PRIMARY KEY); \
         CREATE TABLE child (id INT, FOREIGN KEY (id) REFERENCES parent (id)); \
         GRANT ALL ON {database}.* TO {user} WITH GRANT OPTION; \
         CREATE DEFINER={user} VIEW v AS SELECT id FROM t; \
         CREATE DEFINER={user} PROCEDURE p() SELECT 1; \
         CREATE DEFINER={user} TRIGGER r BEFORE INSERT ON t FOR EACH ROW SET NEW.id = NEW.id; \
         CREATE DEFINER={user} EVENT e ON SCHEDULE EVERY 1 DAY DO DELETE FROM t"
    )
}

/// A customer who is logged in, with a transaction open.
async fn customer(pair: &Pair, database: &str) -> Conn {
    let source = &pair.source.mariadb;
    source.connect(&format!("{database}_user"), "secret").await.unwrap()
}

/// All steps there and back, as far as they go.
async fn live(pair: &Pair, database: &str) -> Result<(), Error> {
    let (source, destination) = (&pair.source.server, &pair.destination.server);
    let at = |revision| order(database, revision);
    freeze(source, &at(1), Duration::ZERO).await?;
    let dumped = pair.try_dump(database, &[]).await?;
    let sealed = accounts(source, &at(3)).await?;
    pair.import(&dumped, 4).await?;
    drop_copy(destination, &at(5)).await?;
    pair.import(&dumped, 6).await?;
    pair.verify(&dumped, 7).await?;
    disarm(source, &at(8)).await?;
    open(destination, &at(9), &sealed).await?;
    retire(source, &at(10)).await?;
    close(destination, &at(11), None).await?;
    thaw(source, &at(12)).await?;
    Ok(())
}

async fn lived(pair: &Pair) -> Result<(), Error> {
    let database = unique("rights");
    let name = drover_mysql::ident::ident(&database);
    let sql = format!("CREATE DATABASE {name}; USE {name}; {}", everything(&database));
    pair.source.mariadb.execute(&sql).await.unwrap();
    let _customer = customer(pair, &database).await;
    live(pair, &database).await
}

#[tokio::test(flavor = "multi_thread")]
async fn each_right_is_needed() {
    let pair = pair().await;
    lived(pair).await.unwrap();
    let account = (pair.source.mariadb.drover_user(), "127.%");
    let grant = grants_needed(account.0, account.1);
    let (rights, rest) = grant.strip_prefix("GRANT ").unwrap().split_once(" ON *.* TO ").unwrap();
    let name = rest.strip_suffix(" WITH GRANT OPTION").unwrap();
    let ends = [&pair.source.mariadb, &pair.destination.mariadb];
    let mut not_needed = Vec::new();
    for right in rights.split(", ") {
        for end in ends {
            end.execute(&format!("REVOKE {right} ON *.* FROM {name}")).await.unwrap();
            // A connection that is kept has the rights of when it was made.
            end.execute(&format!("KILL USER '{}'", account.0)).await.unwrap();
        }
        match lived(pair).await {
            Ok(()) => not_needed.push(right),
            Err(error) => println!("{right}: {error}"),
        }
        for end in ends {
            end.execute(&grant).await.unwrap();
        }
    }
    if pair.source.server.session().await.unwrap().about().version < (11, 0, 0) {
        not_needed.retain(|right| !IN_SUPER.contains(right));
    }
    assert!(not_needed.is_empty(), "no step needs {not_needed:?}");
    lived(pair).await.unwrap();
}
