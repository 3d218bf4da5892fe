//! Compiles the .proto files with protox, a compiler written in Rust: no protoc is needed.

use std::{env, fs, path::PathBuf};

use protox::prost::Message as _;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files =
        ["events", "jobs", "control", "signals", "load"].map(|n| format!("drover/v1/{n}.proto"));
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(files, ["proto"])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("drover.v1.binpb"), descriptors.encode_to_vec())?;
    let mut config = prost_build::Config::new();
    for field in ["StepFailed.step", "MigrationParked.step", "Job.step"] {
        let as_name = "#[serde(serialize_with = \"crate::subjects::step_as_name\")]";
        config.field_attribute(format!("drover.v1.{field}"), as_name);
    }
    config
        .btree_map(["."])
        .type_attribute(".", "#[derive(serde::Serialize)]")
        .type_attribute(".", "#[serde(rename_all = \"snake_case\")]")
        .compile_fds(descriptors)?;
    Ok(())
}
