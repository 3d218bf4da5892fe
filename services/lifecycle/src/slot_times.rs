//! How long migrations hold their slots, of late: what says whether one would finish in time.

use std::collections::{HashMap, VecDeque};

use drover_schemas::{MigrationId, v1::migration_event::Event};

/// How many of the last are kept.
const KEPT_MAX: usize = 500;

/// The last times from admission to switch of one campaign.
#[derive(Debug, Default)]
pub struct SlotTimes {
    admitted: HashMap<MigrationId, i64>,
    last_ms: VecDeque<i64>,
}

impl SlotTimes {
    /// Takes in a migration's fact.
    pub fn take(&mut self, id: MigrationId, at_unix_ms: i64, event: &Event) {
        if let Event::MigrationAdmitted(_) = event {
            self.admitted.insert(id, at_unix_ms);
        } else if let Event::DnsSwitched(_) = event {
            if let Some(admitted) = self.admitted.remove(&id) {
                self.last_ms.push_back(at_unix_ms.saturating_sub(admitted));
            }
            if self.last_ms.len() > KEPT_MAX {
                self.last_ms.pop_front();
            }
        } else if let Event::MigrationParked(_)
        | Event::MigrationDeferred(_)
        | Event::MigrationRolledBack(_) = event
        {
            self.admitted.remove(&id);
        }
    }

    /// 95 of 100 took no longer, in ms; none where none is known.
    pub fn p95_ms(&self) -> Option<i64> {
        let mut sorted: Vec<i64> = self.last_ms.iter().copied().collect();
        sorted.sort_unstable();
        let rank = (sorted.len() * 95).div_ceil(100).checked_sub(1)?;
        sorted.get(rank).copied()
    }
}

#[cfg(test)]
mod tests {
    use drover_schemas::v1::{DnsSwitched, MigrationAdmitted, MigrationParked};

    use super::*;

    #[test]
    fn only_what_came_to_its_switch_counts() {
        let mut times = SlotTimes::default();
        assert_eq!(times.p95_ms(), None);
        for n in 0..100_i64 {
            let id =
                MigrationId::new(&"night".parse().unwrap(), &"a".parse().unwrap(), &n.to_string());
            times.take(id, 1_000, &Event::MigrationAdmitted(MigrationAdmitted::default()));
            let end = if n % 2 == 0 {
                Event::DnsSwitched(DnsSwitched::default())
            } else {
                Event::MigrationParked(MigrationParked::default())
            };
            times.take(id, 1_001 + n, &end);
        }
        assert_eq!((times.last_ms.len(), times.admitted.len()), (50, 0));
        assert_eq!(times.p95_ms(), Some(95));
    }
}
