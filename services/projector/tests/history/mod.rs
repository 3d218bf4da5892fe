//! Histories for tests, made by the lifecycle itself.

#![allow(dead_code, reason = "each test program uses a part of it")]

use std::collections::BTreeMap;

use chrono::DateTime;
use drover_bus::{Item, Recorded};
use drover_lifecycle::{Command, Fact, Migration, Wait, conclude};
use drover_schemas::{
    CampaignName, Code, Failure, MigrationId,
    envelope::CloudEvent,
    subjects,
    v1::{self, Policy, RetryPolicy, Step, campaign_event, migration_event::Event},
};

/// When the histories begin: a round number of seconds.
pub const BEGIN_UNIX_MS: i64 = 1_700_000_000_000;

pub const POLICY: Policy = Policy {
    retry: Some(RetryPolicy { attempts_max: 2, backoff_base_ms: 10, backoff_max_ms: 100 }),
    session_grace_ms: 0,
    dump_retention_days: 30,
    max_frozen_ms: 300_000,
    definers: None,
};

/// A campaign's log, and the states that it leads to.
pub struct History {
    pub campaign: CampaignName,
    pub items: Vec<Item>,
    pub states: BTreeMap<MigrationId, Migration>,
    /// In the order of planning.
    pub ids: Vec<MigrationId>,
    pub now_unix_ms: i64,
}

impl History {
    pub fn new(campaign: &str) -> Self {
        Self {
            campaign: campaign.parse().unwrap(),
            items: Vec::new(),
            states: BTreeMap::new(),
            ids: Vec::new(),
            now_unix_ms: BEGIN_UNIX_MS,
        }
    }

    /// Lets time pass.
    pub fn wait(&mut self, ms: i64) -> &mut Self {
        self.now_unix_ms += ms;
        self
    }

    pub fn last(&self) -> u64 {
        self.items.len() as u64
    }

    /// Appends whatever it is.
    pub fn append(&mut self, history: subjects::History, event: CloudEvent) {
        let (campaign, sequence) = (self.campaign.clone(), self.last() + 1);
        self.items.push(Item::Event(Recorded { campaign, history, sequence, event }));
    }

    pub fn append_undecodable(&mut self) {
        let (sequence, subject) = (self.last() + 1, format!("drover.events.{}.?", self.campaign));
        self.items.push(Item::Undecodable { sequence, subject });
    }

    pub fn campaign_event(&mut self, event: campaign_event::Event) {
        let time = DateTime::from_timestamp_millis(self.now_unix_ms).unwrap();
        self.append(
            subjects::History::Campaign,
            CloudEvent::campaign(event, "drover/test/1", time),
        );
    }

    /// Where the events of one that was planned stand.
    pub fn of(&self, id: MigrationId) -> subjects::History {
        subjects::History::of(id, &self.states[&id].planned).unwrap()
    }

    pub fn migration_event(&mut self, id: MigrationId, event: Event) {
        let (at_unix_ms, revision) = (self.now_unix_ms, self.last() + 1);
        let time = DateTime::from_timestamp_millis(at_unix_ms).unwrap();
        let envelope = CloudEvent::migration(event.clone(), "drover/test/1", time);
        let history = match &event {
            Event::MigrationPlanned(planned) => subjects::History::of(id, planned).unwrap(),
            _ => self.of(id),
        };
        self.append(history, envelope);
        let fact = Fact { revision, at_unix_ms, event };
        match self.states.get_mut(&id) {
            Some(state) => state.evolve(fact).unwrap(),
            None => {
                self.states.insert(id, Migration::begin(fact).unwrap());
                self.ids.push(id);
            }
        }
    }

    pub fn plan(&mut self, database: &str, route: (&str, &str), wave: &str) -> MigrationId {
        let (source, destination) = route;
        let id = MigrationId::new(&self.campaign, &source.parse().unwrap(), database);
        let planned = v1::MigrationPlanned {
            campaign: self.campaign.to_string(),
            database: database.into(),
            source: source.into(),
            destination: destination.into(),
            wave: wave.into(),
            ..Default::default()
        };
        self.migration_event(id, Event::MigrationPlanned(planned));
        id
    }

    pub fn command(&mut self, id: MigrationId, command: Command) -> bool {
        let decided = self.states[&id].decide(command);
        let is_allowed = decided.is_ok();
        if let Ok(event) = decided {
            self.migration_event(id, event);
        }
        is_allowed
    }

    /// Does what the migration waits for; a step with this outcome. False when it waits for
    /// nothing.
    pub fn advance(&mut self, id: MigrationId, failure: Option<Failure>) -> bool {
        let state = &self.states[&id];
        match state.wait() {
            Wait::Admission { .. } => self.command(id, Command::Admit),
            Wait::Settlement => self.command(id, Command::Settle),
            Wait::Findings => self.command(id, Command::IgnoreFindings { by: "me".into() }),
            Wait::Person => self.command(id, Command::Retry { by: "me".into() }),
            Wait::Nothing => false,
            Wait::Job { step, .. } => {
                let job = state.job(&self.campaign, id, &POLICY, self.now_unix_ms).unwrap();
                let done = failure.map_or_else(|| Ok(self.event_of(step)), Err);
                let event = conclude(&job, done, self.now_unix_ms, 0.5);
                self.migration_event(id, event);
                true
            }
        }
    }

    /// Goes on, a second for each event, until the lifecycle calls its phase so.
    pub fn advance_to(&mut self, id: MigrationId, phase: &str) {
        while self.states[&id].phase.name() != phase {
            self.wait(1000);
            assert!(self.advance(id, None), "it never comes to {phase}");
        }
    }

    pub fn fail(&mut self, id: MigrationId, code: Code, message: &str) {
        assert!(self.advance(id, Some(Failure::new(code, message))));
    }

    fn event_of(&self, step: Step) -> Event {
        let now = self.now_unix_ms;
        match step {
            Step::Freeze => Event::SourceFrozen(v1::SourceFrozen {
                frozen_at_unix_ms: now,
                thaw_at_unix_ms: now + 300_000,
                ..Default::default()
            }),
            Step::Dump => Event::DumpStored(v1::DumpStored::default()),
            Step::Import => Event::ImportCompleted(v1::ImportCompleted::default()),
            Step::Verify => Event::CopyVerified(v1::CopyVerified::default()),
            Step::Disarm => Event::SourceDisarmed(v1::SourceDisarmed::default()),
            Step::Open => Event::DestinationOpened(v1::DestinationOpened {
                accounts: 1,
                opened_at_unix_ms: now,
                took_us: 1_000,
            }),
            Step::Switch => Event::DnsSwitched(v1::DnsSwitched {
                changes: vec![v1::DnsChange { old_ttl_seconds: 300, ..Default::default() }],
            }),
            Step::Retire => Event::SourceRetired(v1::SourceRetired::default()),
            Step::Publish => Event::DumpPublished(v1::DumpPublished {
                link: "https://dumps.example.net/x".into(),
                expires_at_unix_ms: now + 1,
            }),
            Step::Announce => Event::CustomerNotified(v1::CustomerNotified::default()),
            Step::Expire => Event::DumpExpired(v1::DumpExpired::default()),
            Step::Revert => Event::DnsReverted(v1::DnsReverted::default()),
            Step::Close => Event::DestinationClosed(v1::DestinationClosed::default()),
            Step::Drop => Event::DestinationDropped(v1::DestinationDropped::default()),
            Step::Thaw => Event::SourceThawed(v1::SourceThawed::default()),
            Step::Unspecified => panic!("no step"),
        }
    }
}
