//! The name under which a browser saves a dump.

use std::fmt::Write as _;

/// `Content-Disposition` for the dump of `database` (RFC 6266): a name in ASCII for all, and the
/// database's own in UTF-8 (RFC 8187) for those that know it. Neither can end the header, leave
/// the folder that the browser saves to, or hide the file.
pub(crate) fn content_disposition(database: &str, ending: &str) -> String {
    let safe = |c: char, keep: bool| if keep { c } else { '_' };
    let ascii: String =
        database.chars().map(|c| safe(c, c.is_ascii_alphanumeric() || "-_.".contains(c))).collect();
    let own: String = database.chars().map(|c| safe(c, is_for_a_file(c))).collect();
    let (ascii, own) = (visible(&ascii), encode(&visible(&own)));
    format!("attachment; filename=\"{ascii}.sql.{ending}\"; filename*=UTF-8''{own}.sql.{ending}")
}

fn is_for_a_file(c: char) -> bool {
    // The last two ranges turn the direction of writing: they can make a name look like another.
    let turns = matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}')
        || matches!(c, '\u{2066}'..='\u{2069}');
    !c.is_control() && !turns && !r#"/\:*?"<>|"#.contains(c)
}

/// Not a hidden file, nor `.` or `..`, nor nothing.
fn visible(name: &str) -> String {
    match name.strip_prefix('.') {
        Some(rest) => format!("_{rest}"),
        None if name.is_empty() => "_".to_owned(),
        None => name.to_owned(),
    }
}

/// Percent-encoding of all that is not an `attr-char` of RFC 8187 in any doubt.
fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a string does not fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_kept_where_they_are_safe() {
        assert_eq!(
            content_disposition("wp_1", "zst"),
            "attachment; filename=\"wp_1.sql.zst\"; filename*=UTF-8''wp_1.sql.zst"
        );
        assert_eq!(
            content_disposition("a b\"/ü", "zst"),
            "attachment; filename=\"a_b___.sql.zst\"; filename*=UTF-8''a%20b__%C3%BC.sql.zst"
        );
        assert!(content_disposition("..", "zst").contains("filename=\"_..sql.zst\""));
    }

    proptest! {
        #[test]
        fn no_name_breaks_out(database: String) {
            let header = content_disposition(&database, "gz");
            prop_assert!(header.bytes().all(|b| (b' '..0x7f).contains(&b)));
            prop_assert_eq!(header.matches('"').count(), 2);
            prop_assert_eq!(header.matches(';').count(), 2);
            prop_assert!(!header.contains(['/', '\\']));
            prop_assert!(!header.contains("\"."));
        }
    }
}
