//! When a campaign is to stop by itself, and when a single host is set aside.
//!
//! 1. What is judged are runs of migrations in a sliding window of time: one that reached its
//!    switch, or the end of its rehearsal, or one in which a step failed, each counted once. So a migration that fails at each
//!    of ten attempts weighs as much as one that goes through.
//! 2. The breaker opens when at least a share of a minimum count has failed: something that all
//!    have in common is wrong, and each further admission makes one more customer wait for it.
//! 3. A host is set aside when its last steps failed one after the other, of several migrations,
//!    while nearly all other hosts do well. When many hosts fail it is nobody's own fault: none
//!    is set aside, and the breaker has its say. What failed at a host that was set aside does
//!    not count for the breaker.
//!
//! No clock: the times are the facts' own.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};

use drover_schemas::{
    MigrationId, ServerName,
    v1::{MigrationPlanned, StepFailed, migration_event::Event},
};

use crate::steps::{host_of, step_of};

/// Who pauses a campaign in which too much fails: in its `CampaignPaused`.
pub const WHO: &str = "the breaker";

/// How far the window reaches back, in milliseconds: long enough for the reference rate to fill
/// it, short enough that a morning's trouble is not the evening's.
pub const WINDOW_MS: i64 = 10 * 60_000;
/// How many runs must have been judged in the window: fewer say nothing.
pub const RUNS_MIN: usize = 40;
/// The share of failed runs at which the breaker opens, in percent.
pub const FAILED_PERCENT_MAX: usize = 50;
/// The most runs kept in the window: past them the oldest go, so that memory is bounded.
const RUNS_MAX: usize = 10_000;
/// How many steps in a row must have failed at a host that is set aside.
pub const STREAK_MIN: u32 = 6;
/// Of how many migrations at least: one hopeless database is not its host's fault.
pub const STREAK_MIGRATIONS_MIN: usize = 2;
/// How many hosts may fail at the same time while that is still the hosts' own fault, in percent
/// of those that were heard of in the window.
pub const HOSTS_FAILING_PERCENT_MAX: usize = 10;
/// With few hosts: this many at least may.
const HOSTS_FAILING_MIN: usize = 1;
/// How many signatures and hosts a reason names.
const NAMED_MAX: usize = 3;

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Pause the campaign, with this reason.
    Pause {
        /// Names the signatures and the hosts.
        reason: String,
    },
    /// Set a host aside.
    Quarantine {
        /// The host.
        host: ServerName,
        /// Names the signature.
        reason: String,
    },
}

/// One run of a migration that was judged.
#[derive(Debug)]
struct Run {
    at_unix_ms: i64,
    migration: MigrationId,
    /// Host and signature of its failure.
    failed: Option<(String, String)>,
}

/// What was last heard of a host.
#[derive(Debug, Default)]
struct Host {
    heard_unix_ms: i64,
    /// Steps that failed one after the other.
    streak: u32,
    /// Their migrations, as far as they are needed.
    migrations: BTreeSet<MigrationId>,
    signature: String,
}

/// The window of a campaign.
#[derive(Debug, Default)]
pub struct Breaker {
    runs: VecDeque<Run>,
    /// The migrations whose present run has failed.
    failing: HashSet<MigrationId>,
    hosts: BTreeMap<String, Host>,
    now_unix_ms: i64,
}

impl Breaker {
    /// Takes in a migration's fact.
    pub fn take(
        &mut self,
        id: MigrationId,
        planned: &MigrationPlanned,
        at_unix_ms: i64,
        event: &Event,
    ) {
        self.now_unix_ms = self.now_unix_ms.max(at_unix_ms);
        match event {
            Event::StepFailed(failed) => self.take_failure(id, at_unix_ms, failed),
            Event::MigrationAdmitted(_) => drop(self.failing.remove(&id)),
            event => {
                let step = step_of(event);
                let host = step.and_then(|step| host_of(step, planned).ok().flatten());
                if let Some(host) = host {
                    let host = self.hosts.entry(host.token().to_owned()).or_default();
                    *host = Host { heard_unix_ms: at_unix_ms, ..Host::default() };
                }
                if let Event::DnsSwitched(_) | Event::MigrationRehearsed(_) = event
                    && !self.failing.remove(&id)
                {
                    self.push(Run { at_unix_ms, migration: id, failed: None });
                }
            }
        }
        self.forget_old();
    }

    fn take_failure(&mut self, id: MigrationId, at_unix_ms: i64, failed: &StepFailed) {
        let host = self.hosts.entry(failed.host.clone()).or_default();
        host.heard_unix_ms = at_unix_ms;
        host.streak = host.streak.saturating_add(1);
        host.signature.clone_from(&failed.signature);
        if host.migrations.len() < STREAK_MIGRATIONS_MIN {
            host.migrations.insert(id);
        }
        if self.failing.insert(id) {
            let failed = Some((failed.host.clone(), failed.signature.clone()));
            self.push(Run { at_unix_ms, migration: id, failed });
        }
    }

    fn push(&mut self, run: Run) {
        self.runs.push_back(run);
        if self.runs.len() > RUNS_MAX
            && let Some(oldest) = self.runs.pop_front()
        {
            self.failing.remove(&oldest.migration);
        }
    }

    fn forget_old(&mut self) {
        let since = self.now_unix_ms - WINDOW_MS;
        while let Some(run) = self.runs.pop_front_if(|run| run.at_unix_ms < since) {
            self.failing.remove(&run.migration);
        }
    }

    /// A person has looked and goes on: what was is no reason any more.
    pub fn reset(&mut self) {
        *self = Self { now_unix_ms: self.now_unix_ms, ..Self::default() };
    }

    /// A host was released: it begins anew.
    pub fn release(&mut self, host: &str) {
        self.hosts.remove(host);
    }

    /// What is to be done, with these hosts set aside already. A host goes first: without it the
    /// campaign may do well.
    pub fn judge(&self, quarantined: &BTreeSet<ServerName>) -> Option<Verdict> {
        self.bad_host(quarantined).or_else(|| self.trip(quarantined))
    }

    fn bad_host(&self, quarantined: &BTreeSet<ServerName>) -> Option<Verdict> {
        let since = self.now_unix_ms - WINDOW_MS;
        let is_set_aside = |name: &str| quarantined.iter().any(|host| host.as_str() == name);
        let heard = || {
            let hosts = self.hosts.iter().filter(|(_, host)| host.heard_unix_ms >= since);
            hosts.filter(|(name, _)| !is_set_aside(name))
        };
        let failing = heard().filter(|(_, host)| host.streak > 0).count();
        let most = (heard().count() * HOSTS_FAILING_PERCENT_MAX / 100).max(HOSTS_FAILING_MIN);
        if failing > most {
            return None;
        }
        let (name, host) = heard().find(|(_, host)| {
            host.streak >= STREAK_MIN && host.migrations.len() >= STREAK_MIGRATIONS_MIN
        })?;
        // What serves all servers, dns and notify, is no host that others could do without.
        let is_shared = name == "dns" || name == "notify";
        let name = name.parse().ok().filter(|_| !is_shared)?;
        let reason = format!("{} steps in a row failed here: {}", host.streak, host.signature);
        Some(Verdict::Quarantine { host: name, reason })
    }

    fn trip(&self, quarantined: &BTreeSet<ServerName>) -> Option<Verdict> {
        let counts = |run: &&Run| match &run.failed {
            Some((host, _)) => !quarantined.iter().any(|name| name.as_str() == host),
            None => true,
        };
        let all = self.runs.iter().filter(counts).count();
        let failed = || self.runs.iter().filter(counts).filter_map(|run| run.failed.as_ref());
        let count = failed().count();
        if all < RUNS_MIN || count * 100 < all * FAILED_PERCENT_MAX {
            return None;
        }
        let signatures = most_frequent(failed().map(|(_, signature)| signature.as_str()));
        let hosts = most_frequent(failed().map(|(host, _)| host.as_str()));
        let reason = format!("{count} of {all} migrations failed: {signatures}; at {hosts}");
        Some(Verdict::Pause { reason })
    }
}

/// The most frequent of these with their counts, as text.
pub(crate) fn most_frequent<'a>(texts: impl Iterator<Item = &'a str>) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for text in texts {
        *counts.entry(text).or_default() += 1;
    }
    let total = counts.len();
    let mut counts: Vec<(&str, usize)> = counts.into_iter().collect();
    counts.sort_by_key(|(text, count)| (std::cmp::Reverse(*count), *text));
    let named: Vec<String> =
        counts.iter().take(NAMED_MAX).map(|(text, count)| format!("{text} ({count})")).collect();
    let more = total.saturating_sub(NAMED_MAX);
    let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{rest}", named.join(", "))
}

#[cfg(test)]
mod tests {
    use drover_schemas::v1::{DnsSwitched, MigrationAdmitted, SourceFrozen};
    use proptest::prelude::*;

    use super::*;

    struct Night {
        breaker: Breaker,
        at: i64,
        n: u32,
        quarantined: BTreeSet<ServerName>,
    }

    impl Night {
        fn new() -> Self {
            Self { breaker: Breaker::default(), at: 0, n: 0, quarantined: BTreeSet::new() }
        }

        /// One migration from a source; whether it fails at its freeze, twice.
        fn migration(&mut self, source: u32, fails: bool) -> Option<Verdict> {
            self.n += 1;
            self.at += 100;
            let source = format!("src-{source}");
            let name = source.parse().unwrap();
            let id = MigrationId::new(&"night".parse().unwrap(), &name, &self.n.to_string());
            let planned = MigrationPlanned {
                source: source.clone(),
                destination: "dst".to_owned(),
                ..Default::default()
            };
            if self.quarantined.contains(&name) {
                return None;
            }
            let failed = || {
                Event::StepFailed(StepFailed {
                    step: drover_schemas::v1::Step::Freeze.into(),
                    signature: "DRV-0200 no answer".to_owned(),
                    host: source.clone(),
                    ..Default::default()
                })
            };
            let mut events = vec![Event::MigrationAdmitted(MigrationAdmitted::default())];
            if fails {
                events.extend([failed(), failed()]);
            } else {
                events.push(Event::SourceFrozen(SourceFrozen::default()));
                events.push(Event::DnsSwitched(DnsSwitched::default()));
            }
            for event in events {
                self.breaker.take(id, &planned, self.at, &event);
            }
            let verdict = fails.then(|| self.breaker.judge(&self.quarantined)).flatten();
            if let Some(Verdict::Quarantine { host, .. }) = &verdict {
                self.quarantined.insert(host.clone());
            }
            verdict
        }
    }

    #[test]
    fn a_dead_host_and_flapping_ones_are_set_aside_and_the_rest_goes_on() {
        let mut night = Night::new();
        for round in 0..20 {
            for source in 0..780 {
                let fails = source == 0 || (source < 4 && (round / 5) % 2 == 1);
                let verdict = night.migration(source, fails);
                assert!(!matches!(verdict, Some(Verdict::Pause { .. })), "{verdict:?}");
            }
        }
        let names: Vec<&str> = night.quarantined.iter().map(ServerName::as_str).collect();
        assert_eq!(names, ["src-0", "src-1", "src-2", "src-3"]);
    }

    #[test]
    fn a_failure_common_to_all_opens_the_breaker_and_sets_nobody_aside() {
        let mut night = Night::new();
        for source in 0..2_000 {
            assert_eq!(night.migration(source % 780, false), None);
        }
        let opened = (0..5_000).find_map(|n| night.migration(n % 780, true));
        let Some(Verdict::Pause { reason }) = opened else { panic!("{opened:?}") };
        assert!(reason.contains("DRV-0200 no answer"), "{reason}");
        assert!(night.quarantined.is_empty());
        night.breaker.reset();
        assert_eq!(night.migration(1, true), None, "a person's word counts");
    }

    #[test]
    fn what_lies_outside_the_window_is_forgotten() {
        let mut night = Night::new();
        for n in 0..RUNS_MIN as u32 - 1 {
            night.migration(n, true);
        }
        night.at += WINDOW_MS + 1_000;
        assert_eq!(night.migration(0, true), None);
        assert_eq!(night.breaker.runs.len(), 1);
    }

    proptest! {
        #[test]
        fn it_never_opens_below_its_share_nor_below_its_count(
            runs in prop::collection::vec((0u32..50, any::<bool>()), 1..200)
        ) {
            let mut night = Night::new();
            for (source, fails) in runs {
                let verdict = night.migration(source, fails);
                if let Some(Verdict::Pause { .. }) = verdict {
                    let all = night.breaker.runs.len();
                    let failed = night.breaker.runs.iter().filter(|r| r.failed.is_some()).count();
                    prop_assert!(all >= RUNS_MIN && failed > 0);
                }
            }
            prop_assert!(night.breaker.failing.len() <= night.breaker.runs.len());
        }
    }
}
