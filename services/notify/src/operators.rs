//! Tells the operators what needs one of them, or what they wait for: that a campaign has paused by
//! itself, that a host is set aside, that a campaign has completed.
//!
//! What is told are the campaign's own facts, taken from its history by a consumer that the bus
//! keeps: so nothing is lost while nobody tells, and nothing is told twice but where the service dies
//! between telling and saying so. Mail and webhook then carry the same key.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use drover_bus::{Bus, Recorded};
use drover_lifecycle::breaker;
use drover_schemas::{
    CampaignName, streams,
    v1::{CampaignCompleted, CampaignPaused, HostQuarantined, campaign_event::Event},
};
use futures::{StreamExt as _, stream::FuturesUnordered};
use lettre::{Address, message::Mailbox};
use serde_json::json;
use tokio::time::interval;
use tokio_util::sync::CancellationToken;

use crate::{Error, Operators as Options, mail::Mailer, message::visible, webhook::Poster};

/// How often it is looked for new campaigns.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Before what could not be told is tried again. It is tried for as long as it takes.
const AGAIN_AFTER: Duration = Duration::from_secs(5);
/// What is older is no news: a weekend, and the day after it.
const NEWS_AGE_MAX: TimeDelta = TimeDelta::days(3);

/// Who is told, and how.
pub(crate) struct Operators {
    mail_to: Vec<Mailbox>,
    webhook: bool,
    /// By the key of what is being told: the ways by which it was. What failed on one way is not
    /// told on the other again.
    told: Mutex<BTreeMap<String, Told>>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Told {
    mailed: bool,
    posted: bool,
}

/// Something to tell.
#[derive(Debug, PartialEq, Eq)]
struct Notice {
    /// By which a receiver drops a duplicate.
    key: String,
    kind: &'static str,
    campaign: String,
    /// None where it is about the campaign.
    host: Option<String>,
    subject: String,
    /// What happened, and why.
    what: String,
    /// What to do now.
    remedy: String,
    at: DateTime<Utc>,
}

impl Operators {
    pub(crate) fn new(options: &Options, mails: bool, posts: bool) -> Result<Self, Error> {
        let wrong = |why: &str| Error::Configuration(format!("[notify.operators] {why}"));
        let Options { mail_to, webhook } = options;
        let mailbox = |text: &String| {
            text.parse::<Address>()
                .map(|address| Mailbox::new(None, address))
                .map_err(|_| wrong("mail_to: not a mail address"))
        };
        if !mail_to.is_empty() && !mails {
            return Err(wrong("mail_to: [notify.smtp] is missing"));
        }
        if *webhook && !posts {
            return Err(wrong("webhook: [notify.webhook] is missing"));
        }
        if mail_to.is_empty() && !webhook {
            return Err(wrong("names neither mail_to nor webhook"));
        }
        let mail_to = mail_to.iter().map(mailbox).collect::<Result<_, _>>()?;
        Ok(Self { mail_to, webhook: *webhook, told: Mutex::default() })
    }

    /// Tells of every campaign until `shutdown`.
    pub(crate) async fn run(
        &self,
        bus: &Bus,
        mailer: Option<&Mailer>,
        poster: Option<&Poster>,
        shutdown: CancellationToken,
    ) {
        let mut looks = interval(LOOK_EVERY);
        let mut known: Vec<CampaignName> = Vec::new();
        let mut hearing = FuturesUnordered::new();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                Some((campaign, ended)) = hearing.next(), if !hearing.is_empty() => {
                    // Its stream is gone, or the bus was away when the consumer was made.
                    known.retain(|other| *other != campaign);
                    if let Err(error) = ended {
                        tracing::warn!(%campaign, %error, "the operators are not told of it");
                    }
                }
                _ = looks.tick() => {
                    let campaigns = bus.campaigns().await.unwrap_or_else(|error| {
                        tracing::warn!(%error, "it is not known which campaigns there are");
                        Vec::new()
                    });
                    for campaign in campaigns {
                        if known.contains(&campaign) {
                            continue;
                        }
                        known.push(campaign.clone());
                        let (bus, shutdown) = (bus.clone(), shutdown.clone());
                        hearing.push(async move {
                            let consumer = streams::operators(&campaign);
                            let take = |fact: Recorded| self.take(fact, mailer, poster);
                            let ended = bus.hear(&consumer, shutdown, take).await;
                            (campaign, ended)
                        });
                    }
                }
            }
        }
        while let Some((campaign, ended)) = hearing.next().await {
            if let Err(error) = ended {
                tracing::warn!(%campaign, %error, "the operators are not told of it");
            }
        }
    }

    /// Tells of a fact, if it is one to tell of; or says when to try again.
    async fn take(
        &self,
        fact: Recorded,
        mailer: Option<&Mailer>,
        poster: Option<&Poster>,
    ) -> Result<(), Duration> {
        let Some(notice) = notice(&fact).filter(|n| Utc::now() - n.at <= NEWS_AGE_MAX) else {
            return Ok(());
        };
        let mut told = self.told_of(&notice.key);
        let (mailed, posted) = tokio::join!(
            async {
                match mailer.filter(|_| !told.mailed && !self.mail_to.is_empty()) {
                    Some(mailer) => mail(mailer, &self.mail_to, &notice).await,
                    None => Ok(()),
                }
            },
            async {
                match poster.filter(|_| !told.posted && self.webhook) {
                    Some(poster) => poster.post(&notice.key, document(&notice), Utc::now()).await,
                    None => Ok(()),
                }
            }
        );
        (told.mailed, told.posted) = (is_over(&notice, &mailed), is_over(&notice, &posted));
        let mut all = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.mailed && told.posted {
            all.remove(&notice.key);
            return Ok(());
        }
        all.insert(notice.key, told);
        Err(AGAIN_AFTER)
    }

    fn told_of(&self, key: &str) -> Told {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.get(key).copied().unwrap_or_default()
    }
}

/// Whether a way is done with: what another time will not bring is given up, and logged.
fn is_over(notice: &Notice, outcome: &Result<(), Error>) -> bool {
    match outcome {
        Ok(()) => true,
        Err(error) if error.is_transient() => {
            tracing::warn!(key = notice.key, %error, "the operators are not told yet");
            false
        }
        Err(error) => {
            metrics::counter!("drover_operators_not_told_total").increment(1);
            tracing::error!(key = notice.key, %error, "the operators are not told");
            true
        }
    }
}

async fn mail(mailer: &Mailer, to: &[Mailbox], notice: &Notice) -> Result<(), Error> {
    let Notice { what, remedy, at, .. } = notice;
    let since = at.to_rfc3339_opts(SecondsFormat::Secs, true);
    let body = format!("{what}\n\nAt {since}.\n\n{remedy}\n");
    mailer.tell(&notice.key, to, &notice.subject, body).await
}

fn document(notice: &Notice) -> String {
    let Notice { key, kind, campaign, host, what, remedy, at, .. } = notice;
    let timestamp = at.to_rfc3339_opts(SecondsFormat::Secs, true);
    let data = json!({
        "key": key, "campaign": campaign, "host": host, "what": what, "remedy": remedy,
    });
    json!({ "type": kind, "timestamp": timestamp, "data": data }).to_string()
}

/// What there is to tell of a fact.
fn notice(fact: &Recorded) -> Option<Notice> {
    let campaign = fact.campaign.to_string();
    let (kind, host, subject, what, remedy) = match fact.event.decode_campaign().ok()? {
        Event::CampaignPaused(CampaignPaused { by, reason, .. }) if by == breaker::WHO => (
            "drover.campaign.paused",
            None,
            format!("Drover: campaign {campaign} has paused by itself"),
            format!("Campaign {campaign} has paused by itself: {reason}."),
            format!(
                "Nothing is admitted any more; what is in flight finishes. See: drover failures \
                 {campaign}. Once the cause is gone: drover resume {campaign}."
            ),
        ),
        Event::HostQuarantined(HostQuarantined { host, reason }) => (
            "drover.host.quarantined",
            Some(host.clone()),
            format!("Drover: {host} is set aside in campaign {campaign}"),
            format!("{host} is set aside in campaign {campaign}: {reason}."),
            format!(
                "Its migrations wait; all others go on. See: drover hosts {campaign}. Once the cause \
                 is gone: drover hosts {campaign} --release {host}."
            ),
        ),
        Event::CampaignCompleted(CampaignCompleted { completed, rolled_back }) => (
            "drover.campaign.completed",
            None,
            format!("Drover: campaign {campaign} has completed"),
            format!(
                "Campaign {campaign} has completed: {completed} migrations have, and {rolled_back} \
                 were rolled back."
            ),
            format!("See: drover status {campaign}."),
        ),
        // A person's pause is known to who gave it.
        Event::CampaignPaused(_)
        | Event::CampaignCreated(_)
        | Event::CampaignStarted(_)
        | Event::ConcurrencyChanged(_)
        | Event::LimitsChanged(_)
        | Event::CampaignResumed(_)
        | Event::HostReleased(_)
        | Event::HostSlotsChanged(_)
        | Event::PreflightCompleted(_)
        | Event::LogRepaired(_) => return None,
    };
    Some(Notice {
        key: format!("{campaign}.{}", fact.sequence),
        kind,
        campaign,
        host,
        subject: visible(&subject),
        what: visible(&what),
        remedy: visible(&remedy),
        at: fact.event.time,
    })
}
