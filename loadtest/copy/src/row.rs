//! One very long row: the memory of its dump, load and comparison by Drover, each in a process of its
//! own. It goes in pieces, so that the memory is that of a short one.

use anyhow::Result;
use serde_json::{Value, json};

use crate::{
    engine::{self, Engine, Step},
    round, say,
    stage::Stage,
};

/// The database.
const NAME: &str = "long_row";

/// Measures one row of so many bytes that nothing compresses.
pub async fn measure(bytes: u64) -> Result<Value> {
    let stage = Stage::start(&[]).await?;
    let mb = bytes >> 20;
    say(&format!("row: one row of {mb} MB"));
    let sql = format!(
        "CREATE DATABASE {NAME}; CREATE TABLE {NAME}.t (id INT PRIMARY KEY, b LONGBLOB); \
         SET group_concat_max_len = {bytes}; INSERT INTO {NAME}.t \
         SELECT 1, GROUP_CONCAT(RANDOM_BYTES(1024) SEPARATOR '') FROM {NAME}.seq_1_to_{}",
        bytes >> 10
    );
    stage.source().execute(&sql).await?;
    let engine = Engine::new(&stage)?;
    engine.freeze(&[NAME.to_owned()]).await?;
    let mut figures = json!({ "mb": mb });
    for (step, name) in [(Step::Dump, "dump"), (Step::Load, "load"), (Step::Verify, "verify")] {
        let took = engine::step_apart(&stage, NAME, 1, step).await?;
        figures["seconds"][name] = json!(round(took.seconds));
        figures["memory_mb"][name] = json!(round(took.memory_mb));
    }
    Ok(figures)
}
