//! What the active orchestrator does: orders, admissions, closing facts.
//!
//! Each is one exchange with the bus, and many are under way at once. All are safe to be done
//! twice, late, or by two instances: they are bound to the revision that they were decided on.

use chrono::Utc;
use drover_bus::{Bus, Error, Ordered};
use drover_lifecycle::{
    Command, Migration,
    breaker::{self, Verdict},
    campaign::{self, Campaign},
    concurrency::Change,
    forecast::Foreseen,
    steps::host_of,
};
use drover_schemas::{
    CampaignName,
    envelope::CloudEvent,
    subjects::History,
    v1::{
        BreakerSignal, CampaignPaused, HostSlots, Job, MigrationParked, Signal, Step, StepFailed,
        signal,
    },
};

use crate::board::Key;

/// Who moves a campaign's slots by what it sees.
const CONTROLLER: &str = "the controller";

/// What was done.
#[derive(Debug)]
pub enum Done {
    /// An order was put on the queue, or not.
    Ordered(Key, u64, Outcome),
    /// A closing fact, or that a step is broken off, was appended, or not.
    Settled(Key, u64, Outcome),
    /// An admission was appended, or not.
    Admitted(Key, Outcome),
    /// When a campaign, and its next waves, will have come to their ends.
    Foreseen(CampaignName, Foreseen),
    /// Nothing follows from it.
    Told,
}

/// How it went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Done, by us or another.
    Done,
    /// The history has moved on: its next event says what to do.
    Overtaken,
    /// The bus failed: to be tried again.
    Failed,
}

/// The hands of the active orchestrator. Cheap to clone.
#[derive(Clone)]
pub struct Hands {
    /// The bus.
    pub bus: Bus,
    /// `drover/orchestrator/<instance>`.
    pub source: String,
}

impl Hands {
    /// Puts an order on the work queue, unless that of the step before is still there, which is gone
    /// on from.
    pub async fn order(self, key: Key, job: Job, gone_on_from: Option<Step>) -> Done {
        let revision = job.revision;
        let host = job.planned.as_ref().map(|planned| host_of(job.step(), planned));
        let Some(Ok(Some(host))) = host else {
            tracing::error!(migration = %key.1, "a job for nowhere: the log is damaged");
            return Done::Ordered(key, revision, Outcome::Overtaken);
        };
        if let Some(before) = gone_on_from {
            match self.bus.outstanding(before, &host, key.1).await {
                Ok(Some(_)) => return Done::Ordered(key, revision, Outcome::Done),
                Ok(None) => {}
                Err(error) => {
                    let outcome = failed(&key, &error);
                    return Done::Ordered(key, revision, outcome);
                }
            }
        }
        let outcome = match self.bus.order(&job, &host).await {
            Ok(Ordered::Stored | Ordered::AlreadyThere) => Outcome::Done,
            Ok(Ordered::Overtaken) => Outcome::Overtaken,
            Err(error) => failed(&key, &error),
        };
        Done::Ordered(key, revision, outcome)
    }

    /// Appends a migration's closing fact.
    pub async fn settle(self, key: Key, migration: Migration) -> Done {
        let outcome = self.append(&key, &migration, Command::Settle).await;
        Done::Settled(key, migration.revision, outcome)
    }

    /// Appends that a migration's step is broken off.
    pub async fn break_off(self, key: Key, migration: Migration) -> Done {
        let outcome = self.append(&key, &migration, Command::BreakOff).await;
        if outcome == Outcome::Done {
            metrics::counter!("drover_promises_broken_off_total").increment(1);
        }
        Done::Settled(key, migration.revision, outcome)
    }

    /// Appends that a migration is called back.
    pub async fn recall(self, key: Key, migration: Migration, paused: CampaignPaused) -> Done {
        let CampaignPaused { by, reason, recalls: _ } = paused;
        let outcome = self.append(&key, &migration, Command::Recall { by, reason }).await;
        Done::Settled(key, migration.revision, outcome)
    }

    /// Appends a migration's admission.
    pub async fn admit(self, key: Key, migration: Migration) -> Done {
        let outcome = self.append(&key, &migration, Command::Admit).await;
        Done::Admitted(key, outcome)
    }

    async fn append(&self, key: &Key, migration: &Migration, command: Command) -> Outcome {
        let event = match migration.decide(command) {
            Ok(event) => CloudEvent::migration(event, &self.source, Utc::now()),
            Err(error) => {
                tracing::error!(migration = %key.1, %error, "decided against the state");
                return Outcome::Overtaken;
            }
        };
        let history = match History::of(key.1, &migration.planned) {
            Ok(history) => history,
            Err(error) => {
                tracing::error!(migration = %key.1, %error, "planned with a server that is none");
                return Outcome::Overtaken;
            }
        };
        match self.bus.append(&key.0, &history, migration.revision, &event).await {
            Ok(_) => Outcome::Done,
            Err(Error::Conflict { .. }) => Outcome::Overtaken,
            Err(error) => failed(key, &error),
        }
    }

    /// Appends that all of a campaign's migrations have ended.
    pub async fn complete(
        self,
        name: CampaignName,
        campaign: Campaign,
        completed: u64,
        rolled_back: u64,
    ) -> Done {
        let command = campaign::Command::Complete { completed, rolled_back };
        if let Ok(Some(event)) = campaign.decide(command) {
            let event = CloudEvent::campaign(event, &self.source, Utc::now());
            let appended = self.bus.append(&name, &History::Campaign, campaign.revision, &event);
            if let Err(error) = appended.await {
                tracing::warn!(campaign = %name, %error, "the campaign's end is not recorded yet");
            }
        }
        Done::Told
    }

    /// Appends that the campaign pauses by itself, or that a host is set aside. Where the campaign
    /// has moved on meanwhile, the next failure is judged by what it is then.
    pub async fn carry_out(self, name: CampaignName, campaign: Campaign, verdict: Verdict) -> Done {
        let (command, signal) = match verdict {
            Verdict::Pause { reason } => {
                let signal = BreakerSignal { host: String::new(), reason: reason.clone() };
                let by = breaker::WHO.to_owned();
                (campaign::Command::Pause { reason, by, recalls: false }, signal)
            }
            Verdict::Quarantine { host, reason } => {
                let signal = BreakerSignal { host: host.to_string(), reason: reason.clone() };
                (campaign::Command::Quarantine { host, reason }, signal)
            }
        };
        let Ok(Some(event)) = campaign.decide(command) else { return Done::Told };
        tracing::warn!(campaign = %name, ?event, "it pauses, or goes on without a host");
        let event = CloudEvent::campaign(event, &self.source, Utc::now());
        match self.bus.append(&name, &History::Campaign, campaign.revision, &event).await {
            Ok(revision) => {
                metrics::counter!("drover_breaker_verdicts_total").increment(1);
                let signal = Signal { signal: Some(signal::Signal::Breaker(signal)) };
                let id = format!("breaker-{revision}");
                if let Err(error) = self.bus.signal(&name, "breaker", &signal, &id).await {
                    tracing::warn!(campaign = %name, %error, "a signal was not sent");
                }
            }
            Err(Error::Conflict { .. }) => {}
            Err(error) => tracing::warn!(campaign = %name, %error, "not recorded yet"),
        }
        Done::Told
    }

    /// Appends that a campaign has other slots. Where it has moved on meanwhile, the next look sees.
    pub async fn retune(self, name: CampaignName, campaign: Campaign, change: Change) -> Done {
        let Change { in_flight_max, reason } = change;
        let by = CONTROLLER.to_owned();
        self.tune(name, campaign, campaign::Command::Tune { in_flight_max, reason, by }).await
    }

    /// The same of a campaign's hosts.
    pub async fn retune_hosts(
        self,
        name: CampaignName,
        campaign: Campaign,
        hosts: Vec<HostSlots>,
    ) -> Done {
        self.tune(name, campaign, campaign::Command::TuneHosts(hosts)).await
    }

    async fn tune(
        self,
        name: CampaignName,
        campaign: Campaign,
        command: campaign::Command,
    ) -> Done {
        if let Ok(Some(event)) = campaign.decide(command) {
            let event = CloudEvent::campaign(event, &self.source, Utc::now());
            let appended = self.bus.append(&name, &History::Campaign, campaign.revision, &event);
            if let Err(error) = appended.await {
                tracing::warn!(campaign = %name, %error, "the slots are not moved yet");
            }
        }
        Done::Told
    }

    /// Tells consoles of a failure.
    pub async fn tell_failure(self, key: Key, revision: u64, failed: StepFailed) -> Done {
        let step = drover_schemas::subjects::step_name(failed.step()).to_owned();
        let signal = signal::Signal::Failure(drover_schemas::v1::FailureSignal {
            migration_id: key.1.to_string(),
            host: failed.host,
            step,
            code: failed.code,
            signature: failed.signature,
            transient: failed.transient,
        });
        self.tell(&key, "failure", revision, signal).await
    }

    /// Tells consoles that a person is needed.
    pub async fn tell_parked(
        self,
        key: Key,
        revision: u64,
        database: String,
        parked: MigrationParked,
    ) -> Done {
        let signal = signal::Signal::Parked(drover_schemas::v1::ParkedSignal {
            migration_id: key.1.to_string(),
            database,
            code: parked.code,
            signature: parked.signature,
            undone: parked.undone,
        });
        self.tell(&key, "parked", revision, signal).await
    }

    async fn tell(&self, key: &Key, kind: &str, revision: u64, signal: signal::Signal) -> Done {
        let id = format!("{}-{revision}", key.1);
        let signal = Signal { signal: Some(signal) };
        if let Err(error) = self.bus.signal(&key.0, kind, &signal, &id).await {
            tracing::warn!(migration = %key.1, %error, "a signal was not sent");
        }
        Done::Told
    }
}

fn failed(key: &Key, error: &Error) -> Outcome {
    tracing::warn!(campaign = %key.0, migration = %key.1, %error, "tried again");
    Outcome::Failed
}
