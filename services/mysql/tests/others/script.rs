//! The statements in a test of the server project's own, as far as they make something.
//!
//! Such a file is a program of its own language (`mysqltest`); what is not SQL in it, and what does
//! not make or fill an object of the current database, is left out. What is dropped there is renamed
//! here, so that it is still there at the end.

/// What a statement begins with that is taken.
const TAKEN: &[&str] = &[
    "create table",
    "create or replace table",
    "create view",
    "create or replace view",
    "create algorithm",
    "create or replace algorithm",
    "create definer",
    "create or replace definer",
    "create sql security",
    "create procedure",
    "create or replace procedure",
    "create function",
    "create or replace function",
    "create aggregate function",
    "create package",
    "create or replace package",
    "create trigger",
    "create or replace trigger",
    "create event",
    "create or replace event",
    "create sequence",
    "create or replace sequence",
    "create index",
    "create unique index",
    "create fulltext index",
    "create spatial index",
    "alter table",
    "alter view",
    "alter sequence",
    "alter event",
    "insert",
    "replace into",
    "update",
    "delete",
    "set names",
    "set character set",
    "set sql_mode",
    "set @@sql_mode",
    "set session sql_mode",
    "set @@session.sql_mode",
    "set time_zone",
    "set timestamp",
    "set @@timestamp",
    "set @",
    "set default_storage_engine",
    "drop view",
    "drop trigger",
    "drop procedure",
    "drop function",
    "drop package",
    "drop event",
];

/// What must not be in a statement: what reaches beyond its database, or waits.
const LEFT_OUT: &[&str] = &[
    "global",
    "soname",
    "data directory",
    "index directory",
    "outfile",
    "load_file",
    "sleep",
    "benchmark",
    "get_lock",
    "mysql.",
    "mysqltest",
    "information_schema",
    "performance_schema",
    "$",
    "connection=",
    "connection =",
    "encrypted",
    "debug_sync",
    "debug_dbug",
    "discard tablespace",
];

/// The statements of a file, in order.
pub fn statements(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let (mut delimiter, mut statement) = (";".to_owned(), String::new());
    for line in text.lines() {
        let trimmed = line.trim();
        let word = trimmed.trim_start_matches("--").trim_start();
        if statement.is_empty() {
            if let Some(rest) = after_word(word, "delimiter") {
                let to = rest.strip_suffix(delimiter.as_str()).unwrap_or(rest).trim();
                if !to.is_empty() {
                    delimiter = to.to_owned();
                }
                continue;
            }
            if trimmed.is_empty() || trimmed.starts_with('#') || trimmed.starts_with("--") {
                continue;
            }
        }
        statement.push_str(line);
        statement.push('\n');
        while let Some(end) = end(&statement, &delimiter) {
            let rest = statement.split_off(end);
            take(&statement, &mut found);
            rest[delimiter.len()..].trim_start().clone_into(&mut statement);
        }
    }
    found
}

fn after_word<'t>(text: &'t str, word: &str) -> Option<&'t str> {
    let (first, rest) = text.split_at_checked(word.len())?;
    (first.eq_ignore_ascii_case(word) && rest.starts_with([' ', '\t'])).then(|| rest.trim())
}

/// Where the delimiter stands outside of quotes.
fn end(statement: &str, delimiter: &str) -> Option<usize> {
    let (mut quote, mut escaped) = (None, false);
    for (at, c) in statement.char_indices() {
        match quote {
            Some(_) if escaped => escaped = false,
            Some('\'' | '"') if c == '\\' => escaped = true,
            Some(open) if c == open => quote = None,
            Some(_) => {}
            None if statement[at..].starts_with(delimiter) => return Some(at),
            None if matches!(c, '\'' | '"' | '`') => quote = Some(c),
            None => {}
        }
    }
    None
}

fn take(statement: &str, found: &mut Vec<String>) {
    let statement = statement.trim();
    let lower = statement.to_lowercase().split_whitespace().collect::<Vec<_>>().join(" ");
    let dropped = ["drop table if exists ", "drop table ", "drop tables "];
    if let Some(names) = dropped.iter().find_map(|word| lower.strip_prefix(word)) {
        for name in names.split(',').map(str::trim).filter(|name| is_plain(name)) {
            found.push(format!("RENAME TABLE {name} TO {name}_{}", found.len()));
        }
    } else if TAKEN.iter().any(|begin| lower.starts_with(begin))
        && !LEFT_OUT.iter().any(|word| lower.contains(word))
    {
        found.push(statement.to_owned());
    }
}

fn is_plain(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}
