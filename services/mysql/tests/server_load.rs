//! What a server says that it is under, of real servers: one with a replica.

#![allow(clippy::unwrap_used, reason = "a failed test may panic anywhere")]

use drover_mysql::{Error, Options, Replica, Server, load};
use drover_schemas::v1::HostLoad;
use drover_testbed::{
    Bed, Mariadb,
    bed::eventually,
    mariadb::{Settings, secret},
};
use mysql_async::prelude::Queryable as _;

const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);

fn relaxed() -> Settings {
    Settings { relaxed_durability: true, ..Settings::default() }
}

fn server(mariadb: &Mariadb, replica: &Mariadb) -> Server {
    let replica = Replica { host: replica.address().to_string(), port: replica.port() };
    let options = Options {
        password_file: mariadb.drover_password_file(),
        replicas: vec![replica],
        ..Options::new(mariadb.address().to_string(), mariadb.port())
    };
    Server::new("dst-1".parse().unwrap(), options).unwrap()
}

/// Waits until a server says something of itself.
async fn says(server: &Server, so: impl Fn(&HostLoad) -> bool) -> HostLoad {
    eventually(PATIENCE, || async { Ok(load(server).await.is_ok_and(|said| so(&said))) })
        .await
        .unwrap();
    load(server).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_tells_of_its_threads_its_disk_and_its_replica() {
    let bed = Bed::new().unwrap();
    let (primary, replica) = tokio::try_join!(
        Mariadb::start_with(&bed, "primary", relaxed()),
        Mariadb::start_with(&bed, "replica", relaxed())
    )
    .unwrap();
    // The account is the same at both, as replication makes it.
    let password = std::fs::read_to_string(primary.drover_password_file()).unwrap();
    replica
        .execute(&format!("SET PASSWORD FOR drover@'127.%' = PASSWORD('{password}')"))
        .await
        .unwrap();
    primary.execute("GRANT FILE ON *.* TO drover@'127.%'").await.unwrap();
    let server = &server(&primary, &replica);

    let calm = load(server).await.unwrap();
    assert!(calm.flush_backlog_percent.is_some_and(|percent| percent < 50), "{calm:?}");
    assert_eq!(calm.disk_free_percent, None, "nobody has installed what tells it");
    let name = format!("{}:{}", replica.address(), replica.port());
    assert_eq!(calm.silent_replica, name, "it does not replicate yet");

    // Whoever works is counted, besides what the server does of itself; the one that asks is not.
    let itself = calm.threads_running;
    let mut busy = Vec::new();
    for _ in 0..3 {
        let mut root = primary.root().await.unwrap();
        busy.push(tokio::spawn(async move { root.query_drop("DO SLEEP(600)").await }));
    }
    says(server, |said| said.threads_running == itself + 3).await;

    let secret = secret();
    primary
        .execute(&format!(
            "CREATE USER repl@'127.%' IDENTIFIED BY '{secret}'; \
             GRANT REPLICATION SLAVE ON *.* TO repl@'127.%'; INSTALL SONAME 'disks'"
        ))
        .await
        .unwrap();
    replica
        .execute(&format!(
            "CHANGE MASTER TO MASTER_HOST = '{}', MASTER_PORT = {}, MASTER_USER = 'repl', \
             MASTER_PASSWORD = '{secret}', MASTER_USE_GTID = slave_pos; START SLAVE",
            primary.address(),
            primary.port()
        ))
        .await
        .unwrap();
    let told = says(server, |said| said.replica_lag_seconds == Some(0)).await;
    assert!(told.disk_free_percent.is_some_and(|percent| percent <= 100), "{told:?}");
    assert_eq!(told.silent_replica, "");

    // What it is behind is told while it is behind.
    replica.execute("STOP SLAVE; CHANGE MASTER TO MASTER_DELAY = 3600; START SLAVE").await.unwrap();
    primary.execute("CREATE DATABASE late").await.unwrap();
    says(server, |said| said.replica_lag_seconds > Some(0)).await;
    replica.execute("STOP SLAVE SQL_THREAD").await.unwrap();
    says(server, |said| said.silent_replica == name && said.replica_lag_seconds.is_none()).await;
    replica.kill().unwrap();
    says(server, |said| said.silent_replica == name).await;

    primary.kill().unwrap();
    for busy in busy {
        busy.await.unwrap().unwrap_err();
    }
    assert!(matches!(load(server).await, Err(Error::Unreachable { .. })));
}
