//! The databases: like those of real sites, each with a table into which its customers write.
//!
//! The table has no key, so that a row which arrived twice is there twice. The server itself says
//! in each row which one it is and when it took the row.

use std::{fs, net::IpAddr, path::PathBuf};

use anyhow::Result;
use drover_testbed::{
    Fleet,
    fleet::ZONE,
    mariadb::Mariadb,
    seed::{self, Shape, Site},
};
use mysql_async::prelude::Queryable as _;

/// The rows of the same seed are the same.
const SEED: u64 = 7;
/// The TTL of the host names' records, in seconds.
pub const TTL_S: u64 = 1;

/// The customers' table.
const TABLE: &str = "CREATE TABLE drover_rows (client CHAR(1) NOT NULL, n BIGINT NOT NULL, \
                     server INT UNSIGNED NOT NULL, taken_at DATETIME(6) NOT NULL) ENGINE=InnoDB";

/// A database on its way.
#[derive(Debug, Clone)]
pub struct Mover {
    /// The database and its accounts.
    pub site: Site,
    /// The name of the server that it comes from.
    pub source: String,
    /// The name of the server that it goes to.
    pub destination: String,
    /// Its host name, in full, without a final dot.
    pub host_name: String,
    /// Who is told.
    pub owner: String,
}

impl Mover {
    /// The database's name, quoted.
    pub fn name(&self) -> String {
        quoted(&self.site.database)
    }

    /// Inserts a row as the customer does.
    pub fn insert(&self, client: char, n: u64) -> String {
        let table = format!("{}.drover_rows", self.name());
        format!("INSERT INTO {table} VALUES ('{client}', {n}, @@server_id, NOW(6))")
    }
}

/// All of them.
pub struct Herd {
    /// All of them.
    pub movers: Vec<Mover>,
}

impl Herd {
    /// So many, spread over so many servers.
    pub fn new(number: usize, servers: usize) -> Self {
        let mover = |(n, site): (usize, Site)| Mover {
            site,
            source: format!("src-{}", n % servers + 1),
            destination: format!("dst-{}", (n / servers) % servers + 1),
            host_name: format!("db{n}.{ZONE}"),
            owner: format!("owner{n}@customers.example"),
        };
        let sites = seed::sites(SEED, "c", number);
        Self { movers: sites.into_iter().enumerate().map(mover).collect() }
    }

    /// Puts a large one before the others, with so many bytes of rows.
    pub fn add_large(&mut self, bytes: u64) {
        self.movers.insert(
            0,
            Mover {
                site: Site::new("large", Shape::Large { bytes }, SEED),
                source: "src-1".to_owned(),
                destination: "dst-1".to_owned(),
                host_name: format!("large.{ZONE}"),
                owner: "large@customers.example".to_owned(),
            },
        );
    }

    /// The zone's records: names that point to the sources, every second one by its address.
    pub fn records(&self, sources: &[IpAddr]) -> Vec<String> {
        let record = |(n, mover): (usize, &Mover)| {
            let address = sources.get(n % sources.len().max(1));
            match address.filter(|_| n / 2 % 2 == 0) {
                Some(address) => format!("{}. {TTL_S} IN A {address}", mover.host_name),
                None => format!("{}. {TTL_S} IN CNAME {}", mover.host_name, mover.source),
            }
        };
        self.movers.iter().enumerate().map(record).collect()
    }

    /// Makes the databases at their sources.
    pub async fn sow(&self, fleet: &Fleet) -> Result<()> {
        for server in &fleet.sources {
            let here = self.movers.iter().filter(|mover| mover.source == server.name());
            let sites: Vec<Site> = here.map(|mover| mover.site.clone()).collect();
            seed::sow(server, &sites).await?;
            add_tables(server, &sites).await?;
        }
        Ok(())
    }

    /// Writes the inventory.
    pub fn write_inventory(&self, fleet: &Fleet) -> Result<PathBuf> {
        let path = fleet.bed.dir().join("inventory.csv");
        let mut writer = csv::Writer::from_writer(Vec::new());
        writer.write_record([
            "database",
            "source",
            "destination",
            "host_names",
            "wave",
            "owner",
        ])?;
        for mover in &self.movers {
            writer.write_record([
                mover.site.database.as_str(),
                &mover.source,
                &mover.destination,
                &mover.host_name,
                "",
                &mover.owner,
            ])?;
        }
        fs::write(&path, writer.into_inner().map_err(|error| error.into_error())?)?;
        Ok(path)
    }
}

async fn add_tables(server: &Mariadb, sites: &[Site]) -> Result<()> {
    let mut root = server.root().await?;
    for site in sites {
        root.query_drop(format!("USE {}", quoted(&site.database))).await?;
        root.query_drop(TABLE).await?;
    }
    Ok(root.disconnect().await?)
}

/// A name as a statement holds it.
pub fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}
