//! `drover sandbox`: real servers on this machine, a campaign, a summary.

use std::path::PathBuf;

use crate::{report::Trouble, sandbox};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// How many databases.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub databases: u32,
    /// How many migrations are in flight at once.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub max_in_flight: u32,
    /// Leaves everything running afterwards, until interrupted, and prints how to look at it.
    #[arg(long)]
    pub keep: bool,
    /// Makes everything ready and prints the commands, but begins nothing; with --keep.
    #[arg(long, requires = "keep")]
    pub idle: bool,
    /// The folder for all of it; removed at the end. By default a new temporary one.
    #[arg(long, value_name = "FOLDER")]
    pub folder: Option<PathBuf>,
}

pub async fn run(args: Args) -> Result<(), Trouble> {
    Ok(sandbox::run(args).await?)
}
