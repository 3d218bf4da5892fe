//! A large object passes through in bounded memory. A test program of its own: it looks at the
//! whole process.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use drover_dumpstore::{Attempt, Object, Options, Store};
use drover_schemas::{CampaignName, MigrationId};
use tokio::io::{AsyncRead, AsyncReadExt as _, ReadBuf};

const BYTES: u64 = 400 << 20;
/// Three parts of 8 MiB while writing, and what the allocator keeps.
const GROWTH_KB_MAX: u64 = 48 << 10;

/// The most memory that this process has had, in kB.
fn peak_kb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// A source that is faster than any disk.
struct Endless;

impl AsyncRead for Endless {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let count = buf.remaining();
        buf.initialize_unfilled().fill(b'x');
        buf.advance(count);
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn a_large_object_passes_in_bounded_memory() {
    let dir = tempfile::tempdir().unwrap();
    let url = dir.path().to_str().unwrap().to_owned();
    let store = Store::open(&Options { url, fsync: false, ..Options::default() }).unwrap();
    let campaign: CampaignName = "c".parse().unwrap();
    let id = MigrationId::new(&campaign, &"s".parse().unwrap(), "large");
    let key = Attempt::new(campaign, id, 1, 1).key(Object::Dump);
    let before = peak_kb();

    let written = store.put(&key, Endless.take(BYTES)).await.unwrap();
    assert_eq!(written.bytes, BYTES);
    let mut reader = store.read(&key, &written).await.unwrap();
    let read = tokio::io::copy(&mut reader, &mut tokio::io::sink()).await.unwrap();
    assert_eq!(read, BYTES);

    let growth = peak_kb() - before;
    assert!(growth < GROWTH_KB_MAX, "{growth} kB");
}
