//! A small fleet, its configuration, and the binary under test.

use std::{fs, net::IpAddr, path::PathBuf, process::Command, time::Duration};

use anyhow::Result;
use drover_testbed::{
    Bed, Fleet, Process,
    bed::eventually,
    fleet::{Plan, ZONE},
    mariadb::{Mariadb, Settings},
    seed::{self, Site},
};
use mysql_async::prelude::Queryable as _;
use serde_json::Value;

/// How long a small campaign may take. Generous: many tests share a small machine.
pub const DEADLINE: Duration = Duration::from_secs(180);

/// The campaign of every test.
pub const CAMPAIGN: &str = "night";

/// What a command printed, and how it ended.
#[derive(Debug)]
pub struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
}

/// A row of an inventory, with what is behind it.
pub struct Row {
    pub site: Site,
    pub host_name: String,
    pub owner: String,
}

pub struct World {
    pub fleet: Fleet,
    pub config: PathBuf,
    pub rows: Vec<Row>,
}

impl World {
    /// One source and one destination with these slots, the sites at the source, each with a host
    /// name and an owner.
    pub async fn new(slots: u32, sites: Vec<Site>) -> Self {
        Self::of(slots, sites, false).await
    }

    /// The same, where each server may be the other end too.
    pub async fn both_ways(slots: u32, sites: Vec<Site>) -> Self {
        Self::of(slots, sites, true).await
    }

    async fn of(slots: u32, sites: Vec<Site>, both_ways: bool) -> Self {
        let settings = Settings { relaxed_durability: true, ..Settings::default() };
        let bed = Bed::new().unwrap();
        let plan = Plan { sources: 1, destinations: 1, slots, both_ways, settings };
        let names = 0..sites.len();
        let records = |_: &[IpAddr]| {
            names.map(|n| format!("db{n}.{ZONE}. 1 IN CNAME src-1")).collect::<Vec<_>>()
        };
        let fleet = Fleet::start(bed, &plan, records).await.unwrap();
        seed::sow(&fleet.sources[0], &sites).await.unwrap();
        let config = fleet.write_config().unwrap();
        let row = |(n, site)| Row {
            site,
            host_name: format!("db{n}.{ZONE}"),
            owner: format!("owner{n}@customers.example"),
        };
        let rows = sites.into_iter().enumerate().map(row).collect();
        let world = Self { fleet, config, rows };
        world.ok(&["init", "--streams"]).await;
        world
    }

    pub fn source(&self) -> &Mariadb {
        &self.fleet.sources[0]
    }

    pub fn destination(&self) -> &Mariadb {
        &self.fleet.destinations[0]
    }

    /// The inventory of all rows.
    pub fn inventory(&self) -> PathBuf {
        let mut writer = csv::Writer::from_writer(Vec::new());
        let header = ["database", "source", "destination", "host_names", "wave", "owner", "bytes"];
        writer.write_record(header).unwrap();
        for (n, Row { site, host_name, owner }) in self.rows.iter().enumerate() {
            let bytes = (1_000_000 * (n + 1)).to_string();
            let row = [&site.database, "src-1", "dst-1", host_name, "w1", owner, &bytes];
            writer.write_record(row).unwrap();
        }
        self.write("inventory.csv", &writer.into_inner().unwrap())
    }

    pub fn write(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.fleet.bed.dir().join(name);
        fs::write(&path, content).unwrap();
        path
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_drover"));
        command.env("DROVER_CONFIG", &self.config).env("RUST_LOG", "info");
        command
    }

    /// Runs a command of the binary to its end.
    pub async fn drover(&self, args: &[&str]) -> Said {
        self.drover_with(args, &[]).await
    }

    pub async fn drover_with(&self, args: &[&str], environment: &[(&str, &str)]) -> Said {
        let mut command = tokio::process::Command::from(self.command());
        command.args(args).envs(environment.iter().copied()).kill_on_drop(true);
        let output = command.output().await.unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        Said {
            code: output.status.code().unwrap_or(-1),
            out: text(&output.stdout),
            err: text(&output.stderr),
        }
    }

    /// The same, which must succeed; what it printed.
    pub async fn ok(&self, args: &[&str]) -> String {
        let said = self.drover(args).await;
        assert_eq!(said.code, 0, "drover {args:?}: {said:?}\n{}", self.logs());
        said.out
    }

    /// Starts services in one process.
    pub fn serve(&self, log: &str, services: &[&str]) -> Process {
        self.serve_with(log, services, &[])
    }

    pub fn serve_with(
        &self,
        log: &str,
        services: &[&str],
        environment: &[(&str, &str)],
    ) -> Process {
        let mut command = self.command();
        command.arg("serve").args(services).envs(environment.iter().copied());
        self.fleet.bed.spawn(log, command).unwrap()
    }

    /// Plans all rows, and starts.
    pub async fn start(&self, in_flight_max: u32) {
        let inventory = self.inventory();
        self.ok(&["plan", CAMPAIGN, "--inventory", inventory.to_str().unwrap()]).await;
        let max = in_flight_max.to_string();
        self.ok(&["start", CAMPAIGN, "--max-in-flight", &max]).await;
    }

    pub async fn json(&self, args: &[&str]) -> Value {
        serde_json::from_str(&self.ok(args).await).unwrap()
    }

    pub async fn counts(&self) -> Value {
        self.counts_of(CAMPAIGN).await
    }

    async fn counts_of(&self, campaign: &str) -> Value {
        self.json(&["status", campaign, "--json"]).await
    }

    /// Waits until the campaign's counts are so.
    pub async fn until(&self, what: &str, so: impl Fn(&Value) -> bool) -> Value {
        self.until_of(CAMPAIGN, what, so).await
    }

    /// The same of another campaign.
    pub async fn until_of(&self, campaign: &str, what: &str, so: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        let waited = eventually(DEADLINE, || {
            let counts = self.counts_of(campaign);
            async {
                let said = counts.await;
                Ok::<_, anyhow::Error>(so(&said))
            }
        })
        .await;
        if waited.is_ok() {
            last = self.counts_of(campaign).await;
        }
        let counts = self.counts_of(campaign).await;
        assert!(waited.is_ok(), "never {what}: {counts}\n{}", self.logs());
        last
    }

    /// The campaign's events, oldest first: type, and the rest as JSON.
    pub async fn events(&self) -> Vec<Value> {
        self.events_of(CAMPAIGN).await
    }

    /// The same of another campaign.
    pub async fn events_of(&self, campaign: &str) -> Vec<Value> {
        let out = self.ok(&["events", campaign, "--json"]).await;
        out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// What every process said, for a failed test.
    pub fn logs(&self) -> String {
        let mut text = String::new();
        for entry in fs::read_dir(self.fleet.bed.dir()).unwrap().flatten() {
            let name = entry.file_name().into_string().unwrap_or_default();
            if name.starts_with("drover") && name.ends_with(".log") {
                let log = fs::read_to_string(entry.path()).unwrap_or_default();
                let lines: Vec<&str> = log.lines().collect();
                let end = lines[lines.len().saturating_sub(40)..].join("\n");
                text.push_str(&format!("--- {name}\n{end}\n"));
            }
        }
        text
    }

    /// What nats-server says that it refused.
    pub fn refused_by_nats(&self) -> Vec<String> {
        let log = fs::read_to_string(self.fleet.nats.log()).unwrap();
        log.lines().filter(|line| line.contains("Violation")).map(str::to_owned).collect()
    }

    /// All grants that concern a database, as the server tells them.
    pub async fn privileges(&self, server: &Mariadb) -> Vec<String> {
        let mut root = server.root().await.unwrap();
        let mut all = Vec::new();
        for (table, order) in [
            ("mysql.db", "Host, Db, User"),
            ("mysql.tables_priv", "Host, Db, User, Table_name"),
            ("mysql.columns_priv", "Host, Db, User, Table_name, Column_name"),
            ("mysql.procs_priv", "Host, Db, User, Routine_name"),
        ] {
            let sql = format!("SELECT * FROM {table} ORDER BY {order}");
            let rows: Vec<mysql_async::Row> = root.query(sql).await.unwrap();
            all.extend(rows.into_iter().map(|row| {
                // When a privilege was granted last is no privilege.
                let columns = row.columns();
                let values = row.unwrap();
                let shown = columns.iter().zip(values).filter(|(column, _)| {
                    column.name_str() != "Timestamp" && column.name_str() != "Grantor"
                });
                let shown: Vec<String> = shown
                    .map(|(column, value)| format!("{}={value:?}", column.name_str()))
                    .collect();
                format!("{table}: {}", shown.join(" "))
            }));
        }
        root.disconnect().await.unwrap();
        all
    }

    /// Whether a server has a database.
    pub async fn has(&self, server: &Mariadb, database: &str) -> bool {
        let mut root = server.root().await.unwrap();
        let sql = "SELECT COUNT(*) FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = ?";
        let count: Option<u64> = root.exec_first(sql, (database,)).await.unwrap();
        root.disconnect().await.unwrap();
        count == Some(1)
    }
}

/// Reads and writes as the owner of a site, with the password that the customer has.
pub async fn reads_and_writes(site: &Site, server: &Mariadb) -> Result<(), mysql_async::Error> {
    let mut conn = server.connect(&site.owner.user, &site.owner.password).await?;
    let name = site.database.replace('`', "``");
    conn.query_drop(format!("USE `{name}`")).await?;
    let _: Vec<String> = conn.query("SHOW TABLES").await?;
    conn.query_drop("CREATE TABLE drover_test (a INT)").await?;
    conn.query_drop("INSERT INTO drover_test VALUES (1)").await?;
    conn.query_drop("DROP TABLE drover_test").await?;
    conn.disconnect().await
}
