//! `drover pause` and `drover resume`: the red button, and its release.
//!
//! The button is an event in the log, so it needs no orchestrator to be pressed, and it holds
//! over every restart. The command then waits until the active orchestrator has taken it in.

use std::{path::Path, time::Duration};

use drover_bus::Bus;
use drover_lifecycle::campaign::Command;
use drover_schemas::{
    CampaignName, Failure,
    v1::{CampaignStatus, ServiceStatus},
};
use prost::Message as _;
use tokio::time::{Instant, sleep};

use super::{print, rehearse::check_alone};
use crate::{
    context::{Context, command_campaign, operator},
    report::Trouble,
};

/// How long the command waits for the orchestrator's word.
const WORD_WAIT: Duration = Duration::from_secs(10);
/// Between two questions.
const ASK_EVERY: Duration = Duration::from_millis(100);

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The campaign's name.
    pub campaign: CampaignName,
    /// Why; recorded.
    #[arg(long, default_value = "the red button")]
    pub reason: String,
    /// Also undoes what is under way and whose host names are not being switched yet: customers
    /// write at the source again as soon as that is done. It is admitted again after a resume.
    #[arg(long)]
    pub now: bool,
}

pub async fn run(config: &Path, args: Args) -> Result<(), Trouble> {
    let Args { campaign, reason, now: recalls } = args;
    let context = Context::of(config, "pause", &campaign).await?;
    let command = Command::Pause { reason, by: operator(), recalls };
    let decided = command_campaign(&context.bus, &campaign, command).await?;
    let already = if decided.changed { "" } else { " (it was already)" };
    print(&match word(&context.bus, &campaign, decided.revision).await? {
        Some(CampaignStatus { in_flight, .. }) if recalls => format!(
            "{campaign}: paused{already}; of {in_flight} in flight, those that are being switched \
             will finish, the others are undone\n"
        ),
        Some(CampaignStatus { in_flight, .. }) => {
            format!("{campaign}: paused{already}; {in_flight} in flight will finish\n")
        }
        None => format!("{campaign}: paused{already}; no orchestrator is running\n"),
    });
    Ok(())
}

/// `drover resume`.
pub async fn resume(config: &Path, campaign: CampaignName) -> Result<(), Trouble> {
    let context = Context::of(config, "resume", &campaign).await?;
    check_alone(&context.bus, &campaign).await?;
    let command = Command::Resume { by: operator() };
    let decided = command_campaign(&context.bus, &campaign, command).await?;
    let already = if decided.changed { "" } else { " (it was not paused)" };
    print(&match word(&context.bus, &campaign, decided.revision).await? {
        Some(CampaignStatus { admitting: true, .. }) => format!("{campaign}: goes on{already}\n"),
        Some(_) => format!("{campaign}: resumed{already}; begin it with drover start\n"),
        None => format!("{campaign}: resumed{already}; no orchestrator is running\n"),
    });
    Ok(())
}

/// What the active orchestrator says of a campaign once it has taken in event `sequence`; none
/// when none is running.
async fn word(
    bus: &Bus,
    campaign: &CampaignName,
    sequence: u64,
) -> Result<Option<CampaignStatus>, Failure> {
    let deadline = Instant::now() + WORD_WAIT;
    loop {
        let Some(status) = answering(bus).await? else { return Ok(None) };
        let known = status.campaigns.into_iter().find(|c| c.campaign == campaign.as_str());
        let taken_in = known.filter(|known| known.sequence >= sequence);
        if taken_in.is_some() || Instant::now() > deadline {
            return Ok(taken_in);
        }
        sleep(ASK_EVERY).await;
    }
}

/// The active orchestrator's status.
pub(super) async fn answering(bus: &Bus) -> Result<Option<ServiceStatus>, Failure> {
    let is_active = |answer: &[u8]| ServiceStatus::decode(answer).is_ok_and(|status| status.active);
    let answers = match bus.ask_until("orchestrator", Vec::new().into(), is_active).await {
        Ok(answers) => answers,
        Err(drover_bus::Error::NoAnswer { .. }) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let statuses = answers.into_iter().filter_map(|answer| ServiceStatus::decode(answer).ok());
    Ok(statuses.into_iter().find(|status| status.active))
}
