//! A row of 64 MB of bytes that nothing compresses, between servers that take a packet of that size.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail as the test itself does")]

mod pair;

use drover_testbed::Bed;
use pair::{Pair, end};

/// The row's long value, in bytes.
const ROW_BYTES: usize = 64 << 20;

/// Servers take a packet of four such rows.
const PACKETS: &[&str] = &["--max-allowed-packet=256M"];

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
    pair.import(&dumped, 3).await.unwrap();
    pair.verify(&dumped, 4).await.unwrap();
    let sql = "SELECT GROUP_CONCAT(id, ' ', SHA2(COALESCE(b, '-'), 256)) FROM long_row.t";
    assert_eq!(pair.source.value::<String>(sql).await, pair.destination.value::<String>(sql).await);
}
