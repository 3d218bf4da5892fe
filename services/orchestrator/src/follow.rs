//! Finds the campaigns, and brings their events to the desk.

use std::{collections::HashSet, time::Duration};

use drover_bus::{Bus, From, Item};
use drover_schemas::CampaignName;
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
    loop {
        let mut items = bus.follow(&campaign, From::Start);
        while let Some(item) = items.next().await {
            match item {
                Ok(item) => {
                    if news.send(News::Item(campaign.clone(), item)).await.is_err() {
                        return;
                    }
                }
                Err(error) => tracing::error!(%campaign, %error, "the log is read anew"),
            }
        }
        tokio::time::sleep(PAUSE).await;
        if news.send(News::Anew(campaign.clone())).await.is_err() {
            return;
        }
    }
}
