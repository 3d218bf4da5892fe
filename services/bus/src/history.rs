//! One history, read as a whole.

use drover_schemas::{
    CampaignName,
    subjects::{self, Aggregate, History},
};
use futures::StreamExt as _;

use crate::{Bus, Error, Item, Recorded};

impl Bus {
    /// All events of an aggregate, oldest first. What names a migration beside other servers than
    /// it was planned with is not of its history, and left out. An undecodable one is an error: who
    /// decides on a history needs all of it.
    pub async fn history(
        &self,
        campaign: &CampaignName,
        aggregate: Aggregate,
    ) -> Result<Vec<Recorded>, Error> {
        let mut items = self.replay_on(campaign, subjects::events_about(campaign, aggregate));
        let (mut found, mut undecodable) = (Vec::new(), Vec::new());
        while let Some(item) = items.next().await {
            match item? {
                Item::Event(recorded) => found.push(recorded),
                Item::CaughtUp | Item::Resumed => {}
                Item::Undecodable { sequence, subject } => undecodable.push((sequence, subject)),
            }
        }
        let own = own(campaign, &found);
        let is_of_it = |subject: &str| {
            own.as_ref().is_none_or(|own| subjects::event(campaign, own) == subject)
        };
        if let Some((sequence, subject)) = undecodable.into_iter().find(|(_, it)| is_of_it(it)) {
            let reason = "not an event of Drover's".to_owned();
            return Err(Error::Undecodable { subject, sequence, reason });
        }
        found.retain(|recorded| Some(&recorded.history) == own.as_ref());
        Ok(found)
    }
}

/// The history that was planned; where none was, what was found first.
fn own(campaign: &CampaignName, found: &[Recorded]) -> Option<History> {
    let is_planned = |recorded: &&Recorded| {
        let event = recorded.event.decode_migration();
        event.is_ok_and(|event| recorded.history.admits(campaign, None, &event))
    };
    found.iter().find(is_planned).or(found.first()).map(|recorded| recorded.history.clone())
}
