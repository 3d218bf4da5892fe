//! Follows one campaign's log into the tables.

use std::{sync::PoisonError, time::Duration};

use drover_bus::{Bus, From, Item};
use drover_schemas::{
    CampaignName,
    codes::chain,
    v1::{ProgressSignal, Signal, signal},
};
use futures::{StreamExt as _, future::OptionFuture};
use tokio::{
    task::{JoinHandle, spawn_blocking},
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;

use crate::{BATCH_EVENTS_MAX, Error, Position, Projection, now_unix_ms, service::Shared};

/// Between two signals of a campaign's progress, at least.
const SIGNAL_INTERVAL: Duration = Duration::from_secs(1);
/// From one fold of what is new to the next, at least, so that one transaction serves for more events, and
/// one written row for several of a migration's: nobody looks more often. What comes after a quiet time is
/// folded at once.
const FOLD_INTERVAL: Duration = Duration::from_millis(200);
/// Before following is tried again after an error of the bus.
const BUS_PAUSE: Duration = Duration::from_secs(2);
/// How many events are taken over from the bus at once, at most.
const PIECE_EVENTS_MAX: usize = 512;
/// The kind of the signals.
const SIGNAL_KIND: &str = "progress";

/// Follows until `ends`.
///
/// # Errors
/// When the file fails: then nothing more can be folded into it by anyone.
pub(crate) async fn run(
    bus: Bus,
    projection: Shared,
    campaign: CampaignName,
    ends: CancellationToken,
) -> Result<(), Error> {
    let follower = Follower { bus, projection, campaign, ends };
    loop {
        let outcome = follower.follow().await;
        let campaign = follower.campaign.as_str();
        match outcome {
            Ok(End::Shutdown) => return Ok(()),
            Ok(End::OtherLog) | Err(Error::Bus(drover_bus::Error::HistoryShortened { .. })) => {
                tracing::warn!(campaign, "the log is another than before; folding it anew");
                follower.with(|projection, campaign| projection.forget(campaign)).await?;
            }
            Err(Error::Bus(error)) => {
                tracing::warn!(campaign, error = chain(&error), "cannot follow; trying again");
                let pause = sleep(BUS_PAUSE);
                if follower.ends.run_until_cancelled(pause).await.is_none() {
                    return Ok(());
                }
            }
            Err(error) => return Err(error),
        }
    }
}

enum End {
    Shutdown,
    /// What stands at the position is not what was folded from there.
    OtherLog,
}

struct Follower {
    bus: Bus,
    projection: Shared,
    campaign: CampaignName,
    ends: CancellationToken,
}

impl Follower {
    async fn follow(&self) -> Result<End, Error> {
        let mut folding = Folding(None.into());
        let outcome = self.read(&mut folding).await;
        // What is being folded must not come after what follows, which may be to forget it.
        match folding.ended().await {
            Some(Err(error)) => Err(error),
            Some(Ok(())) | None => outcome,
        }
    }

    async fn read(&self, folding: &mut Folding) -> Result<End, Error> {
        let mut position = self
            .with(|projection, campaign| {
                projection.fall_behind(campaign)?;
                projection.position(campaign)
            })
            .await?;
        let items = self.bus.follow(&self.campaign, From::Sequence(position.sequence));
        let mut pieces = items.ready_chunks(PIECE_EVENTS_MAX);
        let mut batch: Vec<Item> = Vec::new();
        let mut is_folding = false;
        let mut progress = Progress::new();
        let mut next_fold = Instant::now();
        loop {
            let is_waiting = !is_folding && !batch.is_empty() && progress.is_caught_up;
            tokio::select! {
                () = self.ends.cancelled() => return Ok(End::Shutdown),
                Some(folded) = folding.ended(), if is_folding => {
                    is_folding = false;
                    folded?;
                    progress.has_changed = true;
                }
                piece = pieces.next(), if batch.len() < BATCH_EVENTS_MAX => {
                    let Some(piece) = piece else { return Ok(End::OtherLog) };
                    let piece = piece.into_iter().collect::<Result<Vec<Item>, _>>()?;
                    if !is_same_log(&mut position, &piece) {
                        return Ok(End::OtherLog);
                    }
                    progress.is_caught_up |= piece.contains(&Item::CaughtUp);
                    batch.extend(piece);
                }
                () = sleep_until(next_fold), if is_waiting => {}
                () = sleep_until(progress.next), if progress.is_due() && !is_folding => {
                    self.tell_progress().await;
                    progress.told();
                }
            }
            // Of the past only full batches: nobody is answered from it before its end, and the
            // more of a migration's events come together, the less often its row is written.
            let is_full = batch.len() >= BATCH_EVENTS_MAX;
            let is_due = is_full || progress.is_caught_up && next_fold <= Instant::now();
            if !is_folding && is_due && !batch.is_empty() {
                next_fold = Instant::now() + FOLD_INTERVAL;
                folding.0 = Some(self.fold(std::mem::take(&mut batch))).into();
                is_folding = true;
            }
        }
    }

    fn fold(&self, batch: Vec<Item>) -> JoinHandle<Result<(), Error>> {
        let (projection, campaign) = (self.projection.clone(), self.campaign.clone());
        spawn_blocking(move || {
            let mut projection = projection.lock().unwrap_or_else(PoisonError::into_inner);
            projection.apply(&campaign, &batch)
        })
    }

    async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Projection, &CampaignName) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let (projection, campaign) = (self.projection.clone(), self.campaign.clone());
        spawn_blocking(move || {
            work(&mut projection.lock().unwrap_or_else(PoisonError::into_inner), &campaign)
        })
        .await?
    }

    /// A hint for whoever listens: one that is lost is followed by the next.
    async fn tell_progress(&self) {
        let status = self
            .with(|projection, campaign| projection.views().status(campaign, now_unix_ms()))
            .await;
        let told = match status {
            Ok(status) => {
                let counts = status.counts;
                let progress = ProgressSignal {
                    planned: counts.planned,
                    in_flight: counts.in_flight + counts.finishing,
                    completed: counts.completed,
                    parked: counts.parked,
                };
                let signal = Signal { signal: Some(signal::Signal::Progress(progress)) };
                let id = format!("{SIGNAL_KIND}-{}-{}", self.campaign, status.position);
                self.bus
                    .signal(&self.campaign, SIGNAL_KIND, &signal, &id)
                    .await
                    .map_err(Error::from)
            }
            Err(error) => Err(error),
        };
        if let Err(error) = told {
            tracing::debug!(error = chain(&error), "progress was not told");
        }
    }
}

/// The batch that is being folded.
struct Folding(OptionFuture<JoinHandle<Result<(), Error>>>);

impl Folding {
    /// Waits for it; none where nothing is being folded. May be dropped while it waits.
    async fn ended(&mut self) -> Option<Result<(), Error>> {
        let ended = (&mut self.0).await?;
        self.0 = None.into();
        Some(ended.map_err(Error::from).flatten())
    }
}

/// Whether the first item is the event that the tables hold last. Looked at once.
fn is_same_log(position: &mut Position, piece: &[Item]) -> bool {
    let Position { sequence, event_id } = std::mem::take(position);
    match piece.first() {
        Some(Item::Event(recorded)) if sequence > 0 => {
            recorded.sequence == sequence && recorded.event.id.to_string() == event_id
        }
        Some(Item::Undecodable { sequence: found, .. }) if sequence > 0 => {
            *found == sequence && event_id.is_empty()
        }
        // It ends right before the position.
        Some(Item::CaughtUp) => sequence == 0,
        Some(Item::Event(_) | Item::Undecodable { .. } | Item::Resumed) | None => true,
    }
}

/// When to tell of progress: at most once an interval, only when something has changed, and not
/// of the past.
struct Progress {
    next: Instant,
    has_changed: bool,
    is_caught_up: bool,
}

impl Progress {
    fn new() -> Self {
        Self { next: Instant::now(), has_changed: false, is_caught_up: false }
    }

    fn is_due(&self) -> bool {
        self.has_changed && self.is_caught_up
    }

    fn told(&mut self) {
        self.has_changed = false;
        self.next = Instant::now() + SIGNAL_INTERVAL;
    }
}
