//! Definers at the destination under each policy, from the import to a rollback.

#![allow(clippy::unwrap_used, reason = "tests")]

mod pair;

use std::{collections::BTreeMap, time::Duration};

use drover_mysql::{
    Accounts, Definers, Successors, accounts, close, drop_copy, expected, freeze, import, lost,
    open, verify,
};
use drover_schemas::Code;
use mysql_async::prelude::Queryable as _;
use pair::{Dumped, Pair, failure, order, pair, unique};

/// Objects of each kind, of definers that do not exist, and of one that comes.
fn made(database: &str) -> String {
    format!(
        "CREATE TABLE t (a INT); INSERT INTO t VALUES (1); \
         CREATE USER `{database}`@'%' IDENTIFIED BY 'x', `r_{database}`@'%' IDENTIFIED BY 'y'; \
         GRANT ALL ON `{database}`.* TO `{database}`@'%'; \
         GRANT SELECT ON `{database}`.* TO `r_{database}`@'%'; \
         CREATE DEFINER=`gone`@`%` VIEW v AS SELECT 'DEFINER=`gone`@`%` ' AS b FROM t; \
         CREATE DEFINER=`r_{database}`@`%` VIEW kept AS SELECT a FROM t; \
         CREATE DEFINER=`gone`@`%` TRIGGER tr BEFORE INSERT ON t FOR EACH ROW SET @a = '\nDEFINER: x@%\n'; \
         CREATE DEFINER=`go``ne'\"`@`10.%` PROCEDURE p() SELECT ': CREATE DEFINER=`gone`@`%` '; \
         SET sql_mode = 'ANSI_QUOTES'; \
         CREATE DEFINER=gone@'%' FUNCTION f() RETURNS INT DETERMINISTIC RETURN 1; \
         SET sql_mode = ''; CREATE DEFINER=`gon\u{e9}`@`%` PROCEDURE q() SELECT 1; \
         CREATE DEFINER=gone@'%' EVENT e ON SCHEDULE EVERY 1 DAY STARTS '2036-01-01 00:00:00' DO DELETE FROM t"
    )
}

/// Freezes and dumps such a database; with the accounts that come with it.
async fn frozen(pair: &Pair, database: &str) -> (Dumped, Accounts) {
    for end in [&pair.source, &pair.destination] {
        end.mariadb.execute("SET GLOBAL log_bin_trust_function_creators = ON").await.unwrap();
    }
    let sql = format!("CREATE DATABASE `{database}`; USE `{database}`; {}", made(database));
    pair.source.mariadb.execute(&sql).await.unwrap();
    let source = &pair.source.server;
    freeze(source, &order(database, 1), Duration::ZERO).await.unwrap();
    let come = accounts(source, &order(database, 2)).await.unwrap();
    (pair.dump(database, &come.events).await, come)
}

/// Imports and compares.
async fn moved(
    pair: &Pair,
    (dumped, come): &(Dumped, Accounts),
    policy: &Definers,
) -> Result<(), drover_mysql::Error> {
    let (to, name) = (&pair.destination.server, &dumped.database);
    let successors = Some(Successors { policy, come });
    // Twice, as a step may be.
    for _ in 0..2 {
        import(to, &order(name, 3), &dumped.contents, successors, &*dumped.stored).await?;
    }
    verify(to, &order(name, 4), &dumped.contents).await.map(|_| ())
}

/// The definers of a database at the destination, by object.
async fn definers(pair: &Pair, database: &str) -> BTreeMap<String, String> {
    let mut root = pair.destination.mariadb.root().await.unwrap();
    let sql = format!(
        "SELECT TABLE_NAME, DEFINER FROM information_schema.VIEWS WHERE TABLE_SCHEMA = '{database}' \
         UNION SELECT name, CAST(definer AS CHAR) FROM mysql.proc WHERE db = '{database}' \
         UNION SELECT name, CAST(definer AS CHAR) FROM mysql.event WHERE db = '{database}' \
         UNION SELECT TRIGGER_NAME, DEFINER FROM information_schema.TRIGGERS \
         WHERE TRIGGER_SCHEMA = '{database}'"
    );
    let rows: Vec<(String, String)> = root.query(sql).await.unwrap();
    rows.into_iter().collect()
}

fn map(pairs: &[(&str, &str)]) -> Definers {
    let own = |(was, becomes): &(&str, &str)| ((*was).to_owned(), (*becomes).to_owned());
    Definers::Map(pairs.iter().map(own).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_missing_becomes_the_owner_until_a_rollback_and_no_difference_is_seen() {
    let (pair, database) = (pair().await, unique("owned"));
    let all = frozen(pair, &database).await;
    let policy = Definers::Replace("owner".to_owned());
    moved(pair, &all, &policy).await.unwrap();
    let owner = format!("{database}@%");
    let found = definers(pair, &database).await;
    assert_eq!(found.len(), 7, "{found:?}");
    for (name, definer) in &found {
        let expected = if name == "kept" { format!("r_{database}@%") } else { owner.clone() };
        assert_eq!(*definer, expected, "{name}");
    }
    let (from, to) = (&pair.source.server, &pair.destination.server);
    open(to, &order(&database, 5), &all.1).await.unwrap();
    assert_eq!(definers(pair, &database).await, found);
    let sql = format!("SELECT status FROM mysql.event WHERE db = '{database}'");
    assert_eq!(pair.destination.value::<String>(&sql).await, "ENABLED");
    // They run, with the owner's rights.
    let mut owner = pair.destination.mariadb.connect(&database, "x").await.unwrap();
    owner.query_drop(format!("USE `{database}`; CALL p(); CALL q(); SELECT f()")).await.unwrap();
    let description = &all.0.contents.description;
    let opened_with = expected(to, order(&database, 6).migration, description).await.unwrap();
    assert_eq!(lost(to, from, &database, &opened_with).await.unwrap(), []);
    close(to, &order(&database, 6), Some(description)).await.unwrap();
    drop_copy(to, &order(&database, 7)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_map_puts_one_in_anothers_place_whatever_its_name_holds() {
    let (pair, database) = (pair().await, unique("mapped"));
    let all = frozen(pair, &database).await;
    let hostile = "n`'\"; DROP DATABASE mysql;#@%` procedure x() select 1;--";
    let (quoted, reader) = ("go`ne'\"@10.%", format!("r_{database}@%"));
    let policy = map(&[("gone@%", hostile), (quoted, &reader), ("absent@%", "a@%")]);
    moved(pair, &all, &policy).await.unwrap();
    let found = definers(pair, &database).await;
    for (name, expected) in
        [("v", hostile), ("tr", hostile), ("f", hostile), ("e", hostile), ("p", &reader)]
    {
        assert_eq!(found[name], expected, "{name}");
    }
    assert!(found["q"].starts_with("gon"), "{found:?}");
    open(&pair.destination.server, &order(&database, 5), &all.1).await.unwrap();
    assert_eq!(definers(pair, &database).await, found);
    assert!(pair.destination.has("mysql").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_kept_stays_and_another_one_in_its_place_is_found() {
    let (pair, database) = (pair().await, unique("kept"));
    let all = frozen(pair, &database).await;
    moved(pair, &all, &Definers::Keep).await.unwrap();
    assert_eq!(definers(pair, &database).await["v"], "gone@%");
    let sql = format!(
        "CREATE OR REPLACE DEFINER=other@'%' PROCEDURE `{database}`.p() SELECT ': CREATE DEFINER=`gone`@`%` '"
    );
    pair.destination.mariadb.execute(&sql).await.unwrap();
    let verified = verify(&pair.destination.server, &order(&database, 4), &all.0.contents).await;
    let differs = failure(verified);
    assert_eq!(differs.code, Code::CopyDiffers);
    assert!(differs.message.contains("PROCEDURE p: its definition differs"), "{differs:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_becomes_drover_nor_who_has_rights_everywhere() {
    let (pair, database) = (pair().await, unique("refused"));
    let all = frozen(pair, &database).await;
    let own = pair.destination.mariadb.drover_user().to_owned();
    let sql = "CREATE USER chief@'10.%'; GRANT PROCESS ON *.* TO chief@'10.%'";
    pair.destination.mariadb.execute(sql).await.unwrap();
    for becomes in [format!("{own}@%"), format!("{own}@10.0.0.1"), "chief@%".into(), "role".into()]
    {
        for policy in [Definers::Replace(becomes.clone()), map(&[("gone@%", &becomes)])] {
            let refused = failure(moved(pair, &all, &policy).await);
            assert_eq!(refused.code, Code::DefinerRefused, "{becomes}");
        }
    }
    // One who comes to such rights after the import.
    moved(pair, &all, &map(&[("gone@%", "later@%")])).await.unwrap();
    let sql = "CREATE USER later@'%'; GRANT RELOAD ON *.* TO later@'%'";
    pair.destination.mariadb.execute(sql).await.unwrap();
    let refused = open(&pair.destination.server, &order(&database, 5), &all.1).await;
    assert_eq!(failure(refused).code, Code::DefinerRefused);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_definer_whom_the_server_takes_for_somebody_else_is_refused() {
    let (pair, database) = (pair().await, unique("taken"));
    let neighbour = format!("n_{database}");
    let sql = format!("CREATE USER `{neighbour}`@'10.%'");
    pair.destination.mariadb.execute(&sql).await.unwrap();
    let sql = format!("CREATE DEFINER=`{neighbour}`@`10.9.8.7` PROCEDURE p() SELECT 1");
    let dumped = pair.dumped_from(&database, &sql).await;
    let come = accounts(&pair.source.server, &order(&database, 2)).await.unwrap();
    let all = (dumped, come);
    moved(pair, &all, &Definers::Replace("owner".into())).await.unwrap();
    let opened = open(&pair.destination.server, &order(&database, 5), &all.1).await;
    assert_eq!(failure(opened).code, Code::DefinerTaken);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_definer_in_letters_of_another_character_set_arrives() {
    let pair = pair().await;
    let database = unique("latin");
    let user = format!("d\u{e9}f{database}");
    let sql = format!(
        "CREATE DATABASE `{database}`; USE `{database}`; CREATE TABLE t (a INT); \
         CREATE USER `{user}`@'%'; SET NAMES utf8mb4, character_set_client = latin1; "
    );
    let mut root = pair.source.mariadb.root().await.unwrap();
    root.query_drop(sql).await.unwrap();
    let latin: Vec<u8> = format!(
        "CREATE DEFINER=`{user}`@`%` PROCEDURE `p\u{e9}`() SELECT '\u{e9}' AS `\u{e9}`; \
         CREATE DEFINER=`{user}`@`%` TRIGGER `t\u{e9}` BEFORE INSERT ON t FOR EACH ROW SET @a = '\u{e9}'; \
         CREATE DEFINER=`{user}`@`%` VIEW `v\u{e9}` AS SELECT '\u{e9}' AS `\u{e9}`; \
         CREATE DEFINER=`{user}`@`%` EVENT `e\u{e9}` ON SCHEDULE EVERY 1 DAY DISABLE DO SET @a = '\u{e9}'"
    )
    .chars()
    .map(|c| u8::try_from(c).unwrap())
    .collect();
    for statement in latin.split(|byte| *byte == b';') {
        root.query_drop(statement).await.unwrap();
    }
    let dumped = pair.frozen_and_dumped(&database).await;
    pair.import(&dumped, 3).await.unwrap();
    pair.verify(&dumped, 4).await.unwrap();
    assert_eq!(pair.source.stock_dump(&database), pair.destination.stock_dump(&database));
}
