//! A failure's signature: the same for all failures alike, whatever database or host they met.
//!
//! It is the code and the text with its particulars taken out: what stands between quotes, and
//! all numbers but an error's own.

use drover_schemas::Failure;

/// The longest signature, in characters; the rest of a longer text distinguishes nothing more.
const CHARACTERS_MAX: usize = 160;

/// The signature of a failure.
pub fn of(failure: &Failure) -> String {
    let text = without_particulars(&failure.message);
    let whole = format!("{} {text}", failure.code);
    whole.chars().take(CHARACTERS_MAX).collect()
}

fn without_particulars(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        if let Some(after) = quoted(rest, first) {
            out.push('…');
            rest = after;
        } else if first.is_alphanumeric() {
            let end = rest.find(|c: char| !is_word(c)).unwrap_or(rest.len());
            let (word, after) = rest.split_at(end);
            out.push_str(if is_particular(word, &out) { "#" } else { word });
            rest = after;
        } else {
            out.push(first);
            rest = &rest[first.len_utf8()..];
        }
    }
    out
}

/// Words are taken whole: addresses, ids, file names and host names are one word each.
fn is_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | '/' | '@')
}

/// A word with a digit is a particular, unless it is an error's own number.
fn is_particular(word: &str, before: &str) -> bool {
    let announced = before.ends_with("error ") || before.ends_with("ERROR ");
    let own_number = announced && word.bytes().all(|b| b.is_ascii_digit());
    word.bytes().any(|b| b.is_ascii_digit()) && !own_number
}

/// The text after a quoted part that begins here; doubled quotes are part of it.
fn quoted(text: &str, quote: char) -> Option<&str> {
    let closing = match quote {
        '`' | '"' | '\'' => quote,
        '‘' => '’',
        '“' => '”',
        _ => return None,
    };
    let mut rest = &text[quote.len_utf8()..];
    loop {
        let end = rest.find(closing)?;
        rest = &rest[end + closing.len_utf8()..];
        match rest.strip_prefix(closing) {
            Some(after) => rest = after,
            None => return Some(rest),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use drover_schemas::Code;
    use proptest::prelude::*;

    #[test]
    fn particulars_are_taken_out() {
        let failure = Failure::new(
            Code::ImportRefused,
            "database `a``b`: error 1153 (08S01) at src-12: packet of 17 MB for 'x''y' from 10.1.2.3",
        );
        assert_eq!(
            of(&failure),
            "DRV-0402 database …: error 1153 (#) at #: packet of # MB for … from #"
        );
    }

    proptest! {
        #[test]
        fn the_database_never_shows(name in "[^`]{1,64}", other in "[^`]{1,64}") {
            let signature = |name: &str| of(&Failure::new(
                Code::NameTaken, format!("database `{name}` is there")));
            prop_assert_eq!(signature(&name), signature(&other));
        }

        #[test]
        fn any_text_has_one(text: String) {
            let signature = of(&Failure::new(Code::BusFailed, text));
            prop_assert!(signature.starts_with("DRV-0104 "));
            prop_assert!(signature.chars().count() <= CHARACTERS_MAX);
        }
    }
}
