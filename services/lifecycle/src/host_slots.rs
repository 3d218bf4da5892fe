//! How many migrations are at a server at once, by what the server itself says that it is under.
//!
//! The controller of the campaign's slots ([`concurrency`](crate::concurrency)) sees the steps' times, of
//! all hosts together: of one host there are too few. But a host can say more of itself: threads that
//! run, changes that wait to be flushed, replicas that are behind. Past a bound of one of these
//! ([`Limits`]) it gets fewer slots, and below it gets them back one by one: additive increase and
//! multiplicative decrease, which comes to a fair share with neighbours whose own load comes and goes
//! (Chiu and Jain, 1989). One more than a bound is no reason to halve, so the decrease is in proportion
//! to the excess, as DCTCP's is (RFC 8257), down to half and at least by one.
//!
//! 1. What is judged is the median of a window: threads that run jump.
//! 2. It goes down from what is in flight there, not from slots that nobody uses, and grows only where
//!    all are used (RFC 5681 and 7661 say why).
//! 3. After it has gone down it does not go down again before as few are in flight: what is seen until
//!    then is of the higher number.
//! 4. One slot always remains, so that the campaign goes on; and a host of which nothing is heard keeps
//!    what it has.
//! 5. A destination whose disk is nearly full is not helped by fewer at once: it is set aside, and a
//!    person makes room.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use drover_schemas::{
    ServerName,
    v1::{HostLoad, HostSlots, Limits},
};

use crate::breaker::Verdict;

/// What servers may be under where nobody has said anything else and the campaign's slots move by
/// themselves. Of threads: what pt-online-schema-change takes (`--max-load`).
pub const BOUNDS: Bounds = Bounds {
    threads_running_max: 25,
    flush_backlog_percent_max: 80,
    replica_lag_seconds_max: 10,
    disk_free_percent_min: 5,
};

/// What servers may be under.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Threads that run.
    pub threads_running_max: u32,
    /// How full the redo log is of what is to be flushed, in percent of what may be.
    pub flush_backlog_percent_max: u32,
    /// How far a replica is behind, in seconds.
    pub replica_lag_seconds_max: u32,
    /// How much of a destination's disk is free at least, in percent.
    pub disk_free_percent_min: u32,
}

/// How long a window is at least, in milliseconds.
pub const WINDOW_MS: i64 = 10_000;
/// Of how many words it is at least.
const SAMPLES_MIN: usize = 3;
/// How old a word may be, in milliseconds: where nobody decides, as this is another orchestrator's, or the
/// campaign paused, what was heard is of the past.
const HEARD_MS: i64 = 3 * WINDOW_MS;
/// How many words are kept at the most, however many tell of a host.
const HEARD_MAX: usize = 64;
/// Below this share of every bound a host gets another slot.
const CALM: f64 = 0.9;
/// How far it goes down at most in one window, as a factor.
const SHRINKING_MAX: f64 = 0.5;

/// A host's slots now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// As many as it has otherwise; at least 1.
    pub own: u32,
    /// To how many they are held down; 0: they are not.
    pub slots_max: u32,
    /// How many are in flight there.
    pub in_flight: u32,
}

/// What a server is under against its bounds.
#[derive(Debug, Clone, PartialEq)]
struct Pressure {
    /// 1: just at the bound that is nearest.
    ratio: f64,
    /// That one, in words.
    what: String,
}

/// What was heard of one host since its window began.
#[derive(Debug, Default)]
struct Window {
    since_unix_ms: i64,
    heard: VecDeque<(i64, Pressure)>,
    /// Its slots were made fewer, and more are in flight.
    drains: bool,
}

/// The hosts of a campaign.
#[derive(Debug, Default)]
pub struct Watched {
    windows: BTreeMap<ServerName, Window>,
    /// Destinations without room, with what is to be said of it.
    full: BTreeMap<ServerName, String>,
}

impl Watched {
    /// Takes in what a host is under.
    pub fn take(
        &mut self,
        now_unix_ms: i64,
        host: &ServerName,
        is_destination: bool,
        load: &HostLoad,
        limits: &Limits,
    ) {
        match no_room(load, limits).filter(|_| is_destination) {
            Some(what) => drop(self.full.insert(host.clone(), what)),
            None => drop(self.full.remove(host)),
        }
        let Some(pressure) = pressure(load, limits) else {
            self.windows.remove(host);
            return;
        };
        let fresh = || Window { since_unix_ms: now_unix_ms, ..Window::default() };
        self.windows.entry(host.clone()).or_insert_with(fresh).hear(now_unix_ms, pressure);
    }

    /// Another number of slots for those whose windows say so. `standing` tells how a host stands; of
    /// `held`, those that are held down, whoever has no bound any more gets its slots back.
    pub fn decide<'a>(
        &mut self,
        now_unix_ms: i64,
        limits: &Limits,
        held: impl IntoIterator<Item = &'a ServerName>,
        standing: impl Fn(&ServerName) -> Standing,
    ) -> Vec<HostSlots> {
        if !has_bounds(limits) {
            self.windows.clear();
            let freed = |host: &ServerName| HostSlots {
                host: host.to_string(),
                slots_max: 0,
                reason: "nothing bounds what a server may be under".to_owned(),
            };
            return held.into_iter().map(freed).collect();
        }
        let decide = |(host, window): (&ServerName, &mut Window)| {
            let (slots_max, reason) = window.decide(now_unix_ms, standing(host))?;
            Some(HostSlots { host: host.to_string(), slots_max, reason })
        };
        self.windows.iter_mut().filter_map(decide).collect()
    }

    /// A destination without room that is not set aside yet.
    pub fn judge(&self, set_aside: &BTreeSet<ServerName>) -> Option<Verdict> {
        let (host, reason) = self.full.iter().find(|(host, _)| !set_aside.contains(*host))?;
        Some(Verdict::Quarantine { host: host.clone(), reason: reason.clone() })
    }

    /// A person has let a host in again: what was heard of it before does not count.
    pub fn release(&mut self, host: &str) {
        self.full.retain(|full, _| full.as_str() != host);
    }
}

impl Window {
    fn hear(&mut self, now_unix_ms: i64, pressure: Pressure) {
        self.heard.push_back((now_unix_ms, pressure));
        let is_old = |(at, _): &(i64, Pressure)| at.saturating_add(HEARD_MS) < now_unix_ms;
        while self.heard.len() > HEARD_MAX || self.heard.front().is_some_and(is_old) {
            self.heard.pop_front();
        }
    }

    fn decide(&mut self, now_unix_ms: i64, standing: Standing) -> Option<(u32, String)> {
        let Standing { own, slots_max, in_flight } = standing;
        let now = if slots_max == 0 { own } else { slots_max.min(own) };
        let is_whole = now_unix_ms.saturating_sub(self.since_unix_ms) >= WINDOW_MS
            && self.heard.len() >= SAMPLES_MIN;
        if !is_whole {
            return None;
        }
        let heard = std::mem::take(&mut self.heard);
        self.since_unix_ms = now_unix_ms;
        let is_mixed = self.drains;
        self.drains &= in_flight > now;
        let Pressure { ratio, what } = median(heard)?;
        if ratio > 1.0 {
            if is_mixed {
                return None;
            }
            let fewer = fewer(now.min(in_flight.max(1)), ratio);
            self.drains = true;
            return (fewer < now).then_some((fewer, what));
        }
        let is_used = in_flight >= now;
        if slots_max == 0 || ratio >= CALM || !is_used {
            return None;
        }
        let more = if now + 1 < own { now + 1 } else { 0 };
        Some((more, what))
    }
}

/// So many fewer than these, by how far a bound is exceeded; at least 1.
fn fewer(slots: u32, ratio: f64) -> u32 {
    let kept = (f64::from(slots) * (1.0 / ratio).max(SHRINKING_MAX)) as u32;
    kept.min(slots.saturating_sub(1)).max(1)
}

/// The middle one; of an even number the lower of the two.
fn median(heard: VecDeque<(i64, Pressure)>) -> Option<Pressure> {
    let mut heard: Vec<Pressure> = heard.into_iter().map(|(_, pressure)| pressure).collect();
    heard.sort_by(|a, b| a.ratio.total_cmp(&b.ratio));
    let middle = heard.len().checked_sub(1)? / 2;
    heard.into_iter().nth(middle)
}

/// Whether anything bounds what a server may be under.
pub fn has_bounds(limits: &Limits) -> bool {
    limits.threads_running_max > 0
        || limits.flush_backlog_percent_max > 0
        || limits.replica_lag_seconds_max > 0
}

/// How near a server is to the nearest of its bounds; none where nothing bounds it.
fn pressure(load: &HostLoad, limits: &Limits) -> Option<Pressure> {
    let threads = (limits.threads_running_max, Some(load.threads_running), "threads run");
    let backlog = (
        limits.flush_backlog_percent_max,
        load.flush_backlog_percent,
        "% of the redo log wait to be flushed",
    );
    let lag =
        (limits.replica_lag_seconds_max, load.replica_lag_seconds, "s that a replica is behind");
    let mut nearest: Option<Pressure> = None;
    for (max, value, unit) in [threads, backlog, lag] {
        let Some(value) = value.filter(|_| max > 0) else { continue };
        let ratio = f64::from(value) / f64::from(max);
        if nearest.as_ref().is_none_or(|nearest| nearest.ratio < ratio) {
            nearest = Some(Pressure { ratio, what: format!("{value} {unit}, at most {max}") });
        }
    }
    if limits.replica_lag_seconds_max > 0 && !load.silent_replica.is_empty() {
        // How far it is behind is not known, and grows.
        let what = format!("nothing is known of the replica {}", load.silent_replica);
        nearest = Some(Pressure { ratio: f64::INFINITY, what });
    }
    nearest
}

/// What there is to say of a disk with too little room.
fn no_room(load: &HostLoad, limits: &Limits) -> Option<String> {
    let (free, min) = (load.disk_free_percent?, limits.disk_free_percent_min);
    (free < min).then(|| format!("{free} % of its disk are free, at least {min} % are to be"))
}

#[cfg(test)]
mod tests;
