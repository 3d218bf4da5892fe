//! All the servers of a small campaign in one bed, and the configuration that an operator would
//! write for them.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use anyhow::Result;
use drover_schemas::{ServerName, users::User};
use futures::future::try_join_all;

use crate::{
    bed::Bed,
    bind::Bind,
    fleet_config,
    mariadb::{Mariadb, Settings},
    nats::Nats,
    smtp::Smtp,
};

/// The zone of the host names.
pub const ZONE: &str = "sandbox.example";
/// The port of the console.
const CONSOLE_PORT: u16 = 8080;

/// What a fleet is made of.
#[derive(Debug, Clone)]
pub struct Plan {
    /// How many servers databases come from: `src-1`, …
    pub sources: usize,
    /// How many they go to: `dst-1`, …
    pub destinations: usize,
    /// Slots of each.
    pub slots: u32,
    /// Each of them can be the other end too: databases can be brought back.
    pub both_ways: bool,
    /// How the MySQL servers are started.
    pub settings: Settings,
}

/// All of them, in one bed. They end with it.
pub struct Fleet {
    /// NATS with JetStream.
    pub nats: Nats,
    /// Where the databases come from: `src-1`, …
    pub sources: Vec<Mariadb>,
    /// Where they go: `dst-1`, …
    pub destinations: Vec<Mariadb>,
    /// The zone of the host names.
    pub bind: Bind,
    /// The customers' mail.
    pub smtp: Smtp,
    /// Where the console listens.
    pub console: SocketAddr,
    pub(crate) slots: u32,
    pub(crate) both_ways: bool,
    /// The folder and the network. Last, so that the others have ended when it goes.
    pub bed: Bed,
}

/// Who speaks on the bus of such a fleet.
fn users(plan: &Plan) -> Result<Vec<User>> {
    let mut users = User::COMMON.to_vec();
    for n in 1..=plan.sources {
        let name: ServerName = format!("src-{n}").parse()?;
        users.extend(plan.both_ways.then(|| User::Import(name.clone())));
        users.push(User::Dump(name));
    }
    for n in 1..=plan.destinations {
        let name: ServerName = format!("dst-{n}").parse()?;
        users.extend(plan.both_ways.then(|| User::Dump(name.clone())));
        users.push(User::Import(name));
    }
    Ok(users)
}

impl Fleet {
    /// Starts them. `records` makes the zone's records, given the sources' addresses; the servers'
    /// own names (`src-1`, …) are there already.
    pub async fn start(
        bed: Bed,
        plan: &Plan,
        records: impl FnOnce(&[IpAddr]) -> Vec<String>,
    ) -> Result<Self> {
        let nats = Nats::start_guarded(&bed, users(plan)?)?;
        Self::start_on(nats, bed, plan, records).await
    }

    /// The same, with a nats-server that runs in the bed already.
    pub async fn start_on(
        nats: Nats,
        bed: Bed,
        plan: &Plan,
        records: impl FnOnce(&[IpAddr]) -> Vec<String>,
    ) -> Result<Self> {
        let smtp = Smtp::start(&bed).await?;
        let names = |kind: &'static str, n: usize| (1..=n).map(move |n| format!("{kind}-{n}"));
        let names = names("src", plan.sources).chain(names("dst", plan.destinations));
        let started = names.map(|name| {
            let (bed, settings) = (bed.clone(), plan.settings.clone());
            async move { Mariadb::start_with(&bed, &name, settings).await }
        });
        let mut sources = try_join_all(started).await?;
        let destinations = sources.split_off(plan.sources);
        let addresses: Vec<IpAddr> = sources.iter().map(Mariadb::address).collect();
        let mut records = records(&addresses);
        for server in sources.iter().chain(&destinations) {
            records.push(format!("{} 60 IN A {}", server.name(), server.address()));
        }
        let records: Vec<&str> = records.iter().map(String::as_str).collect();
        let bind = Bind::start(&bed, ZONE, &records)?;
        let console = (bed.address()?, CONSOLE_PORT).into();
        let Plan { slots, both_ways, .. } = *plan;
        Ok(Self { nats, sources, destinations, bind, smtp, console, slots, both_ways, bed })
    }

    /// Writes the configuration and its secrets into the bed's folder; the file's path.
    pub fn write_config(&self) -> Result<PathBuf> {
        fleet_config::write(self)
    }

    /// The MySQL servers.
    pub fn servers(&self) -> impl Iterator<Item = &Mariadb> {
        self.sources.iter().chain(&self.destinations)
    }

    /// Where everything is, for a person.
    pub fn describe(&self) -> String {
        let mut text = format!(
            "  folder   {}\n  nats     {}\n  dns      {}\n  mail     {}\n  console  http://{}\n",
            self.bed.dir().display(),
            self.nats.url(),
            self.bind.address(),
            self.smtp.folder().display(),
            self.console,
        );
        for server in self.servers() {
            let options = server.root_options_file();
            text.push_str(&format!(
                "  {}    {}:{} (mariadb --defaults-file={})\n",
                server.name(),
                server.address(),
                server.port(),
                options.display()
            ));
        }
        text
    }
}
