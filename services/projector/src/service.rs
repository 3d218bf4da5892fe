//! The service: follows every campaign's log into one file, and answers from it.
//!
//! 1. One writer a file, by a lock beside it. Another instance on the same file waits for the
//!    lock, and answers from the file meanwhile.
//! 2. Each campaign has a follower of its own. It goes on at the last event that the tables
//!    hold, and first makes sure that this is still the event there: a log that was put back to
//!    an older copy and went on differently is folded from its beginning.
//! 3. Reading next messages and folding the last ones go side by side: what comes while a batch
//!    is folded is the next one. A follower has at most two batches in memory.
//! 4. A question opens the file anew: it sees the tables as the last batch left them, also after
//!    the file was made anew, and never waits for the fold, nor the fold for it.
//! 5. A file that was deleted while the service runs is made and folded anew.

use std::{
    collections::BTreeSet,
    fs::{self, File, TryLockError},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use drover_bus::Bus;
use drover_schemas::{
    CampaignName, subjects,
    v1::{CampaignStatus, ServiceStatus},
};
use futures::StreamExt as _;
use prost::Message as _;
use serde::Deserialize;
use tokio::{
    sync::watch,
    task::{JoinSet, spawn_blocking},
    time::{MissedTickBehavior, interval, sleep},
};
use tokio_util::sync::CancellationToken;

use crate::{Error, Projection, Reader, follower, now_unix_ms, question, schema};

/// How often all streams are listed, beside the hints that a campaign has begun: a hint that is
/// lost costs so much.
const LIST_INTERVAL: Duration = Duration::from_secs(30);
/// How often the file is looked at, and the lock tried.
const FILE_INTERVAL: Duration = Duration::from_secs(1);
/// How long after a failure the file is tried again.
const FAILURE_PAUSE: Duration = Duration::from_secs(5);

/// The projector's part of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// The SQLite file, made where it is missing. It can be deleted at any time: it is rebuilt
    /// from the log.
    pub database: PathBuf,
}

impl Default for Options {
    fn default() -> Self {
        Self { database: "drover-projections.sqlite".into() }
    }
}

/// The projector.
#[derive(Debug)]
pub struct Service;

/// The projections, shared by the followers.
pub(crate) type Shared = Arc<Mutex<Projection>>;

impl Service {
    /// Follows all campaigns and answers until `shutdown`. `instance` names this process in its
    /// answers.
    ///
    /// # Errors
    /// [`Error::Foreign`] when the file is another program's; everything else is tried again.
    pub async fn run(
        bus: Bus,
        options: Options,
        instance: &str,
        shutdown: CancellationToken,
    ) -> Result<(), Error> {
        let ends = shutdown.child_token();
        let (active, is_active) = watch::channel(false);
        let mut answering = JoinSet::new();
        answering.spawn(answer_queries(bus.clone(), options.database.clone(), ends.clone()));
        let about = About {
            instance: instance.to_owned(),
            started_at_unix_ms: now_unix_ms(),
            path: options.database.clone(),
            is_active,
        };
        answering.spawn(answer_about(bus.clone(), about, ends.clone()));
        let folded = fold_for_ever(&bus, &options.database, &active, &shutdown).await;
        ends.cancel();
        while answering.join_next().await.is_some() {}
        folded
    }
}

async fn fold_for_ever(
    bus: &Bus,
    path: &Path,
    active: &watch::Sender<bool>,
    shutdown: &CancellationToken,
) -> Result<(), Error> {
    while !shutdown.is_cancelled() {
        let pause = match session(bus, path, active, shutdown).await {
            Ok(()) => Duration::ZERO,
            Err(error @ Error::Foreign { .. }) => return Err(error),
            Err(error) => {
                tracing::error!(error = drover_schemas::codes::chain(&error), "trying again");
                FAILURE_PAUSE
            }
        };
        active.send_replace(false);
        let _ = shutdown.run_until_cancelled(sleep(pause)).await;
    }
    Ok(())
}

/// From the lock to the shutdown, to a failure, or until the file is gone.
async fn session(
    bus: &Bus,
    path: &Path,
    active: &watch::Sender<bool>,
    shutdown: &CancellationToken,
) -> Result<(), Error> {
    let Some(Some(_lock)) = shutdown.run_until_cancelled(locked(path)).await.transpose()? else {
        return Ok(());
    };
    let opened = path.to_owned();
    let projection = spawn_blocking(move || Projection::open(&opened)).await??;
    active.send_replace(true);
    let identity = identity(path);
    let ends = shutdown.child_token();
    let mut followers = Followers {
        bus: bus.clone(),
        projection: Arc::new(Mutex::new(projection)),
        followed: BTreeSet::new(),
        tasks: JoinSet::new(),
        ends: ends.clone(),
    };
    let outcome = followers.keep(|| identity == self::identity(path)).await;
    ends.cancel();
    while followers.tasks.join_next().await.is_some() {}
    outcome
}

/// What tells a file from another that took its name.
fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()))
}

/// Waits for the lock beside the file.
async fn locked(path: &Path) -> Result<Option<File>, Error> {
    let path = schema::beside(path, ".lock");
    let failed = |source| Error::File { path: path.clone(), source };
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    let file =
        File::options().create(true).truncate(false).write(true).open(&path).map_err(failed)?;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Some(file)),
            Err(TryLockError::WouldBlock) => sleep(FILE_INTERVAL).await,
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
    }
}

struct Followers {
    bus: Bus,
    projection: Shared,
    followed: BTreeSet<CampaignName>,
    tasks: JoinSet<Result<(), Error>>,
    ends: CancellationToken,
}

impl Followers {
    /// Follows every campaign, old and new, for as long as the file is there.
    async fn keep(&mut self, is_there: impl Fn() -> bool) -> Result<(), Error> {
        let mut hints = self.bus.campaign_events().await?;
        let mut list = interval(LIST_INTERVAL);
        let mut look = interval(FILE_INTERVAL);
        list.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let ends = self.ends.clone();
        loop {
            tokio::select! {
                () = ends.cancelled() => return Ok(()),
                Some(campaign) = hints.next() => self.follow(campaign),
                _ = list.tick() => match self.bus.campaigns().await {
                    Ok(campaigns) => campaigns.into_iter().for_each(|name| self.follow(name)),
                    Err(error) => tracing::warn!(%error, "cannot list the campaigns"),
                },
                _ = look.tick() => if !is_there() {
                    tracing::warn!("the projections' file is gone; making it anew");
                    return Ok(());
                },
                Some(ended) = self.tasks.join_next(), if !self.tasks.is_empty() => ended??,
            }
        }
    }

    fn follow(&mut self, campaign: CampaignName) {
        if self.followed.insert(campaign.clone()) {
            let (bus, projection) = (self.bus.clone(), self.projection.clone());
            self.tasks.spawn(follower::run(bus, projection, campaign, self.ends.clone()));
        }
    }
}

async fn answer_queries(bus: Bus, path: PathBuf, ends: CancellationToken) {
    let handler = |request: Bytes| {
        let path = path.clone();
        async move {
            let answered = spawn_blocking(move || question::answer(&path, &request)).await;
            answered.unwrap_or_default()
        }
    };
    if let Err(error) = bus.serve(&question::subject(), ends, handler).await {
        tracing::error!(%error, "no questions are answered");
    }
}

/// What the instance says of itself.
#[derive(Clone)]
struct About {
    instance: String,
    started_at_unix_ms: i64,
    path: PathBuf,
    is_active: watch::Receiver<bool>,
}

async fn answer_about(bus: Bus, about: About, ends: CancellationToken) {
    let handler = |_| {
        let about = about.clone();
        async move { spawn_blocking(move || about.answer()).await.unwrap_or_default() }
    };
    if let Err(error) = bus.serve(&subjects::control("projector"), ends, handler).await {
        tracing::error!(%error, "no questions are answered");
    }
}

impl About {
    fn answer(&self) -> Bytes {
        let status = ServiceStatus {
            service: "projector".to_owned(),
            instance: self.instance.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_at_unix_ms: self.started_at_unix_ms,
            active: *self.is_active.borrow(),
            // Without the file there is nothing to say of them.
            campaigns: self.campaigns().unwrap_or_default(),
        };
        status.encode_to_vec().into()
    }

    fn campaigns(&self) -> Result<Vec<CampaignStatus>, Error> {
        let reader = Reader::open(&self.path)?;
        let views = reader.views();
        let status = |campaign| {
            let status = views.status(&campaign, now_unix_ms())?;
            Ok(CampaignStatus {
                sequence: status.position,
                in_flight: u32::try_from(status.counts.in_flight).unwrap_or(u32::MAX),
                admitting: status.phase == "running",
                campaign: status.campaign,
                forecast: None,
                waves: Vec::new(),
                window_ends_at_unix_ms: 0,
            })
        };
        views.campaigns()?.into_iter().map(status).collect()
    }
}
