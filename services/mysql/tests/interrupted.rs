//! Every step ended at each of its statements, before the server gets it and after it was done;
//! then run again, and undone from there.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod common;

use std::net::SocketAddr;

use common::{
    GRACE, Site, order,
    proxy::{Cut, Proxy},
    refusal, server_at, shared, snapshot, unique,
};
use drover_mysql::{Error, Order, Server, disarm, freeze, retire, thaw};
use mysql_async::prelude::Queryable as _;

/// More commands than any step has.
const COMMANDS_MAX: i64 = 200;

async fn way(site: &Site, commands: i64, cut: Cut) -> Server {
    let upstream = SocketAddr::new(site.mariadb.address(), site.mariadb.port());
    let proxy = Proxy::start(upstream, commands, cut).await;
    server_at(&site.mariadb, &proxy.address.ip().to_string(), proxy.address.port())
}

async fn database(site: &Site) -> (String, String) {
    let tag = format!("cut{}", unique());
    let db = format!("{tag}_db");
    let sql = format!(
        "CREATE DATABASE {db}; CREATE TABLE {db}.t (a INT, b INT); \
         CREATE USER {tag}_a@'%' IDENTIFIED BY 'pw'; CREATE USER {tag}_b@'%' IDENTIFIED BY 'pw'; \
         GRANT ALL PRIVILEGES ON {db}.* TO {tag}_a@'%'; \
         GRANT SELECT, INSERT ON `{tag}\\_db`.* TO {tag}_b@'%' WITH GRANT OPTION; \
         GRANT UPDATE (b) ON {db}.t TO {tag}_b@'%'; \
         CREATE DEFINER={tag}_a@'%' EVENT {db}.e ON SCHEDULE EVERY 1 DAY DO DO 1"
    );
    site.mariadb.execute(&sql).await.unwrap();
    (tag, db)
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Freeze,
    Thaw,
    Disarm,
    Retire,
}

impl Step {
    /// More cuts than these are made before a step gets through. A disarming has the fewest packets.
    fn cuts_min(self) -> i64 {
        match self {
            Self::Disarm => 4,
            Self::Freeze | Self::Thaw | Self::Retire => 5,
        }
    }

    async fn run(self, server: &Server, order: &Order) -> Result<(), Error> {
        match self {
            Self::Freeze => freeze(server, order, GRACE).await.map(drop),
            Self::Thaw => thaw(server, order).await.map(drop),
            Self::Disarm => disarm(server, order).await.map(drop),
            Self::Retire => retire(server, order).await.map(drop),
        }
    }
}

/// Ends `step` at each command, with `before` done before it; then again or not; then undone.
async fn at_each_command(step: Step, before: &[Step]) {
    let site = shared().await;
    let (tag, db) = database(site).await;
    let mut root = site.mariadb.root().await.unwrap();
    let all = snapshot(&mut root, &format!("{tag}%")).await;
    let mut revision = 0;
    for cut in [Cut::Before, Cut::After] {
        for again in [true, false] {
            for commands in 0.. {
                assert!(commands < COMMANDS_MAX);
                for earlier in before {
                    revision += 1;
                    earlier.run(&site.server, &order(&db, revision)).await.unwrap();
                }
                revision += 1;
                let done = step.run(&way(site, commands, cut).await, &order(&db, revision)).await;
                let context = format!("{step:?} {cut:?} {commands}");
                if again {
                    step.run(&site.server, &order(&db, revision)).await.expect(&context);
                    let mut owner = site.mariadb.connect(&format!("{tag}_a"), "pw").await.unwrap();
                    let insert = format!("INSERT INTO {db}.t VALUES (1, 1)");
                    let writes = refusal(owner.query_drop(insert).await) == 0;
                    assert_eq!(writes, matches!(step, Step::Thaw), "{context}");
                }
                revision += 1;
                thaw(&site.server, &order(&db, revision)).await.expect(&context);
                assert_eq!(snapshot(&mut root, &format!("{tag}%")).await, all, "{context}");
                let stale = freeze(&site.server, &order(&db, revision - 1), GRACE).await;
                assert!(matches!(stale, Err(Error::LedgerOutdated { .. })), "{context}");
                if done.is_ok() {
                    assert!(commands > step.cuts_min(), "{context}: the proxy cut nothing");
                    break;
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_freeze_may_end_anywhere() {
    at_each_command(Step::Freeze, &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thaw_may_end_anywhere() {
    at_each_command(Step::Thaw, &[Step::Freeze]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retirement_may_end_anywhere() {
    at_each_command(Step::Retire, &[Step::Freeze, Step::Disarm]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disarming_may_end_anywhere() {
    at_each_command(Step::Disarm, &[Step::Freeze]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_at_the_same_time_are_one_after_the_other() {
    let site = shared().await;
    let (tag, db) = database(site).await;
    let mut root = site.mariadb.root().await.unwrap();
    let before = snapshot(&mut root, &format!("{tag}%")).await;
    let (first, second) = (order(&db, 1), order(&db, 1));
    let (a, b) =
        tokio::join!(freeze(&site.server, &first, GRACE), freeze(&site.server, &second, GRACE));
    assert_eq!(a.unwrap(), b.unwrap());
    // A stale freeze against an undo: whichever comes first, the end is thawed.
    let (late, undo) = (order(&db, 1), order(&db, 2));
    let (_, thawed) = tokio::join!(freeze(&site.server, &late, GRACE), thaw(&site.server, &undo));
    thawed.unwrap();
    assert_eq!(snapshot(&mut root, &format!("{tag}%")).await, before);
}
