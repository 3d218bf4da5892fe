//! How long migrations hold their slots: what says whether one would finish in time, and when all
//! will have.

use std::collections::{HashMap, VecDeque};

use drover_schemas::{
    MigrationId,
    v1::{MigrationPlanned, migration_event::Event},
};

use crate::{
    admission::Waiting,
    forecast::{Large, Line, Rest},
    labels,
};

/// How many of the last are kept.
const KEPT_MAX: usize = 500;

/// Of so many databases of known size the times must have been seen before a size says anything.
const SIZED_MIN: usize = 20;
/// The share of the largest of these from which a time by size is taken: with small ones most of it
/// is not the size's.
const LARGE_SHARE: usize = 10;

/// The times from admission to switch of one campaign.
#[derive(Debug, Default)]
pub struct SlotTimes {
    admitted: HashMap<MigrationId, Admitted>,
    last: VecDeque<Ended>,
    /// By source: how many came to their switch, and the sum of their times.
    ended: HashMap<String, (u64, f64)>,
}

/// One that holds its slots.
#[derive(Debug)]
struct Admitted {
    source: String,
    /// The database's size; 0: not known.
    bytes: u64,
    at_unix_ms: i64,
}

/// What holds slots of one source.
#[derive(Debug, Default)]
struct InFlight {
    count: u64,
    age_ms: f64,
    large: Vec<Large>,
}

/// One that came to its switch.
#[derive(Debug)]
struct Ended {
    source: String,
    /// The database's size; 0: not known.
    bytes: u64,
    took_ms: i64,
}

impl SlotTimes {
    /// Takes in a fact of a migration that was planned like this.
    pub fn take(
        &mut self,
        id: MigrationId,
        planned: &MigrationPlanned,
        at_unix_ms: i64,
        event: &Event,
    ) {
        if let Event::MigrationAdmitted(_) = event {
            let (source, bytes) = (planned.source.clone(), labels::bytes(planned).unwrap_or(0));
            self.admitted.insert(id, Admitted { source, bytes, at_unix_ms });
        } else if let Event::DnsSwitched(_) | Event::MigrationRehearsed(_) = event {
            if let Some(Admitted { source, bytes, at_unix_ms: admitted }) =
                self.admitted.remove(&id)
            {
                let took_ms = at_unix_ms.saturating_sub(admitted).max(1);
                let (count, sum_ms) = self.ended.entry(source.clone()).or_default();
                *count += 1;
                *sum_ms += took_ms as f64;
                self.last.push_back(Ended { source, bytes, took_ms });
            }
            if self.last.len() > KEPT_MAX {
                self.last.pop_front();
            }
        } else if let Event::MigrationParked(_)
        | Event::MigrationDeferred(_)
        | Event::MigrationRolledBack(_) = event
        {
            self.admitted.remove(&id);
        }
    }

    /// What is left to do, from the sources that have something.
    pub fn rest(&self, waiting: Vec<Waiting>, slots: u32, now_unix_ms: i64) -> Rest {
        let by_size = self.by_size();
        let takes_ms = |bytes: u64| by_size.as_ref()?.takes_ms(bytes);
        let mut in_flight: HashMap<&str, InFlight> = HashMap::new();
        for Admitted { source, bytes, at_unix_ms } in self.admitted.values() {
            let here = in_flight.entry(source).or_default();
            let age_ms = now_unix_ms.saturating_sub(*at_unix_ms).max(0) as f64;
            if let Some(takes_ms) = takes_ms(*bytes) {
                here.large.push(Large { takes_ms, age_ms });
            } else {
                here.count += 1;
                here.age_ms += age_ms;
            }
        }
        let line = |of: Waiting| {
            let Waiting { source: host, count: waiting, slots, largest_bytes } = of;
            let InFlight { count: in_flight, age_ms, large: large_in_flight } =
                in_flight.remove(host.as_str()).unwrap_or_default();
            let (ended, sum_ms) = self.ended.get(&host).copied().unwrap_or_default();
            let large_ms = largest_bytes.iter().map_while(|bytes| takes_ms(*bytes)).collect();
            let busy_ms = sum_ms + age_ms;
            Line { host, waiting, in_flight, slots, ended, busy_ms, large_ms, large_in_flight }
        };
        let lines: Vec<Line> = waiting.into_iter().map(line).collect();
        let places: HashMap<&str, usize> =
            lines.iter().enumerate().map(|(n, line)| (line.host.as_str(), n)).collect();
        let place =
            |ended: &Ended| Some((*places.get(ended.source.as_str())?, ended.took_ms as f64));
        let seen_ms = self.last.iter().filter_map(place).collect();
        Rest { lines, slots, seen_ms }
    }

    /// 95 of 100 took no longer, in ms; none where none is known.
    pub fn p95_ms(&self) -> Option<i64> {
        let mut sorted: Vec<i64> = self.last.iter().map(|ended| ended.took_ms).collect();
        sorted.sort_unstable();
        let rank = (sorted.len() * 95).div_ceil(100).checked_sub(1)?;
        sorted.get(rank).copied()
    }

    /// What the sizes that were seen say of larger ones; none where they say nothing.
    fn by_size(&self) -> Option<BySize> {
        let mut sized: Vec<(u64, i64)> = self
            .last
            .iter()
            .filter(|ended| ended.bytes > 0)
            .map(|ended| (ended.bytes, ended.took_ms))
            .collect();
        if sized.len() < SIZED_MIN {
            return None;
        }
        sized.sort_unstable_by(|a, b| b.cmp(a));
        let bytes_max = sized.first()?.0;
        let ms_max = sized.iter().map(|(_, ms)| *ms).max()? as f64;
        sized.truncate(sized.len() / LARGE_SHARE);
        let (bytes, ms) = sized
            .iter()
            .fold((0.0, 0.0), |(bytes, ms), (of, took)| (bytes + *of as f64, ms + *took as f64));
        Some(BySize { bytes_max, ms_max, ms_a_byte: ms / bytes })
    }
}

/// What is known of databases that are larger than all that were seen.
struct BySize {
    bytes_max: u64,
    ms_max: f64,
    ms_a_byte: f64,
}

impl BySize {
    /// How long one of this size will take; none where such were seen.
    fn takes_ms(&self, bytes: u64) -> Option<f64> {
        (bytes > self.bytes_max).then(|| (bytes as f64 * self.ms_a_byte).max(self.ms_max))
    }
}

#[cfg(test)]
mod tests {
    use drover_schemas::v1::{DnsSwitched, MigrationAdmitted, MigrationParked};

    use super::*;

    fn at_a(bytes: u64) -> MigrationPlanned {
        let labels = [("bytes".to_owned(), bytes.to_string())].into();
        MigrationPlanned { source: "a".to_owned(), labels, ..MigrationPlanned::default() }
    }

    fn waiting(largest_bytes: Vec<u64>) -> Vec<Waiting> {
        vec![Waiting { source: "a".to_owned(), count: 7, slots: 2, largest_bytes }]
    }

    fn id(n: i64) -> MigrationId {
        MigrationId::new(&"night".parse().unwrap(), &"a".parse().unwrap(), &n.to_string())
    }

    #[test]
    fn what_is_larger_than_all_that_were_seen_takes_as_long_as_its_size_says() {
        let mut times = SlotTimes::default();
        let mut one = |n: i64, bytes: u64, took_ms: i64| {
            let admitted = Event::MigrationAdmitted(MigrationAdmitted::default());
            times.take(id(n), &at_a(bytes), 1_000, &admitted);
            let switched = Event::DnsSwitched(DnsSwitched::default());
            times.take(id(n), &at_a(bytes), 1_000 + took_ms, &switched);
            times.rest(waiting(vec![9_000, 3_000, 1_000]), 5, 2_000).lines[0].large_ms.clone()
        };
        for n in 0..19 {
            assert!(one(n, 100, 50).is_empty(), "{n} were seen");
        }
        assert_eq!(one(19, 1_000, 300), [9_000.0 * 350.0 / 1_100.0, 3_000.0 * 350.0 / 1_100.0]);
        assert_eq!(one(20, 3_000, 40), [9_000.0 * 340.0 / 4_000.0]);
        assert!(one(21, 9_000, 40).is_empty());
        let admitted = Event::MigrationAdmitted(MigrationAdmitted::default());
        times.take(id(22), &at_a(18_000), 1_000, &admitted);
        let line = times.rest(waiting(Vec::new()), 5, 2_000).lines.remove(0);
        let takes_ms = 18_000.0 * 80.0 / 12_000.0;
        let expected = Large { takes_ms: f64::max(takes_ms, 300.0), age_ms: 1_000.0 };
        assert_eq!((line.in_flight, line.large_in_flight), (0, vec![expected]));
    }

    #[test]
    fn only_what_came_to_its_switch_counts() {
        let mut times = SlotTimes::default();
        assert_eq!(times.p95_ms(), None);
        for n in 0..100_i64 {
            let admitted = Event::MigrationAdmitted(MigrationAdmitted::default());
            times.take(id(n), &at_a(0), 1_000, &admitted);
            let end = if n % 2 == 0 {
                Event::DnsSwitched(DnsSwitched::default())
            } else {
                Event::MigrationParked(MigrationParked::default())
            };
            times.take(id(n), &at_a(0), 1_001 + n, &end);
        }
        assert_eq!((times.last.len(), times.admitted.len()), (50, 0));
        assert_eq!(times.p95_ms(), Some(95));
        let rest = times.rest(waiting(Vec::new()), 5, 2_000);
        assert_eq!((rest.lines[0].ended, rest.lines[0].in_flight), (50, 0));
        assert_eq!((rest.lines[0].busy_ms, rest.seen_ms.len()), (50.0 * 50.0, 50));
    }
}
