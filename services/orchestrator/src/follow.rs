//! Finds the campaigns, and brings their events to the desk.
//!
//! A log that has lost its end is not acted on: what it says of a migration may be of long ago, and
//! orders on it would be refused by the ledgers, at best. It is read anew once it was repaired
//! (`drover reconcile --repair`), which ends with a fact that says so.

use std::{collections::HashSet, time::Duration};

use drover_bus::{Bus, Error as BusError, From, Item, Recorded};
use drover_schemas::{CampaignName, subjects::History, v1::campaign_event::Event};
use futures::StreamExt as _;
use tokio::{sync::mpsc, task::JoinSet, time::interval};
use tokio_util::sync::CancellationToken;

/// How many items may wait for the desk: some megabytes at most.
pub const ITEMS_MAX: usize = 4_096;
/// A new campaign announces itself on the bus; this is for an announcement that was missed.
const LIST_EVERY: Duration = Duration::from_secs(30);
/// Before a log that could not be read is read anew.
const PAUSE: Duration = Duration::from_secs(2);

/// What comes to the desk.
pub enum News {
    /// An item of a campaign's log.
    Item(CampaignName, Item),
    /// The campaign's log has lost its end, which was at this sequence: nothing of it is to be acted
    /// on.
    Lost(CampaignName, u64),
    /// The campaign's log is read anew from its beginning: forget what was known of it.
    Anew(CampaignName),
}

/// Follows every campaign, also those that are planned later, until `shutdown`.
pub async fn follow_all(bus: Bus, news: mpsc::Sender<News>, shutdown: CancellationToken) {
    let mut known = HashSet::new();
    let mut tasks = JoinSet::new();
    let mut ticks = interval(LIST_EVERY);
    let mut announced = futures::stream::pending().boxed();
    if let Ok(stream) = bus.campaign_events().await {
        announced = stream;
    }
    loop {
        let found = tokio::select! {
            () = shutdown.cancelled() => return,
            _ = ticks.tick() => bus.campaigns().await.unwrap_or_else(|error| {
                tracing::warn!(%error, "the campaigns cannot be listed");
                Vec::new()
            }),
            Some(campaign) = announced.next() => vec![campaign],
        };
        for campaign in found {
            if known.insert(campaign.clone()) {
                tasks.spawn(follow(bus.clone(), campaign, news.clone()));
            }
        }
    }
}

async fn follow(bus: Bus, campaign: CampaignName, news: mpsc::Sender<News>) {
    let mut repairs = HashSet::new();
    loop {
        let (mut known, mut lost) = (0, false);
        let mut items = bus.follow(&campaign, From::Start);
        while let Some(item) = items.next().await {
            match item {
                Ok(item) => {
                    if let Item::Event(recorded) = &item {
                        known = recorded.sequence;
                        repairs.extend(repair(recorded));
                    }
                    if news.send(News::Item(campaign.clone(), item)).await.is_err() {
                        return;
                    }
                }
                Err(error) => {
                    lost = known > 0
                        && matches!(
                            error,
                            BusError::HistoryShortened { .. } | BusError::CampaignUnknown { .. }
                        );
                    tracing::error!(%campaign, %error, "the log is read anew");
                }
            }
        }
        if lost {
            tracing::error!(%campaign, known, "nothing is done until: drover reconcile --repair");
            if news.send(News::Lost(campaign.clone(), known)).await.is_err() {
                return;
            }
            repaired(&bus, &campaign, &repairs).await;
        }
        tokio::time::sleep(PAUSE).await;
        if news.send(News::Anew(campaign.clone())).await.is_err() {
            return;
        }
    }
}

/// Waits until the log has the end of a repair that is not among these.
async fn repaired(bus: &Bus, campaign: &CampaignName, known: &HashSet<String>) {
    loop {
        let mut items = bus.follow(campaign, From::Start);
        while let Some(Ok(item)) = items.next().await {
            if let Item::Event(recorded) = &item
                && repair(recorded).is_some_and(|repair| !known.contains(&repair))
            {
                return;
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// The repair that ends with this event.
fn repair(recorded: &Recorded) -> Option<String> {
    if recorded.history != History::Campaign {
        return None;
    }
    match recorded.event.decode_campaign() {
        Ok(Event::LogRepaired(repaired)) if repaired.complete => Some(repaired.repair),
        Ok(_) | Err(_) => None,
    }
}
