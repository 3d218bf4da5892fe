//! Freeze, thaw and retire on a real server: who can still do what, and that everything comes back
//! exactly.

mod common;

use common::{GRACE, order, refusal, shared, snapshot, unique};
use drover_mysql::{freeze, retire, thaw};
use drover_schemas::Code;
use mysql_async::prelude::Queryable as _;

/// A database, its owner, and grants of every level on it, under a name of its own.
fn corpus(tag: &str, db: &str) -> String {
    use drover_mysql::ident::{grant_text, ident};
    let (d, g) = (ident(db), ident(&grant_text(db)));
    format!(
        "CREATE DATABASE {d}; CREATE TABLE {d}.t (a INT, b INT); CREATE TABLE {d}.`q``t` (c INT); \
         CREATE VIEW {d}.v AS SELECT a FROM {d}.t; \
         CREATE PROCEDURE {d}.p() INSERT INTO t VALUES (7, 7); \
         CREATE FUNCTION {d}.f() RETURNS INT DETERMINISTIC RETURN 1; \
         CREATE USER {tag}_owner@'%' IDENTIFIED BY 'pw'; CREATE USER {tag}_own2@localhost IDENTIFIED BY 'pw'; \
         CREATE USER '{tag}_x y.z`q''%'@'10.%' IDENTIFIED BY 'pw'; CREATE USER {tag}_insert@'%' IDENTIFIED BY 'pw'; \
         CREATE USER {tag}_member@'%' IDENTIFIED BY 'pw'; CREATE ROLE {tag}_role; GRANT {tag}_role TO {tag}_member@'%'; \
         GRANT ALL PRIVILEGES ON {g}.* TO {tag}_owner@'%' WITH GRANT OPTION; \
         GRANT SELECT, INSERT, CREATE TEMPORARY TABLES ON {g}.* TO {tag}_own2@localhost; \
         GRANT INSERT ON {g}.* TO {tag}_insert@'%'; \
         GRANT USAGE ON {g}.* TO '{tag}_x y.z`q''%'@'10.%' WITH GRANT OPTION; \
         GRANT SELECT, UPDATE, DELETE ON {d}.`q``t` TO '{tag}_x y.z`q''%'@'10.%' WITH GRANT OPTION; \
         GRANT SELECT (a), INSERT (a, b), UPDATE (b), REFERENCES (a) ON {d}.t TO {tag}_own2@localhost; \
         GRANT INSERT ON {d}.v TO {tag}_own2@localhost; \
         GRANT EXECUTE, ALTER ROUTINE ON PROCEDURE {d}.p TO {tag}_own2@localhost WITH GRANT OPTION; \
         GRANT EXECUTE ON FUNCTION {d}.f TO {tag}_role; GRANT INSERT, UPDATE ON {g}.* TO {tag}_role; \
         CREATE DEFINER={tag}_owner@'%' EVENT {d}.`e 1` ON SCHEDULE EVERY 1 DAY COMMENT 'x''y' DO INSERT INTO t VALUES (1, 1); \
         CREATE DEFINER={tag}_owner@'%' EVENT {d}.off ON SCHEDULE EVERY 1 DAY DISABLE DO INSERT INTO t VALUES (1, 1); \
         CREATE DEFINER={tag}_gone@'%' EVENT {d}.gone ON SCHEDULE AT NOW() + INTERVAL 1 DAY ON COMPLETION PRESERVE DO DELETE FROM t"
    )
}

const NASTY: &[&str] = &[
    "plain",
    "my_db",
    "a b.c",
    "q`t",
    "o'brien",
    "say \"x\"",
    "100%",
    "back\\slash",
    "日本語",
    "select",
    "UPPER",
    "x_%\\`'",
    "a_23456789_123456789_123456789_123456789_123456789_123456789_123",
];

#[tokio::test(flavor = "multi_thread")]
async fn a_thaw_puts_back_exactly_what_was_there() {
    let site = shared().await;
    let mut root = site.mariadb.root().await.unwrap();
    for name in NASTY {
        let tag = format!("exact{}", unique());
        root.query_drop(corpus(&tag, name)).await.unwrap();
        let before = snapshot(&mut root, &format!("{tag}%")).await;

        let frozen = freeze(&site.server, &order(name, 1), GRACE).await.unwrap();
        assert_eq!((frozen.accounts, frozen.scheduled_events_stopped), (4, 2), "{name}");
        let point = frozen.consistency_point.clone().unwrap();
        assert!(point.binlog_position > 0 && point.at_unix_ms >= frozen.frozen_at_unix_ms);
        assert_ne!(snapshot(&mut root, &format!("{tag}%")).await, before, "{name}");
        let mut owner = site.mariadb.connect(&format!("{tag}_owner"), "pw").await.unwrap();
        let table = format!("{}.t", drover_mysql::ident::ident(name));
        assert_eq!(refusal(owner.query_drop(format!("SELECT * FROM {table}")).await), 0, "{name}");
        assert_eq!(
            refusal(owner.query_drop(format!("INSERT INTO {table} VALUES (1, 1)")).await),
            1142
        );
        // The same order again: the same answer.
        assert_eq!(freeze(&site.server, &order(name, 1), GRACE).await.unwrap(), frozen);

        retire(&site.server, &order(name, 2)).await.unwrap();
        retire(&site.server, &order(name, 2)).await.unwrap();
        let mut owner = site.mariadb.connect(&format!("{tag}_owner"), "pw").await.unwrap();
        assert_eq!(
            refusal(owner.query_drop(format!("SELECT * FROM {table}")).await),
            1142,
            "{name}"
        );

        let thawed = thaw(&site.server, &order(name, 3)).await.unwrap();
        assert!(thawed.thawed_at_unix_ms >= point.at_unix_ms && thawed.accounts == 4);
        assert_eq!(thaw(&site.server, &order(name, 3)).await.unwrap(), thawed);
        pretty_assert(&snapshot(&mut root, &format!("{tag}%")).await, &before, name);

        let stale = freeze(&site.server, &order(name, 2), GRACE).await.unwrap_err();
        assert_eq!(stale.code(), Code::LedgerOutdated);
        assert_eq!(snapshot(&mut root, &format!("{tag}%")).await, before, "{name}");
        freeze(&site.server, &order(name, 5), GRACE).await.unwrap();
        thaw(&site.server, &order(name, 6)).await.unwrap();
        assert_eq!(snapshot(&mut root, &format!("{tag}%")).await, before, "{name}");
    }
}

fn pretty_assert(
    now: &std::collections::BTreeMap<String, Vec<String>>,
    before: &std::collections::BTreeMap<String, Vec<String>>,
    name: &str,
) {
    for (table, rows) in before {
        assert_eq!(now.get(table), Some(rows), "{table} of {name}");
    }
    assert_eq!(now.len(), before.len());
}
