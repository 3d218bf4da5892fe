//! From what a service found to the event that it appends.

use drover_schemas::{
    Code, Failure,
    subjects::step_name,
    v1::{Job, RetryPolicy, Step, StepFailed, migration_event::Event},
};

use crate::{
    backoff, signature,
    steps::{host_of, step_of},
};

/// How often an undo step, or the deletion of an expired dump, is tried: with a backoff of at
/// most some minutes, for days. A customer must not stay read-only because a server was away for
/// a night; and yet nothing goes on for ever.
pub const UNDO_ATTEMPTS_MAX: u32 = 1000;

/// How often the switch is tried. Its update may have reached the zone although no answer came, and
/// then customers write at the destination already: going back would take back what they were
/// told. So it goes on for as long as the undo does; what can be known to have changed nothing
/// fails for good at once.
pub const SWITCH_ATTEMPTS_MAX: u32 = UNDO_ATTEMPTS_MAX;

/// What a service's work on a job led to.
pub type Conclusion = Result<Event, Failure>;

/// The event that ends this attempt at a job: the step's own, or [`StepFailed`] with the next
/// attempt's time, if there is to be one.
///
/// `jitter` is uniform in 0..1.
pub fn conclude(job: &Job, conclusion: Conclusion, now_unix_ms: i64, jitter: f64) -> Event {
    match conclusion {
        Ok(event) if step_of(&event) == Some(job.step()) => event,
        Ok(_) => failed(job, &foreign_event(job), now_unix_ms, jitter),
        Err(failure) => failed(job, &failure, now_unix_ms, jitter),
    }
}

fn foreign_event(job: &Job) -> Failure {
    let step = step_name(job.step());
    Failure::new(Code::JobIncomplete, format!("the step {step} ended in another step's event"))
}

fn failed(job: &Job, failure: &Failure, now_unix_ms: i64, jitter: f64) -> Event {
    let retry = job.policy.as_ref().and_then(|policy| policy.retry).unwrap_or_default();
    let again = failure.code.is_transient() && job.attempt < attempts_max(job.step(), &retry);
    let host = job.planned.as_ref().and_then(|planned| host_of(job.step(), planned).ok().flatten());
    Event::StepFailed(StepFailed {
        step: job.step.to_owned(),
        attempt: job.attempt,
        code: failure.code.to_string(),
        signature: signature::of(failure),
        message: failure.message.clone(),
        transient: failure.code.is_transient(),
        next_attempt_at_unix_ms: if again {
            now_unix_ms.saturating_add(backoff::delay_ms(&retry, job.attempt, jitter)).max(1)
        } else {
            0
        },
        host: host.map(|host| host.token().to_owned()).unwrap_or_default(),
    })
}

fn attempts_max(step: Step, retry: &RetryPolicy) -> u32 {
    match step {
        Step::Switch => SWITCH_ATTEMPTS_MAX,
        Step::Revert | Step::Close | Step::Drop | Step::Thaw | Step::Expire => UNDO_ATTEMPTS_MAX,
        Step::Unspecified
        | Step::Freeze
        | Step::Dump
        | Step::Import
        | Step::Verify
        | Step::Disarm
        | Step::Open
        | Step::Retire
        | Step::Publish
        | Step::Announce => retry.attempts_max.max(1),
    }
}
