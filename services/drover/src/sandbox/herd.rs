//! The sandbox's databases, and where each goes.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use drover_testbed::{
    Fleet,
    fleet::ZONE,
    seed::{self, Shape, Site},
};

/// The rows of the same seed are the same.
const SEED: u64 = 42;
/// The size of the one large database, in bytes.
const LARGE_BYTES: u64 = 24 << 20;
/// One in so many sites has a second host name, and one in so many an address instead of a CNAME.
const ONE_IN_TWO_NAMES: usize = 10;
const ONE_IN_ADDRESS: usize = 7;
/// One in so many sites uses an address, and no name that DNS could move.
const ONE_IN_NO_NAME: usize = 25;

/// A database on its way.
pub struct Mover {
    /// The database and its accounts.
    pub site: Site,
    /// 0 or 1.
    pub source: usize,
    /// 0 or 1.
    pub destination: usize,
    /// The host names, in full.
    pub host_names: Vec<String>,
    /// The records of the host names are addresses.
    pub by_address: bool,
    /// Who is told.
    pub owner: String,
}

/// All of them.
pub struct Herd {
    /// All of them.
    pub sites: Vec<Mover>,
}

impl Herd {
    /// So many databases; one of them is large.
    pub fn new(number: usize) -> Self {
        let mut sites = seed::sites(SEED, "s", number);
        if let Some(last) = sites.last_mut() {
            *last = Site::new("archive", Shape::Large { bytes: LARGE_BYTES }, SEED);
        }
        let mover = |(n, site): (usize, Site)| {
            let mut host_names = vec![format!("db{n}.{ZONE}")];
            if n % ONE_IN_TWO_NAMES == 1 {
                host_names.push(format!("old-db{n}.{ZONE}"));
            }
            if n % ONE_IN_NO_NAME == ONE_IN_NO_NAME - 1 {
                host_names.clear();
            }
            Mover {
                site,
                source: n % 2,
                destination: (n / 2) % 2,
                host_names,
                by_address: n % ONE_IN_ADDRESS == 0,
                owner: format!("owner{n}@customers.example"),
            }
        };
        Self { sites: sites.into_iter().enumerate().map(mover).collect() }
    }

    /// The zone's records for the host names, pointing to the sources at these addresses.
    pub fn records(&self, sources: &[std::net::IpAddr]) -> Vec<String> {
        let mut records = Vec::new();
        for mover in &self.sites {
            for name in &mover.host_names {
                let source = mover.source;
                records.push(if mover.by_address {
                    format!("{name}. 1 IN A {}", sources[source])
                } else {
                    format!("{name}. 1 IN CNAME src-{}", source + 1)
                });
            }
        }
        records
    }

    /// Makes the databases at their sources.
    pub async fn sow(&self, servers: &Fleet) -> Result<()> {
        let of = |n: usize| -> Vec<Site> {
            self.sites.iter().filter(|m| m.source == n).map(|m| m.site.clone()).collect()
        };
        let (first, second) = (of(0), of(1));
        tokio::try_join!(
            seed::sow(&servers.sources[0], &first),
            seed::sow(&servers.sources[1], &second)
        )?;
        Ok(())
    }

    /// Writes the inventory.
    pub fn write_inventory(&self, folder: &Path) -> Result<PathBuf> {
        let path = folder.join("inventory.csv");
        let mut writer = csv::Writer::from_writer(Vec::new());
        writer.write_record([
            "database",
            "source",
            "destination",
            "host_names",
            "wave",
            "owner",
            "plan",
        ])?;
        for (n, mover) in self.sites.iter().enumerate() {
            writer.write_record([
                mover.site.database.as_str(),
                &format!("src-{}", mover.source + 1),
                &format!("dst-{}", mover.destination + 1),
                &mover.host_names.join(" "),
                &format!("cluster-{}", n % 4 + 1),
                &mover.owner,
                "starter",
            ])?;
        }
        let text = writer.into_inner().map_err(|error| error.into_error())?;
        fs::write(&path, text).with_context(|| path.display().to_string())?;
        Ok(path)
    }
}
