//! The copy's steps run twice, cut short, overtaken and undone.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test's helpers fail as the test itself does"
)]

mod pair;

use std::time::Duration;

use drover_mysql::{
    Contents, Error, FrameKind, drop_copy, dump, import,
    ledger::{Side, State},
    thaw,
};
use drover_schemas::{Code, Failure, v1};
use drover_testbed::{
    bed::{DEADLINE, eventually},
    seed::{Shape, Site, sow},
};
use pair::{Dumped, Pair, failure, order, pair, unique};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream},
    task::JoinHandle,
};

fn large() -> Site {
    Site::new(&unique("large"), Shape::Large { bytes: 12 << 20 }, 3)
}

/// The destination's ledger: state and revision.
async fn ledger(pair: &Pair, database: &str) -> Option<(State, u64)> {
    let mut session = pair.destination.server.session().await.unwrap();
    let migration = order(database, 1).migration;
    let entry =
        drover_mysql::ledger::read(&mut session, migration, Side::Destination).await.unwrap();
    entry.map(|entry| (entry.state, entry.revision))
}

async fn drop_at(pair: &Pair, database: &str, at: u64) -> Result<(), Error> {
    drop_copy(&pair.destination.server, &order(database, at)).await.map(|_| ())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_and_a_drop_can_be_run_twice_and_stale_orders_are_refused() {
    let pair = pair().await;
    let dumped = pair.dumped(&Site::new(&unique("twice"), Shape::Shop, 1)).await;
    let database = &dumped.database;
    let first = pair.import(&dumped, 10).await.unwrap();
    assert_eq!(pair.import(&dumped, 10).await.unwrap(), first);
    for _ in 0..2 {
        pair.verify(&dumped, 11).await.unwrap();
    }
    // A later import begins anew.
    pair.destination.mariadb.execute(&format!("DELETE FROM {database}.order_lines")).await.unwrap();
    assert_eq!(failure(pair.verify(&dumped, 11).await).code, Code::CopyDiffers);
    pair.import(&dumped, 12).await.unwrap();
    pair.verify(&dumped, 13).await.unwrap();
    assert_eq!(failure(pair.import(&dumped, 10).await).code, Code::LedgerOutdated);
    assert_eq!(failure(drop_at(pair, database, 11).await).code, Code::LedgerOutdated);
    for _ in 0..2 {
        drop_at(pair, database, 14).await.unwrap();
        assert!(!pair.destination.has(database).await);
    }
    for at in [10, 12, 14] {
        assert_eq!(failure(pair.import(&dumped, at).await).code, Code::LedgerOutdated, "{at}");
    }
    assert_eq!(failure(pair.verify(&dumped, 15).await).code, Code::LedgerOutdated);
    assert_eq!(ledger(pair, database).await, Some((State::Dropped, 14)));
    pair.import(&dumped, 16).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drop_of_nothing_refuses_the_import_that_comes_late() {
    let pair = pair().await;
    let dumped = pair.dumped(&Site::new(&unique("late"), Shape::Empty, 1)).await;
    drop_at(pair, &dumped.database, 5).await.unwrap();
    assert_eq!(failure(pair.import(&dumped, 4).await).code, Code::LedgerOutdated);
    assert!(!pair.destination.has(&dumped.database).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_elses_database_is_neither_loaded_into_nor_dropped() {
    let pair = pair().await;
    let dumped = pair.dumped(&Site::new(&unique("taken"), Shape::Forum, 1)).await;
    let database = &dumped.database;
    let sql = format!("CREATE DATABASE {database}; CREATE TABLE {database}.mine (a INT)");
    pair.destination.mariadb.execute(&sql).await.unwrap();
    assert_eq!(failure(pair.import(&dumped, 4).await).code, Code::NameTaken);
    drop_at(pair, database, 5).await.unwrap();
    assert!(pair.destination.has(database).await);
    let tables: u32 = pair
        .destination
        .value(&format!(
            "SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA = '{database}'"
        ))
        .await;
    assert_eq!(tables, 1);
    // When it has gone, the same migration can be tried again.
    pair.destination.mariadb.execute(&format!("DROP DATABASE {database}")).await.unwrap();
    pair.import(&dumped, 6).await.unwrap();
    pair.verify(&dumped, 7).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_an_account_reaches_is_not_loaded() {
    let pair = pair().await;
    let dumped = pair.dumped(&Site::new(&unique("early"), Shape::Empty, 1)).await;
    let user = unique("reacher");
    let sql = format!("CREATE USER {user}; GRANT SELECT ON `early\\_%`.* TO {user}");
    pair.destination.mariadb.execute(&sql).await.unwrap();
    assert_eq!(failure(pair.import(&dumped, 4).await).code, Code::ReachableEarly);
    assert!(!pair.destination.has(&dumped.database).await);
    pair.destination.mariadb.execute(&format!("DROP USER {user}")).await.unwrap();
    pair.import(&dumped, 5).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dump_that_was_changed_anywhere_is_refused() {
    let pair = pair().await;
    let dumped = pair.dumped(&Site::new(&unique("short"), Shape::Shop, 1)).await;
    let whole = &dumped.stored;
    let at = order(&dumped.database, 4);
    let import_of = async |stored: &[u8], contents: &Contents| {
        let result = import(&pair.destination.server, &at, contents, None, stored).await;
        assert_eq!(ledger(pair, &dumped.database).await, Some((State::Importing, 4)));
        failure(result)
    };
    let frames = &dumped.contents.frames;
    let ends = frames.iter().map(|frame| (frame.offset + frame.bytes) as usize);
    // Cut at every frame's end, and at many other places; and a byte flipped at as many.
    for cut in ends.clone().take(frames.len() - 1).chain((0..whole.len()).step_by(997)) {
        let found = import_of(&whole[..cut], &dumped.contents).await;
        assert_eq!(found.code, Code::DumpDamaged, "cut at {cut}: {found}");
    }
    for at in ends.map(|end| end - 1).chain((0..whole.len()).step_by(997)) {
        let mut flipped = whole.clone();
        flipped[at] ^= 4;
        let found = import_of(&flipped, &dumped.contents).await;
        assert_eq!(found.code, Code::DumpDamaged, "flipped at {at}: {found}");
    }
    // A frame that is missing, with the rest as it was.
    for (i, frame) in frames.iter().enumerate() {
        let (start, end) = (frame.offset as usize, (frame.offset + frame.bytes) as usize);
        let without = [&whole[..start], &whole[end..]].concat();
        let found = import_of(&without, &dumped.contents).await;
        assert_eq!(found.code, Code::DumpDamaged, "without frame {i}: {found}");
    }
    // A manifest whose statements are elsewhere.
    let mut contents = dumped.contents.clone();
    let text_bytes = contents.frames[1].text_bytes;
    contents.frames[1].statements = vec![(1, text_bytes)];
    assert_eq!(import_of(whole, &contents).await.code, Code::DumpDamaged);
    contents.frames[1].statements = vec![(3, 5)];
    assert_eq!(import_of(whole, &contents).await.code, Code::SyntaxUnknown);
    pair.import(&dumped, 4).await.unwrap();
    pair.verify(&dumped, 5).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_names_its_table_and_says_nothing_of_the_rows() {
    let pair = pair().await;
    // All of it goes to the server in one packet: others stand around what is refused.
    let sql = "CREATE TABLE s (a INT); INSERT INTO s VALUES (1); \
         CREATE TABLE t (a INT, b TEXT); INSERT INTO t VALUES (4711, 'secret'); \
         CREATE TABLE u (a INT); INSERT INTO u VALUES (1); \
         CREATE TABLE v (a INT); INSERT INTO v VALUES (1)";
    let mut dumped = pair.dumped_from(&unique("twins"), sql).await;
    let of_t = |kind| {
        let frames = &dumped.contents.frames;
        frames.iter().position(|f| f.kind == kind && f.name == "t").unwrap()
    };
    let (rows, tables) = (of_t(FrameKind::Rows), of_t(FrameKind::Table));
    let frame = dumped.contents.frames[rows].clone();
    // The definition makes a key, and the rows come twice.
    let table = &mut dumped.contents.frames[tables];
    let text = b"CREATE TABLE t (a INT PRIMARY KEY, b TEXT)";
    let packed = zstd::bulk::compress(text, 1).unwrap();
    table.statements = vec![(0, text.len() as u64)];
    table.text_bytes = text.len() as u64;
    let (start, end) = (table.offset as usize, (table.offset + table.bytes) as usize);
    table.bytes = packed.len() as u64;
    table.blake3 = blake3::hash(&packed).to_hex().to_string();
    let (rest, again) = (dumped.stored[end..].to_vec(), frame.offset as usize - end);
    dumped.stored = [&dumped.stored[..start], &packed, &rest].concat();
    let twice = rest[again..again + frame.bytes as usize].to_vec();
    let place = start + packed.len() + again;
    dumped.stored.splice(place..place, twice);
    dumped.contents.frames.insert(rows, frame);
    let refused = failure(pair.import(&dumped, 6).await);
    assert_eq!(refused.code, Code::KeyTwice);
    assert!(refused.message.contains("1062"), "{}", refused.message);
    assert!(refused.message.ends_with("(Rows `t`)"), "{}", refused.message);
    for row in ["4711", "secret"] {
        assert!(!refused.message.contains(row), "{}", refused.message);
    }
}

/// An import of whose dump half has come; the rest is for the test to send, or not.
async fn half(pair: &'static Pair, dumped: &Dumped, at: u64) -> (Importing, DuplexStream) {
    let (mut sender, reader) = tokio::io::duplex(64 << 10);
    let (of, contents) = (order(&dumped.database, at), dumped.contents.clone());
    let importing = tokio::spawn(async move {
        import(&pair.destination.server, &of, &contents, None, reader).await
    });
    sender.write_all(&dumped.stored[..dumped.stored.len() / 2]).await.unwrap();
    (importing, sender)
}

type Importing = JoinHandle<Result<v1::ImportCompleted, Error>>;

/// Waits until the loader of a migration is at work, and says which session it is.
async fn loader(pair: &Pair, database: &str) -> u64 {
    let lock = drover_mysql::ledger::copy_lock(order(database, 1).migration, 0);
    let holder = format!("SELECT COALESCE(IS_USED_LOCK('{lock}'), 0)");
    eventually(DEADLINE, || async { Ok(pair.destination.value::<u64>(&holder).await != 0) })
        .await
        .unwrap();
    pair.destination.value(&holder).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loader_that_is_killed_half_way_leaves_what_the_next_attempt_replaces() {
    let pair = pair().await;
    let dumped = pair.dumped(&large()).await;
    let (importing, mut sender) = half(pair, &dumped, 4).await;
    let loader = loader(pair, &dumped.database).await;
    pair.destination.mariadb.execute(&format!("KILL {loader}")).await.unwrap();
    let _ = sender.write_all(&dumped.stored[dumped.stored.len() / 2..]).await;
    drop(sender);
    assert_eq!(failure(importing.await.unwrap()).code, Code::ImportFailed);
    assert_eq!(ledger(pair, &dumped.database).await, Some((State::Importing, 4)));
    assert_eq!(failure(pair.verify(&dumped, 5).await).code, Code::LedgerOutdated);
    pair.import(&dumped, 6).await.unwrap();
    pair.verify(&dumped, 7).await.unwrap();
}

/// The session that holds a migration's lock at the destination.
async fn holder(pair: &Pair, database: &str) -> u64 {
    let lock = drover_mysql::ledger::migration_lock(order(database, 1).migration);
    pair.destination.value(&format!("SELECT COALESCE(IS_USED_LOCK('{lock}'), 0)")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_was_overtaken_writes_nothing_into_the_newer_copy() {
    let pair = pair().await;
    let dumped = pair.dumped(&large()).await;
    let database = &dumped.database;
    let (paused, mut sender) = half(pair, &dumped, 4).await;
    loader(pair, database).await;
    // While it is at work, nobody else gets in.
    assert_eq!(failure(pair.import(&dumped, 6).await).code, Code::LedgerBusy);
    // Its session with the lock ends, as the server ends it when it is silent for too long; its
    // loader is still there.
    let lost = holder(pair, database).await;
    pair.destination.mariadb.execute(&format!("KILL {lost}")).await.unwrap();
    pair.import(&dumped, 6).await.unwrap();
    pair.verify(&dumped, 7).await.unwrap();
    // It wakes up and goes on.
    let _ = sender.write_all(&dumped.stored[dumped.stored.len() / 2..]).await;
    drop(sender);
    assert!(paused.await.unwrap().is_err());
    pair.verify(&dumped, 7).await.unwrap();
    assert_eq!(ledger(pair, database).await, Some((State::Imported, 7)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drop_ends_the_loader_first() {
    let pair = pair().await;
    let dumped = pair.dumped(&large()).await;
    let database = &dumped.database;
    let (paused, mut sender) = half(pair, &dumped, 4).await;
    loader(pair, database).await;
    let lost = holder(pair, database).await;
    pair.destination.mariadb.execute(&format!("KILL {lost}")).await.unwrap();
    drop_at(pair, database, 6).await.unwrap();
    let _ = sender.write_all(&dumped.stored[dumped.stored.len() / 2..]).await;
    drop(sender);
    assert!(paused.await.unwrap().is_err());
    assert!(!pair.destination.has(database).await);
    assert_eq!(ledger(pair, database).await, Some((State::Dropped, 6)));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_imports_at_the_same_time_one_goes_on_and_both_end_in_the_same_copy() {
    let pair = pair().await;
    let dumped = pair.dumped(&Site::new(&unique("both"), Shape::Wordpress, 1)).await;
    let (a, b) = tokio::join!(pair.import(&dumped, 4), pair.import(&dumped, 4));
    assert!(a.is_ok() || b.is_ok());
    for result in [a, b] {
        if let Err(error) = result {
            assert_eq!(Failure::from(error).code, Code::LedgerBusy);
        }
    }
    pair.verify(&dumped, 5).await.unwrap();
}

/// A dump under way, of which the first bytes have come.
async fn dumping(pair: &'static Pair, database: &str) -> (Dumping, DuplexStream) {
    let (mut sender, mut reader) = tokio::io::duplex(64 << 10);
    let of = order(database, 2);
    let dumping = tokio::spawn(async move {
        dump(&pair.source.server, &of, &[], drover_mysql::Form::Zstd, &mut sender).await
    });
    reader.read_exact(&mut vec![0; 1 << 20]).await.unwrap();
    (dumping, reader)
}

type Dumping = JoinHandle<Result<Contents, Error>>;

#[tokio::test(flavor = "multi_thread")]
async fn a_dump_whose_session_is_killed_never_looks_complete() {
    let pair = pair().await;
    let site = Site::new(&unique("killed"), Shape::Large { bytes: 40 << 20 }, 3);
    let database = &site.database;
    sow(&pair.source.mariadb, std::slice::from_ref(&site)).await.unwrap();
    drover_mysql::freeze(&pair.source.server, &order(database, 1), Duration::ZERO).await.unwrap();
    let (dumping, mut reader) = dumping(pair, database).await;
    let sql = format!(
        "SELECT ID FROM information_schema.PROCESSLIST WHERE DB = '{database}' \
         AND USER = 'drover' LIMIT 1"
    );
    let id: u64 = pair.source.value(&sql).await;
    pair.source.mariadb.execute(&format!("KILL {id}")).await.unwrap();
    reader.read_to_end(&mut Vec::new()).await.unwrap();
    assert_eq!(failure(dumping.await.unwrap()).code, Code::DumpFailed);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_frozen_source_is_dumped_and_one_thawed_meanwhile_is_noticed() {
    let pair = pair().await;
    let site = large();
    let database = &site.database;
    let server = &pair.source.server;
    sow(&pair.source.mariadb, std::slice::from_ref(&site)).await.unwrap();
    let refused =
        dump(server, &order(database, 2), &[], drover_mysql::Form::Zstd, &mut Vec::new()).await;
    assert_eq!(failure(refused).code, Code::NotFrozen);
    drover_mysql::freeze(server, &order(database, 1), Duration::ZERO).await.unwrap();
    let (dumping, mut reader) = dumping(pair, database).await;
    thaw(server, &order(database, 3)).await.unwrap();
    reader.read_to_end(&mut Vec::new()).await.unwrap();
    assert_eq!(failure(dumping.await.unwrap()).code, Code::NotFrozen);
}
