//! Accounts from one server to another, and open and close there.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod common;

use std::{collections::BTreeMap, net::SocketAddr};

use common::{
    GRACE, Site, order_in,
    proxy::{Cut, Proxy},
    refusal, server_at, site, snapshot,
};
use drover_mysql::{
    Accounts, Order, accounts, close, describe, freeze,
    ledger::{Locked, Side, State},
    open, reopen,
};
use drover_schemas::Code;
use mysql_async::{Conn, prelude::Queryable as _};

const SOURCE: &str = "\
    CREATE DATABASE my_shop; CREATE TABLE my_shop.t (a INT, b INT); \
    CREATE PROCEDURE my_shop.p() SELECT 1; \
    CREATE USER shop@'%' IDENTIFIED BY 'secret one' WITH MAX_QUERIES_PER_HOUR 9000 MAX_USER_CONNECTIONS 30; \
    CREATE USER 'shop reader'@'127.%' IDENTIFIED BY 'secret ''two' PASSWORD EXPIRE NEVER; \
    CREATE USER shop_locked@'%' IDENTIFIED VIA ed25519 USING PASSWORD('x') OR mysql_native_password USING PASSWORD('y') REQUIRE SSL ACCOUNT LOCK; \
    CREATE USER shop_member@'%' IDENTIFIED BY 'secret three'; CREATE ROLE shop_role; \
    GRANT shop_role TO shop_member@'%'; SET DEFAULT ROLE shop_role FOR shop_member@'%'; \
    GRANT ALL ON my_shop.* TO shop@'%' WITH GRANT OPTION; GRANT SELECT ON `my\\_shop`.* TO 'shop reader'@'127.%'; \
    GRANT INSERT (a) ON my_shop.t TO 'shop reader'@'127.%'; GRANT EXECUTE ON PROCEDURE my_shop.p TO shop_locked@'%'; \
    GRANT SELECT, DELETE ON my_shop.* TO shop_role; \
    CREATE DEFINER=shop@'%' EVENT my_shop.e ON SCHEDULE EVERY 1 DAY DO DELETE FROM t";

/// What the stock programs would bring: the database without its accounts, the event stopped.
const COPY: &str = "\
    CREATE DATABASE my_shop; CREATE TABLE my_shop.t (a INT, b INT); CREATE PROCEDURE my_shop.p() SELECT 1; \
    CREATE DEFINER=shop@'%' EVENT my_shop.e ON SCHEDULE EVERY 1 DAY DISABLE DO DELETE FROM t";

fn shop(revision: u64) -> Order {
    order_in("night-1", "my_shop", revision)
}

/// Writes what an import leaves.
async fn imported(site: &Site, order: &Order) {
    let mut locked = Locked::take(&site.server, order, Side::Destination).await.unwrap();
    let sql = format!(
        "REPLACE INTO drover.copy VALUES ('{}', '{}', '', TRUE)",
        order.migration, order.database
    );
    locked.session().run("noting the copy", &sql).await.unwrap();
    locked.write(State::Imported, &()).await.unwrap();
    locked.release().await.unwrap();
}

async fn frozen_source(ed25519: bool) -> (Site, Accounts, BTreeMap<String, Vec<String>>) {
    let source = site().await;
    let sql = if ed25519 {
        format!("INSTALL SONAME 'auth_ed25519'; {SOURCE}")
    } else {
        SOURCE.replace("ed25519 USING PASSWORD('x') OR ", "")
    };
    source.mariadb.execute(&sql).await.unwrap();
    let mut root = source.mariadb.root().await.unwrap();
    let before = snapshot(&mut root, "shop%").await;
    freeze(&source.server, &shop(1), GRACE).await.unwrap();
    let accounts = accounts(&source.server, &shop(2)).await.unwrap();
    (source, accounts, before)
}

/// What must be the same on both servers; `my_shop` became `my\_shop`, which covers it alone.
fn comparable(snapshot: BTreeMap<String, Vec<String>>) -> BTreeMap<String, Vec<String>> {
    let volatile =
        |field: &&str| !["version_id", "password_last_changed"].iter().any(|v| field.contains(v));
    snapshot
        .into_iter()
        .filter(|(table, _)| table != "event")
        .map(|(table, rows)| {
            let mut rows: Vec<String> = rows
                .iter()
                .map(|row| row.replace("my\\_shop", "my_shop"))
                .filter(|row| {
                    !row.contains("User=shop_role Role") && !row.starts_with("Host= User=root")
                })
                .map(|row| row.split(',').filter(volatile).collect::<Vec<_>>().join(","))
                .collect();
            rows.sort();
            (table, rows)
        })
        .collect()
}

async fn writes(site: &Site) -> bool {
    match site.mariadb.connect("shop", "secret one").await {
        Ok(mut conn) => refusal(conn.query_drop("INSERT INTO my_shop.t VALUES (1, 1)").await) == 0,
        Err(_) => false,
    }
}

async fn enabled(root: &mut Conn) -> String {
    root.query_first("SELECT status FROM mysql.event WHERE db = 'my_shop'").await.unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_arrive_as_they_were_and_leave_again() {
    let (_source, accounts, before) = frozen_source(true).await;
    assert!(!format!("{accounts:?}").contains('*'), "no hash in Debug");
    let json = serde_json::to_string(&accounts).unwrap();
    let accounts: Accounts = serde_json::from_str(&json).unwrap();
    let site = site().await;
    let mut root = site.mariadb.root().await.unwrap();
    root.query_drop(format!("INSTALL SONAME 'auth_ed25519'; {COPY}")).await.unwrap();
    let empty = snapshot(&mut root, "shop%").await;
    let early = open(&site.server, &shop(3), &accounts).await.unwrap_err();
    assert_eq!(early.code(), Code::LedgerOutdated, "nothing was imported");
    imported(&site, &shop(3)).await;

    let opened = open(&site.server, &shop(4), &accounts).await.unwrap();
    assert_eq!(opened.accounts, 4);
    assert!(opened.opened_at_unix_ms > 0);
    assert_eq!(open(&site.server, &shop(4), &accounts).await.unwrap(), opened);
    let now = comparable(snapshot(&mut root, "shop%").await);
    for (table, rows) in comparable(before) {
        assert_eq!(now.get(&table), Some(&rows), "{table}");
    }
    assert!(writes(&site).await);
    assert_eq!(enabled(&mut root).await, "ENABLED");

    // The customer goes on granting, and is connected.
    let mut owner = site.mariadb.connect("shop", "secret one").await.unwrap();
    owner
        .query_drop("USE my_shop; GRANT INSERT ON my_shop.t TO 'shop reader'@'127.%'")
        .await
        .unwrap();
    let closed = close(&site.server, &shop(5), None).await.unwrap();
    assert_eq!(closed.accounts, 4);
    assert_eq!(close(&site.server, &shop(5), None).await.unwrap(), closed);
    assert_ne!(refusal(owner.query_drop("INSERT INTO t VALUES (2, 2)").await), 0);
    assert!(!writes(&site).await);
    assert_eq!(enabled(&mut root).await, "DISABLED");
    assert_eq!(snapshot(&mut root, "shop%").await, empty);
    let stale = open(&site.server, &shop(4), &accounts).await.unwrap_err();
    assert_eq!(stale.code(), Code::LedgerOutdated);
    assert!(!writes(&site).await);
    let reopened = open(&site.server, &shop(6), &accounts).await.unwrap_err();
    assert_eq!(reopened.code(), Code::LedgerOutdated, "what was closed is imported anew first");
    imported(&site, &shop(6)).await;
    open(&site.server, &shop(6), &accounts).await.unwrap();
    assert!(writes(&site).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_of_another_password_or_kind_is_refused() {
    let (_source, accounts, _) = frozen_source(true).await;
    let site = site().await;
    site.mariadb.execute(COPY).await.unwrap();
    imported(&site, &shop(3)).await;
    let unknown = open(&site.server, &shop(4), &accounts).await.unwrap_err();
    assert_eq!(unknown.code(), Code::AccountUnsupported, "{unknown}");
    close(&site.server, &shop(5), None).await.unwrap();
    site.mariadb
        .execute("INSTALL SONAME 'auth_ed25519'; CREATE USER shop@'%' IDENTIFIED BY 'other'")
        .await
        .unwrap();
    imported(&site, &shop(6)).await;
    let taken = open(&site.server, &shop(6), &accounts).await.unwrap_err();
    assert_eq!(taken.code(), Code::AccountTaken);
    assert!(taken.to_string().contains("`shop`@`%`"), "{taken}");
    close(&site.server, &shop(7), None).await.unwrap();
    // The other's account stays as it is.
    site.mariadb.connect("shop", "other").await.unwrap();
    site.mariadb
        .execute("DROP USER shop@'%'; GRANT SELECT ON `my%`.* TO shop_x@'%' IDENTIFIED BY 'x'")
        .await
        .unwrap();
    imported(&site, &shop(8)).await;
    let early = open(&site.server, &shop(8), &accounts).await.unwrap_err();
    assert_eq!(early.code(), Code::ReachableEarly, "{early}");
}

#[tokio::test(flavor = "multi_thread")]
async fn databases_of_one_account_open_and_close_side_by_side() {
    let source = site().await;
    let mut setup = "CREATE USER many@'%' IDENTIFIED BY 'pw'; ".to_owned();
    let databases: Vec<String> = (0..6).map(|i| format!("many{i}")).collect();
    for db in &databases {
        setup += &format!(
            "CREATE DATABASE {db}; CREATE TABLE {db}.t (a INT); GRANT ALL ON {db}.* TO many@'%'; "
        );
    }
    source.mariadb.execute(&setup).await.unwrap();
    let target = site().await;
    let mut found = Vec::new();
    for db in &databases {
        let of = |revision| order_in("night-1", db, revision);
        freeze(&source.server, &of(1), GRACE).await.unwrap();
        found.push(accounts(&source.server, &of(2)).await.unwrap());
        target
            .mariadb
            .execute(&format!("CREATE DATABASE {db}; CREATE TABLE {db}.t (a INT)"))
            .await
            .unwrap();
    }
    for round in 1..=3_u64 {
        for db in &databases {
            imported(&target, &order_in("night-1", db, round * 10)).await;
        }
        let opened = databases.iter().zip(&found).map(|(db, accounts)| async {
            open(&target.server, &order_in("night-1", db, round * 10), accounts).await.map(drop)
        });
        futures::future::try_join_all(opened).await.unwrap();
        let mut many = target.mariadb.connect("many", "pw").await.unwrap();
        for db in &databases {
            many.query_drop(format!("INSERT INTO {db}.t VALUES (1)")).await.unwrap();
        }
        // All but one close: the account stays for it.
        let closed = databases[1..].iter().map(|db| async {
            close(&target.server, &order_in("night-1", db, round * 10 + 1), None).await.map(drop)
        });
        futures::future::try_join_all(closed).await.unwrap();
        let mut many = target.mariadb.connect("many", "pw").await.unwrap();
        many.query_drop("INSERT INTO many0.t VALUES (1)").await.unwrap();
        assert_eq!(refusal(many.query_drop("INSERT INTO many1.t VALUES (1)").await), 1142);
        drop(many);
        close(&target.server, &order_in("night-1", "many0", round * 10 + 1), None).await.unwrap();
        assert!(target.mariadb.connect("many", "pw").await.is_err(), "nobody needs it any more");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_opening_may_end_anywhere() {
    ends_anywhere(true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closing_may_end_anywhere() {
    ends_anywhere(false).await;
}

/// Ends an opening or a closing at each of its commands; then again or not; then closed.
async fn ends_anywhere(opening: bool) {
    let (_source, accounts, _) = frozen_source(false).await;
    let site = site().await;
    let mut root = site.mariadb.root().await.unwrap();
    root.query_drop(COPY).await.unwrap();
    let empty = snapshot(&mut root, "shop%").await;
    let upstream = SocketAddr::new(site.mariadb.address(), site.mariadb.port());
    let mut revision = 1;
    // A command that got lost leaves what the one before it left when its answer got lost: the
    // undo without another attempt is shown from the latter only.
    for (again, cuts) in [(true, &[Cut::Before, Cut::After][..]), (false, &[Cut::After])] {
        for &cut in cuts {
            for commands in 0..200 {
                let context = format!("opening {opening} again {again} {cut:?} {commands}");
                let proxy = Proxy::start(upstream, commands, cut).await;
                let host = proxy.address.ip().to_string();
                let way = server_at(&site.mariadb, &host, proxy.address.port());
                revision += 1;
                imported(&site, &shop(revision)).await;
                let done = if opening {
                    open(&way, &shop(revision), &accounts).await.is_ok()
                } else {
                    open(&site.server, &shop(revision), &accounts).await.expect(&context);
                    revision += 1;
                    close(&way, &shop(revision), None).await.is_ok()
                };
                if again && opening {
                    open(&site.server, &shop(revision), &accounts).await.expect(&context);
                    assert!(writes(&site).await, "{context}");
                } else if again {
                    close(&site.server, &shop(revision), None).await.expect(&context);
                }
                revision += 1;
                close(&site.server, &shop(revision), None).await.expect(&context);
                assert!(!writes(&site).await, "{context}");
                assert_eq!(enabled(&mut root).await, "DISABLED", "{context}");
                assert_eq!(snapshot(&mut root, "shop%").await, empty, "{context}");
                let stale = open(&site.server, &shop(revision - 1), &accounts).await.unwrap_err();
                assert_eq!(stale.code(), Code::LedgerOutdated, "{context}");
                if done {
                    assert!(commands > 8, "{context}: the proxy cut nothing");
                    break;
                }
                assert!(commands < 199, "{context}");
            }
        }
    }
}

/// Ends a close that is refused at every other of its commands: whoever comes next lets the customer in
/// again, just as they were.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_close_may_end_anywhere() {
    let (_source, accounts, _) = frozen_source(false).await;
    let site = site().await;
    let mut root = site.mariadb.root().await.unwrap();
    root.query_drop(COPY).await.unwrap();
    let opened_with = describe(&site.server, "my_shop").await.unwrap();
    imported(&site, &shop(1)).await;
    let opened = open(&site.server, &shop(2), &accounts).await.unwrap();
    // Since then the customer has written, and has granted otherwise than at the source.
    let changes = "INSERT INTO my_shop.t VALUES (1, 1); REVOKE DELETE ON `my\\_shop`.* FROM shop_role; \
        GRANT UPDATE (b) ON my_shop.t TO 'shop reader'@'127.%'";
    root.query_drop(changes).await.unwrap();
    let there = snapshot(&mut root, "shop%").await;
    let upstream = SocketAddr::new(site.mariadb.address(), site.mariadb.port());
    let mut revision = 3;
    for again in [false, true] {
        for commands in (0..200).step_by(2) {
            let context = format!("again {again} {commands}");
            let proxy = Proxy::start(upstream, commands, Cut::After).await;
            let host = proxy.address.ip().to_string();
            let way = server_at(&site.mariadb, &host, proxy.address.port());
            let refused = close(&way, &shop(revision), Some(&opened_with)).await.unwrap_err();
            let whole = refused.code() == Code::DestinationWritten && is_open(&mut root).await;
            revision += 1;
            if again {
                let refused = close(&site.server, &shop(revision), Some(&opened_with)).await;
                assert_eq!(refused.unwrap_err().code(), Code::DestinationWritten, "{context}");
                assert!(writes(&site).await, "{context}");
                revision += 1;
            }
            let back = reopen(&site.server, &shop(revision)).await.expect(&context);
            assert_eq!(back, opened, "{context}");
            assert!(is_open(&mut root).await, "{context}");
            assert!(writes(&site).await, "{context}");
            assert_eq!(enabled(&mut root).await, "ENABLED", "{context}");
            assert_eq!(snapshot(&mut root, "shop%").await, there, "{context}");
            if whole {
                assert!(commands > 8, "{context}: the proxy cut nothing");
                break;
            }
            assert!(commands < 198, "{context}");
        }
    }
    // Where nothing was written since, it is closed.
    root.query_drop("DELETE FROM my_shop.t").await.unwrap();
    close(&site.server, &shop(revision + 1), Some(&opened_with)).await.unwrap();
    assert!(!writes(&site).await);
    let late = reopen(&site.server, &shop(revision + 2)).await.unwrap_err();
    assert_eq!(late.code(), Code::LedgerOutdated, "what is closed stays closed");
}

async fn is_open(root: &mut Conn) -> bool {
    let sql = "SELECT state FROM drover.ledger WHERE side = 'destination'";
    root.query_first::<String, _>(sql).await.unwrap().unwrap() == "open"
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_be_done_beside_what_was_carried_is_refused_and_taken_away() {
    let (_source, accounts, _) = frozen_source(false).await;
    let site = site().await;
    site.mariadb.execute(COPY).await.unwrap();
    imported(&site, &shop(3)).await;
    // An opening that had begun when somebody was given a right there.
    let mut locked = Locked::take(&site.server, &shop(4), Side::Destination).await.unwrap();
    locked.write(State::Opening, &()).await.unwrap();
    locked.release().await.unwrap();
    let sql = "CREATE USER thief@'%'; GRANT DELETE ON `my\\_shop`.* TO thief@'%'; \
               GRANT UPDATE (b) ON my_shop.t TO thief@'%'";
    site.mariadb.execute(sql).await.unwrap();
    for _ in 0..2 {
        let refused = open(&site.server, &shop(4), &accounts).await.unwrap_err();
        assert_eq!(refused.code(), Code::GrantsDiffer);
        let text = refused.to_string();
        for part in ["`thief`@`%` also has DELETE ON `my\\_shop`.*", "UPDATE (`B`) ON TABLE"] {
            assert!(text.contains(part), "{text}");
        }
        assert!(!text.contains("lacks"), "{text}");
    }
    close(&site.server, &shop(5), None).await.unwrap();
    let mut root = site.mariadb.root().await.unwrap();
    let left: Vec<(String, String)> =
        root.query("SELECT User, Db FROM mysql.db WHERE Db LIKE 'my%shop'").await.unwrap();
    assert_eq!(left, []);
    let left: Vec<String> =
        root.query("SELECT User FROM mysql.global_priv WHERE User LIKE 'shop%'").await.unwrap();
    assert_eq!(left, [""; 0]);
}
