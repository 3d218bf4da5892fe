//! Which databases a text of SQL names: what stands before a dot.
//!
//! Not a parser: comments and literals are looked at like code, so that a name in text that is put
//! together at run time is seen too. What it finds is held against the databases that there are.

use std::collections::BTreeSet;

/// The names before a dot in a text, quoted or not.
pub(crate) fn qualifiers(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let chars: Vec<char> = text.chars().collect();
    let mut at = 0;
    while at < chars.len() {
        let (name, end) = match chars[at] {
            '`' => quoted(&chars, at),
            c if is_word(c) => word(&chars, at),
            _ => {
                at += 1;
                continue;
            }
        };
        let next = (end..chars.len()).find(|i| !chars[*i].is_whitespace());
        if next.is_some_and(|i| chars[i] == '.') && !name.is_empty() {
            found.insert(name);
        }
        at = end.max(at + 1);
    }
    found
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '$')
}

fn word(chars: &[char], start: usize) -> (String, usize) {
    let end = (start..chars.len()).find(|i| !is_word(chars[*i])).unwrap_or(chars.len());
    (chars[start..end].iter().collect(), end)
}

/// The name in backticks that begins here, and where the text goes on.
fn quoted(chars: &[char], start: usize) -> (String, usize) {
    let mut name = String::new();
    let mut at = start + 1;
    while at < chars.len() {
        match (chars[at], chars.get(at + 1)) {
            ('`', Some('`')) => at += 1,
            ('`', _) => return (name, at + 1),
            _ => {}
        }
        name.push(chars[at]);
        at += 1;
    }
    // It never ends: no name.
    (String::new(), start + 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_stands_before_a_dot_is_found() {
        for (text, names) in [
            ("select `a`.`b`.`c` from `a`.`b`", vec!["a", "b"]),
            ("INSERT INTO other.t VALUES (1.5)", vec!["1", "other"]),
            ("SELECT * FROM `x``y` . t", vec!["x`y"]),
            ("select 1", vec![]),
            ("`never closed", vec![]),
            ("größe.t", vec!["größe"]),
        ] {
            let names: BTreeSet<String> = names.into_iter().map(str::to_owned).collect();
            assert_eq!(qualifiers(text), names, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_quoted_name_before_a_dot_is_found(name in "\\PC{1,20}", before in "[a-z .(]{0,5}") {
            let text = format!("{before} {}.t", crate::ident::ident(&name));
            prop_assert!(qualifiers(&text).contains(&name));
        }

        #[test]
        fn no_text_is_too_much(text: String) {
            let _ = qualifiers(&text);
        }
    }
}
