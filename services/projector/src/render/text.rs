//! Names, times and numbers.

use std::borrow::Cow;

use chrono::{DateTime, SecondsFormat};

/// A text without anything that a terminal would act on: control characters, and characters that
/// change direction or show as nothing, are written as `\u{1b}`; a backslash is doubled, so that
/// no two texts look alike for that.
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_hidden) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if c == '\\' {
            out.push_str("\\\\");
        } else if is_hidden(c) {
            out.extend(c.escape_unicode());
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\\'
            // Soft hyphen, Arabic letter mark, Mongolian vowel separator.
            | '\u{ad}' | '\u{61c}' | '\u{180e}'
            // Zero width, direction marks; line and paragraph separators; embeddings, isolates.
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            // Byte order mark, interlinear marks, tags.
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// RFC 3339, UTC, to the millisecond.
pub fn time(unix_ms: i64) -> String {
    DateTime::from_timestamp_millis(unix_ms).map_or_else(
        || format!("{unix_ms} ms"),
        |time| time.to_rfc3339_opts(SecondsFormat::Millis, true),
    )
}

/// `0.4 s`, `12 s`, `3 min 20 s`: a measured time.
pub fn seconds(seconds: f64) -> String {
    if seconds < 10.0 { format!("{seconds:.1} s") } else { duration(seconds.round() as u64) }
}

/// `42 s`, `3 min 20 s`, `1 h 13 min`, `2 d 4 h`.
pub fn duration(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{minutes} min {} s", seconds % 60),
        3600..86_400 => format!("{hours} h {} min", minutes % 60),
        86_400.. => format!("{days} d {} h", hours % 24),
    }
}

/// `1 account`, `2 accounts`.
pub(super) fn count(count: impl Into<u64>, one: &str) -> String {
    let count = count.into();
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {one}{plural}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_shown_as_they_are_unless_they_would_do_something() {
        for plain in ["", "shop", "a b.c`d'e\"f%g", "Ä€漢字", "🐘"] {
            assert_eq!(printable(plain), plain);
        }
        assert_eq!(printable("a\u{1b}[2Jb"), "a\\u{1b}[2Jb");
        assert_eq!(printable("a\nb\\u{a}"), "a\\u{a}b\\\\u{a}");
        assert_eq!(printable("x\u{202e}y"), "x\\u{202e}y");
    }

    #[test]
    fn times_are_short() {
        let texts = [0.04, 0.449, 9.94, 59.6, 200.0].map(seconds);
        assert_eq!(texts, ["0.0 s", "0.4 s", "9.9 s", "1 min 0 s", "3 min 20 s"]);
        let texts = [59, 60, 4411, 90_000].map(duration);
        assert_eq!(texts, ["59 s", "1 min 0 s", "1 h 13 min", "1 d 1 h"]);
        assert_eq!(time(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(time(i64::MAX), "9223372036854775807 ms");
    }

    proptest! {
        #[test]
        fn no_name_moves_the_cursor(text: String) {
            prop_assert!(!printable(&text).chars().any(char::is_control));
        }

        #[test]
        fn no_two_names_look_alike_by_it(a in "[a\\\\\u{1b}{}u1b]{0,12}", b in "[a\\\\\u{1b}{}u1b]{0,12}") {
            prop_assert_eq!(a == b, printable(&a) == printable(&b));
        }
    }
}
