//! The promise: no database is without writes for longer than its campaign's policy says.
//!
//! The time runs from the freeze, by the source's clock, to the opened destination. The source
//! thaws itself at the deadline; the orchestrator does not wait for that, but breaks off what would
//! not be in time ([`Command::BreakOff`](crate::Command::BreakOff)), has it undone, and defers it:
//! it is planned again, and admitted when its time has come. What has been deferred too often is
//! parked: then it is not bad luck.

use drover_schemas::{
    Code, Failure,
    v1::{MigrationDeferred, Policy, Step, StepFailed},
};

use crate::{
    Migration, Phase, signature,
    steps::{Forward, host_of},
};

/// The longest time without writes where the policy names none, in milliseconds.
pub const MAX_FROZEN_MS: u32 = 300_000;

/// How often a migration is deferred before it is parked.
pub const DEFERRALS_MAX: u32 = 5;

/// How long a migration waits after its first deferral, in milliseconds; then twice as long each
/// time. What was too slow a moment ago would be so again at once.
const WAIT_MS: i64 = 60_000;

/// The longest time without writes under this policy, in milliseconds.
pub fn max_frozen_ms(policy: Option<&Policy>) -> u32 {
    policy.map(|policy| policy.max_frozen_ms).filter(|ms| *ms > 0).unwrap_or(MAX_FROZEN_MS)
}

/// Whether a step failed only because it came too late: the migration is tried again by itself.
pub(crate) fn came_too_late(failed: &StepFailed) -> bool {
    let code = failed.code.parse::<Code>();
    code.is_ok_and(|code| {
        matches!(code, Code::WatchdogFired | Code::FrozenTooLong | Code::PromiseBroken)
    })
}

impl Migration {
    /// Until when the destination has to be open, by the source's clock; none where nothing is
    /// frozen, or the promise was kept.
    pub fn deadline_unix_ms(&self) -> Option<i64> {
        let frozen = self.frozen.as_ref().filter(|frozen| frozen.thaw_at_unix_ms > 0)?;
        match &self.phase {
            // After a rollback that was refused the source has long been disarmed.
            Phase::Doing(forward, _) => (*forward <= Forward::Open && !self.rollback.refused)
                .then_some(frozen.thaw_at_unix_ms),
            Phase::Planned { .. }
            | Phase::Held { .. }
            | Phase::Undoing(..)
            | Phase::Rehearsing(..)
            | Phase::Settling(_)
            | Phase::Parked { .. }
            | Phase::RolledBack
            | Phase::Rehearsed
            | Phase::Completed(_)
            | Phase::ExpiryFailed
            | Phase::Expired => None,
        }
    }

    /// The failure that breaks off the step in progress.
    pub(crate) fn broken_off(&self) -> Option<StepFailed> {
        self.deadline_unix_ms()?;
        let Phase::Doing(forward, attempt) = &self.phase else { return None };
        let message = "the destination would not be open in time";
        let failure = Failure::new(Code::PromiseBroken, message);
        let host = host_of(forward.step(), &self.planned).ok().flatten();
        Some(StepFailed {
            step: forward.step().into(),
            attempt: attempt.number,
            code: failure.code.to_string(),
            signature: signature::of(&failure),
            message: failure.message,
            transient: failure.code.is_transient(),
            next_attempt_at_unix_ms: 0,
            host: host.map(|host| host.token().to_owned()).unwrap_or_default(),
        })
    }

    /// The closing fact of what a pause has called back: planned again, and not counted.
    pub(crate) fn recalled(&self) -> MigrationDeferred {
        let failure = Failure::new(Code::Recalled, "called back before its switch");
        MigrationDeferred {
            step: Step::Unspecified.into(),
            code: failure.code.to_string(),
            signature: signature::of(&failure),
            message: failure.message,
            deferral: self.deferred.as_ref().map_or(0, |deferred| deferred.deferral),
            not_before_unix_ms: 0,
        }
    }

    /// The next deferral; none when there were too many.
    pub(crate) fn next_deferral(&self) -> Option<MigrationDeferred> {
        let before = self.deferred.as_ref().map_or(0, |deferred| deferred.deferral);
        let failed = self.failure.clone().unwrap_or_default();
        let wait_ms = WAIT_MS << before.min(DEFERRALS_MAX);
        (before < DEFERRALS_MAX).then(|| MigrationDeferred {
            step: failed.step,
            code: failed.code,
            signature: failed.signature,
            message: failed.message,
            deferral: before + 1,
            not_before_unix_ms: self.at_unix_ms.saturating_add(wait_ms),
        })
    }
}
