//! What is attacked: the servers of a small fleet, two processes of each service, and the links
//! between them.
//!
//! 1. Everything is a process of its own, and the services are the `drover` binary under the
//!    configuration that an operator would write; what differs is in their environment.
//! 2. There are two sides, `a` and `b`: each has one process of each service, and links of its own
//!    to every server. So a link that is cut parts one instance from what the other still reaches.
//! 3. The times after which Drover takes something for dead are short here, so that a paused
//!    process is paused for longer than all of them within a short run.

use std::{
    fs,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use async_nats::ConnectOptions;
use drover_schemas::users::User;
use drover_testbed::{
    Bed, Cluster, Fleet, Link, Nats, Process, cluster,
    fleet::Plan,
    mariadb::{Mariadb, Settings},
    nats::bus_folder,
};

use crate::herd::Herd;

/// The campaign.
pub const CAMPAIGN: &str = "chaos";
/// How long a job may go without a sign of life, in milliseconds.
pub const ACK_WAIT_MS: u64 = 5_000;
/// How long the orchestrator's lease lasts, in milliseconds.
pub const LEASE_MS: u64 = 2_000;
/// How long a database may be frozen, in milliseconds: short enough for the promise to be broken off
/// now and then, and for sources to thaw themselves.
const MAX_FROZEN_MS: u64 = 15_000;
/// What a link to a nats-server is called.
const NATS: &str = "nats";
/// The servers of each kind.
const SERVERS: usize = 2;
/// How many databases are in work at each.
const SLOTS: u32 = 4;

/// The services, and whether there are two of them: two consoles would need two addresses.
const SERVICES: [(&str, usize); 7] = [
    ("orchestrator", 2),
    ("dump", 2),
    ("import", 2),
    ("dns", 2),
    ("notify", 2),
    ("projector", 2),
    ("console", 1),
];

/// Where Debian's package puts the library that changes a process's clock, below the folder of the
/// machine's architecture in `/usr/lib`.
const FAKETIME: &str = "faketime/libfaketimeMT.so.1";

/// What every process is told beside the configuration's file.
fn environment(store: &Path) -> Vec<(String, String)> {
    let fixed = [
        ("DROVER_NATS__ACK_WAIT_MS", ACK_WAIT_MS.to_string()),
        ("DROVER_ORCHESTRATOR__LEASE_MS", LEASE_MS.to_string()),
        ("DROVER_CAMPAIGN__ATTEMPTS_MAX", "3".to_owned()),
        ("DROVER_CAMPAIGN__BACKOFF_BASE_MS", "200".to_owned()),
        ("DROVER_CAMPAIGN__BACKOFF_MAX_MS", "2000".to_owned()),
        ("DROVER_CAMPAIGN__MAX_FROZEN_MS", MAX_FROZEN_MS.to_string()),
        ("DROVER_DNS__ZONES__0__TTL_SECONDS", "1".to_owned()),
        ("DROVER_DNS__ANSWER_WAIT_MS", "2000".to_owned()),
        ("DROVER_DNS__SEEN_WAIT_MS", "5000".to_owned()),
        ("DROVER_STORE__URL", store.display().to_string()),
        ("RUST_LOG", "info".to_owned()),
    ];
    fixed.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// One process of one service, started again whenever it is killed.
pub struct Service {
    /// `dump-a`, …
    pub name: String,
    /// `dump`, …
    pub kind: &'static str,
    side: usize,
    process: Mutex<Option<Process>>,
}

impl Service {
    /// The process's number, while there is one.
    pub fn pid(&self) -> Option<u32> {
        self.lock().as_ref().filter(|process| !process.has_ended()).map(Process::pid)
    }

    /// Kills it at once.
    pub fn kill(&self) {
        drop(self.lock().take());
    }

    /// Sends it a signal, where it runs.
    pub fn signal(&self, signal: nix::sys::signal::Signal) -> Result<()> {
        match self.lock().as_ref() {
            Some(process) if !process.has_ended() => process.signal(signal),
            Some(_) | None => Ok(()),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Process>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All of it. Ends with this value.
pub struct World {
    /// The databases and their customers.
    pub herd: Herd,
    /// The services' processes.
    pub services: Vec<Service>,
    /// Of both sides: the name of what a link leads to, and the link.
    pub links: [Vec<(String, Link)>; 2],
    /// The folder of the dumps.
    pub store: PathBuf,
    /// Whether the store may be filled.
    pub can_fill: bool,
    /// The library by which clocks can be made to jump, where it is installed.
    pub faketime: Option<PathBuf>,
    /// The services' processes that were begun.
    clocked: Mutex<Vec<u32>>,
    /// The cluster's servers but the fleet's own, and the ways between all of them; none where
    /// the fleet's own is alone.
    pub cluster: Option<(Vec<Nats>, Cluster)>,
    /// Where the binary is.
    drover: PathBuf,
    config: PathBuf,
    /// The servers.
    pub fleet: Fleet,
}

/// libfaketime keeps two files in shared memory for each process, and leaves them where it is killed
/// (Debian 12's has no setting against that).
impl Drop for World {
    fn drop(&mut self) {
        let pids =
            std::mem::take(&mut *self.clocked.lock().unwrap_or_else(PoisonError::into_inner));
        for pid in pids {
            for name in [format!("faketime_shm_{pid}"), format!("sem.faketime_sem_{pid}")] {
                // Most are not there: a process that ends by itself takes its own away.
                let _ = fs::remove_file(Path::new("/dev/shm").join(name));
            }
        }
    }
}

impl World {
    /// Starts the servers, sows so many databases, and starts the services. `store` is a file
    /// system that may be filled; without it the dumps lie in the fleet's own folder.
    pub async fn start(databases: usize, store: Option<PathBuf>, is_cluster: bool) -> Result<Self> {
        let herd = Herd::new(databases, SERVERS);
        // A process that is killed loses nothing that the operating system has.
        let options = ["--innodb-flush-log-at-trx-commit=2", "--sync-binlog=0"];
        let settings = Settings {
            relaxed_durability: false,
            more_options: options.map(str::to_owned).to_vec(),
        };
        let plan = Plan {
            sources: SERVERS,
            destinations: SERVERS,
            slots: SLOTS,
            both_ways: false,
            settings,
        };
        let bed = Bed::new()?;
        let records = |sources: &[IpAddr]| herd.records(sources);
        let (fleet, cluster) = if is_cluster {
            let (mut servers, cluster) = Cluster::start(&bed).await?;
            let first = servers.remove(0);
            (Fleet::start_on(first, bed, &plan, records).await?, Some((servers, cluster)))
        } else {
            (Fleet::start(bed, &plan, records).await?, None)
        };
        herd.sow(&fleet).await?;
        let config = fleet.write_config()?;
        let can_fill = store.is_some();
        let store = store.unwrap_or_else(|| fleet.bed.dir().join("store"));
        let others = cluster.as_ref().map_or(&[][..], |(others, _)| others);
        let links = [links(&fleet, others).await?, links(&fleet, others).await?];
        let mut services = Vec::new();
        for (kind, number) in SERVICES {
            for (side, letter) in ["a", "b"].iter().enumerate().take(number) {
                let name = format!("{kind}-{letter}");
                services.push(Service { name, kind, side, process: Mutex::new(None) });
            }
        }
        let faketime = find_faketime();
        let drover = binary()?;
        let world = Self {
            herd,
            services,
            links,
            store,
            can_fill,
            faketime,
            clocked: Mutex::default(),
            cluster,
            drover,
            config,
            fleet,
        };
        world.drover(&["init", "--streams"]).await?;
        for service in &world.services {
            world.run(service)?;
        }
        Ok(world)
    }

    /// Starts a service's process where it has none.
    pub fn run(&self, service: &Service) -> Result<()> {
        let mut process = service.lock();
        if process.as_ref().is_some_and(|process| !process.has_ended()) {
            return Ok(());
        }
        let mut command = self.command();
        command.args(["serve", service.kind]);
        let (links, scheme) = (&self.links[service.side], self.fleet.nats.scheme());
        let nats = links.iter().filter(|(target, _)| target == NATS);
        let urls: Vec<String> =
            nats.map(|(_, link)| format!("{scheme}://{}", link.address())).collect();
        command.env("DROVER_NATS__URL", urls.join(","));
        for (target, link) in links.iter().filter(|(target, _)| target != NATS) {
            let (key, value) = match target.as_str() {
                "smtp" => ("NOTIFY__SMTP__HOST".to_owned(), link.address().ip().to_string()),
                server => {
                    let server = server.to_uppercase().replace('-', "_");
                    (format!("SERVERS__{server}__MYSQL__HOST"), link.address().ip().to_string())
                }
            };
            command.env(format!("DROVER_{key}"), value);
        }
        // One side's clocks are the machine's own.
        if let Some(library) = self.faketime.as_ref().filter(|_| service.side == 1) {
            self.set_clock(service, 0)?;
            command
                .env("LD_PRELOAD", library)
                .env("FAKETIME_TIMESTAMP_FILE", self.clock(service))
                .env("FAKETIME_CACHE_DURATION", "1")
                .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        }
        let begun = self.fleet.bed.spawn(&format!("drover-{}", service.name), command)?;
        self.clocked.lock().unwrap_or_else(PoisonError::into_inner).push(begun.pid());
        *process = Some(begun);
        Ok(())
    }

    /// Whether a service's clock can be made to jump.
    pub fn has_clock(&self, service: &Service) -> bool {
        self.faketime.is_some() && service.side == 1
    }

    /// Lets a service's clock go wrong by so many seconds, without a restart.
    pub fn set_clock(&self, service: &Service, seconds: i64) -> Result<()> {
        Ok(fs::write(self.clock(service), format!("{seconds:+}"))?)
    }

    fn clock(&self, service: &Service) -> PathBuf {
        self.fleet.bed.dir().join(format!("{}.clock", service.name))
    }

    /// The binary, with its configuration; over no link.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.drover);
        command.env("DROVER_CONFIG", &self.config).envs(environment(&self.store));
        if self.cluster.is_some() {
            let urls: Vec<String> = self.nats_servers().iter().map(|it| it.url()).collect();
            command.env("DROVER_NATS__URL", urls.join(","));
            command.env("DROVER_NATS__REPLICAS", cluster::SERVERS.to_string());
        }
        command
    }

    /// A connection to the bus, as whoever may do everything there.
    pub async fn bus(&self) -> Result<async_nats::Client> {
        let mut options = ConnectOptions::new();
        if self.fleet.nats.scheme() == "tls" {
            let folder = bus_folder(&self.fleet.bed);
            let seed = fs::read_to_string(folder.join("users/admin.nk"))?;
            options = ConnectOptions::with_nkey(seed.trim().to_owned())
                .add_root_certificates(folder.join("authority.pem"))
                .custom_inbox_prefix(User::Admin.inbox());
        }
        let urls: Vec<String> = self.nats_servers().iter().map(|it| it.url()).collect();
        Ok(options.connect(urls).await?)
    }

    /// The nats-servers: one, or the cluster's.
    pub fn nats_servers(&self) -> Vec<&Nats> {
        let others = self.cluster.iter().flat_map(|(others, _)| others);
        [&self.fleet.nats].into_iter().chain(others).collect()
    }

    /// Runs a command of the binary to its end; what it printed.
    pub async fn drover(&self, arguments: &[&str]) -> Result<String> {
        let mut command = tokio::process::Command::from(self.command());
        let output = command.args(arguments).kill_on_drop(true).output().await?;
        if !output.status.success() {
            bail!("drover {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(String::from_utf8(output.stdout)?)
    }

    /// What `drover reconcile` finds between log, servers, zone, store and queue, one line each.
    pub async fn reconcile(&self) -> Result<Vec<String>> {
        let mut command = tokio::process::Command::from(self.command());
        let output =
            command.args(["reconcile", CAMPAIGN, "--json"]).kill_on_drop(true).output().await?;
        let report: serde_json::Value = serde_json::from_slice(&output.stdout)
            .with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
        let differences = report["differences"].as_array().context("no differences are told")?;
        Ok(differences.iter().map(ToString::to_string).collect())
    }

    /// What an operator does now and then: takes in again what was set aside, and tries again what
    /// is parked.
    pub async fn operate(&self) {
        self.take_in_again().await;
        let _ = self.drover(&["retry", CAMPAIGN, "--all"]).await;
    }

    /// Resumes the campaign where it paused itself, and releases the hosts that were set aside. A
    /// command that fails, because the bus is away or there is nothing to do, is given again later.
    pub async fn take_in_again(&self) {
        let _ = self.drover(&["resume", CAMPAIGN]).await;
        for server in self.fleet.servers() {
            let _ = self.drover(&["hosts", CAMPAIGN, "--release", server.name()]).await;
        }
    }

    /// A MySQL server by its name.
    pub fn server(&self, name: &str) -> Result<&Mariadb> {
        self.fleet.servers().find(|server| server.name() == name).context("an unknown server")
    }

    /// Makes everything run as it should.
    pub async fn mend(&self) -> Result<()> {
        for (_, link) in self.links.iter().flatten() {
            link.set(drover_testbed::link::State::Open(Duration::ZERO));
        }
        for service in &self.services {
            if self.has_clock(service) {
                self.set_clock(service, 0)?;
            }
            service.signal(nix::sys::signal::Signal::SIGCONT)?;
            self.run(service)?;
        }
        Ok(())
    }
}

async fn links(fleet: &Fleet, others: &[Nats]) -> Result<Vec<(String, Link)>> {
    let mut links = Vec::new();
    let nats = [&fleet.nats].into_iter().chain(others);
    let mut targets: Vec<(String, SocketAddr)> =
        nats.map(|server| (NATS.to_owned(), server.socket())).collect();
    targets.push(("smtp".to_owned(), fleet.smtp.address()));
    let mysql = |server: &Mariadb| (server.name().to_owned(), socket(server));
    targets.extend(fleet.servers().map(mysql));
    for (name, target) in targets {
        links.push((name, Link::start(&fleet.bed, target).await?));
    }
    Ok(links)
}

fn socket(server: &Mariadb) -> SocketAddr {
    let address: IpAddr = server.address();
    SocketAddr::new(address, server.port())
}

fn find_faketime() -> Option<PathBuf> {
    let folders = fs::read_dir("/usr/lib").ok()?.flatten();
    folders.map(|folder| folder.path().join(FAKETIME)).find(|library| library.is_file())
}

/// The `drover` binary beside this one.
pub fn binary() -> Result<PathBuf> {
    let drover = std::env::current_exe()?.with_file_name("drover");
    if !drover.is_file() {
        bail!("{} is missing: run ops/chaos, which builds it", drover.display());
    }
    Ok(drover)
}
