//! What is read at once, and what side by side: the rows of a database in parts.
//!
//! 1. A small database is read on one session, many tables in one round trip.
//! 2. Of a large one every large table is a part, or, where it has a key of one integer column,
//!    several: so many keys each. Small tables are parts of many tables.
//! 3. Whoever is free takes a part of the table that the fewest read: a table's rows then come
//!    in the order of its key as long as there are others to read.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Mutex, PoisonError},
};

use crate::{Error, Session, ident::ident, listing::Relation};

/// From this size on a database is read side by side, in bytes: below it the further sessions cost
/// more than they win.
pub(crate) const LARGE_BYTES_MIN: u64 = 24 << 20;

/// How large a part is, in bytes, as far as the server's estimate holds.
const PART_BYTES: u64 = 64 << 20;

/// How many sessions read or load a database side by side: with more, a server's other customers
/// would feel it.
pub(crate) const SIDE_BY_SIDE_MAX: usize = 3;

/// Of how many tables the rows are asked for in one packet: some kilobytes of text a table at most
/// usual widths, and far under any server's limit.
const TABLES_A_PACKET: usize = 100;

/// Some tables, or some rows of one.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    /// The tables.
    pub tables: Vec<(String, Relation)>,
    /// Which of the rows, as a condition; empty: all.
    pub condition: String,
}

impl Part {
    /// All rows of a table.
    pub(crate) fn whole(name: &str, relation: &Relation) -> Self {
        Self { tables: vec![(name.to_owned(), relation.clone())], condition: String::new() }
    }

    /// The queries for its rows, one for each table.
    pub(crate) fn select(&self) -> String {
        let tables = self.tables.iter();
        let selects = tables.map(|(name, relation)| relation.select(name, &self.condition));
        selects.collect::<Vec<_>>().join(";")
    }
}

/// The parts that are still to be read, by table.
pub(crate) struct Queue {
    rows: Mutex<Vec<Row>>,
}

struct Row {
    parts: VecDeque<Part>,
    readers: usize,
}

/// A part, and where it stood.
pub(crate) type Taken = (usize, Part);

impl Queue {
    /// The next part for somebody who is free. `done` is where his last one stood.
    pub(crate) fn next(&self, done: Option<usize>) -> Option<Taken> {
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(row) = done.and_then(|at| rows.get_mut(at)) {
            row.readers -= 1;
        }
        let left = rows.iter_mut().enumerate().filter(|(_, row)| !row.parts.is_empty());
        let (at, row) = left.min_by_key(|(_, row)| (row.readers, usize::MAX - row.parts.len()))?;
        row.readers += 1;
        row.parts.pop_front().map(|part| (at, part))
    }
}

/// Whether the tables are worth reading side by side.
pub(crate) fn are_large(tables: &BTreeMap<String, Relation>) -> bool {
    tables.values().map(|relation| relation.data_bytes).sum::<u64>() >= LARGE_BYTES_MIN
}

/// The parts of these tables. The session has their database selected.
pub(crate) async fn queue(
    session: &mut Session,
    tables: &BTreeMap<String, Relation>,
) -> Result<Queue, Error> {
    let (large, small): (Vec<_>, Vec<_>) =
        tables.iter().partition(|(_, relation)| relation.data_bytes >= PART_BYTES / 4);
    let mut rows = Vec::new();
    for table in &large {
        let conditions = conditions(session, table.0, table.1).await?;
        let own = (table.0.clone(), table.1.clone());
        let part = |condition| Part { tables: vec![own.clone()], condition };
        rows.push(Row { parts: conditions.into_iter().map(part).collect(), readers: 0 });
    }
    rows.push(Row { parts: packets(small), readers: 0 });
    Ok(Queue { rows: Mutex::new(rows) })
}

/// Whole tables, many in a part.
pub(crate) fn packets(tables: Vec<(&String, &Relation)>) -> VecDeque<Part> {
    let own = |(name, relation): &(&String, &Relation)| ((*name).clone(), (*relation).clone());
    let part = |some: &[(&String, &Relation)]| Part {
        tables: some.iter().map(own).collect(),
        condition: String::new(),
    };
    tables.chunks(TABLES_A_PACKET).map(part).collect()
}

/// By which conditions a table is read in parts.
async fn conditions(
    session: &mut Session,
    name: &str,
    relation: &Relation,
) -> Result<Vec<String>, Error> {
    let parts = relation.data_bytes / PART_BYTES;
    let column = relation.key_column().and_then(|at| relation.columns.get(at));
    let Some(column) = column.filter(|_| parts > 1) else { return Ok(vec![String::new()]) };
    let key = ident(&column.name);
    let sql =
        format!("SELECT CAST(MIN({key}) AS CHAR), CAST(MAX({key}) AS CHAR) FROM {}", ident(name));
    let (first, last): (Option<String>, Option<String>) =
        session.one("looking for a table's parts", &sql).await?;
    let number = |text: Option<String>| text.and_then(|text| text.parse::<i128>().ok());
    let bounds = match (number(first), number(last)) {
        (Some(first), Some(last)) => between(first, last, parts.into()),
        _ => vec![(None, None)],
    };
    let condition = |bounds: &Bounds| match bounds {
        (None, None) => String::new(),
        (None, Some(to)) => format!("{key} < {to}"),
        (Some(from), None) => format!("{key} >= {from}"),
        (Some(from), Some(to)) => format!("{key} >= {from} AND {key} < {to}"),
    };
    Ok(bounds.iter().map(condition).collect())
}

/// From which key on, and before which.
type Bounds = (Option<i128>, Option<i128>);

/// Bounds of which each key lies between exactly two.
fn between(first: i128, last: i128, parts: i128) -> Vec<Bounds> {
    let step = ((last - first) / parts).max(1);
    let borders: Vec<i128> =
        (1..parts).map(|i| first + i * step).filter(|border| *border <= last).collect();
    let lower = std::iter::once(None).chain(borders.iter().copied().map(Some));
    let upper = borders.iter().copied().map(Some).chain(std::iter::once(None));
    lower.zip(upper).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_key_is_in_one_part(first: i64, length: u64, parts in 1_u8..20) {
            let last = i128::from(first) + i128::from(length);
            let bounds = between(first.into(), last, parts.into());
            prop_assert!(bounds.len() <= usize::from(parts));
            prop_assert_eq!(bounds[0].0, None);
            prop_assert_eq!(bounds[bounds.len() - 1].1, None);
            for pair in bounds.windows(2) {
                prop_assert!(pair[0].1.is_some() && pair[0].1 == pair[1].0);
                prop_assert!(pair[0].0.is_none_or(|from| Some(from) < pair[0].1));
            }
        }
    }

    #[test]
    fn who_is_free_takes_of_the_table_that_the_fewest_read() {
        let part = |name: &str| Part {
            tables: vec![(name.to_owned(), Relation::default())],
            condition: String::new(),
        };
        let row = |name, number| Row { parts: vec![part(name); number].into(), readers: 0 };
        let queue = Queue { rows: Mutex::new(vec![row("a", 2), row("b", 3)]) };
        let next = |done| queue.next(done).map(|(at, part)| (at, part.tables[0].0.clone()));
        assert_eq!(next(None), Some((1, "b".to_owned())));
        assert_eq!(next(None), Some((0, "a".to_owned())));
        assert_eq!(next(Some(1)), Some((1, "b".to_owned())));
        assert_eq!(next(None), Some((0, "a".to_owned())));
        assert_eq!(next(Some(0)), Some((1, "b".to_owned())));
        assert_eq!(next(Some(0)), None);
    }
}
