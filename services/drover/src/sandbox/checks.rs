//! After the campaign: is every customer where he should be, with all that was his?
//!
//! Nothing here asks Drover: names are asked of the DNS server, accounts of the MySQL servers with
//! the customers' own passwords, dumps are loaded with the stock client, and mail is counted where
//! it arrived.

use std::{process::Stdio, sync::Arc};

use anyhow::{Context as _, Result, bail, ensure};
use async_compression::tokio::bufread::ZstdDecoder;
use drover_dumpstore::{Key, Store, Written};
use drover_mysql::{Server, ident::ident};
use drover_projector::render::printable;
use drover_schemas::{
    CampaignName, MigrationId, ServerName,
    subjects::Aggregate,
    v1::{DumpStored, migration_event::Event},
};
use drover_testbed::{Fleet, mariadb::Mariadb};
use futures::{StreamExt as _, stream};
use mysql_async::{Conn, prelude::Queryable as _};
use tokio::io::BufReader;

use super::herd::{Herd, Mover};
use crate::context::Context;

/// How many databases are checked at once.
const AT_ONCE: usize = 6;
/// How many faults are named; the others are counted.
const FAULTS_NAMED_MAX: usize = 10;

/// What was found.
pub struct Checked {
    /// For a person.
    pub text: String,
    /// What is wrong, by database.
    pub faults: Vec<String>,
}

/// Checks every database.
pub async fn all(
    herd: &Herd,
    servers: &Fleet,
    scratch: &Mariadb,
    context: &Context,
    campaign: &CampaignName,
) -> Result<Checked> {
    let checker = Arc::new(Checker {
        servers,
        context,
        campaign,
        store: Store::open(&context.config.store)?,
        scratch,
        scratch_server: server(scratch)?,
    });
    let results: Vec<(&Mover, Result<()>)> = stream::iter(&herd.sites)
        .map(|mover| {
            let checker = Arc::clone(&checker);
            async move { (mover, checker.one(mover).await) }
        })
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    let mut faults: Vec<String> = results
        .into_iter()
        .filter_map(|(mover, result)| {
            let error = result.err()?;
            Some(format!("{}: {error:#}", printable(&mover.site.database)))
        })
        .collect();
    let (good, all) = (herd.sites.len() - faults.len(), herd.sites.len());
    let text = format!(
        "  {good} of {all}: the old password reads and writes at the destination, through the name; \
         at the source neither;\n  the dump, loaded with the stock client, gives the same database; \
         the message arrived once\n"
    );
    let rest = faults.len().saturating_sub(FAULTS_NAMED_MAX);
    faults.truncate(FAULTS_NAMED_MAX);
    if rest > 0 {
        faults.push(format!("and {rest} more"));
    }
    Ok(Checked { text, faults })
}

struct Checker<'a> {
    servers: &'a Fleet,
    context: &'a Context,
    campaign: &'a CampaignName,
    store: Store,
    scratch: &'a Mariadb,
    scratch_server: Server,
}

impl Checker<'_> {
    async fn one(&self, mover: &Mover) -> Result<()> {
        let source = &self.servers.sources[mover.source];
        let destination = &self.servers.destinations[mover.destination];
        self.names(mover, destination).context("host name")?;
        reads_and_writes(mover, destination).await.context("at the destination")?;
        neither_reads_nor_writes(mover, source).await.context("at the source")?;
        self.dump(mover).await.context("dump")?;
        self.mail(mover).context("mail")
    }

    fn names(&self, mover: &Mover, destination: &Mariadb) -> Result<()> {
        for name in &mover.host_names {
            let name = format!("{name}.");
            let target = match self.servers.bind.answer(&name, "CNAME")?.pop() {
                Some(target) => target,
                None => name.clone(),
            };
            let answer = self.servers.bind.answer(&target, "A")?;
            let expected = destination.address().to_string();
            ensure!(answer == [expected.clone()], "{name} is {answer:?}, not {expected}");
        }
        Ok(())
    }

    fn mail(&self, mover: &Mover) -> Result<()> {
        let messages = self.servers.smtp.messages();
        let count = messages.iter().filter(|m| m.to == [mover.owner.clone()]).count();
        ensure!(count == 1, "{count} messages arrived");
        Ok(())
    }

    /// Loads the customer's dump into the empty server, with the stock client.
    async fn dump(&self, mover: &Mover) -> Result<()> {
        let source = &self.servers.sources[mover.source];
        let database = &mover.site.database;
        let stored = self.stored(source.name(), database).await?;
        let from = server(source)?;
        let expected = drover_mysql::describe(&from, database).await?;
        let defaults = &expected.defaults;
        let name = ident(database);
        let create = format!(
            "CREATE DATABASE {name} CHARACTER SET {} COLLATE {}",
            defaults.charset, defaults.collation
        );
        self.scratch.execute(&create).await?;
        let loaded = self.load(&stored, database).await;
        let found = drover_mysql::describe(&self.scratch_server, database).await;
        self.scratch.execute(&format!("DROP DATABASE {name}")).await?;
        loaded?;
        let mut found = found?;
        found.defaults = expected.defaults.clone();
        let differences = expected.differences(&found);
        ensure!(differences.is_empty(), "{}", differences.join(", "));
        Ok(())
    }

    async fn stored(&self, source: &str, database: &str) -> Result<DumpStored> {
        let source: ServerName = source.parse()?;
        let id = MigrationId::new(self.campaign, &source, database);
        let history = self.context.bus.history(self.campaign, Aggregate::Migration(id)).await?;
        for recorded in history.into_iter().rev() {
            if let Event::DumpStored(stored) = recorded.event.decode_migration()? {
                return Ok(stored);
            }
        }
        bail!("no dump was stored")
    }

    async fn load(&self, stored: &DumpStored, database: &str) -> Result<()> {
        let key: Key = stored.dump_object.parse()?;
        let written = Written { bytes: stored.dump_bytes, sha256: stored.dump_sha256.clone() };
        let object = self.store.read(&key, &written).await?;
        let mut sql = ZstdDecoder::new(BufReader::new(object));
        sql.multiple_members(true);
        let mut command = tokio::process::Command::from(self.scratch.client_command()?);
        command.arg("--").arg(database).stdin(Stdio::piped()).stderr(Stdio::piped());
        let mut client = command.spawn()?;
        let mut input = client.stdin.take().context("the client has no input")?;
        let copied = tokio::io::copy(&mut sql, &mut input).await;
        drop(input);
        let output = client.wait_with_output().await?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        copied?;
        Ok(())
    }
}

async fn owner(mover: &Mover, server: &Mariadb) -> Result<Conn, mysql_async::Error> {
    server.connect(&mover.site.owner.user, &mover.site.owner.password).await
}

async fn reads_and_writes(mover: &Mover, server: &Mariadb) -> Result<()> {
    let mut conn = owner(mover, server).await?;
    conn.query_drop(format!("USE {}", ident(&mover.site.database))).await?;
    let _: Vec<String> = conn.query("SHOW TABLES").await?;
    conn.query_drop("CREATE TABLE drover_check (a INT)").await?;
    conn.query_drop("INSERT INTO drover_check VALUES (1)").await?;
    let read: Option<i32> = conn.query_first("SELECT a FROM drover_check").await?;
    conn.query_drop("DROP TABLE drover_check").await?;
    ensure!(read == Some(1), "what was written was not read");
    Ok(conn.disconnect().await?)
}

async fn neither_reads_nor_writes(mover: &Mover, server: &Mariadb) -> Result<()> {
    let mut conn = match owner(mover, server).await {
        Ok(conn) => conn,
        // Not let in at all.
        Err(mysql_async::Error::Server(_)) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let used = conn.query_drop(format!("USE {}", ident(&mover.site.database))).await;
    match used {
        Err(mysql_async::Error::Server(_)) => Ok(conn.disconnect().await?),
        Err(error) => Err(error.into()),
        Ok(()) => bail!("the old account still selects the database"),
    }
}

fn server(server: &Mariadb) -> Result<Server> {
    let mut options = drover_mysql::Options::new(server.address().to_string(), server.port());
    options.password_file = server.drover_password_file();
    Ok(Server::new(server.name().parse()?, options)?)
}
