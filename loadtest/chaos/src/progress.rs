//! How far each migration has come, from the events as `drover events --json` prints them.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use serde_json::Value;
use tokio::time::{sleep, timeout};

use crate::world::{CAMPAIGN, World};

/// How often the log is looked at, at the most.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long one look may take.
const READ_WAIT: Duration = Duration::from_secs(20);

/// The history of one migration.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// The database's name.
    pub database: String,
    /// The source's name.
    pub source: String,
    /// Its place among the others, as they were planned: the order in which they are admitted.
    pub place: usize,
    /// Its events, oldest first: the types, without their common beginning, and the whole.
    pub events: Vec<(String, Value)>,
    /// When it was seen to have come to rest.
    pub rested: Option<Instant>,
}

impl History {
    /// The type of its last event.
    pub fn last(&self) -> &str {
        self.events.last().map_or("", |(kind, _)| kind.as_str())
    }

    /// Whether the customer is at the destination for good.
    pub fn is_completed(&self) -> bool {
        self.last() == "MigrationCompleted"
    }

    /// Whether it waits for a person.
    pub fn is_parked(&self) -> bool {
        self.last() == "MigrationParked"
    }

    /// Of a parked one: whether nothing is left of it at the destination.
    pub fn is_undone(&self) -> bool {
        self.events.last().is_some_and(|(_, event)| event["data"]["undone"] == true)
    }

    /// Whether it was put off, and its time has not come: then it is to stand still.
    pub fn is_put_off(&self, now_unix_ms: i64) -> bool {
        let last = self.events.last().filter(|(kind, _)| kind == "MigrationDeferred");
        let until = last.and_then(|(_, event)| event["data"]["not_before_unix_ms"].as_i64());
        until.is_some_and(|until| now_unix_ms < until)
    }

    /// One line an event: when, what, and why where it failed.
    pub fn lines(&self) -> String {
        let line = |(kind, event): &(String, Value)| {
            let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let message = word(&event["data"]["message"]);
            format!(
                "  {}  {kind} {} {message}\n",
                word(&event["time"]),
                word(&event["data"]["code"])
            )
        };
        self.events.iter().map(line).collect()
    }

    /// The data of its last event of this type.
    pub fn last_of(&self, kind: &str) -> Option<&Value> {
        self.events.iter().rev().find(|(of, _)| of == kind).map(|(_, event)| &event["data"])
    }

    /// How many events of this type it has.
    pub fn count(&self, kind: &str) -> usize {
        self.events.iter().filter(|(of, _)| of == kind).count()
    }
}

/// All histories, by the migration's id.
#[derive(Debug, Clone, Default)]
pub struct Progress {
    /// By the migration's id.
    pub histories: BTreeMap<String, History>,
}

impl Progress {
    /// Takes in a line of `drover events --json`.
    fn take(&mut self, line: &str) -> Result<()> {
        let event: Value = serde_json::from_str(line)?;
        let subject = event["subject"].as_str().context("subject")?.to_owned();
        if subject == "campaign" {
            return Ok(());
        }
        let kind = event["type"].as_str().context("type")?;
        let kind = kind.rsplit('.').next().unwrap_or(kind).to_owned();
        let place = self.histories.len();
        let history = self.histories.entry(subject).or_default();
        if kind == "MigrationPlanned" {
            history.place = place;
            history.database = event["data"]["database"].as_str().unwrap_or_default().to_owned();
            history.source = event["data"]["source"].as_str().unwrap_or_default().to_owned();
        }
        history.events.push((kind, event));
        Ok(())
    }

    /// Takes what is known now in the place of what was known.
    fn renew(&mut self, mut now: Self) {
        for (id, history) in &mut now.histories {
            let before = self.histories.get(id).and_then(|history| history.rested);
            let rests = history.is_completed() || history.is_parked();
            history.rested = rests.then(|| before.unwrap_or_else(Instant::now));
        }
        *self = now;
    }

    /// How many of them are so.
    pub fn count(&self, so: impl Fn(&History) -> bool) -> usize {
        self.histories.values().filter(|history| so(history)).count()
    }

    /// The history of a database.
    pub fn of(&self, source: &str, database: &str) -> Option<&History> {
        let is_it = |it: &&History| it.source == source && it.database == database;
        self.histories.values().find(is_it)
    }

    /// What has not completed, one line each.
    pub fn under_way(&self) -> String {
        let open = self.histories.iter().filter(|(_, history)| !history.is_completed());
        let line = |(id, history): (&String, &History)| {
            format!("{id} {}: {}", history.database.escape_debug(), history.last())
        };
        open.map(line).collect::<Vec<_>>().join("\n")
    }

    /// The whole log, as it is now.
    pub async fn read(world: &World) -> Result<Self> {
        let mut progress = Self::default();
        for line in world.drover(&["events", CAMPAIGN, "--json"]).await?.lines() {
            progress.take(line)?;
        }
        Ok(progress)
    }
}

/// Looks at the log again and again, for as long as it is not dropped.
pub async fn follow(world: Arc<World>, progress: Arc<Mutex<Progress>>) {
    loop {
        let began = Instant::now();
        // The bus may be away; then nothing new is known.
        if let Ok(Ok(now)) = timeout(READ_WAIT, Progress::read(&world)).await {
            progress.lock().unwrap_or_else(PoisonError::into_inner).renew(now);
        }
        // A long log is not looked at so often: the machine is small.
        sleep(LOOK_EVERY.max(3 * began.elapsed())).await;
    }
}
