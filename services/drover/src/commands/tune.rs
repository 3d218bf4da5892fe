//! `drover tune`: other limits for a campaign, at any time.
//!
//! Each change is an event with its reason and who made it; what is not named stays as it is.

use std::path::Path;

use drover_lifecycle::{
    campaign::Command,
    limits::{Adjust, words},
    window::Windows,
};
use drover_schemas::{CampaignName, Code, Failure};

use super::{
    in_flight::{InFlight, Wanted},
    print,
};
use crate::{
    context::{Context, campaign_state, command_campaign, operator},
    report::Trouble,
};

/// At least one of these.
const LIMITS: [&str; 17] = [
    "max_in_flight",
    "per_source",
    "per_destination",
    "per_wave",
    "dns_per_second",
    "notify_per_second",
    "waves_at_once",
    "canary",
    "window",
    "leave_out",
    "wave_failures",
    "source_failures",
    "destination_failures",
    "threads_running",
    "flush_backlog",
    "replica_lag",
    "disk_free",
];

#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("limits").required(true).multiple(true).args(LIMITS))]
pub struct Args {
    /// The campaign's name.
    pub campaign: CampaignName,
    /// Why; recorded with each change.
    #[arg(long, default_value = "a person's word")]
    pub reason: String,
    #[command(flatten)]
    which: Which,
}

#[derive(Debug, clap::Args)]
#[group(skip)]
struct Which {
    #[command(flatten)]
    in_flight: Wanted,
    /// Of this campaign at once from one source, never more than its own slots; 0 for those.
    #[arg(long, value_name = "N")]
    per_source: Option<u32>,
    /// Of this campaign at once to one destination, never more than its own slots; 0 for those.
    #[arg(long, value_name = "N")]
    per_destination: Option<u32>,
    /// Of one wave at once; 0 for any number.
    #[arg(long, value_name = "N")]
    per_wave: Option<u32>,
    /// Switches of host names a second, and admissions, which lead to them; 0 for any number.
    #[arg(long, value_name = "R")]
    dns_per_second: Option<u32>,
    /// Messages to customers a second; 0 for any number.
    #[arg(long, value_name = "R")]
    notify_per_second: Option<u32>,
    /// Whether waves go all at once; otherwise one begins when none of those before it waits for a
    /// slot.
    #[arg(long, value_name = "BOOL")]
    waves_at_once: Option<bool>,
    /// The wave of which each migration has to complete before anything else goes; '' for none.
    #[arg(long, value_name = "WAVE")]
    canary: Option<String>,
    /// Hours in which something is admitted, such as '22:00-06:00 Europe/Paris'; may stand several
    /// times; '' for all hours. What would not finish in them is not begun, what is in flight at
    /// their end finishes.
    #[arg(long, value_name = "HOURS ZONE")]
    window: Option<Vec<String>>,
    /// A date on which no window begins, such as 2026-12-24; may stand several times; '' for none.
    #[arg(long, value_name = "DATE")]
    leave_out: Option<Vec<String>>,
    /// Past so many parked migrations of one wave the campaign pauses; 0 for any number.
    #[arg(long, value_name = "N")]
    wave_failures: Option<u32>,
    /// Past so many parked for what failed at it, a source is set aside; 0 for any number.
    #[arg(long, value_name = "N")]
    source_failures: Option<u32>,
    /// The same for a destination.
    #[arg(long, value_name = "N")]
    destination_failures: Option<u32>,
    /// Past so many threads that run at a server it gets fewer slots; 0 for any number.
    #[arg(long, value_name = "N")]
    threads_running: Option<u32>,
    /// The same where so much of its redo log waits to be flushed, in percent of what may.
    #[arg(long, value_name = "PERCENT")]
    flush_backlog: Option<u32>,
    /// The same where one of its replicas (mysql.replicas) is so many seconds behind.
    #[arg(long, value_name = "SECONDS")]
    replica_lag: Option<u32>,
    /// A destination with less of its disk free is set aside; 0 for nothing.
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u32).range(..100))]
    disk_free: Option<u32>,
}

pub async fn run(config: &Path, args: Args) -> Result<(), Trouble> {
    let Args { campaign, reason, which } = args;
    let adjust = which.adjust()?;
    let [windows, dates] = [&adjust.windows, &adjust.dates_left_out].map(Option::as_deref);
    Windows::new(windows.unwrap_or_default(), dates.unwrap_or_default())
        .map_err(|error| Failure::new(Code::WindowInvalid, error.to_string()))?;
    let context = Context::of(config, "tune", &campaign).await?;
    let bus = &context.bus;
    let limit = Command::Limit { adjust, reason: reason.clone(), by: operator() };
    let mut changed = command_campaign(bus, &campaign, limit).await?.changed;
    if let Some(InFlight::Fixed(in_flight_max)) = which.in_flight.max_in_flight {
        let tune = Command::Tune { in_flight_max, reason, by: operator() };
        changed |= command_campaign(bus, &campaign, tune).await?.changed;
    }
    let state = campaign_state(bus, &campaign).await?;
    let already = if changed { "" } else { " (as before)" };
    let limits = words(&state.limits);
    print(&format!("{campaign}: at most {} in flight; {limits}{already}\n", state.in_flight_max));
    Ok(())
}

impl Which {
    fn adjust(&self) -> Result<Adjust, Failure> {
        Ok(Adjust {
            per_source_max: self.per_source,
            per_destination_max: self.per_destination,
            per_wave_max: self.per_wave,
            dns_per_second_max: self.dns_per_second,
            notices_per_second_max: self.notify_per_second,
            waves_at_once: self.waves_at_once,
            canary_wave: self.canary.clone(),
            windows: without_empty(self.window.as_deref()),
            dates_left_out: without_empty(self.leave_out.as_deref()),
            wave_failures_max: self.wave_failures,
            source_failures_max: self.source_failures,
            destination_failures_max: self.destination_failures,
            threads_running_max: self.threads_running,
            flush_backlog_percent_max: self.flush_backlog,
            replica_lag_seconds_max: self.replica_lag,
            disk_free_percent_min: self.disk_free,
            auto: self.in_flight.auto()?,
        })
    }
}

fn without_empty(texts: Option<&[String]>) -> Option<Vec<String>> {
    texts.map(|texts| texts.iter().filter(|text| !text.is_empty()).cloned().collect())
}
