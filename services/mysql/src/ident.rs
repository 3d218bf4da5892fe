//! Quoting: everything that becomes part of a statement's text goes through here.
//!
//! Names of databases, tables and accounts are the customers', and hostile until quoted. Names and
//! accounts are quoted with backticks, in which only the backtick itself is special, whatever the
//! session's `sql_mode`; so a statement that is kept for later (an undo) means the same in every
//! session. Text literals depend on `NO_BACKSLASH_ESCAPES`, which Drover's sessions never set.

/// The longest database name, and the longest `Db` in `mysql.db`, in characters.
pub const NAME_CHARS_MAX: usize = 64;

/// A name in backticks.
pub fn ident(name: &str) -> String {
    let mut quoted = String::with_capacity(name.len() + 2);
    quoted.push('`');
    for c in name.chars() {
        if c == '`' {
            quoted.push('`');
        }
        quoted.push(c);
    }
    quoted.push('`');
    quoted
}

/// A text literal in apostrophes, for a session without `NO_BACKSLASH_ESCAPES` and `ANSI_QUOTES`
/// of any value.
pub fn literal(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('\'');
    for c in text.chars() {
        match c {
            '\'' => quoted.push_str("''"),
            '\\' => quoted.push_str("\\\\"),
            '\0' => quoted.push_str("\\0"),
            // A control-Z ends the input of some clients when a statement is put in a file.
            '\x1a' => quoted.push_str("\\Z"),
            _ => quoted.push(c),
        }
    }
    quoted.push('\'');
    quoted
}

/// Text literals with commas between them, for `IN (…)`; `NULL`, which equals nothing, for none.
pub fn literals<'a>(texts: impl IntoIterator<Item = &'a str>) -> String {
    let quoted: Vec<String> = texts.into_iter().map(literal).collect();
    if quoted.is_empty() { "NULL".to_owned() } else { quoted.join(",") }
}

/// An account, `user`@`host`.
pub fn account(user: &str, host: &str) -> String {
    format!("{}@{}", ident(user), ident(host))
}

/// What stands before the dot in a `GRANT … ON` for this database alone: its name with the
/// wildcards escaped.
///
/// `mysql.db` has room for [`NAME_CHARS_MAX`] characters. In a name so long that the escapes do
/// not fit, the last of its wildcards stay as they are, and a backslash or percent sign becomes an
/// underscore, which stands for any one byte: the text then still covers the name ([`covers`]), but
/// is no longer [exact](crate::precedence::is_exact).
pub fn grant_text(database: &str) -> String {
    let mut room = NAME_CHARS_MAX.saturating_sub(database.chars().count());
    let mut text = String::with_capacity(database.len() + room);
    for c in database.chars() {
        let special = matches!(c, '_' | '%' | '\\');
        if special && room > 0 {
            room -= 1;
            text.push('\\');
            text.push(c);
        } else if special {
            text.push('_');
        } else {
            text.push(c);
        }
    }
    text
}

/// Whether the `Db` of a row in `mysql.db` covers a database: the servers' `wild_compare`, which
/// goes by bytes.
pub fn covers(text: &str, database: &str) -> bool {
    wild(text.as_bytes(), database.as_bytes())
}

fn wild(pattern: &[u8], name: &[u8]) -> bool {
    // Where to go on after a mismatch: behind the last percent sign, one byte further in the name.
    let (mut p, mut n) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    loop {
        let step = match pattern.get(p) {
            Some(b'%') => {
                retry = Some((p + 1, n));
                p += 1;
                continue;
            }
            None if n == name.len() => return true,
            None => None,
            Some(b'_') if n < name.len() => Some(1),
            Some(b'\\') if p + 1 < pattern.len() => {
                (name.get(n) == pattern.get(p + 1)).then_some(2)
            }
            Some(byte) => (name.get(n) == Some(byte) && *byte != b'_').then_some(1),
        };
        match (step, retry) {
            (Some(width), _) => {
                p += width;
                n += 1;
            }
            (None, Some((after, from))) if from < name.len() => {
                p = after;
                n = from + 1;
                retry = Some((after, n));
            }
            (None, _) => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::precedence::is_exact;

    /// The letters that have a meaning somewhere, a few that have none, and wide ones.
    const NASTY: &str = "[a-c_%\\\\`'\". *é日]{1,64}";

    #[test]
    fn names_are_quoted() {
        assert_eq!(ident("a`b"), "`a``b`");
        assert_eq!(literal("a'b\\c\0"), "'a''b\\\\c\\0'");
        assert_eq!(account("o'x", "%"), "`o'x`@`%`");
        assert_eq!(grant_text("a_b%c\\d"), "a\\_b\\%c\\\\d");
    }

    #[test]
    fn rows_cover_as_the_servers_do() {
        for (text, name, yes) in [
            ("shop", "shop", true),
            ("shop", "Shop", false),
            ("my_db", "my_db", true),
            ("my_db", "myxdb", true),
            ("my\\_db", "myxdb", false),
            ("%", "", true),
            ("%", "anything", true),
            ("a%b%c", "a1b2b3c", true),
            ("a%b%c", "a1b2b3d", false),
            ("a\\%", "a%", true),
            ("a\\%", "ab", false),
            ("a\\", "a\\", true),
            ("_", "é", false),
            ("__", "é", true),
            ("a_", "a", false),
            ("%_", "", false),
        ] {
            assert_eq!(covers(text, name), yes, "{text:?} {name:?}");
        }
    }

    proptest! {
        #[test]
        fn a_grant_text_covers_its_database_and_fits(name in NASTY) {
            let text = grant_text(&name);
            prop_assert!(text.chars().count() <= NAME_CHARS_MAX);
            prop_assert!(covers(&text, &name), "{:?}", text);
        }

        #[test]
        fn an_exact_grant_text_covers_nothing_else(name in "[ab_%\\\\]{1,12}", other in "[ab_%\\\\]{1,12}") {
            prop_assume!(name != other);
            let text = grant_text(&name);
            prop_assert!(is_exact(&text) && !covers(&text, &other));
        }

        #[test]
        fn a_quoted_name_reads_back(name in NASTY) {
            let quoted = ident(&name);
            prop_assert_eq!(quoted[1..quoted.len() - 1].replace("``", "`"), name);
        }

        #[test]
        fn a_quoted_name_never_ends_early(name in NASTY) {
            let quoted = ident(&name);
            let inner = &quoted[1..quoted.len() - 1];
            prop_assert!(!inner.replace("``", "").contains('`'));
        }

        #[test]
        fn a_literal_never_ends_early(text: String) {
            let quoted = literal(&text);
            let inner = quoted[1..quoted.len() - 1].replace("\\\\", "").replace("''", "");
            prop_assert!(!inner.contains('\''));
            prop_assert!(!inner.ends_with('\\'));
        }
    }
}
