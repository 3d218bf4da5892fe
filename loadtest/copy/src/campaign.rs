//! Whole migrations, as an operator starts them: freeze, dump, accounts, load, verify, open, host
//! names, retire, mail, with every event, by `drover serve all` on the stage's servers.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use chrono::{DateTime, FixedOffset};
use drover_testbed::{Process, fleet::ZONE};
use serde_json::Value;

use crate::stage::Stage;

/// How often it is asked whether all are done: seldom, as the question takes its time from what is
/// measured. When that was is read in the events.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long nothing may complete.
const STANDSTILL_MAX: Duration = Duration::from_secs(60);

/// Drover, running.
pub struct Drover<'a> {
    stage: &'a Stage,
    config: PathBuf,
    program: PathBuf,
}

impl<'a> Drover<'a> {
    /// Makes its configuration and its place on the bus.
    pub async fn new(stage: &'a Stage) -> Result<Self> {
        let config = stage.fleet.write_config()?;
        let program = std::env::current_exe()?.with_file_name("drover");
        if !program.is_file() {
            bail!("{} is missing: run ops/bench, which builds it", program.display());
        }
        let drover = Self { stage, config, program };
        drover.say(&["init", "--streams"]).await?;
        Ok(drover)
    }

    /// Migrates databases, whose host names are theirs; the seconds from the campaign's start to the
    /// end of the last one, as its events tell them. The services run only meanwhile.
    pub async fn migrate(
        &self,
        campaign: &str,
        databases: &[String],
        in_flight: u32,
    ) -> Result<f64> {
        let inventory = self.inventory(campaign, databases)?;
        let services = self.stage.fleet.bed.spawn("drover", self.command(&["serve", "all"]))?;
        self.say(&["plan", campaign, "--inventory", &inventory.display().to_string()]).await?;
        let in_flight = in_flight.to_string();
        self.say(&["start", campaign, "--max-in-flight", &in_flight]).await?;
        self.until_done(campaign, databases.len() as u64, &services).await?;
        let events = self.say(&["events", campaign, "--json"]).await?;
        services.stop()?;
        seconds(&events)
    }

    async fn until_done(&self, campaign: &str, total: u64, services: &Process) -> Result<()> {
        let (mut completed, mut since) = (0, Instant::now());
        while completed < total {
            tokio::time::sleep(LOOK_EVERY).await;
            let status: Value =
                serde_json::from_str(&self.say(&["status", campaign, "--json"]).await?)?;
            let now = status["completed"].as_u64().context("status without `completed`")?;
            if now != completed {
                (completed, since) = (now, Instant::now());
            }
            let is_stuck = since.elapsed() > STANDSTILL_MAX;
            if services.has_ended() || status["parked"] != 0 || is_stuck {
                self.stage.fleet.bed.keep()?;
                let folder = self.stage.fleet.bed.dir().display();
                bail!("{completed} of {total} completed, and no more; see {folder}: {status}");
            }
        }
        Ok(())
    }

    fn inventory(&self, campaign: &str, databases: &[String]) -> Result<PathBuf> {
        let mut text = String::from("database,source,destination,host_names,wave,owner\n");
        for database in databases {
            text.push_str(&format!(
                "{database},src-1,dst-1,{}.{ZONE},,{database}@customers.example\n",
                host_name(database)
            ));
        }
        let path = Path::new(self.stage.fleet.bed.dir()).join(format!("{campaign}.csv"));
        std::fs::write(&path, text)?;
        Ok(path)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.env("DROVER_CONFIG", &self.config).args(arguments);
        command
    }

    async fn say(&self, arguments: &[&str]) -> Result<String> {
        let mut command = tokio::process::Command::from(self.command(arguments));
        let output = command.kill_on_drop(true).output().await?;
        if !output.status.success() {
            bail!("{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(String::from_utf8(output.stdout)?)
    }
}

/// From the campaign's start to the last completed migration.
fn seconds(events: &str) -> Result<f64> {
    let (mut began, mut ended): (Option<DateTime<FixedOffset>>, _) = (None, None);
    for line in events.lines() {
        let event: Value = serde_json::from_str(line)?;
        let time = DateTime::parse_from_rfc3339(event["time"].as_str().unwrap_or_default())?;
        match event["type"].as_str() {
            Some("drover.v1.CampaignStarted") => began = Some(time),
            Some("drover.v1.MigrationCompleted") => ended = ended.max(Some(time)),
            _ => {}
        }
    }
    let took = ended.context("nothing completed")? - began.context("not started")?;
    Ok(took.as_seconds_f64())
}

/// The host name of a database, in the stage's zone.
pub fn host_name(database: &str) -> String {
    database.replace('_', "-")
}
