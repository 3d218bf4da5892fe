//! The fleet and its databases, drawn from a seed: which servers there are, what is wrong with
//! some of them, which database lies where, how large it is, and how long a step of it takes.
//!
//! Everything here is a pure function of the seed, so that a run can be repeated, and so that
//! the processes of one run agree without telling each other.

use std::{collections::HashMap, time::Duration};

use anyhow::{Context as _, Result};
use drover_lifecycle::admission::Slots;
use drover_schemas::{
    CampaignName, MigrationId, ServerName,
    v1::{Job, MigrationPlanned, Step},
};

/// The median size of a database, in bytes: a small site's, as the reference campaign's were.
const SIZE_MEDIAN_BYTES: f64 = 300_000.0;
/// The spread of the sizes' logarithm: one in a hundred is 30 times as large as the median.
const SIZE_SIGMA: f64 = 1.5;
/// The largest, in bytes.
const SIZE_BYTES_MAX: f64 = 5e9;
/// How much slower a slow host is.
pub const SLOW_FACTOR: f64 = 10.0;

/// What a fleet is made of. All of it goes to the other processes as arguments.
#[derive(Debug, Clone, PartialEq, clap::Args)]
pub struct Fleet {
    /// Everything is drawn from it.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// How many servers databases are moved away from.
    #[arg(long, default_value_t = 780)]
    pub sources: u32,
    /// How many they are moved to.
    #[arg(long, default_value_t = 300)]
    pub destinations: u32,
    /// How many databases of one source are in work at once.
    #[arg(long, default_value_t = 4)]
    pub per_source: u32,
    /// How many databases are in work at once at one destination.
    #[arg(long, default_value_t = 8)]
    pub per_destination: u32,
    /// How many steps at once a host does without getting slower; past it the time of each grows
    /// as their number does.
    #[arg(long, default_value_t = 8)]
    pub knee: u32,
    /// How many steps at once the storage that all hosts share does without getting slower. 0: they
    /// share none.
    #[arg(long, default_value_t = 0)]
    pub shared_knee: u32,
    /// By which share a host, or the shared storage, does less work a second for each further
    /// knee's worth of steps past its knee. 0: it only divides its time.
    #[arg(long, default_value_t = 0.2)]
    pub thrash: f64,
    /// How far the times of one step spread: the standard deviation of their logarithm. 0: they
    /// differ by the database's size alone.
    #[arg(long, default_value_t = 0.0)]
    pub spread: f64,
    /// Of a million attempts at a step, so many fail and can be repeated.
    #[arg(long, default_value_t = 1_000)]
    pub failures_per_million: u64,
    /// Of a million databases, so many fail for good in some step.
    #[arg(long, default_value_t = 0)]
    pub hopeless_per_million: u64,
    /// Sources that are ten times as slow.
    #[arg(long, default_value_t = 0)]
    pub slow: u32,
    /// Sources that answer eight times, then not for twenty-four times, and so on.
    #[arg(long, default_value_t = 0)]
    pub flapping: u32,
    /// Sources that never answer.
    #[arg(long, default_value_t = 0)]
    pub dead: u32,
    /// Destinations that say that an import succeeded, and have done nothing.
    #[arg(long, default_value_t = 0)]
    pub lying: u32,
    /// When so many databases have been frozen, all destinations become ten times as slow, for good. 0:
    /// never.
    #[arg(long, default_value_t = 0)]
    pub slowed_after: u64,
    /// Times are so many times as short as they would be.
    #[arg(long, default_value_t = 200.0)]
    pub time_scale: f64,
    /// Steps take so many times as long as the model says: 90 with 400 in flight is the reference
    /// campaign's rate of some 13,500 an hour.
    #[arg(long, default_value_t = 1.0)]
    pub stretch: f64,
}

/// What is the matter with a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// Nothing.
    Sound,
    /// It takes its time.
    Slow,
    /// It is there for a while, and away for a while.
    Flapping,
    /// It never answers.
    Dead,
    /// It says that it has imported, and has not.
    Lying,
}

impl Fleet {
    /// The servers with their slots.
    pub fn slots(&self) -> Result<HashMap<ServerName, Slots>> {
        let source = Slots { as_source: self.per_source, as_destination: 0 };
        let destination = Slots { as_source: 0, as_destination: self.per_destination };
        let sources = (0..self.sources).map(|n| Ok((source_name(n)?, source)));
        let destinations = (0..self.destinations).map(|n| Ok((destination_name(n)?, destination)));
        sources.chain(destinations).collect()
    }

    /// What is the matter with a source: the first ones have it, in the order of [`Health`].
    pub fn source_health(&self, n: u32) -> Health {
        let kinds = [
            (self.slow, Health::Slow),
            (self.flapping, Health::Flapping),
            (self.dead, Health::Dead),
        ];
        let mut end = 0;
        for (count, health) in kinds {
            end += count;
            if n < end {
                return health;
            }
        }
        Health::Sound
    }

    /// What is the matter with a destination.
    pub fn destination_health(&self, n: u32) -> Health {
        if n < self.lying { Health::Lying } else { Health::Sound }
    }

    /// The inventory's row of the `n`th database.
    pub fn row(&self, campaign: &CampaignName, n: u64) -> Result<(MigrationId, MigrationPlanned)> {
        let source = source_name((n % u64::from(self.sources.max(1))) as u32)?;
        let draw = mix(self.seed ^ mix(n));
        let destination = destination_name((draw % u64::from(self.destinations.max(1))) as u32)?;
        let database = database_name(n);
        let id = MigrationId::new(campaign, &source, &database);
        let planned = MigrationPlanned {
            campaign: campaign.to_string(),
            database,
            source: source.to_string(),
            destination: destination.to_string(),
            host_names: vec![format!("www.site{n:07}.example.net")],
            wave: format!("night-{:02}", n / 13_500),
            owner: format!("owner{n:07}@example.net"),
            ..Default::default()
        };
        Ok((id, planned))
    }

    /// How large a database is, in bytes: log-normal, as those of web hosting are.
    pub fn size_bytes(&self, database: &str) -> u64 {
        let draw = text(self.seed, database);
        (SIZE_MEDIAN_BYTES * (SIZE_SIGMA * gauss(draw)).exp()).min(SIZE_BYTES_MAX) as u64
    }

    /// By which factor an attempt takes longer, or shorter, than its step does on average.
    pub fn luck(&self, job: &Job) -> f64 {
        if self.spread == 0.0 {
            return 1.0;
        }
        let name = format!("{} {} {}", job.migration_id, job.step, job.attempt);
        (self.spread * gauss(text(self.seed ^ 0x1cc, &name)) - self.spread.powi(2) / 2.0).exp()
    }

    /// How long a step takes at a sound host that does nothing else.
    pub fn step_time(&self, step: Step, bytes: u64) -> Duration {
        let megabytes = bytes as f64 / 1e6;
        // In milliseconds: once, and for each megabyte.
        let (once, each) = match step {
            Step::Freeze => (120.0, 0.0),
            Step::Dump => (150.0, 15.0),
            Step::Import => (350.0, 60.0),
            Step::Verify => (120.0, 15.0),
            Step::Open => (80.0, 0.0),
            Step::Switch => (300.0, 0.0),
            Step::Retire | Step::Thaw | Step::Close => (60.0, 0.0),
            Step::Disarm => (10.0, 0.0),
            Step::Drop => (100.0, 1.0),
            Step::Publish | Step::Expire => (20.0, 0.0),
            Step::Announce => (50.0, 0.0),
            Step::Revert => (300.0, 0.0),
            Step::Unspecified => (0.0, 0.0),
        };
        let ms = (once + each * megabytes) * self.stretch / self.time_scale.max(f64::MIN_POSITIVE);
        Duration::from_secs_f64(ms / 1e3)
    }

    /// How long the longest step of a campaign takes, at a sound host that does nothing else.
    pub fn longest_step(&self, migrations: u64) -> Duration {
        let largest = (0..migrations).map(|n| self.size_bytes(&database_name(n))).max();
        self.step_time(Step::Import, largest.unwrap_or_default())
    }

    /// How much a slow host stretches its steps.
    pub fn slowness(health: Health) -> f64 {
        match health {
            Health::Slow => SLOW_FACTOR,
            Health::Sound | Health::Flapping | Health::Dead | Health::Lying => 1.0,
        }
    }

    /// Whether this attempt at a step fails, though it could be repeated.
    pub fn fails(&self, id: MigrationId, step: Step, run: u32, attempt: u32) -> bool {
        let draw = text(self.seed, &format!("{id} {} {run} {attempt}", step as i32));
        draw % 1_000_000 < self.failures_per_million
    }

    /// The step in which a database fails for good; none for most.
    pub fn hopeless(&self, database: &str) -> Option<Step> {
        let draw = text(self.seed ^ 0x5eed, database);
        let steps = [Step::Freeze, Step::Dump, Step::Import, Step::Open, Step::Switch];
        (draw % 1_000_000 < self.hopeless_per_million)
            .then(|| steps[(mix(draw) % steps.len() as u64) as usize])
    }

    /// These as arguments of another process.
    pub fn arguments(&self) -> Vec<String> {
        [
            ("seed", self.seed.to_string()),
            ("sources", self.sources.to_string()),
            ("destinations", self.destinations.to_string()),
            ("per-source", self.per_source.to_string()),
            ("per-destination", self.per_destination.to_string()),
        ]
        .into_iter()
        .map(|(name, value)| format!("--{name}={value}"))
        .collect()
    }
}

/// The `n`th database's name.
fn database_name(n: u64) -> String {
    format!("site{n:07}_wp")
}

/// The `n`th source's name.
pub fn source_name(n: u32) -> Result<ServerName> {
    format!("src-{n:03}").parse().context("a source's name")
}

/// The `n`th destination's name.
pub fn destination_name(n: u32) -> Result<ServerName> {
    format!("dst-{n:03}").parse().context("a destination's name")
}

/// A well mixed number (splitmix64).
pub fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// As an object's SHA-256 is written, and as random.
pub fn sum(object: &str) -> String {
    (0..4).map(|n| format!("{:016x}", text(n, object))).collect()
}

fn text(seed: u64, text: &str) -> u64 {
    text.bytes().fold(mix(seed), |hash, byte| mix(hash ^ u64::from(byte)))
}

/// Uniform in 0..1.
fn unit(draw: u64) -> f64 {
    (draw >> 11) as f64 / (1u64 << 53) as f64
}

/// Normal, with mean 0 and standard deviation 1 (Box and Muller).
fn gauss(draw: u64) -> f64 {
    let (u, v) = (unit(mix(draw)), unit(mix(draw ^ 1)));
    (-2.0 * u.max(f64::MIN_POSITIVE).ln()).sqrt() * (std::f64::consts::TAU * v).cos()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    #[derive(clap::Parser)]
    struct Args {
        #[command(flatten)]
        fleet: Fleet,
    }

    fn fleet() -> Fleet {
        Args::parse_from(["fleet"]).fleet
    }

    #[test]
    fn sizes_are_spread_as_those_of_small_sites_are() {
        let fleet = fleet();
        let mut sizes: Vec<u64> =
            (0..20_000).map(|n| fleet.size_bytes(&format!("db{n}"))).collect();
        sizes.sort_unstable();
        let (median, high) = (sizes[10_000] as f64, sizes[19_800] as f64);
        assert!((0.9..1.1).contains(&(median / SIZE_MEDIAN_BYTES)), "{median}");
        assert!((25.0..45.0).contains(&(high / median)), "{high}");
    }

    #[test]
    fn the_same_seed_gives_the_same_fleet() {
        let (one, campaign) = (fleet(), "night".parse().unwrap());
        assert_eq!(one.row(&campaign, 7).unwrap(), fleet().row(&campaign, 7).unwrap());
        let other = Fleet { seed: 2, ..fleet() };
        let place = |fleet: &Fleet, n| fleet.row(&campaign, n).unwrap().1.destination;
        assert!((0..20).any(|n| place(&one, n) != place(&other, n)));
    }
}
