//! Definitions as every supported version prints them: what only the print tells apart is made one.

use crate::quotes::outside_quotes;

/// A definition as every supported version prints it. Nothing inside quotes is touched.
///
/// 1. The character set that older servers call `utf8` is `utf8mb3`.
/// 2. A character set is left out where its collation follows, which says it too: MySQL prints it or not
///    by how the column was once written.
pub(crate) fn normalise(definition: &str) -> String {
    let mut text = String::with_capacity(definition.len());
    let mut word = String::new();
    let mut quote: Option<char> = None;
    let mut escaped = false;
    for c in definition.chars() {
        if let Some(open) = quote {
            text.push(c);
            // A doubled quote closes and opens again, which comes to the same.
            if escaped {
                escaped = false;
            } else if c == '\\' && open == '\'' {
                escaped = true;
            } else if c == open {
                quote = None;
            }
        } else if c.is_ascii_alphanumeric() || c == '_' {
            word.push(c);
        } else {
            end_word(&mut text, &mut word);
            if matches!(c, '\'' | '`' | '"') {
                quote = Some(c);
            }
            text.push(c);
        }
    }
    end_word(&mut text, &mut word);
    text
}

fn end_word(text: &mut String, word: &mut String) {
    if let Some(rest) =
        word.strip_prefix("utf8").filter(|rest| rest.is_empty() || rest.starts_with('_'))
    {
        *word = format!("utf8mb3{rest}");
    }
    if let Some((charset, _)) = word.split_once('_') {
        let said = format!(" CHARACTER SET {charset} COLLATE ");
        if text.ends_with(&said) {
            text.truncate(text.len() - said.len());
            text.push_str(" COLLATE ");
        }
    }
    text.push_str(word);
    word.clear();
}

/// A table's definition as every supported version prints it ([`normalise`]).
///
/// 1. INVISIBLE comes before or behind the default: here, at the end of its column's line.
/// 2. A number among the engine's own options stands in quotes or not: here, it does not.
/// 3. `/*!100301 COMPRESSED*/` is also `/*M!100301 COMPRESSED*/`.
/// 4. A column that may be NULL and has no default at all, which only a `CREATE TABLE … SELECT` can
///    make, gets `DEFAULT NULL` by any definition: nothing is said of it.
/// 5. The keys are sorted: a server puts unique ones first whose columns cannot be NULL, but when it
///    makes the table only, so that no definition brings back the order after an ALTER.
pub(crate) fn normalise_table(definition: &str) -> String {
    let mut text = String::with_capacity(definition.len());
    let mut invisible = false;
    let mut from = 0;
    let definition = normalise(definition);
    for (start, end) in outside_quotes(&definition) {
        push_quoted(&mut text, &definition[from..start]);
        from = end;
        let part = definition[start..end].replace("/*!10", "/*M!10");
        for (i, line) in part.split('\n').enumerate() {
            if i > 0 {
                end_line(&mut text, &mut invisible);
            }
            invisible |= line.contains(" INVISIBLE");
            text.push_str(&line.replace(" INVISIBLE", "").replace(" DEFAULT NULL", ""));
        }
    }
    push_quoted(&mut text, &definition[from..]);
    sort_keys(&text)
}

fn sort_keys(definition: &str) -> String {
    const KEYS: [&str; 6] = [
        "  PRIMARY KEY ",
        "  UNIQUE KEY ",
        "  KEY ",
        "  FULLTEXT KEY ",
        "  SPATIAL KEY ",
        "  VECTOR KEY ",
    ];
    let is_key = |line: &str| KEYS.iter().any(|begin| line.starts_with(begin));
    let lines: Vec<&str> = definition.split('\n').collect();
    let mut sorted = Vec::with_capacity(lines.len());
    for run in lines.chunk_by(|a, b| is_key(a) == is_key(b)) {
        if run.first().is_some_and(|line| is_key(line)) {
            let mut keys: Vec<&str> = run.iter().map(|key| key.trim_end_matches(',')).collect();
            keys.sort_unstable();
            sorted.extend(keys);
        } else {
            sorted.extend(run);
        }
    }
    sorted.join("\n")
}

/// A quoted part. Behind the name of an option and a `=`, a number loses its quotes.
fn push_quoted(text: &mut String, quoted: &str) {
    let inner = quoted.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\''));
    match inner.filter(|inner| !inner.is_empty() && inner.bytes().all(|b| b.is_ascii_digit())) {
        Some(number) if text.ends_with("`=") => text.push_str(number),
        _ => text.push_str(quoted),
    }
}

fn end_line(text: &mut String, invisible: &mut bool) {
    if std::mem::take(invisible) {
        let comma = text.ends_with(',');
        text.truncate(text.len() - usize::from(comma));
        text.push_str(" INVISIBLE");
        text.push_str(if comma { "," } else { "" });
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_outside_quotes_is_normalised() {
        for (text, expected) in [
            ("CHARSET=utf8 COLLATE=utf8_bin", "CHARSET=utf8mb3 COLLATE=utf8mb3_bin"),
            ("CHARSET=utf8mb4 COLLATE=utf8mb4_bin", "CHARSET=utf8mb4 COLLATE=utf8mb4_bin"),
            (
                "`utf8` enum('utf8','it''s \\' utf8') x utf8",
                "`utf8` enum('utf8','it''s \\' utf8') x utf8mb3",
            ),
            ("my_utf8 utf8", "my_utf8 utf8mb3"),
            ("text CHARACTER SET utf8 COLLATE utf8_bin,", "text COLLATE utf8mb3_bin,"),
            ("text CHARACTER SET latin1,", "text CHARACTER SET latin1,"),
            ("' CHARACTER SET big5 COLLATE 'big5_bin", "' CHARACTER SET big5 COLLATE 'big5_bin"),
        ] {
            assert_eq!(normalise(text), expected);
        }
    }

    #[test]
    fn tables_are_printed_as_one_version_does() {
        for (older, newer) in [
            (
                "CREATE TABLE `t` (\n  `a` int(11) INVISIBLE DEFAULT 7 COMMENT ' INVISIBLE',\n  `b` int\n)",
                "CREATE TABLE `t` (\n  `a` int(11) DEFAULT 7 COMMENT ' INVISIBLE' INVISIBLE,\n  `b` int\n)",
            ),
            (") `PAGE_COMPRESSED`=1 COMMENT='`=''1'", ") `PAGE_COMPRESSED`='1' COMMENT='`=''1'"),
            ("`a` int(11),\n", "`a` int(11) DEFAULT NULL,\n"),
            (
                "  `a` int,\n  KEY `z` (`a`),\n  UNIQUE KEY `y` (`a`),\n  CONSTRAINT `c` CHECK (1)\n)",
                "  `a` int,\n  UNIQUE KEY `y` (`a`),\n  KEY `z` (`a`),\n  CONSTRAINT `c` CHECK (1)\n)",
            ),
            ("  KEY `z` (`a`),\n  KEY `b` (`a`)\n)", "  KEY `b` (`a`),\n  KEY `z` (`a`)\n)"),
            ("`t` text /*!100301 COMPRESSED*/", "`t` text /*M!100301 COMPRESSED*/"),
        ] {
            assert_eq!(normalise_table(older), normalise_table(newer));
        }
        for (one, other) in [
            ("`a` int DEFAULT 7,\n", "`a` int DEFAULT 7 INVISIBLE,\n"),
            ("`a` char(1) DEFAULT '1'", "`a` char(1) DEFAULT 1"),
            ("`a` char(1) DEFAULT ' DEFAULT NULL'", "`a` char(1) DEFAULT ''"),
        ] {
            assert_ne!(normalise_table(one), normalise_table(other));
        }
    }
}
