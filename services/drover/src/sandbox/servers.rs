//! The sandbox's servers.

use std::path::PathBuf;

use anyhow::Result;
use drover_testbed::{Bed, bind::Bind, mariadb::Mariadb, nats::Nats, smtp::Smtp};

use super::herd::{Herd, ZONE};

/// All of them, in one bed. They end with it.
pub struct Servers {
    /// NATS with JetStream.
    pub nats: Nats,
    /// Where the databases come from.
    pub sources: [Mariadb; 2],
    /// Where they go.
    pub destinations: [Mariadb; 2],
    /// An empty server, into which customers' dumps are loaded.
    pub scratch: Mariadb,
    /// The zone of the host names.
    pub bind: Bind,
    /// The customers' mail.
    pub smtp: Smtp,
    /// Where the console listens.
    pub console: std::net::SocketAddr,
    /// The folder and the network. Last, so that the others have ended when it goes.
    pub bed: Bed,
}

impl Servers {
    /// Starts them in `folder`, or in a new temporary one.
    pub async fn start(folder: Option<PathBuf>, herd: &Herd) -> Result<Self> {
        let bed = folder.map_or_else(Bed::new, Bed::in_folder)?;
        let nats = Nats::start(&bed)?;
        let smtp = Smtp::start(&bed).await?;
        let (first, second, third, fourth, scratch) = tokio::try_join!(
            Mariadb::start(&bed, "src-1"),
            Mariadb::start(&bed, "src-2"),
            Mariadb::start(&bed, "dst-1"),
            Mariadb::start(&bed, "dst-2"),
            Mariadb::start(&bed, "scratch"),
        )?;
        let (sources, destinations) = ([first, second], [third, fourth]);
        let mut records = herd.records(&[sources[0].address(), sources[1].address()]);
        for (kind, servers) in [("src", &sources), ("dst", &destinations)] {
            for (n, server) in servers.iter().enumerate() {
                records.push(format!("{kind}-{} 60 IN A {}", n + 1, server.address()));
            }
        }
        let records: Vec<&str> = records.iter().map(String::as_str).collect();
        let bind = Bind::start(&bed, ZONE, &records)?;
        let console = (bed.address()?, 8080).into();
        Ok(Self { nats, sources, destinations, scratch, bind, smtp, console, bed })
    }

    /// The MySQL servers with their names.
    pub fn named(&self) -> [(&'static str, &Mariadb); 4] {
        let [src_1, src_2] = &self.sources;
        let [dst_1, dst_2] = &self.destinations;
        [("src-1", src_1), ("src-2", src_2), ("dst-1", dst_1), ("dst-2", dst_2)]
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
        for (name, server) in self.named() {
            let options = server.root_options_file();
            text.push_str(&format!(
                "  {name}    {}:{} (mariadb --defaults-file={})\n",
                server.address(),
                server.port(),
                options.display()
            ));
        }
        text
    }
}
