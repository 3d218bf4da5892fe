//! What each of a migration's steps at the servers costs, one after the other, each for all databases:
//! where the processor time of a whole migration goes. What is not here is the bus's, the host
//! names', the messages' and the operator's.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use drover_mysql::{Accounts, Manifest};
use drover_testbed::seed::{Shape, Site};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::{Map, Value};

use crate::{
    engine::{Engine, Stored, order},
    profile::Meter,
    say,
    stage::Stage,
};

/// From which the rows are made.
const SEED: u64 = 2424;
/// How many databases are in work side by side.
const SIDE_BY_SIDE: usize = 4;

/// What one step leaves for the next.
#[derive(Default)]
struct Moved {
    database: String,
    accounts: Option<Accounts>,
    dump: Option<(Manifest, Stored)>,
}

/// Measures them all.
pub async fn measure(number: usize) -> Result<Value> {
    let stage = Stage::start(&[]).await?;
    let databases: Vec<String> = (0..number).map(|n| format!("step_{n}")).collect();
    say(&format!("steps: sowing {number} databases"));
    let site = |(n, name): (usize, &String)| Site::new(name, Shape::Wordpress, SEED + n as u64);
    stage.sow(&databases.iter().enumerate().map(site).collect::<Vec<_>>()).await?;
    let engine = Arc::new(Engine::new(&stage)?);
    let begin = |database: &String| Moved { database: database.clone(), ..Moved::default() };
    let mut moved: Vec<Moved> = databases.iter().map(begin).collect();
    let mut figures = Map::new();
    for step in ["freeze", "accounts", "dump", "import", "verify", "disarm", "open", "retire"] {
        stage.settle().await?;
        let meter = Meter::read(&stage).await?;
        moved = stream::iter(moved)
            .map(|of| {
                let acting = tokio::spawn(act(engine.clone(), step, of));
                async move { acting.await? }
            })
            .buffer_unordered(SIDE_BY_SIDE)
            .try_collect()
            .await
            .with_context(|| format!("in the step {step}"))?;
        figures.insert(step.to_owned(), meter.since(&stage, number).await?);
    }
    Ok(Value::Object(figures))
}

async fn act(engine: Arc<Engine>, step: &'static str, mut of: Moved) -> Result<Moved> {
    let (source, destination) = (&engine.source, &engine.destination);
    let database = of.database.as_str();
    let none = || format!("{database} was not dumped");
    match step {
        "freeze" => engine.freeze_one(database).await?,
        "accounts" => {
            of.accounts = Some(drover_mysql::accounts(source, &order(database, 2)?).await?);
        }
        "dump" => of.dump = Some(engine.dump(database).await?),
        "import" => {
            let (manifest, stored) = of.dump.as_ref().with_context(none)?;
            engine.load(database, 1, manifest, stored).await?;
        }
        "verify" => {
            let (manifest, _) = of.dump.as_ref().with_context(none)?;
            engine.verify(database, 1, manifest).await?;
        }
        "disarm" => {
            drover_mysql::disarm(source, &order(database, 12)?).await?;
        }
        "open" => {
            let accounts = of.accounts.as_ref().with_context(none)?;
            drover_mysql::open(destination, &order(database, 13)?, accounts).await?;
        }
        _ => {
            drover_mysql::retire(source, &order(database, 14)?).await?;
        }
    }
    Ok(of)
}
