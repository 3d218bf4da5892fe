//! The operators are told of each fact that needs them, once, also of what came while nobody told,
//! while mail was down, and over a restart of the bus.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::{
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use axum::{Router, body::Bytes, extract::State, routing::post};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use chrono::{TimeDelta, Utc};
use drover_bus::Bus;
use drover_dumpstore::{Store, link};
use drover_lifecycle::breaker;
use drover_notify::{Error, Operators, Options, Service, Smtp as Mail, Tls, Webhook};
use drover_schemas::{
    CampaignName,
    envelope::CloudEvent,
    subjects::History,
    v1::{
        CampaignCompleted, CampaignCreated, CampaignPaused, HostQuarantined, campaign_event::Event,
    },
};
use drover_testbed::{Bed, Nats, Smtp, bed, smtp::Fault};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const OPERATOR: &str = "night@example.org";

type Posts = Arc<Mutex<Vec<serde_json::Value>>>;

struct World {
    nats: Nats,
    bus: Bus,
    smtp: Smtp,
    posts: Posts,
    options: Options,
    links: link::Options,
    store: Store,
    campaign: CampaignName,
    _bed: Bed,
}

fn secret(folder: &Path, name: &str, content: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, content).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path
}

async fn receive(State(posts): State<Posts>, body: Bytes) {
    posts.lock().unwrap().push(serde_json::from_slice(&body).unwrap());
}

async fn world() -> World {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let bed = Bed::new().unwrap();
    let nats = Nats::start(&bed).unwrap();
    let options = drover_bus::Options { url: nats.url(), ..drover_bus::Options::default() };
    let bus = Bus::connect(&options, "operators-test").await.unwrap();
    let campaign: CampaignName = "night-1".parse().unwrap();
    bus.ensure_base().await.unwrap();
    bus.ensure_campaign(&campaign).await.unwrap();
    let smtp = Smtp::start(&bed).await.unwrap();
    let posts = Posts::default();
    let app = Router::new().route("/hook", post(receive)).with_state(posts.clone());
    let address = (bed.address().unwrap(), 8080);
    let listener = tokio::net::TcpListener::bind(address).await.unwrap();
    tokio::spawn(axum::serve(listener, app).into_future());
    let key = format!("whsec_{}", BASE64_STANDARD.encode([9; 24]));
    let options = Options {
        smtp: Some(Mail {
            host: smtp.address().ip().to_string(),
            port: Some(smtp.address().port()),
            tls: Tls::None,
            ca_file: None,
            from: "Drover <drover@example.com>".to_owned(),
            reply_to: None,
            username: None,
            password_file: None,
            timeout_ms: 5_000,
        }),
        webhook: Some(Webhook {
            url: format!("http://{}:{}/hook", address.0, address.1),
            secret_file: secret(bed.dir(), "webhook", &key),
            ca_file: None,
            timeout_ms: 5_000,
        }),
        operators: Some(Operators { mail_to: vec![OPERATOR.to_owned()], webhook: true }),
        ..Options::default()
    };
    let url = bed.dir().join("store").to_str().unwrap().to_owned();
    let store =
        drover_dumpstore::Options { url, fsync: false, ..drover_dumpstore::Options::default() };
    let store = Store::open(&store).unwrap();
    let key_file = secret(bed.dir(), "link-key", &"k".repeat(32));
    let links = link::Options { public_url: "https://dumps.example.org".to_owned(), key_file };
    World { nats, bus, smtp, posts, options, links, store, campaign, _bed: bed }
}

impl World {
    fn service(&self, options: &Options) -> Result<Service, Error> {
        Service::new(options, &self.links, self.store.clone())
    }

    /// A service of its own, until it is told to end.
    fn serve(&self) -> (CancellationToken, JoinHandle<()>) {
        let (service, bus) = (self.service(&self.options).unwrap(), self.bus.clone());
        let shutdown = CancellationToken::new();
        let ends = shutdown.clone();
        let running = tokio::spawn(async move { service.run(bus, "test", ends).await.unwrap() });
        (shutdown, running)
    }

    async fn append(&self, event: Event) {
        self.append_at(event, Utc::now()).await;
    }

    async fn append_at(&self, event: Event, at: chrono::DateTime<Utc>) {
        let last = self.bus.last(&self.campaign, &History::Campaign).await.unwrap();
        let revision = last.map_or(0, |recorded| recorded.sequence);
        let event = CloudEvent::campaign(event, "drover/test/1", at);
        self.bus.append(&self.campaign, &History::Campaign, revision, &event).await.unwrap();
    }

    fn posts(&self) -> Vec<serde_json::Value> {
        self.posts.lock().unwrap().clone()
    }

    /// Waits until so many were told by both ways, and holds that it were no more.
    async fn told(&self, count: usize) {
        let waited = bed::eventually(bed::DEADLINE, async || {
            Ok(self.posts().len() >= count && self.smtp.messages().len() >= count)
        });
        assert!(waited.await.is_ok(), "{:#?} {:#?}", self.posts(), self.smtp.messages().len());
        assert_eq!((self.posts().len(), self.smtp.messages().len()), (count, count));
    }
}

fn paused(by: &str) -> Event {
    let reason = "45 of 80 migrations failed: 40 × DRV-0402 refused; at dst-1".to_owned();
    Event::CampaignPaused(CampaignPaused { reason, by: by.to_owned(), recalls: false })
}

fn quarantined(host: &str) -> Event {
    let reason = "6 steps in a row failed here: DRV-0200 no answer".to_owned();
    Event::HostQuarantined(HostQuarantined { host: host.to_owned(), reason })
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operators_are_told_once_of_what_needs_them() {
    let world = world().await;
    let old = Utc::now() - TimeDelta::days(4);
    world.append_at(Event::CampaignCreated(CampaignCreated::default()), old).await;
    world.append_at(quarantined("src-0"), old).await;
    world.append(paused("somebody@console")).await;
    world.append(paused(breaker::WHO)).await;
    // Told although nobody ran; and where mail is refused for a moment, the webhook is not told twice.
    world.smtp.misbehave(None, Fault::Refuse(451), 1);
    let (shutdown, running) = world.serve();
    world.told(1).await;
    let mail = &world.smtp.messages()[0];
    assert_eq!(mail.to, [OPERATOR]);
    assert_eq!(mail.header("subject").unwrap(), "Drover: campaign night-1 has paused by itself");
    for part in ["DRV-0402 refused", "at dst-1", "drover resume night-1"] {
        assert!(mail.text().contains(part), "{part}: {}", mail.text());
    }
    let post = &world.posts()[0];
    assert_eq!(post["type"], "drover.campaign.paused");
    let key = post["data"]["key"].as_str().unwrap().to_owned();
    assert_eq!(mail.header("message-id").unwrap(), format!("<{key}@example.com>"));

    world.append(quarantined("src-1")).await;
    world.told(2).await;
    assert_eq!(world.posts()[1]["data"]["host"], "src-1");
    shutdown.cancel();
    running.await.unwrap();

    // Over a restart of both, what was told is not told again, and what comes is.
    world.nats.restart().unwrap();
    bed::eventually(bed::DEADLINE, async || Ok(world.bus.campaigns().await.is_ok())).await.unwrap();
    let (shutdown, running) = world.serve();
    world
        .append(Event::CampaignCompleted(CampaignCompleted { completed: 7, rolled_back: 1 }))
        .await;
    world.told(3).await;
    assert_eq!(world.posts()[2]["type"], "drover.campaign.completed");
    assert!(world.smtp.messages()[2].text().contains("7 migrations have, and 1"));
    shutdown.cancel();
    running.await.unwrap();
}

#[tokio::test]
async fn ways_that_are_not_there_are_refused_at_the_start() {
    let world = world().await;
    let with = |operators: Operators| Options {
        operators: Some(operators),
        smtp: None,
        webhook: None,
        ..Options::default()
    };
    for operators in [
        Operators::default(),
        Operators { mail_to: vec![OPERATOR.to_owned()], webhook: false },
        Operators { mail_to: Vec::new(), webhook: true },
    ] {
        let refused = world.service(&with(operators));
        assert!(matches!(refused.err(), Some(Error::Configuration(_))));
    }
    let mail_to = vec!["nobody".to_owned()];
    let operators = Some(Operators { mail_to, webhook: false });
    let refused = world.service(&Options { operators, ..world.options.clone() });
    assert!(matches!(refused.err(), Some(Error::Configuration(_))));
}
