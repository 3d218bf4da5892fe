//! The copy, measured: Drover's engine and whole migrations beside the stock pipe and mydumper, in
//! one run on the same two servers.
//!
//! | module | what |
//! | --- | --- |
//! | `small` | hundreds of small databases, in databases an hour |
//! | `large` | one large database, in MB a second, and the memory that it takes |
//! | `row` | one very long row, and the memory that it takes |
//! | `stage` | the two servers, their databases, and making room between two measurements |
//! | `stock` | what others do: the stock pipe, mydumper with myloader, statements alone |
//! | `engine` | dump, load and verify by `services/mysql` |
//! | `profile` | processor time by process, and what the servers count |
//! | `steps` | what each step at the servers costs |
//! | `campaign` | whole migrations by `drover serve all` |

mod campaign;
mod engine;
mod large;
mod profile;
mod row;
mod small;
mod stage;
mod steps;
mod stock;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand, ValueEnum};
use serde_json::{Map, Value};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// The copy beside other programs. Exit codes: 0 measured, 1 it could not be measured, 2 wrong
/// usage.
#[derive(Debug, Parser)]
#[command(name = "ops/bench copy", version)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// All figures.
    Bench(Bench),
    /// One step of the copy of a large database, as a process whose memory is its own; for this
    /// program's own use.
    #[command(hide = true)]
    Step(engine::StepArgs),
}

/// What to measure.
#[derive(Debug, Clone, clap::Args)]
struct Bench {
    /// In some minutes: 100 small databases, a large one of 200 MB, two rounds.
    #[arg(long)]
    quick: bool,
    /// As one JSON document.
    #[arg(long)]
    json: bool,
    /// One part only.
    #[arg(long)]
    only: Option<Part>,
    /// How many small databases. [default: 500, with --quick 100]
    #[arg(long)]
    databases: Option<usize>,
    /// The size of the large database, in MB. [default: 2048, with --quick 200]
    #[arg(long)]
    large_mb: Option<u64>,
    /// The size of the long row, in MB.
    #[arg(long, default_value_t = 64)]
    row_mb: u64,
    /// How many migrations are in flight, with --only migrations.
    #[arg(long, default_value_t = 8)]
    in_flight: u32,
    /// How often each is measured; the figures are medians. [default: 3, with --quick 2]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Hundreds of small databases.
    Small,
    /// One large database.
    Large,
    /// One very long row; only when it is asked for.
    Row,
    /// What each step of a small database's migration costs; only where it is asked for.
    Steps,
    /// Whole migrations of small databases, without the others; only where it is asked for.
    Migrations,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    // Which one is meant is not to be left to what else is linked in.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let run = || tokio::runtime::Runtime::new()?.block_on(run(args.command));
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("it could not be measured: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Command) -> Result<()> {
    match command {
        Command::Step(args) => engine::step(args).await,
        Command::Bench(args) => bench(&args).await,
    }
}

async fn bench(args: &Bench) -> Result<()> {
    let rounds = args.rounds.unwrap_or(if args.quick { 2 } else { 3 });
    let mut figures = Map::new();
    let databases = args.databases.unwrap_or(if args.quick { 100 } else { 500 });
    if args.only == Some(Part::Steps) {
        figures.insert("steps".into(), steps::measure(databases).await?);
    }
    if args.only == Some(Part::Migrations) {
        figures.insert(
            "migrations".into(),
            small::migrations(databases, rounds, args.in_flight).await?,
        );
    }
    if matches!(args.only, None | Some(Part::Small)) {
        figures.insert("small".into(), small::measure(databases, rounds).await?);
    }
    if matches!(args.only, None | Some(Part::Large)) {
        let bytes = args.large_mb.unwrap_or(if args.quick { 200 } else { 2048 }) << 20;
        figures.insert("large".into(), large::measure(bytes, rounds).await?);
    }
    if args.only == Some(Part::Row) {
        figures.insert("row".into(), row::measure(args.row_mb << 20).await?);
    }
    let figures = Value::Object(figures);
    if args.json {
        println!("{figures:#}");
    } else {
        print_table("", &figures);
    }
    Ok(())
}

/// One figure a line, with the path to it.
fn print_table(path: &str, value: &Value) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                print_table(&path, field);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            println!("{path:<40} {value:>14}");
        }
    }
}

/// Says what is being done: a run takes minutes.
fn say(text: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// The middle one of some values; the lower of two.
fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len().saturating_sub(1) / 2).copied().unwrap_or_default()
}

/// With one digit behind the point.
fn round(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_one() {
        assert_eq!(median(&mut [3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&mut [2.0, 1.0]), 1.0);
        assert_eq!(median(&mut []), 0.0);
    }
}
