//! The simulated fleet: hundreds of thousands of migrations through the real bus, orchestrator,
//! projector and service loops, with a model in place of the servers. What it measures is what
//! Drover itself costs, and what control of the flow does when hosts misbehave.
//!
//! | module | what |
//! | --- | --- |
//! | `auto` | slots that move by themselves beside fixed ones |
//! | `bench` | the campaigns whose figures `ops/bench fleet` prints |
//! | `button` | the red button under load |
//! | `ceiling` | what JetStream alone does with as many messages |
//! | `course` | one campaign that is measured before a neighbour's load doubles, and after |
//! | `compare` | what `auto` and the fixed settings have come to, beside each other |
//! | `growth` | how costs grow with a campaign's size |
//! | `herd` | the fleet and its databases, from a seed |
//! | `hosts` | hosts' slots by what they are under, beside fixed ones |
//! | `load` | what is in work at a place, and how much slower that makes it |
//! | `log` | what a campaign's log says afterwards |
//! | `model` | what a step does and how long it takes |
//! | `record` | what is measured while it works |
//! | `stage` | nats-server and the processes around it |
//! | `role` | the services that run as processes of their own |
//! | `trial` | one campaign and what it cost |
//! | `planned` | one campaign that waits, and the memory that it takes |
//! | `used` | what a process has used of the machine |
//! | `workers` | the loops of the services that do steps, on the model |

mod auto;
mod bench;
mod button;
mod ceiling;
mod compare;
mod course;
mod growth;
mod herd;
mod hosts;
mod load;
mod log;
mod model;
mod planned;
mod record;
mod role;
mod stage;
mod trial;
mod used;
mod workers;

use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Campaigns on a simulated fleet. Exit codes: 0 done, 1 it could not be measured, or a promise
/// was broken, 2 wrong usage.
#[derive(Debug, Parser)]
#[command(name = "ops/bench fleet", version)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// All figures.
    Bench(bench::Args),
    /// Slots that move by themselves beside fixed ones, while a neighbour's load doubles.
    Auto(auto::Args),
    /// Hosts that get fewer slots for what they say that they are under, beside fixed ones, while a
    /// neighbour's load doubles.
    Hosts(hosts::Args),
    /// One campaign, as a JSON document.
    Trial(trial::Args),
    /// The red button in both its forms, in the middle of a campaign, as a JSON document.
    Button(trial::Args),
    /// One campaign that is planned and waits, as a JSON document.
    Planned(planned::Args),
    /// A service as a process of its own; for this program's own use.
    #[command(hide = true)]
    Role(role::Args),
}

fn main() -> ExitCode {
    let command = Args::command()
        .mut_subcommand("auto", auto::with_defaults)
        .mut_subcommand("hosts", hosts::with_defaults);
    let args = Args::from_arg_matches(&command.get_matches()).unwrap_or_else(|error| error.exit());
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            println!("no threads can be started: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(run(args.command)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            println!("it could not be measured: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Command) -> anyhow::Result<bool> {
    match command {
        Command::Role(args) => role::run(args).await.map(|()| true),
        Command::Bench(args) => bench::run(&args).await,
        Command::Auto(args) => auto::run(&args).await,
        Command::Hosts(args) => hosts::run(&args).await,
        Command::Button(args) => {
            let figures = button::run(&args).await?;
            println!("{figures:#}");
            Ok(figures["breaches"] == 0)
        }
        Command::Trial(args) => {
            let outcome = trial::run(&args).await?;
            println!("{:#}", outcome.json());
            Ok(outcome.breaches == 0)
        }
        Command::Planned(args) => {
            println!("{:#}", planned::run(&args).await?);
            Ok(true)
        }
    }
}
