//! What was done, as it was done: printed, and counted for the end.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Instant,
};

/// The diary of one run.
pub struct Diary {
    began: Instant,
    counts: Mutex<BTreeMap<&'static str, u64>>,
}

impl Diary {
    /// An empty one, that begins now.
    pub fn new() -> Self {
        Self { began: Instant::now(), counts: Mutex::default() }
    }

    /// Says something.
    pub fn say(&self, text: &str) {
        println!("{:7.1} s  {text}", self.began.elapsed().as_secs_f64());
    }

    /// Says what is done, and counts it under `kind`.
    pub fn count(&self, kind: &'static str, text: &str) {
        *self.counts.lock().unwrap_or_else(PoisonError::into_inner).entry(kind).or_default() += 1;
        self.say(&format!("{kind}: {text}"));
    }

    /// How often each kind was done, in one line.
    pub fn summary(&self) -> String {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let counts: Vec<String> = counts.iter().map(|(kind, n)| format!("{n} × {kind}")).collect();
        counts.join(", ")
    }
}
