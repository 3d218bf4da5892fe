//! The state machine of a campaign.

use std::collections::{BTreeMap, BTreeSet};

use drover_schemas::{
    ServerName,
    envelope::campaign_kind,
    v1::{
        CampaignCompleted, CampaignCreated, CampaignPaused, CampaignResumed, CampaignStarted,
        ConcurrencyChanged, HostQuarantined, HostReleased, HostSlots, HostSlotsChanged, Limits,
        LimitsChanged, Policy, PreflightCompleted, campaign_event::Event,
    },
};

use crate::{limits::Adjust, phase::NotAllowed};

/// Where a campaign stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Planned; nothing is admitted yet.
    Created,
    /// Migrations are admitted.
    Running,
    /// The red button: no new admissions; migrations in flight finish.
    Paused,
    /// Each of its migrations has completed or was rolled back.
    Completed,
}

impl Phase {
    /// A word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Created => "planned",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Completed => "completed",
        }
    }
}

/// What a person or the orchestrator wants of a campaign.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Begin to admit migrations, at most so many at once.
    Start {
        /// The campaign's slots; at least 1.
        in_flight_max: u32,
        /// Who says so.
        by: String,
    },
    /// Admit none.
    Pause {
        /// Why.
        reason: String,
        /// Who says so.
        by: String,
        /// Undo what is under way and not yet being switched, too.
        recalls: bool,
    },
    /// Admit again.
    Resume {
        /// Who says so.
        by: String,
    },
    /// Admit at most so many at once from now on.
    Tune {
        /// The campaign's slots; at least 1.
        in_flight_max: u32,
        /// Why.
        reason: String,
        /// Who says so.
        by: String,
    },
    /// Other limits from now on.
    Limit {
        /// Which, and how.
        adjust: Adjust,
        /// Why.
        reason: String,
        /// Who says so.
        by: String,
    },
    /// Set a host aside: its migrations wait.
    Quarantine {
        /// The host.
        host: ServerName,
        /// Why.
        reason: String,
    },
    /// Take a host in again.
    Release {
        /// The host.
        host: ServerName,
        /// Who says so.
        by: String,
    },
    /// Admit at most so many at these servers from now on.
    TuneHosts(Vec<HostSlots>),
    /// Keep what a pre-flight found.
    NotePreflight(PreflightCompleted),
    /// All migrations have ended.
    Complete {
        /// How many completed.
        completed: u64,
        /// How many were rolled back.
        rolled_back: u64,
    },
}

/// An event of a campaign with its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Fact {
    /// The stream sequence.
    pub revision: u64,
    /// What happened.
    pub event: Event,
}

/// The state of one campaign.
#[derive(Debug, Clone, PartialEq)]
pub struct Campaign {
    /// The stream sequence of its last fact.
    pub revision: u64,
    /// Where it stands.
    pub phase: Phase,
    /// Under which its migrations run.
    pub policy: Policy,
    /// Its slots.
    pub in_flight_max: u32,
    /// What else limits it.
    pub limits: Limits,
    /// The pause that calls back what is under way, while it lasts.
    pub recall: Option<CampaignPaused>,
    /// Hosts that are set aside.
    pub quarantined: BTreeSet<ServerName>,
    /// Hosts with fewer slots than they have otherwise, for what they are under.
    pub host_slots: BTreeMap<ServerName, u32>,
}

impl Campaign {
    /// The state after a campaign's first fact.
    ///
    /// # Errors
    /// When that is not [`CampaignCreated`].
    pub fn begin(fact: Fact) -> Result<Self, NotAllowed> {
        let what = campaign_kind(&fact.event);
        let Event::CampaignCreated(CampaignCreated { policy }) = fact.event else {
            return Err(NotAllowed { what, phase: "unknown".to_owned() });
        };
        Ok(Self {
            revision: fact.revision,
            phase: Phase::Created,
            policy: policy.unwrap_or_default(),
            in_flight_max: 0,
            limits: Limits::default(),
            recall: None,
            quarantined: BTreeSet::new(),
            host_slots: BTreeMap::new(),
        })
    }

    /// The state after a whole history; `None` for an empty one.
    ///
    /// # Errors
    /// When a fact is not allowed where it stands.
    pub fn replay(facts: impl IntoIterator<Item = Fact>) -> Result<Option<Self>, NotAllowed> {
        let mut state: Option<Self> = None;
        for fact in facts {
            match &mut state {
                None => state = Some(Self::begin(fact)?),
                Some(campaign) => campaign.evolve(fact)?,
            }
        }
        Ok(state)
    }

    /// Folds a fact into the state. A fact that is known already changes nothing.
    ///
    /// # Errors
    /// When it is not allowed here; the state is unchanged then.
    pub fn evolve(&mut self, fact: Fact) -> Result<(), NotAllowed> {
        if fact.revision <= self.revision {
            return Ok(());
        }
        self.phase = self.next_phase(&fact.event)?;
        self.revision = fact.revision;
        match fact.event {
            Event::CampaignStarted(CampaignStarted { in_flight_max, .. })
            | Event::ConcurrencyChanged(ConcurrencyChanged { in_flight_max, .. }) => {
                self.in_flight_max = in_flight_max;
            }
            Event::HostQuarantined(quarantined) => {
                self.quarantined.extend(quarantined.host.parse::<ServerName>());
            }
            Event::HostReleased(released) => {
                self.quarantined.retain(|host| host.as_str() != released.host);
            }
            Event::HostSlotsChanged(changed) => self.take_host_slots(changed),
            Event::CampaignPaused(paused) => {
                if paused.recalls {
                    self.recall = Some(paused);
                }
            }
            Event::CampaignResumed(_) => self.recall = None,
            Event::LimitsChanged(changed) => self.limits = changed.limits.unwrap_or_default(),
            Event::CampaignCreated(_)
            | Event::PreflightCompleted(_)
            | Event::CampaignCompleted(_)
            | Event::LogRepaired(_) => {}
        }
        Ok(())
    }

    fn take_host_slots(&mut self, changed: HostSlotsChanged) {
        for HostSlots { host, slots_max, .. } in changed.hosts {
            let Ok(host) = host.parse() else { continue };
            match slots_max {
                0 => self.host_slots.remove(&host),
                slots_max => self.host_slots.insert(host, slots_max),
            };
        }
    }

    fn next_phase(&self, event: &Event) -> Result<Phase, NotAllowed> {
        match (event, self.phase) {
            // Once more, for what a person tries again after all had ended.
            (Event::CampaignStarted(_), Phase::Created | Phase::Completed) => Ok(Phase::Running),
            (Event::CampaignPaused(_), Phase::Created | Phase::Running) => Ok(Phase::Paused),
            (Event::CampaignPaused(paused), Phase::Paused) if paused.recalls => Ok(Phase::Paused),
            (Event::CampaignResumed(_), Phase::Paused) if self.in_flight_max == 0 => {
                Ok(Phase::Created)
            }
            (Event::CampaignResumed(_), Phase::Paused) => Ok(Phase::Running),
            (Event::CampaignCompleted(_), Phase::Running) => Ok(Phase::Completed),
            (
                Event::ConcurrencyChanged(_)
                | Event::LimitsChanged(_)
                | Event::HostQuarantined(_)
                | Event::HostReleased(_)
                | Event::HostSlotsChanged(_)
                | Event::PreflightCompleted(_),
                phase @ (Phase::Created | Phase::Running | Phase::Paused),
            ) => Ok(phase),
            (Event::LogRepaired(_), phase) => Ok(phase),
            (
                Event::CampaignCreated(_)
                | Event::CampaignStarted(_)
                | Event::ConcurrencyChanged(_)
                | Event::LimitsChanged(_)
                | Event::CampaignPaused(_)
                | Event::CampaignResumed(_)
                | Event::HostQuarantined(_)
                | Event::HostReleased(_)
                | Event::HostSlotsChanged(_)
                | Event::PreflightCompleted(_)
                | Event::CampaignCompleted(_),
                Phase::Created | Phase::Running | Phase::Paused | Phase::Completed,
            ) => Err(self.not_allowed(campaign_kind(event))),
        }
    }

    /// The fact that a command leads to; none when what it asks for is so already.
    ///
    /// # Errors
    /// When the command is not allowed here.
    pub fn decide(&self, command: Command) -> Result<Option<Event>, NotAllowed> {
        let (what, event) = match command {
            Command::Start { in_flight_max, by } if self.phase == Phase::Running => {
                if in_flight_max == self.in_flight_max {
                    return Ok(None);
                }
                let reason = "started again with another limit".to_owned();
                let event = ConcurrencyChanged { in_flight_max, reason, by };
                ("a start", Event::ConcurrencyChanged(event))
            }
            Command::Start { in_flight_max, by } => {
                ("a start", Event::CampaignStarted(CampaignStarted { in_flight_max, by }))
            }
            Command::Pause { recalls, .. }
                if self.phase == Phase::Paused && (!recalls || self.recall.is_some()) =>
            {
                return Ok(None);
            }
            Command::Pause { reason, by, recalls } => {
                ("a pause", Event::CampaignPaused(CampaignPaused { reason, by, recalls }))
            }
            Command::Resume { .. } if self.phase == Phase::Running => return Ok(None),
            Command::Resume { by } => ("a resume", Event::CampaignResumed(CampaignResumed { by })),
            Command::Tune { in_flight_max, .. } if in_flight_max == self.in_flight_max => {
                return Ok(None);
            }
            // Before its start a campaign has no limit that could be another.
            Command::Tune { .. } if self.in_flight_max == 0 => {
                return Err(self.not_allowed("another limit"));
            }
            Command::Tune { in_flight_max, reason, by } => {
                let event = ConcurrencyChanged { in_flight_max, reason, by };
                ("another limit", Event::ConcurrencyChanged(event))
            }
            Command::Limit { adjust, reason, by } => {
                let limits = adjust.apply(&self.limits);
                if limits == self.limits {
                    return Ok(None);
                }
                let event = LimitsChanged { limits: Some(limits), reason, by };
                ("other limits", Event::LimitsChanged(event))
            }
            Command::Quarantine { host, .. } if self.quarantined.contains(&host) => {
                return Ok(None);
            }
            Command::Quarantine { host, reason } => {
                let event = HostQuarantined { host: host.to_string(), reason };
                ("a quarantine", Event::HostQuarantined(event))
            }
            Command::Release { host, .. } if !self.quarantined.contains(&host) => return Ok(None),
            Command::Release { host, by } => {
                ("a release", Event::HostReleased(HostReleased { host: host.to_string(), by }))
            }
            Command::TuneHosts(mut hosts) => {
                hosts.retain(|new| self.host_slots_max(&new.host) != new.slots_max);
                if hosts.is_empty() {
                    return Ok(None);
                }
                let event = HostSlotsChanged { hosts };
                ("other slots at hosts", Event::HostSlotsChanged(event))
            }
            Command::NotePreflight(completed) => {
                ("a pre-flight", Event::PreflightCompleted(completed))
            }
            Command::Complete { completed, rolled_back } => {
                let event = CampaignCompleted { completed, rolled_back };
                ("completion", Event::CampaignCompleted(event))
            }
        };
        self.next_phase(&event).map_err(|_| self.not_allowed(what))?;
        Ok(Some(event))
    }

    /// To how many slots a host is held down; 0: it is not.
    pub fn host_slots_max(&self, host: &str) -> u32 {
        let held = self.host_slots.iter().find(|(held, _)| held.as_str() == host);
        held.map_or(0, |(_, slots_max)| *slots_max)
    }

    fn not_allowed(&self, what: &'static str) -> NotAllowed {
        NotAllowed { what, phase: self.phase.name().to_owned() }
    }
}

#[cfg(test)]
mod tests;
