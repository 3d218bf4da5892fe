//! At the destination: import, verify, open, close, drop.
//!
//! Stateless: all that a step needs is in its job and in the store, and what was done to the
//! server is in the server's ledger. Any number of instances may serve the same hosts.

use std::collections::BTreeMap;

use drover_bus::Bus;
use drover_dumpstore::{Key, Store, Written};
use drover_lifecycle::Conclusion;
use drover_mysql::{Accounts, Definers, Manifest, Order, Server, Successors, seal};
use drover_schemas::{
    Code, Failure, ServerName,
    streams::Service as Kind,
    subjects::Host,
    v1::{
        DestinationClosed, DestinationOpened, DumpStored, ImportCompleted, Job, Step,
        migration_event::Event,
    },
};
use tokio_util::sync::CancellationToken;

/// A server that databases are brought to.
#[derive(Clone)]
pub struct Destination {
    /// The server.
    pub server: Server,
    /// How many databases are in work at once, over all instances.
    pub slots: u32,
    /// How accounts are sealed to it.
    pub seal: seal::Options,
}

/// The service. Cheap to clone.
#[derive(Clone)]
pub struct Service {
    bus: Bus,
    store: Store,
    destinations: BTreeMap<ServerName, Destination>,
    instance: String,
}

impl Service {
    /// Serves these destinations; `instance` is unique among the import services.
    pub fn new(
        bus: Bus,
        store: Store,
        destinations: BTreeMap<ServerName, Destination>,
        instance: &str,
    ) -> Self {
        Self { bus, store, destinations, instance: instance.to_owned() }
    }

    /// Runs until `shutdown`.
    ///
    /// # Errors
    /// When the bus refuses the consumers at the start.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), Failure> {
        let bus = self.bus.clone();
        let instance = self.instance.clone();
        let hosts: Vec<_> = self
            .destinations
            .iter()
            .map(|(name, destination)| (Host::Server(name.clone()), destination.slots))
            .collect();
        let servers = self
            .destinations
            .iter()
            .map(|(name, destination)| (name.clone(), destination.server.clone()));
        let ask = |server| async move { Ok(drover_mysql::load(&server).await?) };
        let _telling = drover_worker::tell_loads(&bus, servers, ask);
        let step = move |job| {
            let service = self.clone();
            async move { service.step(&job).await }
        };
        drover_worker::run(&bus, Kind::Import, &instance, hosts, shutdown, step).await
    }

    /// Does a job's step.
    ///
    /// # Errors
    /// The step's own; and [`Code::JobIncomplete`] where the job is not for this service.
    pub async fn step(&self, job: &Job) -> Conclusion {
        let order = Order::try_from(job)?;
        let Destination { server, seal, .. } = self.destination(job)?;
        match job.step() {
            Step::Import => Ok(Event::ImportCompleted(self.import(&order, job).await?)),
            Step::Verify => {
                let manifest = self.manifest(dump_of(job)?).await?;
                let verified = drover_mysql::verify(server, &order, &manifest.contents).await?;
                Ok(Event::CopyVerified(verified))
            }
            // A rollback was refused: the accounts are here, and no longer in the store.
            Step::Open if job.opened.is_some() => {
                Ok(Event::DestinationOpened(drover_mysql::reopen(server, &order).await?))
            }
            Step::Open => {
                let dump = dump_of(job)?;
                let digest = self.manifest(dump).await?.accounts_sha256;
                let accounts = self.accounts(seal, dump, &digest).await?;
                let opened = drover_mysql::open(server, &order, &accounts).await?;
                note_frozen(job, &opened);
                Ok(Event::DestinationOpened(opened))
            }
            Step::Close => Ok(Event::DestinationClosed(self.close(server, &order, job).await?)),
            Step::Drop => {
                Ok(Event::DestinationDropped(drover_mysql::drop_copy(server, &order).await?))
            }
            Step::Unspecified
            | Step::Freeze
            | Step::Dump
            | Step::Disarm
            | Step::Switch
            | Step::Retire
            | Step::Publish
            | Step::Announce
            | Step::Expire
            | Step::Revert
            | Step::Thaw => Err(drover_worker::foreign(Kind::Import, job)),
        }
    }

    /// Loads the dump. It counts only when every byte of the stored object was read and is what
    /// was written.
    async fn import(&self, order: &Order, job: &Job) -> Result<ImportCompleted, Failure> {
        let (Destination { server, seal, .. }, dump) = (self.destination(job)?, dump_of(job)?);
        let manifest = self.manifest(dump).await?;
        let contents = &manifest.contents;
        if contents.stored_bytes() != dump.dump_bytes {
            let (found, expected) = (contents.stored_bytes(), dump.dump_bytes);
            let text = format!("the manifest is of a dump of {found} bytes, not {expected}");
            return Err(Failure::new(Code::DumpDamaged, text));
        }
        let written = Written { bytes: dump.dump_bytes, sha256: dump.dump_sha256.clone() };
        let object = self.store.read(&key(&dump.dump_object)?, &written).await?;
        let policy = job.policy.as_ref().map(Definers::from).unwrap_or_default();
        if policy == Definers::Keep {
            let imported = drover_mysql::import(server, order, contents, None, object).await;
            return imported.map_err(failure);
        }
        let come = self.accounts(seal, dump, &manifest.accounts_sha256).await?;
        let successors = Some(Successors { policy: &policy, come: &come });
        drover_mysql::import(server, order, contents, successors, object).await.map_err(failure)
    }

    /// The accounts that come with a database.
    async fn accounts(
        &self,
        seal: &seal::Options,
        dump: &DumpStored,
        digest: &str,
    ) -> Result<Accounts, Failure> {
        let key = key(&dump.accounts_object)?;
        Ok(seal.open(&self.store.get_small(&key, Some(digest)).await?)?)
    }

    /// Keeps the customer out. Where the destination's writes are to be kept it is first held
    /// against what it was when it opened; what that was is known before anybody is kept out.
    async fn close(
        &self,
        server: &Server,
        order: &Order,
        job: &Job,
    ) -> Result<DestinationClosed, Failure> {
        if !job.keep_writes {
            return Ok(drover_mysql::close(server, order, None).await?);
        }
        let manifest = match self.manifest(dump_of(job)?).await {
            Err(Failure { code: Code::StoreMissing, message }) => {
                let text = format!("nobody knows what it was when it opened: {message}");
                return Err(Failure::new(Code::DestinationWritten, text));
            }
            other => other?,
        };
        let opened_with = Some(&manifest.contents.description);
        Ok(drover_mysql::close(server, order, opened_with).await?)
    }

    async fn manifest(&self, dump: &DumpStored) -> Result<Manifest, Failure> {
        let key = key(&dump.manifest_object)?;
        let json = self.store.get_small(&key, Some(&dump.manifest_sha256)).await?;
        Manifest::from_json(&json)
            .map_err(|error| Failure::new(Code::StoreCorrupt, format!("{key}: {error}")))
    }

    fn destination(&self, job: &Job) -> Result<&Destination, Failure> {
        let name = job.planned.as_ref().map_or("", |planned| planned.destination.as_str());
        let destination = self.destinations.iter().find(|(known, _)| known.as_str() == name);
        destination.map(|(_, destination)| destination).ok_or_else(|| {
            let text = format!("the destination {name:?} is not in this service's configuration");
            Failure::new(Code::JobIncomplete, text)
        })
    }
}

/// Counts how long the customer could not write, by the clocks of the two ledgers, which may differ
/// by more than it took.
fn note_frozen(job: &Job, opened: &DestinationOpened) {
    if let Some(frozen) = &job.frozen {
        let ms = opened.opened_at_unix_ms.saturating_sub(frozen.frozen_at_unix_ms).max(0);
        metrics::histogram!("drover_frozen_seconds").record(ms as f64 / 1000.0);
    }
}

fn dump_of(job: &Job) -> Result<&DumpStored, Failure> {
    let missing = || Failure::new(Code::JobIncomplete, "the job does not say where the dump is");
    job.dump.as_ref().ok_or_else(missing)
}

fn key(text: &str) -> Result<Key, Failure> {
    Ok(text.parse::<Key>()?)
}

/// An error of the import; where its stream failed, of the store.
fn failure(error: drover_mysql::Error) -> Failure {
    match error {
        drover_mysql::Error::Reading { source, .. } => {
            drover_dumpstore::Error::from_io(source).into()
        }
        other => other.into(),
    }
}
