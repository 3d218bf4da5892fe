//! Virtual columns whose value is not of their row.

use crate::tokens::{Kind, tokens};

/// Functions that give another value at each reading, at another time, or at another server. The servers
/// allow them in virtual columns only (MariaDB's documentation, Generated Columns).
const VARYING: &[&str] = &[
    "benchmark",
    "connection_id",
    "curdate",
    "current_date",
    "current_role",
    "current_time",
    "current_timestamp",
    "current_user",
    "curtime",
    "database",
    "encrypt",
    "found_rows",
    "get_lock",
    "is_free_lock",
    "is_used_lock",
    "last_insert_id",
    "load_file",
    "localtime",
    "localtimestamp",
    "now",
    "rand",
    "random_bytes",
    "release_lock",
    "row_count",
    "schema",
    "session_user",
    "sleep",
    "sys_guid",
    "sysdate",
    "system_user",
    "unix_timestamp",
    "user",
    "utc_date",
    "utc_time",
    "utc_timestamp",
    "uuid",
    "uuid_short",
    "uuid_v4",
    "uuid_v7",
    "version",
];

/// Whether a column's expression may have another value at each reading.
pub(crate) fn varies(expression: &str) -> bool {
    let tokens = tokens(expression);
    let is_call = |i: usize| tokens.get(i + 1).is_some_and(|next| next.kind == Kind::Open);
    tokens
        .iter()
        .enumerate()
        .any(|(i, token)| is_call(i) && VARYING.iter().any(|function| token.is_word(function)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_called_counts_and_not_what_is_named_like_it() {
        for varying in ["rand()", "`a` + RAND(3)", "concat(`a`,current_timestamp())", "uuid()"] {
            assert!(varies(varying), "{varying}");
        }
        for steady in
            ["`rand` + 1", "`now`", "concat('rand()',`a`)", "`a` + 1", "json_value(`a`,'$.user')"]
        {
            assert!(!varies(steady), "{steady}");
        }
    }
}
