//! Where a definition names its definer, and the same definition with another.
//!
//! Nothing is searched for in a customer's text. A statement has its definer at a place that follows
//! from the server's own print; there it is exchanged when it is, byte for byte, the one that is looked
//! for. What a server prints of a description is read at a place as certain.

use crate::{
    ident::{account, ident},
    normal::normalise,
    schema::{Description, Kind, Object},
    successors::Changes,
};

/// A definer, as it stands in a statement: `user@host`, or a role.
pub(crate) fn sql(definer: &str) -> String {
    match definer.rsplit_once('@') {
        Some((user, host)) if !host.is_empty() => account(user, host),
        Some((role, _)) => ident(role),
        None => ident(definer),
    }
}

/// The ways in which a server prints a definer: in backticks, or under `ANSI_QUOTES`.
pub(crate) fn prints(definer: &str) -> [String; 2] {
    [sql(definer), quoted_as(definer, '"')]
}

fn quoted_as(definer: &str, quote: char) -> String {
    if quote == '`' {
        return sql(definer);
    }
    let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    match definer.rsplit_once('@') {
        Some((user, host)) if !host.is_empty() => format!("{}@{}", quoted(user), quoted(host)),
        Some((role, _)) => quoted(role),
        None => quoted(definer),
    }
}

/// The statement with another definer; none: it has not this one.
pub(crate) fn exchanged(statement: &[u8], was: &[u8], becomes: &[u8]) -> Option<Vec<u8>> {
    let rest = after_head(statement)?;
    let tail = rest.strip_prefix(was).filter(|tail| tail.first() == Some(&b' '))?;
    let head = &statement[..statement.len() - rest.len()];
    Some([head, becomes, tail].concat())
}

/// What stands behind `DEFINER=` where a server prints it.
fn after_head(statement: &[u8]) -> Option<&[u8]> {
    let mut rest = statement.strip_prefix(b"CREATE ")?;
    rest = rest.strip_prefix(b"OR REPLACE ").unwrap_or(rest);
    if let Some(algorithm) = rest.strip_prefix(b"ALGORITHM=") {
        let end = algorithm.iter().position(|byte| *byte == b' ')?;
        rest = &algorithm[end + 1..];
    }
    rest.strip_prefix(b"DEFINER=")
}

/// How much of a statement there is up to the end of its definer, in bytes.
pub(crate) fn definer_end(statement: &[u8]) -> Option<usize> {
    let rest = after_head(statement)?;
    let user = quoted_end(rest)?;
    let host = rest[user..].strip_prefix(b"@").map(|host| Some(1 + quoted_end(host)?));
    Some(statement.len() - rest.len() + user + host.unwrap_or(Some(0))?)
}

/// Where a name in quotes ends that a text begins with.
fn quoted_end(text: &[u8]) -> Option<usize> {
    let quote = text.first().filter(|byte| matches!(byte, b'`' | b'"'))?;
    let mut at = 1;
    loop {
        at += 1 + text.get(at..)?.iter().position(|byte| byte == quote)?;
        // A doubled quote stands for itself.
        if text.get(at) != Some(quote) {
            return Some(at);
        }
        at += 1;
    }
}

/// The definer of an object, as `user@host`; a role as its name.
pub(crate) fn definer(object: &Object) -> Option<String> {
    place(object).map(|place| place.definer)
}

/// The description of the same database with other definers.
pub(crate) fn described(description: &Description, changes: &Changes) -> Description {
    let mut description = description.clone();
    if changes.is_empty() {
        return description;
    }
    for object in &mut description.objects {
        let Some(Place { start, end, definer, quote }) = place(object) else { continue };
        if let Some(becomes) = changes.get(&definer) {
            let text = match quote {
                Some(quote) => quoted_as(becomes, quote),
                None => normalise(becomes),
            };
            object.definition.replace_range(start..end, &text);
        }
    }
    description
}

/// Where an object's definition holds its definer, in bytes.
struct Place {
    start: usize,
    end: usize,
    definer: String,
    /// How it is quoted; none: it is not.
    quote: Option<char>,
}

fn place(object: &Object) -> Option<Place> {
    const LINE: &str = "DEFINER: ";
    let text = object.definition.as_str();
    let line = |start: usize| {
        let end = start + text[start..].find('\n')?;
        Some(Place { start, end, definer: text[start..end].to_owned(), quote: None })
    };
    match object.kind {
        Kind::Sequence => None,
        // Behind its line there is nothing that a customer wrote.
        Kind::Trigger => line(text.rfind(&format!("\n{LINE}"))? + 1 + LINE.len()),
        // Its first line.
        Kind::Event => text.starts_with(LINE).then_some(LINE.len()).and_then(line),
        Kind::View | Kind::Function | Kind::Procedure | Kind::Package | Kind::PackageBody => {
            let create = text.find(": CREATE ")? + 2;
            let rest = after_head(&text.as_bytes()[create..])?.len();
            let start = text.len() - rest;
            let (user, host, end, quote) = account_at(text, start)?;
            let definer = if host.is_empty() { user } else { format!("{user}@{host}") };
            Some(Place { start, end, definer, quote: Some(quote) })
        }
    }
}

/// A quoted account that begins there: its user, host, end, and how it is quoted.
fn account_at(text: &str, start: usize) -> Option<(String, String, usize, char)> {
    let quote = text[start..].chars().next().filter(|c| matches!(c, '`' | '"'))?;
    let (user, end) = name_at(text, start, quote)?;
    if !text[end..].starts_with('@') {
        return Some((user, String::new(), end, quote));
    }
    let (host, end) = name_at(text, end + 1, quote)?;
    Some((user, host, end, quote))
}

fn name_at(text: &str, start: usize, quote: char) -> Option<(String, usize)> {
    let mut chars = text[start..].char_indices().peekable();
    chars.next().filter(|(_, c)| *c == quote)?;
    let mut name = String::new();
    while let Some((at, c)) = chars.next() {
        if c == quote && chars.next_if(|(_, next)| *next == quote).is_none() {
            return Some((name, start + at + 1));
        }
        name.push(c);
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn object(kind: Kind, definition: &str) -> Object {
        Object { kind, name: "x".to_owned(), definition: definition.to_owned() }
    }

    #[test]
    fn a_statement_has_its_definer_at_one_place_only() {
        let was = b"`a`@`%`";
        let new = |sql: &str| {
            let text = exchanged(sql.as_bytes(), was, b"`n`@`h`")?;
            Some(String::from_utf8(text).unwrap())
        };
        for (sql, expected) in [
            ("CREATE DEFINER=`a`@`%` PROCEDURE p()", "CREATE DEFINER=`n`@`h` PROCEDURE p()"),
            (
                "CREATE OR REPLACE ALGORITHM=MERGE DEFINER=`a`@`%` SQL SECURITY DEFINER VIEW v",
                "CREATE OR REPLACE ALGORITHM=MERGE DEFINER=`n`@`h` SQL SECURITY DEFINER VIEW v",
            ),
        ] {
            assert_eq!(new(sql).as_deref(), Some(expected));
        }
        for sql in [
            "CREATE DEFINER=`b`@`%` PROCEDURE p() SELECT 'DEFINER=`a`@`%` '",
            "CREATE DEFINER=`a`@`%``` PROCEDURE p()",
            "CREATE PROCEDURE p() /* DEFINER=`a`@`%` */",
        ] {
            assert_eq!(new(sql), None, "{sql}");
        }
    }

    #[test]
    fn a_definer_ends_with_its_last_quote() {
        for (statement, end) in [
            ("CREATE DEFINER=`a``@`@`%` TRIGGER `t`", "CREATE DEFINER=`a``@`@`%`"),
            ("CREATE DEFINER=\"a`\"@\"%\" TRIGGER", "CREATE DEFINER=\"a`\"@\"%\""),
            ("CREATE DEFINER=`role` TRIGGER `t`", "CREATE DEFINER=`role`"),
        ] {
            assert_eq!(definer_end(statement.as_bytes()), Some(end.len()), "{statement}");
        }
        for broken in ["CREATE TRIGGER `t`", "CREATE DEFINER=`a", "CREATE DEFINER=`a`@`b"] {
            assert_eq!(definer_end(broken.as_bytes()), None, "{broken}");
        }
    }

    #[test]
    fn a_description_has_it_where_no_text_of_a_customer_can_be() {
        let procedure = "sql_mode: \nCreate Procedure: CREATE DEFINER=`a`@`%` PROCEDURE `x`() SELECT ': CREATE DEFINER=`b`@`%` '\n";
        let trigger = "ACTION_STATEMENT: SET @a = '\nDEFINER: b@%\n'\nSQL_MODE: \nDEFINER: a@%\nCOLLATION: x\n";
        let event = "DEFINER: a@%\nEVENT_DEFINITION: DO '\nDEFINER: b@%\n'\n";
        let view = "Create View: CREATE ALGORITHM=UNDEFINED DEFINER=\"a\"@\"%\" VIEW \"x\"\n";
        for (kind, text) in [
            (Kind::Procedure, procedure),
            (Kind::Trigger, trigger),
            (Kind::Event, event),
            (Kind::View, view),
        ] {
            assert_eq!(definer(&object(kind, text)).as_deref(), Some("a@%"), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_becomes_the_definer_never_ends_early(user in "[a`\"'@ é]{1,12}", host in "[a`\"%. ]{1,12}") {
            let becomes = format!("{user}@{host}");
            let sql = exchanged(b"CREATE DEFINER=`a`@`%` VIEW v", b"`a`@`%`", sql(&becomes).as_bytes());
            let text = format!("Create View: {}\n", String::from_utf8(sql.unwrap()).unwrap());
            let read = place(&object(Kind::View, &text)).unwrap();
            prop_assert_eq!(read.definer, becomes);
            prop_assert_eq!(&text[read.end..], " VIEW v\n");
        }
    }
}
