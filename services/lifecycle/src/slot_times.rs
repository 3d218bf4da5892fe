//! How long migrations hold their slots: what says whether one would finish in time, and when all
//! will have.

use std::collections::{HashMap, VecDeque};

use drover_schemas::{MigrationId, v1::migration_event::Event};

use crate::{
    admission::Waiting,
    forecast::{Line, Rest},
};

/// How many of the last are kept.
const KEPT_MAX: usize = 500;

/// The times from admission to switch of one campaign.
#[derive(Debug, Default)]
pub struct SlotTimes {
    admitted: HashMap<MigrationId, (String, i64)>,
    /// The last ones, each with its source.
    last_ms: VecDeque<(String, i64)>,
    /// By source: how many came to their switch, and the sum of their times.
    ended: HashMap<String, (u64, f64)>,
}

impl SlotTimes {
    /// Takes in a fact of a migration from this source.
    pub fn take(&mut self, id: MigrationId, source: &str, at_unix_ms: i64, event: &Event) {
        if let Event::MigrationAdmitted(_) = event {
            self.admitted.insert(id, (source.to_owned(), at_unix_ms));
        } else if let Event::DnsSwitched(_) | Event::MigrationRehearsed(_) = event {
            if let Some((source, admitted)) = self.admitted.remove(&id) {
                let took_ms = at_unix_ms.saturating_sub(admitted).max(1);
                let (count, sum_ms) = self.ended.entry(source.clone()).or_default();
                *count += 1;
                *sum_ms += took_ms as f64;
                self.last_ms.push_back((source, took_ms));
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

    /// What is left to do, from the sources that have something: how many wait at each, and its
    /// slots.
    pub fn rest(&self, waiting: Vec<Waiting>, slots: u32, now_unix_ms: i64) -> Rest {
        let mut in_flight: HashMap<&str, (u64, f64)> = HashMap::new();
        for (source, admitted) in self.admitted.values() {
            let (count, age_ms) = in_flight.entry(source).or_default();
            *count += 1;
            *age_ms += now_unix_ms.saturating_sub(*admitted).max(0) as f64;
        }
        let line = |(host, waiting, slots): Waiting| {
            let (in_flight, age_ms) = in_flight.get(host.as_str()).copied().unwrap_or_default();
            let (ended, sum_ms) = self.ended.get(&host).copied().unwrap_or_default();
            Line { host, waiting, in_flight, slots, ended, busy_ms: sum_ms + age_ms }
        };
        let lines: Vec<Line> = waiting.into_iter().map(line).collect();
        let places: HashMap<&str, usize> =
            lines.iter().enumerate().map(|(n, line)| (line.host.as_str(), n)).collect();
        let place =
            |(source, ms): &(String, i64)| Some((*places.get(source.as_str())?, *ms as f64));
        let seen_ms = self.last_ms.iter().filter_map(place).collect();
        Rest { lines, slots, seen_ms }
    }

    /// 95 of 100 took no longer, in ms; none where none is known.
    pub fn p95_ms(&self) -> Option<i64> {
        let mut sorted: Vec<i64> = self.last_ms.iter().map(|(_, ms)| *ms).collect();
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
            times.take(id, "a", 1_000, &Event::MigrationAdmitted(MigrationAdmitted::default()));
            let end = if n % 2 == 0 {
                Event::DnsSwitched(DnsSwitched::default())
            } else {
                Event::MigrationParked(MigrationParked::default())
            };
            times.take(id, "a", 1_001 + n, &end);
        }
        assert_eq!((times.last_ms.len(), times.admitted.len()), (50, 0));
        assert_eq!(times.p95_ms(), Some(95));
        let rest = times.rest(vec![("a".to_owned(), 7, 2)], 5, 2_000);
        assert_eq!((rest.lines[0].ended, rest.lines[0].in_flight), (50, 0));
        assert_eq!((rest.lines[0].busy_ms, rest.seen_ms.len()), (50.0 * 50.0, 50));
    }
}
