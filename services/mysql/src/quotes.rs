//! What a statement's text, as a server prints it, has outside its quotes.

/// Where the parts outside quotes begin and end, in bytes. A doubled quote closes and opens again, which
/// comes to the same; what is never closed is no part.
pub(crate) fn outside_quotes(text: impl AsRef<[u8]>) -> Vec<(usize, usize)> {
    let text = text.as_ref();
    let mut parts = Vec::new();
    let (mut quote, mut escaped, mut begins) = (None, false, 0);
    for (i, &c) in text.iter().enumerate() {
        match quote {
            None if matches!(c, b'\'' | b'`' | b'"') => {
                parts.push((begins, i));
                quote = Some(c);
            }
            None => {}
            Some(_) if escaped => escaped = false,
            Some(b'\'') if c == b'\\' => escaped = true,
            Some(open) if c == open => {
                quote = None;
                begins = i + 1;
            }
            Some(_) => {}
        }
    }
    if quote.is_none() {
        parts.push((begins, text.len()));
    }
    parts
}

/// Where some words stand outside quotes first.
pub(crate) fn find_outside_quotes(text: &str, words: &str) -> Option<usize> {
    let found = |(start, end)| text[start..end].find(words).map(|at| start + at);
    outside_quotes(text).into_iter().find_map(found)
}

/// The lines of a text: a name may have line ends, which end none.
pub(crate) fn lines_outside_quotes(text: &str) -> Vec<&str> {
    let (mut lines, mut begins) = (Vec::new(), 0);
    for (start, end) in outside_quotes(text) {
        for (at, _) in text[start..end].match_indices('\n') {
            lines.push(&text[begins..start + at]);
            begins = start + at + 1;
        }
    }
    lines.push(&text[begins..]);
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_quoted_is_left_out() {
        let text = "a `b\n``c` 'it''s \\' d'\n\"e\n\" f";
        let parts: Vec<&str> = outside_quotes(text).iter().map(|(s, e)| &text[*s..*e]).collect();
        assert_eq!(parts, ["a ", "", " ", "", "\n", " f"]);
        assert_eq!(lines_outside_quotes(text), ["a `b\n``c` 'it''s \\' d'", "\"e\n\" f"]);
        assert_eq!(find_outside_quotes(text, " f"), Some(text.len() - 2));
        assert_eq!(find_outside_quotes(text, " d"), None);
        assert_eq!(lines_outside_quotes("`never\nclosed"), ["`never\nclosed"]);
    }
}
