//! The door as a client sees it: a real bus with a migration's history, a store in a folder.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::{
    collections::HashMap, net::SocketAddr, os::unix::fs::PermissionsExt as _, time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use drover_bus::Bus;
use drover_console::{Error, Options, Service};
use drover_dumpstore::{
    Attempt, Key, Object, Store,
    link::{self, Signer},
};
use drover_schemas::{
    CampaignName, MigrationId,
    envelope::CloudEvent,
    subjects::History,
    v1::{DumpExpired, DumpPublished, DumpStored, MigrationPlanned, migration_event::Event},
};
use drover_testbed::{Bed, Nats, bed};
use proptest::{
    prelude::*,
    strategy::{Strategy, ValueTree as _},
    test_runner::TestRunner,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

const DATABASE: &str = "Müllers \"shop\"\r\nX-Evil: 1";

struct World {
    address: SocketAddr,
    bus: Bus,
    store: Store,
    signer: Signer,
    campaign: CampaignName,
    shutdown: CancellationToken,
    running: JoinHandle<Result<(), Error>>,
    nats: Nats,
    bed: Bed,
}

async fn world(options: Options) -> World {
    let bed = Bed::new().unwrap();
    let nats = Nats::start(&bed).unwrap();
    let url = nats.url();
    let bus_options = drover_bus::Options { url, ..drover_bus::Options::default() };
    let bus = Bus::connect(&bus_options, "console-test").await.unwrap();
    let campaign: CampaignName = "night-1".parse().unwrap();
    bus.ensure_base().await.unwrap();
    bus.ensure_campaign(&campaign).await.unwrap();

    let url = bed.dir().join("store").to_str().unwrap().to_owned();
    let store_options =
        drover_dumpstore::Options { url, fsync: false, ..drover_dumpstore::Options::default() };
    let store = Store::open(&store_options).unwrap();
    let key_file = bed.dir().join("link-key");
    std::fs::write(&key_file, "k".repeat(32)).unwrap();
    std::fs::set_permissions(&key_file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let address = SocketAddr::new(bed.address().unwrap(), 8080);
    let links = link::Options { public_url: format!("http://{address}"), key_file };
    let signer = Signer::open(&links).unwrap();

    let shutdown = CancellationToken::new();
    let service =
        Service::new(Options { listen: address, ..options }, &links, store.clone()).unwrap();
    let running = tokio::spawn(service.run(bus.clone(), shutdown.clone()));
    bed::eventually(bed::DEADLINE, async || Ok(TcpStream::connect(address).await.is_ok()))
        .await
        .unwrap();
    World { address, bus, store, signer, campaign, shutdown, running, nats, bed }
}

#[derive(Debug)]
struct Answer {
    status: u16,
    headers: HashMap<String, String>,
    body: Vec<u8>,
}

impl Answer {
    fn parse(bytes: &[u8]) -> Self {
        let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
            // Closed before an answer.
            return Self { status: 0, headers: HashMap::new(), body: Vec::new() };
        };
        let head = std::str::from_utf8(&bytes[..end]).unwrap();
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers = lines.map(|line| {
            let (name, value) = line.split_once(": ").unwrap();
            (name.to_ascii_lowercase(), value.to_owned())
        });
        Self { status, headers: headers.collect(), body: bytes[end + 4..].to_vec() }
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

impl World {
    async fn append(&self, id: MigrationId, event: Event) {
        let (source, destination) = ("old-1".parse().unwrap(), "new-1".parse().unwrap());
        let history = History::Migration { id, source, destination };
        let last = self.bus.last(&self.campaign, &history).await.unwrap();
        let revision = last.map_or(0, |recorded| recorded.sequence);
        let event = CloudEvent::migration(event, "drover/test/1", Utc::now());
        self.bus.append(&self.campaign, &history, revision, &event).await.unwrap();
    }

    /// Stores a dump and its event.
    async fn store(&self, id: MigrationId, run: u32, content: &[u8]) -> Key {
        let key = Attempt::new(self.campaign.clone(), id, run, 1).key(Object::Dump);
        let written = self.store.put(&key, content).await.unwrap();
        let stored = DumpStored {
            dump_object: key.to_string(),
            dump_bytes: written.bytes,
            dump_sha256: written.sha256,
            ..DumpStored::default()
        };
        self.append(id, Event::DumpStored(stored)).await;
        key
    }

    async fn publish(&self, id: MigrationId) {
        self.append(id, Event::DumpPublished(DumpPublished::default())).await;
    }

    fn id(&self, name: &str) -> MigrationId {
        MigrationId::new(&self.campaign, &"old-1".parse().unwrap(), name)
    }

    /// A migration whose dump is published.
    async fn published(&self, name: &str, content: &[u8]) -> (MigrationId, Key) {
        let id = self.id(name);
        let planned =
            MigrationPlanned { database: DATABASE.to_owned(), ..MigrationPlanned::default() };
        self.append(id, Event::MigrationPlanned(planned)).await;
        let key = self.store(id, 1, content).await;
        self.publish(id).await;
        (id, key)
    }

    fn link(&self, id: MigrationId, expires: DateTime<Utc>) -> String {
        let link = self.signer.signed(&self.campaign, id, expires);
        link.strip_prefix(&format!("http://{}", self.address)).unwrap().to_owned()
    }

    fn good_link(&self, id: MigrationId) -> String {
        self.link(id, Utc::now() + TimeDelta::days(30))
    }

    async fn ask(&self, method: &str, path: &str, headers: &str) -> Answer {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let request =
            format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await.unwrap();
        Answer::parse(&bytes)
    }

    async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, "").await
    }
}

#[tokio::test]
async fn links_open_what_they_should_and_nothing_else() {
    let world = world(Options::default()).await;
    let content: Vec<u8> = (0..200_000_u32).map(|i| (i % 251) as u8).collect();
    let (id, key) = world.published("shop", &content).await;
    let link = world.good_link(id);

    let answer = world.get(&link).await;
    assert_eq!(answer.status, 200);
    assert!(answer.body == content);
    assert_eq!(answer.header("content-length"), "200000");
    assert_eq!(answer.header("content-type"), "application/zstd");
    assert_eq!(answer.header("cache-control"), "private, no-store");
    assert_eq!(answer.header("x-evil"), "");
    let disposition = answer.header("content-disposition");
    assert!(disposition.contains("M%C3%BCllers%20_shop___X-Evil_%201.sql.zst"), "{disposition}");

    let head = world.ask("HEAD", &link, "").await;
    assert_eq!((head.status, head.header("content-length")), (200, "200000"));
    assert!(head.body.is_empty());

    // An interrupted download goes on, if the bytes are the same still.
    let tag = answer.header("etag");
    let range = format!("Range: bytes=199990-\r\nIf-Range: {tag}\r\n");
    let part = world.ask("GET", &link, &range).await;
    assert_eq!((part.status, part.header("content-range")), (206, "bytes 199990-199999/200000"));
    assert!(part.body == content[199_990..]);
    let whole = world.ask("GET", &link, "Range: bytes=9-\r\nIf-Range: \"other\"\r\n").await;
    assert_eq!((whole.status, whole.body.len()), (200, 200_000));
    let beyond = world.ask("GET", &link, "Range: bytes=200000-\r\n").await;
    assert_eq!((beyond.status, beyond.header("content-range")), (416, "bytes */200000"));

    // Forged, cut, or for something else.
    let (other, _) = world.published("other", b"other").await;
    let forged = [
        link.replace(&id.to_string(), &other.to_string()),
        link.replace("night-1", "night-2"),
        link.replace("expires=", "expires=9"),
        link[..link.len() - 1].to_owned(),
        link.split('?').next().unwrap().to_owned(),
        format!("{}?expires=x&signature=y", link.split('?').next().unwrap()),
    ];
    for forged in forged {
        assert_eq!(world.get(&forged).await.status, 403, "{forged}");
    }
    let expired = world.link(id, Utc::now() - TimeDelta::seconds(1));
    assert_eq!(world.get(&expired).await.status, 410);

    // A history that has no published dump, and a campaign that there is not.
    let planned = world.id("planned");
    world.store(planned, 1, b"not published yet").await;
    assert_eq!(world.get(&world.good_link(planned)).await.status, 404);
    assert_eq!(world.get(&world.good_link(world.id("nowhere"))).await.status, 404);
    let elsewhere = "night-9".parse().unwrap();
    let link_elsewhere = world.signer.signed(&elsewhere, id, Utc::now() + TimeDelta::days(1));
    let path = link_elsewhere.split_once("8080").unwrap().1.to_owned();
    assert_eq!(world.get(&path).await.status, 404);

    // A later run's dump is given once it is published, and none when it has expired.
    world.store(id, 2, b"second").await;
    assert_eq!(world.get(&link).await.body.len(), 200_000);
    world.publish(id).await;
    assert_eq!(world.get(&link).await.body, b"second");
    world.append(id, Event::DumpExpired(DumpExpired {})).await;
    assert_eq!(world.get(&link).await.status, 404);
    drop(key);

    assert_eq!(world.get("/healthz").await.body, b"ok\n");
    assert_eq!(world.ask("POST", &link, "").await.status, 405);
    assert_eq!(world.get("/").await.status, 404);

    world.shutdown.cancel();
    world.running.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_damaged_dump_never_arrives_whole() {
    let world = world(Options::default()).await;
    let (id, key) = world.published("shop", &[b'x'; 300_000]).await;
    let link = world.good_link(id);
    let file = world.bed.dir().join("store").join(key.to_string());
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[150_000] = b'y';
    std::fs::write(&file, &bytes).unwrap();
    let answer = world.get(&link).await;
    // Broken off: after its head, or before that has left.
    assert!(matches!(answer.header("content-length"), "300000" | ""), "{:?}", answer.headers);
    assert!(answer.body.len() < 300_000);
    std::fs::write(&file, b"short").unwrap();
    assert_eq!(world.get(&link).await.status, 500);
    std::fs::remove_file(&file).unwrap();
    assert_eq!(world.get(&link).await.status, 404);
    assert_eq!(world.ask("HEAD", &link, "").await.status, 404);
}

#[tokio::test]
async fn places_are_bounded_and_given_back() {
    let options =
        Options { downloads_max: 1, connections_max: 3, idle_ms_max: 500, ..Options::default() };
    let world = world(options).await;
    // More than the sockets' buffers hold, so that it stands still when nobody reads.
    let (id, _) = world.published("shop", &vec![b'x'; 32 << 20]).await;
    let link = world.good_link(id);
    let mut stalled = TcpStream::connect(world.address).await.unwrap();
    stalled.write_all(format!("GET {link} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await.unwrap();
    stalled.read_exact(&mut [0; 8]).await.unwrap();
    let refused = world.get(&link).await;
    assert_eq!((refused.status, refused.header("retry-after")), (503, "30"));
    // The one that stands still loses its place.
    bed::eventually(Duration::from_secs(30), async || Ok(world.get(&link).await.status == 200))
        .await
        .unwrap();
    // Silent connections do not keep others out for ever.
    let mut silent = Vec::new();
    for _ in 0..6 {
        silent.push(TcpStream::connect(world.address).await.unwrap());
    }
    assert_eq!(world.get("/healthz").await.status, 200);
}

#[tokio::test]
async fn a_lost_bus_is_a_passing_failure() {
    let world = world(Options::default()).await;
    let (id, _) = world.published("shop", b"dump").await;
    world.nats.kill().unwrap();
    let link = world.good_link(id);
    assert_eq!(world.get(&link).await.status, 503);
    // Who forges a link does not even reach the bus.
    assert_eq!(world.get(&link.replace("night-1", "night-2")).await.status, 403);
    world.nats.restart().unwrap();
    bed::eventually(bed::DEADLINE, async || Ok(world.get(&link).await.status == 200))
        .await
        .unwrap();
}

/// What a browser does not send.
fn garbage(link: &str) -> impl Strategy<Value = Vec<u8>> {
    let request = move |(method, path, name, value): (String, String, String, Vec<u8>)| {
        let head = format!("{method} {path} HTTP/1.1\r\nHost: x\r\n{name}: ");
        [head.as_bytes(), &value, b"\r\nConnection: close\r\n\r\n"].concat()
    };
    let method = prop_oneof![Just("GET".to_owned()), Just("HEAD".to_owned()), "[A-Z]{1,9}"];
    let path = prop_oneof![
        Just(link.to_owned()),
        "/dumps/[^ \r\n]{0,80}",
        "/dumps/night-1/[0-9a-f-]{36}\\?expires=[0-9-]{0,22}&signature=[^ \r\n]{0,80}",
    ];
    let range = "bytes=[0-9, -]{0,44}".prop_map(String::into_bytes);
    let value = prop_oneof![range, any::<Vec<u8>>()];
    let name = prop_oneof![Just("Range".to_owned()), Just("If-Range".to_owned()), "[!-~]{1,20}"];
    prop_oneof![4 => (method, path, name, value).prop_map(request), 1 => any::<Vec<u8>>()]
}

#[tokio::test]
async fn what_is_no_request_is_refused_and_nothing_more() {
    let world = world(Options { idle_ms_max: 500, ..Options::default() }).await;
    let (id, _) = world.published("shop", b"0123456789").await;
    let link = world.good_link(id);
    let mut runner = TestRunner::default();
    for _ in 0..200 {
        let bytes = garbage(&link).new_tree(&mut runner).unwrap().current();
        let mut stream = TcpStream::connect(world.address).await.unwrap();
        let _ = stream.write_all(&bytes).await;
        let _ = stream.shutdown().await;
        let mut answer = Vec::new();
        // An end, by an answer or without one, and never more than was asked for.
        let mut stream = stream.take(64 << 10);
        let read = stream.read_to_end(&mut answer);
        let ended = tokio::time::timeout(Duration::from_secs(20), read).await;
        assert!(ended.is_ok(), "{:?}", String::from_utf8_lossy(&bytes));
        assert!(!answer.starts_with(b"HTTP/1.1 5"), "{:?}", String::from_utf8_lossy(&bytes));
        assert!(answer.len() < 16 << 10);
    }
    assert_eq!(world.get(&link).await.body, b"0123456789");
}
