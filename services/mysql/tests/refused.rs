//! What a freeze refuses, each caused for real, and that nothing was touched then.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod common;

use common::{GRACE, order, order_in, site, unique};
use drover_mysql::{Server, existing, freeze, grants_needed, guard, thaw};
use drover_schemas::Code;
use drover_testbed::mariadb::Mariadb;
use mysql_async::prelude::Queryable as _;

async fn refused(server: &Server, mariadb: &Mariadb, cause: &str, undo: &str, code: Code) {
    let tag = format!("ref{}", unique());
    let db = format!("{tag}db");
    let own = |sql: &str| sql.replace("DB", &db).replace("TAG", &tag);
    mariadb
        .execute(&own("CREATE DATABASE DB; CREATE TABLE DB.t (a INT PRIMARY KEY); \
             CREATE USER TAG_u@'%'; GRANT ALL ON DB.* TO TAG_u@'%'"))
        .await
        .unwrap();
    mariadb.execute(&own(cause)).await.unwrap();
    let error = freeze(server, &order(&db, 1), GRACE).await.expect_err(cause);
    assert_eq!(error.code(), code, "{cause}: {error}");
    let mut user = mariadb.connect(&format!("{tag}_u"), "").await.unwrap();
    user.query_drop(own("INSERT INTO DB.t VALUES (1)")).await.expect(cause);
    mariadb.execute(&own(undo)).await.unwrap();
    freeze(server, &order(&db, 2), GRACE).await.expect(cause);
    thaw(server, &order(&db, 3)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_could_still_write_is_named() {
    let site = site().await;
    let (server, mariadb) = (&site.server, &site.mariadb);
    for (cause, undo) in [
        ("CREATE USER TAG_g@'%'; GRANT INSERT ON *.* TO TAG_g@'%'", "DROP USER TAG_g@'%'"),
        ("CREATE ROLE TAG_r; GRANT SUPER ON *.* TO TAG_r", "DROP ROLE TAG_r"),
        ("CREATE USER TAG_c@'%'; GRANT CREATE USER ON *.* TO TAG_c@'%'", "DROP USER TAG_c@'%'"),
        ("CREATE USER TAG_m@'%'; GRANT UPDATE ON mysql.* TO TAG_m@'%'", "DROP USER TAG_m@'%'"),
        ("CREATE USER TAG_a@'%'; GRANT INSERT ON `%`.* TO TAG_a@'%'", "DROP USER TAG_a@'%'"),
        (
            "CREATE DATABASE TAG_other; CREATE PROCEDURE TAG_other.p() INSERT INTO `DB`.t VALUES (9)",
            "DROP DATABASE TAG_other",
        ),
        (
            "CREATE DATABASE TAG_other; CREATE EVENT TAG_other.e ON SCHEDULE EVERY 1 DAY DO DELETE FROM DB.t",
            "DROP DATABASE TAG_other",
        ),
        (
            "CREATE FUNCTION DB.f() RETURNS INT BEGIN INSERT INTO t VALUES (8); RETURN 1; END; \
             CREATE VIEW DB.v AS SELECT DB.f()",
            "DROP VIEW DB.v",
        ),
        (
            "CREATE DATABASE TAG_other; CREATE TABLE TAG_other.p (a INT PRIMARY KEY); \
             CREATE TABLE DB.c (a INT, FOREIGN KEY (a) REFERENCES TAG_other.p (a) ON DELETE CASCADE)",
            "DROP TABLE DB.c",
        ),
        (
            "INSERT INTO mysql.db (Host, Db, User, Insert_priv) VALUES ('127.%', 'DB', 'TAG_u', 'Y'); FLUSH PRIVILEGES",
            "DELETE FROM mysql.db WHERE Host = '127.%' AND User = 'TAG_u'; FLUSH PRIVILEGES",
        ),
    ] {
        refused(server, mariadb, cause, undo, Code::ForeignWriter).await;
    }
    refused(
        server,
        mariadb,
        "XA START 'x'; INSERT INTO DB.t VALUES (7); XA END 'x'; XA PREPARE 'x'",
        "XA COMMIT 'x'",
        Code::PreparedTransactions,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_has_one_migration_and_must_exist() {
    let site = site().await;
    site.mariadb.execute("CREATE DATABASE one").await.unwrap();
    let first = order_in("night-1", "one", 1);
    freeze(&site.server, &first, GRACE).await.unwrap();
    let other = freeze(&site.server, &order_in("night-2", "one", 9), GRACE).await.unwrap_err();
    assert_eq!(other.code(), Code::DatabaseHeld);
    thaw(&site.server, &order_in("night-1", "one", 2)).await.unwrap();
    freeze(&site.server, &order_in("night-2", "one", 10), GRACE).await.unwrap();

    let missing = freeze(&site.server, &order("none", 1), GRACE).await.unwrap_err();
    assert_eq!(missing.code(), Code::DatabaseMissing);
    // A thaw that had nothing to do refuses the freeze that comes late.
    site.mariadb.execute("CREATE DATABASE late").await.unwrap();
    let nothing = thaw(&site.server, &order("late", 5)).await.unwrap();
    assert_eq!(nothing.thawed_at_unix_ms, 0);
    let late = freeze(&site.server, &order("late", 4), GRACE).await.unwrap_err();
    assert_eq!(late.code(), Code::LedgerOutdated);

    let names = ["one", "ONE", "none", "late"].map(str::to_owned);
    let there = existing(&site.server, &names).await.unwrap();
    assert_eq!(there.into_iter().collect::<Vec<_>>(), ["late", "one"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_right_is_named_and_the_statement_given_is_enough() {
    let site = site().await;
    site.mariadb
        .execute(
            "CREATE DATABASE d; CREATE USER u@'%'; GRANT ALL ON d.* TO u@'%'; \
                  REVOKE ALL PRIVILEGES, GRANT OPTION FROM drover@'127.%'; \
                  GRANT SELECT ON *.* TO drover@'127.%'",
        )
        .await
        .unwrap();
    let error = freeze(&site.server, &order("d", 1), GRACE).await.unwrap_err();
    assert_eq!(error.code(), Code::ServerRightMissing, "{error}");
    let statement = grants_needed("drover", "127.%");
    assert!(error.to_string().contains(&statement), "{error}");
    site.mariadb.execute(&statement).await.unwrap();
    freeze(&site.server, &order("d", 1), GRACE).await.unwrap();
    thaw(&site.server, &order("d", 2)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_reaches_a_name_before_it_opens_is_named() {
    let site = site().await;
    let mut session = site.server.session().await.unwrap();
    guard::not_reachable(&mut session, "new_db", false).await.unwrap();
    site.mariadb.execute("CREATE USER u@'%'; GRANT SELECT ON `new%`.* TO u@'%'").await.unwrap();
    let error = guard::not_reachable(&mut session, "new_db", false).await.unwrap_err();
    assert_eq!(error.code(), Code::ReachableEarly);
    assert!(error.to_string().contains("`u`@`%`"), "{error}");
}
