//! Rows that are too long to be in memory whole.
//!
//! A server sends a row as one packet, and takes a statement as one; whoever reads or writes it holds it
//! several times. So a row with a very long value is left out where its table is read, and comes behind
//! the others, by a query that has a row for each piece of it. In a dump each piece becomes the value of a
//! user's variable, and the row's INSERT puts them together
//! ([`insert`](crate::insert)): the stock client takes it, and neither side ever holds more than a piece.
//!
//! 1. What is long is told by the values themselves, in the query that reads the table. One condition
//!    leaves out, and the same one gives: under one snapshot no row is lost or comes twice, and they are
//!    counted.
//! 2. The pieces come in order, as the server joins one table after the other, by loops, when told
//!    to (`STRAIGHT_JOIN`, no buffers). A piece that is not the next one is an error.
//! 3. Taken whole, whatever their length: geometries, MySQL's JSON, MariaDB's COMPRESSED columns (to
//!    ask for a piece unpacks the whole), and types of at most 64 KB.

use mysql_async::Value;

use crate::{
    Error, Flavour, Session,
    digest::{Digest, RowHash},
    ident::ident,
    listing::{Column, Relation},
    rows::{Reader, Sink},
};

/// A row is long when its values could be larger than this together, in bytes: some times as much for each
/// of the sessions that read side by side is in memory. Only columns that may hold more are looked at.
pub(crate) const LONG_BYTES_MIN: u64 = 1 << 20;

/// A value up to this size makes no row long, in bytes, however many such columns its table has.
const VALUE_BYTES_MIN: u64 = 64 << 10;

/// The size of a piece, in bytes: that of an INSERT.
const PIECE_BYTES: u64 = 512 << 10;

/// How many pieces a value may have: 1 GB, the protocol's limit.
const PIECES_MAX: u64 = (1 << 30) / PIECE_BYTES;

/// Of how many long rows the pieces are asked for at once.
const KEYS_A_QUERY: usize = 100;

/// The rows of a table that were left out.
#[derive(Default)]
pub(crate) struct Left {
    rows: u64,
    /// Their keys, where these are of one integer column.
    keys: Vec<i128>,
}

impl Left {
    pub(crate) fn is_empty(&self) -> bool {
        self.rows == 0
    }

    pub(crate) fn add(&mut self, relation: &Relation, row: &[Value]) {
        self.rows += 1;
        let key = relation.key_column().and_then(|at| row.get(at));
        self.keys.extend(key.and_then(number::<i128>));
    }

    /// By which conditions they are read. All of them by one where their keys are not known.
    fn conditions(&mut self, relation: &Relation) -> Vec<String> {
        let key = relation.key_column().and_then(|at| relation.columns.get(at));
        let Some(key) = key.filter(|_| self.keys.len() as u64 == self.rows) else {
            return vec![String::new()];
        };
        // The rows of a history have the same one.
        self.keys.sort_unstable();
        self.keys.dedup();
        let condition = |keys: &[i128]| {
            let keys: Vec<String> = keys.iter().map(i128::to_string).collect();
            format!("{} IN ({})", ident(&key.name), keys.join(","))
        };
        self.keys.chunks(KEYS_A_QUERY).map(condition).collect()
    }
}

/// A number that a server tells as text.
pub(crate) fn number<N: std::str::FromStr>(value: &Value) -> Option<N> {
    match value {
        Value::Bytes(text) => std::str::from_utf8(text).ok()?.parse().ok(),
        _ => None,
    }
}

impl Relation {
    /// The query for its rows, with all that it keeps of their history. Of a table that may have long
    /// ones there is one column more, which tells them; their long values are NULL.
    pub(crate) fn select(&self, name: &str, condition: &str) -> String {
        let mut selected = self.selected();
        if self.may_have_long_rows() {
            selected.push(self.is_long());
        }
        let condition = conditions(&[condition]);
        format!("SELECT {} FROM {}{}{condition}", selected.join(","), ident(name), self.history())
    }

    /// Whether a column more tells which rows are left out.
    pub(crate) fn may_have_long_rows(&self) -> bool {
        self.long_columns().next().is_some()
    }

    fn long_columns(&self) -> impl Iterator<Item = &Column> {
        self.columns.iter().filter(|column| column.may_be_long)
    }

    /// Of which size on a value makes a row long, in bytes.
    fn value_bytes_max(&self) -> u64 {
        let columns = self.long_columns().count().max(1) as u64;
        (LONG_BYTES_MIN / columns).max(VALUE_BYTES_MIN)
    }

    /// The columns, without what is long.
    fn selected(&self) -> Vec<String> {
        let max = self.value_bytes_max();
        let selected = |column: &Column| match column.may_be_long {
            true => format!("IF({} > {max}, NULL, {})", length(column), column.selected),
            false => column.selected.clone(),
        };
        self.columns.iter().map(selected).collect()
    }

    fn is_long(&self) -> String {
        let max = self.value_bytes_max();
        let long = self.long_columns().map(|column| format!("{} > {max}", length(column)));
        format!("({})", long.collect::<Vec<_>>().join(" OR "))
    }

    fn history(&self) -> &'static str {
        if self.system_versioned { " FOR SYSTEM_TIME ALL" } else { "" }
    }

    /// The query for the long rows, a row for each piece: all columns without what is long; of those that
    /// may be long the lengths; which of them this piece is of, which of its pieces it is, and the piece.
    fn pieces(&self, name: &str, and: &[&str]) -> String {
        let (max, long): (_, Vec<&Column>) =
            (self.value_bytes_max(), self.long_columns().collect());
        let list = |of: &dyn Fn(&Column) -> String| {
            long.iter().map(|column| of(column)).collect::<Vec<_>>().join(",")
        };
        let lengths = list(&|column| length(column));
        let values = list(&|column| format!("CAST({} AS BINARY)", column.selected));
        // A name that no column has: those are not qualified.
        let mut n = "n".to_owned();
        while self.columns.iter().any(|column| column.name.eq_ignore_ascii_case(&n)) {
            n.push('n');
        }
        let numbers = |end: u64| {
            format!(
                "(WITH RECURSIVE d ({n}) AS (SELECT 0 UNION ALL SELECT {n} + 1 FROM d \
                 WHERE {n} < {}) SELECT {n} FROM d)",
                end - 1
            )
        };
        let is_long = self.is_long();
        let mut all = vec![is_long.as_str()];
        all.extend(and);
        format!(
            "SELECT STRAIGHT_JOIN {selected}, {lengths}, v.{n}, p.{n}, \
             SUBSTRING(ELT(v.{n} + 1, {values}), p.{n} * {PIECE_BYTES} + 1, {PIECE_BYTES}) \
             FROM {table}{history} AS t JOIN {columns} AS v ON ELT(v.{n} + 1, {lengths}) > {max} \
             JOIN {pieces} AS p ON p.{n} * {PIECE_BYTES} < ELT(v.{n} + 1, {lengths}){condition}",
            selected = self.selected().join(","),
            table = ident(name),
            history = self.history(),
            columns = numbers(long.len() as u64),
            pieces = numbers(PIECES_MAX),
            condition = conditions(&all),
        )
    }
}

/// Whether a row of a table that may have long ones was left out. Takes away what tells it.
pub(crate) fn is_left_out(row: &mut Vec<Value>) -> bool {
    matches!(row.pop(), Some(Value::Bytes(told)) if told == b"1")
}

fn length(column: &Column) -> String {
    format!("OCTET_LENGTH({})", column.selected)
}

fn conditions(all: &[&str]) -> String {
    let all: Vec<&str> = all.iter().copied().filter(|condition| !condition.is_empty()).collect();
    if all.is_empty() { String::new() } else { format!(" WHERE {}", all.join(" AND ")) }
}

/// How a session joins one table after the other, by loops, and counts far enough.
fn settings(flavour: Flavour) -> String {
    match flavour {
        Flavour::MariaDb => {
            format!("join_cache_level = 0, max_recursive_iterations = {PIECES_MAX}")
        }
        Flavour::MySql => format!(
            "optimizer_switch = 'block_nested_loop=off', cte_max_recursion_depth = {PIECES_MAX}"
        ),
    }
}

/// Reads the rows that were left out of a table, or of a part of it; their digest. The session keeps
/// `character_set_results = NULL`.
///
/// # Errors
/// What a server may answer; [`Error::Unexpected`] where that is not what was left out.
pub(crate) async fn read(
    session: &mut Session,
    (name, relation): (&str, &Relation),
    (condition, mut left): (&str, Left),
    sink: &mut impl Sink,
) -> Result<Digest, Error> {
    let settings = settings(session.about().flavour);
    let mut digest = Digest::default();
    for own in left.conditions(relation) {
        let sql = relation.pieces(name, &[condition, &own]);
        let mut reader = Reader::start(session, &settings, &sql).await?;
        let mut begun: Option<Long> = None;
        while let Some(row) = reader.next().await? {
            let Some(Piece { values, lengths, column, at, bytes }) = Piece::of(relation, row)
            else {
                return Err(reader.unexpected("no piece of a long row"));
            };
            let mut long = begun.take().unwrap_or_else(|| Long::new(relation, values, &lengths));
            if !long.add(column, at, &bytes) {
                return Err(reader.unexpected("a long row's pieces do not come in order"));
            }
            sink.piece(column, bytes, &long.values).await?;
            if long.has_ended() {
                digest.add_hash(&long.hash);
                sink.long(long.values, digest).await?;
            } else {
                begun = Some(long);
            }
        }
        if begun.is_some() {
            return Err(reader.unexpected("a long row without its end"));
        }
    }
    match digest.rows() == left.rows {
        true => Ok(digest),
        false => {
            let what = format!("{} long rows instead of {}", digest.rows(), left.rows);
            Err(session.unexpected("reading the long rows", what))
        }
    }
}

/// A row of the answer to [`Relation::pieces`].
struct Piece {
    values: Vec<Value>,
    lengths: Vec<Value>,
    /// Which of the table's columns.
    column: usize,
    at: u64,
    bytes: Vec<u8>,
}

impl Piece {
    fn of(relation: &Relation, mut values: Vec<Value>) -> Option<Self> {
        let columns = relation.columns.len();
        if values.len() < columns {
            return None;
        }
        let mut lengths = values.split_off(columns);
        let Some(Value::Bytes(bytes)) = lengths.pop() else { return None };
        let at = number(&lengths.pop()?)?;
        let nth: usize = number(&lengths.pop()?)?;
        let (column, _) = relation
            .columns
            .iter()
            .enumerate()
            .filter(|(_, column)| column.may_be_long)
            .nth(nth)?;
        Some(Self { values, lengths, column, at, bytes })
    }
}

/// A long row as far as it has come.
struct Long {
    values: Vec<Value>,
    /// For each column its length in bytes where it comes in pieces; otherwise 0.
    lengths: Vec<u64>,
    hash: RowHash,
    /// Of which column the next bytes are, and how many of it have come.
    column: usize,
    come: u64,
}

impl Long {
    fn new(relation: &Relation, values: Vec<Value>, lengths: &[Value]) -> Self {
        let max = relation.value_bytes_max();
        let mut known = lengths.iter().map(|length| number(length).unwrap_or_default());
        let length = |column: &Column| {
            let length = if column.may_be_long { known.next().unwrap_or_default() } else { 0 };
            if length > max { length } else { 0 }
        };
        let lengths = relation.columns.iter().map(length).collect();
        let mut long = Self { values, lengths, hash: RowHash::default(), column: 0, come: 0 };
        long.take_short();
        long
    }

    /// Takes the values up to the next one that comes in pieces.
    fn take_short(&mut self) {
        while let (Some(value), Some(0)) =
            (self.values.get(self.column), self.lengths.get(self.column))
        {
            self.hash.value(value);
            self.column += 1;
        }
        if let Some(length) = self.lengths.get(self.column) {
            self.hash.bytes_begin(*length);
        }
    }

    /// Takes a piece; false: it is not the next one.
    fn add(&mut self, column: usize, at: u64, bytes: &[u8]) -> bool {
        let left = self.lengths.get(self.column).map_or(0, |length| length - self.come);
        let is_next = column == self.column
            && at.checked_mul(PIECE_BYTES) == Some(self.come)
            && bytes.len() as u64 == left.min(PIECE_BYTES);
        if is_next {
            self.hash.bytes(bytes);
            self.come += bytes.len() as u64;
            if bytes.len() as u64 == left {
                (self.column, self.come) = (self.column + 1, 0);
                self.take_short();
            }
        }
        is_next
    }

    fn has_ended(&self) -> bool {
        self.column == self.lengths.len()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::listing::Literal;

    fn relation() -> Relation {
        let column = |name: &str, may_be_long| Column {
            name: name.to_owned(),
            selected: ident(name),
            literal: Literal::Bytes,
            written: true,
            may_be_long,
            is_key_number: false,
        };
        let columns = [("a", false), ("N", true), ("b", true), ("c", false), ("d", true)];
        let mut relation = Relation::default();
        relation.columns.extend(columns.map(|(name, may_be_long)| column(name, may_be_long)));
        relation
    }

    /// What the server answers for a row.
    fn answer(relation: &Relation, row: &[Value]) -> Vec<Vec<Value>> {
        let text = |number: u64| Value::Bytes(number.to_string().into_bytes());
        let may_be_long = relation.columns.iter().zip(row).filter(|(column, _)| column.may_be_long);
        let of: Vec<Option<&Vec<u8>>> = may_be_long
            .map(|(_, value)| match value {
                Value::Bytes(bytes) => Some(bytes),
                _ => None,
            })
            .collect();
        let is_long = |bytes: &[u8]| bytes.len() as u64 > relation.value_bytes_max();
        let short = relation.columns.iter().zip(row).map(|(column, value)| match value {
            Value::Bytes(bytes) if column.may_be_long && is_long(bytes) => Value::NULL,
            other => other.clone(),
        });
        let lengths = of.iter().map(|v| v.map_or(Value::NULL, |v| text(v.len() as u64)));
        let head: Vec<Value> = short.chain(lengths).collect();
        let mut rows = Vec::new();
        for (nth, bytes) in of.iter().enumerate() {
            let Some(bytes) = bytes.filter(|bytes| is_long(bytes)) else { continue };
            for (at, piece) in bytes.chunks(PIECE_BYTES as usize).enumerate() {
                let own = [text(nth as u64), text(at as u64), Value::Bytes(piece.to_vec())];
                rows.push(head.iter().cloned().chain(own).collect());
            }
        }
        rows
    }

    /// The row's digest, if the pieces are all of it, and in order.
    fn read(relation: &Relation, answer: Vec<Vec<Value>>) -> Option<Digest> {
        let mut long: Option<Long> = None;
        for row in answer {
            let Piece { values, lengths, column, at, bytes } = Piece::of(relation, row)?;
            let long = long.get_or_insert_with(|| Long::new(relation, values, &lengths));
            if !long.add(column, at, &bytes) {
                return None;
            }
        }
        let long = long.filter(Long::has_ended)?;
        let mut digest = Digest::default();
        digest.add_hash(&long.hash);
        Some(digest)
    }

    fn value() -> impl Strategy<Value = Value> {
        let piece = PIECE_BYTES as usize;
        let lengths = vec![0, 5, piece - 1, piece, piece + 1, 2 * piece, 3 * piece + 7];
        prop_oneof![
            Just(Value::NULL),
            proptest::sample::select(lengths).prop_map(|length| Value::Bytes(vec![7; length])),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn pieces_make_the_digest_of_the_row_and_only_all_of_them_in_order(
            row in proptest::collection::vec(value(), 5), at in any::<prop::sample::Index>()
        ) {
            let relation = relation();
            let answer = answer(&relation, &row);
            prop_assume!(!answer.is_empty());
            let mut digest = Digest::default();
            digest.add(&row);
            prop_assert_eq!(read(&relation, answer.clone()), Some(digest));
            let at = at.index(answer.len());
            let mut lost = answer.clone();
            lost.remove(at);
            prop_assert_eq!(read(&relation, lost), None);
            let mut doubled = answer.clone();
            doubled.insert(at, answer[at].clone());
            prop_assert_eq!(read(&relation, doubled), None);
            let mut turned = answer.clone();
            turned.rotate_left(1);
            prop_assert!(answer.len() == 1 || read(&relation, turned).is_none());
        }
    }

    #[test]
    fn the_numbers_name_is_no_columns() {
        let sql = relation().pieces("t", &["a < 5", ""]);
        assert!(sql.contains("d (nn)") && sql.ends_with(" AND a < 5"), "{sql}");
    }
}
