//! The service on a real bus.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failed test may panic anywhere"
)]

mod history;

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use drover_bus::{Bus, Item};
use drover_projector::{
    Error, Options, Projection, Service, load,
    view::{Filter, Status},
};
use drover_schemas::{
    Code,
    v1::{ServiceStatus, Signal, campaign_event::Event, signal},
};
use drover_testbed::{
    Bed, Nats,
    bed::{DEADLINE, eventually},
};
use futures::StreamExt as _;
use history::{History, POLICY};
use prost::Message as _;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

struct House {
    nats: Nats,
    bus: Bus,
    bed: Bed,
}

impl House {
    async fn new() -> Self {
        let bed = Bed::new().unwrap();
        let nats = Nats::start(&bed).unwrap();
        let bus = connect(&nats).await;
        bus.ensure_base().await.unwrap();
        Self { nats, bus, bed }
    }

    fn file(&self) -> PathBuf {
        self.bed.dir().join("projections").join("file.sqlite")
    }

    fn serve(&self) -> (JoinHandle<Result<(), Error>>, DropGuard) {
        let (bus, options) = (self.bus.clone(), Options { database: self.file() });
        let shutdown = CancellationToken::new();
        let guard = shutdown.clone().drop_guard();
        let task = tokio::spawn(async move { Service::run(bus, options, "one", shutdown).await });
        (task, guard)
    }
}

async fn connect(nats: &Nats) -> Bus {
    let options = drover_bus::Options { url: nats.url(), ..drover_bus::Options::default() };
    Bus::connect(&options, "projector-test").await.unwrap()
}

/// Appends what the history has beyond `from`.
async fn append(bus: &Bus, history: &History, from: usize) {
    bus.ensure_campaign(&history.campaign).await.unwrap();
    let mut revisions = std::collections::HashMap::new();
    for (n, item) in history.items.iter().enumerate() {
        let Item::Event(recorded) = item else { panic!("not an event") };
        let revision = revisions.insert(recorded.aggregate(), recorded.sequence).unwrap_or(0);
        if n >= from {
            let appended =
                bus.append(&history.campaign, &recorded.history, revision, &recorded.event).await;
            assert_eq!(appended.unwrap(), recorded.sequence);
        }
    }
}

fn history(name: &str, databases: usize) -> History {
    let mut history = History::new(name);
    let policy = Some(POLICY);
    history.campaign_event(Event::CampaignCreated(drover_schemas::v1::CampaignCreated { policy }));
    for n in 0..databases {
        let id = history.plan(&format!("db-{n}"), ("src", "dst"), "");
        if n % 3 == 0 {
            history.advance_to(id, "completed");
        } else if n % 3 == 1 {
            history.advance_to(id, "import");
            history.fail(id, Code::ImportRefused, &format!("`db-{n}`: error 1"));
            history.advance_to(id, "parked");
        }
    }
    history
}

/// What the file says once it has reached the log's end.
async fn caught_up(path: &Path, history: &History) -> Status {
    let read = || -> Result<Status, Error> {
        let reader = drover_projector::Reader::open(path)?;
        assert!(path.exists());
        reader.views().status(&history.campaign, history.now_unix_ms)
    };
    eventually(DEADLINE, || async {
        Ok(read().is_ok_and(|status| status.position == history.last()))
    })
    .await
    .unwrap();
    read().unwrap()
}

fn expected(history: &History) -> Status {
    let mut projection = Projection::in_memory().unwrap();
    projection.apply(&history.campaign, &history.items).unwrap();
    projection.views().status(&history.campaign, history.now_unix_ms).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn it_follows_every_campaign_and_answers() {
    let house = House::new().await;
    let mut night = history("night", 20);
    append(&house.bus, &night, 0).await;
    let unknown = "nowhere".parse().unwrap();

    // Nobody runs: the log is read.
    let status = drover_projector::status(&house.bus, &night.campaign).await.unwrap();
    assert_eq!(status.counts, expected(&night).counts);
    let error = drover_projector::status(&house.bus, &unknown).await.unwrap_err();
    assert!(matches!(error, Error::CampaignUnknown(_)), "{error}");

    let client = async_nats::connect(house.nats.url()).await.unwrap();
    let mut signals = client.subscribe("drover.signals.night.progress").await.unwrap();
    client.flush().await.unwrap();
    let (task, guard) = house.serve();
    assert_eq!(caught_up(&house.file(), &night).await, expected(&night));

    // A campaign that begins while it runs.
    let other = history("other", 7);
    append(&house.bus, &other, 0).await;
    assert_eq!(caught_up(&house.file(), &other).await, expected(&other));

    // More of what it knows.
    let from = night.items.len();
    let id = night.ids[2];
    night.advance_to(id, "completed");
    append(&house.bus, &night, from).await;
    assert_eq!(caught_up(&house.file(), &night).await, expected(&night));

    let signal = tokio::time::timeout(DEADLINE, async {
        loop {
            let message = signals.next().await.unwrap();
            let Some(signal::Signal::Progress(progress)) =
                Signal::decode(message.payload).unwrap().signal
            else {
                panic!("another signal")
            };
            if progress.completed == 8 {
                return progress;
            }
        }
    });
    let signal = signal.await.unwrap();
    assert_eq!((signal.planned, signal.in_flight, signal.parked), (5, 0, 7));

    // What the running one answers is what the log says.
    let (bus, campaign) = (&house.bus, &night.campaign);
    let folded = load(bus, campaign).await.unwrap();
    let status = drover_projector::status(bus, campaign).await.unwrap();
    assert_eq!(status.counts, expected(&night).counts);
    let failures = drover_projector::failures(bus, campaign).await.unwrap();
    assert_eq!(failures, folded.views().failures(campaign).unwrap());
    let filter = Filter { waits_for: Some("person".into()), ..Filter::default() };
    let rows = drover_projector::migrations(bus, campaign, &filter).await.unwrap();
    assert_eq!(rows, folded.views().migrations(campaign, &filter).unwrap());
    assert_eq!(rows.len(), 7);
    let some = Filter { limit: Some(3), ..filter };
    assert_eq!(drover_projector::migrations(bus, campaign, &some).await.unwrap(), rows[..3]);

    let about = bus.ask("projector", "".into()).await.unwrap();
    let about = ServiceStatus::decode(about[0].clone()).unwrap();
    assert!(about.active && about.instance == "one");
    let names: Vec<&str> = about.campaigns.iter().map(|c| c.campaign.as_str()).collect();
    assert_eq!(names, ["night", "other"]);

    drop(guard);
    task.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn its_file_can_be_deleted_at_any_time() {
    let house = House::new().await;
    let mut night = history("night", 10);
    append(&house.bus, &night, 0).await;
    let (task, guard) = house.serve();
    caught_up(&house.file(), &night).await;

    // While it runs.
    fs::remove_file(house.file()).unwrap();
    assert_eq!(caught_up(&house.file(), &night).await, expected(&night));
    drop(guard);
    task.await.unwrap().unwrap();

    // While it does not, and the log goes on.
    for suffix in ["", "-wal", "-shm"] {
        let _ = fs::remove_file(format!("{}{suffix}", house.file().display()));
    }
    let from = night.items.len();
    let id = night.ids[2];
    night.advance_to(id, "completed");
    append(&house.bus, &night, from).await;
    let (_task, _guard) = house.serve();
    assert_eq!(caught_up(&house.file(), &night).await, expected(&night));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_instance_waits_and_takes_over() {
    let house = House::new().await;
    let mut night = history("night", 4);
    append(&house.bus, &night, 0).await;
    let (first, guard) = house.serve();
    caught_up(&house.file(), &night).await;
    let (_second, _guard) = house.serve();
    drop(guard);
    first.await.unwrap().unwrap();
    let from = night.items.len();
    let id = night.ids[2];
    night.advance_to(id, "completed");
    append(&house.bus, &night, from).await;
    assert_eq!(caught_up(&house.file(), &night).await, expected(&night));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_went_on_otherwise_is_folded_from_its_beginning() {
    let house = House::new().await;
    let night = history("night", 10);
    append(&house.bus, &night, 0).await;
    let (task, guard) = house.serve();
    caught_up(&house.file(), &night).await;
    drop(guard);
    task.await.unwrap().unwrap();

    // Another log under the same name, at first shorter, then longer.
    for databases in [4, 25] {
        house.nats.stop().unwrap();
        fs::remove_dir_all(house.nats.dir().join("store")).unwrap();
        house.nats.restart().unwrap();
        let bus = connect(&house.nats).await;
        bus.ensure_base().await.unwrap();
        let other = history("night", databases);
        append(&bus, &other, 0).await;
        let (task, guard) = house.serve();
        let expected = expected(&other);
        eventually(Duration::from_secs(60), || async {
            let status = caught_up(&house.file(), &other).await;
            Ok(status == expected)
        })
        .await
        .unwrap();
        drop(guard);
        task.await.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_programs_file_is_refused() {
    let house = House::new().await;
    fs::create_dir_all(house.file().parent().unwrap()).unwrap();
    fs::write(house.file(), "a letter to somebody".repeat(100)).unwrap();
    let (task, _guard) = house.serve();
    let error = task.await.unwrap().unwrap_err();
    assert!(matches!(error, Error::Foreign { .. }), "{error}");
}
