//! The name of a wave, in the order in which waves go: numbers in it by value, so that `night-9`
//! goes before `night-10`. Migrations without one go first.

use std::{cmp::Ordering, fmt, sync::Arc};

/// A wave's name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Wave(Arc<str>);

impl Wave {
    /// Of this name.
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Wave {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Ord for Wave {
    fn cmp(&self, other: &Self) -> Ordering {
        // Names that count the same, `w1` and `w01`, are still two waves.
        by_value(&self.0, &other.0).then_with(|| self.0.cmp(&other.0))
    }
}

impl PartialOrd for Wave {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

fn by_value(one: &str, other: &str) -> Ordering {
    let (mut one, mut other) = (one, other);
    loop {
        let ((a, one_rest), (b, other_rest)) = match (piece(one), piece(other)) {
            (Some(a), Some(b)) => (a, b),
            (a, b) => return a.is_some().cmp(&b.is_some()),
        };
        let order = match (number(a), number(b)) {
            (Some(a), Some(b)) => a.len().cmp(&b.len()).then_with(|| a.cmp(b)),
            _ => a.cmp(b),
        };
        if order.is_ne() {
            return order;
        }
        (one, other) = (one_rest, other_rest);
    }
}

/// The first run of digits, or of other characters, and the rest.
fn piece(text: &str) -> Option<(&str, &str)> {
    let is_digit = text.chars().next()?.is_ascii_digit();
    let end = text.find(|c: char| c.is_ascii_digit() != is_digit).unwrap_or(text.len());
    Some(text.split_at(end))
}

/// A number without its leading zeros.
fn number(piece: &str) -> Option<&str> {
    piece.starts_with(|c: char| c.is_ascii_digit()).then(|| piece.trim_start_matches('0'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_go_by_their_value() {
        let mut waves = ["w10", "", "w9", "a", "w9b", "w09", "w1-2", "w1-10"].map(Wave::new);
        waves.sort();
        let names: Vec<&str> = waves.iter().map(Wave::as_str).collect();
        assert_eq!(names, ["", "a", "w1-2", "w1-10", "w09", "w9", "w9b", "w10"]);
    }

    proptest! {
        #[test]
        fn it_is_an_order(a in "[a-b0-2]{0,5}", b in "[a-b0-2]{0,5}", c in "[a-b0-2]{0,5}") {
            let [a, b, c] = [a, b, c].map(|name| Wave::new(&name));
            prop_assert_eq!(a.cmp(&b), b.cmp(&a).reverse());
            prop_assert_eq!(a.cmp(&b).is_eq(), a == b);
            prop_assert!(!(a <= b && b <= c) || a <= c);
        }
    }
}
