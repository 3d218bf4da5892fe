//! What further columns of the inventory say of a migration, as far as something is decided by them.

use drover_schemas::v1::MigrationPlanned;

/// The column of priorities: whole numbers, the higher first.
const PRIORITY: &str = "priority";
/// The column of sizes, as `drover plan --discover` writes it.
pub const BYTES: &str = "bytes";

/// Within its wave the higher goes first; 0 where nothing, or no number, stands there.
pub fn priority(planned: &MigrationPlanned) -> i32 {
    planned.labels.get(PRIORITY).and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// The database's size, in bytes; none where nothing, or no number, stands there.
pub fn bytes(planned: &MigrationPlanned) -> Option<u64> {
    planned.labels.get(BYTES)?.parse().ok()
}
