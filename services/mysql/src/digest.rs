//! The digest of a table: of its rows as they are read, whatever their order and whatever stores
//! them.
//!
//! Each row is written down unambiguously (for each column, in the table's order: a tag for the
//! kind of value, the length where it varies, the bytes) and hashed with BLAKE3; the first 128
//! bits of the hashes are added modulo 2^128. A changed bit changes its row's hash; two values that
//! change places change both rows'; a row that is lost, or stands twice, changes the sum; NULL and
//! the empty string have different tags; floats are taken as they are stored, to the last bit.
//!
//! What it can miss:
//!
//! 1. Two different tables with the same sum: by chance once in 2^128. Somebody who chooses both
//!    tables' rows to that end could find such a pair with some effort, as sums are weaker than the
//!    hash; it would be his own database.
//! 2. What no query shows: the order of rows without a key, the number behind an ENUM's invalid
//!    (empty) value, unused space.
//! 3. What is not in the rows: definitions, counters, comments. [`crate::Description`] has those.

use mysql_async::Value;
use serde::{Deserialize, Serialize};

/// The digest of some rows, and how many they are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Digest {
    rows: u64,
    sum: u128,
}

/// The digest in 32 hexadecimal digits, as the manifest holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DigestText(String);

impl Digest {
    /// Adds a row. Values are those of the binary protocol; the text protocol has fewer kinds.
    pub fn add(&mut self, row: &[Value]) {
        let mut hash = RowHash::default();
        row.iter().for_each(|value| hash.value(value));
        self.add_hash(&hash);
    }

    /// Adds a row that was hashed value by value.
    pub(crate) fn add_hash(&mut self, row: &RowHash) {
        self.sum = self.sum.wrapping_add(row.end());
        self.rows += 1;
    }

    /// Adds the rows of another digest.
    pub fn merge(&mut self, other: Self) {
        self.sum = self.sum.wrapping_add(other.sum);
        self.rows += other.rows;
    }

    /// The digest of the rows that came since `before`, which they were added to.
    pub fn without(self, before: Self) -> Self {
        Self { rows: self.rows - before.rows, sum: self.sum.wrapping_sub(before.sum) }
    }

    /// How many rows were added.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// The sum, as text.
    pub fn text(&self) -> DigestText {
        DigestText(format!("{:032x}", self.sum))
    }
}

/// Tags: no two kinds of values are written alike.
const NULL: u8 = 0;
const BYTES: u8 = 1;
const NEGATIVE: u8 = 2;
const NATURAL: u8 = 3;
const FLOAT: u8 = 4;
const DOUBLE: u8 = 5;
const DATE: u8 = 6;
const TIME: u8 = 7;

/// One row's part of the sum, in the making.
#[derive(Default)]
pub(crate) struct RowHash(blake3::Hasher);

impl RowHash {
    /// Takes a whole value.
    pub(crate) fn value(&mut self, value: &Value) {
        // A value of a fixed size is put together first: one call is faster than three.
        let mut fixed = [0; 17];
        let length = match value {
            Value::NULL => {
                fixed[0] = NULL;
                1
            }
            Value::Bytes(bytes) => {
                self.bytes_begin(bytes.len() as u64);
                return self.bytes(bytes);
            }
            // Signed and unsigned columns give the same number in different kinds.
            Value::Int(number) => {
                fixed[0] = if *number < 0 { NEGATIVE } else { NATURAL };
                fixed[1..9].copy_from_slice(&number.to_le_bytes());
                9
            }
            Value::UInt(number) => {
                fixed[0] = NATURAL;
                fixed[1..9].copy_from_slice(&number.to_le_bytes());
                9
            }
            Value::Float(number) => {
                fixed[0] = FLOAT;
                fixed[1..5].copy_from_slice(&number.to_bits().to_le_bytes());
                5
            }
            Value::Double(number) => {
                fixed[0] = DOUBLE;
                fixed[1..9].copy_from_slice(&number.to_bits().to_le_bytes());
                9
            }
            Value::Date(year, month, day, hour, minute, second, micros) => {
                fixed[0] = DATE;
                fixed[1..3].copy_from_slice(&year.to_le_bytes());
                fixed[3..8].copy_from_slice(&[*month, *day, *hour, *minute, *second]);
                fixed[8..12].copy_from_slice(&micros.to_le_bytes());
                12
            }
            Value::Time(negative, days, hours, minutes, seconds, micros) => {
                fixed[0] = TIME;
                fixed[1] = u8::from(*negative);
                fixed[2..6].copy_from_slice(&days.to_le_bytes());
                fixed[6..9].copy_from_slice(&[*hours, *minutes, *seconds]);
                fixed[9..13].copy_from_slice(&micros.to_le_bytes());
                13
            }
        };
        self.0.update(&fixed[..length]);
    }

    /// A value of so many bytes begins, which come in pieces.
    pub(crate) fn bytes_begin(&mut self, length: u64) {
        let mut fixed = [BYTES; 9];
        fixed[1..].copy_from_slice(&length.to_le_bytes());
        self.0.update(&fixed);
    }

    /// The next of them.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn end(&self) -> u128 {
        let mut first = [0; 16];
        first.copy_from_slice(&self.0.finalize().as_bytes()[..16]);
        u128::from_le_bytes(first)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn digest(rows: &[Vec<Value>]) -> Digest {
        let mut digest = Digest::default();
        rows.iter().for_each(|row| digest.add(row));
        digest
    }

    fn value() -> impl Strategy<Value = Value> {
        prop_oneof![
            Just(Value::NULL),
            proptest::collection::vec(any::<u8>(), 0..4).prop_map(Value::Bytes),
            any::<i64>().prop_map(Value::Int),
            any::<u64>().prop_map(Value::UInt),
            any::<f32>().prop_map(Value::Float),
            any::<f64>().prop_map(Value::Double),
            (0u16..3, 0u8..3).prop_map(|(y, d)| Value::Date(y, 1, d, 0, 0, 0, 0)),
            (any::<bool>(), 0u32..3, 0u8..3).prop_map(|(n, d, h)| Value::Time(n, d, h, 0, 0, 0)),
        ]
    }

    fn rows() -> impl Strategy<Value = Vec<Vec<Value>>> {
        proptest::collection::vec(proptest::collection::vec(value(), 2), 0..6)
    }

    /// The same value: floats by their bits, numbers in whatever kind.
    fn alike(a: &Value, b: &Value) -> bool {
        let number = |value: &Value| match value {
            Value::Int(n) => Some(i128::from(*n)),
            Value::UInt(n) => Some(i128::from(*n)),
            _ => None,
        };
        match (a, b) {
            (Value::Float(a), Value::Float(b)) => a.to_bits() == b.to_bits(),
            (Value::Double(a), Value::Double(b)) => a.to_bits() == b.to_bits(),
            _ => a == b || number(a).is_some() && number(a) == number(b),
        }
    }

    #[test]
    fn the_digest_never_changes() {
        let row = vec![
            Value::NULL,
            Value::Bytes(b"a".to_vec()),
            Value::Int(-1),
            Value::UInt(1),
            Value::Double(0.5),
        ];
        assert_eq!(digest(&[row]).text().0, "1f78f9aa550094f6cd9dcb4ab0b2e388");
        assert_eq!(digest(&[]).text().0, "0".repeat(32));
    }

    #[test]
    fn likes_are_told_apart() {
        let bytes = |text: &str| Value::Bytes(text.as_bytes().to_vec());
        let alike = [
            vec![Value::NULL, bytes("")],
            vec![bytes(""), Value::NULL],
            vec![bytes(""), bytes("")],
            vec![bytes("a"), bytes("b")],
            vec![bytes("ab"), bytes("")],
            vec![bytes("0"), bytes("")],
            vec![Value::Int(0), bytes("")],
            vec![Value::Double(0.0), bytes("")],
            vec![Value::Double(-0.0), bytes("")],
            vec![Value::Float(0.0), bytes("")],
            vec![Value::Date(0, 0, 0, 0, 0, 0, 0), bytes("")],
            vec![Value::Time(false, 0, 0, 0, 0, 0), bytes("")],
        ];
        for (i, a) in alike.iter().enumerate() {
            for b in &alike[..i] {
                assert_ne!(digest(std::slice::from_ref(a)), digest(std::slice::from_ref(b)));
            }
        }
    }

    proptest! {
        #[test]
        fn the_order_of_rows_does_not_matter(mut rows in rows(), by in any::<prop::sample::Index>()) {
            let before = digest(&rows);
            if !rows.is_empty() {
                let by = by.index(rows.len());
                rows.rotate_left(by);
            }
            prop_assert_eq!(digest(&rows), before);
        }

        #[test]
        fn a_lost_doubled_or_changed_row_is_seen(
            rows in rows(), at in any::<prop::sample::Index>(), other in value()
        ) {
            prop_assume!(!rows.is_empty());
            let (before, at) = (digest(&rows).text(), at.index(rows.len()));
            let mut doubled = rows.clone();
            doubled.push(rows[at].clone());
            prop_assert_ne!(digest(&doubled).text(), before.clone());
            let mut lost = rows.clone();
            lost.remove(at);
            prop_assert_ne!(digest(&lost).text(), before.clone());
            let mut changed = rows.clone();
            changed[at][0] = other.clone();
            prop_assert_eq!(digest(&changed).text() == before, alike(&rows[at][0], &other));
        }

        #[test]
        fn values_that_change_places_between_rows_are_seen(a in value(), b in value(), c in value(), d in value()) {
            prop_assume!(!alike(&a, &c) && !alike(&b, &d));
            let before = digest(&[vec![a.clone(), b.clone()], vec![c.clone(), d.clone()]]);
            let after = digest(&[vec![c, b], vec![a, d]]);
            prop_assert_ne!(before, after);
        }
    }
}
