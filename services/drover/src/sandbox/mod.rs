//! A whole campaign on this machine, on real servers: nats-server, two source and two destination
//! MariaDB servers, BIND with a signed zone, an SMTP receiver, and `drover serve all` beside them.
//!
//! The commands are those of a real campaign, and so is the configuration that they are given.
//! Everything runs in one folder on loopback addresses, and ends with this process, however that
//! ends.

mod checks;
mod herd;

use std::{path::PathBuf, process::Command, time::Duration};

use drover_bus::Bus;
use drover_projector::view::Status;
use drover_schemas::{CampaignName, Code, Failure};
use drover_testbed::{
    Bed, Fleet, Process,
    fleet::Plan,
    mariadb::{Mariadb, Settings},
};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{Instant, sleep},
};

use crate::{
    commands::{in_flight::Wanted, init, plan, print, sandbox::Args, start, status::Bars},
    context::Context,
    report::Trouble,
    sandbox::herd::Herd,
};

/// The sandbox's campaign.
const CAMPAIGN: &str = "sandbox";
/// How many databases are in work at each server.
const SLOTS: u32 = 4;
/// How often the campaign is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long the campaign may stand still before the sandbox gives up.
const STANDSTILL_MAX: Duration = Duration::from_secs(180);

/// Runs the sandbox until its campaign is at rest; an interruption ends everything in it.
pub async fn run(args: Args) -> Result<(), Failure> {
    let interrupted = async {
        match (signal(SignalKind::interrupt()), signal(SignalKind::terminate())) {
            (Ok(mut int), Ok(mut term)) => {
                tokio::select! { _ = int.recv() => {} _ = term.recv() => {} }
            }
            // Without handlers the signals end this process, and the guardian the rest.
            (Err(_), _) | (_, Err(_)) => std::future::pending().await,
        }
    };
    tokio::select! {
        outcome = campaign(args) => outcome,
        () = interrupted => {
            print("\ninterrupted: everything that the sandbox started has ended\n");
            Err(failed("interrupted"))
        }
    }
}

async fn campaign(args: Args) -> Result<(), Failure> {
    let began = Instant::now();
    let name: CampaignName = CAMPAIGN.parse().map_err(|_| failed("the campaign's name"))?;
    let herd = Herd::new(args.databases as usize);
    say("starting nats-server, four MariaDB servers, BIND and an SMTP receiver");
    let bed = args.folder.clone().map_or_else(Bed::new, Bed::in_folder).map_err(fault)?;
    let plan = Plan {
        sources: 2,
        destinations: 2,
        slots: SLOTS,
        both_ways: true,
        settings: Settings::default(),
    };
    let started = async {
        let scratch = Mariadb::start(&bed, "scratch");
        let fleet = Fleet::start(bed.clone(), &plan, |sources| herd.records(sources));
        tokio::try_join!(fleet, scratch)
    };
    let (servers, scratch) = started.await.map_err(fault)?;
    say(&format!("sowing {} databases like those of real sites", herd.sites.len()));
    herd.sow(&servers).await.map_err(fault)?;
    let config = servers.write_config().map_err(fault)?;
    let inventory = herd.write_inventory(servers.bed.dir()).map_err(fault)?;
    init::streams(&config).await.map_err(one)?;
    let _services = serve(&servers, &config)?;
    say(&format!("ready after {:.1} s", began.elapsed().as_secs_f64()));
    if !args.idle {
        let outcome = migrate(&args, &name, &herd, (&servers, &scratch), &config, inventory).await;
        if !args.keep {
            return outcome;
        }
        if let Err(failure) = outcome {
            print(&Trouble::Failure(failure).to_string());
        }
    } else {
        print(&format!("inventory: {}\n", inventory.display()));
    }
    keep(&servers, &config, &name).await
}

/// Plans, starts, watches, checks, and sums up.
async fn migrate(
    args: &Args,
    name: &CampaignName,
    herd: &Herd,
    (servers, scratch): (&Fleet, &Mariadb),
    config: &std::path::Path,
    inventory: PathBuf,
) -> Result<(), Failure> {
    let planned = plan::Args::of(name.clone(), inventory);
    plan::run(config, planned).await.map_err(one)?;
    let started = start::Args {
        campaign: name.clone(),
        in_flight: Wanted::fixed(args.max_in_flight),
        ignore_findings: false,
    };
    start::run(config, started).await.map_err(one)?;
    let context = Context::open(config, "sandbox").await?;
    let status = watch(&context.bus, name).await?;
    print(&drover_projector::render::status(&status));
    let failures = drover_projector::failures(&context.bus, name).await?;
    if !failures.is_empty() {
        print(&drover_projector::render::failures(&failures));
    }
    say("checking every database: account, name, both servers, dump, mail");
    let checked = checks::all(herd, servers, scratch, &context, name).await.map_err(fault)?;
    print(&checked.text);
    if !args.keep {
        say("to look around, run it again with --keep");
    }
    print(&summary(&status));
    if status.counts.completed != status.counts.total {
        let text = format!("{} of {}", status.counts.completed, status.counts.total);
        return Err(Failure::new(Code::CampaignIncomplete, text));
    }
    if checked.faults.is_empty() {
        Ok(())
    } else {
        Err(Failure::new(Code::CheckFailed, checked.faults.join("; ")))
    }
}

/// `drover serve all`, as an operator would run it.
fn serve(servers: &Fleet, config: &std::path::Path) -> Result<Process, Failure> {
    let program = std::env::current_exe().map_err(|error| failed(&error.to_string()))?;
    let mut command = Command::new(program);
    command.arg("serve").arg("all").arg("--config").arg(config);
    servers.bed.spawn("drover", command).map_err(fault)
}

/// Watches until every migration is at rest.
async fn watch(bus: &Bus, name: &CampaignName) -> Result<Status, Failure> {
    let bars = Bars::new();
    let (mut position, mut moved) = (0, Instant::now());
    loop {
        sleep(LOOK_EVERY).await;
        let status = drover_projector::status(bus, name).await?;
        bars.draw(&status);
        if status.position != position {
            (position, moved) = (status.position, Instant::now());
        }
        if status.counts.remaining() == 0 || moved.elapsed() > STANDSTILL_MAX {
            bars.end();
            return Ok(status);
        }
    }
}

/// The last line: what a script looks at.
fn summary(status: &Status) -> String {
    let seconds = |value: Option<f64>| format!("{:.1} s", value.unwrap_or(0.0));
    format!(
        "completed {} of {}, parked {}, rate {:.0}/h, frozen median {} p99 {}\n",
        status.counts.completed,
        status.counts.total,
        status.counts.parked,
        status.rate_per_hour_overall.unwrap_or(0.0),
        seconds(status.frozen.median_seconds),
        seconds(status.frozen.p99_seconds),
    )
}

/// Leaves everything running until it is interrupted.
async fn keep(
    servers: &Fleet,
    config: &std::path::Path,
    name: &CampaignName,
) -> Result<(), Failure> {
    let config = config.display();
    print(&format!(
        "\nEverything is still running. In another terminal:\n\n\
         \x20 export DROVER_CONFIG={config}\n\
         \x20 drover status {name} --watch\n\
         \x20 drover failures {name}\n\
         \x20 drover audit {name} --database site_s_0\n\
         \x20 drover events {name} --follow --json\n\n{}\n\
         Ctrl-C ends everything.\n",
        servers.describe()
    ));
    std::future::pending().await
}

fn say(text: &str) {
    print(&format!("* {text}\n"));
}

fn failed(text: &str) -> Failure {
    Failure::new(Code::SandboxFailed, text)
}

fn fault(error: anyhow::Error) -> Failure {
    let text = format!("{error:#}");
    let code = if text.contains("not installed") {
        Code::SandboxProgramMissing
    } else {
        Code::SandboxFailed
    };
    Failure::new(code, text)
}

fn one(trouble: Trouble) -> Failure {
    match trouble {
        Trouble::Failure(failure) => failure,
        Trouble::Faults(_) => failed(&trouble.to_string()),
    }
}
