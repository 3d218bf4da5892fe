//! The two servers that everything is measured on, with the databases at the source; and making
//! room again between two measurements, which counts for nobody.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use drover_mysql::{Options, Server, ident::ident};
use drover_testbed::{
    Bed, Fleet, Mariadb,
    fleet::{Plan, ZONE},
    mariadb::Settings,
    seed::{self, Site},
};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use mysql_async::prelude::Queryable as _;

/// Slots of each server in a campaign.
const SLOTS: u32 = 16;
/// How many databases are dropped side by side.
const CONNECTIONS: usize = 4;
/// As a small server with a fast disk in service has them: hundreds of small databases fit.
const SERVER_OPTIONS: [&str; 5] = [
    "--max-allowed-packet=256M",
    "--innodb-buffer-pool-size=512M",
    "--innodb-log-file-size=256M",
    "--innodb-io-capacity=8000",
    "--innodb-io-capacity-max=16000",
];

/// The servers.
pub struct Stage {
    /// With one source and one destination, which flush at each commit.
    pub fleet: Fleet,
}

impl Stage {
    /// Starts them, with records for these host names.
    pub async fn start(host_names: &[String]) -> Result<Self> {
        let settings = Settings {
            relaxed_durability: false,
            more_options: SERVER_OPTIONS.map(str::to_owned).to_vec(),
        };
        let plan = Plan { sources: 1, destinations: 1, slots: SLOTS, both_ways: false, settings };
        // No cache keeps them: to wait for caches takes nobody's time, but a short run's rate would
        // be that of the waiting.
        let records = host_names.iter().map(|name| format!("{name}.{ZONE}. 0 IN CNAME src-1"));
        let records: Vec<String> = records.collect();
        let fleet = Fleet::start(Bed::new()?, &plan, |_| records).await?;
        Ok(Self { fleet })
    }

    /// Where databases come from.
    pub fn source(&self) -> &Mariadb {
        &self.fleet.sources[0]
    }

    /// Where they go.
    pub fn destination(&self) -> &Mariadb {
        &self.fleet.destinations[0]
    }

    /// Makes databases at the source.
    pub async fn sow(&self, sites: &[Site]) -> Result<()> {
        seed::sow(self.source(), sites).await
    }

    /// Drops databases, and the binary logs that are full.
    pub async fn clear(&self, server: &Mariadb, databases: &[String]) -> Result<()> {
        let share = databases.len().div_ceil(CONNECTIONS).max(1);
        stream::iter(databases.chunks(share))
            .map(|some| async move {
                let mut root = server.root().await?;
                for database in some {
                    root.query_drop(format!("DROP DATABASE IF EXISTS {}", ident(database))).await?;
                }
                anyhow::Ok(root.disconnect().await?)
            })
            .buffer_unordered(CONNECTIONS)
            .try_collect::<Vec<()>>()
            .await?;
        server.execute("FLUSH BINARY LOGS; PURGE BINARY LOGS BEFORE NOW() + INTERVAL 1 DAY").await
    }

    /// Waits until the destination's and the source's pages are written, so that nobody pays for
    /// what was measured before.
    pub async fn settle(&self) -> Result<()> {
        for server in [self.source(), self.destination()] {
            let mut root = server.root().await?;
            root.query_drop("SET GLOBAL innodb_max_dirty_pages_pct = 0").await?;
            let began = Instant::now();
            loop {
                let sql = "SHOW GLOBAL STATUS LIKE 'Innodb_buffer_pool_pages_dirty'";
                let dirty: Option<(String, u64)> = root.query_first(sql).await?;
                if dirty.is_none_or(|(_, pages)| pages < DIRTY_PAGES_MAX) {
                    break;
                }
                if began.elapsed() > SETTLE_MAX {
                    bail!("{} does not come to rest", server.name());
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            root.query_drop("SET GLOBAL innodb_max_dirty_pages_pct = DEFAULT").await?;
            root.disconnect().await?;
        }
        Ok(())
    }
}

/// A server that has so few pages to write is at rest.
const DIRTY_PAGES_MAX: u64 = 500;
/// How long that may take.
const SETTLE_MAX: Duration = Duration::from_secs(120);

/// Drover's way to a server.
pub fn server(mariadb: &Mariadb) -> Result<Server> {
    let mut options = Options::new(mariadb.address().to_string(), mariadb.port());
    options.user = mariadb.drover_user().to_owned();
    options.password_file = mariadb.drover_password_file();
    options.trusted_accounts.push("root@%".to_owned());
    let name = mariadb.name().parse().context("a server's name")?;
    Ok(Server::new(name, options)?)
}
