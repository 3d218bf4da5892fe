//! The accounts of what is brought back meet those that the retirement shut out.

use std::time::Duration;

use drover_mysql::{
    Form, Order, accounts, close, disarm, drop_copy, dump, freeze, import, open, retire, thaw,
    verify,
};
use drover_schemas::Code;
use mysql_async::prelude::Queryable as _;

use super::{
    back, bring, common, cut, cuts,
    pair::{Dumped, End, Pair, failure, order, pair},
    sow,
};

/// All that the grant tables say of these users, but when and by whom it was given.
async fn granted(end: &End, of_users: &str) -> Vec<String> {
    let mut root = end.mariadb.root().await.unwrap();
    let all = common::snapshot(&mut root, of_users).await;
    root.disconnect().await.unwrap();
    let volatile = ["event", "global_priv"];
    all.into_iter()
        .filter(|(table, _)| !volatile.contains(&table.as_str()))
        .flat_map(|it| it.1)
        .collect()
}

/// A migration from the source to the destination, up to the retirement.
async fn moved(pair: &Pair, database: &str) -> Dumped {
    let (source, destination) = (&pair.source.server, &pair.destination.server);
    let at = |revision| order(database, revision);
    freeze(source, &at(1), Duration::ZERO).await.unwrap();
    let sealed = accounts(source, &at(2)).await.unwrap();
    let dumped = pair.dump(database, &[]).await;
    pair.import(&dumped, 3).await.unwrap();
    disarm(source, &at(4)).await.unwrap();
    open(destination, &at(5), &sealed).await.unwrap();
    retire(source, &at(6)).await.unwrap();
    dumped
}

/// Accounts whose grants cover more than the database, so that a retirement only masks them, and roles,
/// which have no password to know them by.
#[tokio::test(flavor = "multi_thread")]
async fn accounts_come_back_to_those_that_were_shut_out() {
    let pair = pair().await;
    let (source, destination) = (&pair.source.server, &pair.destination.server);
    let database = "mask_1";
    let sql = "CREATE USER mask_all IDENTIFIED BY 'one'; CREATE USER mask_some IDENTIFIED BY 'two'; \
               CREATE USER mask_member IDENTIFIED BY 'three'; CREATE ROLE mask_role; \
               GRANT mask_role TO mask_member; SET DEFAULT ROLE mask_role FOR mask_member; \
               CREATE USER mask_gone IDENTIFIED BY 'four'; \
               GRANT ALL ON `mask\\_%`.* TO mask_all; \
               GRANT SELECT, INSERT ON `mask\\_%`.* TO mask_some; \
               GRANT SELECT ON `mask\\_%`.* TO mask_gone; \
               GRANT SELECT, DELETE ON mask_1.* TO mask_role";
    sow(&pair.source, database, &["CREATE TABLE t (a INT)", sql]).await;
    moved(pair, database).await;
    let shut_out = granted(&pair.source, "mask%").await;
    let there = granted(&pair.destination, "mask%").await;

    let back_at = |revision| back(database, revision);
    // A copy that its own migration has half closed does not have the customer's privileges.
    let half = |state: &str| {
        format!("UPDATE drover.ledger SET state = '{state}' WHERE database_name = '{database}'")
    };
    pair.destination.mariadb.execute(&half("closing")).await.unwrap();
    let held = freeze(destination, &back_at(1), Duration::ZERO).await;
    assert_eq!(failure(held.map(drop)).code, Code::DatabaseHeld);
    pair.destination.mariadb.execute(&half("open")).await.unwrap();

    for run in [1, 2, 3] {
        let back_at = |revision| Order { run, ..back_at(revision + 10 * u64::from(run)) };
        if run == 1 {
            let sql = "CREATE USER mask_new IDENTIFIED BY 'x'; GRANT mask_role TO mask_new";
            // Drover made the role there, so only Drover can hand it on.
            let mut session = destination.session().await.unwrap();
            session.run("making a member", sql).await.unwrap();
            session.end().await.unwrap();
        }
        freeze(destination, &back_at(1), Duration::ZERO).await.unwrap();
        // Its own migration can do nothing at the destination any more.
        let held = close(destination, &order(database, 50), None).await;
        assert_eq!(failure(held.map(drop)).code, Code::DatabaseHeld);
        let sealed = accounts(destination, &back_at(2)).await.unwrap();
        let mut stored = Vec::new();
        let contents = dump(destination, &back_at(2), &[], Form::Zstd, &mut stored).await.unwrap();
        import(source, &back_at(3), &contents, None, &*stored).await.unwrap();
        verify(source, &back_at(4), &contents).await.unwrap();
        disarm(destination, &back_at(5)).await.unwrap();
        let opened = open(source, &back_at(6), &sealed).await;
        if run == 1 {
            // A member that was made at the destination: nobody but who may hand the role on can.
            let refused = failure(opened.map(drop));
            assert_eq!(refused.code, Code::AccountTaken, "{refused}");
            close(source, &back_at(7), None).await.unwrap();
            drop_copy(source, &back_at(8)).await.unwrap();
            thaw(destination, &back_at(9)).await.unwrap();
            pair.destination.mariadb.execute("DROP USER mask_new").await.unwrap();
            assert_eq!(granted(&pair.source, "mask%").await, shut_out);
            assert_eq!(granted(&pair.destination, "mask%").await, there);
            continue;
        }
        opened.unwrap();
        for (user, password, sql, may) in [
            ("mask_all", "one", "INSERT INTO mask_1.t VALUES (1)", true),
            ("mask_some", "two", "INSERT INTO mask_1.t VALUES (1)", true),
            ("mask_some", "two", "DELETE FROM mask_1.t", false),
            ("mask_member", "three", "DELETE FROM mask_1.t", true),
        ] {
            let mut conn = pair.source.mariadb.connect(user, password).await.unwrap();
            assert_eq!(common::refusal(conn.query_drop(sql).await) == 0, may, "{user}: {sql}");
        }
        if run == 2 {
            // As behind a switch: the copy is kept, closed, and the next run replaces it.
            close(source, &back_at(7), None).await.unwrap();
            thaw(destination, &back_at(9)).await.unwrap();
            assert_eq!(granted(&pair.source, "mask%").await, shut_out);
            assert_eq!(granted(&pair.destination, "mask%").await, there);
        }
    }
    retire(destination, &Order { run: 3, ..back_at(50) }).await.unwrap();
    let mut conn = pair.destination.mariadb.connect("mask_all", "one").await.unwrap();
    assert_ne!(common::refusal(conn.query_drop("SELECT * FROM mask_1.t").await), 0);
}

/// The customer has another password at the destination: the old account gets out of the way, and gets
/// its name and its own password back, whoever dies at it.
#[tokio::test(flavor = "multi_thread")]
async fn an_account_of_another_password_gets_out_of_the_way() {
    let pair = pair().await;
    let (source, destination) = (&pair.source.server, &pair.destination.server);
    let database = "changed";
    let sql = "CREATE USER changes IDENTIFIED BY 'old' WITH MAX_USER_CONNECTIONS 7; \
               GRANT ALL ON changed.* TO changes; CREATE TABLE t (a INT)";
    sow(&pair.source, database, &[sql]).await;
    let dumped = moved(pair, database).await;
    let all = "SELECT GROUP_CONCAT(User, Priv ORDER BY User) FROM mysql.global_priv \
               WHERE User = 'changes' OR User LIKE 'drover\\_aside%'";
    let old: String = pair.source.value(all).await;
    let sql = "ALTER USER changes IDENTIFIED BY 'new'";
    pair.destination.mariadb.execute(sql).await.unwrap();

    freeze(destination, &back(database, 1), Duration::ZERO).await.unwrap();
    let sealed = accounts(destination, &back(database, 2)).await.unwrap();
    disarm(destination, &back(database, 3)).await.unwrap();
    let mut revision = 10;
    for commands in cuts() {
        bring(source, &dumped, revision).await.unwrap();
        let order = back(database, revision + 1);
        let done = open(&cut(pair, commands).await, &order, &sealed).await;
        if commands / 4 % 2 == 0 {
            open(source, &order, &sealed).await.unwrap();
            let mut conn = pair.source.mariadb.connect("changes", "new").await.unwrap();
            conn.query_drop("INSERT INTO changed.t VALUES (1)").await.unwrap();
            assert!(pair.source.mariadb.connect("changes", "old").await.is_err());
        }
        close(source, &back(database, revision + 2), None).await.unwrap();
        assert_eq!(pair.source.value::<String>(all).await, old, "{commands}");
        revision += 3;
        if done.is_ok() {
            assert!(commands > 15, "the proxy cut nothing");
            break;
        }
    }
    // It is good for something else: nobody decides which password is right.
    let sql = "GRANT SELECT ON corpus_elsewhere.* TO changes";
    pair.source.mariadb.execute(sql).await.unwrap();
    bring(source, &dumped, revision).await.unwrap();
    let taken = open(source, &back(database, revision + 1), &sealed).await;
    assert_eq!(failure(taken.map(drop)).code, Code::AccountTaken);
}
