//! Holding the copy against what the source was at the consistency point.

use drover_lifecycle::ledger::Act;
use drover_schemas::{Code, v1};

use crate::{
    Contents, Error, Locked, Order, Server, clause,
    describe::describe_in,
    finish,
    ledger::{Side, State},
    open, ranges,
    schema::in_one_line,
};

/// Describes the copy and compares it with what the dump's `contents` say of the source.
///
/// # Errors
/// `CopyDiffers`, naming what differs; [`Error::LedgerOutdated`] when the ledger says that the copy
/// is not one that was imported and is still closed.
pub async fn verify(
    server: &Server,
    order: &Order,
    contents: &Contents,
) -> Result<v1::CopyVerified, Error> {
    let mut locked = Locked::take(server, order, Side::Destination).await?;
    let result = verify_in(&mut locked, contents).await;
    finish(locked, result).await
}

async fn verify_in(locked: &mut Locked, contents: &Contents) -> Result<v1::CopyVerified, Error> {
    locked.permit(Act::Verify)?;
    let database = locked.order().database.clone();
    let found = describe_in(locked.session(), &database).await?;
    let changes = open::Facts::of(locked)?.definers;
    let expected = &clause::described(&contents.description, &changes);
    let mut differences = expected.differences(&found);
    if differences.is_empty() {
        // So that an import that comes late does not load again what was compared.
        locked.touch(State::Imported).await?;
        Ok(v1::CopyVerified { tables: found.tables(), rows: found.rows() })
    } else {
        let places = (expected, contents.frames.as_slice());
        let ranges = ranges::of_differences(locked.session(), &database, places, &found).await?;
        differences.extend(ranges);
        Err(locked.server().found(Code::CopyDiffers, in_one_line(&differences)))
    }
}
