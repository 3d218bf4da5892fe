//! Freeze, thaw, retire, the accounts' move and the copy between MySQL servers.
//!
//! Not run by default, as Debian 12 has no MySQL: `ops/servers` fetches one and says how.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::{
    collections::BTreeMap,
    net::{IpAddr, TcpStream},
    path::PathBuf,
    process::Command,
    time::Duration,
};

use drover_mysql::{
    Options, Order, Replica, Server, accounts, close, disarm, drop_copy, dump, freeze, import,
    load, mysql::grants_needed, open, retire, thaw,
};
use drover_schemas::{CampaignName, Code, MigrationId, v1::HostLoad};
use drover_testbed::{
    Bed,
    bed::{Process, eventually},
    mariadb::{secret, write_private},
};
use mysql_async::{Conn, Opts, OptsBuilder, Row, Value, prelude::Queryable as _};
use tokio::task::JoinHandle;

const GRACE: Duration = Duration::from_millis(200);

const PORT: u16 = 3306;

/// A MySQL server of one's own; ended when it is dropped.
struct Site {
    address: IpAddr,
    socket: PathBuf,
    server: Server,
    _process: Process,
    _bed: Bed,
}

fn program(bed: &Bed, name: &str) -> Command {
    let program = std::env::var_os("DROVER_TEST_MYSQLD").expect("DROVER_TEST_MYSQLD is set");
    let mut command = Command::new(program);
    command
        .arg("--no-defaults")
        .arg("--user=root")
        .arg(format!("--datadir={}", bed.dir().join(name).display()));
    command
}

async fn site(name: &str) -> Site {
    let bed = Bed::new().unwrap();
    let address = bed.address().unwrap();
    let made = program(&bed, name).arg("--initialize-insecure").output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let socket = bed.dir().join(format!("{name}.sock"));
    let mut command = program(&bed, name);
    command
        .arg(format!("--bind-address={address}"))
        .arg(format!("--port={PORT}"))
        .arg(format!("--socket={}", socket.display()))
        .arg(format!("--pid-file={}", bed.dir().join(format!("{name}.pid")).display()))
        .args(["--mysqlx=OFF", "--skip-name-resolve", "--innodb-buffer-pool-size=32M"])
        .args(["--innodb-flush-log-at-trx-commit=0", "--sync-binlog=0", "--gtid-mode=ON"])
        .args(["--enforce-gtid-consistency=ON", "--secure-file-priv="]);
    let process = bed.spawn(name, command).unwrap();
    let there = || Ok(socket.exists() && TcpStream::connect((address, PORT)).is_ok());
    process.wait_ready(there).unwrap();
    let password = secret();
    let file = bed.dir().join(format!("{name}.password"));
    write_private(&file, &password).unwrap();
    let mut options = Options::new(address.to_string(), PORT);
    options.password_file = file;
    options.sessions_end_ms_max = 10_000;
    let server = Server::new(name.parse().unwrap(), options).unwrap();
    let site = Site { address, socket, server, _process: process, _bed: bed };
    let mut root = site.root().await;
    let version: String = root.query_first("SELECT VERSION()").await.unwrap().unwrap();
    let mut parts = version.split(['.', '-']).map(|part| part.parse::<u16>().unwrap());
    let mut next = || parts.next().unwrap();
    let needed = grants_needed("drover", "127.%", (next(), next(), next()));
    root.query_drop(format!("CREATE USER drover@'127.%' IDENTIFIED BY '{password}'; {needed}"))
        .await
        .unwrap();
    site
}

impl Site {
    async fn root(&self) -> Conn {
        let socket = self.socket.to_string_lossy().into_owned();
        let options = OptsBuilder::default().socket(Some(socket)).user(Some("root"));
        let options = Opts::from(options);
        // A moment after its start the server may still close a connection at once.
        for _ in 0..100 {
            if let Ok(conn) = Conn::new(options.clone()).await {
                return conn;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Conn::new(options).await.unwrap()
    }

    async fn connect(&self, user: &str, password: &str) -> Result<Conn, mysql_async::Error> {
        let options = OptsBuilder::default()
            .ip_or_hostname(self.address.to_string())
            .tcp_port(PORT)
            .prefer_socket(false)
            .user(Some(user))
            .pass(Some(password));
        Conn::new(Opts::from(options)).await
    }

    /// The number of the error that an account gets; 0: none.
    async fn says(&self, user: &str, password: &str, sql: &str) -> u16 {
        match self.connect(user, password).await {
            Ok(mut conn) => refusal(conn.query_drop(sql).await),
            Err(error) => refusal::<()>(Err(error)),
        }
    }
}

fn refusal<T>(result: Result<T, mysql_async::Error>) -> u16 {
    match result {
        Ok(_) => 0,
        Err(mysql_async::Error::Server(error)) => error.code,
        Err(_) => u16::MAX,
    }
}

fn order(database: &str, revision: u64) -> Order {
    let campaign: CampaignName = "night-1".parse().unwrap();
    let migration = MigrationId::new(&campaign, &"source".parse().unwrap(), database);
    Order {
        campaign,
        migration,
        database: database.to_owned(),
        revision,
        run: 1,
        attempt: 1,
        destination_shut: true,
        rehearsal: false,
        brings_back: None,
        max_frozen_ms: 300_000,
        job: Vec::new(),
    }
}

/// All that the grant tables and events say, but when a row was written and by whom.
async fn snapshot(conn: &mut Conn) -> BTreeMap<String, Vec<String>> {
    // An event's first run comes at once, before or after the first look.
    const LEFT_OUT: [&str; 6] = [
        "Timestamp",
        "Grantor",
        "LAST_ALTERED",
        "LAST_EXECUTED",
        "CREATED",
        "password_last_changed",
    ];
    let mut all = BTreeMap::new();
    for from in [
        "mysql.db WHERE User LIKE 'shop%'",
        "mysql.tables_priv WHERE User LIKE 'shop%'",
        "mysql.columns_priv WHERE User LIKE 'shop%'",
        "mysql.procs_priv WHERE User LIKE 'shop%'",
        "mysql.user WHERE User LIKE 'shop%'",
        "mysql.role_edges WHERE TO_USER LIKE 'shop%'",
        "mysql.default_roles WHERE USER LIKE 'shop%'",
        "information_schema.EVENTS WHERE DEFINER LIKE 'shop%'",
        "information_schema.SCHEMATA_EXTENSIONS WHERE SCHEMA_NAME = 'my_shop'",
    ] {
        let rows: Vec<Row> = conn.query(format!("SELECT * FROM {from}")).await.unwrap();
        let mut lines: Vec<String> = rows
            .iter()
            .map(|row| {
                let fields = row.columns_ref().iter().enumerate().filter_map(|(i, column)| {
                    let name = column.name_str();
                    let kept = !LEFT_OUT.contains(&name.as_ref());
                    kept.then(|| format!("{name}={}", text(row.as_ref(i))))
                });
                fields.collect::<Vec<_>>().join(" ")
            })
            .collect();
        lines.sort();
        all.insert(from.to_owned(), lines);
    }
    all
}

fn text(value: Option<&Value>) -> String {
    match value {
        Some(Value::Bytes(bytes)) => String::from_utf8_lossy(bytes).into_owned(),
        other => format!("{other:?}"),
    }
}

/// `my_shop` unescaped is a pattern; nobody who has it has a role.
const SOURCE: &str = "\
    CREATE DATABASE my_shop; CREATE TABLE my_shop.t (a INT, b INT, v JSON, PRIMARY KEY (a)); \
    INSERT INTO my_shop.t VALUES (1, 1, '{\"k\": [1, 2]}'), (2, NULL, NULL); \
    CREATE VIEW my_shop.v AS SELECT a FROM my_shop.t; CREATE PROCEDURE my_shop.p() SELECT 1; \
    CREATE USER shop@'%' IDENTIFIED BY 'secret one' WITH MAX_QUERIES_PER_HOUR 9000 MAX_USER_CONNECTIONS 30; \
    CREATE USER 'shop reader'@'127.%' IDENTIFIED BY 'secret ''two' PASSWORD EXPIRE NEVER FAILED_LOGIN_ATTEMPTS 3 PASSWORD_LOCK_TIME 1 COMMENT 'it''s'; \
    CREATE USER shop_locked@'%' IDENTIFIED BY 'x' REQUIRE SSL ACCOUNT LOCK; \
    CREATE USER shop_member@'%' IDENTIFIED BY 'secret three'; CREATE ROLE shop_role; \
    GRANT shop_role TO shop_member@'%'; SET DEFAULT ROLE shop_role TO shop_member@'%'; \
    GRANT ALL ON my_shop.* TO shop@'%' WITH GRANT OPTION; GRANT SELECT ON `my\\_shop`.* TO 'shop reader'@'127.%'; \
    GRANT INSERT (a), UPDATE (b) ON my_shop.t TO 'shop reader'@'127.%'; GRANT EXECUTE ON PROCEDURE my_shop.p TO shop_locked@'%'; \
    GRANT SELECT, INSERT, DELETE ON `my\\_shop`.* TO shop_role; \
    SET character_set_client = latin1, collation_connection = latin1_german2_ci; \
    CREATE DEFINER=shop@'%' EVENT my_shop.e ON SCHEDULE EVERY 1 DAY DO DELETE FROM my_shop.t WHERE 'ü' = ''; \
    SET NAMES utf8mb4; \
    CREATE DEFINER=shop@'%' EVENT my_shop.off ON SCHEDULE EVERY 1 DAY DISABLE DO DELETE FROM my_shop.t";

const INSERT: &str = "INSERT INTO my_shop.t (a) VALUES (FLOOR(RAND() * 2000000000))";
const READ: &str = "SELECT * FROM my_shop.t LIMIT 1";

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a MySQL server, see ops/servers"]
async fn a_thaw_puts_back_exactly_what_was_there() {
    let site = site("source").await;
    let mut root = site.root().await;
    root.query_drop(SOURCE).await.unwrap();
    let before = snapshot(&mut root).await;
    let frozen = freeze(&site.server, &order("my_shop", 1), GRACE).await.unwrap();
    assert_eq!((frozen.accounts, frozen.scheduled_events_stopped), (4, 1));
    let point = frozen.consistency_point.clone().unwrap();
    assert!(point.binlog_position > 0 && !point.binlog_file.is_empty() && !point.gtid.is_empty());
    assert_ne!(snapshot(&mut root).await, before);
    for (user, password) in [("shop", "secret one"), ("shop_member", "secret three")] {
        assert_eq!(site.says(user, password, READ).await, 0, "{user}");
        assert_ne!(site.says(user, password, INSERT).await, 0, "{user}");
    }
    // The server's own option refuses whom no privilege was taken from.
    assert_eq!(refusal(root.query_drop(INSERT).await), 3989);
    assert_eq!(freeze(&site.server, &order("my_shop", 1), GRACE).await.unwrap(), frozen);
    for _ in 0..2 {
        disarm(&site.server, &order("my_shop", 2)).await.unwrap();
    }
    for _ in 0..2 {
        retire(&site.server, &order("my_shop", 2)).await.unwrap();
    }
    for (user, password) in [("shop", "secret one"), ("shop_member", "secret three")] {
        assert_ne!(site.says(user, password, READ).await, 0, "{user}");
    }
    let thawed = thaw(&site.server, &order("my_shop", 3)).await.unwrap();
    assert_eq!(thaw(&site.server, &order("my_shop", 3)).await.unwrap(), thawed);
    let after = snapshot(&mut root).await;
    for (table, rows) in &before {
        assert_eq!(after.get(table), Some(rows), "{table}");
    }
    let stale = freeze(&site.server, &order("my_shop", 2), GRACE).await.unwrap_err();
    assert_eq!(stale.code(), Code::LedgerOutdated);
    assert_eq!(site.says("shop", "secret one", INSERT).await, 0);

    // A grant by pattern to somebody with a role cannot be held against.
    root.query_drop("GRANT SELECT ON `my%`.* TO shop_role").await.unwrap();
    let error = freeze(&site.server, &order("my_shop", 4), GRACE).await.unwrap_err();
    assert_eq!(error.code(), Code::ForeignWriter, "{error}");
    thaw(&site.server, &order("my_shop", 5)).await.unwrap();
    root.query_drop("SET GLOBAL mandatory_roles = 'shop_role'").await.unwrap();
    let error = freeze(&site.server, &order("my_shop", 6), GRACE).await.unwrap_err();
    assert_eq!(error.code(), Code::ServerUnsupported, "{error}");
}

/// Runs statements again and again on one connection until one fails.
fn writer(mut conn: Conn, first: &str, statement: &'static str) -> JoinHandle<u64> {
    let first = first.to_owned();
    tokio::spawn(async move {
        conn.query_drop(first).await.unwrap();
        let mut done = 0;
        while conn.query_drop(statement).await.is_ok() {
            done += 1;
        }
        done
    })
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a MySQL server, see ops/servers"]
async fn no_row_is_written_after_the_consistency_point() {
    const COUNTS: &str = "SELECT CONCAT((SELECT COUNT(*) FROM fire.inno), ' ', \
        (SELECT COUNT(*) FROM fire.myisam), ' ', (SELECT COUNT(*) FROM fire.ticks))";
    let site = site("source").await;
    let mut root = site.root().await;
    let rows = "(n BIGINT AUTO_INCREMENT PRIMARY KEY, w VARCHAR(20))";
    let long = "BEGIN DECLARE i INT DEFAULT 0; WHILE i < 100000 DO INSERT INTO fire.myisam (w) \
                VALUES ('p'); DO SLEEP(0.001); SET i = i + 1; END WHILE; END";
    let tick = "BEGIN DECLARE i INT DEFAULT 0; WHILE i < 900 DO INSERT INTO fire.ticks (w) \
                VALUES ('e'); DO SLEEP(0.001); SET i = i + 1; END WHILE; END";
    root.query_drop(format!(
        "CREATE DATABASE fire; CREATE TABLE fire.inno {rows}; CREATE TABLE fire.ticks {rows}; \
         CREATE TABLE fire.myisam {rows} ENGINE=MyISAM; CREATE USER w@'%' IDENTIFIED BY 'pw'; \
         CREATE ROLE r; CREATE USER m@'%' IDENTIFIED BY 'pw'; GRANT r TO m@'%'; \
         SET DEFAULT ROLE r TO m@'%'; GRANT INSERT, SELECT ON fire.* TO r; \
         GRANT ALL ON fire.* TO w@'%'; CREATE PROCEDURE fire.one() {long}; \
         CREATE DEFINER=drover@'127.%' PROCEDURE fire.two() {long}; \
         CREATE DEFINER=w@'%' EVENT fire.tick ON SCHEDULE EVERY 1 SECOND DO {tick}; \
         CREATE DEFINER=root@localhost EVENT fire.tick_root ON SCHEDULE EVERY 1 SECOND DO {tick}"
    ))
    .await
    .unwrap();
    for round in 0..2_u64 {
        let mut sitter = site.connect("w", "pw").await.unwrap();
        let begin = "START TRANSACTION; INSERT INTO fire.inno (w) VALUES ('sitter')";
        sitter.query_drop(begin).await.unwrap();
        let mut busy = Vec::new();
        for (user, first, statement) in [
            ("w", "USE fire", "INSERT INTO inno (w) VALUES ('a')"),
            ("w", "DO 1", "INSERT INTO fire.inno (w) VALUES ('b')"),
            ("w", "USE fire", "INSERT INTO myisam (w) VALUES ('c')"),
            ("w", "USE fire; PREPARE s FROM 'INSERT INTO inno (w) VALUES (''d'')'", "EXECUTE s"),
            (
                "w",
                "USE fire",
                "START TRANSACTION; INSERT INTO inno (w) VALUES ('e'); DO SLEEP(0.05); COMMIT",
            ),
            ("w", "USE fire", "CALL one()"),
            ("w", "DO 1", "CALL fire.two()"),
            ("m", "DO 1", "INSERT INTO fire.inno (w) VALUES ('f')"),
        ] {
            busy.push(writer(site.connect(user, "pw").await.unwrap(), first, statement));
        }
        eventually(Duration::from_secs(20), || async {
            let mut root = site.root().await;
            let sql = "SELECT (SELECT COUNT(*) FROM fire.inno) > 100 \
                AND (SELECT COUNT(*) FROM fire.ticks) > 100 \
                AND (SELECT COUNT(*) FROM fire.myisam WHERE w = 'p') > 100";
            Ok(root.query_first::<bool, _>(sql).await? == Some(true))
        })
        .await
        .unwrap();
        let grace = if round == 0 { Duration::ZERO } else { GRACE };
        let frozen = freeze(&site.server, &order("fire", 2 * round + 1), grace).await.unwrap();
        let at_the_point: String = root.query_first(COUNTS).await.unwrap().unwrap();
        for one in busy {
            tokio::time::timeout(Duration::from_secs(20), one).await.unwrap().unwrap();
        }
        assert_ne!(refusal(sitter.query_drop("COMMIT").await), 0, "the open transaction is gone");
        // Longer than the scheduled events' second.
        tokio::time::sleep(Duration::from_millis(1500)).await;
        let after: String = root.query_first(COUNTS).await.unwrap().unwrap();
        assert_eq!(after, at_the_point);
        // Those without a selected database are refused, and may end before they are counted.
        assert!(frozen.sessions_ended >= 5, "{}", frozen.sessions_ended);
        thaw(&site.server, &order("fire", 2 * round + 2)).await.unwrap();
        let insert = "INSERT INTO fire.inno (w) VALUES ('after')";
        assert_eq!(site.says("w", "pw", insert).await, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a MySQL server, see ops/servers"]
async fn an_interrupted_freeze_goes_on_and_is_undone() {
    use drover_mysql::ledger::{Locked, Side, State};
    let site = site("source").await;
    let mut root = site.root().await;
    root.query_drop(SOURCE).await.unwrap();
    let before = snapshot(&mut root).await;
    for again in [true, false] {
        let revision = if again { 1 } else { 3 };
        freeze(&site.server, &order("my_shop", revision), GRACE).await.unwrap();
        // As if it had ended between the read-only option and its last word.
        let mut locked =
            Locked::take(&site.server, &order("my_shop", revision), Side::Source).await.unwrap();
        locked.touch(State::Freezing).await.unwrap();
        locked.release().await.unwrap();
        if again {
            freeze(&site.server, &order("my_shop", revision), GRACE).await.unwrap();
        }
        thaw(&site.server, &order("my_shop", revision + 1)).await.unwrap();
        assert_eq!(snapshot(&mut root).await, before);
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a MySQL server, see ops/servers"]
async fn a_database_moves_with_its_accounts_and_back_again() {
    let (source, destination) = tokio::join!(site("source"), site("destination"));
    let mut root = source.root().await;
    root.query_drop(SOURCE).await.unwrap();
    let before = snapshot(&mut root).await;
    let (at, to) = (&source.server, &destination.server);
    freeze(at, &order("my_shop", 1), GRACE).await.unwrap();
    let accounts = accounts(at, &order("my_shop", 2)).await.unwrap();
    assert!(!format!("{accounts:?}").contains("0x"), "no hash in Debug");
    let mut stored = Vec::new();
    let contents =
        dump(at, &order("my_shop", 2), &accounts.events, drover_mysql::Form::Zstd, &mut stored)
            .await
            .unwrap();
    import(to, &order("my_shop", 3), &contents, None, &*stored).await.unwrap();

    let mut there = destination.root().await;
    let empty = snapshot(&mut there).await;
    let opened = open(to, &order("my_shop", 5), &accounts).await.unwrap();
    assert_eq!(open(to, &order("my_shop", 5), &accounts).await.unwrap(), opened);
    for (user, password, refused) in
        [("shop", "secret one", 0), ("shop_member", "secret three", 0), ("shop", "another", 1045)]
    {
        assert_eq!(destination.says(user, password, INSERT).await, refused, "{user}");
    }
    let comparable = |all: BTreeMap<String, Vec<String>>| -> BTreeMap<String, Vec<String>> {
        all.into_iter()
            .filter(|(table, _)| !table.contains("SCHEMATA"))
            .map(|(table, rows)| {
                // `my_shop` became `my\_shop`, which covers it alone.
                let mut rows: Vec<String> =
                    rows.iter().map(|row| row.replace("my\\_shop", "my_shop")).collect();
                rows.sort();
                (table, rows)
            })
            .collect()
    };
    let now = comparable(snapshot(&mut there).await);
    for (table, rows) in comparable(before) {
        // An event's text begins when it is made; its other columns are the same.
        if !table.contains("EVENTS") {
            assert_eq!(now.get(&table), Some(&rows), "{table}");
        }
    }
    let enabled = "SELECT COUNT(*) FROM information_schema.EVENTS WHERE EVENT_SCHEMA = 'my_shop' \
                   AND STATUS = 'ENABLED'";
    assert_eq!(there.query_first::<u32, _>(enabled).await.unwrap(), Some(1));

    let closed = close(to, &order("my_shop", 6), None).await.unwrap();
    assert_eq!(closed.accounts, opened.accounts);
    assert_ne!(destination.says("shop", "secret one", READ).await, 0);
    let late = open(to, &order("my_shop", 5), &accounts).await.unwrap_err();
    assert_eq!(late.code(), Code::LedgerOutdated);
    drop_copy(to, &order("my_shop", 7)).await.unwrap();
    let left = snapshot(&mut there).await;
    for (table, rows) in empty.iter().filter(|(t, _)| t.contains("mysql.")) {
        assert_eq!(left.get(table), Some(rows), "{table}");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a MySQL server, see ops/servers"]
async fn a_server_tells_of_its_threads_its_redo_log_and_its_replica() {
    let (primary, replica) = tokio::join!(site("primary"), site("replica"));
    let secret = secret();
    let mut at_primary = primary.root().await;
    at_primary
        .query_drop(format!(
            "CREATE USER repl@'127.%' IDENTIFIED BY '{secret}'; \
             GRANT REPLICATION SLAVE ON *.* TO repl@'127.%'; RESET BINARY LOGS AND GTIDS"
        ))
        .await
        .unwrap();
    // The account is the same at both, as replication makes it.
    let file = primary.server.options().password_file.clone();
    let password = std::fs::read_to_string(&file).unwrap();
    let mut at_replica = replica.root().await;
    at_replica
        .query_drop(format!(
            "SET GLOBAL server_id = 2; ALTER USER drover@'127.%' IDENTIFIED BY '{password}'; \
             CHANGE REPLICATION SOURCE TO SOURCE_HOST = '{}', SOURCE_PORT = {PORT}, \
             SOURCE_USER = 'repl', SOURCE_PASSWORD = '{secret}', GET_SOURCE_PUBLIC_KEY = 1, \
             SOURCE_AUTO_POSITION = 1",
            primary.address
        ))
        .await
        .unwrap();
    let there = Replica { host: replica.address.to_string(), port: PORT };
    let options = Options { replicas: vec![there], ..primary.server.options().clone() };
    let server = &Server::new("dst-1".parse().unwrap(), options).unwrap();
    let until = async |so: &dyn Fn(&HostLoad) -> bool| {
        let said = || async { Ok(load(server).await.is_ok_and(|said| so(&said))) };
        eventually(Duration::from_secs(60), said).await.unwrap();
    };

    let calm = load(server).await.unwrap();
    assert!(calm.flush_backlog_percent.is_some_and(|percent| percent <= 100), "{calm:?}");
    assert_eq!(calm.silent_replica, format!("{}:{PORT}", replica.address), "{calm:?}");
    at_replica.query_drop("START REPLICA").await.unwrap();
    until(&|said| said.replica_lag_seconds == Some(0) && said.silent_replica.is_empty()).await;
    let sql = "STOP REPLICA; CHANGE REPLICATION SOURCE TO SOURCE_DELAY = 3600; START REPLICA";
    at_replica.query_drop(sql).await.unwrap();
    at_primary.query_drop("CREATE DATABASE late").await.unwrap();
    until(&|said| said.replica_lag_seconds > Some(0)).await;

    let before = load(server).await.unwrap().threads_running;
    let busy = writer(primary.root().await, "DO 0", "DO SLEEP(3600)");
    until(&|said| said.threads_running == before + 1).await;
    busy.abort();
}
