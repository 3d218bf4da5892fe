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

/// Whether these columns hold what they must; nothing at all is no fault.
///
/// # Errors
/// The first that does not.
pub fn check(planned: &MigrationPlanned) -> Result<(), LabelError> {
    held::<i32>(planned, PRIORITY, "a whole number from -2147483648 to 2147483647")?;
    held::<u64>(planned, BYTES, "a whole number of bytes").map(drop)
}

/// Within its wave the higher goes first; 0 where nothing, or no number, stands there.
pub fn priority(planned: &MigrationPlanned) -> i32 {
    held(planned, PRIORITY, "").ok().flatten().unwrap_or(0)
}

/// The database's size, in bytes; none where nothing, or no number, stands there.
pub fn bytes(planned: &MigrationPlanned) -> Option<u64> {
    held(planned, BYTES, "").ok().flatten()
}

fn held<T: FromStr>(
    planned: &MigrationPlanned,
    column: &'static str,
    wanted: &'static str,
) -> Result<Option<T>, LabelError> {
    match planned.labels.get(column).map(|text| text.trim()) {
        None | Some("") => Ok(None),
        Some(text) => {
            let error = || LabelError { column, text: text.to_owned(), wanted };
            text.parse().map(Some).map_err(|_| error())
        }
    }
}
