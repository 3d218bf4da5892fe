//! Rows that are too long to be in memory whole: one of 64 MB of bytes that nothing compresses, and long
//! values in every kind of table.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail as the test itself does")]

mod pair;

use drover_testbed::Bed;
use pair::{Dumped, Pair, end, failure, pair, third};

/// The row's long value, in bytes.
const ROW_BYTES: usize = 64 << 20;

/// Servers take a value of that size, and no more.
const PACKETS: &[&str] = &["--max-allowed-packet=64M"];

/// No frame of rows unpacks to more, in bytes, however long a row is: what is begun is ended first, and
/// every byte of a piece may be escaped.
const FRAME_BYTES_MAX: u64 = 4 << 20;

fn frames_are_small(dumped: &Dumped) {
    let longest = dumped.contents.frames.iter().map(|frame| frame.text_bytes).max();
    assert!(longest.unwrap() < FRAME_BYTES_MAX, "{longest:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_of_64_mb_arrives() {
    let bed = Bed::new().unwrap();
    let (source, destination) =
        tokio::join!(end(&bed, "source", PACKETS), end(&bed, "destination", PACKETS));
    let pair = Pair { source, destination };
    let sql = format!(
        "CREATE TABLE t (id INT PRIMARY KEY, b LONGBLOB); SET group_concat_max_len = {ROW_BYTES}; \
         INSERT INTO t SELECT 2, GROUP_CONCAT(RANDOM_BYTES(1024) SEPARATOR '') FROM seq_1_to_{}; \
         INSERT INTO t VALUES (1, 'short'), (3, NULL)",
        ROW_BYTES >> 10
    );
    let dumped = pair.dumped_from("long_row", &sql).await;
    assert!(dumped.stored.len() > ROW_BYTES, "it is in the dump");
    frames_are_small(&dumped);
    pair.import(&dumped, 3).await.unwrap();
    pair.verify(&dumped, 4).await.unwrap();
    let sql = "SELECT GROUP_CONCAT(id, ' ', SHA2(COALESCE(b, '-'), 256)) FROM long_row.t";
    let hashes = pair.source.value::<String>(sql).await;
    assert_eq!(hashes, pair.destination.value::<String>(sql).await);
}

/// Texts whose characters the pieces cut; names and values that a piece's query could take for its own;
/// a column that the server computes; rows that are equal; a history; a table of others' rows.
const TABLES: &str = "SET NAMES utf8mb4, @text = REPEAT('äü€''\\\\\\n', 120000), @bytes = REPEAT(x'00ff1a27', 200000); \
     CREATE TABLE t (id BIGINT PRIMARY KEY, n INT, a LONGTEXT CHARACTER SET utf8mb4, d TEXT, \
     `nn ``'` MEDIUMBLOB, f FLOAT, u LONGTEXT CHARACTER SET utf8mb4 AS (CONCAT(a, 'é')) VIRTUAL, \
     p POINT NOT NULL) CHARACTER SET latin1; \
     INSERT INTO t (id, n, a, d, `nn ``'`, f, p) VALUES (-5, 1, 'short', 'é', x'00', 0.1, POINT(1, 2)), \
     (1, 2, @text, NULL, NULL, 0.2, POINT(3, 4)), (2, 3, NULL, 'é', @bytes, 1e30, POINT(5, 6)), \
     (3, 4, CONCAT(@text, @text), 'x', CONCAT(@bytes, x'01'), NULL, POINT(7, 8)), \
     (4, 5, '', '', '', 0, POINT(0, 0)), (9, 6, LEFT(@text, 130000), 'x', NULL, 3, POINT(1, 1)); \
     CREATE TABLE d SELECT a FROM t; INSERT INTO d SELECT a FROM t; \
     CREATE TABLE v (k VARCHAR(20), l INT, b LONGBLOB, PRIMARY KEY (k, l)) CHARACTER SET utf8mb4; \
     INSERT INTO v VALUES ('é', 1, @bytes), ('é''', 2, 'x'), ('e', 3, CONCAT(@bytes, @bytes)); \
     CREATE TABLE old (id INT PRIMARY KEY, b LONGBLOB) WITH SYSTEM VERSIONING; \
     INSERT INTO old VALUES (1, @bytes), (2, 'x'); UPDATE old SET b = 'short' WHERE id = 1; \
     UPDATE old SET b = CONCAT(@bytes, 'x') WHERE id = 1; DELETE FROM old WHERE id = 2; \
     SET timestamp = 1234567890.000001; INSERT INTO old VALUES (7, @bytes), (8, 'x'), (9, CONCAT(@bytes, @text, @bytes)); \
     DELETE FROM old WHERE id > 2; SET timestamp = DEFAULT; \
     CREATE TABLE m (id INT, b LONGBLOB, KEY (id)) ENGINE=MyISAM; \
     CREATE TABLE merged (id INT, b LONGBLOB, KEY (id)) ENGINE=MERGE UNION=(m); \
     INSERT INTO m VALUES (1, @bytes), (1, 'x'), (2, @bytes); \
     CREATE TABLE part (id INT PRIMARY KEY, b LONGBLOB) PARTITION BY HASH (id) PARTITIONS 3; \
     INSERT INTO part SELECT id + 10, a FROM t";

#[tokio::test(flavor = "multi_thread")]
async fn long_values_in_every_kind_of_table_arrive() {
    let pair = pair().await;
    let dumped = pair.dumped_from("long_values", TABLES).await;
    frames_are_small(&dumped);
    pair.import(&dumped, 3).await.unwrap();
    pair.verify(&dumped, 4).await.unwrap();
    let other = third().await;
    other.mariadb.execute("CREATE DATABASE long_values").await.unwrap();
    other.stock_load("long_values", &dumped.text()).await;
    // Rows without a key may come in another order: the long ones stand behind. And with it, in other
    // INSERTs.
    let rows = |text: &str| {
        let lines = text.lines().filter(|line| !line.starts_with("INSERT INTO"));
        let mut rows: Vec<String> =
            lines.map(|line| line.trim_end_matches([',', ';']).to_owned()).collect();
        rows.sort_unstable();
        rows
    };
    let before = rows(&pair.source.stock_dump("long_values"));
    for end in [&pair.destination, &other] {
        let after = rows(&end.stock_dump("long_values"));
        let differs = before.iter().zip(&after).find(|(a, b)| a != b);
        let short = |line: &String| line.chars().take(80).collect::<String>();
        assert!(before == after, "{:?}", differs.map(|(a, b)| [short(a), short(b)]));
    }
    let changed = "UPDATE long_values.t SET a = CONCAT(LEFT(a, 2000000), 'x', SUBSTRING(a, 2000002)) \
         WHERE id = 3; UPDATE long_values.t SET d = 'y' WHERE id = 9";
    let before = pair.destination.value::<u64>("SELECT SUM(LENGTH(a)) FROM long_values.t").await;
    pair.destination.mariadb.execute(changed).await.unwrap();
    let after = pair.destination.value::<u64>("SELECT SUM(LENGTH(a)) FROM long_values.t").await;
    assert!(before.abs_diff(after) < 4);
    let refused = failure(pair.verify(&dumped, 5).await).message;
    assert!(refused.contains("where `id` is 3 to 3, 4 to 9"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_the_destination_cannot_join_is_refused() {
    let bed = Bed::new().unwrap();
    let (source, destination) = tokio::join!(
        end(&bed, "source", &[]),
        end(&bed, "destination", &["--max-allowed-packet=4M"])
    );
    let pair = Pair { source, destination };
    let sql = "CREATE TABLE t (b LONGBLOB); INSERT INTO t VALUES (REPEAT('x', 4 << 20)), ('y')";
    let fits = pair.dumped_from("fits", sql).await;
    pair.import(&fits, 3).await.unwrap();
    pair.verify(&fits, 4).await.unwrap();
    let large = pair.dumped_from("large", &sql.replace("4 << 20", "(4 << 20) + 1")).await;
    let refused = failure(pair.import(&large, 3).await);
    assert_eq!(refused.code, drover_schemas::Code::PacketTooSmall, "{refused:?}");
}
