//! The views as compact tables.

use super::text::{count, duration, printable, seconds, time};
use crate::view::{Counts, FailureGroup, Foreseen, Frozen, HostStatus, Status, WaveStatus};

/// How many waves are shown: a screen holds little more.
const WAVES_MAX: usize = 12;
/// How many hosts that stand out are shown.
const HOSTS_MAX: usize = 5;
/// How wide the first column is; a longer wave's name pushes its line to the right.
const LABEL_COLUMNS: usize = 16;

/// A campaign's status in some twenty lines.
pub fn status(status: &Status) -> String {
    let phase = if status.phase.is_empty() { "not created" } else { status.phase.as_str() };
    let mut out = format!("{}: {}", printable(&status.campaign), printable(phase));
    if status.in_flight_max > 0 {
        out.push_str(&format!(", {}", count(status.in_flight_max, "slot")));
    }
    out.push_str("\n\n");
    counts(status, &mut out);
    out.push('\n');
    let mut line = |label: &str, text: String| out.push_str(&format!("{label:<16}  {text}\n"));
    let steps = steps(status);
    if !steps.is_empty() {
        line("now", steps);
    }
    line("rate", rate(status));
    if let Some(foreseen) = &status.foreseen {
        for (label, text) in ends(foreseen) {
            line(&label, text);
        }
    }
    line("time frozen", frozen(status));
    if status.frozen.promised_seconds > 0.0 {
        line("promise", promise(&status.frozen));
    }
    line("failures", failures_in_short(status));
    let hosts = hosts_that_stand_out(&status.hosts);
    if !hosts.is_empty() {
        line("hosts", hosts);
    }
    if !status.quarantined.is_empty() {
        line("set aside", printable(&status.quarantined.join(", ")).into_owned());
    }
    if !status.held_down.is_empty() {
        line("held down", held_down(&status.held_down));
    }
    if status.set_aside > 0 {
        let events = count(status.set_aside, "event");
        line("log", format!("{events} cannot be read or do not fit; see the projector's log"));
    }
    out
}

/// The first few, and how many more.
fn held_down(hosts: &[String]) -> String {
    let named = hosts.iter().take(HELD_DOWN_NAMED_MAX).cloned().collect::<Vec<_>>().join(", ");
    let named = printable(&named).into_owned();
    match hosts.len().saturating_sub(HELD_DOWN_NAMED_MAX) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}

/// How many hosts that are held down are named.
const HELD_DOWN_NAMED_MAX: usize = 8;

const HEADER: [&str; 8] =
    ["total", "planned", "held", "in flight", "finishing", "parked", "completed", "rolled back"];

fn counts(status: &Status, out: &mut String) {
    row("", &HEADER.map(str::to_owned), out);
    row("all", &numbers(&status.counts), out);
    let mut waves: Vec<&WaveStatus> =
        status.waves.iter().filter(|wave| !wave.wave.is_empty()).collect();
    // Those that are under way first: what is over or has not begun says little.
    waves.sort_by_key(|wave| {
        let Counts { total, planned, completed, rolled_back, .. } = wave.counts;
        planned == total || completed + rolled_back == total
    });
    for wave in waves.iter().take(WAVES_MAX) {
        row(&format!("wave {}", printable(&wave.wave)), &numbers(&wave.counts), out);
    }
    let left_out = waves.len().saturating_sub(WAVES_MAX) as u64 + status.waves_left_out;
    if left_out > 0 {
        out.push_str(&format!("and {}\n", count(left_out, "wave")));
    }
}

fn numbers(counts: &Counts) -> [String; 8] {
    let Counts { total, planned, held, in_flight, finishing, parked, completed, rolled_back } =
        *counts;
    [total, planned, held, in_flight, finishing, parked, completed, rolled_back]
        .map(|n| n.to_string())
}

fn row(label: &str, cells: &[String; 8], out: &mut String) {
    out.push_str(&format!("{label:<LABEL_COLUMNS$}"));
    for (cell, header) in cells.iter().zip(HEADER) {
        let width = header.len().max(7);
        out.push_str(&format!("  {cell:>width$}"));
    }
    out.push('\n');
}

/// The steps in the order of a migration's life.
const STEPS: [&str; 16] = [
    "freeze", "dump", "import", "verify", "disarm", "open", "switch", "retire", "publish",
    "announce", "expire", "settling", "revert", "close", "drop", "thaw",
];

fn steps(status: &Status) -> String {
    let of_step = |step: &&str| status.phases.get(*step).map(|count| format!("{step} {count}"));
    STEPS.iter().filter_map(of_step).collect::<Vec<_>>().join(", ")
}

fn rate(status: &Status) -> String {
    let per_hour = |rate: f64| format!("{} an hour", rate.round() as u64);
    let now = status.rate_per_hour.map(per_hour);
    let mut text = now.unwrap_or_else(|| "none completed in the last ten minutes".to_owned());
    if let Some(overall) = status.rate_per_hour_overall {
        text.push_str(&format!("; {} over all", per_hour(overall)));
    }
    let left = status.time_left_seconds.filter(|_| status.foreseen.is_none());
    if let (Some(left), true) = (left, status.counts.remaining() > 0) {
        text.push_str(&format!("; {} left", duration(left)));
    }
    text
}

/// When it ends, wave by wave, within its hours, and who will be the last.
fn ends(foreseen: &Foreseen) -> Vec<(String, String)> {
    let Foreseen { low_seconds, high_seconds, tail, waves, window_left_seconds } = foreseen;
    let mut lines = vec![("ends".to_owned(), between(*low_seconds, *high_seconds))];
    for (wave, low, high) in waves {
        // The last one ends with the campaign.
        if (low, high) == (low_seconds, high_seconds) {
            continue;
        }
        lines.push((format!("wave {}", printable(wave)), between(*low, *high)));
    }
    if let Some(left) = window_left_seconds {
        let fits = match (low_seconds <= left, high_seconds <= left) {
            (_, true) => "all of it fits",
            (true, false) => "it may not fit",
            (false, false) => "it does not fit",
        };
        let left = duration(left.floor() as u64);
        lines.push(("window".to_owned(), format!("{left} of it left: {fits}")));
    }
    let last =
        |(host, share): &(String, f64)| format!("{} ({:.0} %)", printable(host), 100.0 * share);
    if !tail.is_empty() {
        let last = tail.iter().map(last).collect::<Vec<_>>().join(", ");
        lines.push(("last may be".to_owned(), last));
    }
    lines
}

fn between(low: f64, high: f64) -> String {
    let text = |seconds: f64| duration(seconds.ceil() as u64);
    format!("in {} to {} (9 of 10 times)", text(low), text(high))
}

fn frozen(status: &Status) -> String {
    let frozen = &status.frozen;
    let mut text = match (frozen.median_seconds, frozen.p99_seconds, frozen.max_seconds) {
        (Some(median), Some(p99), Some(max)) => {
            format!("median {}, p99 {}, longest {}", seconds(median), seconds(p99), seconds(max))
        }
        _ => "no destination has opened yet".to_owned(),
    };
    if let Some(longest) = frozen.frozen_now_longest_seconds {
        let longest = seconds(longest);
        text.push_str(&format!("; {} frozen now, up to {longest}", frozen.frozen_now));
    }
    text
}

/// The longest that a customer may be without writes, and what is done to keep that.
fn promise(frozen: &Frozen) -> String {
    let mut text = format!("at most {}", seconds(frozen.promised_seconds));
    if frozen.deferrals > 0 {
        text.push_str(&format!("; put off to keep it: {}", count(frozen.deferrals, "time")));
    }
    if let Some(at) = frozen.next_thaw_unix_ms {
        text.push_str(&format!("; the next source thaws itself at {}", time(at)));
    }
    text
}

fn failures_in_short(status: &Status) -> String {
    if status.failures == 0 && status.counts.parked == 0 {
        return "none".to_owned();
    }
    format!(
        "{}, {} parked; see: drover failures {}",
        count(status.failures, "failed attempt"),
        status.counts.parked,
        printable(&status.campaign)
    )
}

/// Those with most failures.
fn hosts_that_stand_out(hosts: &[HostStatus]) -> String {
    let mut failing: Vec<&HostStatus> = hosts.iter().filter(|host| host.failures > 0).collect();
    failing.sort_by(|a, b| b.failures.cmp(&a.failures).then_with(|| a.host.cmp(&b.host)));
    let left_out = failing.len().saturating_sub(HOSTS_MAX) as u64;
    let mut texts: Vec<String> = failing
        .iter()
        .take(HOSTS_MAX)
        .map(|host| format!("{}: {}", printable(&host.host), count(host.failures, "failure")))
        .collect();
    if left_out > 0 {
        texts.push(format!("and {}", count(left_out, "host")));
    }
    texts.join(", ")
}

/// Failures by signature, a paragraph each.
pub fn failures(groups: &[FailureGroup]) -> String {
    if groups.is_empty() {
        return "no failures\n".to_owned();
    }
    groups.iter().map(group).collect::<Vec<_>>().join("\n")
}

fn group(group: &FailureGroup) -> String {
    let FailureGroup { example, .. } = group;
    let nature =
        if group.transient { "may go away by itself" } else { "does not go away by itself" };
    let mut hosts: Vec<String> = group
        .hosts
        .iter()
        .map(|host| format!("{} ({})", printable(&host.host), host.count))
        .collect();
    if group.hosts_left_out > 0 {
        hosts.push(format!("and {}", count(group.hosts_left_out, "host")));
    }
    let mut out = format!(
        "{} {}\n  {}\n  {} of {}, {} parked now; {nature}\n  first {}, last {}\n",
        printable(&group.code),
        printable(&group.title),
        printable(&group.signature),
        count(group.count, "failure"),
        count(group.migrations, "migration"),
        group.waiting,
        time(group.first_seen_unix_ms),
        time(group.last_seen_unix_ms),
    );
    if !hosts.is_empty() {
        out.push_str(&format!("  at {}\n", hosts.join(", ")));
    }
    out.push_str(&format!(
        "  e.g. {}, migration {}: {}\n",
        printable(&example.database),
        example.migration,
        printable(&example.message)
    ));
    if !group.remedy.is_empty() {
        out.push_str(&format!("  now: {}\n", printable(&group.remedy)));
    }
    out.push_str(&format!("  page: {}\n", printable(&group.page)));
    out
}
