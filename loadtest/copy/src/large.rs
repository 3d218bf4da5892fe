//! One large database in three tables: MB a second through each program, the processor time that it takes,
//! and the memory of one dump, load and comparison by Drover, each in a process of its own.

use anyhow::Result;
use drover_testbed::seed::{Shape, Site};
use serde_json::{Value, json};

use crate::{
    engine::{self, Engine, Step},
    median,
    profile::Meter,
    round, say,
    stage::Stage,
    stock,
};

/// From which the rows are made.
const SEED: u64 = 7;
/// The database.
const NAME: &str = "large";
/// mydumper's threads: as many as there are tables make it fastest.
const THREADS: usize = 3;

/// Measures all of it.
pub async fn measure(bytes: u64, rounds: u32) -> Result<Value> {
    let stage = Stage::start(&[]).await?;
    let mb = bytes as f64 / f64::from(1 << 20);
    say(&format!("large: sowing a database of {mb} MB"));
    stage.sow(&[Site::new(NAME, Shape::Large { bytes }, SEED)]).await?;
    stage.clear(stage.source(), &[]).await?;
    let names = [NAME.to_owned()];
    let engine = Engine::new(&stage)?;
    engine.freeze(&names).await?;
    let mut seconds: [Vec<f64>; 3] = Default::default();
    let steps = [Step::Dump, Step::Load, Step::Verify];
    let (mut step_seconds, mut memory_mb) = ([const { Vec::new() }; 3], [0.0_f64; 3]);
    let mut used = Value::Null;
    for n in 1..=u64::from(rounds) {
        say(&format!("large: round {n} of {rounds}"));
        stage.settle().await?;
        let meter = Meter::read(&stage).await?;
        seconds[0].push(stock::pipe(&stage, &names, 1).await?);
        let pipe_used = meter.since(&stage, 1).await?;
        stage.clear(stage.destination(), &names).await?;
        stage.settle().await?;
        let meter = Meter::read(&stage).await?;
        seconds[1].push(stock::mydumper(&stage, NAME, THREADS).await?);
        let mydumper_used = meter.since(&stage, 1).await?;
        stage.clear(stage.destination(), &names).await?;
        stage.settle().await?;
        let meter = Meter::read(&stage).await?;
        let mut all = 0.0;
        for (i, step) in steps.into_iter().enumerate() {
            let took = engine::step_apart(&stage, NAME, n, step).await?;
            all += took.seconds;
            step_seconds[i].push(took.seconds);
            memory_mb[i] = memory_mb[i].max(took.memory_mb);
        }
        seconds[2].push(all);
        let engine_used = meter.since(&stage, 1).await?;
        used = json!({ "pipe": pipe_used, "mydumper": mydumper_used, "engine": engine_used });
        engine.clear(&names, n).await?;
        stage.clear(stage.destination(), &[]).await?;
    }
    let [pipe, mydumper, ours] = seconds.map(|mut of| mb / median(&mut of));
    let [dump, load, verify] = step_seconds.map(|mut of| round(median(&mut of)));
    let [dump_mb, load_mb, verify_mb] = memory_mb.map(round);
    Ok(json!({
        "mb": mb,
        "pipe_mb_per_second": round(pipe),
        "mydumper_mb_per_second": round(mydumper),
        "engine_mb_per_second": round(ours),
        "engine_to_pipe": (ours / pipe * 100.0).round() / 100.0,
        "engine_to_mydumper": (ours / mydumper * 100.0).round() / 100.0,
        "engine_seconds": { "dump": dump, "load": load, "verify": verify },
        // Of the last round: on a machine that others use too it says the same in every one.
        "used": used,
        "engine_memory_mb": { "dump": dump_mb, "load": load_mb, "verify": verify_mb },
    }))
}
