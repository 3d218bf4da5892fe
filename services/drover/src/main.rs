//! `drover`: one binary for every service and every command.

#![allow(clippy::print_stderr, reason = "a command line talks to its person")]

mod commands;
mod config;
mod context;
mod discover;
mod inventory;
mod picture;
mod report;
mod sandbox;
mod standing;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};
use drover_schemas::CampaignName;
use tracing_subscriber::{EnvFilter, fmt};

use crate::{commands as c, report::Trouble};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Moves herds of MySQL and MariaDB databases from one fleet of servers to another.
#[derive(Debug, Parser)]
#[command(name = "drover", version, disable_help_subcommand = true)]
struct Cli {
    /// The configuration.
    #[arg(long, global = true, env = "DROVER_CONFIG", default_value = "drover.toml")]
    config: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The configuration of the bus: TLS, and a user for each service and host.
    Init(c::init::Args),
    /// Real servers on this machine, a campaign, a summary.
    Sandbox(c::sandbox::Args),
    /// Runs services: orchestrator dump import dns notify projector console, or all.
    Serve(c::serve::Args),
    /// Validates every row of an inventory, then records the migrations.
    Plan(c::plan::Args),
    /// The pre-flight: what would fail, by code, before anything is touched.
    Doctor(c::doctor::Args),
    /// Dumps, imports, verifies and drops again some of a campaign's databases; no customer notices.
    Rehearse(c::rehearse::Args),
    /// Begins to admit migrations.
    Start(c::start::Args),
    /// Changes a campaign's limits while it runs: slots, rates, the order of its waves.
    Tune(c::tune::Args),
    /// The hosts that are set aside; sets one aside, or takes it in again.
    Hosts(c::hosts::Args),
    /// The red button: no new admissions; migrations in flight finish, or with --now are undone.
    Pause(c::pause::Args),
    /// Admits again after a pause.
    Resume(Campaign),
    /// Where the campaign stands.
    Status(c::status::Args),
    /// When the campaign will have come to its end, and which sources will be the last.
    Forecast(c::forecast::Args),
    /// Failures grouped by signature, most frequent first.
    Failures(c::failures::Args),
    /// Tries parked migrations again.
    Retry(c::retry::Args),
    /// Takes migrations back: host names, destination, source as they were.
    Rollback(c::rollback::Args),
    /// Holds log, servers, zone, store and queue against each other.
    Reconcile(c::reconcile::Args),
    /// The history of a campaign or of one database.
    Audit(c::audit::Args),
    /// The campaign's events, as they were appended.
    Events(c::events::Args),
}

/// The arguments of a command that takes nothing but the campaign.
#[derive(Debug, clap::Args)]
struct Campaign {
    /// The campaign's name.
    campaign: CampaignName,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    keep_memory_private();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| {
        let serving = matches!(cli.command, Command::Serve(_));
        EnvFilter::new(if serving { "info" } else { "error" })
    });
    fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    // A second provider is an error of this program; the first one stays then.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("drover: no threads can be started: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(run(cli)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(trouble) => {
            eprint!("{trouble}");
            trouble.exit_code()
        }
    }
}

/// Passwords and customers' rows are in this memory: it is neither dumped to disk when the program
/// dies, nor read by another process of the same user. Those that it starts leave no dump either.
fn keep_memory_private() {
    use nix::sys::{prctl, resource};
    let undumped = prctl::set_dumpable(false)
        .and_then(|()| resource::setrlimit(resource::Resource::RLIMIT_CORE, 0, 0));
    if let Err(error) = undumped {
        tracing::warn!(%error, "a core dump would hold secrets");
    }
}

async fn run(cli: Cli) -> Result<(), Trouble> {
    let config = cli.config;
    match cli.command {
        Command::Init(args) => c::init::run(&config, args).await,
        Command::Sandbox(args) => c::sandbox::run(args).await,
        Command::Serve(args) => c::serve::run(&config, args).await,
        Command::Plan(args) => c::plan::run(&config, args).await,
        Command::Doctor(args) => c::doctor::run(&config, args).await,
        Command::Rehearse(args) => c::rehearse::run(&config, args).await,
        Command::Start(args) => c::start::run(&config, args).await,
        Command::Tune(args) => c::tune::run(&config, args).await,
        Command::Hosts(args) => c::hosts::run(&config, args).await,
        Command::Pause(args) => c::pause::run(&config, args).await,
        Command::Resume(args) => c::pause::resume(&config, args.campaign).await,
        Command::Status(args) => c::status::run(&config, args).await,
        Command::Forecast(args) => c::forecast::run(&config, args).await,
        Command::Failures(args) => c::failures::run(&config, args).await,
        Command::Retry(args) => c::retry::run(&config, args).await,
        Command::Rollback(args) => c::rollback::run(&config, args).await,
        Command::Reconcile(args) => c::reconcile::run(&config, args).await,
        Command::Audit(args) => c::audit::run(&config, args).await,
        Command::Events(args) => c::events::run(&config, args).await,
    }
}
