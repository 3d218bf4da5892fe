//! `drover hosts`: the hosts of a campaign that are set aside, by the orchestrator or a person.
//!
//! Nothing is admitted from or to such a host; what is in flight there goes on.

use std::{collections::BTreeMap, path::Path};

use drover_lifecycle::campaign::Command;
use drover_schemas::{
    CampaignName, Code, Failure, ServerName, subjects::Aggregate, v1::campaign_event::Event,
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

/// A host that is set aside.
#[derive(Debug, Serialize)]
struct SetAside {
    host: String,
    since: String,
    reason: String,
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
    let hosts = set_aside(&context, &campaign).await?;
    if json {
        return print_json(&hosts);
    }
    let mut text = String::new();
    for SetAside { host, since, reason } in &hosts {
        text.push_str(&format!("{host}  set aside {since}: {reason}\n"));
    }
    print(if text.is_empty() { "no host is set aside\n" } else { &text });
    Ok(())
}

async fn set_aside(context: &Context, campaign: &CampaignName) -> Result<Vec<SetAside>, Failure> {
    let mut hosts = BTreeMap::new();
    for recorded in context.bus.history(campaign, Aggregate::Campaign).await? {
        let since = recorded.event.time_text();
        let event = recorded.event.decode_campaign();
        match event.map_err(|error| Failure::new(Code::EventUndecodable, error.to_string()))? {
            Event::HostQuarantined(set) => {
                let host = set.host.clone();
                hosts.insert(host, SetAside { host: set.host, since, reason: set.reason });
            }
            Event::HostReleased(released) => drop(hosts.remove(&released.host)),
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
    Ok(hosts.into_values().collect())
}
