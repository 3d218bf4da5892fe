//! The steps against a real mail server, a receiver of webhooks and a store in a folder.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::{
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    routing::post,
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use chrono::Utc;
use drover_dumpstore::{Attempt, Key, Object, Store, link};
use drover_notify::{Error, Options, Service, Smtp as Mail, Tls, Webhook};
use drover_schemas::{
    CampaignName, Code, Failure, MigrationId,
    v1::{
        DestinationOpened, DumpStored, Job, MigrationPlanned, Policy, Step, migration_event::Event,
    },
};
use drover_testbed::{Bed, Smtp, smtp::Fault};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

const OWNER: &str = "owner@example.org";
const LINK_KEY: &str = "a link key of 32 characters or more";
const WEBHOOK_KEY: [u8; 24] = [9; 24];

/// A receiver of webhooks: what came, and what to answer.
#[derive(Clone, Default)]
struct Receiver {
    got: Arc<Mutex<Vec<(HeaderMap, String)>>>,
    answers: Arc<Mutex<Vec<StatusCode>>>,
}

async fn receive(State(receiver): State<Receiver>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let body = String::from_utf8(body.to_vec()).unwrap();
    receiver.got.lock().unwrap().push((headers, body));
    receiver.answers.lock().unwrap().pop().unwrap_or(StatusCode::NO_CONTENT)
}

struct World {
    smtp: Smtp,
    receiver: Receiver,
    webhook_url: String,
    store: Store,
    bed: Bed,
}

async fn world() -> World {
    // Another test of this program may have done so before.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let bed = Bed::new().unwrap();
    let smtp = Smtp::start(&bed).await.unwrap();
    let receiver = Receiver::default();
    let app = Router::new().route("/hook", post(receive)).with_state(receiver.clone());
    let address = (bed.address().unwrap(), 8080);
    let listener = tokio::net::TcpListener::bind(address).await.unwrap();
    tokio::spawn(axum::serve(listener, app).into_future());
    let webhook_url = format!("http://{}:{}/hook?token=hidden", address.0, address.1);
    let url = bed.dir().join("store").to_str().unwrap().to_owned();
    let options =
        drover_dumpstore::Options { url, fsync: false, ..drover_dumpstore::Options::default() };
    let store = Store::open(&options).unwrap();
    World { smtp, receiver, webhook_url, store, bed }
}

fn secret(folder: &Path, name: &str, content: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, content).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path
}

impl World {
    fn mail(&self) -> Mail {
        Mail {
            host: self.smtp.address().ip().to_string(),
            port: Some(self.smtp.address().port()),
            tls: Tls::None,
            ca_file: None,
            from: "Hosting <hosting@example.com>".to_owned(),
            reply_to: Some("help@example.com".to_owned()),
            username: None,
            password_file: None,
            timeout_ms: 2_000,
        }
    }

    fn webhook(&self) -> Webhook {
        let encoded = format!("whsec_{}", BASE64_STANDARD.encode(WEBHOOK_KEY));
        Webhook {
            url: self.webhook_url.clone(),
            secret_file: secret(self.bed.dir(), "webhook", &encoded),
            ca_file: None,
            timeout_ms: 2_000,
        }
    }

    fn links(&self) -> link::Options {
        link::Options {
            public_url: "https://dumps.example.com".to_owned(),
            key_file: secret(self.bed.dir(), "link", LINK_KEY),
        }
    }

    fn service(&self, smtp: Option<Mail>, webhook: Option<Webhook>) -> Service {
        let options = Options { smtp, webhook, ..Options::default() };
        Service::new(&options, &self.links(), self.store.clone()).unwrap()
    }

    fn both(&self) -> Service {
        self.service(Some(self.mail()), Some(self.webhook()))
    }

    /// A job of a migration whose dump lies in the store.
    async fn job(&self, database: &str, owner: &str, step: Step) -> Job {
        let campaign: CampaignName = "night-1".parse().unwrap();
        let id = MigrationId::new(&campaign, &"old-1".parse().unwrap(), database);
        let attempt = Attempt::new(campaign, id, 1, 1);
        let written = self.store.put_small(&attempt.key(Object::Dump), b"dump").await.unwrap();
        for object in [Object::Manifest, Object::Accounts] {
            self.store.put_small(&attempt.key(object), b"x").await.unwrap();
        }
        Job {
            campaign: "night-1".to_owned(),
            migration_id: id.to_string(),
            step: step.into(),
            run: 1,
            policy: Some(Policy { dump_retention_days: 30, ..Policy::default() }),
            planned: Some(MigrationPlanned {
                database: database.to_owned(),
                source: "old-1".to_owned(),
                destination: "new-1".to_owned(),
                host_names: vec!["shop.example.org".to_owned()],
                owner: owner.to_owned(),
                ..MigrationPlanned::default()
            }),
            dump: Some(DumpStored {
                dump_object: attempt.key(Object::Dump).to_string(),
                manifest_object: attempt.key(Object::Manifest).to_string(),
                accounts_object: attempt.key(Object::Accounts).to_string(),
                dump_bytes: written.bytes,
                dump_sha256: written.sha256,
                ..DumpStored::default()
            }),
            opened: Some(DestinationOpened {
                accounts: 1,
                opened_at_unix_ms: 1_800_000_000_000,
                took_us: 0,
            }),
            ..Job::default()
        }
    }

    /// A job to announce, after the dump was published.
    async fn announcement(&self, database: &str, owner: &str) -> Job {
        let mut job = self.job(database, owner, Step::Announce).await;
        job.published = Some(self.service(None, None).publish(&job).await.unwrap());
        job
    }

    fn posts(&self) -> Vec<(HeaderMap, String)> {
        self.receiver.got.lock().unwrap().clone()
    }

    fn answer(&self, code: u16) {
        self.receiver.answers.lock().unwrap().push(StatusCode::from_u16(code).unwrap());
    }
}

fn key(job: &Job, object: Object) -> Key {
    job.dump.as_ref().unwrap().dump_object.parse::<Key>().unwrap().attempt().key(object)
}

fn code<T: std::fmt::Debug>(result: Result<T, Error>) -> Code {
    Failure::from(result.unwrap_err()).code
}

#[tokio::test]
async fn a_dump_is_published_for_its_time_and_the_rest_removed() {
    let world = world().await;
    let service = world.service(None, None);
    let job = world.job("shop", OWNER, Step::Publish).await;
    let earlier = Attempt::new(
        key(&job, Object::Dump).attempt().campaign().clone(),
        key(&job, Object::Dump).attempt().migration(),
        1,
        1,
    );
    world.store.put_small(&earlier.key(Object::Dump), b"died before its event").await.unwrap();
    let before = Utc::now().timestamp_millis();
    for _ in 0..2 {
        let Event::DumpPublished(event) = service.step(&job).await.unwrap() else { panic!() };
        let days = (event.expires_at_unix_ms - before) / 86_400_000;
        assert_eq!(days, 30);
        // Nobody who reads the event can fetch the dump.
        let id = &job.migration_id;
        assert_eq!(event.link, format!("https://dumps.example.com/dumps/night-1/{id}"));
        for (object, there) in
            [(Object::Dump, true), (Object::Manifest, true), (Object::Accounts, false)]
        {
            let size = world.store.size(&key(&job, object)).await.unwrap();
            assert_eq!(size.is_some(), there, "{object:?}");
        }
        assert_eq!(world.store.size(&earlier.key(Object::Dump)).await.unwrap(), None);
    }
}

#[tokio::test]
async fn a_dump_that_is_not_there_is_not_published() {
    let world = world().await;
    let service = world.service(None, None);
    let mut job = world.job("shop", OWNER, Step::Publish).await;
    job.dump.as_mut().unwrap().dump_bytes += 1;
    assert_eq!(code(service.publish(&job).await), Code::StoreCorrupt);
    world.store.delete(&key(&job, Object::Dump)).await.unwrap();
    assert_eq!(code(service.publish(&job).await), Code::StoreMissing);
}

#[tokio::test]
async fn a_dump_expires_and_a_later_runs_stays() {
    let world = world().await;
    let service = world.service(None, None);
    let job = world.job("shop", OWNER, Step::Expire).await;
    let of = key(&job, Object::Dump);
    let (campaign, id) = (of.attempt().campaign().clone(), of.attempt().migration());
    let later = Attempt::new(campaign, id, 2, 1).key(Object::Dump);
    world.store.put_small(&later, b"later").await.unwrap();
    for _ in 0..2 {
        assert!(matches!(service.step(&job).await, Ok(Event::DumpExpired(_))));
        assert_eq!(world.store.size(&of).await.unwrap(), None);
        assert_eq!(world.store.size(&key(&job, Object::Manifest)).await.unwrap(), None);
    }
    assert!(world.store.size(&later).await.unwrap().is_some());
}

#[tokio::test]
async fn nothing_of_another_migration_is_touched() {
    let world = world().await;
    let service = world.service(None, None);
    let (mut job, other) =
        (world.job("a", OWNER, Step::Expire).await, world.job("b", OWNER, Step::Expire).await);
    job.dump = other.dump.clone();
    assert_eq!(code(service.expire(&job).await), Code::JobIncomplete);
    job.dump.as_mut().unwrap().dump_object = "../../etc/passwd".to_owned();
    assert_eq!(code(service.expire(&job).await), Code::StoreMissing);
    assert!(world.store.size(&key(&other, Object::Dump)).await.unwrap().is_some());
}

#[tokio::test]
async fn the_customer_and_the_information_system_are_told() {
    let world = world().await;
    let database = "Müllers\r\nBcc: all@example.org\r\n\r\n\"shop\" 数据";
    let job = world.announcement(database, OWNER).await;
    let Event::CustomerNotified(event) = world.both().step(&job).await.unwrap() else { panic!() };
    assert_eq!(event.channels, ["smtp", "webhook"]);
    assert_eq!(event.idempotency_key, format!("{}.1", job.migration_id));

    let [mail] = &world.smtp.messages()[..] else { panic!("{:?}", world.smtp.messages()) };
    assert_eq!(
        (mail.from.as_str(), &mail.to[..]),
        ("hosting@example.com", &[OWNER.to_owned()][..])
    );
    let id = mail.header("message-id").unwrap();
    assert_eq!(id, format!("<{}@example.com>", event.idempotency_key));
    assert_eq!(mail.header("bcc"), None);
    assert_eq!(mail.header("to").unwrap(), OWNER);
    let text = mail.text();
    assert!(text.contains("Müllers��Bcc: all@example.org") && text.contains("数据"), "{text}");

    let [(headers, body)] = &world.posts()[..] else { panic!() };
    let data: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(data["data"]["database"], database);
    let header = |name: &str| headers.get(name).unwrap().to_str().unwrap();
    assert_eq!(header("webhook-id"), event.idempotency_key);
    let signed = format!("{}.{}.{body}", header("webhook-id"), header("webhook-timestamp"));
    let mut mac = Hmac::<Sha256>::new_from_slice(&WEBHOOK_KEY).unwrap();
    mac.update(signed.as_bytes());
    let signature =
        BASE64_STANDARD.decode(header("webhook-signature").strip_prefix("v1,").unwrap());
    mac.verify_slice(&signature.unwrap()).unwrap();

    // Both hold the same link, and it opens the dump until the time in the event.
    let link = data["data"]["dump_link"].as_str().unwrap();
    assert!(text.contains(link), "{text}");
    let expires = job.published.as_ref().unwrap().expires_at_unix_ms / 1000;
    let (base, query) = link.split_once('?').unwrap();
    assert_eq!(base, job.published.as_ref().unwrap().link);
    let signature = query.strip_prefix(&format!("expires={expires}&signature=")).unwrap();
    let signer = link::Signer::open(&world.links()).unwrap();
    let (campaign, id) = (job.campaign.parse().unwrap(), job.migration_id.parse().unwrap());
    signer.verify(&campaign, id, expires, signature, Utc::now()).unwrap();
}

#[tokio::test]
async fn accepted_mail_is_not_sent_again() {
    let world = world().await;
    let job = world.announcement("shop", OWNER).await;
    world.answer(503);
    assert_eq!(code(world.both().announce(&job).await), Code::WebhookFailed);
    // Another instance does the retry; its event is lost, so a third does it again.
    for _ in 0..2 {
        let event = world.both().announce(&job).await.unwrap();
        assert_eq!(event.channels, ["smtp", "webhook"]);
    }
    assert_eq!(world.smtp.messages().len(), 1);
    let posts = world.posts();
    assert_eq!(posts.len(), 3);
    assert!(posts.iter().all(|(headers, body)| {
        headers.get("webhook-id") == posts[0].0.get("webhook-id") && *body == posts[0].1
    }));
}

#[tokio::test]
async fn a_duplicate_mail_bears_the_same_id() {
    let world = world().await;
    let job = world.announcement("shop", OWNER).await;
    let service = world.service(Some(world.mail()), None);
    world.smtp.misbehave(Some(OWNER), Fault::Forget, 1);
    assert_eq!(code(service.announce(&job).await), Code::MailFailed);
    service.announce(&job).await.unwrap();
    let mails = world.smtp.messages();
    assert_eq!(mails.len(), 2);
    assert_eq!(mails[0].header("message-id"), mails[1].header("message-id"));
    assert_eq!(mails[0].text(), mails[1].text());
}

#[tokio::test]
async fn a_mail_servers_faults_are_told_apart() {
    let world = world().await;
    let job = world.announcement("shop", OWNER).await;
    let service = world.service(Some(world.mail()), None);
    for (fault, expected) in [
        (Fault::Refuse(451), Code::MailFailed),
        (Fault::Refuse(550), Code::MailRefused),
        (Fault::Close, Code::MailFailed),
        (Fault::Hang, Code::MailFailed),
    ] {
        world.smtp.misbehave(Some(OWNER), fault, 1);
        let failure = Failure::from(service.announce(&job).await.unwrap_err());
        assert_eq!(failure.code, expected, "{fault:?}: {failure}");
        assert!(!failure.message.contains(OWNER), "{failure}");
        if let Fault::Refuse(number) = fault {
            assert!(failure.message.contains(&number.to_string()), "{failure}");
        }
    }
    let nowhere = Mail { port: Some(9), ..world.mail() };
    let nowhere = world.service(Some(nowhere), None);
    assert_eq!(code(nowhere.announce(&job).await), Code::MailFailed);
    // It works on when the server does.
    assert_eq!(service.announce(&job).await.unwrap().channels, ["smtp"]);
    assert_eq!(world.smtp.messages().len(), 1);
}

#[tokio::test]
async fn a_receivers_faults_are_told_apart_and_its_address_not_shown() {
    let world = world().await;
    let job = world.announcement("shop", OWNER).await;
    let service = world.service(None, Some(world.webhook()));
    for (answer, expected) in [
        (500, Code::WebhookFailed),
        (429, Code::WebhookFailed),
        (400, Code::WebhookRefused),
        (307, Code::WebhookRefused),
    ] {
        world.answer(answer);
        let failure = Failure::from(service.announce(&job).await.unwrap_err());
        assert_eq!(failure.code, expected, "{failure}");
    }
    let url = world.webhook_url.replace("8080", "9");
    let nowhere = world.service(None, Some(Webhook { url, ..world.webhook() }));
    let failure = Failure::from(nowhere.announce(&job).await.unwrap_err());
    assert_eq!(failure.code, Code::WebhookFailed);
    assert!(!failure.message.contains("hidden"), "{failure}");
}

#[tokio::test]
async fn one_channels_failure_does_not_keep_the_other_back() {
    let world = world().await;
    let job = world.announcement("shop", "not an address").await;
    assert_eq!(code(world.both().announce(&job).await), Code::MailRefused);
    assert_eq!(world.posts().len(), 1);
    world.answer(503);
    // What may go away by itself is worth the retry.
    assert_eq!(code(world.both().announce(&job).await), Code::WebhookFailed);
    assert!(world.smtp.messages().is_empty());
}

#[tokio::test]
async fn without_owner_or_channels_a_migration_completes_in_silence() {
    let world = world().await;
    let job = world.announcement("shop", "").await;
    assert_eq!(world.both().announce(&job).await.unwrap().channels, ["webhook"]);
    let job = world.announcement("shop", OWNER).await;
    let event = world.service(None, None).announce(&job).await.unwrap();
    assert_eq!(event.channels, [] as [&str; 0]);
    assert!(world.smtp.messages().is_empty());
}

#[tokio::test]
async fn a_password_is_used_and_not_shown() {
    let world = world().await;
    let job = world.announcement("shop", OWNER).await;
    let smtp = Smtp::start_with_password(&world.bed, "drover", "s3cret").await.unwrap();
    let mail = |password: &str| Mail {
        host: smtp.address().ip().to_string(),
        username: Some("drover".to_owned()),
        password_file: Some(secret(world.bed.dir(), password, password)),
        ..world.mail()
    };
    let failure = world.service(Some(mail("wr0ng")), None).announce(&job).await.unwrap_err();
    assert!(!failure.to_string().contains("wr0ng"), "{failure}");
    assert_eq!(Failure::from(failure).code, Code::MailRefused);
    world.service(Some(mail("s3cret")), None).announce(&job).await.unwrap();
    assert_eq!(smtp.messages().len(), 1);
}

#[tokio::test]
async fn nothing_is_said_in_plain_text_where_tls_is_asked_for() {
    let world = world().await;
    let job = world.announcement("shop", OWNER).await;
    for tls in [Tls::StartTls, Tls::Tls] {
        let service = world.service(Some(Mail { tls, ..world.mail() }), None);
        assert_eq!(code(service.announce(&job).await), Code::PeerUntrusted, "{tls:?}");
    }
    assert!(world.smtp.messages().is_empty());
}

#[tokio::test]
async fn a_wrong_configuration_is_refused() {
    let world = world().await;
    let new = |options: Options| Service::new(&options, &world.links(), world.store.clone());
    let with_mail = |mail| new(Options { smtp: Some(mail), ..Options::default() });
    let mails = [
        Mail { from: "nobody".to_owned(), ..world.mail() },
        Mail { username: Some("drover".to_owned()), ..world.mail() },
        Mail { timeout_ms: 0, ..world.mail() },
        Mail {
            host: "mail.example.org".to_owned(),
            username: Some("drover".to_owned()),
            password_file: Some(secret(world.bed.dir(), "password", "x")),
            ..world.mail()
        },
        Mail { tls: Tls::Tls, ca_file: Some("/nowhere".into()), ..world.mail() },
    ];
    for mail in mails {
        assert_eq!(code(with_mail(mail).map(|_| ())), Code::NotifyConfiguration);
    }
    let webhook = Webhook { url: "ftp://a/".to_owned(), ..world.webhook() };
    let webhook = new(Options { webhook: Some(webhook), ..Options::default() });
    assert_eq!(code(webhook.map(|_| ())), Code::NotifyConfiguration);
    let slots = new(Options { slots: 0, ..Options::default() });
    assert_eq!(code(slots.map(|_| ())), Code::NotifyConfiguration);
    let links = link::Options { key_file: secret(world.bed.dir(), "k", "short"), ..world.links() };
    let short = Service::new(&Options::default(), &links, world.store.clone());
    assert_eq!(code(short.map(|_| ())), Code::NotifyConfiguration);
}

#[tokio::test]
async fn a_job_that_lacks_something_is_named() {
    let world = world().await;
    let service = world.service(None, None);
    let job = world.announcement("shop", OWNER).await;
    for broken in [
        Job { dump: None, ..job.clone() },
        Job { planned: None, ..job.clone() },
        Job { published: None, ..job.clone() },
        Job { opened: None, ..job.clone() },
        Job { migration_id: "x".to_owned(), ..job.clone() },
        Job { step: Step::Freeze.into(), ..job.clone() },
    ] {
        assert_eq!(service.step(&broken).await.unwrap_err().code, Code::JobIncomplete);
    }
}
