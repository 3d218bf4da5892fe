//! Mail servers and receivers of webhooks with TLS: their certificates are checked.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::{net::SocketAddr, path::PathBuf};

use axum::{Router, routing::post};
use drover_dumpstore::{Attempt, Object, Store, link};
use drover_notify::{Error, Options, Service, Smtp as Mail, Tls, Webhook};
use drover_schemas::{
    CampaignName, Code, Failure, MigrationId,
    v1::{DestinationOpened, DumpStored, Job, MigrationPlanned, Policy, Step},
};
use drover_testbed::{
    Bed, Smtp,
    mariadb::write_private,
    tls::{Begin, Front, Identity},
};

/// A peer behind TLS on an address of its own, and the authority to trust.
struct Peer {
    front: Front,
    authority: PathBuf,
}

impl Peer {
    /// Its certificate is for its own address, or for another's.
    async fn new(bed: &Bed, server: SocketAddr, begin: Begin, is_right: bool) -> Self {
        let address = SocketAddr::new(bed.address().unwrap(), server.port());
        let name = if is_right { address.ip().to_string() } else { "192.0.2.1".to_owned() };
        let stem = format!("{begin:?}-{}", address.ip());
        let identity = Identity::new(bed, &stem, &[name]).unwrap();
        let front = Front::start(address, server, &identity, begin).await.unwrap();
        Self { front, authority: identity.authority }
    }
}

fn store(bed: &Bed) -> Store {
    let url = bed.dir().join("store").to_str().unwrap().to_owned();
    let options =
        drover_dumpstore::Options { url, fsync: false, ..drover_dumpstore::Options::default() };
    Store::open(&options).unwrap()
}

fn service(bed: &Bed, smtp: Option<Mail>, webhook: Option<Webhook>) -> Service {
    let key_file = bed.dir().join("link.key");
    write_private(&key_file, "a link key of 32 characters or more").unwrap();
    let links = link::Options { public_url: "https://dumps.example.com".to_owned(), key_file };
    let options = Options { smtp, webhook, ..Options::default() };
    Service::new(&options, &links, store(bed)).unwrap()
}

fn code<T>(result: Result<T, Error>) -> Option<Code> {
    result.err().map(|error| Failure::from(error).code)
}

#[tokio::test]
async fn a_mail_server_is_told_only_when_its_certificate_is_right() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let bed = Bed::new().unwrap();
    let smtp = Smtp::start(&bed).await.unwrap();
    for (begin, tls) in [(Begin::AtOnce, Tls::Tls), (Begin::StartTls, Tls::StartTls)] {
        // One each: what was told once is not told again.
        let job = announcement(&bed, &format!("{tls:?}")).await;
        let right = Peer::new(&bed, smtp.address(), begin, true).await;
        let wrong = Peer::new(&bed, smtp.address(), begin, false).await;
        let told = async |peer: &Peer, ca_file: Option<&PathBuf>| {
            let mail = Mail {
                host: peer.front.address().ip().to_string(),
                port: Some(peer.front.address().port()),
                tls,
                ca_file: ca_file.cloned(),
                from: "Hosting <hosting@example.com>".to_owned(),
                reply_to: None,
                username: None,
                password_file: None,
                timeout_ms: 10_000,
            };
            code(service(&bed, Some(mail), None).announce(&job).await)
        };
        let before = smtp.messages().len();
        let refused = Some(Code::PeerUntrusted);
        assert_eq!(told(&right, None).await, refused, "{tls:?}: of an authority not trusted");
        assert_eq!(told(&right, Some(&wrong.authority)).await, refused, "{tls:?}: of another");
        assert_eq!(told(&wrong, Some(&wrong.authority)).await, refused, "{tls:?}: for another");
        assert_eq!(smtp.messages().len(), before);
        assert_eq!(told(&right, Some(&right.authority)).await, None, "{tls:?}");
        assert_eq!(smtp.messages().len(), before + 1);
    }
}

#[tokio::test]
async fn a_receiver_is_told_only_when_its_certificate_is_right() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let bed = Bed::new().unwrap();
    let app = Router::new().route("/hook", post(async || "ok"));
    let plain = SocketAddr::new(bed.address().unwrap(), 8080);
    let listener = tokio::net::TcpListener::bind(plain).await.unwrap();
    tokio::spawn(axum::serve(listener, app).into_future());
    let right = Peer::new(&bed, plain, Begin::AtOnce, true).await;
    let wrong = Peer::new(&bed, plain, Begin::AtOnce, false).await;
    let secret_file = bed.dir().join("webhook");
    write_private(&secret_file, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
    let job = announcement(&bed, "shop").await;
    let told = async |address: SocketAddr, ca_file: Option<&PathBuf>| {
        let webhook = Webhook {
            url: format!("https://{address}/hook"),
            secret_file: secret_file.clone(),
            ca_file: ca_file.cloned(),
            timeout_ms: 10_000,
        };
        code(service(&bed, None, Some(webhook)).announce(&job).await)
    };
    let refused = Some(Code::PeerUntrusted);
    assert_eq!(told(right.front.address(), None).await, refused);
    assert_eq!(told(right.front.address(), Some(&wrong.authority)).await, refused);
    assert_eq!(told(wrong.front.address(), Some(&wrong.authority)).await, refused);
    assert_eq!(told(plain, Some(&right.authority)).await, refused, "no TLS");
    assert_eq!(told(right.front.address(), Some(&right.authority)).await, None);
}

/// A job to announce a dump that is published already.
async fn announcement(bed: &Bed, database: &str) -> Job {
    let campaign: CampaignName = "night-1".parse().unwrap();
    let id = MigrationId::new(&campaign, &"old-1".parse().unwrap(), database);
    let attempt = Attempt::new(campaign.clone(), id, 1, 1);
    let written = store(bed).put_small(&attempt.key(Object::Dump), b"dump").await.unwrap();
    let mut job = Job {
        campaign: campaign.to_string(),
        migration_id: id.to_string(),
        step: Step::Announce.into(),
        run: 1,
        policy: Some(Policy { dump_retention_days: 30, ..Policy::default() }),
        planned: Some(MigrationPlanned {
            database: database.to_owned(),
            source: "old-1".to_owned(),
            destination: "new-1".to_owned(),
            owner: "owner@example.org".to_owned(),
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
    };
    job.published = Some(service(bed, None, None).publish(&job).await.unwrap());
    job
}
