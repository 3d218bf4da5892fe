//! What a rollback would lose: what the destination holds that the frozen source does not.
//!
//! Changes nothing and takes no lock, so it may be overtaken by the next write; it is what a person
//! is told before they decide. The close compares again, when nobody writes any more.

use std::collections::{BTreeSet, HashMap};

use mysql_async::Value;
use serde::Serialize;

use crate::{
    Description, Error, Server, Session,
    describe::{Found, describe},
    digest::Digest,
    listing::Relation,
    rows::{self, Digests, Sink},
    schema::{Kind, Table},
    slices::Part,
};

/// Up to how many rows of a table the source's are remembered, to count which ones are new: a few
/// tens of megabytes. Of a larger table only the numbers of rows are compared.
const ROWS_REMEMBERED_MAX: u64 = 1_000_000;

/// A table or another object that is not as it was when the destination opened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Lost {
    /// `TABLE` or the kind of object, and its name.
    pub object: String,
    /// What happened to it, in a few words.
    pub change: &'static str,
    /// How many rows it had when the destination opened; none for what has no rows, or was not there.
    pub rows_then: Option<u64>,
    /// How many it has now.
    pub rows_now: Option<u64>,
    /// How many of these the source does not have as they are now; none where that is not known.
    pub rows_lost: Option<u64>,
}

/// Compares the open `destination` with what it was when it opened, and counts at the `source`,
/// which must still be out of its customer's reach, the rows that are only at the destination.
///
/// # Errors
/// What a server may answer.
pub async fn lost(
    destination: &Server,
    source: &Server,
    database: &str,
    opened_with: &Description,
) -> Result<Vec<Lost>, Error> {
    let found = describe(destination, database).await?;
    let mut lost = changes(opened_with, &found);
    if lost.iter().all(|one| one.change != ROWS) {
        return Ok(lost);
    }
    let (mut there, mut here) = (destination.session().await?, source.session().await?);
    let known = Found::read(&mut here, database).await?;
    let current = Found::read(&mut there, database).await?;
    for one in lost.iter_mut().filter(|one| one.change == ROWS) {
        let Some(name) = one.object.strip_prefix(TABLE) else { continue };
        let few = one.rows_then.unwrap_or(0) <= ROWS_REMEMBERED_MAX;
        if few && known.lists.tables.contains_key(name) && current.lists.tables.contains_key(name) {
            let mut old = remember(&mut here, &known, name).await?;
            one.rows_lost = Some(count_new(&mut there, &current, name, &mut old).await?);
        }
    }
    here.end().await?;
    there.end().await?;
    Ok(lost)
}

const TABLE: &str = "TABLE ";
const ROWS: &str = "rows were written";

/// What is not as it was, by name; rows that changed are not counted yet.
fn changes(before: &Description, now: &Description) -> Vec<Lost> {
    let names: BTreeSet<&String> = before.tables.keys().chain(now.tables.keys()).collect();
    let tables = names.into_iter().filter_map(|name| {
        let (mine, theirs) = (before.tables.get(name), now.tables.get(name));
        of_table(name, mine, theirs)
    });
    let (mine, theirs) = (before.by_name(), now.by_name());
    let keys: BTreeSet<&(Kind, &str)> = mine.keys().chain(theirs.keys()).collect();
    let others = keys.into_iter().filter_map(|key| {
        let change = match (mine.get(key), theirs.get(key)) {
            (Some(a), Some(b)) if a == b => return None,
            (Some(_), Some(_)) => "was changed",
            (Some(_), None) => "was dropped",
            (None, _) => "was created",
        };
        let object = format!("{} {}", key.0.word(), key.1);
        Some(Lost { object, change, rows_then: None, rows_now: None, rows_lost: None })
    });
    let defaults = (before.defaults != now.defaults).then(|| Lost {
        object: "DATABASE".to_owned(),
        change: "its defaults were changed",
        rows_then: None,
        rows_now: None,
        rows_lost: None,
    });
    defaults.into_iter().chain(tables).chain(others).collect()
}

fn of_table(name: &str, before: Option<&Table>, now: Option<&Table>) -> Option<Lost> {
    let (change, rows_lost) = match (before, now) {
        (Some(a), Some(b)) if a == b => return None,
        (Some(a), Some(b)) if a.rows == b.rows && a.digest == b.digest => {
            ("its definition or counter was changed", Some(0))
        }
        (Some(a), Some(b)) if without_counter(&a.definition) == without_counter(&b.definition) => {
            (ROWS, None)
        }
        (Some(_), Some(_)) => ("its definition and its rows were changed", None),
        (Some(_), None) => ("was dropped", Some(0)),
        (None, _) => ("was created", now.map(|table| table.rows)),
    };
    Some(Lost {
        object: format!("{TABLE}{name}"),
        change,
        rows_then: before.map(|table| table.rows),
        rows_now: now.map(|table| table.rows),
        rows_lost,
    })
}

/// A table's definition without the next value of its counter, which any insert moves on. The
/// options stand on the last line.
fn without_counter(definition: &str) -> String {
    let (columns, options) = definition.rsplit_once('\n').unwrap_or(("", definition));
    let words = options.split(' ').filter(|word| !word.starts_with("AUTO_INCREMENT="));
    format!("{columns}\n{}", words.collect::<Vec<_>>().join(" "))
}

/// How often the source has each row.
async fn remember(
    session: &mut Session,
    found: &Found,
    name: &str,
) -> Result<HashMap<Digest, u32>, Error> {
    let mut known = HashMap::new();
    each(session, found, name, |row| *known.entry(row).or_default() += 1).await?;
    Ok(known)
}

/// How many rows there are that are not among the known ones.
async fn count_new(
    session: &mut Session,
    found: &Found,
    name: &str,
    known: &mut HashMap<Digest, u32>,
) -> Result<u64, Error> {
    let mut new = 0;
    let count = |row| match known.get_mut(&row) {
        Some(left @ 1..) => *left -= 1,
        Some(0) | None => new += 1,
    };
    each(session, found, name, count).await?;
    Ok(new)
}

/// Tells the digest of each row of a table.
async fn each(
    session: &mut Session,
    found: &Found,
    name: &str,
    tell: impl FnMut(Digest) + Send,
) -> Result<(), Error> {
    let Some(table) = found.lists.tables.get(name) else { return Ok(()) };
    let mut each = Each { tell, before: Digest::default() };
    rows::read(session, &Part::whole(name, table), &mut Digests::new(), &mut each).await
}

struct Each<F> {
    tell: F,
    before: Digest,
}

impl<F: FnMut(Digest) + Send> Sink for Each<F> {
    fn begin(&mut self, _: &str, _: &Relation) {
        self.before = Digest::default();
    }

    async fn row(&mut self, _: Vec<Value>, so_far: Digest) -> Result<(), Error> {
        (self.tell)(so_far.without(self.before));
        self.before = so_far;
        Ok(())
    }

    async fn end(&mut self) -> Result<(), Error> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::without_counter;

    #[test]
    fn only_the_counter_among_the_options_is_left_out() {
        let definition = |counter: &str| {
            format!("CREATE TABLE `t` (\n  `AUTO_INCREMENT=5` int\n) ENGINE=InnoDB{counter} X=1")
        };
        let with = without_counter(&definition(" AUTO_INCREMENT=7"));
        assert_eq!(with, definition(""));
    }
}
