//! How many migrations may end in failure, of a wave, of a source and of a destination.
//!
//! The breaker looks at shares within a window of time; a budget is a plain count, for a campaign of
//! which a person has said how much may go wrong before somebody looks. What is counted is what was
//! parked since the campaign began or was resumed: where it failed at a server, for that server; and
//! for its wave in any case. Past a server's budget the server is set aside; past a wave's, the
//! campaign pauses.

use std::collections::BTreeMap;

use drover_schemas::{
    subjects::Host,
    v1::{Limits, MigrationParked, MigrationPlanned},
};

use crate::{
    breaker::{Verdict, most_frequent},
    steps::host_of,
};

/// The most failures that a budget remembers the particulars of; all are counted.
const REMEMBERED_MAX: usize = 1_000;

/// What has a budget.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Wave(String),
    Source(String),
    Destination(String),
}

#[derive(Debug, Default)]
struct Spent {
    count: u32,
    /// Host and signature of each.
    failures: Vec<(String, String)>,
}

/// The failures of one campaign.
#[derive(Debug, Default)]
pub struct Budgets {
    spent: BTreeMap<Part, Spent>,
}

impl Budgets {
    /// Takes in that a migration was parked.
    pub fn take(&mut self, planned: &MigrationPlanned, parked: &MigrationParked) {
        let host = host_of(parked.step(), planned).ok().flatten();
        let mut parts = vec![Part::Wave(planned.wave.clone())];
        if let Some(Host::Server(server)) = &host {
            let server = server.to_string();
            let is_source = server == planned.source;
            parts.push(if is_source { Part::Source(server) } else { Part::Destination(server) });
        }
        let host = host.map(|host| host.token().to_owned()).unwrap_or_default();
        for part in parts {
            let spent = self.spent.entry(part).or_default();
            spent.count = spent.count.saturating_add(1);
            if spent.failures.len() < REMEMBERED_MAX {
                spent.failures.push((host.clone(), parked.signature.clone()));
            }
        }
    }

    /// A person has looked and goes on.
    pub fn reset(&mut self) {
        self.spent.clear();
    }

    /// A host was released: it begins anew.
    pub fn release(&mut self, host: &str) {
        self.spent.retain(|part, _| match part {
            Part::Source(name) | Part::Destination(name) => name != host,
            Part::Wave(_) => true,
        });
    }

    /// What is to be done, with these hosts set aside already.
    pub fn judge(&self, limits: &Limits, is_set_aside: impl Fn(&str) -> bool) -> Option<Verdict> {
        let over = |max: u32, spent: &Spent| max > 0 && spent.count > max;
        self.spent.iter().find_map(|(part, spent)| match part {
            Part::Wave(wave) if over(limits.wave_failures_max, spent) => {
                let what = format!("wave {wave}: {}", spent.words(limits.wave_failures_max));
                Some(Verdict::Pause { reason: what })
            }
            Part::Source(name) if over(limits.source_failures_max, spent) => {
                spent.set_aside(name, limits.source_failures_max, &is_set_aside)
            }
            Part::Destination(name) if over(limits.destination_failures_max, spent) => {
                spent.set_aside(name, limits.destination_failures_max, &is_set_aside)
            }
            Part::Wave(_) | Part::Source(_) | Part::Destination(_) => None,
        })
    }
}

impl Spent {
    fn set_aside(
        &self,
        name: &str,
        max: u32,
        is_set_aside: impl Fn(&str) -> bool,
    ) -> Option<Verdict> {
        let host = name.parse().ok().filter(|_| !is_set_aside(name))?;
        Some(Verdict::Quarantine { host, reason: self.words(max) })
    }

    fn words(&self, max: u32) -> String {
        let signatures =
            most_frequent(self.failures.iter().map(|(_, signature)| signature.as_str()));
        let hosts = most_frequent(self.failures.iter().map(|(host, _)| host.as_str()));
        format!("{} parked, at most {max} may be: {signatures}; at {hosts}", self.count)
    }
}

#[cfg(test)]
mod tests {
    use drover_schemas::v1::Step;

    use super::*;

    fn park(budgets: &mut Budgets, wave: &str, source: &str, step: Step) {
        let planned = MigrationPlanned {
            wave: wave.into(),
            source: source.into(),
            destination: "dst".into(),
            ..Default::default()
        };
        let signature = "DRV-0203 no room".to_owned();
        let parked = MigrationParked { step: step.into(), signature, ..Default::default() };
        budgets.take(&planned, &parked);
    }

    #[test]
    fn each_part_has_its_own_budget() {
        let limits = Limits {
            wave_failures_max: 5,
            source_failures_max: 2,
            destination_failures_max: 3,
            ..Default::default()
        };
        let mut budgets = Budgets::default();
        for _ in 0..2 {
            park(&mut budgets, "w1", "a", Step::Freeze);
        }
        assert_eq!(budgets.judge(&limits, |_| false), None, "a budget may be used up");
        park(&mut budgets, "w1", "a", Step::Dump);
        let Some(Verdict::Quarantine { host, reason }) = budgets.judge(&limits, |_| false) else {
            panic!("{budgets:?}")
        };
        assert_eq!(host.as_str(), "a");
        assert_eq!(reason, "3 parked, at most 2 may be: DRV-0203 no room (3); at a (3)");
        assert_eq!(budgets.judge(&limits, |name| name == "a"), None, "it is set aside already");
        for source in ["b", "c", "d"] {
            park(&mut budgets, "w1", source, Step::Import);
        }
        let Some(Verdict::Pause { reason }) = budgets.judge(&limits, |name| name == "a") else {
            panic!("{budgets:?}")
        };
        assert!(reason.starts_with("wave w1: 6 parked"), "{reason}");
        assert_eq!(budgets.judge(&Limits::default(), |_| false), None, "0 is no budget");
        budgets.reset();
        assert_eq!(budgets.judge(&limits, |_| false), None);
    }

    #[test]
    fn what_fails_at_the_dns_is_no_servers_fault() {
        let mut budgets = Budgets::default();
        for _ in 0..9 {
            park(&mut budgets, "w1", "a", Step::Switch);
        }
        let limits =
            Limits { source_failures_max: 1, destination_failures_max: 1, ..Default::default() };
        assert_eq!(budgets.judge(&limits, |_| false), None);
    }
}
