//! The customers: three of each database, who write without a pause and keep what was
//! acknowledged.
//!
//! | client | what it does |
//! | --- | --- |
//! | `f` | follows the host name: asks the authoritative server again when the TTL is over |
//! | `s` | stays at the source, on a connection that it keeps open, whatever happens |
//! | `t` | follows the host name too, and holds a transaction open over many statements |
//!
//! A number is used once. One whose answer never came may be there or not; one that was
//! acknowledged must be there.

use std::{
    net::IpAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use mysql_async::{Conn, prelude::Queryable as _};
use tokio::{
    task::{JoinSet, spawn_blocking},
    time::{sleep, timeout},
};

use crate::{
    herd::{Mover, TTL_S},
    world::World,
};

/// Between two writes of a client.
const PAUSE: Duration = Duration::from_millis(150);
/// After this the customer takes the server for dead.
const ANSWER_WAIT: Duration = Duration::from_secs(8);
/// How long the long transaction is held open before its last statement.
const TRANSACTION: Duration = Duration::from_secs(2);

/// What the clients of one database were told.
#[derive(Debug, Default)]
pub struct Book {
    /// Client and number of each acknowledged write.
    pub acknowledged: Vec<(char, u64)>,
    /// How many writes were refused or not answered.
    pub refused: u64,
    /// The longest time between two acknowledged writes of the client that follows the name.
    pub gap_max: Duration,
    last: Option<Instant>,
}

impl Book {
    fn take(&mut self, client: char, numbers: &[u64]) {
        self.acknowledged.extend(numbers.iter().map(|n| (client, *n)));
        if client == 'f' {
            let now = Instant::now();
            if let Some(last) = self.last.replace(now) {
                self.gap_max = self.gap_max.max(now - last);
            }
        }
    }
}

/// The customers of one database. They stop when it is dropped.
pub struct Customers {
    book: Arc<Mutex<Book>>,
    ending: Arc<AtomicBool>,
    clients: JoinSet<()>,
}

impl Customers {
    /// Begins to write.
    pub fn start(world: &Arc<World>, mover: &Mover) -> Self {
        let book = Arc::new(Mutex::new(Book::default()));
        let ending = Arc::new(AtomicBool::new(false));
        let mut clients = JoinSet::new();
        for name in ['f', 's', 't'] {
            let client = Client {
                name,
                world: Arc::clone(world),
                mover: mover.clone(),
                book: Arc::clone(&book),
                ending: Arc::clone(&ending),
                next: 1,
                resolved: None,
            };
            clients.spawn(client.run());
        }
        Self { book, ending, clients }
    }

    /// Ends them, after what they have under way; what they were told.
    pub async fn end(mut self) -> Book {
        self.ending.store(true, Ordering::Relaxed);
        while self.clients.join_next().await.is_some() {}
        std::mem::take(&mut self.book.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

struct Client {
    name: char,
    world: Arc<World>,
    mover: Mover,
    book: Arc<Mutex<Book>>,
    ending: Arc<AtomicBool>,
    next: u64,
    resolved: Option<(IpAddr, Instant)>,
}

impl Client {
    async fn run(mut self) {
        while !self.ending.load(Ordering::Relaxed) {
            // A customer who is turned away comes again, whatever the reason was.
            if self.connected().await.is_err() {
                self.book().refused += 1;
            }
            sleep(PAUSE).await;
        }
    }

    /// Writes over one connection, until something goes wrong.
    async fn connected(&mut self) -> Result<()> {
        let at = self.whereabouts().await?;
        let server = self.world.fleet.servers().find(|server| server.address() == at);
        let server = server.context("the name points to none of the servers")?;
        let owner = &self.mover.site.owner;
        let connect = async {
            let mut conn = server.connect(&owner.user, &owner.password).await?;
            conn.query_drop(format!("USE {}", self.mover.name())).await?;
            anyhow::Ok(conn)
        };
        let mut conn = timeout(ANSWER_WAIT, connect).await??;
        while !self.ending.load(Ordering::Relaxed) {
            match timeout(ANSWER_WAIT, self.write(&mut conn)).await? {
                // Who stays, stays on a session that was refused, too.
                Err(mysql_async::Error::Server(_)) if self.name == 's' => self.book().refused += 1,
                written => written?,
            }
            sleep(PAUSE).await;
            ensure!(self.whereabouts().await? == at, "the name points elsewhere");
        }
        Ok(conn.disconnect().await?)
    }

    async fn write(&mut self, conn: &mut Conn) -> Result<(), mysql_async::Error> {
        if self.name != 't' {
            let n = self.number();
            conn.query_drop(self.mover.insert(self.name, n)).await?;
            self.book().take(self.name, &[n]);
            return Ok(());
        }
        let (first, last) = (self.number(), self.number());
        conn.query_drop("START TRANSACTION").await?;
        conn.query_drop(self.mover.insert(self.name, first)).await?;
        sleep(TRANSACTION).await;
        conn.query_drop(self.mover.insert(self.name, last)).await?;
        conn.query_drop("COMMIT").await?;
        self.book().take(self.name, &[first, last]);
        Ok(())
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next - 1
    }

    /// Where this client believes the database to be.
    async fn whereabouts(&mut self) -> Result<IpAddr> {
        if self.name == 's' {
            return Ok(self.world.server(&self.mover.source)?.address());
        }
        match self.resolved {
            Some((at, since)) if since.elapsed() < Duration::from_secs(TTL_S) => Ok(at),
            Some(_) | None => {
                let at = resolve(&self.world, &self.mover.host_name).await?;
                self.resolved = Some((at, Instant::now()));
                Ok(at)
            }
        }
    }

    fn book(&self) -> std::sync::MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the authoritative server answers.
pub async fn resolve(world: &Arc<World>, host_name: &str) -> Result<IpAddr> {
    let (world, name) = (Arc::clone(world), format!("{host_name}."));
    spawn_blocking(move || {
        let bind = &world.fleet.bind;
        let target = bind.answer(&name, "CNAME")?.pop().unwrap_or(name);
        let address = bind.answer(&target, "A")?.pop().context("no address")?;
        Ok(address.parse()?)
    })
    .await?
}
