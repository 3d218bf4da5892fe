//! What the views count, kept up to date with each batch.

use std::{collections::HashMap, sync::Arc};

use drover_lifecycle::Migration;
use rusqlite::{Transaction, params};

use crate::Error;

/// What a migration is counted under, in the order of [`crate::entry::Entry::names`].
pub(crate) const KINDS: [&str; 3] = ["wave", "source", "destination"];

/// As what a migration is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    pub(crate) phase: &'static str,
    pub(crate) holds_slot: bool,
}

impl Place {
    pub(crate) fn of(migration: &Migration) -> Self {
        Self { phase: migration.name(), holds_slot: migration.holds_slot() }
    }
}

/// The changes of one batch.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    counts: HashMap<(&'static str, Arc<str>, Place), i64>,
    completions: HashMap<i64, i64>,
    frozen: HashMap<i64, i64>,
}

const COUNT: &str = "
INSERT INTO tally (campaign, kind, name, phase, holds_slot, count) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
ON CONFLICT DO UPDATE SET count = count + excluded.count";
const DELETE_EMPTY: &str = "
DELETE FROM tally
WHERE campaign = ?1 AND kind = ?2 AND name = ?3 AND phase = ?4 AND holds_slot = ?5 AND count = 0";
const COMPLETIONS: &str = "
INSERT INTO completion (campaign, second, count) VALUES (?1, ?2, ?3)
ON CONFLICT DO UPDATE SET count = count + excluded.count";
const FROZEN: &str = "
INSERT INTO frozen (campaign, ms, count) VALUES (?1, ?2, ?3)
ON CONFLICT DO UPDATE SET count = count + excluded.count";

impl Tally {
    /// A migration went from one place to another; from nowhere when it is new.
    pub(crate) fn moved(&mut self, names: &[Arc<str>; 3], from: Option<Place>, to: Place) {
        if from == Some(to) {
            return;
        }
        for (kind, name) in KINDS.into_iter().zip(names) {
            if let Some(from) = from {
                *self.counts.entry((kind, name.clone(), from)).or_default() -= 1;
            }
            *self.counts.entry((kind, name.clone(), to)).or_default() += 1;
        }
    }

    /// A migration completed.
    pub(crate) fn completed(&mut self, at_unix_ms: i64) {
        *self.completions.entry(at_unix_ms.div_euclid(1000)).or_default() += 1;
    }

    /// A destination opened so long after its source's freeze.
    pub(crate) fn opened(&mut self, frozen_ms: i64) {
        *self.frozen.entry(rounded(frozen_ms)).or_default() += 1;
    }

    /// Writes the changes.
    pub(crate) fn store(self, transaction: &Transaction<'_>, campaign: i64) -> Result<(), Error> {
        let mut count = transaction.prepare_cached(COUNT)?;
        let mut delete_empty = transaction.prepare_cached(DELETE_EMPTY)?;
        for ((kind, name, place), change) in self.counts {
            let (phase, holds_slot) = (place.phase, place.holds_slot);
            if change != 0 {
                count.execute(params![campaign, kind, name, phase, holds_slot, change])?;
            }
            if change < 0 {
                delete_empty.execute(params![campaign, kind, name, phase, holds_slot])?;
            }
        }
        for (statement, changes) in [(COMPLETIONS, self.completions), (FROZEN, self.frozen)] {
            let mut statement = transaction.prepare_cached(statement)?;
            for (key, change) in changes {
                statement.execute(params![campaign, key, change])?;
            }
        }
        Ok(())
    }
}

/// Keeps ten binary digits: exact up to a second, within a thousandth above. So the table of
/// times stays small however many openings there are.
fn rounded(ms: i64) -> i64 {
    const DIGITS: u32 = 10;
    let ms = ms.max(0);
    let length = i64::BITS - ms.leading_zeros();
    let dropped = length.saturating_sub(DIGITS);
    (ms >> dropped) << dropped
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn times_are_exact_up_to_a_second() {
        for ms in 0..1024 {
            assert_eq!(rounded(ms), ms);
        }
        assert_eq!(rounded(-5), 0);
    }

    proptest! {
        #[test]
        fn and_within_two_thousandths_above(ms in 0_i64..) {
            let rounded = rounded(ms);
            prop_assert!(rounded <= ms && ms - rounded <= ms / 512);
        }
    }
}
