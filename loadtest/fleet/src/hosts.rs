//! Hosts that get fewer slots for what they say that they are under, beside hosts with fixed slots.
//!
//! Each number of a destination's slots has a campaign of its own on a bus of its own, with the same
//! databases in the same order; and so has one with the largest number, whose hosts are held down where
//! more steps run than their knee. In the middle a neighbour doubles its load at every host: half of the
//! knee is left. Past it a host does less work in all.
//!
//! The bound is on what runs at a host, its neighbour's share included. So whoever sets it needs to know
//! what a host can bear, but not how many migrations that is, nor what else is there.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use drover_schemas::v1::Limits;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::{Value, json};

use crate::{
    compare::{cells, row, span},
    course::{Course, FIXED_SHARE, Measured, Measuring, Plan, course},
    herd::Fleet,
    log::HostSlots,
    record::Span,
    trial::round,
};

/// What to compare. Takes six and a half minutes.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// As one JSON document.
    #[arg(long)]
    json: bool,
    /// How many slots a destination has, separated by commas, in growing order.
    #[arg(long, value_delimiter = ',', default_values_t = [4, 8, 16, 32, 64])]
    settings: Vec<u32>,
    /// The slots of the campaign: more than its hosts have.
    #[arg(long, default_value_t = 800)]
    max_in_flight: u32,
    #[command(flatten)]
    measuring: Measuring,
}

/// What the fleet is here where nothing else is said: in real time, so slow that a campaign does some
/// thirty migrations a second, with few destinations, which are what limits it.
pub fn with_defaults(command: clap::Command) -> clap::Command {
    let defaults = [
        ("time_scale", "1"),
        ("stretch", "5"),
        ("spread", "0.4"),
        ("sources", "100"),
        ("per_source", "8"),
        ("destinations", "10"),
    ];
    defaults.into_iter().fold(command, |command, (name, value)| {
        command.mut_arg(name, |argument| argument.default_value(value))
    })
}

/// Hosts that are held down beside those that are not.
struct Comparison {
    /// With fixed slots, in growing order.
    fixed: Vec<(u32, Course)>,
    /// With the most slots and the bound.
    held: Course,
    /// How many slots that is.
    most: u32,
    destinations: u32,
}

/// Compares and prints; whether every promise held.
///
/// # Errors
/// When a process does not come up, or a campaign has come to its end before it was measured.
pub async fn run(args: &Args) -> Result<bool> {
    ensure!(args.settings.is_sorted(), "the settings are in growing order");
    let most = *args.settings.last().context("without a setting there is nothing to compare")?;
    let bound = Limits { threads_running_max: args.measuring.fleet.knee, ..Limits::default() };
    let fixed = args.settings.iter().map(|&slots| async move {
        anyhow::Ok((slots, course(plan(args, slots, Limits::default(), FIXED_SHARE)).await?))
    });
    let fixed = stream::iter(fixed).buffered(args.measuring.at_once.max(1)).try_collect::<Vec<_>>();
    let (held, fixed) = tokio::try_join!(course(plan(args, most, bound, 1.0)), fixed)?;
    let destinations = args.measuring.fleet.destinations;
    let comparison = Comparison { fixed, held, most, destinations };
    if args.json {
        println!("{:#}", comparison.json());
    } else {
        print!("{}", comparison.table());
    }
    Ok(comparison.breaches() == 0)
}

fn plan(args: &Args, per_destination: u32, limits: Limits, settle: f64) -> Plan {
    let fleet = Fleet { per_destination, ..args.measuring.fleet.clone() };
    args.measuring.plan(fleet, args.max_in_flight, limits, settle)
}

impl Comparison {
    fn breaches(&self) -> u64 {
        self.courses().map(|(_, course)| course.breaches).sum()
    }

    /// All of them, with what their slots are called.
    fn courses(&self) -> impl Iterator<Item = (String, &Course)> {
        let fixed = self.fixed.iter().map(|(slots, course)| (slots.to_string(), course));
        fixed.chain([(format!("held down from {}", self.most), &self.held)])
    }

    /// The best fixed setting of one of the two measurements.
    fn best(&self, n: usize) -> (u32, Span) {
        let did = self.fixed.iter().map(|(slots, course)| (*slots, course.measured[n].span));
        did.max_by(|a, b| a.1.per_second.total_cmp(&b.1.per_second)).unwrap_or_default()
    }

    /// Throughput, and p99 of the time frozen, of the hosts that are held down against the best.
    fn ratios(&self, n: usize) -> [f64; 2] {
        let (held, best) = (self.held.measured[n].span, self.best(n).1);
        let ratio = |of: fn(&Span) -> f64| of(&held) / of(&best).max(f64::MIN_POSITIVE);
        [ratio(|span| span.per_second), ratio(|span| span.frozen_ms[1])]
    }

    /// The slots that a destination had on average while it was measured.
    fn slots(&self, n: usize) -> f64 {
        let (changes, own) = (&self.held.host_slots, self.most);
        mean_slots(changes, &self.held.measured[n], own, self.destinations)
    }

    fn json(&self) -> Value {
        let fixed = self.fixed.iter().map(|(slots, course)| {
            let [before, after] = course.measured.map(|measured| span(&measured.span));
            json!({ "slots": slots, "before": before, "after": after })
        });
        let found = |n: usize| {
            let [throughput, frozen] = self.ratios(n);
            json!({
                "held": span(&self.held.measured[n].span),
                "slots": round(self.slots(n)),
                "best_slots": self.best(n).0,
                "throughput_ratio": round(throughput),
                "frozen_ms_p99_ratio": round(frozen),
            })
        };
        json!({
            "breaches": self.breaches(),
            "fixed": fixed.collect::<Vec<_>>(),
            "before": found(0),
            "after": found(1),
            "changes": self.held.host_slots,
        })
    }

    fn table(&self) -> String {
        let mut lines = vec![
            format!("{:20}{:>26}   {:>26}", "", "before", "a neighbour's load doubled"),
            row("slots", [["opened/s", "p99 frozen s"]; 2].map(|head| head.map(str::to_owned))),
        ];
        let of = |course: &Course| course.measured.map(|measured| cells(&measured.span));
        lines.extend(self.fixed.iter().map(|(slots, course)| row(&slots.to_string(), of(course))));
        lines.push(row("held down", of(&self.held)));
        for (n, when) in ["before", "after"].into_iter().enumerate() {
            let ([throughput, frozen], (best, _)) = (self.ratios(n), self.best(n));
            lines.push(format!(
                "{when}: {:.1} slots a destination; {throughput:.2} of the throughput and \
                 {frozen:.2} of the p99 frozen of the best, {best}",
                self.slots(n)
            ));
        }
        lines.extend(self.courses().filter(|(_, course)| course.breaches > 0).map(
            |(slots, course)| format!("{slots} slots: {} promises were broken", course.breaches),
        ));
        lines.join("\n") + "\n"
    }
}

/// The slots of a destination on average over a measurement; `own` where it is not held down.
fn mean_slots(changes: &[HostSlots], measured: &Measured, own: u32, destinations: u32) -> f64 {
    let mut now: BTreeMap<&str, u32> = BTreeMap::new();
    let (mut at, mut sum) = (measured.from_ms, 0.0);
    let held = |now: &BTreeMap<&str, u32>| -> f64 {
        let down: u32 = now.values().map(|slots| own.saturating_sub(*slots)).sum();
        f64::from(own) - f64::from(down) / f64::from(destinations.max(1))
    };
    let of_destinations = changes.iter().filter(|change| change.host.starts_with("dst-"));
    for change in of_destinations.filter(|change| change.at_ms < measured.until_ms) {
        let until = change.at_ms.max(at);
        sum += held(&now) * (until - at) as f64;
        at = until;
        match change.slots_max {
            0 => now.remove(change.host.as_str()),
            slots_max => now.insert(&change.host, slots_max),
        };
    }
    sum += held(&now) * (measured.until_ms - at) as f64;
    sum / ((measured.until_ms - measured.from_ms).max(1)) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_averaged_over_hosts_and_time() {
        let change = |at_ms, host: &str, slots_max| HostSlots {
            at_ms,
            host: host.to_owned(),
            slots_max,
            reason: String::new(),
        };
        let measured = Measured { from_ms: 100, until_ms: 200, span: Span::default() };
        assert_eq!(mean_slots(&[], &measured, 8, 2), 8.0);
        let changes = [
            change(50, "dst-0", 4),
            change(60, "src-0", 1),
            change(150, "dst-1", 4),
            change(175, "dst-0", 0),
            change(300, "dst-0", 1),
        ];
        // Half of the time 4 and 8, a quarter 4 and 4, a quarter 8 and 4.
        assert_eq!(mean_slots(&changes, &measured, 8, 2), 5.5);
    }
}
