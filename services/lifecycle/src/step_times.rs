//! How long a rehearsal's steps take, by the size of what was dumped.

use std::collections::{BTreeMap, HashMap};

use drover_schemas::{MigrationId, v1::migration_event::Event};

/// The sizes, in bytes of the stored dump: up to and with each; the last has no bound.
const SIZES: [u64; 5] = [100_000, 1_000_000, 10_000_000, 100_000_000, 1_000_000_000];

/// A rehearsal that is under way.
#[derive(Debug, Clone, Copy, Default)]
struct Begun {
    since_unix_ms: i64,
    bytes: u64,
    dump_ms: i64,
    import_ms: i64,
}

/// The times of dumps, imports and verifications of one size.
#[derive(Debug, Default)]
struct Times {
    dump_ms: Vec<i64>,
    import_ms: Vec<i64>,
    verify_ms: Vec<i64>,
}

/// The steps of dumps of one size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Size {
    /// The largest of them, in bytes; none: without a bound.
    pub bytes_max: Option<u64>,
    /// How many were seen.
    pub databases: usize,
    /// How long a dump took, in ms: the median.
    pub dump_ms: i64,
    /// How long an import took, in ms: the median.
    pub import_ms: i64,
    /// How long a comparison took, in ms: the median.
    pub verify_ms: i64,
}

/// The times of one campaign's rehearsals.
#[derive(Debug, Default)]
pub struct StepTimes {
    begun: HashMap<MigrationId, Begun>,
    sizes: BTreeMap<usize, Times>,
}

impl StepTimes {
    /// Takes in a fact of a rehearsal. What failed and was tried again tells of no step's own time.
    pub fn take(&mut self, id: MigrationId, at_unix_ms: i64, event: &Event) {
        if let Event::MigrationAdmitted(_) = event {
            self.begun.insert(id, Begun { since_unix_ms: at_unix_ms, ..Begun::default() });
            return;
        }
        let Some(begun) = self.begun.get_mut(&id) else { return };
        let took_ms = at_unix_ms.saturating_sub(begun.since_unix_ms).max(0);
        begun.since_unix_ms = at_unix_ms;
        if let Event::DumpStored(dump) = event {
            (begun.dump_ms, begun.bytes) = (took_ms, dump.dump_bytes);
        } else if let Event::ImportCompleted(_) = event {
            begun.import_ms = took_ms;
        } else {
            if let Event::CopyVerified(_) = event {
                let Begun { bytes, dump_ms, import_ms, .. } = *begun;
                let times =
                    self.sizes.entry(SIZES.partition_point(|max| *max < bytes)).or_default();
                times.dump_ms.push(dump_ms);
                times.import_ms.push(import_ms);
                times.verify_ms.push(took_ms);
            }
            self.begun.remove(&id);
        }
    }

    /// The sizes of which something was seen, smallest first.
    pub fn by_size(&self) -> Vec<Size> {
        let size = |(place, times): (&usize, &Times)| Size {
            bytes_max: SIZES.get(*place).copied(),
            databases: times.dump_ms.len(),
            dump_ms: median(&times.dump_ms),
            import_ms: median(&times.import_ms),
            verify_ms: median(&times.verify_ms),
        };
        self.sizes.iter().map(size).collect()
    }
}

fn median(times: &[i64]) -> i64 {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use drover_schemas::v1::{
        CopyVerified, DumpStored, ImportCompleted, MigrationAdmitted, StepFailed,
    };

    use super::*;

    #[test]
    fn only_what_went_through_counts_and_by_its_size() {
        let mut times = StepTimes::default();
        for (n, dump_bytes) in [(0, 10), (1, 100_000), (2, 100_001), (3, u64::MAX), (4, 10)] {
            let id = MigrationId::new(
                &"night-rehearsal".parse().unwrap(),
                &"a".parse().unwrap(),
                &n.to_string(),
            );
            times.take(id, 0, &Event::MigrationAdmitted(MigrationAdmitted::default()));
            times.take(
                id,
                10 + n,
                &Event::DumpStored(DumpStored { dump_bytes, ..DumpStored::default() }),
            );
            if n == 4 {
                times.take(id, 20, &Event::StepFailed(StepFailed::default()));
            }
            times.take(id, 30 + n, &Event::ImportCompleted(ImportCompleted::default()));
            times.take(id, 60 + n, &Event::CopyVerified(CopyVerified::default()));
        }
        let seen = |bytes_max, databases, dump_ms| Size {
            bytes_max,
            databases,
            dump_ms,
            import_ms: 20,
            verify_ms: 30,
        };
        let expected =
            [seen(Some(100_000), 2, 11), seen(Some(1_000_000), 1, 12), seen(None, 1, 13)];
        assert_eq!(times.by_size(), expected);
        assert!(times.begun.is_empty());
    }
}
