//! A rehearsal's dump, of a source that goes on being written to.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test's helpers fail as the test itself does"
)]

mod pair;

use drover_mysql::{
    Form, Order, accounts, close, disarm, drop_copy, dump, freeze, import, open, retire, thaw,
    verify,
};
use drover_schemas::Code;
use drover_testbed::seed::{Shape, Site, sow};
use mysql_async::prelude::Queryable as _;
use pair::{failure, order, pair, unique};
use tokio::io::AsyncReadExt as _;

fn rehearsal(database: &str, revision: u64) -> Order {
    Order { rehearsal: true, ..order(database, revision) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_source_is_dumped_as_it_was_at_one_moment_and_holds_nobody_up() {
    let pair = pair().await;
    let site = Site::new(&unique("busy"), Shape::Large { bytes: 48 << 20 }, 3);
    let database = site.database.clone();
    sow(&pair.source.mariadb, &[site]).await.unwrap();
    // Read before the large table, and after it.
    for table in ["a_first", "z_last"] {
        let sql = format!(
            "CREATE TABLE `{database}`.{table} (a INT PRIMARY KEY); \
             INSERT INTO `{database}`.{table} VALUES (1)"
        );
        pair.source.mariadb.execute(&sql).await.unwrap();
    }
    // By its statistics it is large: its tables are let go one by one.
    let tables = (1..=3).map(|n| format!("`{database}`.large_{n}")).collect::<Vec<_>>().join(", ");
    pair.source.mariadb.execute(&format!("ANALYZE TABLE {tables}")).await.unwrap();
    // A store that takes what it is read: the dump stands still in the middle.
    let (mut to, mut from) = tokio::io::duplex(64 << 10);
    let (server, asked) = (pair.source.server.clone(), rehearsal(&database, 2));
    let dumping =
        tokio::spawn(async move { dump(&server, &asked, &[], Form::Zstd, &mut to).await });
    let mut stored = vec![0; 1 << 20];
    from.read_exact(&mut stored).await.unwrap();
    let mut customer = pair.source.mariadb.root().await.unwrap();
    for sql in [
        "SET lock_wait_timeout = 10, innodb_lock_wait_timeout = 10".to_owned(),
        // What was read is let go; what comes is written to.
        format!("ALTER TABLE `{database}`.a_first ADD COLUMN b INT"),
        format!("INSERT INTO `{database}`.a_first VALUES (2, 2)"),
        format!("INSERT INTO `{database}`.z_last VALUES (2)"),
    ] {
        let done = customer.query_drop(&sql).await;
        done.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }
    customer.disconnect().await.unwrap();
    from.read_to_end(&mut stored).await.unwrap();
    let contents = dumping.await.unwrap().unwrap();

    let destination = &pair.destination;
    import(&destination.server, &rehearsal(&database, 3), &contents, None, &*stored).await.unwrap();
    verify(&destination.server, &rehearsal(&database, 4), &contents).await.unwrap();
    for table in ["a_first", "z_last"] {
        let sql = format!("SELECT COUNT(*) FROM `{database}`.{table}");
        assert_eq!(destination.value::<u32>(&sql).await, 1, "{table} at the destination");
        assert_eq!(pair.source.value::<u32>(&sql).await, 2, "{table} at the source");
    }
    drop_copy(&destination.server, &rehearsal(&database, 5)).await.unwrap();
    assert!(!destination.has(&database).await);
    assert!(pair.source.has(&database).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn both_servers_refuse_what_a_rehearsal_does_not_do() {
    let pair = pair().await;
    let site = Site::new(&unique("refused"), Shape::Shop, 3);
    let database = site.database.clone();
    sow(&pair.source.mariadb, &[site]).await.unwrap();
    let (source, destination) = (&pair.source.server, &pair.destination.server);
    let (order, grace) = (rehearsal(&database, 2), std::time::Duration::ZERO);
    // No password hash leaves the server.
    let found = accounts(source, &order).await.unwrap();
    assert!(!found.accounts.is_empty() && !found.grants.is_empty());
    assert!(found.accounts.iter().all(|it| it.login.is_empty() && it.definition.is_empty()));
    for refused in [
        failure(freeze(source, &order, grace).await),
        failure(disarm(source, &order).await),
        failure(retire(source, &order).await),
        failure(thaw(source, &order).await),
        failure(open(destination, &order, &found).await),
        failure(close(destination, &order, None).await),
    ] {
        assert_eq!(refused.code, Code::RehearsalOnly, "{refused:?}");
    }
}
