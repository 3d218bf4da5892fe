//! Hundreds of small databases, side by side as each program does it best.
//!
//! Each program's best number side by side is looked for once, with a part of the databases. Then
//! come the rounds, all programs in each, the servers at rest before every measurement.

use anyhow::Result;
use drover_testbed::seed::{Shape, Site};
use serde_json::{Map, Value, json};

use crate::{
    campaign::{Drover, host_name},
    engine::Engine,
    median,
    profile::{self, Meter},
    round, say,
    stage::Stage,
    stock::{self, Floor},
};

/// From which the rows are made.
const SEED: u64 = 4242;
/// What is tried side by side; with few databases the two that are best on two cores.
const SIDE_BY_SIDE: [usize; 5] = [1, 2, 4, 8, 16];
const SIDE_BY_SIDE_OF_FEW: [usize; 2] = [4, 8];
/// Below so many databases not all is tried.
const MANY: usize = 200;
/// With so many databases the best number is looked for.
const SAMPLE: usize = 48;
/// Up to how many times as long as the fastest takes who counts as fast as it.
const AS_FAST: f64 = 1.05;
/// How many migrations in flight are tried: with fewer, two cores are not busy all of the time, which
/// the short campaign of a sample does not show.
const IN_FLIGHT: [u32; 2] = [8, 16];

/// What is measured.
const NAMES: [&str; 5] = ["pipe", "mydumper", "floor", "engine", "migration"];

/// The databases of a name, numbered.
fn names(stem: &str, number: usize) -> Vec<String> {
    (0..number).map(|n| format!("{stem}_{n}")).collect()
}

fn sites(names: &[String]) -> Vec<Site> {
    let site = |(n, name): (usize, &String)| Site::new(name, Shape::Wordpress, SEED + n as u64);
    names.iter().enumerate().map(site).collect()
}

struct Small {
    stage: Stage,
    engine: Engine,
    databases: Vec<String>,
    /// Of the engine's copies.
    copies: u64,
    /// What the last measurement used, by what was measured.
    profiles: Map<String, Value>,
    /// Databases an hour by what was measured and how many side by side, of the search for the best.
    tried: Map<String, Value>,
}

/// Measures whole migrations alone: in databases an hour, and what each round used for one.
pub async fn migrations(number: usize, rounds: u32, in_flight: u32) -> Result<Value> {
    let moved: Vec<Vec<String>> =
        (1..=rounds).map(|n| names(&format!("moved{n}"), number)).collect();
    let hosts: Vec<String> = moved.iter().flatten().map(|name| host_name(name)).collect();
    let stage = Stage::start(&hosts).await?;
    let engine = Engine::new(&stage)?;
    let mut small = Small {
        stage,
        engine,
        databases: Vec::new(),
        copies: 0,
        profiles: Map::new(),
        tried: Map::new(),
    };
    let mut figures = Map::new();
    let mut seconds = Vec::new();
    for (n, moved) in (1..).zip(&moved) {
        say(&format!("migrations: round {n} of {rounds}"));
        let campaign = format!("round-{n}");
        seconds.push(small.migration(moved, &campaign, in_flight).await?);
        figures.extend(small.profiles.remove("migration").map(|used| (campaign, used)));
    }
    let rate = number as f64 * 3600.0 / median(&mut seconds);
    figures.insert("migration_per_hour".into(), json!(rate.round()));
    Ok(Value::Object(figures))
}

/// Measures all of it.
pub async fn measure(number: usize, rounds: u32) -> Result<Value> {
    let databases = names("site", number);
    let moved: Vec<Vec<String>> =
        (1..=rounds).map(|n| names(&format!("moved{n}"), number)).collect();
    let tried = IN_FLIGHT.map(|n| names(&format!("tried{n}"), SAMPLE.min(number)));
    let hosts = moved.iter().chain(&tried).flatten().map(|name| host_name(name));
    let hosts: Vec<String> = hosts.collect();
    let stage = Stage::start(&hosts).await?;
    say(&format!("small: sowing {number} databases"));
    stage.sow(&sites(&databases)).await?;
    let engine = Engine::new(&stage)?;
    engine.freeze(&databases).await?;
    let mut small =
        Small { stage, engine, databases, copies: 0, profiles: Map::new(), tried: Map::new() };
    let best = small.best(&tried).await?;
    let mut seconds: [Vec<f64>; 5] = Default::default();
    let floor = Floor::read(&small.stage, &small.databases, best.floor).await?;
    for (n, moved) in (1..).zip(&moved) {
        say(&format!("small: round {n} of {rounds}"));
        let all = small.databases.len();
        seconds[0].push(small.pipe(all, best.pipe).await?);
        seconds[1].push(small.mydumper(all, best.mydumper).await?);
        seconds[2].push(small.floor(all, &floor).await?);
        seconds[3].push(small.engine(all, best.engine).await?);
        seconds[4].push(small.migration(moved, &format!("round-{n}"), best.in_flight).await?);
    }
    small.figures(&best, &mut seconds)
}

/// The best number side by side of each.
struct Best {
    pipe: usize,
    mydumper: usize,
    floor: usize,
    engine: usize,
    in_flight: u32,
}

/// The fewest side by side of those that were about as fast as the fastest: on a disk each more
/// costs the servers processor time, and a sample's rate is not that exact. The seconds, and how many.
fn fewest(tried: &[(f64, usize)]) -> usize {
    let fastest = tried.iter().map(|(seconds, _)| *seconds).fold(f64::INFINITY, f64::min);
    let as_fast = tried.iter().filter(|(seconds, _)| *seconds <= fastest * AS_FAST);
    as_fast.map(|(_, p)| *p).min().unwrap_or(1)
}

impl Small {
    async fn best(&mut self, migrations: &[Vec<String>]) -> Result<Best> {
        let sample = SAMPLE.min(self.databases.len());
        say(&format!("small: looking for the best number side by side, {sample} databases each"));
        let mut tried: [Vec<(f64, usize)>; 5] = Default::default();
        let few = self.databases.len() < MANY;
        let numbers = if few { &SIDE_BY_SIDE_OF_FEW[..] } else { &SIDE_BY_SIDE[..] };
        for &p in numbers {
            tried[0].push((self.pipe(sample, p).await?, p));
            tried[1].push((self.mydumper(sample, p).await?, p));
            let floor = Floor::read(&self.stage, &self.databases[..sample], p).await?;
            tried[2].push((self.floor(sample, &floor).await?, p));
            tried[3].push((self.engine(sample, p).await?, p));
        }
        for (moved, n) in migrations.iter().zip(IN_FLIGHT) {
            tried[4].push((self.migration(moved, &format!("try-{n}"), n).await?, n as usize));
        }
        for (name, tried) in NAMES.iter().zip(&tried) {
            let rate = |(seconds, n): &(f64, usize)| {
                (n.to_string(), json!((sample as f64 * 3600.0 / seconds).round()))
            };
            self.tried.insert((*name).to_owned(), Value::Object(tried.iter().map(rate).collect()));
        }
        let [pipe, mydumper, floor, engine, in_flight] = tried.map(|tried| fewest(&tried));
        Ok(Best { pipe, mydumper, floor, engine, in_flight: u32::try_from(in_flight)? })
    }

    async fn pipe(&mut self, number: usize, side_by_side: usize) -> Result<f64> {
        self.stage.settle().await?;
        let meter = Meter::read(&self.stage).await?;
        let seconds = stock::pipe(&self.stage, &self.databases[..number], side_by_side).await?;
        self.keep("pipe", &meter, number).await?;
        self.clear().await?;
        Ok(seconds)
    }

    async fn mydumper(&mut self, number: usize, threads: usize) -> Result<f64> {
        self.stage.settle().await?;
        let pattern = self.databases[..number].join("|");
        let meter = Meter::read(&self.stage).await?;
        let seconds = stock::mydumper(&self.stage, &pattern, threads).await?;
        self.keep("mydumper", &meter, number).await?;
        self.clear().await?;
        Ok(seconds)
    }

    async fn floor(&mut self, number: usize, floor: &Floor) -> Result<f64> {
        self.stage.settle().await?;
        let meter = Meter::read(&self.stage).await?;
        let seconds = floor.run(&self.stage).await?;
        self.keep("floor", &meter, number).await?;
        self.clear().await?;
        Ok(seconds)
    }

    async fn engine(&mut self, number: usize, side_by_side: usize) -> Result<f64> {
        self.stage.settle().await?;
        self.copies += 1;
        let meter = Meter::read(&self.stage).await?;
        let some = &self.databases[..number];
        let seconds = self.engine.copy(some, self.copies, side_by_side).await?;
        self.keep("engine", &meter, number).await?;
        self.engine.clear(&self.databases[..number], self.copies).await?;
        Ok(seconds)
    }

    /// Databases move once: each round has its own, made before and dropped after it.
    async fn migration(&mut self, moved: &[String], campaign: &str, in_flight: u32) -> Result<f64> {
        self.stage.sow(&sites(moved)).await?;
        let drover = Drover::new(&self.stage).await?;
        self.stage.settle().await?;
        let meter = Meter::read(&self.stage).await?;
        let seconds = drover.migrate(campaign, moved, in_flight).await?;
        drop(drover);
        self.keep("migration", &meter, moved.len()).await?;
        self.stage.clear(self.stage.source(), moved).await?;
        self.stage.clear(self.stage.destination(), moved).await?;
        Ok(seconds)
    }

    async fn keep(&mut self, what: &str, meter: &Meter, number: usize) -> Result<()> {
        let used = meter.since(&self.stage, number).await?;
        self.profiles.insert(what.to_owned(), used);
        Ok(())
    }

    async fn clear(&self) -> Result<()> {
        self.stage.clear(self.stage.destination(), &self.databases).await
    }

    fn figures(&self, best: &Best, seconds: &mut [Vec<f64>; 5]) -> Result<Value> {
        let number = self.databases.len() as f64;
        let rates: Vec<f64> =
            seconds.iter_mut().map(|of| round(number * 3600.0 / median(of))).collect();
        let of_pipe = |rate: f64| (rate / rates[0] * 100.0).round() / 100.0;
        let mut figures = Map::new();
        figures.insert("databases".into(), json!(self.databases.len()));
        for (name, rate) in NAMES.iter().zip(&rates) {
            figures.insert(format!("{name}_per_hour"), json!(rate.round()));
        }
        figures.insert("engine_to_pipe".into(), json!(of_pipe(rates[3])));
        figures.insert("migration_to_pipe".into(), json!(of_pipe(rates[4])));
        figures.insert(
            "side_by_side".into(),
            json!({
                "pipe": best.pipe, "mydumper": best.mydumper, "floor": best.floor,
                "engine": best.engine, "migration": best.in_flight,
            }),
        );
        figures.insert("tried_per_hour".into(), Value::Object(self.tried.clone()));
        let flush_us = profile::flush_us(self.stage.fleet.bed.dir())?;
        figures.insert("flush_us".into(), json!(flush_us));
        figures.insert("used_per_database".into(), Value::Object(self.profiles.clone()));
        Ok(Value::Object(figures))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_those_that_are_as_fast_the_fewest_are_taken() {
        assert_eq!(fewest(&[(9.0, 1), (5.2, 2), (5.0, 4), (5.1, 8), (6.0, 16)]), 2);
        assert_eq!(fewest(&[(9.0, 1), (5.4, 2), (5.1, 4), (5.0, 8)]), 4);
        assert_eq!(fewest(&[(4.0, 1)]), 1);
    }
}
