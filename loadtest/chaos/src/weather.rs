//! What goes wrong, and when: drawn from a seed.
//!
//! About every second a service is killed; and beside that, as often, something larger happens to
//! a server, a link, the store, a process or its clock. All that is drawn is drawn in one place and
//! in one order, so that a seed gives the same blows again; how far the services have come by then
//! is the machine's affair.

use std::{
    collections::HashSet,
    fs,
    io::Write as _,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::Result;
use async_nats::jetstream;
use drover_testbed::{cluster::SERVERS, link::State};
use nix::sys::signal::Signal;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::{
    task::{JoinSet, spawn_blocking},
    time::{sleep, timeout},
};

use crate::{
    diary::Diary,
    world::{ACK_WAIT_MS, CAMPAIGN, LEASE_MS, World},
};

/// Between two kills of a service, in milliseconds.
const BETWEEN_KILLS_MS: std::ops::Range<u64> = 700..1_300;
/// How long a service is paused for, at least: longer than every wait for a sign of life.
const PAUSE_MS_MIN: u64 = if ACK_WAIT_MS > LEASE_MS { ACK_WAIT_MS } else { LEASE_MS } + 2_000;

/// After so long a process has seen that its clock has jumped.
const CLOCK_SEEN: Duration = Duration::from_secs(1);

/// How long a server of a cluster may take until it has all that it missed.
const HEALTHY_WAIT: Duration = Duration::from_secs(120);
/// How long the question who leads may take.
const LEADER_WAIT: Duration = Duration::from_secs(3);

/// Something that goes wrong, and is mended after a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Pause,
    Nats,
    Source,
    Destination,
    Dns,
    Cut,
    Silence,
    Delay,
    Store,
    Clock,
}

const FAULTS: [Fault; 10] = [
    Fault::Pause,
    Fault::Nats,
    Fault::Source,
    Fault::Destination,
    Fault::Dns,
    Fault::Cut,
    Fault::Silence,
    Fault::Delay,
    Fault::Store,
    Fault::Clock,
];

/// One fault, with all that was drawn for it.
#[derive(Debug, Clone, Copy)]
struct Blow {
    fault: Fault,
    /// Which of the things that it may strike.
    which: usize,
    side: usize,
    ms: u64,
    /// By how much a clock jumps, in seconds.
    jump_s: i64,
}

/// The weather of one run.
#[derive(Clone)]
pub struct Weather {
    world: Arc<World>,
    diary: Arc<Diary>,
    /// What is struck just now, so that nothing is struck twice at once.
    struck: Arc<Mutex<HashSet<String>>>,
}

impl Weather {
    /// Fair so far.
    pub fn new(world: Arc<World>, diary: Arc<Diary>) -> Self {
        Self { world, diary, struck: Arc::default() }
    }

    /// Storms until `until` or until `over`; everything is mended afterwards.
    pub async fn storm(self, seed: u64, until: Instant, over: impl Fn() -> bool) -> Result<()> {
        let mut random = StdRng::seed_from_u64(seed);
        let mut blows = JoinSet::new();
        while Instant::now() < until && !over() {
            let which = random.random_range(0..self.world.services.len());
            let down_ms = random.random_range(100..1_000);
            let larger = [draw(&mut random), draw(&mut random)];
            let number = random.random_range(0..=larger.len());
            let between_ms = random.random_range(BETWEEN_KILLS_MS);
            blows.spawn(self.clone().kill(which, down_ms));
            for blow in &larger[..number] {
                blows.spawn(self.clone().strike(*blow));
            }
            while let Some(ended) = blows.try_join_next() {
                ended??;
            }
            sleep(Duration::from_millis(between_ms)).await;
        }
        while let Some(ended) = blows.join_next().await {
            ended??;
        }
        self.world.mend().await
    }

    async fn kill(self, which: usize, down_ms: u64) -> Result<()> {
        let service = &self.world.services[which];
        let Some(_turn) = self.turn(&service.name) else { return Ok(()) };
        self.diary.count("service killed", &service.name);
        service.kill();
        sleep(Duration::from_millis(down_ms)).await;
        self.world.run(service)
    }

    async fn strike(self, blow: Blow) -> Result<()> {
        let for_a_while = || sleep(Duration::from_millis(blow.ms));
        let fleet = &self.world.fleet;
        match blow.fault {
            Fault::Pause => self.pause(blow).await,
            Fault::Clock => self.jump(blow).await,
            Fault::Store => self.fill(blow).await,
            Fault::Nats => self.nats(blow).await,
            Fault::Dns => {
                let Some(_turn) = self.turn("named") else { return Ok(()) };
                self.diary.count("DNS server killed", &format!("for {} ms", blow.ms));
                fleet.bind.kill()?;
                for_a_while().await;
                let world = Arc::clone(&self.world);
                spawn_blocking(move || world.fleet.bind.restart()).await?
            }
            Fault::Source | Fault::Destination => {
                let (kind, servers) = match blow.fault {
                    Fault::Source => ("source killed", &fleet.sources),
                    _ => ("destination killed", &fleet.destinations),
                };
                let server = &servers[blow.which % servers.len()];
                let Some(_turn) = self.turn(server.name()) else { return Ok(()) };
                self.diary.count(kind, &format!("{} for {} ms", server.name(), blow.ms));
                server.kill()?;
                for_a_while().await;
                server.restart().await
            }
            Fault::Cut => self.link(blow, "link cut", State::Cut).await,
            Fault::Silence => self.link(blow, "link silent", State::Silent).await,
            Fault::Delay => {
                let delay = Duration::from_millis(20 + blow.ms / 10);
                self.link(blow, "link delayed", State::Open(delay)).await
            }
        }
    }

    /// One nats-server at a time: of three, one may fail.
    async fn nats(self, blow: Blow) -> Result<()> {
        let Some(_turn) = self.turn("nats-server") else { return Ok(()) };
        let Some((_, cluster)) = &self.world.cluster else {
            self.diary.count("nats-server killed", &format!("for {} ms", blow.ms));
            return self.kill_nats(0, blow.ms, false).await;
        };
        let others = SERVERS - 1;
        let leader = leader(&self.world).await.unwrap_or(blow.which % SERVERS);
        let follower = (leader + 1 + blow.which % others) % SERVERS;
        let whom = |n: usize| format!("nats-{} for {} ms", n + 1, blow.ms);
        let struck = match blow.which % 5 {
            0 | 1 => {
                self.diary.count("leader killed", &whom(leader));
                self.kill_nats(leader, blow.ms, false).await?;
                leader
            }
            2 => {
                self.diary.count("follower wiped", &whom(follower));
                self.kill_nats(follower, blow.ms, true).await?;
                follower
            }
            3 => {
                self.diary.count("leader parted", &whom(leader));
                cluster.set(leader, State::Cut);
                sleep(Duration::from_millis(blow.ms)).await;
                cluster.set(leader, State::Open(Duration::ZERO));
                leader
            }
            _ => {
                self.diary.count("leader paused", &whom(leader));
                let servers = self.world.nats_servers();
                servers[leader].signal(Signal::SIGSTOP)?;
                sleep(Duration::from_millis(blow.ms)).await;
                servers[leader].signal(Signal::SIGCONT)?;
                leader
            }
        };
        // Before another may fail, this one has to have all that it missed.
        cluster.wait_healthy(struck, HEALTHY_WAIT).await
    }

    async fn kill_nats(&self, n: usize, ms: u64, wiped: bool) -> Result<()> {
        self.world.nats_servers()[n].kill()?;
        if wiped {
            fs::remove_dir_all(self.world.nats_servers()[n].dir().join("store"))?;
        }
        sleep(Duration::from_millis(ms)).await;
        let world = Arc::clone(&self.world);
        spawn_blocking(move || world.nats_servers()[n].restart()).await?
    }

    async fn pause(self, blow: Blow) -> Result<()> {
        let service = &self.world.services[blow.which % self.world.services.len()];
        let Some(_turn) = self.turn(&service.name) else { return Ok(()) };
        let ms = PAUSE_MS_MIN + blow.ms;
        self.diary.count("service paused", &format!("{} for {ms} ms", service.name));
        service.signal(Signal::SIGSTOP)?;
        sleep(Duration::from_millis(ms)).await;
        service.signal(Signal::SIGCONT)
    }

    async fn jump(self, blow: Blow) -> Result<()> {
        let clocks: Vec<_> =
            self.world.services.iter().filter(|service| self.world.has_clock(service)).collect();
        if clocks.is_empty() {
            return Ok(());
        }
        let service = clocks[blow.which % clocks.len()];
        let Some(_turn) = self.turn(&format!("clock of {}", service.name)) else { return Ok(()) };
        let what = format!("{}, {:+} s for {} ms", service.name, blow.jump_s, blow.ms);
        self.diary.count("clock jumped", &what);
        self.world.set_clock(service, blow.jump_s)?;
        sleep(CLOCK_SEEN + Duration::from_millis(blow.ms)).await;
        self.world.set_clock(service, 0)
    }

    async fn fill(self, blow: Blow) -> Result<()> {
        if !self.world.can_fill {
            return Ok(());
        }
        let Some(_turn) = self.turn("store") else { return Ok(()) };
        self.diary.count("store full", &format!("for {} ms", blow.ms));
        let ballast = self.world.store.join("ballast");
        let path = ballast.clone();
        spawn_blocking(move || fill_up(path)).await??;
        sleep(Duration::from_millis(blow.ms)).await;
        Ok(fs::remove_file(ballast)?)
    }

    async fn link(self, blow: Blow, kind: &'static str, state: State) -> Result<()> {
        let links = &self.world.links[blow.side];
        let (name, link) = &links[blow.which % links.len()];
        let what = format!("{name} of side {}", ["a", "b"][blow.side]);
        let Some(_turn) = self.turn(&what) else { return Ok(()) };
        self.diary.count(kind, &format!("{what} for {} ms", blow.ms));
        link.set(state);
        sleep(Duration::from_millis(blow.ms)).await;
        link.set(State::Open(Duration::ZERO));
        Ok(())
    }

    /// The right to strike something, until it is dropped; none where it is struck already.
    fn turn(&self, name: &str) -> Option<Turn> {
        let mut struck = self.struck.lock().unwrap_or_else(PoisonError::into_inner);
        let turn = || Turn { struck: Arc::clone(&self.struck), name: name.to_owned() };
        struck.insert(name.to_owned()).then(turn)
    }
}

struct Turn {
    struck: Arc<Mutex<HashSet<String>>>,
    name: String,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.struck.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.name);
    }
}

/// Which of the cluster's servers leads the campaign's events; none where nobody says so.
async fn leader(world: &World) -> Option<usize> {
    let asked = async {
        let context = jetstream::new(world.bus().await.ok()?);
        let stream = context.get_stream(format!("DROVER_EVENTS_{CAMPAIGN}")).await.ok()?;
        let leader = stream.cached_info().cluster.as_ref()?.leader.clone()?;
        leader.strip_prefix("nats-")?.parse::<usize>().ok()?.checked_sub(1)
    };
    timeout(LEADER_WAIT, asked).await.ok().flatten().filter(|n| *n < SERVERS)
}

fn draw(random: &mut StdRng) -> Blow {
    let sign = if random.random_bool(0.5) { 1 } else { -1 };
    Blow {
        fault: FAULTS[random.random_range(0..FAULTS.len())],
        which: random.random_range(0..1_000),
        side: random.random_range(0..2),
        ms: random.random_range(300..4_000),
        jump_s: sign * random.random_range(30..7_200),
    }
}

/// Writes until there is no room.
fn fill_up(path: PathBuf) -> Result<()> {
    let mut file = fs::File::create(path)?;
    let piece = vec![0; 64 << 10];
    loop {
        match file.write_all(&piece) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::StorageFull => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}
