//! Rows as INSERT statements, for a session with `SET NAMES binary`: each value in the bytes that
//! are stored, so that no character set is ever converted on the way.
//!
//! Between the apostrophes every byte stands for itself but those of [`ESCAPES`]: also through the
//! stock client, which takes a NUL, a carriage return or a control-Z for something else.
//!
//! A value that comes in pieces ([`long`](crate::long)) has a user's variable for each, in statements of
//! their own before the INSERT that joins them. What they make together must not be larger than
//! `max_allowed_packet`: it would be NULL, and nobody told. There the INSERT asks for what no server gives.

use mysql_async::Value;

use crate::{
    ident::ident,
    listing::{Literal, Relation},
};

/// The INSERTs of one table.
pub(crate) struct Insert {
    table: String,
    head: Vec<u8>,
    /// For each selected column its name and how it is written; none: not at all.
    columns: Vec<Option<(String, Literal)>>,
    has_geometries: bool,
}

impl Insert {
    pub(crate) fn new(table: &str, relation: &Relation) -> Self {
        let columns = relation
            .columns
            .iter()
            .map(|column| column.written.then(|| (ident(&column.name), column.literal)));
        let has_geometries = relation.columns.iter().any(|c| c.literal == Literal::Geometry);
        let columns = columns.collect();
        let mut insert = Self { table: ident(table), head: Vec::new(), columns, has_geometries };
        insert.head = insert.head_of(insert.columns.iter().flatten());
        insert
    }

    fn head_of<'c>(&self, columns: impl Iterator<Item = &'c (String, Literal)>) -> Vec<u8> {
        let names: Vec<&str> = columns.map(|(name, _)| name.as_str()).collect();
        format!("INSERT INTO {} ({}) VALUES\n", self.table, names.join(",")).into_bytes()
    }

    /// The statement up to its first row.
    pub(crate) fn head(&self) -> &[u8] {
        &self.head
    }

    /// The statement up to the only row that it can have, for one that needs a statement of its own.
    pub(crate) fn own_head(&self, values: &[Value]) -> Option<Vec<u8>> {
        if !self.has_geometries {
            return None;
        }
        let columns = self.columns.iter().zip(values);
        let written: Vec<_> = columns
            .filter_map(|(column, value)| {
                column.as_ref().filter(|(_, literal)| !literal.leaves_out(value))
            })
            .collect();
        let leaves_out = written.len() < self.columns.iter().flatten().count();
        leaves_out.then(|| self.head_of(written.into_iter()))
    }

    /// Whether a row says a value for this column.
    pub(crate) fn says(&self, column: usize) -> bool {
        self.columns.get(column).is_some_and(Option::is_some)
    }

    /// Writes a row in parentheses. `pieces` are those that were written before: of which column each is.
    ///
    /// # Errors
    /// When a number is none; the error's text has nothing of it.
    pub(crate) fn row(
        &self,
        values: &[Value],
        pieces: &[usize],
        to: &mut Vec<u8>,
    ) -> Result<(), &'static str> {
        let mut before = b'(';
        for (at, (column, value)) in self.columns.iter().zip(values).enumerate() {
            let Some((_, literal)) = column else { continue };
            if literal.leaves_out(value) {
                continue;
            }
            to.push(before);
            before = b',';
            if pieces.contains(&at) {
                to.extend_from_slice(joined(pieces, at).as_bytes());
                continue;
            }
            match (literal, value) {
                (_, Value::NULL) => to.extend_from_slice(b"NULL"),
                (Literal::Number, Value::Bytes(bytes)) => number(bytes, to)?,
                (Literal::Bytes | Literal::Geometry, Value::Bytes(bytes)) => quoted(bytes, to),
                (Literal::Text, Value::Bytes(bytes)) => {
                    to.extend_from_slice(b"_utf8mb4");
                    quoted(bytes, to);
                }
                _ => return Err("a value that is no text"),
            }
        }
        if before == b'(' {
            to.push(b'(');
        }
        to.push(b')');
        Ok(())
    }
}

/// Writes a statement that keeps a piece of a value. `nth` counts those of a row.
pub(crate) fn piece(nth: usize, bytes: &[u8], to: &mut Vec<u8>) {
    to.extend_from_slice(format!("SET {} = ", variable(nth)).as_bytes());
    quoted(bytes, to);
}

/// The statement that forgets so many pieces.
pub(crate) fn forget(pieces: usize) -> String {
    let forgotten: Vec<String> =
        (0..pieces).map(|nth| format!("{} = NULL", variable(nth))).collect();
    format!("SET {}", forgotten.join(", "))
}

fn variable(nth: usize) -> String {
    format!("@drover_{nth}")
}

/// The value that a column's pieces make together.
fn joined(pieces: &[usize], column: usize) -> String {
    let own = pieces.iter().enumerate().filter(|(_, of)| **of == column);
    let variables: Vec<String> = own.map(|(nth, _)| variable(nth)).collect();
    format!("COALESCE(CONCAT({}), (SELECT 1 UNION ALL SELECT 2))", variables.join(", "))
}

impl Literal {
    /// Whether no literal stands for this value, which the server puts there when nothing is said.
    fn leaves_out(self, value: &Value) -> bool {
        self == Self::Geometry && matches!(value, Value::Bytes(bytes) if bytes.is_empty())
    }
}

/// What stands without quotes must be a number, whoever says that it is.
fn number(bytes: &[u8], to: &mut Vec<u8>) -> Result<(), &'static str> {
    let allowed = |byte: &u8| byte.is_ascii_digit() || b"+-.eE".contains(byte);
    if bytes.is_empty() || !bytes.iter().all(allowed) {
        return Err("a number that is none");
    }
    to.extend_from_slice(bytes);
    // Without an exponent the server reads it as a DECIMAL, and so that it fits. Longer than one is
    // only what a FLOAT or DOUBLE of a fixed number of digits prints.
    let digits = bytes.iter().filter(|byte| byte.is_ascii_digit());
    let significant = digits.skip_while(|byte| **byte == b'0').count();
    if significant > DECIMAL_DIGITS_MAX && !bytes.iter().any(|byte| b"eE".contains(byte)) {
        to.extend_from_slice(b"e0");
    }
    Ok(())
}

/// The most digits that a DECIMAL has, in both servers.
const DECIMAL_DIGITS_MAX: usize = 65;

/// What stands behind the backslash for a byte that cannot stand for itself; 0: it can.
const ESCAPES: [u8; 256] = {
    let mut table = [0; 256];
    table[0] = b'0';
    table[b'\n' as usize] = b'n';
    table[b'\r' as usize] = b'r';
    table[0x1a] = b'Z';
    table[b'\'' as usize] = b'\'';
    table[b'"' as usize] = b'"';
    table[b'\\' as usize] = b'\\';
    table
};

/// Writes a literal of these bytes.
pub(crate) fn quoted(bytes: &[u8], to: &mut Vec<u8>) {
    to.reserve(bytes.len() + 2);
    to.push(b'\'');
    let mut rest = bytes;
    while let Some(at) = rest.iter().position(|byte| ESCAPES[usize::from(*byte)] != 0) {
        to.extend_from_slice(&rest[..at]);
        to.extend_from_slice(&[b'\\', ESCAPES[usize::from(rest[at])]]);
        rest = &rest[at + 1..];
    }
    to.extend_from_slice(rest);
    to.push(b'\'');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_bytes_end_their_literal_early(bytes: Vec<u8>) {
            let mut text = Vec::new();
            quoted(&bytes, &mut text);
            let (mut inner, mut read) = (text[1..text.len() - 1].iter(), Vec::new());
            while let Some(byte) = inner.next() {
                prop_assert!(!b"\0\n\r\x1a'\"".contains(byte));
                read.push(match byte {
                    b'\\' => {
                        let letter = *inner.next().unwrap();
                        let stands_for = (0..=255).find(|b| ESCAPES[usize::from(*b)] == letter);
                        stands_for.unwrap()
                    }
                    other => *other,
                });
            }
            prop_assert_eq!(read, bytes);
        }

        #[test]
        fn no_number_is_longer_than_a_decimal(zeros in 0..300_usize, nines in 0..300_usize) {
            let digits = format!("-{}{}", "0".repeat(zeros), "9".repeat(nines.max(1)));
            let mut text = Vec::new();
            number(digits.as_bytes(), &mut text).unwrap();
            let exponent = if nines > DECIMAL_DIGITS_MAX { "e0" } else { "" };
            prop_assert_eq!(text, format!("{digits}{exponent}").into_bytes());
        }

        #[test]
        fn only_numbers_stand_without_quotes(text in "[0-9;' \\-x]{0,6}") {
            let taken = number(text.as_bytes(), &mut Vec::new()).is_ok();
            let harmless = !text.is_empty() && !text.contains([';', '\'', ' ', 'x']);
            prop_assert_eq!(taken, harmless);
        }
    }
}
