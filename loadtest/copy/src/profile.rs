//! Where the time of a measurement goes: processor time by process, and what the servers count, each
//! for one database. On a machine that holds everything that is what the rates follow from; and what a
//! flush costs on its disk.

use std::{collections::BTreeMap, fs, os::unix::fs::FileExt as _, path::Path, time::Instant};

use anyhow::{Context as _, Result};
use drover_testbed::Mariadb;
use mysql_async::prelude::Queryable as _;
use nix::sys::resource::{UsageWho, getrusage};
use serde_json::{Map, Value, json};

use crate::{median, round, stage::Stage};

/// The servers' counters that are told, and under which name.
const COUNTERS: [(&str, &str); 5] = [
    ("Connections", "connections"),
    ("Questions", "statements"),
    ("Handler_commit", "commits"),
    ("Innodb_data_fsyncs", "data_file_flushes"),
    ("Binlog_commits", "binlog_commits"),
];

/// How often the disk is asked for a flush.
const FLUSHES: u64 = 100;

/// What was used up to a moment: processor seconds by process, and the servers' counters.
pub struct Meter {
    cpu_seconds: BTreeMap<String, f64>,
    counted: BTreeMap<String, u64>,
}

impl Meter {
    /// The state at this moment.
    pub async fn read(stage: &Stage) -> Result<Self> {
        let mut counted = BTreeMap::new();
        for (side, server) in servers(stage) {
            for (name, number) in counters(server).await? {
                counted.insert(format!("{side}_{name}"), number);
            }
        }
        Ok(Self { cpu_seconds: cpu_seconds(stage)?, counted })
    }

    /// What was used since, for each of so many databases: CPU in milliseconds, and counts.
    pub async fn since(&self, stage: &Stage, databases: usize) -> Result<Value> {
        let now = Self::read(stage).await?;
        let (mut cpu, mut all, number) = (Map::new(), 0.0, databases as f64);
        for (name, seconds) in &now.cpu_seconds {
            let used = seconds - self.cpu_seconds.get(name).copied().unwrap_or_default();
            let ms = used * 1000.0 / number;
            all += ms;
            cpu.insert(name.clone(), json!(round(ms)));
        }
        cpu.insert("all".into(), json!(round(all)));
        let mut counts = Map::new();
        for (name, counted) in &now.counted {
            let before = self.counted.get(name).copied().unwrap_or_default();
            counts
                .insert(name.clone(), json!(round(counted.saturating_sub(before) as f64 / number)));
        }
        Ok(json!({ "cpu_ms": cpu, "counts": counts }))
    }
}

fn servers(stage: &Stage) -> [(&'static str, &Mariadb); 2] {
    [("source", stage.source()), ("destination", stage.destination())]
}

async fn counters(server: &Mariadb) -> Result<Vec<(String, u64)>> {
    let mut root = server.root().await?;
    let status: Vec<(String, String)> = root.query("SHOW GLOBAL STATUS").await?;
    root.disconnect().await?;
    let of = |(counter, name): (&str, &str)| {
        let (_, number) = status.iter().find(|(known, _)| known == counter)?;
        Some((name.to_owned(), number.parse().ok()?))
    };
    Ok(COUNTERS.into_iter().filter_map(of).collect())
}

/// The two servers; this program and what it started and has waited for; and whatever else runs in
/// the stage's folder, by its program's name.
fn cpu_seconds(stage: &Stage) -> Result<BTreeMap<String, f64>> {
    let mut used = BTreeMap::new();
    let mut known = vec![std::process::id()];
    for (side, server) in servers(stage) {
        let file = stage.fleet.bed.dir().join(format!("{}.pid", server.name()));
        let pid: u32 = fs::read_to_string(&file).context("a server's pid")?.trim().parse()?;
        used.insert(side.to_owned(), of_process(pid).context("a server has gone")?);
        known.push(pid);
    }
    let mut programs = 0.0;
    for who in [UsageWho::RUSAGE_SELF, UsageWho::RUSAGE_CHILDREN] {
        let usage = getrusage(who)?;
        for time in [usage.user_time(), usage.system_time()] {
            programs += time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
        }
    }
    used.insert("programs".into(), programs);
    let folder = stage.fleet.bed.dir().display().to_string();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let Ok(pid) = name.parse::<u32>() else { continue };
        // A process may end while it is looked at.
        let text = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).ok();
        let (Some(command), Some(program)) = (text("cmdline"), text("comm")) else { continue };
        if known.contains(&pid) || !command.contains(&folder) || program.trim() == "sh" {
            continue;
        }
        if let Some(seconds) = of_process(pid) {
            *used.entry(program.trim().to_owned()).or_default() += seconds;
        }
    }
    Ok(used)
}

fn of_process(pid: u32) -> Option<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // After the name, which is in brackets and may hold anything.
    let (_, fields) = stat.rsplit_once(')')?;
    // User and system time, in hundredths of a second on Linux.
    let ticks = fields.split_whitespace().skip(11).take(2);
    Some(ticks.filter_map(|field| field.parse::<f64>().ok()).sum::<f64>() / 100.0)
}

/// What one flush of a file in this folder takes, in microseconds: everything that is measured on
/// servers which flush at each commit depends on it.
pub fn flush_us(folder: &Path) -> Result<f64> {
    let path = folder.join("flush");
    let file = fs::File::create(&path)?;
    let mut took = Vec::new();
    for n in 0..FLUSHES {
        let began = Instant::now();
        file.write_all_at(&[1; 512], n * 512)?;
        file.sync_data()?;
        took.push(began.elapsed().as_secs_f64() * 1e6);
    }
    fs::remove_file(path)?;
    Ok(round(median(&mut took)))
}
