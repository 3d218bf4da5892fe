//! One real BIND with a secondary for all tests of this program, each with host names of its own;
//! and a proxy before it that lets a test act between a service's reading and its update.
#![allow(clippy::unwrap_used, dead_code)]

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, OnceLock},
    time::Duration,
};

use drover_dns::{Options, Service, Target, Zone};
use drover_schemas::v1::{Job, MigrationPlanned, Step};
use drover_testbed::{Bed, Bind, Follow};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use uuid::Uuid;

pub const ZONE: &str = "example.test";
pub const SOURCE: &str = "192.0.2.1";
pub const DESTINATION: &str = "198.51.100.1";

pub struct Servers {
    pub bed: Bed,
    pub primary: Bind,
    pub secondary: Bind,
}

/// The servers that the tests share. They end with the test program.
pub fn shared() -> &'static Servers {
    static SHARED: OnceLock<Servers> = OnceLock::new();
    SHARED.get_or_init(|| {
        let bed = Bed::new().unwrap();
        let primary = Bind::start(&bed, ZONE, &["*.wild A 192.0.2.1"]).unwrap();
        let secondary = primary.secondary(Follow::AtOnce).unwrap();
        Servers { bed, primary, secondary }
    })
}

pub fn options(primary: &Bind, servers: &[&Bind]) -> Options {
    let zone = Zone {
        name: primary.zone().to_owned(),
        primary: primary.address(),
        servers: servers.iter().map(|server| server.address()).collect(),
        key_name: primary.key_name().to_owned(),
        key_file: primary.key_file(),
        algorithm: Default::default(),
        ttl_seconds: 30,
    };
    Options { zones: vec![zone], ..Options::default() }
}

pub fn targets() -> BTreeMap<drover_schemas::ServerName, Target> {
    let target = |name: &str, v4: &[&str], v6: &[&str]| Target {
        dns_name: Some(name.to_owned()),
        ipv4: v4.iter().map(|it| it.parse().unwrap()).collect(),
        ipv6: v6.iter().map(|it| it.parse().unwrap()).collect(),
    };
    BTreeMap::from([
        ("src".parse().unwrap(), target("SRC.example.net", &[SOURCE], &["2001:db8::1"])),
        ("src2".parse().unwrap(), target("src2.example.net", &[SOURCE, "192.0.2.2"], &[])),
        ("dst".parse().unwrap(), target("dst.example.net", &[DESTINATION], &["2001:db8::d"])),
        (
            "dst4".parse().unwrap(),
            target("dst4.example.net", &["198.51.100.4", "198.51.100.5"], &[]),
        ),
    ])
}

/// A service before the shared servers; the step ends when both give the answer.
pub fn service() -> Service {
    let Servers { primary, secondary, .. } = shared();
    Service::new(options(primary, &[primary, secondary]), targets()).unwrap()
}

pub fn service_with(options: Options) -> Service {
    Service::new(options, targets()).unwrap()
}

/// A new migration from `src` to `dst` of these host names.
pub fn job(hosts: &[&str]) -> Job {
    job_between("src", "dst", hosts)
}

pub fn job_between(source: &str, destination: &str, hosts: &[&str]) -> Job {
    Job {
        campaign: "night".to_owned(),
        migration_id: Uuid::new_v4().to_string(),
        step: Step::Switch.into(),
        revision: 10,
        run: 1,
        attempt: 1,
        planned: Some(MigrationPlanned {
            source: source.to_owned(),
            destination: destination.to_owned(),
            host_names: hosts.iter().map(|host| (*host).to_owned()).collect(),
            ..Default::default()
        }),
        ..Default::default()
    }
}

pub fn at(job: &Job, revision: u64) -> Job {
    Job { revision, ..job.clone() }
}

/// Adds records as somebody else; names in full.
pub fn add(lines: &[&str]) {
    let lines: Vec<String> = lines.iter().map(|line| format!("update add {line}")).collect();
    shared().primary.update(&lines.iter().map(String::as_str).collect::<Vec<_>>()).unwrap();
}

pub fn answer(name: &str, kind: &str) -> Vec<String> {
    shared().primary.answer(&format!("{name}."), kind).unwrap()
}

/// What a proxy does with an update.
#[derive(Debug, Clone, Copy)]
pub enum Act {
    Forward,
    /// The server takes it; its answer never arrives.
    LoseAnswer,
}

/// Passes everything on to `server`; asks `on_update` before each update. Ends with the runtime.
pub async fn proxy(
    server: SocketAddr,
    on_update: impl AsyncFn() -> Act + Send + Sync + 'static,
) -> SocketAddr
where
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let on_update = Arc::new(on_update);
    tokio::task::spawn_local(async move {
        loop {
            let (client, _) = listener.accept().await.unwrap();
            let on_update = on_update.clone();
            tokio::task::spawn_local(async move {
                let _ = pass_on(client, server, &*on_update).await;
            });
        }
    });
    address
}

async fn pass_on(
    mut client: TcpStream,
    server: SocketAddr,
    on_update: &impl AsyncFn() -> Act,
) -> std::io::Result<()> {
    const OPCODE_UPDATE: u8 = 5;
    let mut upstream = TcpStream::connect(server).await?;
    loop {
        let question = frame(&mut client).await?;
        let is_update = (question[4] >> 3) & 0xf == OPCODE_UPDATE;
        let act = if is_update { on_update().await } else { Act::Forward };
        upstream.write_all(&question).await?;
        let answer = frame(&mut upstream).await?;
        match act {
            Act::Forward => client.write_all(&answer).await?,
            Act::LoseAnswer => return Ok(()),
        }
    }
}

async fn frame(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut frame = vec![0; 2];
    stream.read_exact(&mut frame).await?;
    let length = u16::from_be_bytes([frame[0], frame[1]]);
    frame.resize(2 + usize::from(length), 0);
    stream.read_exact(&mut frame[2..]).await?;
    Ok(frame)
}

/// The shared servers, reached through a proxy.
pub fn through(proxy: SocketAddr) -> Service {
    let Servers { primary, .. } = shared();
    let mut options = options(primary, &[primary]);
    options.zones[0].primary = proxy;
    service_with(options)
}

pub const SHORT: Duration = Duration::from_millis(300);
