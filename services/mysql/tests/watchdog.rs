//! The watchdog on a real server, with nothing of Drover running: the source thaws itself at its
//! deadline, exactly; and whoever comes second, the watchdog or Drover, is refused.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed test may panic anywhere")]

mod common;

use std::time::Duration;

use common::{GRACE, Site, order, shared, site, snapshot, unique};
use drover_lifecycle::ledger::{Side, State};
use drover_mysql::{Order, disarm, freeze, ledger, retire, thaw};
use drover_schemas::Code;
use drover_testbed::bed::eventually;
use mysql_async::prelude::Queryable as _;

const PATIENCE: Duration = Duration::from_secs(60);

/// The order, with this time until the source thaws itself.
fn within(database: &str, revision: u64, max_frozen_ms: u32) -> Order {
    Order { max_frozen_ms, ..order(database, revision) }
}

async fn database(site: &Site) -> (String, String) {
    let tag = format!("dog{}", unique());
    let db = format!("{tag} d'o`g");
    let name = drover_mysql::ident::ident(&db);
    let sql = format!(
        "CREATE DATABASE {name}; CREATE TABLE {name}.t (a INT, b INT); \
         CREATE USER {tag}_a@'%' IDENTIFIED BY 'pw'; CREATE USER {tag}_b@'%' IDENTIFIED BY 'pw'; \
         GRANT ALL PRIVILEGES ON {name}.* TO {tag}_a@'%'; \
         GRANT SELECT, INSERT ON `{tag}%`.* TO {tag}_b@'%' WITH GRANT OPTION; \
         GRANT UPDATE (b) ON {name}.t TO {tag}_b@'%'; \
         SET NAMES latin1; \
         CREATE DEFINER={tag}_a@'%' EVENT {name}.`e'v` ON SCHEDULE EVERY 1 DAY DO DO 1; \
         ALTER DATABASE {name} COLLATE latin2_czech_cs"
    );
    site.mariadb.execute(&sql).await.unwrap();
    (tag, db)
}

async fn state(site: &Site, order: &Order) -> Option<State> {
    let mut session = site.server.session().await.unwrap();
    let entry = ledger::read(&mut session, order.migration, Side::Source).await.unwrap();
    session.end().await.unwrap();
    entry.map(|entry| entry.state)
}

async fn until(site: &Site, order: &Order, wanted: State) {
    let reached = eventually(PATIENCE, || async { Ok(state(site, order).await == Some(wanted)) });
    assert!(reached.await.is_ok(), "{wanted:?} is not reached: {:?}", state(site, order).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_is_left_alone_thaws_itself_with_exactly_its_privileges() {
    let site = shared().await;
    let (tag, db) = database(site).await;
    let mut root = site.mariadb.root().await.unwrap();
    let before = snapshot(&mut root, &format!("{tag}%")).await;
    let frozen = freeze(&site.server, &within(&db, 1, 1500), GRACE).await.unwrap();
    assert!(frozen.watchdog_armed);
    assert_eq!(frozen.thaw_at_unix_ms, frozen.frozen_at_unix_ms + 1500);
    assert_ne!(snapshot(&mut root, &format!("{tag}%")).await, before);
    // It comes while the database is frozen, and would not write until it selects again.
    let mut idle = site.mariadb.connect(&format!("{tag}_a"), "pw").await.unwrap();
    idle.query_drop(format!("USE {}", drover_mysql::ident::ident(&db))).await.unwrap();

    // From here on nothing of Drover does anything.
    let order = within(&db, 2, 1500);
    until(site, &order, State::Lapsed).await;
    assert_eq!(snapshot(&mut root, &format!("{tag}%")).await, before);
    let ended = eventually(PATIENCE, || async {
        let sql =
            format!("SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE ID = {}", idle.id());
        let mut root = site.mariadb.root().await?;
        let there: Option<u32> = root.query_first(sql).await?;
        Ok(there == Some(0))
    });
    assert!(ended.await.is_ok(), "an idle session is ended, as a thaw does");

    // What still belongs to that run is refused, and a thaw tells what was done.
    for refused in [
        disarm(&site.server, &order).await.map(drop).unwrap_err(),
        retire(&site.server, &order).await.map(drop).unwrap_err(),
        freeze(&site.server, &order, GRACE).await.map(drop).unwrap_err(),
    ] {
        assert_eq!(refused.code(), Code::WatchdogFired, "{refused}");
    }
    let thawed = thaw(&site.server, &within(&db, 3, 1500)).await.unwrap();
    assert!(thawed.thawed_at_unix_ms >= frozen.thaw_at_unix_ms, "{thawed:?}");
    assert_eq!(thawed.accounts, 2);
    assert_eq!(snapshot(&mut root, &format!("{tag}%")).await, before);
    let next = Order { run: 2, ..within(&db, 4, 300_000) };
    freeze(&site.server, &next, GRACE).await.unwrap();
    thaw(&site.server, &Order { revision: 5, ..next }).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_disarmed_stays_frozen_and_what_was_thawed_is_left_alone() {
    let site = shared().await;
    let (tag, db) = database(site).await;
    let (other_tag, other) = database(site).await;
    let mut root = site.mariadb.root().await.unwrap();
    let before = snapshot(&mut root, &format!("{other_tag}%")).await;
    for db in [&db, &other] {
        freeze(&site.server, &within(db, 1, 60_000), GRACE).await.unwrap();
    }
    disarm(&site.server, &within(&db, 2, 60_000)).await.unwrap();
    let frozen = snapshot(&mut root, &format!("{tag}%")).await;
    thaw(&site.server, &within(&other, 2, 60_000)).await.unwrap();
    let rows: Vec<String> = root.query("SELECT migration FROM drover.watchdog").await.unwrap();
    for db in [&db, &other] {
        assert!(!rows.contains(&order(db, 1).migration.to_string()));
    }
    // A third one lapses: the watchdog has been round since.
    let (_, third) = database(site).await;
    freeze(&site.server, &within(&third, 1, 1), GRACE).await.unwrap();
    until(site, &within(&third, 1, 1), State::Lapsed).await;
    assert_eq!(snapshot(&mut root, &format!("{tag}%")).await, frozen);
    assert_eq!(state(site, &order(&db, 2)).await, Some(State::Disarmed));
    assert_eq!(snapshot(&mut root, &format!("{other_tag}%")).await, before);
    assert_eq!(state(site, &order(&other, 2)).await, Some(State::Thawed));
}

/// The watchdog against a disarming, or a thaw, at the same time: the one that comes second finds
/// what the first has done, and the privileges are all there or all away.
#[tokio::test(flavor = "multi_thread")]
async fn of_the_watchdog_and_drover_one_comes_first() {
    let site = shared().await;
    let mut root = site.mariadb.root().await.unwrap();
    for round in 0..6_u64 {
        let (tag, db) = database(site).await;
        let before = snapshot(&mut root, &format!("{tag}%")).await;
        freeze(&site.server, &within(&db, 1, 700), GRACE).await.unwrap();
        let frozen = snapshot(&mut root, &format!("{tag}%")).await;
        tokio::time::sleep(Duration::from_millis(150 * round)).await;
        if round % 2 == 0 {
            match disarm(&site.server, &within(&db, 2, 700)).await {
                Ok(_) => {
                    assert_eq!(state(site, &order(&db, 2)).await, Some(State::Disarmed));
                    assert_eq!(snapshot(&mut root, &format!("{tag}%")).await, frozen);
                }
                Err(error) => {
                    let codes = [Code::WatchdogFired, Code::FrozenTooLong, Code::LedgerBusy];
                    assert!(codes.contains(&error.code()), "{error}");
                    until(site, &order(&db, 2), State::Lapsed).await;
                    assert_eq!(snapshot(&mut root, &format!("{tag}%")).await, before);
                }
            }
        } else {
            thaw(&site.server, &within(&db, 2, 700)).await.unwrap();
            assert_eq!(state(site, &order(&db, 2)).await, Some(State::Thawed));
            assert_eq!(snapshot(&mut root, &format!("{tag}%")).await, before);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_freeze_thaws_itself_and_one_that_goes_on_too_late_is_refused() {
    let site = shared().await;
    let (tag, db) = database(site).await;
    let mut root = site.mariadb.root().await.unwrap();
    let before = snapshot(&mut root, &format!("{tag}%")).await;
    freeze(&site.server, &within(&db, 1, 1000), GRACE).await.unwrap();
    // As an instance leaves it that died in the middle.
    let mut locked =
        ledger::Locked::take(&site.server, &within(&db, 1, 1000), Side::Source).await.unwrap();
    locked.touch(State::Freezing).await.unwrap();
    // It still holds the locks: the watchdog waits for it.
    let (_, elsewhere) = database(site).await;
    freeze(&site.server, &within(&elsewhere, 1, 1000), GRACE).await.unwrap();
    until(site, &order(&elsewhere, 1), State::Lapsed).await;
    assert_eq!(state(site, &order(&db, 1)).await, Some(State::Freezing));
    drop(locked);
    until(site, &order(&db, 1), State::Lapsed).await;
    assert_eq!(snapshot(&mut root, &format!("{tag}%")).await, before);
    let late = freeze(&site.server, &within(&db, 1, 1000), GRACE).await.unwrap_err();
    assert_eq!(late.code(), Code::WatchdogFired);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_event_scheduler_the_freeze_says_so_and_is_still_not_disarmed_too_late() {
    let site = site().await;
    site.mariadb.execute("SET GLOBAL event_scheduler = OFF").await.unwrap();
    assert!(!drover_mysql::watchdog::runs(&site.server).await.unwrap());
    let (_, db) = database(&site).await;
    let frozen = freeze(&site.server, &within(&db, 1, 1), GRACE).await.unwrap();
    assert!(!frozen.watchdog_armed);
    let late = disarm(&site.server, &within(&db, 2, 1)).await.unwrap_err();
    assert_eq!(late.code(), Code::FrozenTooLong);
    thaw(&site.server, &within(&db, 3, 1)).await.unwrap();
}
