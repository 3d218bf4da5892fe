//! Freeze, thaw and retire on a real server: who can still do what, and that everything comes back
//! exactly.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod common;

use common::{GRACE, Site, order, refusal, shared, site, snapshot, unique};
use drover_mysql::{disarm, freeze, retire, thaw};
use drover_schemas::Code;
use mysql_async::prelude::Queryable as _;
use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};

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
         SET NAMES utf8mb4 COLLATE utf8mb4_bin, time_zone = '-05:30', sql_mode = 'ANSI_QUOTES'; \
         CREATE DEFINER={tag}_gone@'%' EVENT {d}.gone ON SCHEDULE AT NOW() + INTERVAL 1 DAY ON COMPLETION PRESERVE DO DELETE FROM t; \
         SET NAMES utf8mb4, time_zone = DEFAULT, sql_mode = DEFAULT; ALTER DATABASE {d} COLLATE latin2_czech_cs"
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
    puts_back_exactly(shared().await, NASTY).await;
}

/// There the undo and what it undoes go in one packet.
#[tokio::test(flavor = "multi_thread")]
async fn so_it_does_where_each_commit_is_on_disk_by_itself() {
    let site = site().await;
    let durable = "SET GLOBAL innodb_flush_log_at_trx_commit = 1";
    site.mariadb.execute(durable).await.unwrap();
    puts_back_exactly(&site, &["plain", "x_%\\`'"]).await;
}

async fn puts_back_exactly(site: &Site, names: &[&str]) {
    let mut root = site.mariadb.root().await.unwrap();
    for name in names {
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

        let early = retire(&site.server, &order(name, 2)).await.unwrap_err();
        assert_eq!(early.code(), Code::NotDisarmed);
        disarm(&site.server, &order(name, 2)).await.unwrap();
        disarm(&site.server, &order(name, 2)).await.unwrap();
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
        same(&snapshot(&mut root, &format!("{tag}%")).await, &before, name);

        let stale = freeze(&site.server, &order(name, 2), GRACE).await.unwrap_err();
        assert_eq!(stale.code(), Code::LedgerOutdated);
        assert_eq!(snapshot(&mut root, &format!("{tag}%")).await, before, "{name}");
        freeze(&site.server, &order(name, 5), GRACE).await.unwrap();
        thaw(&site.server, &order(name, 6)).await.unwrap();
        assert_eq!(snapshot(&mut root, &format!("{tag}%")).await, before, "{name}");
    }
}

fn same(
    now: &std::collections::BTreeMap<String, Vec<String>>,
    before: &std::collections::BTreeMap<String, Vec<String>>,
    name: &str,
) {
    for (table, rows) in before {
        assert_eq!(now.get(table), Some(rows), "{table} of {name}");
    }
    assert_eq!(now.len(), before.len());
}

/// Privileges of a database, table, column list and routine, from which random grants are made.
const OF_DATABASE: &[&str] = &[
    "SELECT",
    "INSERT",
    "UPDATE",
    "DELETE",
    "CREATE",
    "DROP",
    "REFERENCES",
    "INDEX",
    "ALTER",
    "CREATE TEMPORARY TABLES",
    "LOCK TABLES",
    "EXECUTE",
    "CREATE VIEW",
    "SHOW VIEW",
    "CREATE ROUTINE",
    "ALTER ROUTINE",
    "EVENT",
    "TRIGGER",
    "DELETE HISTORY",
];
const OF_TABLE: &[&str] = &[
    "SELECT",
    "INSERT",
    "UPDATE",
    "DELETE",
    "CREATE",
    "DROP",
    "REFERENCES",
    "INDEX",
    "ALTER",
    "CREATE VIEW",
    "SHOW VIEW",
    "TRIGGER",
    "DELETE HISTORY",
];
const OF_COLUMN: &[&str] =
    &["SELECT (a)", "SELECT (a, b)", "INSERT (b)", "UPDATE (a)", "REFERENCES (b)"];
const OF_ROUTINE: &[&str] = &["EXECUTE", "ALTER ROUTINE"];

#[derive(Debug, Clone)]
struct RandomGrant {
    level: usize,
    picks: Vec<usize>,
    option: bool,
    grantee: usize,
}

impl RandomGrant {
    /// As a statement. `patterns` are texts that cover the database, its own first.
    fn sql(&self, tag: &str, database: &str, patterns: &[String]) -> String {
        use drover_mysql::ident::ident;
        let d = ident(database);
        let (list, target) = match self.level {
            0 => (OF_TABLE, format!("TABLE {d}.t")),
            1 => (OF_COLUMN, format!("TABLE {d}.t")),
            2 => (OF_ROUTINE, format!("PROCEDURE {d}.p")),
            level => (OF_DATABASE, format!("{}.*", ident(&patterns[level % patterns.len()]))),
        };
        let picked: Vec<&str> = self.picks.iter().map(|i| list[i % list.len()]).collect();
        let grantee = [
            format!("{tag}_a@'%'"),
            format!("{tag}_a@localhost"),
            format!("`{tag}_b c`@`127.%`"),
            format!("{tag}_role"),
        ][self.grantee % 4]
            .clone();
        let option = if self.option { " WITH GRANT OPTION" } else { "" };
        format!("GRANT {} ON {target} TO {grantee}{option}", picked.join(", "))
    }
}

fn random_grant() -> impl Strategy<Value = RandomGrant> {
    (0..8_usize, prop::collection::vec(0..64_usize, 1..5), any::<bool>(), 0..4_usize)
        .prop_map(|(level, picks, option, grantee)| RandomGrant { level, picks, option, grantee })
}

async fn random_round(name: String, grants: Vec<RandomGrant>) {
    use drover_mysql::ident::{grant_text, ident};
    let site = shared().await;
    let mut root = site.mariadb.root().await.unwrap();
    let tag = format!("rnd{}", unique());
    let database: String = format!("{tag}{name}").chars().take(64).collect();
    let database = database.trim_end().to_owned();
    let patterns = [
        grant_text(&database),
        format!("{tag}%"),
        database.replace('\\', "_"),
        format!("{tag}%{}", database.chars().last().unwrap()),
    ];
    let d = ident(&database);
    if root.query_drop(format!("CREATE DATABASE {d}")).await.is_err() {
        // Its folder's name would be too long.
        return;
    }
    root.query_drop(format!(
        "CREATE TABLE {d}.t (a INT, b INT); CREATE PROCEDURE {d}.p() SELECT 1; \
         CREATE USER {tag}_a@'%', {tag}_a@localhost, `{tag}_b c`@`127.%`; CREATE ROLE {tag}_role; \
         GRANT {tag}_role TO {tag}_a@'%'"
    ))
    .await
    .unwrap();
    for grant in &grants {
        root.query_drop(grant.sql(&tag, &database, &patterns)).await.unwrap();
    }
    let before = snapshot(&mut root, &format!("{tag}%")).await;
    freeze(&site.server, &order(&database, 1), GRACE).await.unwrap();
    for user in [format!("{tag}_a"), format!("{tag}_b c")] {
        let mut conn = site.mariadb.connect(&user, "").await.unwrap();
        let attempts = [
            format!("INSERT INTO {d}.t VALUES (1, 1)"),
            format!("UPDATE {d}.t SET a = 1"),
            format!("UPDATE {d}.t SET b = 1"),
            format!("DELETE FROM {d}.t"),
            format!("CREATE TABLE {d}.new (a INT)"),
            format!("ALTER TABLE {d}.t ADD c INT"),
            format!("CALL {d}.p()"),
            format!("DROP TABLE {d}.t"),
        ];
        for role in ["SET ROLE NONE".to_owned(), format!("SET ROLE {tag}_role")] {
            // The second user does not have the role.
            conn.query_drop(role).await.ok();
            for sql in &attempts {
                assert_ne!(refusal(conn.query_drop(sql).await), 0, "{sql} by {user}");
            }
        }
    }
    disarm(&site.server, &order(&database, 2)).await.unwrap();
    retire(&site.server, &order(&database, 2)).await.unwrap();
    let mut conn = site.mariadb.connect(&format!("{tag}_a"), "").await.unwrap();
    assert_ne!(refusal(conn.query_drop(format!("SELECT * FROM {d}.t")).await), 0);
    thaw(&site.server, &order(&database, 3)).await.unwrap();
    same(&snapshot(&mut root, &format!("{tag}%")).await, &before, &database);
    root.query_drop(format!(
        "DROP DATABASE {d}; DROP ROLE {tag}_role; DROP USER {tag}_a@'%', {tag}_a@localhost, `{tag}_b c`@`127.%`"
    ))
    .await
    .unwrap();
}

#[test]
fn random_grants_on_random_names_come_back() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut runner = TestRunner::new(Config {
        cases: 25,
        max_shrink_iters: 40,
        failure_persistence: None,
        ..Config::default()
    });
    let names = "[a-cA-C_%\\\\`'\". é日]{0,64}[a-z_]";
    let strategy = (names, prop::collection::vec(random_grant(), 0..8));
    runner
        .run(&strategy, |(name, grants)| {
            runtime.block_on(random_round(name, grants));
            Ok(())
        })
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_everyone_may_is_taken_from_everyone() {
    let site = site().await;
    let mut root = site.mariadb.root().await.unwrap();
    root.query_drop(
        "CREATE DATABASE open_house; CREATE TABLE open_house.t (a INT); CREATE USER any@'%'; \
         CREATE USER ''@'127.%'; GRANT INSERT, SELECT ON open_house.* TO PUBLIC; \
         GRANT ALL ON `open%`.* TO ''@'127.%'",
    )
    .await
    .unwrap();
    let before = snapshot(&mut root, "%").await;
    let mut guest = site.mariadb.connect("any", "").await.unwrap();
    guest.query_drop("USE open_house; INSERT INTO t VALUES (1)").await.unwrap();
    let mut nobody = site.mariadb.connect("nobody", "").await.unwrap();
    nobody.query_drop("USE open_house; INSERT INTO t VALUES (1)").await.unwrap();
    freeze(&site.server, &order("open_house", 1), GRACE).await.unwrap();
    for conn in [&mut guest, &mut nobody] {
        assert_ne!(refusal(conn.query_drop("INSERT INTO t VALUES (1)").await), 0);
    }
    for user in ["any", "nobody"] {
        let mut conn = site.mariadb.connect(user, "").await.unwrap();
        assert_eq!(refusal(conn.query_drop("SELECT * FROM open_house.t").await), 0);
        assert_eq!(refusal(conn.query_drop("INSERT INTO open_house.t VALUES (1)").await), 1142);
    }
    thaw(&site.server, &order("open_house", 2)).await.unwrap();
    let now: Vec<_> = snapshot(&mut root, "%").await.into_iter().collect();
    assert_eq!(now, before.into_iter().collect::<Vec<_>>());
    let mut nobody = site.mariadb.connect("nobody", "").await.unwrap();
    nobody.query_drop("INSERT INTO open_house.t VALUES (1)").await.unwrap();
}
