//! What the campaigns of `drover-fleet auto` have come to, beside each other.

use serde_json::{Value, json};

use crate::{course::Course, log::Slots, record::Span, trial::round};

/// A setting is as good as the best where it does this share of its throughput.
const AS_GOOD: f64 = 0.9;

/// `auto` beside fixed settings.
#[derive(Debug)]
pub struct Comparison {
    /// The least that `auto` may set.
    pub floor: u32,
    /// The most.
    pub ceiling: u32,
    /// The campaign whose slots move by themselves.
    pub auto: Course,
    /// Those with the sweep's fixed slots, in growing order.
    pub swept: Vec<Course>,
    /// One with as many slots as the knee was before, and one with those it was after.
    pub at_knees: Vec<Course>,
}

/// `auto` in one of the two measurements.
#[derive(Debug)]
struct Found {
    /// The sweep's best: its slots, and what it did.
    best: (u32, Span),
    /// The same of the knee.
    knee: (u32, Span),
    auto: Span,
    /// From which setting to which one is as good as the best, by what lies between those measured.
    as_good: [f64; 2],
    /// Lowest and highest that `auto` had.
    slots: [u32; 2],
    /// How often it changed its direction, but for probes.
    turns: usize,
}

impl Comparison {
    /// Whether no promise was broken, and no more was ever in flight than the ceiling.
    pub fn held(&self) -> bool {
        let is_within = |slots: &Slots| (self.floor..=self.ceiling).contains(&slots.in_flight_max);
        self.breaches() == 0
            && self.auto.in_flight_max <= self.ceiling
            && self.auto.slots.iter().all(is_within)
    }

    /// As a JSON document.
    pub fn json(&self) -> Value {
        let [before, after] = [0, 1].map(|n| self.found(n));
        let fixed: Vec<Value> = self.fixed().into_iter().map(course).collect();
        json!({
            "breaches": self.breaches(),
            "before": found(&before),
            "after": found(&after),
            "follow_seconds": self.follow_seconds(&after),
            "in_flight_max": self.auto.in_flight_max,
            "floor": self.floor,
            "ceiling": self.ceiling,
            "fixed": fixed,
            "auto": course(&self.auto),
            "changes": self.auto.slots,
        })
    }

    /// As a table, and what follows from it.
    pub fn table(&self) -> String {
        let [before, after] = [0, 1].map(|n| self.found(n));
        let mut lines = vec![
            format!("{:20}{:>26}   {:>26}", "", "before", "a neighbour's load doubled"),
            row("slots", [["opened/s", "p99 frozen s"]; 2].map(|head| head.map(str::to_owned))),
        ];
        let cells = |course: &Course| course.measured.map(|measured| cells(&measured.span));
        let fixed = self.fixed();
        lines.extend(fixed.iter().map(|it| row(&first_slots(it).to_string(), cells(it))));
        lines.push(row("auto", cells(&self.auto)));
        for (when, found) in [("before", &before), ("after", &after)] {
            let [low, high] = found.slots;
            let turns = found.turns;
            lines.push(format!(
                "{when}: auto with {low} to {high} slots, {turns} changes of direction"
            ));
            for (name, other) in [("the sweep's best", &found.best), ("the knee", &found.knee)] {
                let [throughput, frozen] = found.against(other);
                lines.push(format!(
                    "  {throughput:.2} of the throughput and {frozen:.2} of the p99 frozen of \
                     {name}, {}",
                    other.0,
                ));
            }
        }
        lines.push(match self.follow_seconds(&after) {
            Some(seconds) => format!("followed the knee after {seconds:.0} s"),
            None => "did not follow the knee".to_owned(),
        });
        lines.push(format!("in flight at most {} of {}", self.auto.in_flight_max, self.ceiling));
        lines.join("\n") + "\n"
    }

    /// All with fixed slots, in growing order.
    fn fixed(&self) -> Vec<&Course> {
        let mut fixed: Vec<&Course> = self.swept.iter().chain(&self.at_knees).collect();
        fixed.sort_by_key(|course| first_slots(course));
        fixed
    }

    fn breaches(&self) -> u64 {
        self.fixed().into_iter().chain([&self.auto]).map(|course| course.breaches).sum()
    }

    fn found(&self, n: usize) -> Found {
        let did = |it: &Course| (first_slots(it), it.measured[n].span);
        let better = |a: &(u32, Span), b: &(u32, Span)| a.1.per_second.total_cmp(&b.1.per_second);
        let measured = self.auto.measured[n];
        let slots = within(&self.auto.slots, measured.from_ms, measured.until_ms);
        let numbers = || slots.iter().map(|slots| slots.in_flight_max);
        let fixed: Vec<(u32, f64)> =
            self.fixed().into_iter().map(|it| (did(it).0, did(it).1.per_second)).collect();
        Found {
            best: self.swept.iter().map(did).max_by(better).unwrap_or_default(),
            knee: self.at_knees.get(n).map(did).unwrap_or_default(),
            auto: measured.span,
            as_good: as_good(&fixed),
            slots: [numbers().min().unwrap_or(0), numbers().max().unwrap_or(0)],
            turns: turns(slots),
        }
    }

    /// How long after the load had doubled `auto` first had a setting as good as the best one then,
    /// in seconds.
    fn follow_seconds(&self, after: &Found) -> Option<f64> {
        let since = self.auto.crowded_ms;
        let [low, high] = after.as_good;
        let is_good = |slots: &&Slots| (low..=high).contains(&f64::from(slots.in_flight_max));
        let first = within(&self.auto.slots, since, i64::MAX).iter().find(is_good)?;
        Some((first.at_ms - since).max(0) as f64 / 1e3)
    }
}

impl Found {
    /// Throughput, and p99 of the time frozen, of `auto` against another's.
    fn against(&self, (_, other): &(u32, Span)) -> [f64; 2] {
        let ratio = |of: fn(&Span) -> f64| of(&self.auto) / of(other).max(f64::MIN_POSITIVE);
        [ratio(|span| span.per_second), ratio(|span| span.frozen_ms[1])]
    }
}

/// A line of a table: what was before, and after.
pub fn row(name: &str, [before, after]: [[String; 2]; 2]) -> String {
    let pair = |[throughput, frozen]: [String; 2]| format!("{throughput:>12}{frozen:>14}");
    format!("{name:<20}{}   {}", pair(before), pair(after))
}

/// The cells of a measurement.
pub fn cells(span: &Span) -> [String; 2] {
    [format!("{:.1}", span.per_second), format!("{:.2}", span.frozen_ms[1] / 1e3)]
}

fn course(course: &Course) -> Value {
    let [before, after] = course.measured.map(|measured| span(&measured.span));
    json!({
        "slots": first_slots(course),
        "before": before,
        "after": after,
        "in_flight_max": course.in_flight_max,
        "handoff_ms_p99": round(course.summary.handoff_ms[1]),
        "failures": course.summary.failures,
    })
}

fn found(found: &Found) -> Value {
    let beside = |other: &(u32, Span)| {
        let [throughput, frozen] = found.against(other);
        json!({
            "slots": other.0,
            "measured": span(&other.1),
            "throughput_ratio": round(throughput),
            "frozen_ms_p99_ratio": round(frozen),
        })
    };
    json!({
        "sweeps_best": beside(&found.best),
        "knee": beside(&found.knee),
        "auto": span(&found.auto),
        "as_good_slots": found.as_good.map(round),
        "slots_min": found.slots[0],
        "slots_max": found.slots[1],
        "turns": found.turns,
    })
}

/// A measurement as JSON.
pub fn span(span: &Span) -> Value {
    json!({
        "opened_per_second": round(span.per_second),
        "frozen_ms_p50": round(span.frozen_ms[0]),
        "frozen_ms_p99": round(span.frozen_ms[1]),
    })
}

fn first_slots(course: &Course) -> u32 {
    course.slots.first().map_or(0, |slots| slots.in_flight_max)
}

/// The slots that were in force at some time of a span, those that it began with among them.
fn within(slots: &[Slots], from_ms: i64, until_ms: i64) -> &[Slots] {
    let begin = slots.partition_point(|slots| slots.at_ms <= from_ms).saturating_sub(1);
    let end = slots.partition_point(|slots| slots.at_ms < until_ms).max(begin);
    &slots[begin..end]
}

/// How often these go down after they went up, or up after they went down. A probe, which goes down
/// for one window and back to where it was, is none.
fn turns(slots: &[Slots]) -> usize {
    let mut directions = Vec::new();
    for pair in slots.windows(2) {
        if !pair[1].reason.contains("probe") {
            directions.push(pair[1].in_flight_max > pair[0].in_flight_max);
        }
    }
    directions.windows(2).filter(|pair| pair[0] != pair[1]).count()
}

/// From which setting to which one the throughput is as good as the best of these, which are in
/// growing order; what lies between two of them on a straight line.
fn as_good(fixed: &[(u32, f64)]) -> [f64; 2] {
    let best = (0..fixed.len()).max_by(|a, b| fixed[*a].1.total_cmp(&fixed[*b].1));
    let Some(best) = best else { return [0.0; 2] };
    let (slots, throughput) = fixed[best];
    let wanted = AS_GOOD * throughput;
    let reach = |further: &mut dyn Iterator<Item = &(u32, f64)>| {
        let mut last = (f64::from(slots), throughput);
        for &(slots, throughput) in further {
            let next = (f64::from(slots), throughput);
            if next.1 < wanted {
                return last.0 + (next.0 - last.0) * (last.1 - wanted) / (last.1 - next.1);
            }
            last = next;
        }
        last.0
    };
    [reach(&mut fixed[..best].iter().rev()), reach(&mut fixed[best + 1..].iter())]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots(numbers: &[(i64, u32, &str)]) -> Vec<Slots> {
        let one = |&(at_ms, in_flight_max, reason): &(i64, u32, &str)| Slots {
            at_ms,
            in_flight_max,
            reason: reason.to_owned(),
        };
        numbers.iter().map(one).collect()
    }

    #[test]
    fn what_is_as_good_as_the_best_lies_between_settings() {
        let swept = [(100, 50.0), (200, 100.0), (300, 95.0), (400, 85.0), (800, 20.0)];
        let [low, high] = as_good(&swept);
        assert!((low - 180.0).abs() < 1e-9 && (high - 350.0).abs() < 1e-9, "{low} {high}");
        assert_eq!(as_good(&swept[..2])[1], 200.0);
        assert_eq!(as_good(&[]), [0.0; 2]);
    }

    #[test]
    fn a_probe_is_no_change_of_direction() {
        let probed = [(0, 100, ""), (1, 120, "more"), (2, 90, "as a probe"), (3, 120, "a probe")];
        assert_eq!(turns(&slots(&probed)), 0);
        let swings = [(0, 100, ""), (1, 120, "more"), (2, 90, "fewer"), (3, 95, "more")];
        assert_eq!(turns(&slots(&swings)), 2);
    }

    #[test]
    fn the_slots_of_a_span_begin_with_those_it_found() {
        let slots = slots(&[(0, 1, ""), (10, 2, ""), (20, 3, ""), (30, 4, "")]);
        let numbers = |from, until| -> Vec<u32> {
            within(&slots, from, until).iter().map(|slots| slots.in_flight_max).collect()
        };
        assert_eq!(numbers(15, 25), [2, 3]);
        assert_eq!(numbers(20, 30), [3]);
        assert_eq!(numbers(35, i64::MAX), [4]);
    }
}
