//! `drover hosts`: the hosts of a campaign that are set aside, by the orchestrator or a person, and those
//! that have fewer slots than otherwise for what they are under.
//!
//! Nothing is admitted from or to a host that is set aside; what is in flight there goes on.

use std::{collections::BTreeMap, path::Path};

use drover_lifecycle::campaign::Command;
use drover_schemas::{
    CampaignName, Code, Failure, ServerName,
    subjects::Aggregate,
    v1::{HostQuarantined, HostSlots, campaign_event::Event},
};
use serde::Serialize;

use super::{print, print_json};
use crate::{
    context::{Context, command_campaign, operator},
    report::Trouble,
};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The campaign's name.
    pub campaign: CampaignName,
    /// Take this host in again.
    #[arg(long, value_name = "HOST", conflicts_with = "quarantine")]
    pub release: Option<ServerName>,
    /// Set this host aside: its migrations wait.
    #[arg(long, value_name = "HOST")]
    pub quarantine: Option<ServerName>,
    /// Why it is set aside; recorded.
    #[arg(long, requires = "quarantine", default_value = "a person's word")]
    pub reason: String,
    /// As JSON.
    #[arg(long)]
    pub json: bool,
}

/// A host that is not as others are.
#[derive(Debug, Serialize)]
struct Told {
    host: String,
    since: String,
    reason: String,
    /// To how many slots it is held down; none: it is set aside.
    slots_max: Option<u32>,
}

pub async fn run(config: &Path, args: Args) -> Result<(), Trouble> {
    let Args { campaign, release, quarantine, reason, json } = args;
    let context = Context::of(config, "hosts", &campaign).await?;
    let known = |host: ServerName| {
        if context.config.servers.contains_key(&host) {
            Ok(host)
        } else {
            Err(Failure::new(Code::InventoryServerUnknown, host.to_string()))
        }
    };
    let command = match (release, quarantine) {
        (Some(host), _) => Some(Command::Release { host: known(host)?, by: operator() }),
        (None, Some(host)) => {
            let reason = format!("{reason}, by {}", operator());
            Some(Command::Quarantine { host: known(host)?, reason })
        }
        (None, None) => None,
    };
    if let Some(command) = command {
        command_campaign(&context.bus, &campaign, command).await?;
    }
    let hosts = told(&context, &campaign).await?;
    if json {
        return print_json(&hosts);
    }
    let mut text = String::new();
    for Told { host, since, reason, slots_max } in &hosts {
        text.push_str(&match slots_max {
            None => format!("{host}  set aside {since}: {reason}\n"),
            Some(slots_max) => format!("{host}  {slots_max} at once since {since}: {reason}\n"),
        });
    }
    print(if text.is_empty() { "no host is set aside or held down\n" } else { &text });
    Ok(())
}

/// Those that are set aside, and those that are held down, by name.
async fn told(context: &Context, campaign: &CampaignName) -> Result<Vec<Told>, Failure> {
    let (mut aside, mut held) = (BTreeMap::new(), BTreeMap::new());
    for recorded in context.bus.history(campaign, Aggregate::Campaign).await? {
        let since = recorded.event.time_text();
        let event = recorded.event.decode_campaign();
        match event.map_err(|error| Failure::new(Code::EventUndecodable, error.to_string()))? {
            Event::HostQuarantined(HostQuarantined { host, reason }) => {
                aside.insert(host.clone(), Told { host, since, reason, slots_max: None });
            }
            Event::HostReleased(released) => drop(aside.remove(&released.host)),
            Event::HostSlotsChanged(changed) => {
                for HostSlots { host, slots_max, reason } in changed.hosts {
                    let (since, slots) = (since.clone(), Some(slots_max));
                    match slots_max {
                        0 => held.remove(&host),
                        _ => held
                            .insert(host.clone(), Told { host, since, reason, slots_max: slots }),
                    };
                }
            }
            Event::CampaignCreated(_)
            | Event::CampaignStarted(_)
            | Event::ConcurrencyChanged(_)
            | Event::LimitsChanged(_)
            | Event::CampaignPaused(_)
            | Event::CampaignResumed(_)
            | Event::PreflightCompleted(_)
            | Event::CampaignCompleted(_)
            | Event::LogRepaired(_) => {}
        }
    }
    Ok(aside.into_values().chain(held.into_values()).collect())
}
