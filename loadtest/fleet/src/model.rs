//! The model of the servers: what a step does and how long it takes, in place of MariaDB, the
//! object store, the DNS server and the mail server. Everything around it is the real thing.
//!
//! It keeps what would be at the servers of each database on its way, so that a host that lies
//! is caught by `verify` as a real one would be, and so that an order which a real ledger would
//! refuse, or which would break a promise, is counted.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::Result;
use chrono::Utc;
use drover_lifecycle::Conclusion;
use drover_schemas::{
    Code, Failure,
    streams::Service,
    v1::{
        self, ConsistencyPoint, DestinationClosed, DestinationOpened, DnsChange, DnsReverted,
        DnsSwitched, DumpPublished, DumpStored, HostLoad, Job, SourceFrozen, SourceRetired,
        SourceThawed, Step, migration_event::Event,
    },
};
use tokio::time::sleep;
use tracing::warn;

use crate::{
    herd::{Fleet, Health, SLOW_FACTOR, destination_name, source_name, sum},
    load::{Load, slowdown},
    record::Record,
};

/// How often a flapping host answers, and then does not, over and over. Counted and not timed, so that it
/// is the same on every machine.
const FLAP: (u64, u64) = (8, 24);
/// How long a host that does not answer is waited for, at the real time scale.
const CONNECT_WAIT: Duration = Duration::from_secs(2);
/// How long the dumps are kept: longer than any run.
const RETENTION_MS: i64 = 30 * 86_400_000;

/// What is left of a knee when a neighbour's load has doubled that had taken a third of the whole.
const LEFT: f64 = 0.5;

/// The servers.
pub struct Model {
    fleet: Fleet,
    hosts: HashMap<String, Host>,
    /// The storage that all hosts share.
    shared: Load,
    /// A neighbour's load has doubled.
    is_crowded: AtomicBool,
    databases: Mutex<HashMap<String, Database>>,
    /// What was measured.
    pub record: Record,
    breaches: AtomicU64,
    /// How many databases were frozen.
    freezes: AtomicU64,
    /// How many are frozen and not yet open, and how many were at the most since all became slow.
    frozen: Mutex<Frozen>,
}

/// Customers who cannot write.
#[derive(Debug, Clone, Copy, Default)]
struct Frozen {
    now: u64,
    slowed_max: u64,
}

struct Host {
    health: Health,
    load: Load,
    /// How often it was asked.
    asked: AtomicU64,
}

/// What is at the servers of one database on its way.
#[derive(Debug, Clone, Copy, Default)]
struct Database {
    frozen: bool,
    disarmed: bool,
    copied: bool,
    open: bool,
    switched: bool,
}

impl Model {
    /// Nothing was done to these servers yet.
    pub fn new(fleet: Fleet) -> Result<Arc<Self>> {
        let host = |health| Host { health, load: Load::default(), asked: AtomicU64::new(0) };
        let mut hosts = HashMap::new();
        for n in 0..fleet.sources {
            hosts.insert(source_name(n)?.to_string(), host(fleet.source_health(n)));
        }
        for n in 0..fleet.destinations {
            hosts.insert(destination_name(n)?.to_string(), host(fleet.destination_health(n)));
        }
        Ok(Arc::new(Self {
            fleet,
            hosts,
            shared: Load::default(),
            is_crowded: AtomicBool::new(false),
            databases: Mutex::default(),
            record: Record::default(),
            breaches: AtomicU64::new(0),
            freezes: AtomicU64::new(0),
            frozen: Mutex::default(),
        }))
    }

    /// How often a promise was broken: a copy opened that is none or whose source is not frozen,
    /// a name switched to a copy that is not open, a source thawed beside an open copy.
    pub fn breaches(&self) -> u64 {
        self.breaches.load(Ordering::Relaxed)
    }

    /// How many databases were frozen at once, at the most, since all destinations became slow.
    pub fn frozen_slowed_max(&self) -> u64 {
        self.frozen.lock().unwrap_or_else(PoisonError::into_inner).slowed_max
    }

    /// A neighbour's load doubles, for good: of every knee half is left.
    pub fn crowd(&self) {
        self.is_crowded.store(true, Ordering::Relaxed);
    }

    /// What a host says that it is under: its steps in work, and what a neighbour takes of its knee.
    pub fn load(&self, host: &str) -> HostLoad {
        let neighbour = (f64::from(self.fleet.knee) * (1.0 - self.left())) as u32;
        let own = self.hosts.get(host).map_or(0, |host| host.load.count());
        HostLoad { threads_running: own + neighbour, ..HostLoad::default() }
    }

    /// The share of each knee that a neighbour leaves.
    fn left(&self) -> f64 {
        if self.is_crowded.load(Ordering::Relaxed) { LEFT } else { 1.0 }
    }

    fn is_slowed(&self) -> bool {
        let after = self.fleet.slowed_after;
        after > 0 && self.freezes.load(Ordering::Relaxed) >= after
    }

    /// A database was frozen, or is writable again at one end.
    fn count_frozen(&self, froze: bool) {
        let slowed = self.is_slowed();
        let mut frozen = self.frozen.lock().unwrap_or_else(PoisonError::into_inner);
        if froze {
            self.freezes.fetch_add(1, Ordering::Relaxed);
            frozen.now += 1;
        } else {
            frozen.now = frozen.now.saturating_sub(1);
        }
        if slowed {
            frozen.slowed_max = frozen.slowed_max.max(frozen.now);
        }
    }

    /// Does a job's step, as the services' steps would.
    ///
    /// # Errors
    /// The failures that the fleet is made to have.
    pub async fn step(self: Arc<Self>, job: Job) -> Conclusion {
        let begun = self.record.begin(&job);
        let planned = job.planned.clone().unwrap_or_default();
        let bytes = self.fleet.size_bytes(&planned.database);
        let own = self.fleet.step_time(job.step(), bytes).mul_f64(self.fleet.luck(&job));
        let conclusion = match self.host_of(&job) {
            Some(host) => self.at_host(host, &job, own).await,
            None => {
                sleep(own).await;
                Ok(())
            }
        };
        let conclusion = conclusion.and_then(|()| self.effect(&job, &planned, bytes));
        self.record.end(&job, begun, own, conclusion.is_ok());
        conclusion
    }

    fn host_of(&self, job: &Job) -> Option<&Host> {
        let planned = job.planned.as_ref()?;
        match job.step() {
            Step::Freeze | Step::Dump | Step::Disarm | Step::Retire | Step::Thaw => {
                self.hosts.get(&planned.source)
            }
            Step::Import | Step::Verify | Step::Open | Step::Close | Step::Drop => {
                self.hosts.get(&planned.destination)
            }
            Step::Unspecified
            | Step::Switch
            | Step::Publish
            | Step::Announce
            | Step::Expire
            | Step::Revert => None,
        }
    }

    /// The time at the host, and what its health makes of it.
    async fn at_host(&self, host: &Host, job: &Job, own: Duration) -> Result<(), Failure> {
        let scale = self.fleet.time_scale.max(f64::MIN_POSITIVE);
        let is_away = match host.health {
            Health::Dead => true,
            Health::Flapping => {
                let (answers, silent) = FLAP;
                host.asked.fetch_add(1, Ordering::Relaxed) % (answers + silent) >= answers
            }
            Health::Sound | Health::Slow | Health::Lying => false,
        };
        if is_away {
            sleep(CONNECT_WAIT.div_f64(scale)).await;
            return Err(Failure::new(Code::ServerUnreachable, "no answer"));
        }
        let at_destination = Service::Import.steps().contains(&job.step());
        let slowed = if at_destination && self.is_slowed() { SLOW_FACTOR } else { 1.0 };
        let places = [host.load.enter(), self.shared.enter()];
        let crowded = self.crowding(places.each_ref().map(|place| place.count));
        sleep(own.mul_f64(crowded * Fleet::slowness(host.health) * slowed)).await;
        drop(places);
        let id = job
            .migration_id
            .parse()
            .map_err(|_| Failure::new(Code::JobIncomplete, "the job's migration is not an id"))?;
        if self.fleet.fails(id, job.step(), job.run, job.attempt) {
            return Err(Failure::new(Code::ServerFailed, "error 1205: lock wait timeout"));
        }
        Ok(())
    }

    /// How much slower a step is for what else is in work at its host and at what all share:
    /// whichever is the narrower.
    fn crowding(&self, [at_host, at_all]: [u32; 2]) -> f64 {
        let Fleet { knee, shared_knee, thrash, .. } = self.fleet;
        let left = self.left();
        let here = slowdown(at_host, left * f64::from(knee), thrash);
        match shared_knee {
            0 => here,
            knee => here.max(slowdown(at_all, left * f64::from(knee), thrash)),
        }
    }

    /// What is at the servers afterwards, and what the step's event says.
    fn effect(&self, job: &Job, planned: &v1::MigrationPlanned, bytes: u64) -> Conclusion {
        if self.fleet.hopeless(&planned.database) == Some(job.step()) {
            return Err(Failure::new(Code::ServerRefused, "error 1118: row size too large"));
        }
        let lies =
            self.hosts.get(&planned.destination).is_some_and(|host| host.health == Health::Lying);
        let mut databases = self.databases.lock().unwrap_or_else(PoisonError::into_inner);
        let database = databases.entry(job.migration_id.clone()).or_default();
        let breach = || {
            self.breaches.fetch_add(1, Ordering::Relaxed);
            let Job { migration_id, run, attempt, revision, .. } = job;
            warn!(step = ?job.step(), migration_id, run, attempt, revision, "a promise is broken");
        };
        match job.step() {
            Step::Freeze => {
                if !std::mem::replace(&mut database.frozen, true) {
                    self.count_frozen(true);
                }
            }
            Step::Import => database.copied = !lies,
            Step::Verify if !database.copied => {
                return Err(Failure::new(Code::CopyDiffers, "table wp_posts is missing"));
            }
            Step::Open => {
                if !database.frozen || !database.copied || !database.disarmed {
                    breach();
                }
                if !std::mem::replace(&mut database.open, true) {
                    self.count_frozen(false);
                }
            }
            Step::Switch => {
                if !database.open {
                    breach();
                }
                database.switched = true;
            }
            Step::Thaw => {
                if database.open {
                    breach();
                }
                if database.frozen && !database.open {
                    self.count_frozen(false);
                }
                databases.remove(&job.migration_id);
            }
            Step::Close => database.open = false,
            Step::Drop => database.copied = false,
            Step::Revert => database.switched = false,
            // It has left the model.
            Step::Announce => drop(databases.remove(&job.migration_id)),
            Step::Disarm => database.disarmed = true,
            Step::Verify
            | Step::Dump
            | Step::Retire
            | Step::Publish
            | Step::Expire
            | Step::Unspecified => {}
        }
        drop(databases);
        event(job, bytes)
    }
}

/// The step's event, of the size that a real one has.
fn event(job: &Job, bytes: u64) -> Conclusion {
    let now = Utc::now().timestamp_millis();
    let id = &job.migration_id;
    let (tables, rows) = (12, bytes / 100);
    let name = || job.planned.as_ref().and_then(|p| p.host_names.first().cloned());
    let change = |old: &str, new: &str| DnsChange {
        host_name: name().unwrap_or_default(),
        record_type: "A".to_owned(),
        old_values: vec![old.to_owned()],
        new_values: vec![new.to_owned()],
        old_ttl_seconds: 0,
        new_ttl_seconds: 300,
    };
    Ok(match job.step() {
        Step::Freeze => Event::SourceFrozen(SourceFrozen {
            consistency_point: Some(ConsistencyPoint {
                gtid: format!("0-1-{bytes}"),
                binlog_file: "binlog.000042".to_owned(),
                binlog_position: bytes,
                at_unix_ms: now,
            }),
            frozen_at_unix_ms: now,
            accounts: 1,
            sessions_ended: 2,
            scheduled_events_stopped: 0,
            // The model's sources have no watchdog.
            thaw_at_unix_ms: 0,
            watchdog_armed: false,
        }),
        Step::Dump => Event::DumpStored(DumpStored {
            dump_object: format!("{}/{id}/{}-{}/dump.sql.zst", job.campaign, job.run, job.attempt),
            manifest_object: format!("{}/{id}/{}-{}/manifest", job.campaign, job.run, job.attempt),
            accounts_object: format!("{}/{id}/{}-{}/accounts", job.campaign, job.run, job.attempt),
            dump_bytes: bytes / 4,
            dump_sha256: sum(&format!("{id} dump")),
            manifest_sha256: sum(&format!("{id} manifest")),
            tables,
            rows,
        }),
        Step::Import => {
            Event::ImportCompleted(v1::ImportCompleted { tables, dump_bytes: bytes / 4 })
        }
        Step::Verify => Event::CopyVerified(v1::CopyVerified { tables, rows }),
        Step::Disarm => {
            Event::SourceDisarmed(v1::SourceDisarmed { disarmed_at_unix_ms: now, took_us: 0 })
        }
        Step::Open => Event::DestinationOpened(DestinationOpened {
            accounts: 1,
            opened_at_unix_ms: now,
            took_us: 0,
        }),
        Step::Switch => {
            Event::DnsSwitched(DnsSwitched { changes: vec![change("192.0.2.1", "198.51.100.1")] })
        }
        Step::Retire => Event::SourceRetired(SourceRetired { accounts: 1 }),
        Step::Publish => Event::DumpPublished(DumpPublished {
            link: format!("https://dumps.example.net/{id}?signature={}", "c".repeat(43)),
            expires_at_unix_ms: now + RETENTION_MS,
        }),
        Step::Announce => Event::CustomerNotified(v1::CustomerNotified {
            channels: vec!["smtp".to_owned(), "webhook".to_owned()],
            idempotency_key: id.clone(),
        }),
        Step::Expire => Event::DumpExpired(v1::DumpExpired::default()),
        Step::Revert => {
            Event::DnsReverted(DnsReverted { changes: vec![change("198.51.100.1", "192.0.2.1")] })
        }
        Step::Close => Event::DestinationClosed(DestinationClosed { accounts: 1 }),
        Step::Drop => Event::DestinationDropped(v1::DestinationDropped::default()),
        Step::Thaw => Event::SourceThawed(SourceThawed { thawed_at_unix_ms: now, accounts: 1 }),
        Step::Unspecified => return Err(Failure::new(Code::JobIncomplete, "it has no step")),
    })
}
