//! The servers that all cases share, and the real services before them.

use std::{fs, net::IpAddr, sync::Arc};

use drover_bus::Bus;
use drover_dumpstore::{Store, link};
use drover_lifecycle::Conclusion;
use drover_mysql::{Server, seal};
use drover_schemas::{
    ServerName,
    streams::Service as Kind,
    v1::{Job, Step},
};
use drover_testbed::{
    Bed, Fleet, Mariadb,
    fleet::{Plan, ZONE},
    mariadb::Settings,
    nats::Nats,
    seed::{self, Account, Shape, Site},
};
use mysql_async::prelude::Queryable as _;
use serde::de::DeserializeOwned;
use tokio::sync::Mutex;
use toml::Table;

use crate::case::Case;

/// More than there are cases: each has a host name, which is in the zone from the start.
const HOST_NAMES: usize = 120;

/// The servers, and the services as their configuration makes them.
pub struct World {
    pub fleet: Fleet,
    dump: drover_dump::Service,
    import: drover_import::Service,
    dns: drover_dns::Service,
    notify: drover_notify::Service,
    made: Mutex<usize>,
    _nats: Nats,
}

/// A bus of its own, on which one case runs after the other, so that a service that dies takes no
/// other case's job with it.
pub struct Lane {
    pub nats: Nats,
    pub bus: Bus,
}

impl World {
    pub async fn new() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let settings = Settings { relaxed_durability: true, ..Settings::default() };
        let plan = Plan { sources: 1, destinations: 1, slots: 1, both_ways: false, settings };
        let records = |_: &[IpAddr]| {
            let one = |n| format!("c{n} 1 IN CNAME src-1.{ZONE}.");
            (0..HOST_NAMES).map(one).collect::<Vec<_>>()
        };
        let fleet = Fleet::start(Bed::new().unwrap(), &plan, records).await.unwrap();
        let config = fleet.write_config().unwrap();
        let config: Table = toml::from_str(&fs::read_to_string(config).unwrap()).unwrap();
        let store: drover_dumpstore::Options = part(&config, &["store"]);
        let store = Store::open(&store).unwrap();
        let links: link::Options = part(&config, &["links"]);
        let server = |name: &str| {
            let options: drover_mysql::Options = part(&config, &["servers", name, "mysql"]);
            Server::new(name.parse().unwrap(), options).unwrap()
        };
        let target = |name: &str| -> (ServerName, drover_dns::Target) {
            (name.parse().unwrap(), part(&config, &["servers", name, "dns"]))
        };
        let name = |name: &str| name.parse::<ServerName>().unwrap();
        let seal: seal::Options = part(&config, &["servers", "dst-1", "seal"]);
        // The services want one, but a step says nothing on it; the jobs come over the lanes'.
        let nats = Nats::start(&fleet.bed).unwrap();
        let bus = connect(&nats.url()).await;
        let source = drover_dump::Source { server: server("src-1"), slots: 1 };
        let destination =
            drover_import::Destination { server: server("dst-1"), slots: 1, seal: seal.clone() };
        let dump = drover_dump::Service::new(
            bus.clone(),
            store.clone(),
            [(name("src-1"), source)].into(),
            [(name("dst-1"), seal)].into(),
            "test",
        );
        let import = drover_import::Service::new(
            bus,
            store.clone(),
            [(name("dst-1"), destination)].into(),
            "test",
        );
        let targets = [target("src-1"), target("dst-1")].into();
        let dns = drover_dns::Service::new(part(&config, &["dns"]), targets).unwrap();
        let notify: drover_notify::Options = part(&config, &["notify"]);
        let notify = drover_notify::Service::new(&notify, &links, store.clone()).unwrap();
        let made = Mutex::new(0);
        Self { fleet, dump, import, dns, notify, made, _nats: nats }
    }

    pub fn source(&self) -> &Mariadb {
        &self.fleet.sources[0]
    }

    pub fn destination(&self) -> &Mariadb {
        &self.fleet.destinations[0]
    }

    pub async fn lane(&self) -> Arc<Lane> {
        let nats = Nats::start(&self.fleet.bed).unwrap();
        let bus = connect(&nats.url()).await;
        bus.ensure_base().await.unwrap();
        Arc::new(Lane { nats, bus })
    }

    /// A new database at the source with a migration of its own, planned.
    pub async fn case(self: &Arc<Self>, lane: &Arc<Lane>) -> Case {
        let n = {
            let mut made = self.made.lock().await;
            *made += 1;
            *made - 1
        };
        assert!(n < HOST_NAMES, "the zone has no name left");
        let reader = Account {
            user: format!("r_case{n}"),
            hosts: vec!["%".to_owned()],
            password: format!("reader {n}"),
        };
        let site = Site {
            reader: Some(reader),
            has_event: true,
            ..Site::new(&format!("case{n}"), Shape::Shop, n as u64)
        };
        seed::sow(self.source(), std::slice::from_ref(&site)).await.unwrap();
        Case::plan(self.clone(), lane.clone(), site, format!("c{n}.{ZONE}")).await
    }

    /// Does a job's step as its service does it.
    pub async fn step(&self, job: &Job) -> Conclusion {
        match Kind::of(job.step()) {
            Some(Kind::Dump) => self.dump.step(job).await,
            Some(Kind::Import) => self.import.step(job).await,
            Some(Kind::Dns) => self.dns.step(job).await,
            Some(Kind::Notify) => self.notify.step(job).await,
            None => panic!("{:?} is nobody's step", Step::try_from(job.step)),
        }
    }

    /// What the servers say of who may do what in a case's database, and which of its scheduled
    /// events run.
    pub async fn privileges(&self, server: &Mariadb, site: &Site) -> Vec<String> {
        let mut root = server.root().await.unwrap();
        let users = [&site.owner, site.reader.as_ref().unwrap()].map(|account| &account.user);
        let mut all = Vec::new();
        for table in ["db", "tables_priv", "columns_priv", "procs_priv"] {
            let sql = format!("SELECT * FROM mysql.{table} WHERE User IN (?, ?)");
            let rows: Vec<mysql_async::Row> = root.exec(sql, (users[0], users[1])).await.unwrap();
            all.extend(rows.into_iter().map(|row| {
                let columns = row.columns();
                let told = columns.iter().zip(row.unwrap()).filter(|(column, _)| {
                    // When and by whom a privilege was granted last is no privilege.
                    !["Timestamp", "Grantor"].contains(&column.name_str().as_ref())
                });
                let told: Vec<String> = told
                    .map(|(column, value)| format!("{}={value:?}", column.name_str()))
                    .collect();
                format!("{table}: {}", told.join(" "))
            }));
        }
        let sql = "SELECT CONCAT('event ', name, ' ', status) FROM mysql.event WHERE db = ?";
        all.extend(root.exec::<String, _, _>(sql, (&site.database,)).await.unwrap());
        root.disconnect().await.unwrap();
        all.sort();
        all
    }
}

/// A part of a configuration, as the service that it belongs to reads it.
fn part<T: DeserializeOwned>(config: &Table, path: &[&str]) -> T {
    let (last, before) = path.split_last().unwrap();
    let table = before.iter().fold(config, |table, key| table[*key].as_table().unwrap());
    table[*last].clone().try_into().unwrap()
}

/// A way to a bus.
pub async fn connect(url: &str) -> Bus {
    let options = drover_bus::Options { url: url.to_owned(), ..Default::default() };
    Bus::connect(&options, "test").await.unwrap()
}
