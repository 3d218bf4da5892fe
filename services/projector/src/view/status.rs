//! How a campaign goes.

use std::collections::BTreeMap;

use drover_schemas::CampaignName;
use rusqlite::{Connection, params};
use serde::{Deserialize, Serialize};

use crate::{Error, view};

/// Over which time the present rate is taken, in ms.
pub const RATE_WINDOW_MS: i64 = 600_000;
/// How many hosts a status lists: the answer of a projector must fit into one message of the bus
/// (1 MB), and the reference campaign has 1,080.
const HOSTS_MAX: usize = 2_000;
/// How many waves a status lists, for the same reason; the reference campaign had some 60.
const WAVES_MAX: usize = 1_000;

const HOUR_MS: f64 = 3_600_000.0;

/// How a campaign goes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Its name.
    pub campaign: String,
    /// Where it stands: planned, running, paused, completed; empty when its first event is not
    /// known.
    pub phase: String,
    /// Its slots.
    pub in_flight_max: u32,
    /// Hosts that are set aside.
    pub quarantined: Vec<String>,
    /// Hosts that are held down to so many slots for what they are under: `dst-1=2`.
    #[serde(default)]
    pub held_down: Vec<String>,
    /// All its migrations.
    #[serde(flatten)]
    pub counts: Counts,
    /// Migrations by the lifecycle's phase: a step's name while that is done.
    pub phases: BTreeMap<String, u64>,
    /// By wave, in the order of their names; the migrations without one under "".
    pub waves: Vec<WaveStatus>,
    /// Waves that are not listed, because there are too many.
    pub waves_left_out: u64,
    /// By server, in the order of their names.
    pub hosts: Vec<HostStatus>,
    /// Hosts that are not listed, because there are too many.
    pub hosts_left_out: u64,
    /// Completed migrations an hour over the last ten minutes, or since the first admission where
    /// that is not so long ago; none when none completed.
    pub rate_per_hour: Option<f64>,
    /// Completed migrations an hour, from the first admission to the last completion.
    pub rate_per_hour_overall: Option<f64>,
    /// What is not parked and has not ended, at the present rate; none without a rate. It knows neither
    /// the tail nor how sure it is: `foreseen` does.
    pub time_left_seconds: Option<u64>,
    /// When it will have come to its end. The projector does not know: the active orchestrator does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub foreseen: Option<Foreseen>,
    /// How long customers could not write.
    pub frozen: Frozen,
    /// Failed attempts.
    pub failures: u64,
    /// Messages of the log that could not be read or do not fit; they count nowhere else.
    pub set_aside: u64,
    /// When the first migration was admitted, in ms since 1970.
    pub first_admission_unix_ms: Option<i64>,
    /// When the last migration completed, in ms since 1970.
    pub last_completion_unix_ms: Option<i64>,
    /// When the last event was found, in ms since 1970.
    pub last_event_unix_ms: Option<i64>,
    /// The sequence of the last event that is in this.
    pub position: u64,
}

/// When a running campaign will have come to its end: nine times of ten between low and high.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Foreseen {
    /// In so many seconds at the soonest.
    pub low_seconds: f64,
    /// In so many seconds at the latest.
    pub high_seconds: f64,
    /// The sources that are likely to be the last, with how likely it is.
    pub tail: Vec<(String, f64)>,
    /// The next waves in their order, with the soonest and latest end of each, in seconds.
    pub waves: Vec<(String, f64, f64)>,
    /// How long the hours last in which it may run, in seconds; none where it has none.
    pub window_left_seconds: Option<f64>,
}

/// How many migrations stand where. The numbers after `total` add up to it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// All.
    pub total: u64,
    /// Wait for a slot.
    pub planned: u64,
    /// Are held back by what a pre-flight found.
    #[serde(default)]
    pub held: u64,
    /// Hold a slot.
    pub in_flight: u64,
    /// Are on their way without a slot: the host names are switched, or the last fact is to be
    /// recorded.
    pub finishing: u64,
    /// Wait for a person.
    pub parked: u64,
    /// The customer is at the destination for good.
    pub completed: u64,
    /// Were taken back, or are brought back by another migration, on a person's word.
    pub rolled_back: u64,
}

impl Counts {
    /// Adds migrations that stand in the lifecycle's phase of this name.
    fn add(&mut self, phase: &str, holds_slot: bool, count: u64) {
        self.total += count;
        let place = match (phase, holds_slot) {
            (_, true) => &mut self.in_flight,
            ("planned", false) => &mut self.planned,
            ("held", false) => &mut self.held,
            ("parked", false) => &mut self.parked,
            ("completed" | "rehearsed", false) => &mut self.completed,
            ("rolled back" | "brought back", false) => &mut self.rolled_back,
            (_, false) => &mut self.finishing,
        };
        *place += count;
    }

    /// What will come to its end without a person.
    pub fn remaining(&self) -> u64 {
        self.planned + self.in_flight + self.finishing
    }
}

/// How a wave goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaveStatus {
    /// Its name.
    pub wave: String,
    /// Its migrations.
    #[serde(flatten)]
    pub counts: Counts,
}

/// How a server goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostStatus {
    /// Its name.
    pub host: String,
    /// Migrations away from it.
    pub as_source: Counts,
    /// Migrations to it.
    pub as_destination: Counts,
    /// Attempts that failed there.
    pub failures: u64,
}

/// How long customers could not write, in seconds: from the freeze to the opened destination, by
/// the clocks of the two servers. Median and p99 are exact to a thousandth.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Frozen {
    /// How many destinations opened.
    pub opened: u64,
    /// Half of them took no longer.
    pub median_seconds: Option<f64>,
    /// 99 of 100 took no longer.
    pub p99_seconds: Option<f64>,
    /// None took longer.
    pub max_seconds: Option<f64>,
    /// The longest that the campaign's policy allows: what would take longer is undone, thawed, and
    /// tried later.
    pub promised_seconds: f64,
    /// How often a migration was put off so.
    pub deferrals: u64,
    /// How many customers cannot write now.
    pub frozen_now: u64,
    /// For how long the longest of them.
    pub frozen_now_longest_seconds: Option<f64>,
    /// When the first source will thaw itself unless its destination opens before, by the source's
    /// clock, in ms since 1970; none where none waits.
    pub next_thaw_unix_ms: Option<i64>,
}

struct Row {
    id: i64,
    status: Status,
    frozen_ms_max: i64,
    promised_ms: i64,
    deferrals: u64,
}

pub(super) fn read(
    connection: &Connection,
    campaign: &CampaignName,
    now_unix_ms: i64,
) -> Result<Status, Error> {
    let row = row(connection, campaign)?;
    let frozen = frozen(connection, &row, now_unix_ms)?;
    let Row { id, mut status, .. } = row;
    status.frozen = frozen;
    tallies(connection, id, &mut status)?;
    host_failures(connection, id, &mut status.hosts)?;
    rates(connection, id, now_unix_ms, &mut status)?;
    status.hosts.sort_by(|a, b| a.host.cmp(&b.host));
    status.waves_left_out = cut(&mut status.waves, WAVES_MAX);
    status.hosts_left_out = cut(&mut status.hosts, HOSTS_MAX);
    Ok(status)
}

fn cut<T>(list: &mut Vec<T>, length_max: usize) -> u64 {
    let left_out = list.len().saturating_sub(length_max);
    list.truncate(length_max);
    left_out as u64
}

fn row(connection: &Connection, campaign: &CampaignName) -> Result<Row, Error> {
    let id = view::known_campaign_id(connection, campaign)?;
    let statement = "SELECT phase, in_flight_max, quarantined, failures, set_aside,
        first_admission_at, last_completion_at, last_event_at, position, frozen_ms_max,
        promised_ms, deferrals, host_slots
        FROM campaign WHERE id = ?1";
    let row = connection.prepare_cached(statement)?.query_row([id], |row| {
        let (quarantined, held_down): (String, String) = (row.get(2)?, row.get(12)?);
        let words = |text: String| text.split_whitespace().map(str::to_owned).collect();
        let last_event_at: i64 = row.get(7)?;
        let status = Status {
            campaign: campaign.to_string(),
            phase: row.get(0)?,
            in_flight_max: row.get(1)?,
            quarantined: words(quarantined),
            held_down: words(held_down),
            counts: Counts::default(),
            phases: BTreeMap::new(),
            waves: Vec::new(),
            waves_left_out: 0,
            hosts: Vec::new(),
            hosts_left_out: 0,
            rate_per_hour: None,
            rate_per_hour_overall: None,
            time_left_seconds: None,
            foreseen: None,
            frozen: Frozen::default(),
            failures: row.get(3)?,
            set_aside: row.get(4)?,
            first_admission_unix_ms: row.get(5)?,
            last_completion_unix_ms: row.get(6)?,
            last_event_unix_ms: (last_event_at != 0).then_some(last_event_at),
            position: row.get(8)?,
        };
        Ok(Row {
            id,
            status,
            frozen_ms_max: row.get(9)?,
            promised_ms: row.get(10)?,
            deferrals: row.get(11)?,
        })
    })?;
    Ok(row)
}

fn tallies(connection: &Connection, id: i64, status: &mut Status) -> Result<(), Error> {
    let statement =
        "SELECT kind, name, phase, holds_slot, count FROM tally WHERE campaign = ?1 ORDER BY name";
    let mut statement = connection.prepare_cached(statement)?;
    let mut rows = statement.query([id])?;
    let mut hosts: BTreeMap<String, HostStatus> = BTreeMap::new();
    while let Some(row) = rows.next()? {
        let (kind, name): (String, String) = (row.get(0)?, row.get(1)?);
        let (phase, holds_slot, count): (String, bool, u64) =
            (row.get(2)?, row.get(3)?, row.get(4)?);
        match kind.as_str() {
            "wave" => {
                status.counts.add(&phase, holds_slot, count);
                if status.waves.last().is_none_or(|last| last.wave != name) {
                    status.waves.push(WaveStatus { wave: name, counts: Counts::default() });
                }
                if let Some(wave) = status.waves.last_mut() {
                    wave.counts.add(&phase, holds_slot, count);
                }
                *status.phases.entry(phase).or_default() += count;
            }
            "source" => host(&mut hosts, name).as_source.add(&phase, holds_slot, count),
            "destination" => host(&mut hosts, name).as_destination.add(&phase, holds_slot, count),
            _ => return Err(Error::Damaged { what: "a tally's kind", text: kind }),
        }
    }
    status.hosts = hosts.into_values().collect();
    Ok(())
}

fn host(hosts: &mut BTreeMap<String, HostStatus>, name: String) -> &mut HostStatus {
    hosts.entry(name.clone()).or_insert_with(|| HostStatus {
        host: name,
        as_source: Counts::default(),
        as_destination: Counts::default(),
        failures: 0,
    })
}

fn host_failures(
    connection: &Connection,
    id: i64,
    hosts: &mut Vec<HostStatus>,
) -> Result<(), Error> {
    let statement = "SELECT host, sum(count) FROM failure_host WHERE campaign = ?1 AND host <> '' GROUP BY host";
    let mut statement = connection.prepare_cached(statement)?;
    let mut by_name: BTreeMap<String, u64> = statement
        .query_map([id], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_, _>>()?;
    for host in hosts.iter_mut() {
        host.failures = by_name.remove(&host.host).unwrap_or_default();
    }
    // What is left is the dns and notify services.
    let (as_source, as_destination) = (Counts::default(), Counts::default());
    hosts.extend(by_name.into_iter().map(|(host, failures)| HostStatus {
        host,
        as_source,
        as_destination,
        failures,
    }));
    Ok(())
}

fn frozen(connection: &Connection, row: &Row, now_unix_ms: i64) -> Result<Frozen, Error> {
    let Row { id, frozen_ms_max, promised_ms, deferrals, .. } = *row;
    let mut statement = connection
        .prepare_cached("SELECT ms, count FROM frozen WHERE campaign = ?1 ORDER BY ms")?;
    let times: Vec<(i64, u64)> = statement
        .query_map([id], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_, _>>()?;
    let opened: u64 = times.iter().map(|(_, count)| count).sum();
    let (frozen_now, since, thaw_at): (u64, Option<i64>, Option<i64>) = connection
        .prepare_cached(
            "SELECT count(*), min(frozen_since), min(thaw_at) FROM migration
            WHERE campaign = ?1 AND frozen_since IS NOT NULL",
        )?
        .query_row([id], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    Ok(Frozen {
        promised_seconds: seconds(promised_ms),
        deferrals,
        opened,
        median_seconds: quantile(&times, opened, 50).map(seconds),
        p99_seconds: quantile(&times, opened, 99).map(seconds),
        max_seconds: (opened > 0).then(|| seconds(frozen_ms_max)),
        frozen_now,
        frozen_now_longest_seconds: since
            .map(|since| seconds(now_unix_ms.saturating_sub(since).max(0))),
        next_thaw_unix_ms: thaw_at,
    })
}

fn seconds(ms: i64) -> f64 {
    ms as f64 / 1000.0
}

/// The least time that so many of a hundred do not exceed.
fn quantile(times: &[(i64, u64)], total: u64, percent: u64) -> Option<i64> {
    let rank = (total * percent).div_ceil(100);
    let mut seen = 0;
    times.iter().find_map(|(ms, count)| {
        seen += count;
        (seen >= rank).then_some(*ms)
    })
}

fn rates(
    connection: &Connection,
    id: i64,
    now_unix_ms: i64,
    status: &mut Status,
) -> Result<(), Error> {
    let Some(first) = status.first_admission_unix_ms else { return Ok(()) };
    let begin = now_unix_ms.saturating_sub(RATE_WINDOW_MS).max(first);
    let window_ms = now_unix_ms.saturating_sub(begin);
    let statement =
        "SELECT coalesce(sum(count), 0) FROM completion WHERE campaign = ?1 AND second >= ?2";
    let recent: u64 = connection
        .prepare_cached(statement)?
        .query_row(params![id, begin.div_euclid(1000)], |row| row.get(0))?;
    status.rate_per_hour = per_hour(recent, window_ms);
    if let Some(last) = status.last_completion_unix_ms {
        let statement = "SELECT coalesce(sum(count), 0) FROM completion WHERE campaign = ?1";
        let all: u64 = connection.prepare_cached(statement)?.query_row([id], |row| row.get(0))?;
        status.rate_per_hour_overall = per_hour(all, last.saturating_sub(first));
    }
    status.time_left_seconds = match status.rate_per_hour {
        Some(rate) => Some((status.counts.remaining() as f64 * 3600.0 / rate).ceil() as u64),
        None => None,
    };
    Ok(())
}

/// None where nothing was done, or in no time.
fn per_hour(count: u64, window_ms: i64) -> Option<f64> {
    (count > 0 && window_ms > 0).then(|| count as f64 * HOUR_MS / window_ms as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_the_nearest_rank() {
        let hundred: Vec<(i64, u64)> = (1..=100).map(|ms| (ms, 1)).collect();
        assert_eq!(quantile(&hundred, 100, 50), Some(50));
        assert_eq!(quantile(&hundred, 100, 99), Some(99));
        assert_eq!(quantile(&[(7, 1)], 1, 50), Some(7));
        assert_eq!(quantile(&[(7, 1), (9, 1)], 2, 99), Some(9));
        assert_eq!(quantile(&[], 0, 50), None);
    }
}
