//! Which of an account's rows in `mysql.db` is in force on a database.
//!
//! Several rows may cover one database: `my%`, `my_db` and `my\_db` all cover `my_db`. A server
//! sorts them from the most to the least specific, takes the first that covers, and looks no
//! further. What "specific" means is each server's own affair:
//!
//! - MySQL goes by the place of the first wildcard (`get_sort` in its `sql/auth/sql_auth_cache.cc`);
//! - MariaDB, since 2019, goes by how many names a text can stand for (`get_magic_sort` in its
//!   `sql/sql_acl_getsort.inc`).
//!
//! Both put a text without a wildcard before all others.

use std::cmp::{Ordering, Reverse};

use crate::{Flavour, ident::NAME_CHARS_MAX};

/// Whether the `Db` of a row covers one name only.
pub fn is_exact(text: &str) -> bool {
    first_wildcard(text) == NO_WILDCARD
}

/// Whether a row of `text` stands before a row of `other` in the order of every server, if both
/// are of the same account.
pub fn comes_first(text: &str, other: &str) -> bool {
    first_wildcard(text) > first_wildcard(other) && breadth(text) < breadth(other)
}

/// The order of an account's rows at a server: the one that is in force comes first.
pub fn order(flavour: Flavour, a: &str, b: &str) -> Ordering {
    match flavour {
        Flavour::MySql => Reverse(first_wildcard(a)).cmp(&Reverse(first_wildcard(b))),
        Flavour::MariaDb => breadth(a).cmp(&breadth(b)),
    }
}

/// What [`first_wildcard`] is for a text that has none.
const NO_WILDCARD: usize = 128;

/// The place of the first wildcard, in bytes from 1, as MySQL counts it: up to 127.
fn first_wildcard(text: &str) -> usize {
    const PLACE_MAX: usize = 127;
    let mut bytes = text.bytes().enumerate().peekable();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'_' | b'%' => return (at + 1).min(PLACE_MAX),
            b'\\' if bytes.peek().is_some() => {
                bytes.next();
            }
            _ => {}
        }
    }
    NO_WILDCARD
}

/// How many names a text can stand for, as MariaDB estimates it: a number that only means something
/// beside another one.
fn breadth(text: &str) -> u64 {
    const WILDCARDS_MAX: u32 = 31;
    // In bytes: what stands for itself, what stands for any one, runs of what stands for any number.
    let (mut literal, mut one, mut many, mut prefix) = (0_u32, 0_u32, 0_u32, 0_u32);
    let mut bytes = text.bytes().peekable();
    while let Some(byte) = bytes.next() {
        if matches!(byte, b'%' | b'_') && one == 0 && many == 0 {
            prefix = literal;
        }
        match byte {
            b'%' => {
                many += 1;
                while bytes.next_if_eq(&b'%').is_some() {}
            }
            b'_' => one += 1,
            _ => {
                if byte == b'\\' {
                    bytes.next();
                }
                literal += 1;
            }
        }
    }
    let many = many.min(WILDCARDS_MAX);
    let one = one.min(WILDCARDS_MAX);
    let chars_max = u32::try_from(NAME_CHARS_MAX).unwrap_or(u32::MAX);
    // The server does not expect a text of more bytes than that, and wraps around: such a text
    // comes last.
    let room = if many == 0 { 0 } else { chars_max.wrapping_sub(literal).wrapping_sub(one) };
    let base = u64::from(chars_max) + 1;
    let wildcards_base = u64::from(WILDCARDS_MAX) + 1;
    let [one, many, room, prefix] = [one, many, room, prefix].map(u64::from);
    if room > one {
        (((room * 2 + 1) * base + many) * wildcards_base + one) * base + prefix
    } else {
        ((one * 2 * base + room) * wildcards_base + many) * base + prefix
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ident::{covers, grant_text};

    #[test]
    fn exact_texts_are_told_from_patterns() {
        assert!(is_exact("shop") && is_exact("my\\_db") && is_exact("a\\"));
        assert!(!is_exact("my_db") && !is_exact("a%") && !is_exact("a\\\\_"));
    }

    #[test]
    fn each_server_has_its_own_order() {
        // What MariaDB does is asked of a real one in tests/in_force.rs.
        assert_eq!(order(Flavour::MariaDb, "m_shop", "mys%"), Ordering::Less);
        assert_eq!(order(Flavour::MySql, "m_shop", "mys%"), Ordering::Greater);
        assert_eq!(order(Flavour::MariaDb, "my_d%", "my%"), Ordering::Less);
        assert_eq!(order(Flavour::MySql, "my_d%", "my%"), Ordering::Equal);
        for flavour in [Flavour::MariaDb, Flavour::MySql] {
            assert_eq!(order(flavour, "my\\_db", "my_db"), Ordering::Less);
            assert_eq!(order(flavour, "my%", "%"), Ordering::Less);
        }
    }

    proptest! {
        #[test]
        fn an_exact_text_comes_before_every_pattern(
            name in "[ab_%\\\\é]{1,16}",
            pattern in "[ab_%\\\\é日]{1,64}",
        ) {
            let own = grant_text(&name);
            prop_assert!(is_exact(&own) && covers(&own, &name));
            prop_assert_eq!(comes_first(&own, &pattern), !is_exact(&pattern));
        }
    }
}
