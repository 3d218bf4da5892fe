//! The limits of a campaign that a person may change while it runs, besides its slots.

use drover_schemas::v1::Limits;

use crate::{concurrency::Range, host_slots::BOUNDS};

/// What is to be another than it is; what is not named stays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Adjust {
    /// Of the campaign at one source; 0 for the source's own slots.
    pub per_source_max: Option<u32>,
    /// Of the campaign at one destination; 0 for the destination's own slots.
    pub per_destination_max: Option<u32>,
    /// Of one wave; 0 for any number.
    pub per_wave_max: Option<u32>,
    /// Switches of host names a second; 0 for any number.
    pub dns_per_second_max: Option<u32>,
    /// Messages to customers a second; 0 for any number.
    pub notices_per_second_max: Option<u32>,
    /// Waves do not wait for each other.
    pub waves_at_once: Option<bool>,
    /// The wave that must succeed before the rest; empty for none.
    pub canary_wave: Option<String>,
    /// The hours in which something is admitted; empty for all.
    pub windows: Option<Vec<String>>,
    /// The dates on which no window begins.
    pub dates_left_out: Option<Vec<String>>,
    /// How many of a wave may be parked; 0 for any number.
    pub wave_failures_max: Option<u32>,
    /// How many may be parked for what failed at one source; 0 for any number.
    pub source_failures_max: Option<u32>,
    /// The same for one destination.
    pub destination_failures_max: Option<u32>,
    /// How many threads may run at a server; 0 for any number.
    pub threads_running_max: Option<u32>,
    /// How full of what is to be flushed a server's redo log may be, in percent; 0 for any.
    pub flush_backlog_percent_max: Option<u32>,
    /// How far a replica of a server may be behind, in seconds; 0 for any time.
    pub replica_lag_seconds_max: Option<u32>,
    /// How much of a destination's disk is to be free, in percent; 0 for nothing.
    pub disk_free_percent_min: Option<u32>,
    /// The campaign's slots move by themselves between these; the inner none for a fixed number. Where they
    /// were fixed before, servers get the usual bounds ([`BOUNDS`]) for what nothing was said of.
    pub auto: Option<Option<Range>>,
}

impl Adjust {
    /// The limits with these changes.
    pub fn apply(&self, before: &Limits) -> Limits {
        let before = before.clone();
        let range = |range: Option<Range>| range.map_or((0, 0), |r| (r.floor, r.ceiling));
        let (in_flight_floor, in_flight_ceiling) =
            self.auto.map_or((before.in_flight_floor, before.in_flight_ceiling), range);
        let begins = self.auto.flatten().is_some() && before.in_flight_ceiling == 0;
        let bound = |wanted: Option<u32>, before: u32, usual: u32| {
            wanted.unwrap_or(if begins && before == 0 { usual } else { before })
        };
        Limits {
            per_source_max: self.per_source_max.unwrap_or(before.per_source_max),
            per_destination_max: self.per_destination_max.unwrap_or(before.per_destination_max),
            per_wave_max: self.per_wave_max.unwrap_or(before.per_wave_max),
            dns_per_second_max: self.dns_per_second_max.unwrap_or(before.dns_per_second_max),
            notices_per_second_max: self
                .notices_per_second_max
                .unwrap_or(before.notices_per_second_max),
            waves_at_once: self.waves_at_once.unwrap_or(before.waves_at_once),
            canary_wave: self.canary_wave.clone().unwrap_or(before.canary_wave),
            in_flight_floor,
            in_flight_ceiling,
            windows: self.windows.clone().unwrap_or(before.windows),
            dates_left_out: self.dates_left_out.clone().unwrap_or(before.dates_left_out),
            wave_failures_max: self.wave_failures_max.unwrap_or(before.wave_failures_max),
            source_failures_max: self.source_failures_max.unwrap_or(before.source_failures_max),
            destination_failures_max: self
                .destination_failures_max
                .unwrap_or(before.destination_failures_max),
            threads_running_max: bound(
                self.threads_running_max,
                before.threads_running_max,
                BOUNDS.threads_running_max,
            ),
            flush_backlog_percent_max: bound(
                self.flush_backlog_percent_max,
                before.flush_backlog_percent_max,
                BOUNDS.flush_backlog_percent_max,
            ),
            replica_lag_seconds_max: bound(
                self.replica_lag_seconds_max,
                before.replica_lag_seconds_max,
                BOUNDS.replica_lag_seconds_max,
            ),
            disk_free_percent_min: bound(
                self.disk_free_percent_min,
                before.disk_free_percent_min,
                BOUNDS.disk_free_percent_min,
            ),
        }
    }
}

/// Between what the campaign's slots move by themselves; none where they are fixed.
pub fn range(limits: &Limits) -> Option<Range> {
    let Limits { in_flight_floor, in_flight_ceiling, .. } = *limits;
    let floor = in_flight_floor.max(1);
    (in_flight_ceiling > 0).then_some(Range { floor, ceiling: in_flight_ceiling.max(floor) })
}

/// The limits in words.
pub fn words(limits: &Limits) -> String {
    let mut words = Vec::new();
    for (number, what) in [
        (limits.per_source_max, "at a source"),
        (limits.per_destination_max, "at a destination"),
        (limits.per_wave_max, "of a wave"),
        (limits.dns_per_second_max, "switches a second"),
        (limits.notices_per_second_max, "messages a second"),
        (limits.wave_failures_max, "parked of a wave"),
        (limits.source_failures_max, "parked at a source"),
        (limits.destination_failures_max, "parked at a destination"),
        (limits.threads_running_max, "threads at a server"),
        (limits.flush_backlog_percent_max, "% of a redo log to be flushed"),
        (limits.replica_lag_seconds_max, "s that a replica is behind"),
    ] {
        if number > 0 {
            words.push(format!("at most {number} {what}"));
        }
    }
    if limits.disk_free_percent_min > 0 {
        words.push(format!("at least {} % of a disk free", limits.disk_free_percent_min));
    }
    if let Some(Range { floor, ceiling }) = range(limits) {
        words.push(format!("in flight between {floor} and {ceiling} by itself"));
    }
    words.push(if limits.waves_at_once { "waves at once" } else { "waves in order" }.to_owned());
    if !limits.windows.is_empty() {
        words.push(format!("only {}", limits.windows.join(" and ")));
    }
    if !limits.dates_left_out.is_empty() {
        words.push(format!("not on {}", limits.dates_left_out.join(", ")));
    }
    if !limits.canary_wave.is_empty() {
        words.push(format!("canary wave {}", limits.canary_wave));
    }
    words.join("; ")
}
