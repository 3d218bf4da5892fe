//! What further columns of the inventory say of a migration, as far as something is decided by them.

use std::str::FromStr;

use drover_schemas::v1::MigrationPlanned;

/// The column of priorities: whole numbers, the higher first.
const PRIORITY: &str = "priority";
/// The column of sizes, as `drover plan --discover` writes it.
pub const BYTES: &str = "bytes";

/// What stands in one of these columns and is not what it must be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{column} {text:?} is not {wanted}")]
pub struct LabelError {
    column: &'static str,
    text: String,
    wanted: &'static str,
}

/// All that stands in these columns and is not what it must be; nothing at all is no fault.
pub fn faults(planned: &MigrationPlanned) -> impl Iterator<Item = LabelError> {
    let fault = |column, text: &str, wanted| LabelError { column, text: text.to_owned(), wanted };
    let priority = held::<i32>(planned, PRIORITY)
        .err()
        .map(|text| fault(PRIORITY, text, "a whole number from -2147483648 to 2147483647"));
    let bytes =
        held::<u64>(planned, BYTES).err().map(|text| fault(BYTES, text, "a whole number of bytes"));
    priority.into_iter().chain(bytes)
}

/// Within its wave the higher goes first; 0 where nothing, or no number, stands there.
pub fn priority(planned: &MigrationPlanned) -> i32 {
    held(planned, PRIORITY).ok().flatten().unwrap_or(0)
}

/// The database's size, in bytes; none where nothing, or no number, stands there.
pub fn bytes(planned: &MigrationPlanned) -> Option<u64> {
    held(planned, BYTES).ok().flatten()
}

/// What a column holds; where that is none of these, its text.
fn held<'a, T: FromStr>(planned: &'a MigrationPlanned, column: &str) -> Result<Option<T>, &'a str> {
    match planned.labels.get(column).map(|text| text.trim()) {
        None | Some("") => Ok(None),
        Some(text) => text.parse().map(Some).map_err(|_| text),
    }
}
