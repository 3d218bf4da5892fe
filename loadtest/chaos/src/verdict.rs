//! What must be so when everything has come to rest, asked of the servers themselves.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result};
use async_nats::jetstream::{self, consumer};
use drover_schemas::streams;
use drover_testbed::{bed::eventually, mariadb::Mariadb};
use futures::{TryStreamExt as _, future::try_join_all};
use mysql_async::prelude::Queryable as _;

use crate::{
    customers::{Book, resolve},
    herd::Mover,
    progress::{History, Progress},
    world::{CAMPAIGN, World},
};

/// How long a job of which nothing is left to do may lie on the queue: it is dropped when it is
/// given out again.
const QUEUE_WAIT: Duration = Duration::from_secs(60);
/// What a server has beside its customers' databases.
const SYSTEM: &str = "'mysql', 'information_schema', 'performance_schema', 'sys', 'drover'";

/// What the store holds of a migration that has completed.
const NEEDED: [&str; 3] = ["dump.sql.zst", "manifest.json", "mailed"];

/// A row of a customer's table: client, number, the server that took it, and when.
type Row = (String, u64, u32, String);

/// What is wrong: each a breach of a promise.
#[derive(Debug, Default)]
pub struct Verdict {
    /// One line each.
    pub breaches: Vec<String>,
    /// What was seen beside that.
    pub remarks: Vec<String>,
}

impl Verdict {
    fn breach(&mut self, of: &Mover, what: impl std::fmt::Display) {
        let (name, source) = (of.site.database.escape_debug(), &of.source);
        self.breaches.push(format!("{name} of {source}: {what}"));
    }

    /// Of every migration that is parked: the source is thawed, and nothing is left elsewhere.
    /// One whose customer is at the destination already only waits for what comes after.
    pub async fn parked(&mut self, world: &Arc<World>, progress: &Progress) -> Result<()> {
        for mover in &world.herd.movers {
            let Some(history) = progress.of(&mover.source, &mover.site.database) else { continue };
            if !history.is_parked() {
                continue;
            }
            if !history.is_undone() {
                if history.count("DnsSwitched") == 0 {
                    self.breach(mover, "is parked before the switch, and not undone");
                }
                continue;
            }
            let source = world.server(&mover.source)?;
            if let Err(error) = probe(mover, source).await {
                self.breach(mover, format!("is parked, and its source is not thawed: {error}"));
            }
            let destination = world.server(&mover.destination)?;
            if has(destination, &mover.site.database).await? {
                self.breach(mover, "is parked, and a copy is left at the destination");
            }
        }
        Ok(())
    }

    /// Of every migration, once all are completed: every acknowledged row is at the destination,
    /// nothing was accepted at both sides, and nothing was done twice.
    pub async fn completed(
        &mut self,
        world: &Arc<World>,
        progress: &Progress,
        books: &BTreeMap<usize, Book>,
    ) -> Result<()> {
        for (n, mover) in world.herd.movers.iter().enumerate() {
            let Some(history) = progress.of(&mover.source, &mover.site.database) else {
                self.breach(mover, "has no history");
                continue;
            };
            if !history.is_completed() {
                self.breach(mover, format!("has not completed: {}", history.last()));
                continue;
            }
            self.done_once(world, mover, history);
            let acknowledged = books.get(&n).map_or(&[][..], |book| &book.acknowledged);
            self.rows(world, mover, acknowledged).await?;
            self.access(world, mover).await?;
        }
        self.orphans(world, progress).await?;
        let differences = world.reconcile().await?.into_iter();
        self.breaches.extend(differences.map(|it| format!("drover reconcile: {it}")));
        self.store(world, progress)?;
        self.queue(world).await
    }

    fn done_once(&mut self, world: &World, mover: &Mover, history: &History) {
        let runs = history.count("MigrationAdmitted");
        for (kind, most) in [
            ("SourceFrozen", runs),
            ("ImportCompleted", runs),
            ("DestinationOpened", runs),
            ("DnsSwitched", runs),
            ("SourceRetired", 1),
            ("DumpPublished", 1),
            ("CustomerNotified", 1),
            ("MigrationCompleted", 1),
        ] {
            let count = history.count(kind);
            if count > most {
                self.breach(mover, format!("{count} × {kind} in {runs} runs"));
            }
        }
        // A message is sent at least once; what it is recognised by is the same each time.
        let mail = world.fleet.smtp.messages();
        let mine = mail.iter().filter(|message| message.to == [mover.owner.clone()]);
        let keys: BTreeSet<_> = mine.map(|message| message.header("message-id")).collect();
        if keys.len() != 1 || keys.contains(&None) {
            self.breach(mover, format!("{} different messages were sent", keys.len()));
        }
    }

    async fn rows(
        &mut self,
        world: &Arc<World>,
        mover: &Mover,
        acknowledged: &[(char, u64)],
    ) -> Result<()> {
        let (source, destination) =
            (world.server(&mover.source)?, world.server(&mover.destination)?);
        let (before, after) = (rows(source, mover).await?, rows(destination, mover).await?);
        let ids = (server_id(source).await?, server_id(destination).await?);
        for breach in judge(&before, &after, acknowledged, ids) {
            self.breach(mover, breach);
        }
        Ok(())
    }

    /// The customer is in at the destination, also by the name, and out at the source.
    async fn access(&mut self, world: &Arc<World>, mover: &Mover) -> Result<()> {
        let destination = world.server(&mover.destination)?;
        if let Err(error) = probe(mover, destination).await {
            self.breach(mover, format!("does not write at the destination: {error}"));
        }
        if probe(mover, world.server(&mover.source)?).await.is_ok() {
            self.breach(mover, "writes at the source still");
        }
        let at = resolve(world, &mover.host_name).await?;
        if at != destination.address() {
            self.breach(mover, format!("its name points to {at}"));
        }
        Ok(())
    }

    /// Nothing is left that no migration answers for.
    async fn orphans(&mut self, world: &Arc<World>, progress: &Progress) -> Result<()> {
        let expected: BTreeSet<(&str, &str)> = world
            .herd
            .movers
            .iter()
            .map(|mover| (mover.destination.as_str(), mover.site.database.as_str()))
            .collect();
        for server in &world.fleet.destinations {
            let sql = format!(
                "SELECT SCHEMA_NAME FROM information_schema.SCHEMATA \
                 WHERE SCHEMA_NAME NOT IN ({SYSTEM})"
            );
            let databases: Vec<String> = ask(server, &sql).await?;
            for database in databases {
                if !expected.contains(&(server.name(), database.as_str())) {
                    let name = database.escape_debug();
                    self.breaches
                        .push(format!("{}: a copy without an owner: {name}", server.name()));
                }
            }
        }
        for (servers, side, rest) in [
            (&world.fleet.sources, "source", "retired"),
            (&world.fleet.destinations, "destination", "open"),
        ] {
            for server in servers {
                let sql = "SELECT migration, side, state FROM drover.ledger";
                let ledger: Vec<(String, String, String)> = ask(server, sql).await?;
                for (migration, of, state) in ledger {
                    let known = progress.histories.contains_key(&migration);
                    if !known || of != side || state != rest {
                        let name = server.name();
                        self.breaches.push(format!("{name}: {migration} is {state} as {of}"));
                    }
                }
            }
        }
        Ok(())
    }

    /// The store holds each migration's dump and the note that its mail has gone, and nothing of
    /// the attempts before, sealed accounts least of all.
    fn store(&mut self, world: &World, progress: &Progress) -> Result<()> {
        let campaign = world.store.join(CAMPAIGN);
        for (id, history) in &progress.histories {
            let dump = history.last_of("DumpStored").and_then(|it| it["dump_object"].as_str());
            let attempt = dump.and_then(|dump| Path::new(dump).parent());
            let attempt = attempt.map(|attempt| world.store.join(attempt));
            for file in files(&campaign.join(id))? {
                let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
                if file.parent() != attempt.as_deref() || !NEEDED.contains(&name) {
                    let file = file.display();
                    self.breaches.push(format!("the store holds what nobody needs: {file}"));
                }
            }
        }
        Ok(())
    }

    /// No job is left that anybody would still be given.
    ///
    /// A nats-server that is killed may find an acknowledged job in its folder again when it
    /// starts, as its removal had not come to the disk. It gives it to nobody, and the next order
    /// of that step replaces it; so it is told, and no breach. That it belongs to a migration which
    /// is done with that step is what `drover reconcile` has looked at.
    async fn queue(&mut self, world: &World) -> Result<()> {
        let context = jetstream::new(world.bus().await?);
        let names = streams::queues().map(|queue| queue.name);
        let queues = try_join_all(names.map(|name| context.get_stream(name))).await?;
        let idle = eventually(QUEUE_WAIT, || async {
            for queue in &queues {
                let consumers: Vec<consumer::Info> = queue.consumers().try_collect().await?;
                if consumers.iter().any(|it| it.num_pending > 0 || it.num_ack_pending > 0) {
                    return Ok(false);
                }
            }
            Ok(true)
        });
        let is_idle = idle.await.is_ok();
        let mut left = 0;
        for queue in &queues {
            left += queue.get_info().await?.state.messages;
        }
        if !is_idle {
            self.breaches.push(format!("{left} jobs are left on the queues, and are worked on"));
        } else if left > 0 {
            self.remarks.push(format!(
                "{left} acknowledged jobs lie on the queues again since nats-server was killed, and \
                 are given to nobody"
            ));
        }
        Ok(())
    }
}

/// Holds the rows at the source and at the destination, whose ids are `ids`, against what was
/// acknowledged.
fn judge(
    before: &[Row],
    after: &[Row],
    acknowledged: &[(char, u64)],
    ids: (u32, u32),
) -> Vec<String> {
    let mut breaches = Vec::new();
    let there: BTreeSet<&Row> = after.iter().collect();
    if there.len() != after.len() {
        breaches.push(format!("{} rows are there twice", after.len() - there.len()));
    }
    let numbers: BTreeSet<(&str, u64)> =
        after.iter().map(|(client, n, ..)| (client.as_str(), *n)).collect();
    let is_lost = |(client, n): &&(char, u64)| !numbers.contains(&(&*client.to_string(), *n));
    let lost: Vec<String> =
        acknowledged.iter().filter(is_lost).map(|(client, n)| format!("{client}{n}")).collect();
    if !lost.is_empty() {
        breaches.push(format!("acknowledged writes are lost: {}", lost.join(" ")));
    }
    let alone = before.iter().filter(|row| !there.contains(row)).count();
    if alone > 0 {
        breaches.push(format!("{alone} rows were taken by the source alone"));
    }
    let taken_by = |id| after.iter().filter(move |row| row.2 == id).map(|row| &row.3);
    if let (Some(last), Some(first)) = (taken_by(ids.0).max(), taken_by(ids.1).min())
        && last > first
    {
        breaches.push(format!("the source took a row at {last}, the destination one at {first}"));
    }
    breaches
}

/// All files below a folder; none where it is not there.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(found),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.extend(files(&entry.path())?);
        } else {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// Writes as the customer does, and takes it back.
async fn probe(mover: &Mover, server: &Mariadb) -> Result<(), mysql_async::Error> {
    let owner = &mover.site.owner;
    let mut conn = server.connect(&owner.user, &owner.password).await?;
    conn.query_drop(mover.insert('p', 0)).await?;
    let table = format!("{}.drover_rows", mover.name());
    conn.query_drop(format!("DELETE FROM {table} WHERE client = 'p'")).await?;
    conn.disconnect().await
}

async fn rows(server: &Mariadb, mover: &Mover) -> Result<Vec<Row>> {
    let table = format!("{}.drover_rows", mover.name());
    let sql = format!("SELECT client, n, server, CAST(taken_at AS CHAR) FROM {table}");
    ask(server, &sql).await.with_context(|| format!("reading {table} at {}", server.name()))
}

async fn has(server: &Mariadb, database: &str) -> Result<bool> {
    let databases: Vec<String> =
        ask(server, "SELECT SCHEMA_NAME FROM information_schema.SCHEMATA").await?;
    Ok(databases.iter().any(|name| name == database))
}

async fn server_id(server: &Mariadb) -> Result<u32> {
    let ids: Vec<u32> = ask(server, "SELECT @@server_id").await?;
    ids.first().copied().context("no server id")
}

async fn ask<T>(server: &Mariadb, sql: &str) -> Result<Vec<T>>
where
    T: mysql_async::prelude::FromRow + Send + 'static,
{
    let mut root = server.root().await?;
    let rows = root.query(sql).await?;
    root.disconnect().await?;
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: u32 = 1;
    const DESTINATION: u32 = 2;

    fn row(client: char, n: u64, server: u32, at: &str) -> Row {
        (client.to_string(), n, server, at.to_owned())
    }

    fn judged(before: &[Row], after: &[Row], acknowledged: &[(char, u64)]) -> String {
        judge(before, after, acknowledged, (SOURCE, DESTINATION)).join("; ")
    }

    #[test]
    fn each_breach_is_seen() {
        let old = [row('f', 1, SOURCE, "01"), row('s', 1, SOURCE, "02")];
        let new = [old[0].clone(), old[1].clone(), row('f', 2, DESTINATION, "03")];
        let told = [('f', 1), ('f', 2), ('s', 1)];
        assert_eq!(judged(&old, &new, &told), "");
        // Not acknowledged, and there all the same: nobody was told otherwise.
        assert_eq!(judged(&old, &new, &told[..1]), "");
        assert_eq!(judged(&old, &new, &[('t', 9)]), "acknowledged writes are lost: t9");
        let twice = [&new[..], &new[..1]].concat();
        assert_eq!(judged(&old, &twice, &told), "1 rows are there twice");
        let late = [&old[..], &[row('s', 2, SOURCE, "04")]].concat();
        assert_eq!(judged(&late, &new, &told), "1 rows were taken by the source alone");
        let both = [&new[..], &[row('s', 2, SOURCE, "04")]].concat();
        assert!(judged(&old, &both, &told).contains("the source took a row at 04"));
    }
}
