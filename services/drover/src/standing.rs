//! Where each migration of a campaign stands, folded from the log: for commands that must be right
//! also where no projector runs.

use std::collections::HashMap;

use drover_bus::{Bus, From, Item, Items};
use drover_lifecycle::{Fact, Migration, Phase};
use drover_schemas::{
    CampaignName, Code, Failure, MigrationId, ServerName, subjects::Aggregate,
    v1::migration_event::Event,
};
use futures::TryStreamExt as _;

/// A migration, and what the last pre-flight found to block it.
#[derive(Debug, Clone)]
pub struct Standing {
    /// Its id.
    pub id: MigrationId,
    /// Its state.
    pub migration: Migration,
    /// Codes; none where there was no pre-flight, or it found nothing.
    pub blocking_codes: Vec<String>,
}

impl Standing {
    /// Whether it is not on its way and may yet go: a pre-flight looks at it.
    pub fn may_go(&self) -> bool {
        match self.migration.phase {
            Phase::Planned { .. } | Phase::Held { .. } | Phase::Parked { undone: true, .. } => true,
            Phase::Doing(..)
            | Phase::Undoing(..)
            | Phase::Rehearsing(..)
            | Phase::Settling(_)
            | Phase::Parked { undone: false, .. }
            | Phase::RolledBack
            | Phase::Rehearsed
            | Phase::Completed(_)
            | Phase::ExpiryFailed
            | Phase::Expired => false,
        }
    }

    /// Whether a pre-flight holds it back.
    pub fn is_held(&self) -> bool {
        matches!(self.migration.phase, Phase::Held { .. })
    }
}

/// Reads a campaign's log to its end.
///
/// # Errors
/// The bus's; [`Code::EventUndecodable`] for a history that cannot be folded.
pub async fn standing(bus: &Bus, campaign: &CampaignName) -> Result<Vec<Standing>, Failure> {
    fold(campaign, bus.replay(campaign, From::Start, None)).await
}

/// Reads the histories of a campaign's migrations from one source.
///
/// # Errors
/// As [`standing`].
pub async fn standing_from(
    bus: &Bus,
    campaign: &CampaignName,
    source: &ServerName,
) -> Result<Vec<Standing>, Failure> {
    fold(campaign, bus.replay_from(campaign, source)).await
}

async fn fold(campaign: &CampaignName, mut items: Items) -> Result<Vec<Standing>, Failure> {
    let mut known: HashMap<MigrationId, Standing> = HashMap::new();
    while let Some(item) = items.try_next().await? {
        let Item::Event(recorded) = item else { continue };
        let Aggregate::Migration(id) = recorded.aggregate() else { continue };
        let damaged = |text: String| Failure::new(Code::EventUndecodable, format!("{id}: {text}"));
        let at_unix_ms = recorded.event.time.timestamp_millis();
        let event = recorded.event.decode_migration().map_err(|e| damaged(e.to_string()))?;
        let planned = known.get(&id).map(|standing| &standing.migration.planned);
        if !recorded.history.admits(campaign, planned, &event) {
            continue;
        }
        let checked = match &event {
            Event::MigrationChecked(checked) => Some(checked.blocking_codes.clone()),
            _ => None,
        };
        let fact = Fact { revision: recorded.sequence, at_unix_ms, event };
        match known.get_mut(&id) {
            Some(standing) => {
                standing.migration.evolve(fact).map_err(|e| damaged(e.to_string()))?;
                if let Some(codes) = checked {
                    standing.blocking_codes = codes;
                }
            }
            None => {
                let migration = Migration::begin(fact).map_err(|e| damaged(e.to_string()))?;
                known.insert(id, Standing { id, migration, blocking_codes: Vec::new() });
            }
        }
    }
    Ok(known.into_values().collect())
}
