//! What is in work at a host, or at the storage that all hosts share, and how much slower that
//! makes each step there.
//!
//! Up to the knee nothing is slower. Past it all share what there is, and it also becomes less:
//! a server that thrashes moves its heads and changes its threads instead of working. So there the
//! throughput falls with each further step in work, as that of real servers does (the Universal
//! Scalability Law, Gunther 1993, has a term for it).

use std::sync::atomic::{AtomicU32, Ordering};

/// What is in work at one place.
#[derive(Debug, Default)]
pub struct Load {
    in_work: AtomicU32,
}

/// One step in work there, until it is dropped.
#[derive(Debug)]
pub struct Place<'a> {
    load: &'a Load,
    /// How many steps are in work, this one among them.
    pub count: u32,
}

impl Load {
    /// How many steps are in work.
    pub fn count(&self) -> u32 {
        self.in_work.load(Ordering::Relaxed)
    }

    /// A step's work begins.
    pub fn enter(&self) -> Place<'_> {
        Place { load: self, count: self.in_work.fetch_add(1, Ordering::Relaxed) + 1 }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.load.in_work.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How many times as long a step takes with so many in work; `thrash` is the share by which the
/// work of all becomes less for each further knee's worth of them.
pub fn slowdown(count: u32, knee: f64, thrash: f64) -> f64 {
    let crowd = f64::from(count) / knee.max(1.0);
    crowd.max(1.0) * (1.0 + thrash * (crowd - 1.0).max(0.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Steps a second of one second each.
    fn throughput(count: u32, thrash: f64) -> f64 {
        f64::from(count) / slowdown(count, 100.0, thrash)
    }

    #[test]
    fn past_the_knee_nothing_is_gained_and_with_thrashing_it_is_lost() {
        assert_eq!(throughput(50, 0.2), 50.0);
        assert_eq!(throughput(100, 0.2), 100.0);
        assert_eq!(throughput(300, 0.0), 100.0);
        assert!((throughput(300, 0.2) - 100.0 / 1.4).abs() < 1e-9);
    }

    #[test]
    fn a_step_that_has_ended_is_no_load_any_more() {
        let load = Load::default();
        let places = [load.enter(), load.enter()];
        assert_eq!(places.each_ref().map(|place| place.count), [1, 2]);
        drop(places);
        assert_eq!(load.enter().count, 1);
    }
}
