//! A customer's database is hostile input: whatever its names, definitions and rows are, Drover
//! runs no statement of theirs with its own rights, at neither server, and lends nobody a right
//! that he did not have.
//!
//! At both servers there is a database, `canary`, that no customer may write to. Each attack tries
//! to have Drover write there.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod pair;

use std::time::Duration;

use drover_mysql::{
    Options, Server, accounts, close, describe, drop_copy, freeze,
    ident::{ident, literal},
    open, thaw,
};
use drover_schemas::{Code, Failure};
use drover_testbed::Mariadb;
use mysql_async::{Conn, prelude::Queryable as _};
use pair::{Pair, order, pair, unique};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

const PASSWORD: &str = "mallory's own";

/// What breaks out of a quoted name or text, or is a line of its own for a client.
const BREAKS: [&str; 10] = [
    "`;INSERT INTO canary.t VALUES(1);#",
    "';INSERT INTO canary.t VALUES(1);#",
    "\";INSERT INTO canary.t VALUES(1);#",
    "\\';INSERT INTO canary.t VALUES(1);#",
    "\\`;INSERT INTO canary.t VALUES(1);#",
    "\n;;\nINSERT INTO canary.t VALUES(1);;\n#",
    "*/;INSERT INTO canary.t VALUES(1);/*",
    "\n;\nINSERT INTO canary.t VALUES(1);\n#",
    "\ndelimiter x\nINSERT INTO canary.t VALUES(1)x\n#",
    "`) UNION=(canary.t) INSERT_METHOD=LAST;#",
];

/// The canaries, at both servers.
async fn canaries(pair: &Pair) {
    for end in [&pair.source, &pair.destination] {
        let sql = "CREATE DATABASE IF NOT EXISTS canary; \
                   CREATE TABLE IF NOT EXISTS canary.t (a INT) ENGINE=MyISAM; \
                   SET GLOBAL log_bin_trust_function_creators = ON";
        end.mariadb.execute(sql).await.unwrap();
    }
}

/// Both canaries live, and nobody has come to a right outside his own database.
async fn alive(pair: &Pair, when: &str) {
    for end in [&pair.source, &pair.destination] {
        let written: u64 = end.value("SELECT COUNT(*) FROM canary.t").await;
        assert_eq!(written, 0, "{when}: written at {}", end.mariadb.name());
        let sql = "SELECT COUNT(*) FROM mysql.global_priv WHERE User = 'evil'";
        assert_eq!(end.value::<u64>(sql).await, 0, "{when}: an account of the attacker's");
    }
}

/// A database of mallory's, and her own connection to it.
async fn mallory(at: &Mariadb, database: &str) -> Conn {
    let (name, user) = (ident(database), format!("m_{database}"));
    let account = drover_mysql::ident::account(&user, "%");
    let scope = ident(&drover_mysql::ident::grant_text(database));
    let sql = format!(
        "CREATE DATABASE {name}; CREATE USER {account} IDENTIFIED BY {}; \
         GRANT ALL PRIVILEGES ON {scope}.* TO {account}",
        literal(PASSWORD)
    );
    at.execute(&sql).await.unwrap();
    let mut conn = at.connect(&user, PASSWORD).await.unwrap();
    conn.query_drop(format!("USE {name}")).await.unwrap();
    conn
}

async fn make(conn: &mut Conn, statements: &[String]) {
    for statement in statements {
        let made = conn.query_drop(statement).await;
        assert!(made.is_ok(), "{statement}: {made:?}");
    }
}

/// The whole way there and back, as far as it goes. The canaries are looked at after each step.
async fn there_and_back(pair: &Pair, database: &str) -> Result<(), Failure> {
    let (from, to) = (&pair.source.server, &pair.destination.server);
    let there = async {
        freeze(from, &order(database, 1), Duration::ZERO).await?;
        alive(pair, "freeze").await;
        describe(from, database).await?;
        alive(pair, "describe").await;
        let dumped = pair.try_dump(database, &[]).await?;
        alive(pair, "dump").await;
        pair.import(&dumped, 3).await?;
        alive(pair, "import").await;
        pair.verify(&dumped, 4).await?;
        alive(pair, "verify").await;
        let accounts = accounts(from, &order(database, 5)).await?;
        open(to, &order(database, 6), &accounts).await?;
        alive(pair, "open").await;
        Ok(())
    };
    let there: Result<(), Failure> = there.await;
    close(to, &order(database, 7), None).await?;
    alive(pair, "close").await;
    drop_copy(to, &order(database, 8)).await?;
    alive(pair, "drop").await;
    thaw(from, &order(database, 9)).await?;
    alive(pair, "thaw").await;
    there
}

/// A break in every place that takes a name or a text.
fn everywhere(n: usize, text: &str) -> Vec<String> {
    let (quoted, long) = (literal(text), literal(&format!("{text}{text}")));
    let name = |kind: &str| ident(&format!("{kind}{n}{text}"));
    let (table, column, view) = (name("t"), ident(text), name("v"));
    vec![
        format!(
            "CREATE TABLE {table} (id INT PRIMARY KEY AUTO_INCREMENT, \
             {column} VARCHAR(200) DEFAULT {long} COMMENT {long}, e ENUM({quoted}, 'other'), \
             s SET({quoted}), g VARCHAR(200) AS (CONCAT(e, {quoted})) VIRTUAL, \
             d VARCHAR(200) DEFAULT (CONCAT({quoted}, 'x')), \
             KEY {} (e) COMMENT {quoted}, CONSTRAINT {} CHECK (e <> {long})) COMMENT {long}",
            name("k"),
            name("c"),
        ),
        format!(
            "CREATE TABLE {} (a VARCHAR(100) NOT NULL) PARTITION BY LIST COLUMNS (a) \
             (PARTITION {} VALUES IN ({quoted}) COMMENT {quoted})",
            name("p"),
            name("q")
        ),
        format!(
            "INSERT INTO {table} ({column}, e, s) VALUES ({long}, {quoted}, {quoted}), ('', 'other', '')"
        ),
        format!("INSERT INTO {} VALUES ({quoted})", name("p")),
        format!(
            "CREATE VIEW {view} AS SELECT {quoted} AS a, {column} FROM {table} WHERE e <> {quoted}"
        ),
        format!(
            "CREATE TRIGGER {} BEFORE INSERT ON {table} FOR EACH ROW SET NEW.{column} = {quoted}",
            name("g")
        ),
        format!("CREATE PROCEDURE {}() COMMENT {quoted} SELECT {quoted} AS {column}", name("r")),
        format!("CREATE FUNCTION {}() RETURNS TEXT COMMENT {quoted} RETURN {quoted}", name("f")),
        format!(
            "CREATE EVENT {} ON SCHEDULE EVERY 1 DAY COMMENT {quoted} DO SELECT {quoted}",
            name("e")
        ),
    ]
}

/// Code that would write to the canary, if it ran with rights to.
const CODE: [&str; 9] = [
    "CREATE FUNCTION f() RETURNS INT SQL SECURITY INVOKER MODIFIES SQL DATA \
     BEGIN INSERT INTO canary.t VALUES (1); RETURN 1; END",
    "CREATE TABLE t (id INT PRIMARY KEY, a INT DEFAULT (1 + id))",
    "INSERT INTO t (id) VALUES (1), (2)",
    "CREATE VIEW v AS SELECT f() AS a",
    "CREATE SQL SECURITY INVOKER VIEW v_as_invoker AS SELECT f() AS a, t.id FROM t",
    "CREATE VIEW derived AS SELECT * FROM (SELECT f() AS a UNION ALL SELECT id FROM t) AS d",
    "CREATE TRIGGER g BEFORE INSERT ON t FOR EACH ROW SET NEW.a = f()",
    "CREATE TRIGGER h AFTER DELETE ON t FOR EACH ROW DO f()",
    "CREATE EVENT e ON SCHEDULE EVERY 1 SECOND DO INSERT INTO canary.t VALUES (1)",
];

#[tokio::test(flavor = "multi_thread")]
async fn names_texts_and_rows_break_out_of_nothing() {
    let pair = pair().await;
    canaries(pair).await;
    let database = unique("breaks");
    let mut conn = mallory(&pair.source.mariadb, &database).await;
    for (n, text) in BREAKS.iter().enumerate() {
        make(&mut conn, &everywhere(n, text)).await;
    }
    make(&mut conn, &CODE.map(str::to_owned)).await;
    there_and_back(pair, &database).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn names_of_databases_break_out_of_nothing() {
    let pair = pair().await;
    canaries(pair).await;
    for text in BREAKS {
        let mut conn = mallory(&pair.source.mariadb, text).await;
        make(&mut conn, &CODE.map(str::to_owned)).await;
        there_and_back(pair, text).await.unwrap();
    }
}

/// Bodies that two readers, the server and a client, cut at different places: for the one the
/// apostrophe opens a text, for the other it stands in a comment.
const CUT_APART: [&str; 6] = [
    "SELECT 1 --\u{1};;INSERT INTO canary.t VALUES (1);;\n, 2",
    "BEGIN /*!999999 ' */ SELECT ';;\nINSERT INTO canary.t VALUES (1);;\n'; END",
    "BEGIN /*M!999999 ' */ SELECT ';;\nINSERT INTO canary.t VALUES (1);;\n'; END",
    "BEGIN --\u{1}'\n SELECT ';;\nINSERT INTO canary.t VALUES (1);;\n'; END",
    "BEGIN # '\n SELECT ';;\nINSERT INTO canary.t VALUES (1);;\n'; END",
    "BEGIN /*!999999 SELECT 2; END; INSERT INTO canary.t VALUES (1); -- */ SELECT 1; END",
];

#[tokio::test(flavor = "multi_thread")]
async fn a_body_is_not_cut_where_its_maker_likes() {
    let pair = pair().await;
    canaries(pair).await;
    let modes = ["", "NO_BACKSLASH_ESCAPES", "ANSI_QUOTES,NO_BACKSLASH_ESCAPES"];
    for (mode, body) in modes.iter().flat_map(|mode| CUT_APART.map(|body| (mode, body))) {
        let as_trigger = body.replace("SELECT", "SET @a =").replace("\n, 2", "*/\n+ 2");
        for made in [
            format!("CREATE PROCEDURE p() {body}"),
            format!("CREATE TRIGGER g BEFORE INSERT ON t FOR EACH ROW {as_trigger}"),
        ] {
            let database = unique("cut");
            let mut conn = mallory(&pair.source.mariadb, &database).await;
            let settings = format!("SET SESSION sql_mode = '{mode}'");
            make(&mut conn, &[settings, "CREATE TABLE t (a INT)".to_owned(), made.clone()]).await;
            let came = there_and_back(pair, &database).await;
            assert!(came.is_ok(), "{made:?}: {came:?}");
        }
    }
}

/// Objects with this definer, who writes to the canary if he may.
fn defined_by(definer: &str) -> [String; 4] {
    let write = "INSERT INTO canary.t VALUES (1)";
    [
        format!("CREATE DEFINER={definer} PROCEDURE p() {write}"),
        format!("CREATE DEFINER={definer} TRIGGER g BEFORE INSERT ON t FOR EACH ROW {write}"),
        format!(
            "CREATE DEFINER={definer} EVENT e ON SCHEDULE EVERY 1 DAY STARTS CURRENT_TIMESTAMP + INTERVAL 1 DAY DO {write}"
        ),
        format!("CREATE DEFINER={definer} VIEW w AS SELECT * FROM canary.t"),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_definer_is_nobody_else_at_the_destination() {
    let pair = pair().await;
    canaries(pair).await;
    // At the source they are nobody, or as good as nobody; at the destination they may write.
    pair.source.mariadb.execute("CREATE USER webmaster@'%'").await.unwrap();
    let sql = "CREATE USER webmaster@'%'; GRANT INSERT, SELECT ON canary.* TO webmaster@'%'; \
               CREATE USER other_customer@'%'; GRANT INSERT, SELECT ON canary.* TO other_customer@'%'";
    pair.destination.mariadb.execute(sql).await.unwrap();
    let attacks = ["webmaster@'%'", "other_customer@'%'", "drover@'127.%'"];
    for (definer, object) in attacks.iter().flat_map(|d| defined_by(d).map(|o| (d, o))) {
        let database = unique("definer");
        let mut conn = mallory(&pair.source.mariadb, &database).await;
        make(&mut conn, &["CREATE TABLE t (a INT)".to_owned()]).await;
        let sql = format!("USE {database}; SET SESSION sql_mode = ''; {object}");
        pair.source.mariadb.execute(&sql).await.unwrap();
        let failure = there_and_back(pair, &database).await.unwrap_err();
        // A view's function may also be refused at the source already.
        assert_eq!(failure.code, Code::DefinerTaken, "{definer} {object}: {failure}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn definers_that_lend_nothing_are_let_in() {
    let pair = pair().await;
    canaries(pair).await;
    for definer in ["root@localhost", "nobody_anywhere@'%'", "m_CUSTOMER@'%'"] {
        let database = unique("lends");
        let mut conn = mallory(&pair.source.mariadb, &database).await;
        make(&mut conn, &["CREATE TABLE t (a INT)".to_owned()]).await;
        let objects = defined_by(&definer.replace("CUSTOMER", &database)).join("; ");
        let objects = objects.replace("canary.t", "t");
        pair.source.mariadb.execute(&format!("USE {database}; {objects}")).await.unwrap();
        there_and_back(pair, &database).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_merge_table_over_another_database_does_not_move() {
    let pair = pair().await;
    canaries(pair).await;
    let database = unique("merge");
    let mut conn = mallory(&pair.source.mariadb, &database).await;
    let user = format!("m_{database}");
    // At the source the other database is hers as well.
    let sql = format!("GRANT ALL ON canary.* TO {user}@'%'");
    pair.source.mariadb.execute(&sql).await.unwrap();
    let merge = "CREATE TABLE m (a INT) ENGINE=MERGE UNION=(canary.t) INSERT_METHOD=LAST";
    make(&mut conn, &[merge.to_owned()]).await;
    let failure = there_and_back(pair, &database).await.unwrap_err();
    assert_eq!(failure.code, Code::TableElsewhere, "{failure}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_asks_for_a_file_gets_none() {
    const SECRET: &[u8] = b"a file of this machine";
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secret");
    std::fs::write(&file, SECRET).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        let (mut client, _) = listener.accept().await.unwrap();
        send(&mut client, 0, &greeting()).await;
        let _login = receive(&mut client).await;
        send(&mut client, 2, &[0, 0, 0, 2, 0, 0, 0]).await;
        let _query = receive(&mut client).await;
        let ask = [&[0xfb], file.as_os_str().as_encoded_bytes()].concat();
        send(&mut client, 1, &ask).await;
        let mut said = Vec::new();
        let all = client.read_to_end(&mut said);
        let _ = tokio::time::timeout(Duration::from_secs(5), all).await;
        said
    });
    let options = Options::new(address.ip().to_string(), address.port());
    let hostile = Server::new("hostile".parse().unwrap(), options).unwrap();
    let failure = Failure::from(describe(&hostile, "any").await.unwrap_err());
    let said = server.await.unwrap();
    assert!(!said.windows(SECRET.len()).any(|part| part == SECRET), "{failure}");
}

/// A server's first words: who it is, and that it can take files.
fn greeting() -> Vec<u8> {
    let mut greeting = vec![10];
    greeting.extend_from_slice(b"10.11.14-MariaDB\0\x01\0\0\0scramble\0");
    greeting.extend_from_slice(&[0x85, 0xa2, 45, 2, 0, 0x0f, 0, 21]);
    greeting.extend_from_slice(&[0; 10]);
    greeting.extend_from_slice(b"and the rest\0mysql_native_password\0");
    greeting
}

async fn send(to: &mut TcpStream, number: u8, payload: &[u8]) {
    let mut packet = u32::try_from(payload.len()).unwrap().to_le_bytes();
    packet[3] = number;
    to.write_all(&[&packet, payload].concat()).await.unwrap();
}

async fn receive(from: &mut TcpStream) -> Vec<u8> {
    let mut head = [0; 4];
    from.read_exact(&mut head).await.unwrap();
    let mut payload = vec![0; u32::from_le_bytes([head[0], head[1], head[2], 0]) as usize];
    from.read_exact(&mut payload).await.unwrap();
    payload
}
