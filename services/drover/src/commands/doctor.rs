//! `drover doctor`: the pre-flight. Reads every source and destination, the zones and the store,
//! changes nothing there, and lists by code what would fail or be different.
//!
//! What it found is kept with the campaign, and each migration that waits for a slot is held back
//! while something blocks it. Destinations are read first, as they are fewer and are needed whole;
//! of the sources only the facts of [`CHUNK`] databases at a time are in memory.

pub(super) mod report;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::Path,
};

use drover_dns::Service as Dns;
use drover_dumpstore::Store;
use drover_lifecycle::{Command, campaign};
use drover_mysql::{
    Definers, Server,
    preflight::{self, CHUNK, Destination, Finding, Source},
};
use drover_schemas::{CampaignName, Code, Failure, MigrationId, ServerName, v1::MigrationPlanned};
use futures::{StreamExt as _, TryStreamExt as _, stream};

use self::report::Report;
use super::{print, print_json};
use crate::{
    config::Config,
    context::{Context, campaign_state, command_campaign, command_migration, operator},
    report::Trouble,
    standing::{Standing, standing},
};

/// How many servers are read side by side: each answers some queries that open many tables.
const SERVERS_AT_ONCE: usize = 16;
/// How many migrations' host names are asked for side by side, and facts appended.
const AT_ONCE: usize = 64;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The campaign's name.
    campaign: CampaignName,
    /// One JSON document.
    #[arg(long)]
    json: bool,
}

pub async fn run(config: &Path, args: Args) -> Result<(), Trouble> {
    let Args { campaign, json } = args;
    let context = Context::of(config, "doctor", &campaign).await?;
    let mut all = standing(&context.bus, &campaign).await?;
    all.retain(Standing::may_go);
    let policy = campaign_state(&context.bus, &campaign).await?.policy;
    let report = look(&context.config, &all, &Definers::from(&policy)).await?;
    keep(&context, &campaign, &all, &report).await?;
    let document = report.document(campaign.as_str());
    if json {
        print_json(&document)?;
    } else {
        print(&document.text());
    }
    match report.blocked() {
        0 => Ok(()),
        blocked => {
            let what = format!("{campaign}: {blocked} of {} migrations", all.len());
            Err(Failure::new(Code::PreflightBlocks, what).into())
        }
    }
}

/// Looks at everything.
pub(super) async fn look(
    config: &Config,
    all: &[Standing],
    policy: &Definers,
) -> Result<Report, Failure> {
    let mut report = Report::new(all.len());
    let mut by_source: BTreeMap<&str, Vec<&Standing>> = BTreeMap::new();
    let mut by_destination: BTreeMap<&str, Vec<&Standing>> = BTreeMap::new();
    for one in all {
        by_source.entry(&one.migration.planned.source).or_default().push(one);
        by_destination.entry(&one.migration.planned.destination).or_default().push(one);
    }
    let destinations = destinations(config, &by_destination, &mut report).await?;
    let bytes = sources(config, &by_source, (&destinations, policy), &mut report).await?;
    destinations_room(&by_destination, &destinations, &bytes, &mut report);
    store_room(config, all, bytes.values().sum(), &mut report)?;
    host_names(config, all, &mut report).await?;
    Ok(report)
}

fn ids<'a>(of: &'a [&Standing]) -> impl Iterator<Item = MigrationId> + 'a {
    of.iter().map(|one| one.id)
}

fn server(config: &Config, name: &str) -> Result<Server, Failure> {
    let unknown = || Failure::new(Code::InventoryServerUnknown, name.to_owned());
    let name: ServerName = name.parse().map_err(|_| unknown())?;
    let known = config.servers.get(&name).ok_or_else(unknown)?;
    Ok(Server::new(name, known.mysql.clone())?)
}

async fn destinations(
    config: &Config,
    by_destination: &BTreeMap<&str, Vec<&Standing>>,
    report: &mut Report,
) -> Result<BTreeMap<String, Destination>, Failure> {
    let mut reading = stream::iter(by_destination.keys().map(|name| (*name).to_owned()))
        .map(|name| async move {
            let read = async { Ok(preflight::destination(&server(config, &name)?).await?) };
            let read: Result<Destination, Failure> = read.await;
            (name, read)
        })
        .buffer_unordered(SERVERS_AT_ONCE);
    let mut known = BTreeMap::new();
    while let Some((name, read)) = reading.next().await {
        let migrations = &by_destination[name.as_str()];
        match read {
            Ok(destination) => {
                for finding in &destination.findings {
                    report.add(finding, ids(migrations));
                }
                known.insert(name, destination);
            }
            Err(failure) => report.add_failure(failure, ids(migrations)),
        }
    }
    Ok(known)
}

/// What the destinations are, and the campaign's policy for definers.
type To<'a> = (&'a BTreeMap<String, Destination>, &'a Definers);

/// A finding, and the migrations that it is about.
type Told = (Finding, Vec<MigrationId>);

/// What was found at one source, and the bytes that go from there to each destination.
#[derive(Default)]
struct Looked {
    told: Vec<Told>,
    bytes: BTreeMap<String, u64>,
}

/// Reads every source; gives the bytes that move to each destination.
async fn sources(
    config: &Config,
    by_source: &BTreeMap<&str, Vec<&Standing>>,
    to: To<'_>,
    report: &mut Report,
) -> Result<BTreeMap<String, u64>, Failure> {
    let mut reading = stream::iter(by_source.iter().map(|(name, all)| (*name, all.as_slice())))
        .map(|(name, all)| async move { (all, one_source(config, name, all, to).await) })
        .buffer_unordered(SERVERS_AT_ONCE);
    let mut bytes: BTreeMap<String, u64> = BTreeMap::new();
    while let Some((all, looked)) = reading.next().await {
        match looked {
            Ok(looked) => {
                for (finding, migrations) in looked.told {
                    report.add(&finding, migrations);
                }
                for (destination, more) in looked.bytes {
                    *bytes.entry(destination).or_default() += more;
                }
            }
            Err(failure) => report.add_failure(failure, ids(all)),
        }
    }
    Ok(bytes)
}

async fn one_source(
    config: &Config,
    name: &str,
    all: &[&Standing],
    to: To<'_>,
) -> Result<Looked, Failure> {
    let source = preflight::begin(&server(config, name)?).await?;
    let mut looked = Looked::default();
    looked.told.extend(source.findings.iter().map(|it| (it.clone(), ids(all).collect())));
    let mut groups: BTreeMap<&str, Vec<&Standing>> = BTreeMap::new();
    for one in all {
        groups.entry(&one.migration.planned.destination).or_default().push(one);
    }
    for (destination, group) in groups {
        for some in group.chunks(CHUNK) {
            one_chunk(&source, destination, to, some, &mut looked).await?;
        }
    }
    Ok(looked)
}

async fn one_chunk(
    source: &Source,
    destination: &str,
    (destinations, policy): To<'_>,
    some: &[&Standing],
    looked: &mut Looked,
) -> Result<(), Failure> {
    let name = |one: &&Standing| one.migration.planned.database.clone();
    let names: Vec<String> = some.iter().map(name).collect();
    let chunk = source.read(&names).await?;
    let mut found = chunk.findings.clone();
    if let Some(known) = destinations.get(destination) {
        let back = some.iter().filter(|one| !one.migration.planned.brings_back.is_empty());
        let back: BTreeSet<String> = back.map(name).collect();
        found.extend(preflight::judge(source, &chunk, known, (policy, &back)));
    }
    let by_name: HashMap<String, MigrationId> =
        some.iter().map(|one| (name(one), one.id)).collect();
    for finding in found {
        let migrations = match &finding.database {
            Some(database) => by_name.get(database).copied().into_iter().collect(),
            None => ids(some).collect(),
        };
        looked.told.push((finding, migrations));
    }
    let bytes: u64 = names.iter().map(|name| chunk.bytes(name)).sum();
    *looked.bytes.entry(destination.to_owned()).or_default() += bytes;
    Ok(())
}

fn warning(code: Code, blocking: bool, what: String) -> Finding {
    Finding { code, blocking, database: None, what }
}

fn destinations_room(
    by_destination: &BTreeMap<&str, Vec<&Standing>>,
    destinations: &BTreeMap<String, Destination>,
    bytes: &BTreeMap<String, u64>,
    report: &mut Report,
) {
    for (name, destination) in destinations {
        let needed = bytes.get(name).copied().unwrap_or(0);
        let finding = match destination.room_bytes() {
            None => warning(Code::RoomUnknown, false, format!("{name}: needs {needed} bytes")),
            Some(room) if room < needed => {
                let what = format!("{name}: needs {needed} bytes, has {room}");
                warning(Code::DestinationFull, true, what)
            }
            Some(_) => continue,
        };
        report.add(&finding, ids(&by_destination[name.as_str()]));
    }
}

fn store_room(
    config: &Config,
    all: &[Standing],
    needed: u64,
    report: &mut Report,
) -> Result<(), Failure> {
    let Some(room) = Store::open(&config.store)?.room_bytes()? else { return Ok(()) };
    if room < needed {
        let what = format!("the databases take {needed} bytes, the store has room for {room}");
        // Compressed they take a fifth as a rule, and hardly ever less than a tenth.
        report
            .add(&warning(Code::StoreFull, room < needed / 10, what), all.iter().map(|one| one.id));
    }
    Ok(())
}

async fn host_names(config: &Config, all: &[Standing], report: &mut Report) -> Result<(), Failure> {
    let targets = config.servers.iter().map(|(name, it)| (name.clone(), it.dns.clone()));
    let dns = Dns::new(config.dns.clone(), targets.collect())?;
    let (named, nameless): (Vec<&Standing>, Vec<&Standing>) =
        all.iter().partition(|one| !one.migration.planned.host_names.is_empty());
    for one in nameless {
        let MigrationPlanned { source, database, .. } = &one.migration.planned;
        report.add(&warning(Code::NoHostName, false, format!("{source}: {database}")), [one.id]);
    }
    let mut looks = stream::iter(named)
        .map(|one| {
            let dns = &dns;
            async move { (one.id, dns.look(one.id, &one.migration.planned).await) }
        })
        .buffer_unordered(AT_ONCE);
    while let Some((id, looked)) = looks.next().await {
        if let Err(error) = looked {
            report.add_failure(error.into(), [id]);
        }
    }
    Ok(())
}

/// Keeps with the campaign what was found, and holds back or releases what has not begun.
async fn keep(
    context: &Context,
    campaign: &CampaignName,
    all: &[Standing],
    report: &Report,
) -> Result<(), Failure> {
    let bus = &context.bus;
    let changed = all.iter().filter_map(|one| {
        let blocking_codes = report.blocking_codes(one.id);
        let same = one.blocking_codes == blocking_codes;
        let settled = same && one.is_held() != blocking_codes.is_empty();
        let parked = one.migration.wait() == drover_lifecycle::Wait::Person;
        let command = Command::Check { blocking_codes, by: operator() };
        (!settled && !parked).then_some((one.id, command))
    });
    stream::iter(changed.map(Ok))
        .try_for_each_concurrent(AT_ONCE, |(id, command)| async move {
            match command_migration(bus, campaign, id, &command).await {
                // It has begun in the meantime: nothing holds it back any more.
                Err(Failure { code: Code::TransitionNotAllowed, .. }) | Ok(()) => Ok(()),
                Err(failure) => Err(failure),
            }
        })
        .await?;
    let command = campaign::Command::NotePreflight(report.event(operator()));
    command_campaign(bus, campaign, command).await?;
    Ok(())
}
