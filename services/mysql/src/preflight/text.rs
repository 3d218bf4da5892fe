//! Which databases a text of SQL names: what stands before a dot; and which columns of its row a
//! trigger's text names.
//!
//! Not a parser. For databases comments and literals are looked at like code, so that a name in text that
//! is put together at run time is seen too: what it finds is held against the databases that there are. A
//! trigger's columns are looked for in code only: what it finds there holds a migration back.

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

/// The columns that a trigger's text names as `NEW.column` or `OLD.column`, in small letters, by the
/// mode under which it was made.
pub(crate) fn row_columns(text: &str, sql_mode: &str) -> BTreeSet<String> {
    let parts = code(text, sql_mode);
    let mut found = BTreeSet::new();
    for (at, three) in parts.windows(3).enumerate() {
        let [Part::Name(row), Part::Sign('.'), Part::Name(column)] = three else { continue };
        let sign = |at: Option<usize>| match at.and_then(|at| parts.get(at)) {
            Some(Part::Sign(sign)) => Some(*sign),
            Some(Part::Name(_)) | None => None,
        };
        // A part of a longer name, a user's variable, a function of another database.
        let is_other = matches!(sign(at.checked_sub(1)), Some('.' | '@'))
            || matches!(sign(Some(at + 3)), Some('.' | '('));
        if !is_other && matches!(row.to_lowercase().as_str(), "new" | "old") {
            found.insert(column.to_lowercase());
        }
    }
    found
}

/// A part of code: a name or word, or what else there is.
enum Part {
    Name(String),
    Sign(char),
}

/// The parts of a text without white space, comments and literals.
fn code(text: &str, sql_mode: &str) -> Vec<Part> {
    let has = |mode| sql_mode.split(',').any(|own| own == mode);
    let (ansi, backslash) = (has("ANSI_QUOTES"), !has("NO_BACKSLASH_ESCAPES"));
    let chars: Vec<char> = text.chars().collect();
    let mut parts = Vec::new();
    let mut at = 0;
    while let Some(c) = chars.get(at) {
        at = match c {
            '`' => name(quoted(&chars, at), &mut parts),
            '"' if ansi => name(quoted_by(&chars, at, '"'), &mut parts),
            c if is_word(*c) => name(word(&chars, at), &mut parts),
            '\'' | '"' => literal_ends(&chars, at, backslash),
            _ => match comment_ends(&chars, at) {
                Some(end) => end,
                None => {
                    if !c.is_whitespace() {
                        parts.push(Part::Sign(*c));
                    }
                    at + 1
                }
            },
        };
    }
    parts
}

/// Takes a name on; where the text goes on behind it.
fn name((name, end): (String, usize), parts: &mut Vec<Part>) -> usize {
    parts.push(Part::Name(name));
    end
}

/// Where the literal that begins here has ended. A doubled quote ends one and begins the next.
fn literal_ends(chars: &[char], start: usize, backslash: bool) -> usize {
    let mut at = start + 1;
    while let Some(c) = chars.get(at) {
        match c {
            '\\' if backslash => at += 1,
            c if *c == chars[start] => return at + 1,
            _ => {}
        }
        at += 1;
    }
    chars.len()
}

/// Where the comment that begins here has ended; none: none begins. What a server runs of a comment
/// (`/*! … */`) is code, up to its signs.
fn comment_ends(chars: &[char], start: usize) -> Option<usize> {
    let next = |at: usize| chars.get(start + at).copied();
    let line = |from: usize| (from..chars.len()).find(|at| chars[*at] == '\n');
    match (chars[start], next(1), next(2)) {
        ('#', ..) => Some(line(start).unwrap_or(chars.len())),
        ('-', Some('-'), after) if after.is_none_or(char::is_whitespace) => {
            Some(line(start).unwrap_or(chars.len()))
        }
        ('/', Some('*'), Some('!')) => Some(start + 3),
        ('/', Some('*'), Some('M')) if next(3) == Some('!') => Some(start + 4),
        ('/', Some('*'), _) => {
            let mut pairs = chars.windows(2).skip(start + 2);
            let end = pairs.position(|pair| pair == ['*', '/']);
            Some(end.map_or(chars.len(), |end| start + 2 + end + 2))
        }
        _ => None,
    }
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
    quoted_by(chars, start, '`')
}

fn quoted_by(chars: &[char], start: usize, quote: char) -> (String, usize) {
    let mut name = String::new();
    let mut at = start + 1;
    while at < chars.len() {
        match (chars[at], chars.get(at + 1)) {
            (c, Some(next)) if c == quote && *next == quote => at += 1,
            (c, _) if c == quote => return (name, at + 1),
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

    #[test]
    fn a_triggers_columns_are_found_in_its_code() {
        let oracle = "PIPES_AS_CONCAT,ANSI_QUOTES,NO_BACKSLASH_ESCAPES";
        for (text, mode, columns) in [
            ("SET NEW.a = old . B, new.`c``d` = `OLD`.e", "", vec!["a", "b", "c`d", "e"]),
            ("SET @a = 'new.x', @b = \"new.\\\" new.x\", @c = new.a", "", vec!["a"]),
            ("SET @a = '\\'; SET @b = \"new\".y || ' new.x'", oracle, vec!["y"]),
            ("SET @new.x = 1; SELECT d.new.x, new.f(1), anew.x, new.y", "", vec!["y"]),
            ("/* new.x */ SET new.a = 1 -- new.x\n# new.x\n-new.b--new.c", "", vec!["a", "b", "c"]),
            ("/*!100000 SET new.a = 1 */ /*M! , new.b*/", "", vec!["a", "b"]),
            ("BEGIN END /* new.x", "", vec![]),
        ] {
            let columns: BTreeSet<String> = columns.into_iter().map(str::to_owned).collect();
            assert_eq!(row_columns(text, mode), columns, "{text}");
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
            let _ = (qualifiers(&text), row_columns(&text, "ANSI_QUOTES"));
        }
    }
}
