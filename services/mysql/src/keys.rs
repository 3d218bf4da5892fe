//! Secondary keys of large tables, made behind their rows: one sort for each key instead of a search for
//! each row, which for keys in no order is most of what a load costs a server.
//!
//! A key stays in its table's definition where
//!
//! 1. the table is not a plain one: of another engine than InnoDB, in partitions, with its history, with
//!    generated columns;
//! 2. something needs it meanwhile: an AUTO_INCREMENT column, a foreign key of this table or one that
//!    points to it; a unique key where there is no primary one, as the rows then lie in its order; one
//!    that a server checks by a column of its own (`USING HASH`);
//! 3. it is not of the usual kind (FULLTEXT, SPATIAL, VECTOR);
//! 4. it stands before one that stays: so the keys come to stand in the order in which they stood.

use std::collections::BTreeMap;

use crate::{
    Flavour,
    ident::ident,
    listing::Relation,
    quotes::lines_outside_quotes,
    tokens::{Kind, Token, tokens},
};

/// From this size on a table's keys come behind its rows, in bytes, as far as the server's estimate holds:
/// below it they fit into any server's memory, and a further statement costs more than it wins.
const LARGE_TABLE_BYTES_MIN: u64 = 8 << 20;

/// The tables' definitions with what comes later taken out of them, and what comes later.
pub(crate) struct Definitions<'d> {
    /// For each table its definition as it is made before its rows.
    pub first: BTreeMap<&'d str, String>,
    /// For some of them the statement that makes their keys.
    pub later: BTreeMap<&'d str, String>,
}

impl<'d> Definitions<'d> {
    /// Looks through all tables of a database, each with its definition as the server prints it.
    pub(crate) fn new(
        flavour: Flavour,
        relations: &BTreeMap<String, Relation>,
        definitions: &'d BTreeMap<String, String>,
    ) -> Self {
        let mut found = Self { first: BTreeMap::new(), later: BTreeMap::new() };
        let is_large = |name: &String| {
            flavour == Flavour::MariaDb && relations.get(name).is_some_and(takes_keys_later)
        };
        // Only where there is a large table are all of them looked through.
        let any = definitions.keys().any(is_large);
        let pointed_to = if any { pointed_to(definitions.values()) } else { BTreeMap::new() };
        for (name, definition) in definitions {
            let needed = pointed_to.get(&name.to_lowercase()).map(Vec::as_slice);
            let split =
                if is_large(name) { split(definition, needed.unwrap_or_default()) } else { None };
            match split {
                Some((first, keys)) => {
                    found.first.insert(name, first);
                    found.later.insert(name, format!("ALTER TABLE {} {keys}", ident(name)));
                }
                None => _ = found.first.insert(name, definition.clone()),
            }
        }
        found
    }
}

fn takes_keys_later(relation: &Relation) -> bool {
    relation.engine.eq_ignore_ascii_case("InnoDB")
        && !relation.system_versioned
        && relation.data_bytes >= LARGE_TABLE_BYTES_MIN
}

/// Columns, in small letters.
type Columns = Vec<String>;

/// For each table, in small letters, the columns that foreign keys point to.
fn pointed_to<'d>(definitions: impl Iterator<Item = &'d String>) -> BTreeMap<String, Vec<Columns>> {
    let mut found: BTreeMap<String, Vec<Columns>> = BTreeMap::new();
    for definition in definitions.filter(|text| text.contains(" FOREIGN KEY (")) {
        for line in lines_outside_quotes(definition) {
            if let Item::ForeignKey { table, theirs, .. } = Item::read(line) {
                found.entry(table).or_default().push(theirs);
            }
        }
    }
    found
}

/// The definition without the keys that come later, and these as the clauses of an ALTER TABLE; none
/// where all stay.
fn split(definition: &str, pointed_to: &[Columns]) -> Option<(String, String)> {
    let lines = lines_outside_quotes(definition);
    let [head, items @ .., end] = lines.as_slice() else { return None };
    if !head.starts_with("CREATE TABLE ") || !head.ends_with(" (") || !end.starts_with(") ENGINE=")
    {
        return None;
    }
    let read: Vec<Item> = items.iter().map(|line| Item::read(line)).collect();
    if read.iter().any(|item| matches!(item, Item::Unusual)) {
        return None;
    }
    let mut needed = pointed_to.to_vec();
    needed.extend(read.iter().filter_map(|item| match item {
        Item::ForeignKey { own, .. } => Some(own.clone()),
        Item::AutoIncrement(column) => Some(vec![column.clone()]),
        _ => None,
    }));
    let has_primary = read.iter().any(|item| matches!(item, Item::Primary));
    let stays = |item: &Item| match item {
        Item::Key { columns, unique, by_hash } => {
            *by_hash || *unique && !has_primary || needed.iter().any(|n| columns.starts_with(n))
        }
        Item::OtherKey => true,
        _ => false,
    };
    let last_of = |unique: bool| {
        let of_class = |item: &Item| match item {
            Item::Key { unique: own, .. } => *own == unique,
            // Among those that are not unique.
            Item::OtherKey => !unique,
            _ => false,
        };
        read.iter().rposition(|item| of_class(item) && stays(item))
    };
    let (last_unique, last_other) = (last_of(true), last_of(false));
    let comes_later = |at: usize, item: &Item| match item {
        Item::Key { unique: true, .. } => last_unique.is_none_or(|last| at > last),
        Item::Key { unique: false, .. } => last_other.is_none_or(|last| at > last),
        _ => false,
    };
    let (mut first, mut later) = (Vec::new(), Vec::new());
    for (at, (line, item)) in items.iter().zip(&read).enumerate() {
        let text = line.strip_suffix(',').unwrap_or(line);
        match comes_later(at, item) {
            true => later.push(format!("ADD {}", text.trim_start())),
            false => first.push(text),
        }
    }
    (!later.is_empty()).then(|| (format!("{head}\n{}\n{end}", first.join(",\n")), later.join(", ")))
}

/// What a line of a definition is.
enum Item {
    Primary,
    Key {
        columns: Columns,
        unique: bool,
        by_hash: bool,
    },
    /// SPATIAL and others.
    OtherKey,
    ForeignKey {
        own: Columns,
        table: String,
        theirs: Columns,
    },
    AutoIncrement(String),
    /// A table with it is made as a whole.
    Unusual,
    /// Another column, a check; a FULLTEXT key, which a server always puts last.
    Other,
}

impl Item {
    fn read(line: &str) -> Self {
        let tokens = tokens(line);
        let word = |at: usize, word: &str| tokens.get(at).is_some_and(|token| token.is_word(word));
        let has = |word: &str| tokens.iter().any(|token| token.is_word(word));
        let key = |from: usize, unique| Self::Key {
            columns: columns(&tokens, from),
            unique,
            by_hash: has("hash"),
        };
        match tokens.first().map(|token| &token.kind) {
            Some(Kind::Ident(name)) if has("auto_increment") => {
                Self::AutoIncrement(name.to_lowercase())
            }
            Some(Kind::Ident(_)) if has("generated") => Self::Unusual,
            Some(Kind::Ident(_)) => Self::Other,
            _ if word(0, "primary") => Self::Primary,
            _ if word(0, "unique") => key(3, true),
            _ if word(0, "key") => key(2, false),
            _ if word(0, "fulltext") => Self::Other,
            _ if word(1, "key") => Self::OtherKey,
            _ if word(0, "constraint") && word(2, "foreign") => foreign(&tokens),
            _ if word(0, "constraint") => Self::Other,
            _ => Self::Unusual,
        }
    }
}

/// `CONSTRAINT name FOREIGN KEY (columns) REFERENCES table (columns)`; the table without its database,
/// as one too many that stays costs little.
fn foreign(tokens: &[Token]) -> Item {
    let references = tokens.iter().position(|token| token.is_word("references"));
    let theirs = references.and_then(|at| {
        let open = tokens.iter().skip(at).position(|token| token.kind == Kind::Open)?;
        let Some(Kind::Ident(table)) = tokens.get(at + open - 1).map(|token| &token.kind) else {
            return None;
        };
        Some((table.to_lowercase(), columns(tokens, at + open)))
    });
    match theirs {
        Some((table, theirs)) => Item::ForeignKey { own: columns(tokens, 4), table, theirs },
        None => Item::Unusual,
    }
}

/// The names in the parenthesis that opens there; what stands in one inside it is a prefix's length.
fn columns(tokens: &[Token], open: usize) -> Columns {
    let mut depth = 0_usize;
    let mut found = Vec::new();
    for token in tokens.iter().skip(open) {
        match &token.kind {
            Kind::Open => depth += 1,
            Kind::Close if depth == 1 => break,
            Kind::Close => depth = depth.saturating_sub(1),
            Kind::Ident(name) => found.push(name.to_lowercase()),
            Kind::Word(_) | Kind::Comma | Kind::Dot | Kind::Other => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A definition of these lines.
    fn table(lines: &[&str]) -> String {
        format!(
            "CREATE TABLE `t` (\n  {}\n) ENGINE=InnoDB COMMENT=') ENGINE='",
            lines.join(",\n  ")
        )
    }

    #[test]
    fn what_can_come_later_is_taken_out() {
        for (lines, stay, later) in [
            (
                vec![
                    "`a` int",
                    "PRIMARY KEY (`a`)",
                    "UNIQUE KEY `u` (`a`)",
                    "KEY `k` (`a`,`b`(9)) COMMENT ','",
                ],
                2,
                "ADD UNIQUE KEY `u` (`a`), ADD KEY `k` (`a`,`b`(9)) COMMENT ','",
            ),
            // Names and texts that look like something else.
            (
                vec![
                    "`KEY\n  KEY `` (\n` int DEFAULT ',\n  KEY'",
                    "KEY `k` (`a`) `opt`='AUTO_INCREMENT'",
                ],
                1,
                "ADD KEY `k` (`a`) `opt`='AUTO_INCREMENT'",
            ),
            // No primary key: the rows lie in the order of a unique one.
            (vec!["`a` int", "UNIQUE KEY `u` (`a`)", "KEY `k` (`b`)"], 2, "ADD KEY `k` (`b`)"),
            // In the order in which they stood.
            (
                vec![
                    "`a` int AUTO_INCREMENT",
                    "KEY `k` (`b`)",
                    "KEY `l` (`A`,`b`)",
                    "KEY `m` (`b`,`a`)",
                ],
                3,
                "ADD KEY `m` (`b`,`a`)",
            ),
            (
                vec![
                    "`a` int",
                    "KEY `k` (`a`,`b`)",
                    "KEY `l` (`c`)",
                    "CONSTRAINT `f` FOREIGN KEY (`a`) REFERENCES `o` (`x`) ON DELETE CASCADE",
                ],
                3,
                "ADD KEY `l` (`c`)",
            ),
            (vec!["`a` int", "KEY `k` (`p`,`q`)", "KEY `l` (`p`)"], 2, "ADD KEY `l` (`p`)"),
            (
                vec![
                    "`a` int",
                    "PRIMARY KEY (`a`)",
                    "UNIQUE KEY `u` (`b`) USING HASH",
                    "UNIQUE KEY `v` (`c`)",
                    "FULLTEXT KEY `t` (`b`)",
                ],
                4,
                "ADD UNIQUE KEY `v` (`c`)",
            ),
        ] {
            let (first, added) =
                split(&table(&lines), &[vec!["p".to_owned(), "q".to_owned()]]).unwrap();
            assert_eq!(added, later);
            let kept: Vec<&str> = lines.iter().copied().filter(|l| first.contains(l)).collect();
            assert_eq!((first, kept.len()), (table(&kept), stay));
        }
    }

    #[test]
    fn what_is_not_plain_stays_whole() {
        for lines in [
            vec!["`a` int", "PRIMARY KEY (`a`)"],
            vec!["`a` int", "`b` int GENERATED ALWAYS AS (1)", "KEY `k` (`a`)"],
            vec!["`a` int", "PERIOD FOR `p` (`a`, `b`)", "KEY `k` (`a`)"],
            vec!["`a` int AUTO_INCREMENT", "KEY `k` (`a`)"],
            vec!["`a` int", "KEY `k` (`a`)", "SPATIAL KEY `t` (`b`)"],
        ] {
            assert_eq!(split(&table(&lines), &[]), None, "{lines:?}");
        }
        let parts = format!(
            "{}\n PARTITION BY HASH (`a`)\nPARTITIONS 4",
            table(&["`a` int", "KEY `k` (`a`)"])
        );
        assert_eq!(split(&parts, &[]), None);
        assert_eq!(split("CREATE TABLE `never closed (\n", &[]), None);
    }

    #[test]
    fn what_foreign_keys_point_to_is_found() {
        let own = table(&[
            "CONSTRAINT `f` FOREIGN KEY (`a`,`b`) REFERENCES `d`.`Other` (`x`,`y`) ON DELETE CASCADE",
        ]);
        let found = pointed_to([&own].into_iter());
        assert_eq!(
            found,
            [("other".to_owned(), vec![vec!["x".to_owned(), "y".to_owned()]])].into()
        );
    }
}
