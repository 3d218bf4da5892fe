//! A freeze while customers write in every way there is: after the consistency point not one row.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod common;

use std::time::Duration;

use common::{order, refusal, site, unique};
use drover_mysql::{Server, freeze, thaw};
use drover_testbed::mariadb::Mariadb;
use mysql_async::{Conn, prelude::Queryable as _};
use tokio::task::JoinHandle;

const TABLES: [&str; 4] = ["inno", "myisam", "aria", "ticks"];

async fn counts(root: &mut Conn, db: &str) -> Vec<u64> {
    let mut counts = Vec::new();
    for table in TABLES {
        let sql = format!("SELECT COUNT(*) FROM {db}.{table}");
        counts.push(root.query_first(sql).await.unwrap().unwrap());
    }
    counts
}

async fn prepare(server: &Mariadb, tag: &str, db: &str) {
    let rows = "(n BIGINT AUTO_INCREMENT PRIMARY KEY, by_whom VARCHAR(20))";
    server
        .execute(&format!(
            "CREATE DATABASE {db}; CREATE TABLE {db}.inno {rows} ENGINE=InnoDB; \
             CREATE TABLE {db}.myisam {rows} ENGINE=MyISAM; CREATE TABLE {db}.aria {rows} ENGINE=Aria; \
             CREATE TABLE {db}.ticks {rows} ENGINE=InnoDB; \
             CREATE USER {tag}_w@'%' IDENTIFIED BY 'pw'; \
             CREATE ROLE {tag}_r; CREATE USER {tag}_m@'%' IDENTIFIED BY 'pw'; GRANT {tag}_r TO {tag}_m@'%'; \
             SET DEFAULT ROLE {tag}_r FOR {tag}_m@'%'; GRANT INSERT, SELECT ON {db}.* TO {tag}_r; \
             GRANT ALL PRIVILEGES ON {db}.* TO {tag}_w@'%'; \
             CREATE PROCEDURE {db}.long_one() BEGIN DECLARE i INT DEFAULT 0; \
             WHILE i < 100000 DO INSERT INTO myisam (by_whom) VALUES ('procedure'); DO SLEEP(0.001); SET i = i + 1; END WHILE; END; \
             CREATE DEFINER=drover@'127.%' PROCEDURE {db}.long_two() BEGIN DECLARE i INT DEFAULT 0; \
             WHILE i < 100000 DO INSERT INTO myisam (by_whom) VALUES ('procedure'); DO SLEEP(0.001); SET i = i + 1; END WHILE; END; \
             CREATE DEFINER={tag}_w@'%' EVENT {db}.tick ON SCHEDULE EVERY 1 SECOND DO BEGIN DECLARE i INT DEFAULT 0; \
             WHILE i < 900 DO INSERT INTO {db}.ticks (by_whom) VALUES ('event'); DO SLEEP(0.001); SET i = i + 1; END WHILE; END; \
             CREATE DEFINER=root@localhost EVENT {db}.tick_root ON SCHEDULE EVERY 1 SECOND DO BEGIN DECLARE i INT DEFAULT 0; \
             WHILE i < 900 DO INSERT INTO {db}.ticks (by_whom) VALUES ('root event'); DO SLEEP(0.001); SET i = i + 1; END WHILE; END"
        ))
        .await
        .unwrap();
}

/// Runs statements again and again on one connection until one fails.
fn writer(mut conn: Conn, first: Vec<String>, statements: Vec<String>) -> JoinHandle<u64> {
    tokio::spawn(async move {
        let mut done = 0;
        for sql in first {
            if conn.query_drop(sql).await.is_err() {
                return done;
            }
        }
        loop {
            for sql in &statements {
                if conn.query_drop(sql).await.is_err() {
                    return done;
                }
                done += 1;
            }
        }
    })
}

async fn writers(server: &Mariadb, tag: &str, db: &str) -> Vec<JoinHandle<u64>> {
    let mut all = Vec::new();
    let owner = format!("{tag}_w");
    let lines: Vec<(&str, Vec<&str>, Vec<&str>)> = vec![
        ("w", vec!["USE @"], vec!["INSERT INTO inno (by_whom) VALUES ('selected')"]),
        ("w", vec![], vec!["INSERT INTO @.inno (by_whom) VALUES ('named')"]),
        ("w", vec!["USE @"], vec!["INSERT INTO myisam (by_whom) VALUES ('myisam')"]),
        ("w", vec!["USE @"], vec!["INSERT INTO aria (by_whom) VALUES ('aria')"]),
        ("w", vec!["USE @"], vec!["INSERT DELAYED INTO myisam (by_whom) VALUES ('delayed')"]),
        (
            "w",
            vec!["USE @", "PREPARE s FROM 'INSERT INTO inno (by_whom) VALUES (''prepared'')'"],
            vec!["EXECUTE s"],
        ),
        (
            "w",
            vec!["USE @", "LOCK TABLES aria WRITE"],
            vec![
                "INSERT INTO aria (by_whom) VALUES ('locked')",
                "UNLOCK TABLES",
                "LOCK TABLES aria WRITE",
            ],
        ),
        ("w", vec!["USE @"], vec!["CALL long_one()"]),
        ("w", vec!["USE @"], vec!["CALL long_two()"]),
        (
            "w",
            vec!["USE @"],
            vec![
                "START TRANSACTION",
                "INSERT INTO inno (by_whom) VALUES ('transaction')",
                "DO SLEEP(0.05)",
                "COMMIT",
            ],
        ),
        ("m", vec!["USE @"], vec!["INSERT INTO inno (by_whom) VALUES ('by role')"]),
    ];
    for (who, first, statements) in lines {
        let own = |sql: Vec<&str>| sql.into_iter().map(|s| s.replace('@', db)).collect();
        let conn = server.connect(&format!("{tag}_{who}"), "pw").await.unwrap();
        all.push(writer(conn, own(first), own(statements)));
    }
    // One that connects anew each time.
    let (address, insert) =
        (server.address(), format!("INSERT INTO {db}.inno (by_whom) VALUES ('new')"));
    let options: mysql_async::Opts = mysql_async::OptsBuilder::default()
        .ip_or_hostname(address.to_string())
        .prefer_socket(false)
        .user(Some(owner))
        .pass(Some("pw"))
        .into();
    all.push(tokio::spawn(async move {
        let mut done = 0;
        loop {
            let Ok(mut conn) = Conn::new(options.clone()).await else { return done };
            if conn.query_drop(&insert).await.is_err() {
                return done;
            }
            done += 1;
            conn.disconnect().await.ok();
        }
    }));
    all
}

async fn frozen_holds(server: &Server, mariadb: &Mariadb, grace: Duration) {
    let tag = format!("fire{}", unique());
    let db = format!("{tag}db");
    prepare(mariadb, &tag, &db).await;
    let mut root = mariadb.root().await.unwrap();
    // Sits on an open transaction and says nothing.
    let mut sitter = mariadb.connect(&format!("{tag}_w"), "pw").await.unwrap();
    sitter
        .query_drop(format!("START TRANSACTION; INSERT INTO {db}.inno (by_whom) VALUES ('sitter')"))
        .await
        .unwrap();
    let busy = writers(mariadb, &tag, &db).await;
    drover_testbed::bed::eventually(Duration::from_secs(20), || async {
        let mut root = mariadb.root().await?;
        let sql = format!("SELECT (SELECT COUNT(*) FROM {db}.inno) > 100 AND (SELECT COUNT(DISTINCT by_whom) FROM {db}.ticks) = 2 \
            AND (SELECT COUNT(DISTINCT by_whom) FROM {db}.myisam) = 3 AND (SELECT COUNT(*) FROM {db}.aria) > 5");
        Ok(root.query_first::<bool, _>(sql).await? == Some(true))
    }).await.unwrap();

    let frozen = freeze(server, &order(&db, 1), grace).await.unwrap();
    let at_the_point = counts(&mut root, &db).await;
    let (file, position): (String, u64) = {
        let row: mysql_async::Row = root.query_first("SHOW MASTER STATUS").await.unwrap().unwrap();
        (row.get(0).unwrap(), row.get(1).unwrap())
    };
    for one in busy {
        tokio::time::timeout(Duration::from_secs(20), one).await.unwrap().unwrap();
    }
    assert_ne!(refusal(sitter.query_drop("COMMIT").await), 0, "the open transaction is gone");
    // Longer than the scheduled events' second.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(counts(&mut root, &db).await, at_the_point);
    assert!(frozen.sessions_ended >= 8, "{}", frozen.sessions_ended);
    // Nothing was written to the binary log of this database after the point.
    let point = frozen.consistency_point.unwrap();
    assert_eq!(point.binlog_file, file);
    let events: Vec<mysql_async::Row> = root
        .query(format!("SHOW BINLOG EVENTS IN '{file}' FROM {} LIMIT 1000", point.binlog_position))
        .await
        .unwrap();
    for event in &events {
        let info: String = event.get("Info").unwrap();
        assert!(!info.contains(&format!("{db}.")), "{info}");
    }
    assert!(position >= point.binlog_position);

    thaw(server, &order(&db, 2)).await.unwrap();
    let mut owner = mariadb.connect(&format!("{tag}_w"), "pw").await.unwrap();
    assert_eq!(
        refusal(
            owner.query_drop(format!("INSERT INTO {db}.inno (by_whom) VALUES ('after')")).await
        ),
        0
    );
    assert_eq!(
        refusal(owner.query_drop(format!("DROP EVENT {db}.tick; DROP EVENT {db}.tick_root")).await),
        0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn no_row_is_written_after_the_consistency_point() {
    let site = site().await;
    for grace in [Duration::ZERO, Duration::from_millis(300)] {
        frozen_holds(&site.server, &site.mariadb, grace).await;
    }
}
