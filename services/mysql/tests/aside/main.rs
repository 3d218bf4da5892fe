//! A retired database set aside for what is brought back, and put back as it was: whatever a database
//! may be, whoever dies at it, and nobody else's.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test's helpers fail as the test itself does"
)]

mod accounts;
#[path = "../common/mod.rs"]
mod common;
#[path = "../pair/mod.rs"]
mod pair;

use std::{net::SocketAddr, time::Duration};

use common::proxy::{Cut, Proxy};
use drover_mysql::{
    Description, Error, Order, Server, aside, describe, disarm, discover, drop_copy, freeze,
    ident::{ident, literal},
    import,
    ledger::{Side, State},
    retire, thaw,
};
use drover_schemas::{CampaignName, Code, MigrationId};
use mysql_async::prelude::Queryable as _;
use pair::{Dumped, End, Pair, failure, order, pair, unique};

const EVERYTHING: &str = include_str!("../corpus/everything.sql");
const BROKEN: &str = include_str!("../corpus/broken.sql");

/// What else must come back: more of what is dropped, names of every kind.
const MORE: &str = "
    CREATE TABLE `pa``rent` (id INT PRIMARY KEY AUTO_INCREMENT, v INT) AUTO_INCREMENT = 9;
    CREATE TABLE `ch'ild \\ ü` (id INT, p INT, KEY (p),
        CONSTRAINT `k\"ey` FOREIGN KEY (p) REFERENCES `pa``rent` (id) ON DELETE CASCADE);
    CREATE TABLE round (id INT PRIMARY KEY, o INT, FOREIGN KEY (o) REFERENCES round (id));
    CREATE SEQUENCE `s;eq` START WITH 5;
    CREATE TABLE numbered (id INT DEFAULT NEXTVAL(`s;eq`), v INT);
    INSERT INTO `pa``rent` (v) VALUES (1), (2); INSERT INTO `ch'ild \\ ü` VALUES (1, 9);
    INSERT INTO numbered (v) VALUES (1), (2);
    CREATE FUNCTION `f\"n`() RETURNS INT DETERMINISTIC RETURN 3;
    CREATE VIEW `v``iew` AS SELECT v + 3 AS three, v FROM numbered;
    CREATE VIEW a_first AS SELECT three FROM `v``iew`;
    CREATE PROCEDURE p() SELECT ';;';
    CREATE TRIGGER first BEFORE INSERT ON numbered FOR EACH ROW SET NEW.v = NEW.v + 1;
    CREATE TRIGGER `sec;ond` BEFORE INSERT ON numbered FOR EACH ROW PRECEDES first SET NEW.v = 0;
    CREATE EVENT daily ON SCHEDULE EVERY 1 DAY STARTS '2002-02-02' DO DELETE FROM numbered";

/// The order of the migration that brings a database back to the source.
fn back(database: &str, revision: u64) -> Order {
    let campaign: CampaignName = "night-1-back".parse().unwrap();
    let migration = MigrationId::new(&campaign, &"destination".parse().unwrap(), database);
    let brings_back = Some(order(database, 1).migration);
    Order { campaign, migration, brings_back, ..order(database, revision) }
}

/// Frozen, dumped and retired at the source.
async fn retired(pair: &Pair, database: &str) -> Dumped {
    let server = &pair.source.server;
    freeze(server, &order(database, 1), Duration::ZERO).await.unwrap();
    let dumped = pair.dump(database, &[]).await;
    disarm(server, &order(database, 3)).await.unwrap();
    retire(server, &order(database, 4)).await.unwrap();
    dumped
}

/// Loads the dump at the source under its own name, for the migration that brings it back.
async fn bring(server: &Server, dumped: &Dumped, revision: u64) -> Result<(), Error> {
    let order = back(&dumped.database, revision);
    import(server, &order, &dumped.contents, None, &*dumped.stored).await.map(drop)
}

async fn give_up(server: &Server, database: &str, revision: u64) -> Result<(), Error> {
    drop_copy(server, &back(database, revision)).await.map(drop)
}

/// All that can be told of a database at the source.
async fn told(end: &End, database: &str) -> (Description, Vec<String>) {
    let mut root = end.mariadb.root().await.unwrap();
    let name = literal(database);
    let mut more = Vec::new();
    for sql in [
        format!(
            "SELECT CONCAT_WS('|', User, Host, Routine_name, Routine_type, Proc_priv) FROM mysql.procs_priv WHERE Db = {name} ORDER BY 1"
        ),
        format!(
            "SELECT CONCAT_WS('|', User, Host, Table_name, Table_priv, Column_priv) FROM mysql.tables_priv WHERE Db = {name} ORDER BY 1"
        ),
        format!(
            "SELECT CONCAT_WS('|', name, created, status, originator, starts, execute_at) FROM mysql.event WHERE db = {name} ORDER BY 1"
        ),
        format!(
            "SELECT CONCAT_WS('|', TRIGGER_NAME, EVENT_OBJECT_TABLE, ACTION_ORDER) FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = {name} ORDER BY 1"
        ),
        format!(
            "SELECT CONCAT_WS('|', CONSTRAINT_NAME, TABLE_NAME, UNIQUE_CONSTRAINT_SCHEMA, REFERENCED_TABLE_NAME) FROM information_schema.REFERENTIAL_CONSTRAINTS WHERE CONSTRAINT_SCHEMA = {name} ORDER BY 1"
        ),
    ] {
        more.extend(root.query::<String, _>(sql).await.unwrap());
    }
    root.disconnect().await.unwrap();
    (describe(&end.server, database).await.unwrap(), more)
}

async fn state(end: &End, migration: MigrationId, side: Side) -> Option<State> {
    let mut session = end.server.session().await.unwrap();
    let entry = drover_mysql::ledger::read(&mut session, migration, side).await.unwrap();
    entry.map(|entry| entry.state)
}

async fn sow(end: &End, database: &str, statements: &[&str]) {
    let mut root = end.mariadb.root().await.unwrap();
    let name = ident(database);
    let begin = format!(
        "SET NAMES utf8mb4; CREATE DATABASE {name} CHARACTER SET latin2 COLLATE latin2_czech_cs \
         COMMENT 'o''hara ü'; USE {name}"
    );
    root.query_drop(begin).await.unwrap();
    for statement in statements {
        let done = root.query_drop(*statement).await;
        assert!(done.is_ok(), "{statement}: {done:?}");
    }
    root.disconnect().await.unwrap();
}

/// Sets a database aside and puts it back; at last its own migration thaws it.
async fn there_and_back(pair: &Pair, database: &str) {
    let (end, server) = (&pair.source, &pair.source.server);
    let dumped = retired(pair, database).await;
    // Its time comes while the database is retired: no server makes such an event any more.
    let expired = format!(
        "USE {}; SET timestamp = 1000000000; \
         CREATE EVENT expired ON SCHEDULE AT '2002-02-02 02:02:02' DISABLE DO DO 1",
        ident(database)
    );
    end.mariadb.execute(&expired).await.unwrap();
    let (owner, name) =
        (order(database, 1).migration, aside::aside_name(order(database, 1).migration));
    let before = told(end, database).await;
    aside::check(server, owner, database).await.unwrap();

    for revision in [10, 10, 11] {
        bring(server, &dumped, revision).await.unwrap();
    }
    assert_eq!(state(end, owner, Side::Source).await, Some(State::Aside));
    let discovered = discover(server).await.unwrap().databases;
    assert!(discovered.iter().any(|found| found.name == database));
    assert!(discovered.iter().all(|found| found.name != name), "it is no customer's");
    let kept = describe(server, &name).await.unwrap();
    let rows = |of: &Description| -> Vec<_> {
        let of = of.tables.iter();
        of.map(|(name, table)| (name.clone(), table.rows, table.digest.clone())).collect()
    };
    assert_eq!(rows(&kept), rows(&before.0), "the rows are kept");
    let copy = describe(server, database).await.unwrap();
    assert_eq!(dumped.contents.description.differences(&copy), [""; 0]);
    // Nothing of its own migration is done any more.
    for outdated in [
        failure(thaw(server, &order(database, 12)).await.map(drop)),
        failure(retire(server, &order(database, 12)).await.map(drop)),
        failure(freeze(server, &order(database, 12), Duration::ZERO).await.map(drop)),
    ] {
        assert_eq!(outdated.code, Code::LedgerOutdated, "{outdated}");
    }
    assert_eq!(failure(aside::check(server, owner, database).await).code, Code::NotRetired);

    for revision in [13, 13, 14] {
        give_up(server, database, revision).await.unwrap();
    }
    assert_eq!(told(end, database).await, before);
    assert!(!end.has(&name).await, "nothing is left");
    assert_eq!(state(end, owner, Side::Source).await, Some(State::Retired));
    assert_eq!(failure(bring(server, &dumped, 12).await).code, Code::LedgerOutdated);
    thaw(server, &order(database, 20)).await.unwrap();
    assert_eq!(state(end, owner, Side::Source).await, Some(State::Thawed));
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_put_back_as_it_was() {
    let pair = pair().await;
    let other = "CREATE DATABASE corpus_other; CREATE TABLE corpus_other.there (id INT PRIMARY KEY); \
                 INSERT INTO corpus_other.there VALUES (1)";
    pair.source.mariadb.execute(other).await.unwrap();
    let mut all: Vec<&str> = EVERYTHING.trim().split("\n\n").collect();
    all.extend(["SET NAMES utf8mb4, sql_mode = DEFAULT, time_zone = DEFAULT", MORE]);
    sow(&pair.source, "corpus", &all).await;
    let before = pair.source.stock_dump("corpus");
    there_and_back(pair, "corpus").await;
    pair.source.mariadb.execute("DROP EVENT corpus.expired").await.unwrap();
    let after = pair.source.stock_dump("corpus");
    let differ = before.lines().zip(after.lines()).find(|(a, b)| a != b);
    assert!(before == after, "{differ:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_views_and_hostile_names_are_put_back_too() {
    let pair = pair().await;
    let broken: Vec<&str> = BROKEN.trim().split("\n\n").collect();
    sow(&pair.source, "broken", &broken).await;
    there_and_back(pair, "broken").await;
    for name in ["a`b '\"\\ ;--", "日本 ü.%_", "drover_aside", &"x".repeat(64)] {
        sow(&pair.source, name, &[MORE]).await;
        there_and_back(pair, name).await;
    }
}

/// A database with some of everything that is dropped, and what an account that is not the customer's
/// holds on it.
async fn sow_some(pair: &Pair) -> String {
    let database = unique("cut");
    let user = format!("{database}_user");
    let sql = format!(
        "CREATE USER {user} IDENTIFIED BY 'secret'; GRANT ALL ON {database}.* TO {user}; \
         GRANT EXECUTE ON PROCEDURE p TO root@localhost; \
         GRANT SELECT ON a_first TO root@localhost"
    );
    sow(
        &pair.source,
        &database,
        &[
            MORE,
            "CREATE TABLE gone (a INT)",
            "CREATE VIEW broken AS SELECT a FROM gone",
            "DROP TABLE gone",
            &sql,
        ],
    )
    .await;
    database
}

async fn cut(pair: &Pair, commands: i64) -> Server {
    let mariadb = &pair.source.mariadb;
    let upstream = SocketAddr::new(mariadb.address(), mariadb.port());
    let proxy = Proxy::start(upstream, commands, Cut::Before).await;
    common::server_at(mariadb, &proxy.address.ip().to_string(), proxy.address.port())
}

/// More commands than either has.
const COMMANDS_MAX: i64 = 400;

/// A run ends it at every fourth command, and another run at others; `DROVER_SEED` says at which.
fn cuts() -> impl Iterator<Item = i64> {
    let seed = std::env::var("DROVER_SEED").ok().and_then(|seed| seed.parse().ok());
    let first: i64 = seed.unwrap_or_else(|| std::process::id().into());
    (first.rem_euclid(4)..COMMANDS_MAX).step_by(4)
}

#[tokio::test(flavor = "multi_thread")]
async fn it_may_end_anywhere_on_the_way_there() {
    let pair = pair().await;
    let (database, server) = (sow_some(pair).await, &pair.source.server);
    let dumped = retired(pair, &database).await;
    let before = told(&pair.source, &database).await;
    let mut revision = 10;
    for commands in cuts() {
        assert!(commands < COMMANDS_MAX - 4);
        let done = bring(&cut(pair, commands).await, &dumped, revision).await;
        if commands / 4 % 2 == 0 {
            bring(server, &dumped, revision).await.unwrap();
        }
        give_up(server, &database, revision + 1).await.unwrap();
        assert_eq!(told(&pair.source, &database).await, before, "{commands}");
        revision += 2;
        if done.is_ok() {
            assert!(commands > 40, "the proxy cut nothing");
            break;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_may_end_anywhere_on_the_way_back() {
    let pair = pair().await;
    let (database, server) = (sow_some(pair).await, &pair.source.server);
    let dumped = retired(pair, &database).await;
    let before = told(&pair.source, &database).await;
    let mut revision = 10;
    for commands in cuts() {
        assert!(commands < COMMANDS_MAX - 4);
        bring(server, &dumped, revision).await.unwrap();
        let done = give_up(&cut(pair, commands).await, &database, revision + 1).await;
        if commands / 4 % 2 == 0 {
            bring(server, &dumped, revision + 2).await.unwrap();
            assert_eq!(describe(server, &database).await.unwrap().differences(&before.0), [""; 0]);
        }
        give_up(server, &database, revision + 3).await.unwrap();
        assert_eq!(told(&pair.source, &database).await, before, "{commands}");
        revision += 4;
        if done.is_ok() {
            assert!(commands > 40, "the proxy cut nothing");
            break;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_retired_by_that_migration_is_left_alone() {
    let pair = pair().await;
    let (end, server) = (&pair.source, &pair.source.server);
    let database = unique("other");
    sow(end, &database, &["CREATE TABLE t (a INT)"]).await;
    freeze(server, &order(&database, 1), Duration::ZERO).await.unwrap();
    let dumped = pair.dump(&database, &[]).await;
    let refused = |failure: drover_schemas::Failure, code: Code, says: &str| {
        assert_eq!(failure.code, code, "{failure}");
        assert!(failure.message.contains(says), "{failure}");
    };
    refused(failure(bring(server, &dumped, 10).await), Code::NotRetired, "its ledger says frozen");
    disarm(server, &order(&database, 3)).await.unwrap();
    retire(server, &order(&database, 4)).await.unwrap();
    // Of an order that does not say what it brings back the name is taken.
    let plain = Order { brings_back: None, ..back(&database, 11) };
    let taken = import(server, &plain, &dumped.contents, None, &*dumped.stored).await;
    refused(failure(taken.map(drop)), Code::NameTaken, "not this migration's copy");
    // An account that reaches the name it is to have.
    let sql = "CREATE USER far IDENTIFIED BY 'x'; GRANT SELECT ON `drover\\_aside\\_%`.* TO far";
    end.mariadb.execute(sql).await.unwrap();
    refused(failure(bring(server, &dumped, 12).await), Code::ReachableEarly, "far");
    end.mariadb.execute("DROP USER far").await.unwrap();
    bring(server, &dumped, 13).await.unwrap();
    // Another migration finds it taken, and its undo leaves it where it is.
    let campaign: CampaignName = "other".parse().unwrap();
    let migration = MigrationId::new(&campaign, &"elsewhere".parse().unwrap(), &database);
    let other = Order { campaign, migration, ..back(&database, 20) };
    let held = import(server, &other, &dumped.contents, None, &*dumped.stored).await;
    assert_eq!(failure(held.map(drop)).code, Code::DatabaseHeld);
    let other = Order { revision: 21, ..other };
    drop_copy(server, &other).await.unwrap();
    assert_eq!(state(end, order(&database, 1).migration, Side::Source).await, Some(State::Aside));
    // The provider has made something under the name meanwhile: it is not dropped.
    give_up(server, &database, 14).await.unwrap();
    end.mariadb.execute(&format!("CREATE TABLE {}.new (a INT)", ident(&database))).await.unwrap();
    bring(server, &dumped, 15).await.unwrap();
    let name = aside::aside_name(order(&database, 1).migration);
    assert_eq!(describe(server, &name).await.unwrap().tables(), 2);
    end.mariadb.execute(&format!("CREATE TABLE {name}.more (a INT)")).await.unwrap();
    refused(failure(give_up(server, &database, 16).await), Code::NotRetired, "`more`");
    end.mariadb.execute(&format!("DROP TABLE {name}.more")).await.unwrap();
    give_up(server, &database, 16).await.unwrap();
    drover_mysql::accounts(server, &order(&database, 17)).await.unwrap();
}
