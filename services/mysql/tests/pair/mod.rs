//! What the tests of the copy side share: a source and a destination, and a migration from one to
//! the other step by step.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test's helpers fail as the test itself does"
)]
#![allow(dead_code, reason = "each test program uses a part")]

use std::{
    process::Stdio,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use drover_mysql::{
    Contents, Error, Form, Options, Order, Server, dump, events::ScheduledEvent, freeze, import,
    verify,
};
use drover_schemas::{CampaignName, Failure, MigrationId, v1};
use drover_testbed::{
    Bed, Mariadb,
    mariadb::Settings,
    seed::{Site, sow},
};
use mysql_async::{Conn, prelude::Queryable as _};
use tokio::sync::OnceCell;

/// A server, and Drover's way to it.
pub struct End {
    pub mariadb: Mariadb,
    pub server: Server,
}

/// A source and a destination.
pub struct Pair {
    pub source: End,
    pub destination: End,
}

/// The pair that the tests of one program share.
pub async fn pair() -> &'static Pair {
    static PAIR: OnceCell<Pair> = OnceCell::const_new();
    PAIR.get_or_init(|| async {
        let bed = Bed::new().unwrap();
        let (source, destination) =
            tokio::join!(end(&bed, "source", &[]), end(&bed, "destination", &[]));
        Pair { source, destination }
    })
    .await
}

/// One more server, of the test's own.
pub async fn third() -> End {
    let bed = Bed::new().unwrap();
    end(&bed, "third", &[]).await
}

/// A server with further options.
pub async fn end(bed: &Bed, name: &str, more: &[&str]) -> End {
    let more_options = more.iter().map(|option| (*option).to_owned()).collect();
    let settings = Settings { relaxed_durability: true, more_options };
    let mariadb = Mariadb::start_with(bed, name, settings).await.unwrap();
    let mut options = Options::new(mariadb.address().to_string(), mariadb.port());
    options.password_file = mariadb.drover_password_file();
    let server = Server::new(name.parse().unwrap(), options).unwrap();
    End { mariadb, server }
}

/// A name that no other test of this program has.
pub fn unique(stem: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    format!("{stem}_{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// An order for a database at this revision.
pub fn order(database: &str, revision: u64) -> Order {
    let campaign: CampaignName = "night-1".parse().unwrap();
    let migration = MigrationId::new(&campaign, &"source".parse().unwrap(), database);
    Order {
        campaign,
        migration,
        database: database.to_owned(),
        revision,
        run: 1,
        attempt: 1,
        destination_shut: true,
        rehearsal: false,
        brings_back: None,
        max_frozen_ms: 300_000,
        job: Vec::new(),
    }
}

/// A database that was frozen and dumped: what it is, and the object of its dump.
pub struct Dumped {
    pub database: String,
    pub contents: Contents,
    pub stored: Vec<u8>,
}

impl Dumped {
    /// The whole text, as a customer would unpack it.
    pub fn text(&self) -> Vec<u8> {
        let unpacked = |frame: &drover_mysql::Frame| {
            let (start, end) = (frame.offset as usize, (frame.offset + frame.bytes) as usize);
            zstd::bulk::decompress(&self.stored[start..end], frame.text_bytes as usize).unwrap()
        };
        self.contents.frames.iter().flat_map(unpacked).collect()
    }
}

impl Pair {
    /// Makes a site's database at the source, freezes and dumps it.
    pub async fn dumped(&self, site: &Site) -> Dumped {
        sow(&self.source.mariadb, std::slice::from_ref(site)).await.unwrap();
        self.frozen_and_dumped(&site.database).await
    }

    /// Makes a database at the source with these statements in it, freezes and dumps it.
    pub async fn dumped_from(&self, database: &str, sql: &str) -> Dumped {
        let name = drover_mysql::ident::ident(database);
        let sql = format!("CREATE DATABASE {name}; USE {name}; {sql}");
        self.source.mariadb.execute(&sql).await.unwrap();
        self.frozen_and_dumped(database).await
    }

    pub async fn frozen_and_dumped(&self, database: &str) -> Dumped {
        let server = &self.source.server;
        freeze(server, &order(database, 1), Duration::ZERO).await.unwrap();
        self.dump(database, &[]).await
    }

    /// Dumps a frozen database; these events were enabled.
    pub async fn dump(&self, database: &str, enabled: &[ScheduledEvent]) -> Dumped {
        let dumped = self.try_dump(database, enabled).await;
        dumped.unwrap_or_else(|error| panic!("{database:?}: {error}"))
    }

    /// The same, which may fail.
    pub async fn try_dump(
        &self,
        database: &str,
        enabled: &[ScheduledEvent],
    ) -> Result<Dumped, Error> {
        let (server, order, mut stored) = (&self.source.server, order(database, 2), Vec::new());
        let contents = dump(server, &order, enabled, Form::Zstd, &mut stored).await?;
        Ok(Dumped { database: database.to_owned(), contents, stored })
    }

    /// Loads a dump at the destination.
    pub async fn import(&self, dumped: &Dumped, at: u64) -> Result<v1::ImportCompleted, Error> {
        let order = order(&dumped.database, at);
        import(&self.destination.server, &order, &dumped.contents, None, &*dumped.stored).await
    }

    /// Compares the copy.
    pub async fn verify(&self, dumped: &Dumped, at: u64) -> Result<v1::CopyVerified, Error> {
        verify(&self.destination.server, &order(&dumped.database, at), &dumped.contents).await
    }
}

impl End {
    /// What the stock program says that a database is.
    pub fn stock_dump(&self, database: &str) -> String {
        self.try_stock_dump(database).unwrap()
    }

    /// The same, or why it cannot say it.
    pub fn try_stock_dump(&self, database: &str) -> Result<String, String> {
        // With such a name the stock program cannot dump scheduled events.
        let events =
            if database.contains(['\'', '"', '\\']) { "--skip-events" } else { "--events" };
        let output = self
            .mariadb
            .dump_command()
            .unwrap()
            .args(["--routines", "--triggers", events, "--hex-blob", "--skip-comments"])
            .args(["--dump-history", "--single-transaction", "--", database])
            .output()
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    /// Loads SQL with the stock client, as a customer would.
    pub async fn stock_load(&self, database: &str, sql: &[u8]) {
        let mut command = tokio::process::Command::from(self.mariadb.client_command().unwrap());
        let mut child =
            command.args(["--comments", "--", database]).stdin(Stdio::piped()).spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut input, sql).await.unwrap();
        drop(input);
        assert!(child.wait().await.unwrap().success());
    }

    /// The first value of a query, as the administrator.
    pub async fn value<T: mysql_async::prelude::FromValue + Send + 'static>(&self, sql: &str) -> T {
        let mut root: Conn = self.mariadb.root().await.unwrap();
        root.query_first(sql).await.unwrap().unwrap()
    }

    /// Whether a database is there.
    pub async fn has(&self, database: &str) -> bool {
        let name = drover_mysql::ident::literal(database);
        let sql =
            format!("SELECT COUNT(*) FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = {name}");
        self.value::<u32>(&sql).await == 1
    }
}

/// The failure of a result that is one.
pub fn failure<T>(result: Result<T, Error>) -> Failure {
    match result {
        Ok(_) => panic!("it went well"),
        Err(error) => Failure::from(error),
    }
}
