//! Every pair of servers that `ops/matrix` names: does a database move, or does the pre-flight say
//! what cannot?
//!
//! Run by `ops/matrix`, which brings the servers (`DROVER_SERVERS`) and keeps the table that this
//! writes (`DROVER_MATRIX`). A pair fails where a database neither moves nor is named beforehand.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod pair;

use std::{fs, net::IpAddr, path::PathBuf, process::Command, time::Duration};

use drover_mysql::{
    Definers, Flavour, Options, Server, accounts, dump, freeze, import, inspect, mysql, open,
    preflight::{self, begin, judge},
    verify,
};
use drover_testbed::{
    Bed,
    bed::{Process, eventually},
    mariadb::{secret, write_private},
};
use mysql_async::{Conn, Opts, OptsBuilder, prelude::Queryable as _};
use pair::order;

const PORT: u16 = 3306;

/// The servers, by the names of `ops/servers`: kind, version.
const SERVERS: [(&str, Flavour); 4] = [
    ("mariadb-10.5", Flavour::MariaDb),
    ("mariadb-10.11", Flavour::MariaDb),
    ("mariadb-11.8", Flavour::MariaDb),
    ("mysql-9.7", Flavour::MySql),
];

/// The database that holds everything, of which each server takes what it knows: statements with an empty
/// line between them.
const CORPUS: &str = "corpus";

/// Which source cannot give a system-versioned table's history.
const WITHOUT_HISTORY: &str = "mariadb-10.5";

/// Databases, and what is in them: what both kinds take, and what is one kind's own.
const CASES: &[(&str, Option<Flavour>, &str)] = &[
    (
        "plain",
        None,
        "CREATE TABLE t (id INT PRIMARY KEY AUTO_INCREMENT, a VARCHAR(50), b BLOB, c DECIMAL(20,5), \
         d DATETIME(6), KEY (a)) CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci; \
         INSERT INTO t (a, b, c, d) VALUES ('ö', x'00ff', 1.5, '2020-01-01 00:00:00.5'), \
         (NULL, NULL, NULL, NULL)",
    ),
    (
        "account",
        None,
        "CREATE TABLE t (a INT); CREATE USER acc@'%' IDENTIFIED BY 'pass'; \
         GRANT SELECT, INSERT ON account.* TO acc@'%'",
    ),
    (
        "objects",
        None,
        "CREATE TABLE t (a INT); CREATE VIEW v AS SELECT a FROM t; \
         CREATE TRIGGER g BEFORE INSERT ON t FOR EACH ROW SET NEW.a = 1; \
         CREATE PROCEDURE p() SELECT 1; CREATE FUNCTION f() RETURNS INT DETERMINISTIC RETURN 1; \
         CREATE EVENT e ON SCHEDULE EVERY 1 DAY DISABLE DO DELETE FROM t",
    ),
    (
        "defaults",
        None,
        "CREATE TABLE t (a VARCHAR(10)) CHARACTER SET utf8mb4; INSERT INTO t VALUES ('x')",
    ),
    (
        "own",
        Some(Flavour::MariaDb),
        "CREATE SEQUENCE s; CREATE TABLE t (a INT) WITH SYSTEM VERSIONING",
    ),
    (
        "lengthy",
        None,
        "SET @text = REPEAT('äö€', 400000); CREATE TABLE t (id INT PRIMARY KEY, a LONGTEXT, b LONGBLOB, \
         c LONGTEXT AS (CONCAT(a, 'ö')) VIRTUAL) CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci; \
         INSERT INTO t (id, a, b) VALUES (1, @text, NULL), (2, 'x', x'00ff'), (3, @text, @text); \
         CREATE TABLE u CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci SELECT a, b FROM t",
    ),
    (CORPUS, None, include_str!("corpus/everything.sql")),
];

/// A server of the matrix.
struct Site {
    name: &'static str,
    flavour: Flavour,
    socket: PathBuf,
    server: Server,
    _process: Process,
    _bed: Bed,
}

async fn site(name: &'static str, flavour: Flavour) -> Site {
    let home =
        PathBuf::from(std::env::var_os("DROVER_SERVERS").expect("see ops/matrix")).join(name);
    let bed = Bed::new().unwrap();
    let address: IpAddr = bed.address().unwrap();
    let data = bed.dir().join("data");
    let copied = Command::new("cp").arg("-a").arg(home.join("data")).arg(&data).status().unwrap();
    assert!(copied.success());
    let socket = bed.dir().join("s");
    let daemon = match flavour {
        Flavour::MariaDb => "mariadbd",
        Flavour::MySql => "mysqld",
    };
    let mut command = Command::new(home.join("bin").join(daemon));
    command
        .args(["--no-defaults", "--user=root", "--skip-name-resolve", "--log-bin=binlog"])
        .args(["--server-id=1", "--innodb-buffer-pool-size=32M", "--event-scheduler=ON"])
        .args(["--log-bin-trust-function-creators=ON", "--secure-file-priv=", "--sync-binlog=0"])
        .arg(format!("--datadir={}", data.display()))
        .arg(format!("--bind-address={address}"))
        .arg(format!("--port={PORT}"))
        .arg(format!("--socket={}", socket.display()))
        .arg(format!("--pid-file={}", bed.dir().join("pid").display()));
    if flavour == Flavour::MySql {
        command.args(["--mysqlx=OFF", "--gtid-mode=ON", "--enforce-gtid-consistency=ON"]);
    }
    let process = bed.spawn(name, command).unwrap();
    let file = bed.dir().join("password");
    let password = secret();
    write_private(&file, &password).unwrap();
    let mut options = Options::new(address.to_string(), PORT);
    options.password_file = file;
    let server = Server::new(name.replace('.', "-").parse().unwrap(), options).unwrap();
    let site = Site { name, flavour, socket, server, _process: process, _bed: bed };
    eventually(Duration::from_secs(60), || async { Ok(site.root().await.is_ok()) }).await.unwrap();
    let grant = match flavour {
        Flavour::MariaDb => inspect::grants_needed("drover", "127.%"),
        Flavour::MySql => mysql::grants_needed("drover", "127.%", (9, 7, 0)),
    };
    let made = format!("CREATE USER drover@'127.%' IDENTIFIED BY '{password}'; {grant}");
    site.root().await.unwrap().query_drop(made).await.unwrap();
    site
}

impl Site {
    async fn root(&self) -> Result<Conn, mysql_async::Error> {
        let socket = self.socket.to_string_lossy().into_owned();
        let options = OptsBuilder::default().socket(Some(socket)).user(Some("root"));
        Conn::new(Opts::from(options)).await
    }
}

/// Makes a database; how many of the corpus's statements the server took.
async fn make(from: &Site, database: &str, sql: &str) -> usize {
    let mut root = from.root().await.unwrap();
    let create = format!("SET NAMES utf8mb4; CREATE DATABASE {database}; USE {database}");
    root.query_drop(create).await.unwrap();
    if database != CORPUS {
        root.query_drop(sql).await.unwrap();
        return 1;
    }
    let mut taken = 0;
    for statement in sql.trim().split("\n\n") {
        let history = statement.contains("SYSTEM VERSIONING") && from.name == WITHOUT_HISTORY;
        // A known gap of events, see the README.
        let event = statement.contains("EVENT `täglich`") && from.flavour == Flavour::MySql;
        // What another database must have is the pre-flight's to tell.
        if !history && !event && !statement.contains("corpus_other") {
            taken += usize::from(root.query_drop(statement).await.is_ok());
        }
    }
    taken
}

/// What becomes of one database: "moves", the codes that hold it back, or where it failed.
async fn one(from: &Site, to: &Site, database: &str) -> Result<String, String> {
    let source = begin(&from.server).await.map_err(|e| e.to_string())?;
    let destination = preflight::destination(&to.server).await.map_err(|e| e.to_string())?;
    let chunk = source.read(&[database.to_owned()]).await.map_err(|e| e.to_string())?;
    let judged = judge(&source, &chunk, &destination, (&Definers::Keep, &[].into()));
    let all = source.findings.iter().chain(&destination.findings).chain(&chunk.findings);
    let blocking = all.chain(&judged).filter(|finding| finding.blocking);
    let mut codes: Vec<String> = blocking.map(|finding| finding.code.to_string()).collect();
    codes.sort();
    codes.dedup();
    if !codes.is_empty() {
        return Ok(codes.join(" "));
    }
    let failed =
        |step: &'static str| move |e: drover_mysql::Error| format!("{step}: {} {e}", e.code());
    let at = |revision| order(database, revision);
    freeze(&from.server, &at(1), Duration::ZERO).await.map_err(failed("freeze"))?;
    let all = accounts(&from.server, &at(2)).await.map_err(failed("accounts"))?;
    let mut stored = Vec::new();
    let contents = dump(&from.server, &at(2), &all.events, drover_mysql::Form::Zstd, &mut stored)
        .await
        .map_err(failed("dump"))?;
    import(&to.server, &at(3), &contents, None, &*stored).await.map_err(failed("import"))?;
    verify(&to.server, &at(4), &contents).await.map_err(failed("verify"))?;
    open(&to.server, &at(5), &all).await.map_err(failed("open"))?;
    Ok("moves".to_owned())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs servers of other versions, see ops/matrix"]
async fn every_pair_moves_or_is_named_beforehand() {
    let mut table = String::from("| from | to |");
    for (database, ..) in CASES {
        table.push_str(&format!(" {database} |"));
    }
    table.push_str(&format!("\n|{}\n", " --- |".repeat(CASES.len() + 2)));
    let mut failures = Vec::new();
    for (i, (from, from_flavour)) in SERVERS.iter().enumerate() {
        for (j, (to, to_flavour)) in SERVERS.iter().enumerate() {
            if from_flavour == to_flavour && j < i {
                continue;
            }
            let (from, to) = tokio::join!(site(from, *from_flavour), site(to, *to_flavour));
            table.push_str(&format!("| {} | {} |", from.name, to.name));
            for (database, only, sql) in CASES {
                if only.is_some_and(|only| only != from.flavour) {
                    table.push_str(" |");
                    continue;
                }
                let taken = make(&from, database, sql).await;
                let cell = one(&from, &to, database).await.unwrap_or_else(|failure| {
                    failures.push(format!("{} to {}: {database}: {failure}", from.name, to.name));
                    format!("**{}**", failure.split([':', ' ']).next().unwrap_or_default())
                });
                let of = if *database == CORPUS { format!(" ({taken})") } else { String::new() };
                table.push_str(&format!(" {cell}{of} |"));
            }
            table.push('\n');
        }
    }
    if let Some(file) = std::env::var_os("DROVER_MATRIX") {
        fs::write(file, &table).unwrap();
    }
    println!("{table}");
    assert!(failures.is_empty(), "neither moved nor named: {failures:#?}");
}
