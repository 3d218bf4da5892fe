//! Holding the copy against what the source was at the consistency point.

use drover_lifecycle::ledger::Act;
use drover_schemas::{Code, v1};

use crate::{
    Description, Error, Locked, Order, Server,
    describe::describe_in,
    finish,
    ledger::{Side, State},
    schema::in_one_line,
};

/// Describes the copy and compares it with `expected`.
///
/// # Errors
/// `CopyDiffers`, naming what differs; [`Error::LedgerOutdated`] when the ledger says that the copy
/// is not one that was imported and is still closed.
pub async fn verify(
    server: &Server,
    order: &Order,
    expected: &Description,
) -> Result<v1::CopyVerified, Error> {
    let mut locked = Locked::take(server, order, Side::Destination).await?;
    let result = verify_in(&mut locked, expected).await;
    finish(locked, result).await
}

async fn verify_in(locked: &mut Locked, expected: &Description) -> Result<v1::CopyVerified, Error> {
    locked.permit(Act::Verify)?;
    let database = locked.order().database.clone();
    let found = describe_in(locked.session(), &database).await?;
    let differences = expected.differences(&found);
    if differences.is_empty() {
        // So that an import that comes late does not load again what was compared.
        locked.touch(State::Imported).await?;
        Ok(v1::CopyVerified { tables: found.tables(), rows: found.rows() })
    } else {
        Err(locked.server().found(Code::CopyDiffers, in_one_line(&differences)))
    }
}
