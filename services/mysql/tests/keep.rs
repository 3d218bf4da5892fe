//! Connections that are used for several steps: the next step finds nothing of the one before, and what
//! failed, was dropped, has a database selected without a word or another password is not used again.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed test may panic anywhere")]

mod common;

use common::{Site, order, site};
use drover_lifecycle::ledger::Side;
use drover_mysql::{Form, Locked, Options, Server, dump, freeze, ledger};
use drover_testbed::bed::eventually;
use mysql_async::prelude::Queryable as _;

const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);

async fn take(server: &Server, database: &str) -> Locked {
    Locked::take(server, &order(database, 1), Side::Source).await.unwrap()
}

/// The id of the connection that a step gets, which does nothing and ends well.
async fn used(server: &Server) -> u64 {
    let mut locked = take(server, "nothing").await;
    let id = locked.session().about().id;
    locked.release().await.unwrap();
    id
}

/// All that a step might leave, and the statements that leave it.
const LEFT: &str = "SET SESSION sql_log_off = 1, sql_mode = '', max_statement_time = 7, \
    autocommit = 0, time_zone = '+05:00', sql_log_bin = 0, timestamp = 1, foreign_key_checks = 0, \
    character_set_results = NULL, tx_isolation = 'SERIALIZABLE', wait_timeout = 30; \
    SET NAMES latin1; SET @left = 1; CREATE TEMPORARY TABLE drover.left_over (a INT); \
    PREPARE left_over FROM 'SELECT 1'; DO GET_LOCK('left over', 0); \
    START TRANSACTION; INSERT INTO drover.copy VALUES ('left', 'd', 'l', 0)";

/// The same, looked for.
const LOOKED_FOR: &str = "SELECT CONCAT_WS(',', @@sql_log_off, @@sql_mode, @@max_statement_time, \
    @@autocommit, @@time_zone, @@sql_log_bin, @@timestamp > 1, @@foreign_key_checks, \
    @@character_set_results, @@character_set_client, @@collation_connection, @@tx_isolation, \
    @@wait_timeout, @left, @@in_transaction, IS_USED_LOCK('left over'), DATABASE(), \
    (SELECT COUNT(*) FROM drover.copy WHERE migration = 'left'))";

async fn looked_for(locked: &mut Locked) -> String {
    locked.session().one::<String>("looking", LOOKED_FOR).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_finds_nothing_of_the_one_before_on_its_connection() {
    let Site { server, .. } = &site().await;
    let mut new = take(server, "first").await;
    let (id, untouched) = (new.session().about().id, looked_for(&mut new).await);
    new.session().run("leaving something", LEFT).await.unwrap();
    assert_ne!(looked_for(&mut new).await, untouched);
    // Another session is kept out meanwhile, and no more when the step has ended.
    let lock = [ledger::migration_lock(order("first", 1).migration)];
    let mut other = server.session().await.unwrap();
    let free = format!("SELECT IS_FREE_LOCK('{}')", lock[0]);
    assert!(!other.one::<bool>("looking", &free).await.unwrap());
    new.release().await.unwrap();
    assert!(other.one::<bool>("looking", &free).await.unwrap());
    other.end().await.unwrap();

    let mut again = take(server, "second").await;
    assert_eq!(again.session().about().id, id, "another connection");
    assert_eq!(looked_for(&mut again).await, untouched);
    for gone in ["SELECT * FROM drover.left_over", "EXECUTE left_over"] {
        assert!(again.session().run("looking", gone).await.is_err(), "{gone}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nor_of_one_that_had_selected_a_database() {
    let Site { server, mariadb } = &site().await;
    mariadb
        .execute("CREATE DATABASE shop; CREATE TABLE shop.t (a INT) SELECT 7 AS a")
        .await
        .unwrap();
    freeze(server, &order("shop", 1), std::time::Duration::ZERO).await.unwrap();
    let mut before = take(server, "first").await;
    let (id, untouched) = (before.session().about().id, looked_for(&mut before).await);
    before.release().await.unwrap();
    dump(server, &order("shop", 2), &[], Form::Zstd, &mut Vec::new()).await.unwrap();
    let mut after = take(server, "second").await;
    assert_eq!(after.session().about().id, id, "another connection");
    assert_eq!(looked_for(&mut after).await, untouched);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_as_new_is_not_used_again() {
    let Site { server, mariadb } = &site().await;
    let first = used(server).await;
    assert_eq!(used(server).await, first);
    // A step that failed, or was dropped.
    drop(take(server, "failed").await);
    let second = used(server).await;
    assert_ne!(second, first);
    // One that has selected a database, whoever did not say so.
    let mut selecting = take(server, "selecting").await;
    selecting.session().run("selecting", "USE drover").await.unwrap();
    selecting.release().await.unwrap();
    let third = used(server).await;
    assert_ne!(third, second);
    // One that the server has ended.
    mariadb.execute(&format!("KILL {third}")).await.unwrap();
    assert_ne!(used(server).await, third);
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_used_with_its_own_password_only_and_ends_by_itself() {
    let Site { mariadb, .. } = &site().await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::copy(mariadb.drover_password_file(), file.path()).unwrap();
    let mut options = Options::new(mariadb.address().to_string(), mariadb.port());
    options.user = mariadb.drover_user().to_owned();
    options.password_file = file.path().to_owned();
    let server = Server::new("server".parse().unwrap(), options).unwrap();
    let before = used(&server).await;
    assert_eq!(used(&server).await, before);
    let (user, password) = (mariadb.drover_user(), "another one");
    let mut root = mariadb.root().await.unwrap();
    let sql = format!("SELECT Host FROM mysql.global_priv WHERE User = '{user}'");
    let host: String = root.query_first(sql).await.unwrap().unwrap();
    let change = format!("SET PASSWORD FOR '{user}'@'{host}' = PASSWORD('{password}')");
    mariadb.execute(&change).await.unwrap();
    std::fs::write(file.path(), password).unwrap();
    let after = used(&server).await;
    assert_ne!(after, before);
    let gone = eventually(PATIENCE, || async {
        let sql = format!("SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE ID = {after}");
        let mut root = mariadb.root().await?;
        Ok(root.query_first::<u64, _>(sql).await? == Some(0))
    });
    assert!(gone.await.is_ok(), "it is still there");
}
