//! The store over a folder: what is read is what was written, or an error.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use drover_dumpstore::{Attempt, Error, Key, Object, Options, Store, Written};
use drover_schemas::{CampaignName, Code, Failure, MigrationId};
use futures::TryStreamExt as _;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, ReadBuf};

const PART_BYTES: usize = 8 << 20;

struct Bed {
    dir: tempfile::TempDir,
    store: Store,
}

fn bed() -> Bed {
    let dir = tempfile::tempdir().unwrap();
    let url = dir.path().join("store").to_str().unwrap().to_owned();
    let store = Store::open(&Options { url, fsync: false, ..Options::default() }).unwrap();
    Bed { dir, store }
}

impl Bed {
    fn file(&self, key: &Key) -> PathBuf {
        self.dir.path().join("store").join(key.to_string())
    }

    fn files(&self) -> Vec<PathBuf> {
        fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() { walk(&path, found) } else { found.push(path) }
            }
        }
        let mut found = Vec::new();
        walk(self.dir.path(), &mut found);
        found
    }
}

fn campaign() -> CampaignName {
    "night-1".parse().unwrap()
}

fn migration() -> MigrationId {
    MigrationId::new(&campaign(), &"src".parse().unwrap(), "wp")
}

fn attempt(run: u32) -> Attempt {
    Attempt::new(campaign(), migration(), run, 1)
}

/// Bytes of no pattern, the same each time.
fn bytes(count: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    std::iter::repeat_with(next).take(count).collect()
}

async fn read(store: &Store, key: &Key, written: &Written) -> Result<Vec<u8>, Error> {
    let mut content = Vec::new();
    let mut reader = store.read(key, written).await?;
    reader.read_to_end(&mut content).await.map_err(Error::from_io)?;
    Ok(content)
}

fn code(error: Error) -> Code {
    Failure::from(error).code
}

#[tokio::test]
async fn what_was_written_is_read() {
    let bed = bed();
    for count in [0, 1, 70_000, PART_BYTES - 1, PART_BYTES, PART_BYTES + 1, 3 * PART_BYTES + 5] {
        let key = attempt(1).key(Object::Dump);
        let content = bytes(count);
        let written = bed.store.put(&key, content.as_slice()).await.unwrap();
        assert_eq!(written.bytes, count as u64);
        assert_eq!(bed.store.size(&key).await.unwrap(), Some(count as u64));
        assert!(read(&bed.store, &key, &written).await.unwrap() == content, "{count}");
    }
    assert!(bed.files().iter().all(|file| !file.to_string_lossy().contains('#')));
}

#[tokio::test]
async fn the_digest_is_sha256() {
    let bed = bed();
    let written = bed.store.put_small(&attempt(1).key(Object::Manifest), b"abc").await.unwrap();
    // FIPS 180-2, appendix B.1.
    let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(written.sha256, expected);
}

#[tokio::test]
async fn a_changed_object_is_refused_before_its_last_byte() {
    let bed = bed();
    let (key, content) = (attempt(1).key(Object::Dump), bytes(300_000));
    let written = bed.store.put(&key, content.as_slice()).await.unwrap();
    for at in [0, 150_000, 299_999] {
        let mut changed = content.clone();
        changed[at] ^= 1;
        fs::write(bed.file(&key), &changed).unwrap();
        let mut reader = bed.store.read(&key, &written).await.unwrap();
        let mut taken = Vec::new();
        let error = reader.read_to_end(&mut taken).await.unwrap_err();
        assert_eq!(code(Error::from_io(error)), Code::StoreCorrupt);
        assert!(taken.len() < content.len());
        // Reading on does not help.
        assert!(reader.read(&mut [0; 10]).await.is_err());
    }
}

#[tokio::test]
async fn a_shorter_or_longer_object_is_refused() {
    let bed = bed();
    let (key, content) = (attempt(1).key(Object::Dump), bytes(300_000));
    let written = bed.store.put(&key, content.as_slice()).await.unwrap();
    for count in [0, 1, 299_999] {
        fs::write(bed.file(&key), &content[..count]).unwrap();
        let error = read(&bed.store, &key, &written).await.unwrap_err();
        assert_eq!(code(error), Code::StoreCorrupt, "{count}");
    }
    fs::write(bed.file(&key), bytes(300_001)).unwrap();
    assert_eq!(code(read(&bed.store, &key, &written).await.unwrap_err()), Code::StoreCorrupt);
}

#[tokio::test]
async fn an_object_that_changes_its_length_while_it_is_read_is_refused() {
    let bed = bed();
    let (key, content) = (attempt(1).key(Object::Dump), bytes(2_000_000));
    let written = bed.store.put(&key, content.as_slice()).await.unwrap();
    for length in [1_000_000, 3_000_000] {
        fs::write(bed.file(&key), &content).unwrap();
        let mut reader = bed.store.read(&key, &written).await.unwrap();
        reader.read_exact(&mut [0; 10]).await.unwrap();
        fs::File::options().write(true).open(bed.file(&key)).unwrap().set_len(length).unwrap();
        let error = reader.read_to_end(&mut Vec::new()).await.unwrap_err();
        assert_eq!(code(Error::from_io(error)), Code::StoreCorrupt, "{length}");
    }
}

#[tokio::test]
async fn a_missing_object_is_named() {
    let bed = bed();
    let key = attempt(1).key(Object::Dump);
    let written = Written { bytes: 3, sha256: String::new() };
    let error = read(&bed.store, &key, &written).await.unwrap_err();
    assert!(error.to_string().contains(&key.to_string()), "{error}");
    assert_eq!(code(error), Code::StoreMissing);
    assert_eq!(bed.store.size(&key).await.unwrap(), None);
    assert_eq!(code(bed.store.get_small(&key, None).await.unwrap_err()), Code::StoreMissing);
}

#[tokio::test]
async fn small_objects_are_bounded_and_checked() {
    let bed = bed();
    let key = attempt(1).key(Object::Manifest);
    let written = bed.store.put_small(&key, b"{}").await.unwrap();
    assert_eq!(bed.store.get_small(&key, Some(&written.sha256)).await.unwrap(), b"{}");
    assert_eq!(bed.store.get_small(&key, None).await.unwrap(), b"{}");
    fs::write(bed.file(&key), b"[]").unwrap();
    let error = bed.store.get_small(&key, Some(&written.sha256)).await.unwrap_err();
    assert_eq!(code(error), Code::StoreCorrupt);
    let file = fs::File::create(bed.file(&key)).unwrap();
    file.set_len(drover_dumpstore::SMALL_BYTES_MAX + 1).unwrap();
    assert_eq!(code(bed.store.get_small(&key, None).await.unwrap_err()), Code::StoreTooLarge);
}

#[tokio::test]
async fn a_range_is_cut_out() {
    let bed = bed();
    let (key, content) = (attempt(1).key(Object::Dump), bytes(600_000));
    bed.store.put(&key, content.as_slice()).await.unwrap();
    for range in [0..1, 100..400_000, 599_999..600_000] {
        let mut part = Vec::new();
        let wanted = range.start as u64..range.end as u64;
        let mut reader = bed.store.read_range(&key, wanted).await.unwrap();
        reader.read_to_end(&mut part).await.unwrap();
        assert!(part == content[range]);
    }
}

/// Gives some bytes, then fails.
struct Failing(usize);

impl AsyncRead for Failing {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.0 == 0 {
            return Poll::Ready(Err(io::Error::other("the pipe broke")));
        }
        let count = self.0.min(buf.remaining());
        buf.put_slice(&vec![7; count]);
        self.0 -= count;
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn a_writer_that_fails_or_is_dropped_leaves_nothing() {
    let bed = bed();
    for count in [100, PART_BYTES + 1, 4 * PART_BYTES] {
        let key = attempt(1).key(Object::Dump);
        let error = bed.store.put(&key, Failing(count)).await.unwrap_err();
        assert!(error.to_string().contains("the pipe broke"), "{error}");
        let mut writer = bed.store.write(&key);
        writer.write_all(&bytes(count)).await.unwrap();
        writer.shutdown().await.unwrap();
        assert_eq!(bed.store.size(&key).await.unwrap(), None);
        drop(writer);
        assert_eq!(bed.store.size(&key).await.unwrap(), None);
    }
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while !bed.files().is_empty() {
        assert!(tokio::time::Instant::now() < deadline, "{:?}", bed.files());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn what_a_killed_writer_left_is_invisible_and_swept() {
    let bed = bed();
    let (old, kept, later) = (attempt(1), attempt(1), attempt(2));
    // What a killed writer leaves: a file under the name of an upload.
    let left = bed.file(&old.key(Object::Dump)).with_file_name("dump.sql.zst#1");
    fs::create_dir_all(left.parent().unwrap()).unwrap();
    fs::File::create(&left).unwrap().write_all(b"half").unwrap();
    for attempt in [&old, &kept, &later] {
        bed.store.put_small(&attempt.key(Object::Manifest), b"{}").await.unwrap();
    }
    assert_eq!(bed.store.size(&old.key(Object::Dump)).await.unwrap(), None);

    bed.store.sweep(&campaign(), migration(), 1, Some(&kept)).await.unwrap();
    let listed = |bed: &Bed| bed.store.list(&campaign(), None).try_collect::<Vec<_>>();
    let keys: Vec<Key> = listed(&bed).await.unwrap().into_iter().map(|s| s.key).collect();
    assert_eq!(keys.len(), 2);
    assert!(keys.contains(&kept.key(Object::Manifest)));
    assert!(keys.contains(&later.key(Object::Manifest)));
    assert!(!left.exists());

    for _ in 0..2 {
        bed.store.sweep(&campaign(), migration(), 2, None).await.unwrap();
    }
    assert!(listed(&bed).await.unwrap().is_empty());
    assert!(bed.files().is_empty());
}

#[tokio::test]
async fn deleting_twice_is_deleting_once() {
    let bed = bed();
    let key = attempt(1).key(Object::Accounts);
    bed.store.put_small(&key, b"sealed").await.unwrap();
    for _ in 0..2 {
        bed.store.delete(&key).await.unwrap();
        assert_eq!(bed.store.size(&key).await.unwrap(), None);
    }
}

#[tokio::test]
async fn of_a_migration_that_ends_the_accounts_go_and_the_rest_stays() {
    let bed = bed();
    let (old, later) = (attempt(1), attempt(2));
    for attempt in [&old, &later] {
        for object in [Object::Dump, Object::Manifest, Object::Accounts] {
            bed.store.put_small(&attempt.key(object), b"1").await.unwrap();
        }
    }
    // What a killed writer leaves.
    let half = bed.file(&old.key(Object::Accounts)).with_file_name("accounts.age#1");
    fs::write(&half, b"half").unwrap();
    for _ in 0..2 {
        bed.store.delete_accounts(&campaign(), migration(), 1).await.unwrap();
        assert_eq!(bed.store.size(&old.key(Object::Accounts)).await.unwrap(), None);
        assert!(!half.exists());
        for kept in [
            old.key(Object::Dump),
            old.key(Object::Manifest),
            later.key(Object::Accounts),
            later.key(Object::Dump),
        ] {
            assert_eq!(bed.store.size(&kept).await.unwrap(), Some(1), "{kept}");
        }
    }
    let nothing_there = "night-2".parse().unwrap();
    bed.store.delete_accounts(&nothing_there, migration(), 9).await.unwrap();
}

#[tokio::test]
async fn a_migrations_objects_are_listed() {
    let bed = bed();
    let other = MigrationId::new(&campaign(), &"src".parse().unwrap(), "other");
    let here = attempt(1).key(Object::Dump);
    let there = Attempt::new(campaign(), other, 1, 1).key(Object::Dump);
    bed.store.put_small(&here, b"12345").await.unwrap();
    bed.store.put_small(&there, b"1").await.unwrap();
    fs::write(bed.dir.path().join("store/night-1/foreign"), b"x").unwrap();
    let listed: Vec<_> =
        bed.store.list(&campaign(), Some(migration())).try_collect().await.unwrap();
    assert_eq!((listed.len(), &listed[0].key, listed[0].bytes), (1, &here, 5));
    let all: Vec<_> = bed.store.list(&campaign(), None).try_collect().await.unwrap();
    assert_eq!(all.len(), 2);
    let none = "night-2".parse().unwrap();
    assert!(bed.store.list(&none, None).try_collect::<Vec<_>>().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_store_that_fails_says_so() {
    let bed = bed();
    let folder = bed.dir.path().join("store/night-1");
    fs::write(&folder, b"in the way").unwrap();
    let key = attempt(1).key(Object::Dump);
    for count in [10, 2 * PART_BYTES] {
        let error = bed.store.put(&key, bytes(count).as_slice()).await.unwrap_err();
        assert_eq!(code(error), Code::StoreFailed);
    }
}

#[test]
fn nobody_else_enters_the_folder() {
    use std::os::unix::fs::PermissionsExt as _;
    let bed = bed();
    let mode = fs::metadata(bed.dir.path().join("store")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[test]
fn a_wrong_configuration_is_refused() {
    let open = |url: &str| {
        let options = Options { url: url.to_owned(), ..Options::default() };
        code(Store::open(&options).unwrap_err())
    };
    for url in ["", "ftp://a/b", "https://a/b", "/dev/null/store", "file://host/share"] {
        assert_eq!(open(url), Code::StoreConfiguration, "{url}");
    }
}
