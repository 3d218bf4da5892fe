//! Where the rows of a table differ: by the ranges of keys whose digests the manifest holds.
//!
//! Only for tables with a key of one integer column, which came in its order; and only when a
//! difference was found, as the table is read once more.

use crate::{
    Description, Error, Frame, FrameKind, KeyRange, Session,
    ident::ident,
    listing::{Lists, Relation},
    rows::{self, Digests, Nowhere},
    schema::Table,
    slices::Part,
};

/// Of how many tables the ranges are looked for.
const TABLES_MAX: usize = 3;

/// How many ranges of a table are named; the others are counted.
const RANGES_NAMED_MAX: usize = 5;

/// One line for each table whose rows differ within ranges that can be told.
pub(crate) async fn of_differences(
    session: &mut Session,
    database: &str,
    (expected, frames): (&Description, &[Frame]),
    found: &Description,
) -> Result<Vec<String>, Error> {
    let differs = |name: &str, table: &Table| {
        found
            .tables
            .get(name)
            .is_some_and(|copy| table.definition == copy.definition && table.digest != copy.digest)
    };
    let tables = expected.tables.iter().filter(|(name, table)| differs(name, table));
    let names: Vec<&String> = tables.map(|(name, _)| name).take(TABLES_MAX).collect();
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let lists = Lists::read(session, database).await?;
    let mut lines = Vec::new();
    for name in names {
        let Some(relation) = lists.tables.get(name) else { continue };
        let column = relation.key_column().and_then(|at| relation.columns.get(at));
        if let (Some(column), Some(ranges)) = (column, ranges(frames, name)) {
            let key = ident(&column.name);
            let differ = differing(session, (name, relation), &key, &ranges).await?;
            lines.push(format!("TABLE {name}: {}", line(&key, &differ)));
        }
    }
    Ok(lines)
}

/// A table's ranges in the order of their keys; none where some of its rows are in no range,
/// or all in one, which says no more than the table's name.
fn ranges<'a>(frames: &'a [Frame], name: &str) -> Option<Vec<(i128, &'a KeyRange)>> {
    let of_table = |frame: &&Frame| frame.kind == FrameKind::Rows && frame.name == name;
    let mut ranges = Vec::new();
    for frame in frames.iter().filter(of_table) {
        let range = frame.keys.as_ref()?;
        if range.rows == 0 {
            // Pieces of a row that stands in a later frame.
            continue;
        }
        ranges.push((range.first.parse::<i128>().ok()?, range));
    }
    ranges.sort_by_key(|(first, _)| *first);
    let is_apart = |pair: &[(i128, &KeyRange)]| {
        pair[0].1.last.parse::<i128>().is_ok_and(|last| last < pair[1].0)
    };
    (ranges.len() > 1 && ranges.windows(2).all(is_apart)).then_some(ranges)
}

/// The ranges in which the copy has other rows. What lies between two ranges belongs to the lower.
async fn differing<'a>(
    session: &mut Session,
    (name, relation): (&String, &Relation),
    key: &str,
    ranges: &[(i128, &'a KeyRange)],
) -> Result<Vec<&'a KeyRange>, Error> {
    let mut differ = Vec::new();
    for (at, (first, range)) in ranges.iter().enumerate() {
        let mut bounds = Vec::new();
        if at > 0 {
            bounds.push(format!("{key} >= {first}"));
        }
        if let Some((next, _)) = ranges.get(at + 1) {
            bounds.push(format!("{key} < {next}"));
        }
        let condition = bounds.join(" AND ");
        let part = Part { tables: vec![(name.clone(), relation.clone())], condition };
        let mut digests = Digests::new();
        rows::read(session, &part, &mut digests, &mut Nowhere).await?;
        if digests.get(name).is_none_or(|digest| digest.text() != range.digest) {
            differ.push(*range);
        }
    }
    Ok(differ)
}

fn line(key: &str, differ: &[&KeyRange]) -> String {
    let named: Vec<String> = differ
        .iter()
        .take(RANGES_NAMED_MAX)
        .map(|range| format!("{} to {}", range.first, range.last))
        .collect();
    let rest = differ.len().saturating_sub(RANGES_NAMED_MAX);
    let more = if rest > 0 { format!(", and {rest} more ranges") } else { String::new() };
    format!("where {key} is {}{more}", named.join(", "))
}
