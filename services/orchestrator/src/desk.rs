//! The orchestrator's loop: news in, actions out.

use std::{
    borrow::Cow,
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, HashSet},
    time::Duration,
};

use chrono::Utc;
use drover_bus::{Bus, Held};
use drover_lifecycle::{admission::Slots, forecast::foresee};
use drover_schemas::{
    CampaignName, ServerName,
    v1::{ServiceStatus, migration_event},
};
use prost::Message as _;
use tokio::{
    sync::mpsc,
    task::{JoinError, JoinSet},
    time::{Instant, interval, sleep_until},
};
use tokio_util::sync::CancellationToken;

use crate::{
    Error,
    act::{Done, Hands, Outcome},
    board::{Action, Board, Key},
    follow::{ITEMS_MAX, follow_all},
};

mod beside;
mod intake;
mod touched;

use self::{
    beside::{LOADS_MAX, QUESTIONS_MAX, answer, listen},
    touched::Touched,
};

/// The service's name: of its lease, its control subject and its events' source.
const NAME: &str = "orchestrator";
/// How many exchanges with the bus are under way at once: enough to keep a server busy.
const ACTS_MAX: usize = 256;
/// Items taken in before the desk acts again.
const BATCH_MAX: usize = 512;
/// How often all that is due is ordered again. An order that is there is kept once, so this only
/// costs; it is for an order that was lost between its decision and the queue.
const SWEEP_EVERY: Duration = Duration::from_secs(30);
/// Before an exchange that failed is tried again, in milliseconds.
const AGAIN_MS: i64 = 1_000;
/// How often it is looked whether a campaign's slots are to be moved.
const TUNE_EVERY: Duration = Duration::from_secs(1);
/// How often it is looked whose time has come near: well within what is near to the board, and seldom,
/// as it goes through all migrations.
const LOOK_EVERY: Duration = Duration::from_secs(300);
/// How often it is foreseen when campaigns will have come to their ends.
const FORESEE_EVERY: Duration = Duration::from_secs(15);

type Timer = Reverse<(i64, Key, u64)>;

/// The loop's state.
pub struct Desk {
    bus: Bus,
    lease_time: Duration,
    hands: Hands,
    instance: String,
    started_at_unix_ms: i64,
    board: Board,
    held: Option<Held>,
    /// Migrations to be looked at.
    touched: Touched,
    timers: BinaryHeap<Timer>,
    acts: JoinSet<Done>,
}

impl Desk {
    /// Knows nothing yet.
    pub fn new(
        bus: Bus,
        lease_time: Duration,
        slots: HashMap<ServerName, Slots>,
        instance: String,
    ) -> Self {
        let source = format!("drover/{NAME}/{instance}");
        Self {
            hands: Hands { bus: bus.clone(), source },
            bus,
            lease_time,
            instance,
            started_at_unix_ms: now(),
            board: Board::new(slots),
            held: None,
            touched: Touched::default(),
            timers: BinaryHeap::new(),
            acts: JoinSet::new(),
        }
    }

    /// Runs until `shutdown`.
    pub async fn run(mut self, shutdown: CancellationToken) -> Result<(), Error> {
        let (sender, mut news) = mpsc::channel(ITEMS_MAX);
        let mut beside = JoinSet::new();
        beside.spawn(follow_all(self.bus.clone(), sender, shutdown.clone()));
        let (ask, mut questions) = mpsc::channel(QUESTIONS_MAX);
        beside.spawn(answer(self.bus.clone(), ask, shutdown.clone()));
        let (say, mut loads) = mpsc::channel(LOADS_MAX);
        beside.spawn(listen(self.bus.clone(), say, shutdown.clone()));
        let (hold, mut holds) = mpsc::channel(1);
        let mut sweep = interval(SWEEP_EVERY);
        let mut look = interval(LOOK_EVERY);
        let mut tune = interval(TUNE_EVERY);
        let mut foresee = interval(FORESEE_EVERY);
        let mut batch = Vec::with_capacity(BATCH_MAX);
        self.seek_lease(&hold, &mut beside);
        loop {
            self.pump();
            let next_look = self.next_look();
            tokio::select! {
                () = shutdown.cancelled() => break,
                Some(held) = holds.recv() => self.activate(held),
                () = lost(self.held.as_ref()) => {
                    tracing::warn!("the lease is lost: waiting");
                    self.held = None;
                    self.seek_lease(&hold, &mut beside);
                }
                _ = news.recv_many(&mut batch, BATCH_MAX) => {
                    for piece in batch.drain(..) {
                        self.take_in(piece);
                    }
                }
                Some(done) = self.acts.join_next(), if !self.acts.is_empty() => {
                    self.done(done);
                    while let Some(done) = self.acts.try_join_next() {
                        self.done(done);
                    }
                }
                Some(question) = questions.recv() => {
                    // Who asked may have gone.
                    let _ = question.send(self.status());
                }
                Some((host, load)) = loads.recv() => {
                    for campaign in self.board.hear(&host, &load, now()) {
                        self.judge(&campaign);
                    }
                }
                () = due(next_look) => self.ring(),
                _ = look.tick() => {
                    let coming = self.board.coming(now());
                    self.touch(coming);
                }
                _ = tune.tick() => {
                    self.board.tell_time(now());
                    self.retune();
                }
                _ = foresee.tick() => self.foresee(),
                _ = sweep.tick() => self.touch(self.board.working()),
            }
        }
        // What is under way is fenced, and safe to be left; but it is soon done.
        while self.acts.join_next().await.is_some() {}
        if let Some(held) = self.held.take() {
            held.release().await;
        }
        beside.shutdown().await;
        Ok(())
    }

    fn seek_lease(&self, hold: &mpsc::Sender<Held>, beside: &mut JoinSet<()>) {
        let lease = self.bus.lease(NAME, &self.instance, self.lease_time);
        let hold = hold.clone();
        beside.spawn(async move {
            loop {
                match lease.acquire().await {
                    Ok(held) => {
                        // The receiver lives as long as the desk.
                        let _ = hold.send(held).await;
                        return;
                    }
                    Err(error) => tracing::warn!(%error, "the lease cannot be had"),
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
    }

    fn activate(&mut self, held: Held) {
        tracing::info!(epoch = held.epoch(), "this orchestrator is the active one");
        self.held = Some(held);
        for campaign in self.board.live() {
            self.touch(self.board.waiting(&campaign));
            self.end_campaign(&campaign);
        }
    }

    /// Has migrations looked at, where they stand.
    fn touch(&mut self, keys: impl IntoIterator<Item = Key>) {
        for key in keys {
            if let Some(revision) = self.board.revision(&key) {
                self.touched.push(key, revision);
            }
        }
    }

    fn is_active(&self) -> bool {
        self.held.as_ref().is_some_and(Held::is_held)
    }

    /// Pauses the campaign, or sets a host aside, where the failures call for it.
    fn judge(&mut self, name: &CampaignName) {
        if self.is_active()
            && let Some(verdict) = self.board.judge(name)
            && let Some(campaign) = self.board.campaign(name).cloned()
        {
            self.acts.spawn(self.hands.clone().carry_out(name.clone(), campaign, verdict));
        }
    }

    fn end_campaign(&mut self, name: &CampaignName) {
        if self.is_active()
            && let Some((completed, rolled_back)) = self.board.all_ended(name)
            && let Some(campaign) = self.board.campaign(name).cloned()
        {
            let hands = self.hands.clone();
            self.acts.spawn(hands.complete(name.clone(), campaign, completed, rolled_back));
        }
    }

    fn tell(&mut self, key: &Key, revision: u64, fact: &migration_event::Event) {
        if !self.is_active() {
            return;
        }
        let (hands, key) = (self.hands.clone(), key.clone());
        if let migration_event::Event::StepFailed(failed) = fact {
            self.acts.spawn(hands.tell_failure(key, revision, failed.clone()));
        } else if let migration_event::Event::MigrationParked(parked) = fact {
            let migration = self.board.migration(&key);
            let database = migration.map(|m| m.planned.database.clone()).unwrap_or_default();
            self.acts.spawn(hands.tell_parked(key, revision, database, parked.clone()));
        }
    }

    /// Does what there is to do, as far as the exchanges under way leave room.
    fn pump(&mut self) {
        if !self.is_active() {
            self.touched.clear();
            self.timers.clear();
            return;
        }
        while self.acts.len() < ACTS_MAX {
            let Some(key) = self.touched.next(|key| self.board.revision(key)) else { break };
            self.act(key);
        }
        while self.acts.len() < ACTS_MAX {
            let Some(key) = self.board.admit(now()) else { break };
            if let Some(migration) = self.board.migration(&key).map(Cow::into_owned) {
                self.acts.spawn(self.hands.clone().admit(key, migration));
            }
        }
    }

    fn act(&mut self, key: Key) {
        match self.board.action(&key, now()) {
            Some(Action::Order { job, gone_on_from }) => {
                self.acts.spawn(self.hands.clone().order(key, *job, gone_on_from));
            }
            Some(Action::Timer { at_unix_ms, revision }) => {
                self.timers.push(Reverse((at_unix_ms, key, revision)));
            }
            Some(Action::Settle) => {
                if let Some(migration) = self.board.migration(&key).map(Cow::into_owned) {
                    self.acts.spawn(self.hands.clone().settle(key, migration));
                }
            }
            Some(Action::BreakOff) => {
                if let Some(migration) = self.board.migration(&key).map(Cow::into_owned) {
                    self.acts.spawn(self.hands.clone().break_off(key, migration));
                }
            }
            Some(Action::Recall(paused)) => {
                if let Some(migration) = self.board.migration(&key).map(Cow::into_owned) {
                    self.acts.spawn(self.hands.clone().recall(key, migration, paused));
                }
            }
            None => {}
        }
    }

    fn done(&mut self, done: Result<Done, JoinError>) {
        let done = match done {
            Ok(done) => done,
            Err(error) => return tracing::error!(%error, "an action's task ended"),
        };
        match done {
            Done::Ordered(key, revision, Outcome::Failed)
            | Done::Settled(key, revision, Outcome::Failed) => {
                self.timers.push(Reverse((now() + AGAIN_MS, key, revision)));
            }
            Done::Admitted(key, Outcome::Overtaken | Outcome::Failed) => {
                self.board.not_admitted(&key);
            }
            Done::Foreseen(name, foreseen) => self.board.foresee(&name, foreseen),
            Done::Ordered(_, _, Outcome::Done | Outcome::Overtaken)
            | Done::Settled(_, _, Outcome::Done | Outcome::Overtaken)
            | Done::Admitted(_, Outcome::Done)
            | Done::Told => {}
        }
    }

    /// Foresees the campaigns' ends, beside the loop: that takes a moment.
    fn foresee(&mut self) {
        if !self.is_active() {
            return;
        }
        for (name, rests) in self.board.rests(now()) {
            let seed = now().unsigned_abs();
            self.acts.spawn_blocking(move || Done::Foreseen(name, foresee(&rests, seed)));
        }
    }

    /// Moves the slots of the campaigns that have them moved.
    fn retune(&mut self) {
        if !self.is_active() {
            return;
        }
        let mut moved = HashSet::new();
        for (name, campaign, change) in self.board.retune(now()) {
            moved.insert(name.clone());
            self.acts.spawn(self.hands.clone().retune(name, campaign, change));
        }
        // One of two at once would be refused: the campaign has moved on.
        let may_move = |name: &CampaignName| !moved.contains(name);
        for (name, campaign, hosts) in self.board.retune_hosts(now(), may_move) {
            self.acts.spawn(self.hands.clone().retune_hosts(name, campaign, hosts));
        }
    }

    /// When the next migration is to be looked at.
    fn next_look(&self) -> Option<i64> {
        let timer = self.timers.peek().map(|Reverse((at, _, _))| *at);
        // Who waits for the lease looks at all of them when it has it.
        let deadline = self.board.next_deadline().filter(|_| self.is_active());
        let turn = self.board.next_turn(now()).filter(|_| self.is_active());
        timer.into_iter().chain(deadline).chain(turn).min()
    }

    /// Looks again at the migrations whose time has come.
    fn ring(&mut self) {
        let now = now();
        while let Some(key) = self.board.overdue(now) {
            self.touch([key]);
        }
        while let Some(Reverse((at, _, _))) = self.timers.peek()
            && *at <= now
            && let Some(Reverse((_, key, revision))) = self.timers.pop()
        {
            self.touched.push(key, revision);
        }
    }

    fn status(&self) -> Vec<u8> {
        ServiceStatus {
            service: NAME.to_owned(),
            instance: self.instance.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_at_unix_ms: self.started_at_unix_ms,
            active: self.is_active(),
            campaigns: self.board.overview(),
        }
        .encode_to_vec()
    }
}

async fn lost(held: Option<&Held>) {
    match held {
        Some(held) => held.lost().await,
        None => std::future::pending().await,
    }
}

async fn due(first: Option<i64>) {
    match first {
        Some(at) => {
            let wait = u64::try_from(at - now()).unwrap_or(0);
            sleep_until(Instant::now() + Duration::from_millis(wait)).await;
        }
        None => std::future::pending().await,
    }
}

fn now() -> i64 {
    Utc::now().timestamp_millis()
}
