//! What a campaign's log says afterwards, so that nothing rests on the word of the orchestrator
//! that is measured.

use std::collections::{HashMap, hash_map::Entry};

use anyhow::{Result, bail};
use drover_bus::{Bus, From, Item};
use drover_lifecycle::{Fact, Migration};
use drover_schemas::{
    CampaignName,
    subjects::{Aggregate, History},
    v1::campaign_event::Event as Campaigns,
};
use futures::StreamExt as _;
use serde::Serialize;

/// The slots that a campaign had from a time on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Slots {
    /// Since the campaign's start, in ms.
    pub at_ms: i64,
    /// Migrations in flight at most.
    pub in_flight_max: u32,
    /// Why, in the event's words; none for those it began with.
    pub reason: String,
}

/// The slots of a host from a time on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HostSlots {
    /// Since the campaign's start, in ms.
    pub at_ms: i64,
    /// Its name.
    pub host: String,
    /// To how many it is held down; 0: it is not.
    pub slots_max: u32,
    /// Why, in the event's words.
    pub reason: String,
}

/// The slots that a campaign had one after the other, and those of its hosts.
///
/// # Errors
/// When the log cannot be read.
pub async fn slots(bus: &Bus, campaign: &CampaignName) -> Result<(Vec<Slots>, Vec<HostSlots>)> {
    let (mut slots, mut hosts, mut start) = (Vec::new(), Vec::new(), 0);
    for recorded in bus.history(campaign, Aggregate::Campaign).await? {
        let at = recorded.event.time.timestamp_millis();
        match recorded.event.decode_campaign()? {
            Campaigns::CampaignStarted(started) => {
                start = at;
                let in_flight_max = started.in_flight_max;
                slots.push(Slots { at_ms: 0, in_flight_max, reason: String::new() });
            }
            Campaigns::ConcurrencyChanged(changed) => {
                let (in_flight_max, reason) = (changed.in_flight_max, changed.reason);
                slots.push(Slots { at_ms: at - start, in_flight_max, reason });
            }
            Campaigns::HostSlotsChanged(changed) => {
                let at_ms = at - start;
                hosts.extend(changed.hosts.into_iter().map(|it| HostSlots {
                    at_ms,
                    host: it.host,
                    slots_max: it.slots_max,
                    reason: it.reason,
                }));
            }
            _ => {}
        }
    }
    Ok((slots, hosts))
}

/// How many migrations of a campaign held a slot at once, at the most.
///
/// # Errors
/// When the log cannot be read, or says what is not allowed.
pub async fn in_flight_max(bus: &Bus, campaign: &CampaignName) -> Result<u32> {
    let mut migrations: HashMap<History, Migration> = HashMap::new();
    let (mut in_flight, mut most) = (0_u32, 0);
    let mut items = bus.replay(campaign, From::Start, None);
    while let Some(item) = items.next().await {
        let recorded = match item? {
            Item::Event(recorded) => recorded,
            Item::CaughtUp | Item::Resumed => continue,
            Item::Undecodable { sequence, .. } => bail!("{sequence} cannot be decoded"),
        };
        if recorded.history == History::Campaign {
            continue;
        }
        let at_unix_ms = recorded.event.time.timestamp_millis();
        let event = recorded.event.decode_migration()?;
        let fact = Fact { revision: recorded.sequence, at_unix_ms, event };
        let [before, after] = match migrations.entry(recorded.history) {
            Entry::Vacant(vacant) => [false, vacant.insert(Migration::begin(fact)?).holds_slot()],
            Entry::Occupied(mut occupied) => {
                let before = occupied.get().holds_slot();
                occupied.get_mut().evolve(fact)?;
                [before, occupied.get().holds_slot()]
            }
        };
        in_flight = (in_flight + u32::from(after)).saturating_sub(u32::from(before));
        most = most.max(in_flight);
    }
    Ok(most)
}
