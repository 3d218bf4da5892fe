//! Chaos: a campaign whose every part is killed, paused, parted and filled up while its customers
//! write, and the promises held against what is there afterwards.
//!
//! | module | what |
//! | --- | --- |
//! | `world` | the servers, the processes, the links between them |
//! | `herd` | the databases |
//! | `customers` | who writes, and what was acknowledged |
//! | `weather` | what goes wrong, from a seed |
//! | `progress` | the migrations' histories |
//! | `verdict` | what must be so at the end |
//! | `watch` | memory and open files |
//! | `run` | one run, from its beginning to its report |
//! | `memory` | in fair weather: what all services take at the most |

mod customers;
mod diary;
mod herd;
mod memory;
mod progress;
mod run;
mod verdict;
mod watch;
mod weather;
mod world;

use std::{path::PathBuf, process::ExitCode};

use clap::Parser;

/// Load tests on real servers.
#[derive(Debug, Parser)]
#[command(version)]
enum Cli {
    /// ops/chaos
    Storm(StormArgs),
    /// ops/memory
    Memory(memory::Args),
}

/// Attacks a campaign on real servers. Exit codes: 0 every promise held, 1 one was broken or the
/// run could not be held, 2 wrong usage.
#[derive(Debug, clap::Args)]
pub struct StormArgs {
    /// How long the weather is bad, in minutes.
    #[arg(long, default_value_t = 2.0)]
    minutes: f64,
    /// What goes wrong is drawn from it; a new one by default.
    #[arg(long)]
    seed: Option<u64>,
    /// How many databases move; by default as many as the time is long.
    #[arg(long)]
    databases: Option<usize>,
    /// Three nats-servers with three replicas, of which one at a time fails.
    #[arg(long)]
    cluster: bool,
    /// A file system of its own, that may be filled, for the dumps.
    #[arg(long, env = "DROVER_CHAOS_STORE")]
    store: Option<PathBuf>,
    /// Leaves everything running at the end.
    #[arg(long)]
    keep: bool,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    // A second provider is an error of this program; the first one stays then.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            println!("no threads can be started: {error}");
            return ExitCode::FAILURE;
        }
    };
    let outcome = runtime.block_on(async {
        match cli {
            Cli::Storm(args) => run::run(args).await,
            Cli::Memory(args) => memory::run(args).await,
        }
    });
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            println!("the run could not be held: {error:#}");
            ExitCode::FAILURE
        }
    }
}
