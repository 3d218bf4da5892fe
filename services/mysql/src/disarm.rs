//! Disarm: from here on the source stays frozen until Drover thaws or retires it.
//!
//! The destination opens only after this. The watchdog at the source works under the same locks,
//! so that either it has begun to thaw, and this is refused, or it will not.

use drover_lifecycle::ledger::{Act, Move, Refusal};
use drover_schemas::v1;

use crate::{
    Error, Order, Server,
    connection::clock,
    freeze::Facts,
    ledger::{Locked, Side},
    questions::Questions,
    watchdog,
};

/// Keeps a frozen source from thawing itself.
///
/// # Errors
/// Beside those of [`Locked::take`]: `NotFrozen`; `WatchdogFired` when it has thawed itself;
/// `FrozenTooLong` when it is about to.
pub async fn disarm(server: &Server, order: &Order) -> Result<v1::SourceDisarmed, Error> {
    let mut locked = Locked::take(server, order, Side::Source).await?;
    let result = disarm_locked(&mut locked).await;
    crate::finish(locked, result).await
}

async fn disarm_locked(locked: &mut Locked) -> Result<v1::SourceDisarmed, Error> {
    let permitted = locked.permit(Act::Disarm)?;
    let mut facts: Facts = locked.facts()?.unwrap_or_default();
    match permitted {
        Move::Begin | Move::GoOn => {
            let migration = locked.order().migration;
            let mut questions = Questions::default();
            let clock = questions.add(clock());
            let row = questions.add(watchdog::row(migration));
            let mut answers = locked.session().ask_all(questions).await?;
            let now_unix_ms = answers.one(clock)?;
            let deadline = watchdog::deadline(answers.take(row)?);
            if deadline.is_some_and(|deadline| !deadline.is_ahead(now_unix_ms)) {
                return Err(locked.refused(Refusal::TooLate));
            }
            facts.disarmed_at_unix_ms = now_unix_ms;
        }
        Move::Again | Move::Rest => {}
    }
    locked.disarm(&facts).await?;
    Ok(v1::SourceDisarmed { disarmed_at_unix_ms: facts.disarmed_at_unix_ms, took_us: 0 })
}
