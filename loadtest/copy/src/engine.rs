//! Drover's own copy, by the same functions and through the same store as its services: dump, load,
//! verify.

use std::{fs, path::PathBuf, process::Command, time::Instant};

use anyhow::{Context as _, Result, bail};
use drover_dumpstore::{Attempt, Object, Options as StoreOptions, Store, Written};
use drover_mysql::{Form, Manifest, Options, Order, Server, dump, freeze, import, verify};
use drover_schemas::{CampaignName, MigrationId};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde::{Deserialize, Serialize};

use crate::stage::{self, Stage};

/// A source that is frozen for so long thaws itself: longer than any measurement, in milliseconds.
const MAX_FROZEN_MS: u32 = 6 * 3_600_000;

/// How many databases are frozen side by side, and cleared.
const CONNECTIONS: usize = 4;

/// The engine between the two servers.
#[derive(Clone)]
pub struct Engine {
    /// Where databases come from.
    pub source: Server,
    /// Where they go.
    pub destination: Server,
    store: Store,
}

/// An order of the measurement's own campaign.
pub fn order(database: &str, revision: u64) -> Result<Order> {
    let campaign: CampaignName = "bench".parse()?;
    let migration = MigrationId::new(&campaign, &"src-1".parse()?, database);
    Ok(Order {
        campaign,
        migration,
        database: database.to_owned(),
        revision,
        run: 1,
        attempt: 1,
        destination_shut: true,
        rehearsal: false,
        brings_back: None,
        max_frozen_ms: MAX_FROZEN_MS,
        job: Vec::new(),
    })
}

/// A dump that is in the store.
#[derive(Debug, Serialize, Deserialize)]
pub struct Stored {
    key: String,
    bytes: u64,
    sha256: String,
}

impl Engine {
    /// The engine on this stage.
    pub fn new(stage: &Stage) -> Result<Self> {
        let url = stage.fleet.bed.dir().join("bench-store").display().to_string();
        let store = Store::open(&StoreOptions { url, ..StoreOptions::default() })?;
        let (source, destination) =
            (stage::server(stage.source())?, stage::server(stage.destination())?);
        Ok(Self { source, destination, store })
    }

    /// Freezes databases, so that they can be dumped any number of times.
    pub async fn freeze(&self, databases: &[String]) -> Result<()> {
        self.each(databases, CONNECTIONS, |engine, database| async move {
            engine.freeze_one(&database).await
        })
        .await
    }

    /// Freezes a database.
    pub async fn freeze_one(&self, database: &str) -> Result<()> {
        freeze(&self.source, &order(database, 1)?, std::time::Duration::ZERO).await?;
        Ok(())
    }

    /// Copies and compares databases, so many side by side; the seconds that it took. `round` counts
    /// from 1.
    pub async fn copy(&self, databases: &[String], round: u64, side_by_side: usize) -> Result<f64> {
        let began = Instant::now();
        self.each(databases, side_by_side, move |engine, database| async move {
            let (manifest, stored) = engine.dump(&database).await?;
            engine.load(&database, round, &manifest, &stored).await?;
            engine.verify(&database, round, &manifest).await
        })
        .await?;
        Ok(began.elapsed().as_secs_f64())
    }

    /// Takes the copies away again, and the dumps.
    pub async fn clear(&self, databases: &[String], round: u64) -> Result<()> {
        self.each(databases, CONNECTIONS, move |engine, database| async move {
            let order = order(&database, 10 * round + 2)?;
            drover_mysql::drop_copy(&engine.destination, &order).await?;
            engine.store.sweep(&order.campaign, order.migration, order.run, None).await?;
            Ok(())
        })
        .await
    }

    async fn each<F: Future<Output = Result<()>> + Send + 'static>(
        &self,
        databases: &[String],
        side_by_side: usize,
        act: impl Fn(Self, String) -> F,
    ) -> Result<()> {
        stream::iter(databases)
            .map(|database| {
                let acting = tokio::spawn(act(self.clone(), database.clone()));
                async move { acting.await?.with_context(|| format!("at {database}")) }
            })
            .buffer_unordered(side_by_side)
            .try_collect()
            .await
    }

    /// Dumps a frozen database into the store.
    pub async fn dump(&self, database: &str) -> Result<(Manifest, Stored)> {
        let order = order(database, 2)?;
        let attempt = Attempt::new(order.campaign.clone(), order.migration, 1, 1);
        let key = attempt.key(Object::Dump);
        let mut writer = self.store.write(&key);
        let contents = dump(&self.source, &order, &[], Form::Zstd, &mut writer).await?;
        let Written { bytes, sha256 } = writer.finish().await?;
        let manifest = Manifest::new(contents, String::new());
        self.store.put_small(&attempt.key(Object::Manifest), &manifest.to_json()?).await?;
        Ok((manifest, Stored { key: key.to_string(), bytes, sha256 }))
    }

    /// Loads a dump from the store.
    pub async fn load(
        &self,
        database: &str,
        round: u64,
        manifest: &Manifest,
        stored: &Stored,
    ) -> Result<()> {
        let order = order(database, 10 * round)?;
        let written = Written { bytes: stored.bytes, sha256: stored.sha256.clone() };
        let reader = self.store.read(&stored.key.parse()?, &written).await?;
        import(&self.destination, &order, &manifest.contents, None, reader).await?;
        Ok(())
    }

    /// Compares a copy with its dump.
    pub async fn verify(&self, database: &str, round: u64, manifest: &Manifest) -> Result<()> {
        let order = order(database, 10 * round + 1)?;
        verify(&self.destination, &order, &manifest.contents).await?;
        Ok(())
    }
}

/// One step in a process of its own.
#[derive(Debug, clap::Args)]
pub struct StepArgs {
    /// What the process needs, as JSON.
    task: String,
}

/// What such a process needs.
#[derive(Debug, Serialize, Deserialize)]
struct Task {
    step: Step,
    database: String,
    round: u64,
    host: String,
    password_file: PathBuf,
    store: String,
    /// Where the dump's manifest and its place in the store are passed on.
    note: PathBuf,
}

/// The steps of a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step {
    /// At the source.
    Dump,
    /// At the destination.
    Load,
    /// At the destination.
    Verify,
}

/// What a step took.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Took {
    /// Its time, with the start of its process.
    #[serde(default)]
    pub seconds: f64,
    /// The most memory that its process had, in MB.
    pub memory_mb: f64,
}

/// Does the step that a process was started for, and prints what it took.
pub async fn step(args: StepArgs) -> Result<()> {
    let task: Task = serde_json::from_str(&args.task)?;
    let mut options = Options::new(task.host, drover_testbed::mariadb::PORT);
    options.password_file = task.password_file;
    let server = Server::new("here".parse()?, options)?;
    let store = Store::open(&StoreOptions { url: task.store, ..StoreOptions::default() })?;
    let engine = Engine { source: server.clone(), destination: server, store };
    if task.step == Step::Dump {
        let dumped = engine.dump(&task.database).await?;
        fs::write(&task.note, serde_json::to_vec(&dumped)?)?;
    } else {
        let (manifest, stored) = serde_json::from_slice(&fs::read(&task.note)?)?;
        match task.step {
            Step::Dump => {}
            Step::Load => engine.load(&task.database, task.round, &manifest, &stored).await?,
            Step::Verify => engine.verify(&task.database, task.round, &manifest).await?,
        }
    }
    let took = Took { seconds: 0.0, memory_mb: memory_peak_mb()? };
    println!("{}", serde_json::to_string(&took)?);
    Ok(())
}

/// Does a step in a process of its own.
pub async fn step_apart(stage: &Stage, database: &str, round: u64, step: Step) -> Result<Took> {
    let server = if step == Step::Dump { stage.source() } else { stage.destination() };
    let folder = stage.fleet.bed.dir();
    let task = Task {
        step,
        database: database.to_owned(),
        round,
        host: server.address().to_string(),
        password_file: server.drover_password_file(),
        store: folder.join("bench-store").display().to_string(),
        note: folder.join("bench-note.json"),
    };
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("step").arg(serde_json::to_string(&task)?);
    let mut command = tokio::process::Command::from(command);
    command.kill_on_drop(true);
    let began = Instant::now();
    let output = command.output().await?;
    let seconds = began.elapsed().as_secs_f64();
    if !output.status.success() {
        let text = [output.stdout, output.stderr].concat();
        bail!("{step:?}: {}", String::from_utf8_lossy(&text));
    }
    let took: Took = serde_json::from_slice(&output.stdout)?;
    Ok(Took { seconds, ..took })
}

/// The most memory that this process has had.
fn memory_peak_mb() -> Result<f64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    let kb: f64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kb / 1024.0)
}
