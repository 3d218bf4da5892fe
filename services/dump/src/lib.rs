//! At the source: freeze, dump, disarm, retire, thaw.
//!
//! Stateless: all that a step needs is in its job, and what was done to the server is in the
//! server's ledger. Any number of instances may serve the same hosts.

mod dump;

use std::{collections::BTreeMap, time::Duration};

use drover_bus::Bus;
use drover_dumpstore::Store;
use drover_lifecycle::Conclusion;
use drover_mysql::{Order, Server, seal};
use drover_schemas::{
    Code, Failure, ServerName,
    streams::Service as Kind,
    subjects::Host,
    v1::{Job, Step, migration_event::Event},
};
use tokio_util::sync::CancellationToken;

/// A server that databases are moved away from, and how many at once.
#[derive(Clone)]
pub struct Source {
    /// The server.
    pub server: Server,
    /// How many of its databases are in work at once, over all instances.
    pub slots: u32,
}

/// The service. Cheap to clone.
#[derive(Clone)]
pub struct Service {
    bus: Bus,
    store: Store,
    sources: BTreeMap<ServerName, Source>,
    seals: BTreeMap<ServerName, seal::Options>,
    instance: String,
}

impl Service {
    /// Serves these sources. `seals` are the destinations' public keys; `instance` is unique among
    /// the dump services.
    pub fn new(
        bus: Bus,
        store: Store,
        sources: BTreeMap<ServerName, Source>,
        seals: BTreeMap<ServerName, seal::Options>,
        instance: &str,
    ) -> Self {
        Self { bus, store, sources, seals, instance: instance.to_owned() }
    }

    /// Runs until `shutdown`.
    ///
    /// # Errors
    /// When the bus refuses the consumers at the start.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), Failure> {
        let bus = self.bus.clone();
        let instance = self.instance.clone();
        let hosts: Vec<_> = self
            .sources
            .iter()
            .map(|(name, source)| (Host::Server(name.clone()), source.slots))
            .collect();
        let servers =
            self.sources.iter().map(|(name, source)| (name.clone(), source.server.clone()));
        let ask = |server| async move { Ok(drover_mysql::load(&server).await?) };
        let _telling = drover_worker::tell_loads(&bus, servers, ask);
        let step = move |job| {
            let service = self.clone();
            async move { service.step(&job).await }
        };
        drover_worker::run(&bus, Kind::Dump, &instance, hosts, shutdown, step).await
    }

    /// Does a job's step.
    ///
    /// # Errors
    /// The step's own; and [`Code::JobIncomplete`] where the job is not for this service.
    pub async fn step(&self, job: &Job) -> Conclusion {
        let order = Order::try_from(job)?;
        let server = self.server(job)?;
        match job.step() {
            Step::Freeze => {
                let grace = job.policy.as_ref().map_or(0, |policy| policy.session_grace_ms);
                let grace = Duration::from_millis(grace.into());
                Ok(Event::SourceFrozen(drover_mysql::freeze(server, &order, grace).await?))
            }
            Step::Dump => Ok(Event::DumpStored(self.dump(server, &order, job).await?)),
            Step::Disarm => Ok(Event::SourceDisarmed(drover_mysql::disarm(server, &order).await?)),
            Step::Retire => Ok(Event::SourceRetired(drover_mysql::retire(server, &order).await?)),
            Step::Thaw => Ok(Event::SourceThawed(self.thaw(server, &order).await?)),
            Step::Unspecified
            | Step::Import
            | Step::Verify
            | Step::Open
            | Step::Switch
            | Step::Publish
            | Step::Announce
            | Step::Expire
            | Step::Revert
            | Step::Close
            | Step::Drop => Err(drover_worker::foreign(Kind::Dump, job)),
        }
    }

    fn server(&self, job: &Job) -> Result<&Server, Failure> {
        let name = job.planned.as_ref().map_or("", |planned| planned.source.as_str());
        let source = self.sources.iter().find(|(known, _)| known.as_str() == name);
        source.map(|(_, source)| &source.server).ok_or_else(|| {
            let text = format!("the source {name:?} is not in this service's configuration");
            Failure::new(Code::JobIncomplete, text)
        })
    }
}
