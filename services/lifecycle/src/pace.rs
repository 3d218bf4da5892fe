//! So many a second, evenly: no burst after a quiet time. No clock: the time is an argument.

/// When the next turn is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pace {
    next_unix_us: i64,
}

impl Pace {
    /// Takes the next turn, and says when it is: now, or later.
    ///
    /// `per_second` is at least 1.
    pub fn take(&mut self, now_unix_ms: i64, per_second: u32) -> i64 {
        let at = self.next_unix_us.max(now_unix_ms.saturating_mul(1000));
        self.next_unix_us = at.saturating_add(1_000_000 / i64::from(per_second.max(1)));
        at.div_euclid(1000)
    }

    /// When the next turn is, if it is not now.
    pub fn next_unix_ms(&self) -> i64 {
        self.next_unix_us.div_euclid(1000)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_second_has_more_turns_than_it_may(
            waits in prop::collection::vec(0i64..400, 1..200), per_second in 1u32..2_000
        ) {
            let (mut pace, mut now, mut turns) = (Pace::default(), 1_000_000, Vec::new());
            for wait in waits {
                now += wait;
                let at = pace.take(now, per_second);
                prop_assert!(at >= now);
                turns.push(at);
            }
            for (n, at) in turns.iter().enumerate() {
                let within = turns[n..].iter().take_while(|turn| **turn < at + 1_000).count();
                prop_assert!(within <= per_second as usize + 1, "{within} of {per_second}");
            }
        }
    }
}
