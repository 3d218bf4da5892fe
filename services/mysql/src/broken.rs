//! Views that are broken already: they read a table, column or function that is gone. No server makes
//! such a view, and the stock dump stops at one; but it is the customer's, and may work again one
//! day.
//!
//! So it is made before anything else, while its database is empty: with stand-ins for all that its
//! text names, which are dropped again at once. That cannot be told from how it came to be: a view
//! keeps its text, and nothing of what it read. A stand-in's columns are numbers (shapes, where a
//! function of shapes takes them): a server resolves names when it makes a view, and compares no
//! values.
//!
//! What is read here is the server's own print of a view: names in backticks, each table behind a
//! `from` or a `join`, each column behind the name of its table.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    ident::ident,
    tokens::{Kind, Token, tokens},
};

/// What must be there for a view to be made.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct StandIns {
    /// How names begin that nothing else has.
    stem: String,
    tables: BTreeMap<String, Table>,
    /// With how many arguments each function is called.
    functions: BTreeMap<String, usize>,
    sequences: BTreeSet<String>,
}

/// A table, or a view, that is read.
#[derive(Debug, Default, PartialEq, Eq)]
struct Table {
    /// Its columns, and whether each is a shape.
    columns: BTreeMap<String, bool>,
    /// A view's columns are printed behind its own name only, a table's also behind its database's:
    /// a stand-in of the other kind would give another text.
    view: bool,
}

/// A broken view's text that names no database, and the stand-ins for what it names.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Broken {
    pub text: String,
    pub stand_ins: StandIns,
}

impl StandIns {
    /// The statements that make them.
    pub(crate) fn made(&self) -> Vec<String> {
        let column = |(name, shape): (&String, &bool)| {
            format!("{} {}", ident(name), if *shape { "GEOMETRY" } else { "INT" })
        };
        let table = |(i, (name, table)): (usize, (&String, &Table))| {
            let mut columns: Vec<String> = table.columns.iter().map(column).collect();
            if columns.is_empty() {
                columns.push("drover_nothing INT".to_owned());
            }
            let (columns, under) = (columns.join(","), self.under(i));
            if table.view {
                let create = format!("CREATE TABLE {under} ({columns})");
                vec![create, format!("CREATE VIEW {} AS SELECT * FROM {under}", ident(name))]
            } else {
                vec![format!("CREATE TABLE {} ({columns})", ident(name))]
            }
        };
        let function = |(name, arguments): (&String, &usize)| {
            let arguments: Vec<String> = (0..*arguments).map(|i| format!("a{i} INT")).collect();
            format!(
                "CREATE FUNCTION {}({}) RETURNS INT DETERMINISTIC NO SQL RETURN 1",
                ident(name),
                arguments.join(",")
            )
        };
        let sequence = |name: &String| format!("CREATE SEQUENCE {}", ident(name));
        let tables = self.tables.iter().enumerate().flat_map(table);
        let others = self.functions.iter().map(function);
        tables.chain(others).chain(self.sequences.iter().map(sequence)).collect()
    }

    /// The statements that take them away.
    pub(crate) fn dropped(&self) -> Vec<String> {
        let of = |kind: &'static str| move |name: &String| format!("DROP {kind} {}", ident(name));
        let table = |(i, (name, table)): (usize, (&String, &Table))| {
            if table.view {
                vec![format!("DROP VIEW {}", ident(name)), format!("DROP TABLE {}", self.under(i))]
            } else {
                vec![format!("DROP TABLE {}", ident(name))]
            }
        };
        let tables = self.tables.iter().enumerate().flat_map(table);
        let others = self.functions.keys().map(of("FUNCTION"));
        tables.chain(others).chain(self.sequences.iter().map(of("SEQUENCE"))).collect()
    }

    /// The table under a view.
    fn under(&self, i: usize) -> String {
        ident(&format!("{}_{i}", self.stem))
    }
}

/// Reads the print of a broken view of this database. The text makes it under the name `until`, with
/// which no name in the database begins.
///
/// # Errors
/// Why no stand-in would do.
pub(crate) fn read(print: &str, database: &str, until: &str) -> Result<Broken, &'static str> {
    let tokens = tokens(print);
    let names = names(&tokens);
    let mut reading =
        Reading { database, aliases: BTreeMap::new(), stand_ins: StandIns::default() };
    until.clone_into(&mut reading.stand_ins.stem);
    for (i, name) in names.iter().enumerate() {
        // The name of the view itself comes behind its definer and the word VIEW.
        if name.before(&tokens, 1).is_word("view") {
            reading.all(&tokens, &names[i + 1..])?;
            let body = tokens[name.end - 1].end;
            let head = &print[..tokens[name.start].start];
            let text = reading.without_database(&names[i + 1..], &tokens, &print[body..], body);
            let text = format!("{head}{}{text}", ident(until));
            return Ok(Broken { text, stand_ins: reading.stand_ins });
        }
    }
    Err("its text cannot be read")
}

struct Reading<'a> {
    database: &'a str,
    /// What each name of a table, or alias, stands for; the same alias may be used again.
    aliases: BTreeMap<&'a str, BTreeSet<&'a str>>,
    stand_ins: StandIns,
}

impl<'a> Reading<'a> {
    fn all(&mut self, tokens: &'a [Token], names: &'a [Name]) -> Result<(), &'static str> {
        for name in names {
            match name.role(tokens) {
                Role::Table => self.table(tokens, name)?,
                Role::Sequence => {
                    let sequence = self.own(&name.parts)?.to_owned();
                    self.stand_ins.sequences.insert(sequence);
                }
                Role::Function(arguments) => {
                    let function = self.own(&name.parts)?.to_owned();
                    let known = self.stand_ins.functions.insert(function, arguments);
                    if known.is_some_and(|known| known != arguments) {
                        return Err("it calls a function in two ways");
                    }
                }
                Role::Column { .. } => {}
            }
        }
        for sequence in &self.stand_ins.sequences {
            self.stand_ins.tables.remove(sequence);
        }
        for name in names {
            if let Role::Column { shape } = name.role(tokens) {
                self.column(&name.parts, shape);
            }
        }
        Ok(())
    }

    /// The name of something in this database.
    fn own(&self, parts: &'a [String]) -> Result<&'a str, &'static str> {
        match parts {
            [name] => Ok(name),
            [database, name] if database == self.database => Ok(name),
            _ => Err("it reads from another database, or from a package"),
        }
    }

    fn table(&mut self, tokens: &'a [Token], name: &'a Name) -> Result<(), &'static str> {
        let table = self.own(&name.parts)?;
        let mut called = table;
        match &tokens.get(name.end).map(|token| &token.kind) {
            Some(Kind::Ident(alias)) => called = alias,
            Some(Kind::Word(word)) if word == "partition" => {
                return Err("it reads from a partition");
            }
            Some(Kind::Word(word)) if word == "for" => return Err("it reads from a history"),
            _ => {}
        }
        self.aliases.entry(called).or_default().insert(table);
        let hinted = |at: usize| {
            let word = |i: usize, some: &[&str]| {
                tokens.get(i).is_some_and(|token| some.iter().any(|word| token.is_word(word)))
            };
            word(at, &["use", "force", "ignore"]) && word(at + 1, &["index", "key"])
        };
        if hinted(name.end) || hinted(name.end + 1) {
            return Err("it names an index");
        }
        self.stand_ins.tables.entry(table.to_owned()).or_default();
        Ok(())
    }

    fn column(&mut self, parts: &'a [String], shape: bool) {
        let (called, column, short) = match parts {
            [table, column] => (table, column, true),
            [database, table, column] if database == self.database => (table, column, false),
            _ => return,
        };
        for table in self.aliases.get(called.as_str()).into_iter().flatten() {
            let Some(stand_in) = self.stand_ins.tables.get_mut(*table) else { continue };
            stand_in.view |= short && called == table;
            let columns = &mut stand_in.columns;
            let same = |known: &&String| known.to_lowercase() == column.to_lowercase();
            match columns.keys().find(same).cloned() {
                Some(known) => *columns.entry(known).or_default() |= shape,
                None => _ = columns.insert(column.clone(), shape),
            }
        }
    }

    /// The body, which begins there in the print, without the names of this database, so that it can be
    /// made in one of any name.
    fn without_database(
        &self,
        names: &[Name],
        tokens: &[Token],
        body: &str,
        begins: usize,
    ) -> String {
        let mut text = String::with_capacity(body.len());
        let mut from = 0;
        for name in names {
            let whole = match name.role(tokens) {
                Role::Table | Role::Sequence | Role::Function(_) => 2,
                Role::Column { .. } => 3,
            };
            if name.parts.len() == whole && name.parts[0] == self.database {
                text.push_str(&body[from..tokens[name.start].start - begins]);
                // The name, and the dot behind it.
                from = tokens[name.start + 2].start - begins;
            }
        }
        text.push_str(&body[from..]);
        text
    }
}

/// What a name in a view's text stands for.
enum Role {
    Table,
    Sequence,
    Function(usize),
    /// Or an alias, of which nobody asks.
    Column {
        shape: bool,
    },
}

/// A name of one or more parts, and its place among the tokens.
struct Name {
    parts: Vec<String>,
    start: usize,
    end: usize,
}

impl Name {
    /// The token that stands so many before it.
    fn before<'a>(&self, tokens: &'a [Token], back: usize) -> &'a Token {
        static NONE: Token = Token { kind: Kind::Other, start: 0, end: 0 };
        self.start.checked_sub(back).and_then(|i| tokens.get(i)).unwrap_or(&NONE)
    }

    fn role(&self, tokens: &[Token]) -> Role {
        let adjacent = tokens
            .get(self.end)
            .is_some_and(|next| next.kind == Kind::Open && tokens[self.end - 1].end == next.start);
        if adjacent {
            return Role::Function(arguments(&tokens[self.end..]));
        }
        let outer = (1..).find(|back| self.before(tokens, *back).kind != Kind::Open).unwrap_or(1);
        let word = self.before(tokens, outer);
        // `extract(year from t.c)` has the column's whole name.
        let is_table =
            (word.is_word("from") || word.is_word("join") || word.is_word("straight_join"))
                && self.parts.len() < 3
                && !self.in_call(tokens, &["extract", "trim"]);
        let of_sequence = ["nextval", "lastval", "setval"].iter().any(|call| word.is_word(call));
        if is_table {
            Role::Table
        } else if outer == 2 && of_sequence {
            Role::Sequence
        } else {
            Role::Column { shape: self.in_call(tokens, &["st_", "mbr"]) }
        }
    }

    /// Whether it stands directly in the parentheses of a function whose name begins so.
    fn in_call(&self, tokens: &[Token], calls: &[&str]) -> bool {
        let mut depth = 0_usize;
        for i in (0..self.start).rev() {
            match tokens[i].kind {
                Kind::Close => depth += 1,
                Kind::Open if depth > 0 => depth -= 1,
                Kind::Open => {
                    let Some(Token { kind: Kind::Word(word), .. }) =
                        i.checked_sub(1).map(|i| &tokens[i])
                    else {
                        return false;
                    };
                    return calls.iter().any(|call| word.starts_with(call));
                }
                Kind::Ident(_) | Kind::Word(_) | Kind::Comma | Kind::Dot | Kind::Other => {}
            }
        }
        false
    }
}

/// How many arguments stand in the parentheses that open here.
fn arguments(tokens: &[Token]) -> usize {
    let (mut depth, mut commas) = (0_usize, 0);
    for (i, token) in tokens.iter().enumerate() {
        match token.kind {
            Kind::Open => depth += 1,
            Kind::Close if depth == 1 => return if i == 1 { 0 } else { commas + 1 },
            Kind::Close => depth = depth.saturating_sub(1),
            Kind::Comma if depth == 1 => commas += 1,
            Kind::Comma | Kind::Ident(_) | Kind::Word(_) | Kind::Dot | Kind::Other => {}
        }
    }
    commas + 1
}

/// The names in order.
fn names(tokens: &[Token]) -> Vec<Name> {
    let mut names = Vec::new();
    let mut i = 0;
    while i < tokens.len() {
        let Kind::Ident(first) = &tokens[i].kind else {
            i += 1;
            continue;
        };
        let start = i;
        let mut parts = vec![first.clone()];
        i += 1;
        while let [Token { kind: Kind::Dot, .. }, Token { kind: Kind::Ident(part), .. }, ..] =
            &tokens[i..]
        {
            parts.push(part.clone());
            i += 2;
        }
        names.push(Name { parts, start, end: i });
    }
    names
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEAD: &str =
        "CREATE ALGORITHM=UNDEFINED DEFINER=`a`@`%` SQL SECURITY DEFINER VIEW `v` AS ";

    fn of(body: &str) -> Broken {
        read(&format!("{HEAD}{body}"), "d", "v").unwrap()
    }

    #[test]
    fn every_table_column_function_and_sequence_has_a_stand_in() {
        let broken = of("select `x`.`a` AS `b`,`x`.`A` AS `y`,`f`(`d`.`u`.`c`,g(1,2)) AS `z`,\
             st_x(`u`.`p`) AS `p`,`d`.`g`() AS `g`,nextval(`d`.`s`) AS `n`,'`q`.`r`' AS `t`,\
             extract(year from `x`.`day`) AS `e` from ((`d`.`t` `x` left join `u` on(`x`.`k` = 1)) \
             join (select 1 AS `i` from `w` where `w`.`j` = 'it''s') `l`)");
        assert_eq!(
            broken.stand_ins.made(),
            [
                "CREATE TABLE `t` (`a` INT,`day` INT,`k` INT)",
                "CREATE TABLE `v_1` (`c` INT,`p` GEOMETRY)",
                "CREATE VIEW `u` AS SELECT * FROM `v_1`",
                "CREATE TABLE `v_2` (`j` INT)",
                "CREATE VIEW `w` AS SELECT * FROM `v_2`",
                "CREATE FUNCTION `f`(a0 INT,a1 INT) RETURNS INT DETERMINISTIC NO SQL RETURN 1",
                "CREATE FUNCTION `g`() RETURNS INT DETERMINISTIC NO SQL RETURN 1",
                "CREATE SEQUENCE `s`",
            ]
        );
        assert_eq!(broken.stand_ins.dropped().len(), 8);
    }

    #[test]
    fn a_text_loses_the_name_of_its_database_only() {
        let broken = of("select `d`.`t`.`d` AS `d`,`x`.`d` AS `e` from (`d`.`t` join `x`)");
        let expected = "select `t`.`d` AS `d`,`x`.`d` AS `e` from (`t` join `x`)";
        assert_eq!(broken.text, format!("{HEAD}{expected}"));
    }

    #[test]
    fn what_no_stand_in_can_replace_is_said() {
        for body in [
            "select `o`.`t`.`a` AS `a` from `o`.`t`",
            "select `t`.`a` AS `a` from `t` USE INDEX (`i`)",
            "select `t`.`a` AS `a` from `t` PARTITION (`p`)",
            "select `t`.`a` AS `a` from `t` FOR SYSTEM_TIME ALL",
            "select `p`.`f`(1) AS `a`",
            "select `f`(1) AS `a`,`f`(1,2) AS `b`",
        ] {
            assert!(read(&format!("{HEAD}{body}"), "d", "v").is_err(), "{body}");
        }
        assert!(read("nothing", "d", "v").is_err());
    }

    proptest! {
        #[test]
        fn no_text_is_too_much(text in "(`|'|\\(|\\)|,|\\.|from|join| |a|VIEW |AS|é|\\\\){0,40}") {
            let _ = read(&text, "a", "v");
        }
    }
}
