//! The two steps, switch and revert, and the loop that takes them from the queue.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use drover_schemas::{
    MigrationId, ServerName,
    v1::{DnsChange, DnsReverted, DnsSwitched, Job, MigrationPlanned},
};
use futures::future::try_join_all;
use hickory_proto::rr::{RData, Record, RecordType, TSigner};
use tokio::time::{Instant, sleep};

use crate::{
    client::{Client, Updated, unix_s},
    decide::{self, Decision, Found, Order},
    error::Error,
    keys,
    names::{HostName, absolute, canonical, check_host_names},
    options::{Options, Target, Zone},
    pace::Pace,
    records::{Change, Kind, Rrset, Values},
    update,
};

/// How often a step reads and writes again because something changed in between.
const TRIES_MAX: usize = 4;
/// The first and the longest pause between two looks at a server, in milliseconds.
const LOOK_AGAIN_MS: std::ops::RangeInclusive<u64> = 20..=1_000;

/// Points host names to a migration's destination, and back. Cheap to clone.
#[derive(Clone)]
pub struct Service {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) options: Options,
    pub(crate) signers: BTreeMap<String, TSigner>,
    pub(crate) targets: BTreeMap<ServerName, Target>,
    pub(crate) client: Client,
    pace: Pace,
}

impl Service {
    /// `targets` says for each server of the configuration what points to it.
    ///
    /// # Errors
    /// [`Error::Configuration`] and [`Error::Key`]; no server is asked.
    pub fn new(options: Options, targets: BTreeMap<ServerName, Target>) -> Result<Self, Error> {
        for (server, target) in &targets {
            target.check(server)?;
        }
        if options.updates_per_second_max == 0 || options.slots == 0 {
            let text = "updates_per_second_max and slots are at least 1";
            return Err(Error::Configuration(text.to_owned()));
        }
        let mut signers = BTreeMap::new();
        for zone in &options.zones {
            let name = canonical(&zone.name).map_err(|problem| {
                Error::Configuration(format!("zone {:?}: {problem}", zone.name))
            })?;
            if signers.insert(name, keys::signer(zone)?).is_some() {
                return Err(Error::Configuration(format!("zone {} stands twice", zone.name)));
            }
        }
        let client = Client::new(Duration::from_millis(options.answer_wait_ms.into()));
        let pace = Pace::new(options.updates_per_second_max);
        Ok(Self { inner: Arc::new(Inner { options, signers, targets, client, pace }) })
    }

    /// Points the migration's host names to its destination: all of them at once, or none.
    /// Returns when all authoritative servers say so. A migration without host names is done at
    /// once.
    ///
    /// # Errors
    /// See [`Error`]; nothing was changed unless it is [`Error::NotSeen`] or, perhaps,
    /// [`Error::Unreachable`]. The step can be done again after each of them.
    pub async fn switch(&self, job: &Job) -> Result<DnsSwitched, Error> {
        let (planned, hosts) = self.hosts(job)?;
        let Some(zone) = self.zone(&hosts)? else { return Ok(DnsSwitched::default()) };
        let source = self.target(&planned.source)?;
        let destination = self.target(&planned.destination)?;
        let decide = |order, found: &Found| {
            decide::switch(order, found, source, destination, zone.ttl_seconds)
        };
        let done = self.apply(job, zone, &hosts, self.signer(&hosts)?, decide).await?;
        let new = done.iter().flat_map(|(host, changes)| {
            changes.iter().map(move |change| (host, &change.new.values))
        });
        self.seen(zone, new.collect()).await?;
        Ok(DnsSwitched { changes: events(&done, Change::switched) })
    }

    /// Puts back what this migration's switch changed, and leaves a mark by which an older order
    /// to switch is refused, also where nothing had been switched.
    ///
    /// # Errors
    /// As [`Service::switch`].
    pub async fn revert(&self, job: &Job) -> Result<DnsReverted, Error> {
        let (_, hosts) = self.hosts(job)?;
        let Some(zone) = self.zone(&hosts)? else { return Ok(DnsReverted::default()) };
        let recorded = recorded(job)?;
        let decide = |order, found: &Found| {
            let own = recorded.get(&found.host_name).map(Vec::as_slice);
            decide::revert(order, found, own.unwrap_or_default())
        };
        let outcome = self.apply(job, zone, &hosts, self.signer(&hosts)?, decide).await;
        let done = match outcome {
            Err(refused @ Error::Refused { .. }) => {
                return self.nothing_to_revert(job, zone, &hosts, &recorded, refused).await;
            }
            outcome => outcome?,
        };
        let old = done.iter().flat_map(|(host, changes)| {
            changes.iter().map(move |change| (host, &change.old.values))
        });
        self.seen(zone, old.collect()).await?;
        Ok(DnsReverted { changes: events(&done, Change::reverted) })
    }

    /// Whether a migration's host names are as its switch would want them now; nothing is changed.
    ///
    /// # Errors
    /// What the switch would fail with.
    pub async fn look(&self, id: MigrationId, planned: &MigrationPlanned) -> Result<(), Error> {
        let hosts = check_host_names(&planned.host_names, &self.inner.options.zones)?;
        let Some(zone) = self.zone(&hosts)? else { return Ok(()) };
        let source = self.target(&planned.source)?;
        let destination = self.target(&planned.destination)?;
        // No order so far is newer than one that is not given yet.
        let order = Order { migration: id, revision: u64::MAX, run: 1, now_unix_s: unix_s() };
        for (_, found) in self.found(zone, &hosts, Some(self.signer(&hosts)?)).await? {
            decide::switch(order, &found, source, destination, zone.ttl_seconds)?;
        }
        Ok(())
    }

    pub(crate) fn slots(&self) -> u32 {
        self.inner.options.slots
    }

    /// Where the server refuses the key, it refuses older orders too: without a mark, but as long
    /// as it does. If nothing was switched, the undo need not wait for somebody to mend the key;
    /// the customer would stay read-only for nothing.
    async fn nothing_to_revert(
        &self,
        job: &Job,
        zone: &Zone,
        hosts: &[HostName],
        recorded: &Recorded,
        refused: Error,
    ) -> Result<DnsReverted, Error> {
        let order = order(job)?;
        let mut done = Vec::new();
        for found in self.found(zone, hosts, None).await? {
            let own = recorded.get(&found.0.as_str().to_owned()).map(Vec::as_slice);
            let decision = decide::revert(order, &found.1, own.unwrap_or_default())?;
            if !decision.replace.is_empty() {
                return Err(refused);
            }
            done.push((found.0, decision.changes));
        }
        tracing::warn!(migration = job.migration_id, %refused, "no mark written: nothing to revert");
        Ok(DnsReverted { changes: events(&done, Change::reverted) })
    }

    /// Reads, decides and writes until nothing came in between.
    async fn apply(
        &self,
        job: &Job,
        zone: &Zone,
        hosts: &[HostName],
        signer: &TSigner,
        decide: impl Fn(Order, &Found) -> Result<Decision, Error>,
    ) -> Result<Vec<Done>, Error> {
        let mut before = None;
        for _ in 0..TRIES_MAX {
            self.inner.pace.turn().await;
            let order = order(job)?;
            let found = self.found(zone, hosts, Some(signer)).await?;
            let plan = found
                .iter()
                .map(|(host, found)| Ok((host.clone(), found.clone(), decide(order, found)?)));
            let plan = match plan.collect::<Result<Vec<_>, Error>>() {
                Ok(plan) => plan,
                Err(refusal) if before.as_ref() == Some(&found) => return Err(refusal),
                // Records and mark are read one after the other. An update in between makes a
                // picture that never was: a refusal counts when it is seen twice.
                Err(_) => {
                    before = Some(found);
                    continue;
                }
            };
            if plan.iter().all(|(_, _, decision)| decision.mark.is_none())
                || self.update(zone, signer, order, &plan).await? == Updated::Done
            {
                return Ok(plan.into_iter().map(|it| (it.0, it.2.changes)).collect());
            }
            before = Some(found);
        }
        let after = self.found(zone, hosts, Some(signer)).await?;
        Err(self.never_as_found(zone, before.as_ref() == Some(&after), &after))
    }

    async fn update(
        &self,
        zone: &Zone,
        signer: &TSigner,
        order: Order,
        plan: &[(HostName, Found, Decision)],
    ) -> Result<Updated, Error> {
        let message = update::message(absolute(&canonical(&zone.name).unwrap_or_default())?, plan)?;
        // Signed as of the time of reading: see the crate's fourth reason.
        let signed_at = order.now_unix_s;
        self.inner.client.update(zone.primary, &zone.name, message, signer, signed_at).await
    }

    /// What the primary says of each host name.
    async fn found(
        &self,
        zone: &Zone,
        hosts: &[HostName],
        signer: Option<&TSigner>,
    ) -> Result<Vec<(HostName, Found)>, Error> {
        let mut all = Vec::with_capacity(hosts.len());
        for host in hosts {
            let found = Found {
                host_name: host.to_string(),
                sets: self.sets(zone, host, signer).await?,
                texts: self.texts(zone, host, signer).await?,
            };
            all.push((host.clone(), found));
        }
        Ok(all)
    }

    async fn sets(
        &self,
        zone: &Zone,
        host: &HostName,
        signer: Option<&TSigner>,
    ) -> Result<Vec<Rrset>, Error> {
        let name = host.name()?;
        let mut sets = Vec::new();
        for kind in Kind::ADDRESSES {
            let ask =
                self.inner.client.ask(zone.primary, &zone.name, &name, kind.record_type(), signer);
            let records = ask.await?;
            if let Some(alias) = of_kind(Kind::Cname, &records) {
                return Ok(vec![alias]);
            }
            sets.extend(of_kind(kind, &records));
        }
        Ok(sets)
    }

    pub(crate) async fn texts(
        &self,
        zone: &Zone,
        host: &HostName,
        signer: Option<&TSigner>,
    ) -> Result<Vec<hickory_proto::rr::rdata::TXT>, Error> {
        let name = host.mark_name()?;
        let client = &self.inner.client;
        let records = client.ask(zone.primary, &zone.name, &name, RecordType::TXT, signer).await?;
        let texts = records.into_iter().filter_map(|record| match record.data {
            RData::TXT(txt) => Some(txt),
            _ => None,
        });
        Ok(texts.collect())
    }

    /// Waits until all authoritative servers give these values.
    async fn seen(&self, zone: &Zone, values: Vec<(&HostName, &Values)>) -> Result<(), Error> {
        if values.is_empty() {
            return Ok(());
        }
        let wait = Duration::from_millis(self.inner.options.seen_wait_ms.into());
        let deadline = Instant::now() + wait;
        let servers = if zone.servers.is_empty() {
            std::slice::from_ref(&zone.primary)
        } else {
            &zone.servers
        };
        let all = servers.iter().map(|server| self.seen_at(zone, *server, &values, deadline));
        try_join_all(all).await.map(|_| ())
    }

    async fn seen_at(
        &self,
        zone: &Zone,
        server: SocketAddr,
        values: &[(&HostName, &Values)],
        deadline: Instant,
    ) -> Result<(), Error> {
        let mut pause_ms = *LOOK_AGAIN_MS.start();
        for (host, values) in values {
            loop {
                let kind = values.kind();
                let name = host.name()?;
                let ask =
                    self.inner.client.ask(server, &zone.name, &name, kind.record_type(), None);
                let problem = match ask.await {
                    Ok(records)
                        if of_kind(kind, &records).is_some_and(|it| it.values == **values) =>
                    {
                        break;
                    }
                    Ok(_) => Error::NotSeen { server, kind, host_name: host.to_string() },
                    // It may be starting, or not have the zone yet.
                    Err(error) => error,
                };
                if Instant::now() >= deadline {
                    return Err(problem);
                }
                sleep(Duration::from_millis(pause_ms)).await;
                pause_ms = (pause_ms * 2).min(*LOOK_AGAIN_MS.end());
            }
        }
        Ok(())
    }

    fn never_as_found(&self, zone: &Zone, same: bool, found: &[(HostName, Found)]) -> Error {
        match found.first() {
            // The same answer each time, and yet it is not in the zone under this name.
            Some((host, _)) if same => Error::Missing {
                host_name: host.to_string(),
                detail: " of its own: a wildcard or a DNAME seems to answer for it or its mark",
            },
            Some(_) | None => Error::Failed {
                server: zone.primary,
                reason: "the records changed each time before they could be updated".to_owned(),
            },
        }
    }

    fn hosts<'a>(&self, job: &'a Job) -> Result<(&'a MigrationPlanned, Vec<HostName>), Error> {
        let planned = job.planned.as_ref().ok_or(Error::Incomplete("plan"))?;
        let hosts = check_host_names(&planned.host_names, &self.inner.options.zones)?;
        Ok((planned, hosts))
    }

    /// The zone of all of these; none without host names.
    pub(crate) fn zone(&self, hosts: &[HostName]) -> Result<Option<&Zone>, Error> {
        let Some(host) = hosts.first() else { return Ok(None) };
        let mut zones = self.inner.options.zones.iter();
        let zone = zones.find(|zone| canonical(&zone.name).as_deref() == Ok(host.zone()));
        zone.map(Some).ok_or_else(|| no_zone(host))
    }

    fn signer(&self, hosts: &[HostName]) -> Result<&TSigner, Error> {
        let host = hosts.first().ok_or(Error::Incomplete("host names"))?;
        self.inner.signers.get(host.zone()).ok_or_else(|| no_zone(host))
    }

    fn target(&self, server: &str) -> Result<&Target, Error> {
        let name: Option<ServerName> = server.parse().ok();
        name.and_then(|name| self.inner.targets.get(&name)).ok_or_else(|| {
            Error::Configuration(format!("the configuration has no server {server:?}"))
        })
    }
}

/// What a step has done at one host name.
type Done = (HostName, Vec<Change>);
/// By host name in its one form.
type Recorded = BTreeMap<String, Vec<Change>>;

fn no_zone(host: &HostName) -> Error {
    Error::Configuration(format!("{host} lies in none of [[dns.zones]]"))
}

fn of_kind(kind: Kind, records: &[Record]) -> Option<Rrset> {
    let records: Vec<&Record> =
        records.iter().filter(|record| record.record_type() == kind.record_type()).collect();
    Values::of_answer(kind, &records)
}

fn order(job: &Job) -> Result<Order, Error> {
    let migration: MigrationId =
        job.migration_id.parse().map_err(|_| Error::Incomplete("migration's id"))?;
    Ok(Order { migration, revision: job.revision, run: job.run, now_unix_s: unix_s() })
}

fn events(done: &[Done], tell: impl Fn(&Change, &str) -> DnsChange) -> Vec<DnsChange> {
    let each = done.iter().flat_map(|(host, changes)| {
        changes.iter().map(|change| tell(change, host.as_str())).collect::<Vec<_>>()
    });
    each.collect()
}

/// What the history tells of the switch.
fn recorded(job: &Job) -> Result<Recorded, Error> {
    let mut recorded = Recorded::new();
    for change in job.switched.iter().flat_map(|switched| &switched.changes) {
        let changes = recorded.entry(change.host_name.clone()).or_default();
        changes.push(Change::from_event(change)?);
    }
    Ok(recorded)
}
