//! A stage: a real nats-server, the real orchestrator and projector as processes beside it, and
//! campaigns on it.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use chrono::Utc;
use drover_bus::{Append, Bus};
use drover_lifecycle::campaign::{Campaign, Fact, Phase};
use drover_projector::{Reader, view::Status};
use drover_schemas::{
    CampaignName, ServerName,
    envelope::CloudEvent,
    subjects::{Aggregate, History},
    v1::{
        CampaignCreated, CampaignStarted, CampaignStatus, Limits, LimitsChanged, Policy,
        RetryPolicy, ServiceStatus, campaign_event::Event as Campaigns, migration_event::Event,
    },
};
use drover_testbed::{Bed, Cluster, Nats, Process, cluster};
use futures::StreamExt as _;
use prost::Message as _;
use tokio::time::sleep;

use crate::{
    herd::Fleet,
    model::Model,
    record::ATTEMPTS_MAX,
    role::connect,
    used::{Used, used},
};

/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(50);
/// How often a campaign's own history is read.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long nothing may move, beyond the longest step, before the run is given up.
const STILL_MAX: Duration = Duration::from_secs(120);
/// The events' source.
const SOURCE: &str = "drover/fleet";

/// The servers and processes of a run.
pub struct Stage {
    bed: Bed,
    /// The bus's server.
    pub nats: Nats,
    /// A connection of its own.
    pub bus: Bus,
    /// The further servers of a cluster, and the ways between all of them.
    others: Option<(Vec<Nats>, Cluster)>,
    pub(crate) replicas: usize,
    pub(crate) synced: bool,
    pub(crate) fleet: Fleet,
    processes: usize,
}

/// How the bus is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Servers {
    /// One server, as the sandbox has it.
    Single,
    /// One server that syncs every message to the disk before it acknowledges it.
    Synced,
    /// Three servers that keep each stream three times, each of them synced.
    Cluster,
}

/// JetStream that syncs every message to the disk before it acknowledges it.
const SYNC_ALWAYS: &str = "jetstream { store_dir: \"$DIR/store\", sync_interval: always }";

impl Stage {
    /// With a bus of this kind, and nothing else yet.
    pub async fn start(fleet: &Fleet, kind: Servers) -> Result<Self> {
        let bed = Bed::new()?;
        let (nats, others) = match kind {
            Servers::Single => (Nats::start(&bed)?, None),
            Servers::Synced => (Nats::start_with(&bed, SYNC_ALWAYS)?, None),
            Servers::Cluster => {
                let (mut servers, cluster) = Cluster::start(&bed).await?;
                (servers.remove(0), Some((servers, cluster)))
            }
        };
        let replicas = if others.is_some() { cluster::SERVERS } else { 1 };
        let synced = kind != Servers::Single;
        let bus = connect(&nats.url(), replicas, synced, "fleet").await?;
        bus.ensure_base().await?;
        Ok(Self { bed, nats, bus, others, replicas, synced, fleet: fleet.clone(), processes: 0 })
    }

    /// What all nats-servers together have used so far.
    pub fn servers_used(&self) -> Result<Used> {
        let others = self.others.iter().flat_map(|(others, _)| others);
        let mut sum = Used::default();
        for server in std::iter::once(&self.nats).chain(others) {
            let used = used(server.pid())?;
            sum.memory_mb += used.memory_mb;
            sum.memory_mb_max += used.memory_mb_max;
            sum.cpu_seconds += used.cpu_seconds;
        }
        Ok(sum)
    }

    /// Plans the databases `0..migrations`; how long that took.
    pub async fn plan(&self, campaign: &CampaignName, migrations: u64) -> Result<Duration> {
        let start = Instant::now();
        self.bus.ensure_campaign(campaign).await?;
        let retry =
            RetryPolicy { attempts_max: ATTEMPTS_MAX, backoff_base_ms: 100, backoff_max_ms: 2_000 };
        let policy = Policy { retry: Some(retry), dump_retention_days: 30, ..Default::default() };
        let created = Campaigns::CampaignCreated(CampaignCreated { policy: Some(policy) });
        self.tell(campaign, 0, created).await?;
        let appends = (0..migrations).filter_map(|n| {
            let (id, planned) = self.fleet.row(campaign, n).ok()?;
            let history = History::of(id, &planned).ok()?;
            let event = Event::MigrationPlanned(planned);
            let event = CloudEvent::migration(event, SOURCE, Utc::now());
            Some(Append { history, expected_revision: 0, event })
        });
        let mut outcomes = std::pin::pin!(self.bus.append_many(campaign, appends));
        while let Some(outcome) = outcomes.next().await {
            outcome?;
        }
        Ok(start.elapsed())
    }

    /// Starts a campaign that was planned.
    pub async fn begin(&self, campaign: &CampaignName, in_flight_max: u32) -> Result<()> {
        let by = "fleet".to_owned();
        let started = CampaignStarted { in_flight_max, by };
        self.tell_next(campaign, Campaigns::CampaignStarted(started)).await
    }

    /// Sets a campaign's limits.
    pub async fn limit(&self, campaign: &CampaignName, limits: Limits) -> Result<()> {
        let (limits, by) = (Some(limits), "fleet".to_owned());
        let changed = LimitsChanged { limits, reason: String::new(), by };
        self.tell_next(campaign, Campaigns::LimitsChanged(changed)).await
    }

    /// Appends to a campaign's own history.
    pub async fn tell_next(&self, campaign: &CampaignName, event: Campaigns) -> Result<()> {
        let history = self.bus.history(campaign, Aggregate::Campaign).await?;
        let revision = history.last().map_or(0, |last| last.sequence);
        self.tell(campaign, revision, event).await
    }

    async fn tell(&self, campaign: &CampaignName, revision: u64, event: Campaigns) -> Result<()> {
        let event = CloudEvent::campaign(event, SOURCE, Utc::now());
        self.bus.append(campaign, &History::Campaign, revision, &event).await?;
        Ok(())
    }

    /// A service as a process of its own.
    pub fn spawn(&mut self, service: &str, further: &[String]) -> Result<Process> {
        self.processes += 1;
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["role", service, "--nats", &self.nats.url()]);
        command.arg(format!("--replicas={}", self.replicas));
        if self.synced {
            command.arg("--synced");
        }
        command.args(self.fleet.arguments()).args(further);
        self.bed.spawn(&format!("{service}-{}", self.processes), command)
    }

    /// An orchestrator.
    pub fn orchestrator(&mut self) -> Result<Process> {
        self.spawn("orchestrator", &[])
    }

    /// A projector, and its file.
    pub fn projector(&mut self) -> Result<(Process, PathBuf)> {
        let path = self.bed.dir().join(format!("projection-{}.sqlite", self.processes));
        let process = self.spawn("projector", &[format!("--database={}", path.display())])?;
        Ok((process, path))
    }

    /// Waits until `migrations` have come to their end, but for those that wait because a host of
    /// theirs was set aside; or until the campaign has paused by itself.
    pub async fn finish(
        &self,
        campaign: &CampaignName,
        model: &Model,
        migrations: u64,
    ) -> Result<()> {
        let (mut best, mut moved) = (0, Instant::now());
        let still_max = STILL_MAX + self.fleet.longest_step(migrations);
        let mut looked = None;
        loop {
            let ended = model.record.ended();
            if ended >= migrations {
                return Ok(());
            }
            if ended > best {
                (best, moved) = (ended, Instant::now());
            }
            if looked.is_none_or(|at: Instant| at.elapsed() > LOOK_EVERY) {
                looked = Some(Instant::now());
                let state = self.campaign(campaign).await?;
                let waiting = self.waiting(campaign, model, migrations, &state.quarantined)?;
                if ended + waiting >= migrations || state.phase == Phase::Paused {
                    return Ok(());
                }
            }
            if moved.elapsed() > still_max {
                bail!("{ended} of {migrations} have ended; nothing moves for {still_max:?}");
            }
            sleep(POLL).await;
        }
    }

    /// How many have not come to their end, and have a host that was set aside.
    fn waiting(
        &self,
        campaign: &CampaignName,
        model: &Model,
        migrations: u64,
        quarantined: &BTreeSet<ServerName>,
    ) -> Result<u64> {
        if quarantined.is_empty() {
            return Ok(0);
        }
        let is_set_aside = |name: &str| quarantined.iter().any(|host| host.as_str() == name);
        let mut waiting = 0;
        for n in 0..migrations {
            let (id, planned) = self.fleet.row(campaign, n)?;
            if (is_set_aside(&planned.source) || is_set_aside(&planned.destination))
                && !model.record.has_ended(id.uuid())
            {
                waiting += 1;
            }
        }
        Ok(waiting)
    }

    /// A campaign's own state.
    pub async fn campaign(&self, campaign: &CampaignName) -> Result<Campaign> {
        let mut facts = Vec::new();
        for recorded in self.bus.history(campaign, Aggregate::Campaign).await? {
            let event = recorded.event.decode_campaign()?;
            facts.push(Fact { revision: recorded.sequence, event });
        }
        Campaign::replay(facts)?.context("the campaign was not planned")
    }

    /// Waits until a projection has taken in all that is in the log; its view of the campaign.
    pub async fn projected(&self, campaign: &CampaignName, path: &Path) -> Result<Status> {
        let last = self.last_sequence(campaign).await?;
        let status = || {
            let reader = Reader::open(path).ok()?;
            reader.views().status(campaign, Utc::now().timestamp_millis()).ok()
        };
        let position = || Ok((status().map_or(0, |status| status.position), last));
        self.until("events are in the projection", position).await?;
        status().context("the projection cannot be read")
    }

    /// Waits until the migrations that have come to their end are closed in a projection too.
    pub async fn closed(
        &self,
        campaign: &CampaignName,
        path: &Path,
        model: &Model,
    ) -> Result<Status> {
        let closed = || {
            let view =
                Reader::open(path)?.views().status(campaign, Utc::now().timestamp_millis())?;
            Ok((view.counts.completed + view.counts.parked, model.record.ended()))
        };
        self.until("migrations are closed", closed).await?;
        self.projected(campaign, path).await
    }

    /// Waits until an orchestrator has taken in all that is in the log.
    pub async fn known(&self, campaign: &CampaignName) -> Result<()> {
        let last = self.last_sequence(campaign).await?;
        self.told(campaign, "has read the log", |status| status.sequence >= last).await
    }

    /// Waits until an orchestrator has seen the log's end, and nothing holds a slot.
    pub async fn at_rest(&self, campaign: &CampaignName) -> Result<()> {
        let known = self.last_sequence(campaign).await?;
        let rests = |status: &CampaignStatus| status.sequence >= known && status.in_flight == 0;
        self.told(campaign, "says that all are at rest", rests).await
    }

    /// How many migrations hold a slot, as the orchestrator says.
    pub async fn in_flight(&self, campaign: &CampaignName) -> Result<u32> {
        let statuses = self.statuses(campaign).await;
        Ok(statuses.iter().map(|status| status.in_flight).max().unwrap_or_default())
    }

    async fn told(
        &self,
        campaign: &CampaignName,
        what: &str,
        so: impl Fn(&CampaignStatus) -> bool,
    ) -> Result<()> {
        let start = Instant::now();
        while start.elapsed() < STILL_MAX {
            if self.statuses(campaign).await.iter().any(&so) {
                return Ok(());
            }
            sleep(POLL).await;
        }
        bail!("no orchestrator {what} within {STILL_MAX:?}")
    }

    async fn statuses(&self, campaign: &CampaignName) -> Vec<CampaignStatus> {
        let answers = self.bus.ask("orchestrator", Vec::new().into()).await.unwrap_or_default();
        let statuses = answers.into_iter().filter_map(|answer| ServiceStatus::decode(answer).ok());
        let campaigns = statuses.flat_map(|status| status.campaigns);
        campaigns.filter(|status| status.campaign == campaign.as_str()).collect()
    }

    /// The last event's sequence in a campaign's log, which is how many there are.
    pub async fn last_sequence(&self, campaign: &CampaignName) -> Result<u64> {
        let context = async_nats::jetstream::new(async_nats::connect(self.nats.url()).await?);
        let name = drover_schemas::streams::events_name(campaign);
        let info = context.get_stream(name).await?.get_info().await?;
        Ok(info.state.last_sequence)
    }

    /// How many bytes an event takes in the log, on average.
    pub async fn event_bytes(&self, campaign: &CampaignName) -> Result<u64> {
        let context = async_nats::jetstream::new(async_nats::connect(self.nats.url()).await?);
        let name = drover_schemas::streams::events_name(campaign);
        let state = context.get_stream(name).await?.get_info().await?.state;
        Ok(state.bytes / state.messages.max(1))
    }

    /// Waits until a count has reached its goal, as long as it moves.
    pub async fn until(
        &self,
        what: &str,
        mut count: impl FnMut() -> Result<(u64, u64)>,
    ) -> Result<()> {
        let (mut best, mut moved) = (0, Instant::now());
        loop {
            let (reached, goal) = count()?;
            if reached >= goal {
                return Ok(());
            }
            if reached > best {
                (best, moved) = (reached, Instant::now());
            }
            if moved.elapsed() > STILL_MAX {
                bail!("{reached} of {goal} {what}, and nothing has moved for {STILL_MAX:?}");
            }
            sleep(POLL).await;
        }
    }
}
