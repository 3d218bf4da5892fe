//! Steps that are gone on with where the one before was done, without another order.
//!
//! Three of them follow another at the same server in the same service: the dump follows the
//! freeze, the comparison follows the import, and the customer's message follows the publication.
//! Whoever has done the first makes the second's job itself, out of its own and its event, and it
//! is the very job that would be ordered ([`crate::Migration::job`]): bound to the revision of that
//! event, and refused by the same ledgers. What is spared is the order's way, three times of ten,
//! and with it some of the time frozen.
//!
//! The order of the first stays on the queue until the second has ended. If its service dies, the
//! order comes again, finds the event that it had led to, and goes on from there.

use drover_schemas::v1::{Job, Step, migration_event::Event};

use crate::{Fact, steps::step_of};

/// The step that is gone on with after this one; none where an order has to come.
pub fn step_after(step: Step) -> Option<Step> {
    match step {
        Step::Freeze => Some(Step::Dump),
        Step::Import => Some(Step::Verify),
        Step::Publish => Some(Step::Announce),
        Step::Unspecified
        | Step::Dump
        | Step::Verify
        | Step::Disarm
        | Step::Open
        | Step::Switch
        | Step::Retire
        | Step::Announce
        | Step::Expire
        | Step::Revert
        | Step::Close
        | Step::Drop
        | Step::Thaw => None,
    }
}

/// The job that is gone on with after `job` has led to `fact`, which is the history's last; none where
/// another step, or an order, has to come first.
pub fn onward(job: &Job, fact: Fact, now_unix_ms: i64) -> Option<Job> {
    let Fact { revision, at_unix_ms, event } = fact;
    let step = step_after(job.step())?;
    if step_of(&event) != Some(job.step()) {
        return None;
    }
    let mut next = Job {
        step: step.into(),
        revision,
        attempt: 1,
        issued_at_unix_ms: now_unix_ms,
        revision_at_unix_ms: at_unix_ms,
        ..job.clone()
    };
    match event {
        Event::SourceFrozen(frozen) => next.frozen = Some(frozen),
        Event::DumpPublished(published) => next.published = Some(published),
        _ => {}
    }
    Some(next)
}
