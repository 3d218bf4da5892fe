//! How long to wait before the next attempt.

use drover_schemas::v1::RetryPolicy;

/// The delay before the attempt after `attempt` (counted from 1), in milliseconds: exponential
/// between the policy's base and its maximum, half of it fixed and half of it jitter, so that
/// the databases of a server that came back do not return all at once, and none at once.
///
/// `jitter` is uniform in 0..1.
pub fn delay_ms(policy: &RetryPolicy, attempt: u32, jitter: f64) -> i64 {
    let doublings = attempt.saturating_sub(1).min(31);
    let full = (u64::from(policy.backoff_base_ms) << doublings).min(policy.backoff_max_ms.into());
    let half = full / 2;
    let random = (half as f64 * jitter.clamp(0.0, 1.0)) as u64;
    i64::try_from(half + random).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_delay_lies_between_half_and_whole_of_the_step(
            base in 1u32..10_000, attempt in 1u32..100, jitter in 0.0f64..1.0
        ) {
            let policy = RetryPolicy { attempts_max: 5, backoff_base_ms: base, backoff_max_ms: 60_000 };
            let delay = delay_ms(&policy, attempt, jitter);
            let full = (f64::from(base) * 2f64.powi(attempt as i32 - 1)).min(60_000.0);
            prop_assert!(delay as f64 >= (full / 2.0).floor() - 1.0 && delay as f64 <= full);
        }
    }
}
