//! One run: everything up, a storm over a campaign, calm, the verdict.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use tokio::{task::JoinSet, time::sleep};

use crate::{
    StormArgs,
    customers::{Book, Customers},
    diary::Diary,
    progress::{History, Progress, follow},
    verdict::Verdict,
    watch::{FILES_MAX, MEMORY_MB_MAX, Peaks, watch},
    weather::Weather,
    world::{CAMPAIGN, World},
};

/// More databases than a minute of storm usually takes, at the campaign's slots: a storm ends with
/// the campaign.
const DATABASES_A_MINUTE: f64 = 60.0;
/// The campaign's slots.
const IN_FLIGHT_MAX: usize = 8;
/// Databases whose customers write at a time: those in flight, and those that come next.
const WINDOW: usize = 4 * IN_FLIGHT_MAX;
/// How long they write before the campaign begins.
const BEFOREHAND: Duration = Duration::from_secs(2);
/// How long customers go on after their migration has completed.
const AFTERWARDS: Duration = Duration::from_secs(3);
/// How often an operator tries again what is parked, in a storm.
const RETRY_EVERY: Duration = Duration::from_secs(15);
/// How long the campaign may stand still after the storm.
const STANDSTILL_MAX: Duration = Duration::from_secs(120);
/// How often what the storm parked is tried again after it.
const RETRIES_MAX: usize = 5;
/// How often is looked.
const LOOK_EVERY: Duration = Duration::from_millis(300);

struct Run {
    world: Arc<World>,
    diary: Arc<Diary>,
    progress: Arc<Mutex<Progress>>,
    peaks: Peaks,
    books: BTreeMap<usize, Book>,
    writing: BTreeMap<usize, Customers>,
    ending: JoinSet<(usize, Book)>,
    /// The herd's databases in the order in which they were planned.
    order: Vec<usize>,
}

/// Holds it; whether every promise held.
///
/// # Errors
/// When it could not be held to its end.
pub async fn run(args: StormArgs) -> Result<bool> {
    let seed = args.seed.unwrap_or_else(|| rand::random_range(1..1_000_000));
    let diary = Arc::new(Diary::new());
    let databases = args.databases.unwrap_or((args.minutes * DATABASES_A_MINUTE).ceil() as usize);
    diary.say(&format!("seed {seed}, {databases} databases, {} minutes", args.minutes));
    let world = Arc::new(World::start(databases, args.store.clone(), args.cluster).await?);
    diary.say(&format!("everything runs in {}", world.fleet.bed.dir().display()));
    if !world.can_fill {
        diary.say("left out: the store is not filled, as it has no file system of its own");
    }
    if world.faketime.is_none() {
        diary.say("left out: no clock jumps, as faketime is not installed");
    }
    let mut run = Run {
        world: Arc::clone(&world),
        diary: Arc::clone(&diary),
        progress: Arc::default(),
        peaks: Arc::default(),
        books: BTreeMap::new(),
        writing: BTreeMap::new(),
        ending: JoinSet::new(),
        order: Vec::new(),
    };
    let outcome = run.hold(seed, args.minutes).await;
    if args.keep || outcome.is_err() {
        world.fleet.bed.keep()?;
        diary.say(&format!("kept: {}", world.fleet.bed.dir().display()));
    }
    outcome
}

impl Run {
    async fn hold(&mut self, seed: u64, minutes: f64) -> Result<bool> {
        let inventory = self.world.herd.write_inventory(&self.world.fleet)?;
        let inventory = inventory.display().to_string();
        self.world.drover(&["plan", CAMPAIGN, "--inventory", &inventory]).await?;
        let planned = Progress::read(&self.world).await?;
        self.order = (0..self.world.herd.movers.len()).collect();
        self.order.sort_by_key(|n| {
            let mover = &self.world.herd.movers[*n];
            planned.of(&mover.source, &mover.site.database).map(|history| history.place)
        });
        self.keep_writing()?;
        sleep(BEFOREHAND).await;
        let slots = IN_FLIGHT_MAX.to_string();
        self.world.drover(&["start", CAMPAIGN, "--max-in-flight", &slots]).await?;
        let mut beside = JoinSet::new();
        beside.spawn(follow(Arc::clone(&self.world), Arc::clone(&self.progress)));
        beside.spawn(watch(Arc::clone(&self.world), Arc::clone(&self.peaks)));
        self.storm(seed, minutes).await?;
        self.diary.say("calm");
        let mut verdict = Verdict::default();
        self.until_rest().await?;
        let progress = Progress::read(&self.world).await?;
        self.diary.say(&format!("{} are parked", progress.count(History::is_parked)));
        verdict.parked(&self.world, &progress).await?;
        // What the storm parked has nothing in its way any more.
        for _ in 0..RETRIES_MAX {
            if Progress::read(&self.world).await?.count(History::is_parked) == 0 {
                break;
            }
            self.world.drover(&["retry", CAMPAIGN, "--all"]).await?;
            self.until_rest().await?;
        }
        sleep(AFTERWARDS).await;
        self.end_writing().await?;
        let progress = Progress::read(&self.world).await?;
        verdict.completed(&self.world, &progress, &self.books).await?;
        self.bounds(&mut verdict);
        self.report(&verdict, &progress);
        Ok(verdict.breaches.is_empty())
    }

    async fn storm(&mut self, seed: u64, minutes: f64) -> Result<()> {
        let until = Instant::now() + Duration::from_secs_f64(minutes * 60.0);
        let (progress, total) = (Arc::clone(&self.progress), self.world.herd.movers.len());
        let over = move || {
            let progress = progress.lock().unwrap_or_else(PoisonError::into_inner);
            progress.count(History::is_completed) == total
        };
        let weather = Weather::new(Arc::clone(&self.world), Arc::clone(&self.diary));
        let mut storm = tokio::spawn(weather.storm(seed, until, over));
        let (mut retried, mut operator) = (Instant::now(), JoinSet::new());
        let ended = loop {
            tokio::select! {
                ended = &mut storm => break ended?,
                () = sleep(LOOK_EVERY) => {}
            }
            self.keep_writing()?;
            while operator.try_join_next().is_some() {}
            if retried.elapsed() > RETRY_EVERY {
                retried = Instant::now();
                let world = Arc::clone(&self.world);
                operator.spawn(async move { world.operate().await });
            }
        };
        // What the operator has begun to try again would move while it is judged.
        operator.join_all().await;
        ended
    }

    /// Begins with the customers of what is to move next, and ends those of what has moved.
    fn keep_writing(&mut self) -> Result<()> {
        let progress = self.look(Clone::clone);
        let history = |n: usize| {
            let mover = &self.world.herd.movers[n];
            progress.of(&mover.source, &mover.site.database)
        };
        let completed = |n: usize| history(n).filter(|history| history.is_completed());
        let is_over = |n: usize| {
            let since = completed(n).and_then(|history| history.rested);
            since.is_some_and(|since| since.elapsed() > AFTERWARDS)
        };
        let over: Vec<usize> = self.writing.keys().copied().filter(|n| is_over(*n)).collect();
        let next = self.order.iter().copied().filter(|n| completed(*n).is_none());
        let next: Vec<usize> = next.take(WINDOW).collect();
        for n in over {
            if let Some(customers) = self.writing.remove(&n) {
                self.ending.spawn(async move { (n, customers.end().await) });
            }
        }
        for n in next {
            let start = || Customers::start(&self.world, &self.world.herd.movers[n]);
            self.writing.entry(n).or_insert_with(start);
        }
        while let Some(ended) = self.ending.try_join_next() {
            self.books.extend([ended?]);
        }
        Ok(())
    }

    async fn end_writing(&mut self) -> Result<()> {
        for (n, customers) in std::mem::take(&mut self.writing) {
            self.ending.spawn(async move { (n, customers.end().await) });
        }
        while let Some(ended) = self.ending.join_next().await {
            self.books.extend([ended?]);
        }
        Ok(())
    }

    /// Waits until all are completed or parked, as long as something moves.
    async fn until_rest(&mut self) -> Result<()> {
        let total = self.world.herd.movers.len();
        let (mut seen, mut since) = (0, Instant::now());
        self.world.take_in_again().await;
        let mut operated = Instant::now();
        loop {
            let now = chrono::Utc::now().timestamp_millis();
            let (rest, events, put_off) = self.look(|progress| {
                let events = progress.histories.values().map(|it| it.events.len()).sum::<usize>();
                let rest = progress.count(|it| it.is_completed() || it.is_parked());
                (rest, events, progress.count(|it| it.is_put_off(now)))
            });
            // What was followed may be from before the last retry.
            if rest == total && self.rests_now().await? {
                return Ok(());
            }
            if events != seen || put_off > 0 {
                (seen, since) = (events, Instant::now());
            }
            if since.elapsed() > STANDSTILL_MAX {
                let stuck = self.look(Progress::under_way);
                bail!("{rest} of {total} are at rest, and nothing moves:\n{stuck}");
            }
            self.keep_writing()?;
            if operated.elapsed() > RETRY_EVERY {
                operated = Instant::now();
                self.world.take_in_again().await;
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// Whether all are completed or parked in the log as it is now.
    async fn rests_now(&self) -> Result<bool> {
        let now = Progress::read(&self.world).await?;
        let rest = now.count(|it| it.is_completed() || it.is_parked());
        Ok(rest == self.world.herd.movers.len())
    }

    fn bounds(&self, verdict: &mut Verdict) {
        for (kind, taken) in self.peaks.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            if taken.memory_kb > MEMORY_MB_MAX << 10 {
                verdict.breaches.push(format!("{kind} took {} MB", taken.memory_kb >> 10));
            }
            if taken.files > FILES_MAX {
                verdict.breaches.push(format!("{kind} had {} files open", taken.files));
            }
        }
    }

    fn report(&self, verdict: &Verdict, progress: &Progress) {
        println!("\ndone:      {}", self.diary.summary());
        let runs = |it: &History| it.count("MigrationAdmitted");
        let again = progress.count(|it| runs(it) > 1);
        let failures: usize = progress.histories.values().map(|it| it.count("StepFailed")).sum();
        let (completed, total) =
            (progress.count(History::is_completed), self.world.herd.movers.len());
        println!(
            "campaign:  {completed} of {total} completed, {again} of them after being undone; \
             {failures} failed attempts"
        );
        let acknowledged: usize = self.books.values().map(|it| it.acknowledged.len()).sum();
        let refused: u64 = self.books.values().map(|it| it.refused).sum();
        println!("customers: {acknowledged} writes acknowledged, {refused} times turned away");
        let mut gaps: Vec<f64> = self.books.values().map(|it| it.gap_max.as_secs_f64()).collect();
        gaps.sort_by(f64::total_cmp);
        let at = |share: f64| gaps.get(((gaps.len() as f64 - 1.0) * share).round() as usize);
        println!(
            "without writes, by database (servers that were down included): median {:.1} s, \
             p99 {:.1} s, longest {:.1} s",
            at(0.5).unwrap_or(&0.0),
            at(0.99).unwrap_or(&0.0),
            at(1.0).unwrap_or(&0.0)
        );
        let longest = self.books.iter().max_by_key(|(_, book)| book.gap_max);
        let longest = longest.map(|(n, _)| &self.world.herd.movers[*n]);
        if let Some(history) = longest.and_then(|it| progress.of(&it.source, &it.site.database)) {
            print!("the longest was {}:\n{}", history.database.escape_debug(), history.lines());
        }
        let peaks = self.peaks.lock().unwrap_or_else(PoisonError::into_inner);
        let peaks: Vec<String> = peaks
            .iter()
            .map(|(kind, it)| format!("{kind} {} MB {} files", it.memory_kb >> 10, it.files))
            .collect();
        println!("peaks:     {}", peaks.join(", "));
        for remark in &verdict.remarks {
            println!("remark:    {remark}");
        }
        for breach in &verdict.breaches {
            println!("BREACH     {breach}");
        }
        match verdict.breaches.len() {
            0 => println!("every promise held"),
            n => println!("{n} breaches"),
        }
    }

    fn look<T>(&self, at: impl FnOnce(&Progress) -> T) -> T {
        at(&self.progress.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
