//! Memory: how much all services in one process take at the most, while many small databases move
//! and a large one beside them.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use drover_testbed::{Bed, Fleet, fleet::Plan, mariadb::Settings};
use serde_json::Value;
use tokio::time::sleep;

use crate::{herd::Herd, watch::memory_peak_kb, world::binary};

/// The campaign.
const CAMPAIGN: &str = "memory";
/// The most that the process may take, in MB.
const MEMORY_MB_MAX: u64 = 300;
/// How many databases are in work at each server, and in all.
const SLOTS: u32 = 8;
/// The promise of a longest time frozen, in milliseconds.
const FROZEN_MS_MAX: &str = "3600000";
/// How long nothing may complete: a large database takes its time.
const STANDSTILL_MAX: Duration = Duration::from_secs(1_800);
/// How often is looked.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Measures the memory of `drover serve all` over a campaign. Exit codes: 0 it stayed within its
/// bound and every database moved, 1 not so, 2 wrong usage.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How many small databases move.
    #[arg(long, default_value_t = 1_000)]
    databases: usize,
    /// The size of the large one, in MB.
    #[arg(long, default_value_t = 2_048)]
    large_mb: u64,
}

/// Measures; whether it stayed within its bound.
///
/// # Errors
/// When the campaign did not come to its end.
pub async fn run(args: Args) -> Result<bool> {
    let mut herd = Herd::new(args.databases, 1);
    herd.add_large(args.large_mb << 20);
    let total = herd.movers.len() as u64;
    let options = ["--innodb-flush-log-at-trx-commit=2", "--sync-binlog=0"];
    let more_options = options.map(str::to_owned).to_vec();
    let settings = Settings { relaxed_durability: false, more_options };
    let plan = Plan { sources: 1, destinations: 1, slots: SLOTS, both_ways: false, settings };
    println!("sowing {} databases, and one of {} MB", args.databases, args.large_mb);
    let fleet = Fleet::start(Bed::new()?, &plan, |sources| herd.records(sources)).await?;
    herd.sow(&fleet).await?;
    let (config, binary) = (fleet.write_config()?, binary()?);
    let command = |arguments: &[&str]| {
        let mut command = Command::new(&binary);
        // What is measured is memory, on whatever machine: the large one may take its time.
        command.env("DROVER_CONFIG", &config).env("DROVER_CAMPAIGN__MAX_FROZEN_MS", FROZEN_MS_MAX);
        command.args(arguments);
        command
    };
    let inventory = herd.write_inventory(&fleet)?.display().to_string();
    say(command(&["init", "--streams"])).await?;
    let services = fleet.bed.spawn("drover", command(&["serve", "all"]))?;
    say(command(&["plan", CAMPAIGN, "--inventory", &inventory])).await?;
    say(command(&["start", CAMPAIGN])).await?;
    let (began, mut peak_kb) = (Instant::now(), 0);
    let (mut completed, mut since) = (0, Instant::now());
    while completed < total {
        sleep(LOOK_EVERY).await;
        peak_kb = memory_peak_kb(services.pid()).unwrap_or(0).max(peak_kb);
        let status: Value =
            serde_json::from_str(&say(command(&["status", CAMPAIGN, "--json"])).await?)?;
        let now = status["completed"].as_u64().unwrap_or(0);
        if now != completed {
            (completed, since) = (now, Instant::now());
        }
        if services.has_ended() || status["parked"] != 0 || since.elapsed() > STANDSTILL_MAX {
            fleet.bed.keep()?;
            let folder = fleet.bed.dir().display();
            bail!("{completed} of {total} completed, and no more; see {folder}: {status}");
        }
    }
    let peak_mb = peak_kb >> 10;
    println!(
        "{completed} of {total} completed in {:.0} s; drover serve all took at most {peak_mb} MB of \
         {MEMORY_MB_MAX}",
        began.elapsed().as_secs_f64()
    );
    Ok(peak_mb <= MEMORY_MB_MAX)
}

async fn say(command: Command) -> Result<String> {
    let output = tokio::process::Command::from(command).kill_on_drop(true).output().await?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8(output.stdout)?)
}
