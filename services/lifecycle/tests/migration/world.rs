//! The model: servers with their ledgers, the log, an orchestrator, and what may happen.

use drover_lifecycle::{Command, Fact, Migration, Phase, Wait, conclude};
use drover_schemas::{
    CampaignName, Code, Failure, MigrationId,
    v1::{self, Job, Policy, RetryPolicy, Step, migration_event::Event},
};
use proptest::prelude::*;

pub(crate) fn ids() -> (CampaignName, MigrationId) {
    let campaign: CampaignName = "night".parse().unwrap();
    let id = MigrationId::new(&campaign, &"a".parse().unwrap(), "db");
    (campaign, id)
}

pub(crate) fn planned() -> Migration {
    let planned = v1::MigrationPlanned {
        campaign: "night".into(),
        database: "db".into(),
        source: "a".into(),
        destination: "b".into(),
        host_names: vec!["db.example.net".into()],
        ..Default::default()
    };
    let event = Event::MigrationPlanned(planned);
    Migration::begin(Fact { revision: 1, at_unix_ms: 0, event }).unwrap()
}

pub(crate) fn policy() -> Policy {
    let retry = RetryPolicy { attempts_max: 3, backoff_base_ms: 10, backoff_max_ms: 100 };
    Policy {
        retry: Some(retry),
        session_grace_ms: 0,
        dump_retention_days: 30,
        max_frozen_ms: 0,
        definers: None,
    }
}

/// Later than any test lasts.
pub(crate) const FAR: i64 = 1_000_000_000_000;

pub(crate) fn event_of(step: Step) -> Event {
    match step {
        Step::Freeze => {
            Event::SourceFrozen(v1::SourceFrozen { thaw_at_unix_ms: FAR, ..Default::default() })
        }
        Step::Dump => Event::DumpStored(v1::DumpStored::default()),
        Step::Import => Event::ImportCompleted(v1::ImportCompleted::default()),
        Step::Verify => Event::CopyVerified(v1::CopyVerified::default()),
        Step::Disarm => Event::SourceDisarmed(v1::SourceDisarmed::default()),
        Step::Open => Event::DestinationOpened(v1::DestinationOpened::default()),
        Step::Switch => Event::DnsSwitched(v1::DnsSwitched {
            changes: vec![v1::DnsChange { old_ttl_seconds: 300, ..Default::default() }],
        }),
        Step::Retire => Event::SourceRetired(v1::SourceRetired::default()),
        Step::Publish => Event::DumpPublished(v1::DumpPublished::default()),
        Step::Announce => Event::CustomerNotified(v1::CustomerNotified::default()),
        Step::Expire => Event::DumpExpired(v1::DumpExpired::default()),
        Step::Revert => Event::DnsReverted(v1::DnsReverted::default()),
        Step::Close => Event::DestinationClosed(v1::DestinationClosed::default()),
        Step::Drop => Event::DestinationDropped(v1::DestinationDropped::default()),
        Step::Thaw => Event::SourceThawed(v1::SourceThawed::default()),
        Step::Unspecified => unreachable!(),
    }
}

#[derive(Debug, Default)]
pub(crate) struct Servers {
    pub(crate) source_ledger: u64,
    pub(crate) frozen: bool,
    pub(crate) destination_ledger: u64,
    pub(crate) copy: bool,
    pub(crate) verified: bool,
    pub(crate) open: bool,
    pub(crate) zone_mark: u64,
    pub(crate) switched: bool,
}

impl Servers {
    /// Does what the job says; false where a ledger refuses it.
    pub(crate) fn effect(&mut self, job: &Job) -> bool {
        let ledger = match job.step() {
            Step::Freeze | Step::Disarm | Step::Retire | Step::Thaw => &mut self.source_ledger,
            Step::Import | Step::Verify | Step::Open | Step::Close | Step::Drop => {
                &mut self.destination_ledger
            }
            Step::Switch | Step::Revert => &mut self.zone_mark,
            Step::Dump | Step::Publish | Step::Announce | Step::Expire | Step::Unspecified => {
                return true;
            }
        };
        if job.revision < *ledger {
            return false;
        }
        *ledger = job.revision;
        match job.step() {
            Step::Freeze | Step::Retire => self.frozen = true,
            Step::Thaw => self.frozen = false,
            Step::Import => (self.copy, self.verified) = (true, false),
            Step::Verify => self.verified = self.copy,
            Step::Open => self.open = true,
            Step::Close => self.open = false,
            Step::Drop => (self.copy, self.verified) = (false, false),
            Step::Switch => self.switched = true,
            Step::Revert => self.switched = false,
            Step::Disarm
            | Step::Dump
            | Step::Publish
            | Step::Announce
            | Step::Expire
            | Step::Unspecified => {}
        }
        true
    }

    pub(crate) fn check(&self) -> Result<(), TestCaseError> {
        prop_assert!(self.frozen || !self.open, "both sides take writes: {self:?}");
        prop_assert!(!self.switched || (self.open && self.verified), "name too early: {self:?}");
        Ok(())
    }
}

/// What happens next. A number chooses among the jobs that were ever ordered, so that they come
/// late, twice, and out of order.
#[derive(Debug, Clone)]
pub(crate) enum Happening {
    Done(usize),
    DiedAfterEffect(usize),
    FailedBefore(usize, bool),
    FailedAfter(usize, bool),
    Retry,
    RollBack,
    BreakOff,
    Recall,
    Check(bool),
    IgnoreFindings,
}

pub(crate) fn happening() -> impl Strategy<Value = Happening> {
    let n = 0usize..4;
    prop_oneof![
        12 => n.clone().prop_map(Happening::Done),
        2 => n.clone().prop_map(Happening::DiedAfterEffect),
        2 => (n.clone(), any::<bool>()).prop_map(|(n, t)| Happening::FailedBefore(n, t)),
        2 => (n, any::<bool>()).prop_map(|(n, t)| Happening::FailedAfter(n, t)),
        1 => Just(Happening::Retry),
        1 => Just(Happening::RollBack),
        1 => Just(Happening::BreakOff),
        1 => Just(Happening::Recall),
        1 => any::<bool>().prop_map(Happening::Check),
        1 => Just(Happening::IgnoreFindings),
    ]
}

pub(crate) struct World {
    pub(crate) state: Migration,
    pub(crate) log: Vec<Fact>,
    pub(crate) servers: Servers,
    pub(crate) jobs: Vec<Job>,
    pub(crate) now: i64,
}

impl World {
    pub(crate) fn new() -> Self {
        let state = planned();
        let event = Event::MigrationPlanned(state.planned.clone());
        let log = vec![Fact { revision: 1, at_unix_ms: 0, event }];
        Self { state, log, servers: Servers::default(), jobs: Vec::new(), now: 1 }
    }

    /// Appends on a revision, as the bus does: nothing happens when the log has moved on.
    pub(crate) fn append(&mut self, on: u64, event: Event) -> Result<(), TestCaseError> {
        if on == self.state.revision {
            let fact = Fact { revision: on + 3, at_unix_ms: self.now, event };
            self.state.evolve(fact.clone()).map_err(|e| TestCaseError::fail(e.to_string()))?;
            self.log.push(fact);
        }
        Ok(())
    }

    /// What the orchestrator does of itself.
    pub(crate) fn orchestrate(&mut self) -> Result<(), TestCaseError> {
        loop {
            match self.state.wait() {
                Wait::Admission { not_before_unix_ms } => {
                    self.now = self.now.max(not_before_unix_ms);
                    self.command(Command::Admit)?;
                }
                Wait::Settlement => self.command(Command::Settle)?,
                Wait::Job { not_before_unix_ms, .. } => {
                    self.now = self.now.max(not_before_unix_ms) + 1;
                    let (campaign, id) = ids();
                    let job = self.state.job(&campaign, id, &policy(), self.now);
                    let job = job.ok_or_else(|| TestCaseError::fail("waits for no job"))?;
                    if self.jobs.last().is_none_or(|last| last.revision != job.revision) {
                        self.jobs.push(job);
                    }
                    return Ok(());
                }
                Wait::Findings | Wait::Person | Wait::Nothing => return Ok(()),
            }
        }
    }

    /// Orders the next job and has it done.
    pub(crate) fn orchestrate_one(&mut self) -> Result<(), TestCaseError> {
        self.orchestrate()?;
        self.happen(Happening::Done(0))
    }

    pub(crate) fn command(&mut self, command: Command) -> Result<(), TestCaseError> {
        match self.state.decide(command) {
            Ok(event) => self.append(self.state.revision, event),
            Err(_) => Ok(()),
        }
    }

    pub(crate) fn job(&self, back: usize) -> Option<Job> {
        let last = self.jobs.len().checked_sub(1)?;
        self.jobs.get(last.saturating_sub(back)).cloned()
    }

    pub(crate) fn finish(
        &mut self,
        job: &Job,
        outcome: Result<Event, Failure>,
    ) -> Result<(), TestCaseError> {
        let event = conclude(job, outcome, self.now, 0.5);
        self.append(job.revision, event)
    }

    pub(crate) fn happen(&mut self, happening: Happening) -> Result<(), TestCaseError> {
        let failure = |transient| {
            let code = if transient { Code::ServerFailed } else { Code::ServerRefused };
            Err(Failure::new(code, "as the test wants it"))
        };
        let outdated = || Err(Failure::new(Code::LedgerOutdated, "the ledger is ahead"));
        let by = || "a person".to_owned();
        match happening {
            Happening::Done(n) => {
                if let Some(job) = self.job(n) {
                    let done = self.servers.effect(&job);
                    let outcome = if done { Ok(event_of(job.step())) } else { outdated() };
                    self.finish(&job, outcome)?;
                }
            }
            Happening::DiedAfterEffect(n) => {
                if let Some(job) = self.job(n) {
                    self.servers.effect(&job);
                }
            }
            Happening::FailedBefore(n, transient) => {
                if let Some(job) = self.job(n) {
                    self.finish(&job, failure(transient))?;
                }
            }
            Happening::FailedAfter(n, transient) => {
                if let Some(job) = self.job(n) {
                    self.servers.effect(&job);
                    self.finish(&job, failure(transient))?;
                }
            }
            Happening::BreakOff => self.command(Command::BreakOff)?,
            Happening::Recall => {
                let (by, reason) = ("me".to_owned(), String::new());
                self.command(Command::Recall { by, reason })?
            }
            Happening::Retry => self.command(Command::Retry { by: by() })?,
            Happening::Check(blocked) => {
                let blocking_codes = blocked.then(|| "DRV-0240".to_owned()).into_iter().collect();
                self.command(Command::Check { blocking_codes, by: by() })?;
            }
            Happening::IgnoreFindings => self.command(Command::IgnoreFindings { by: by() })?,
            Happening::RollBack => {
                self.command(Command::RollBack {
                    by: by(),
                    reason: "test".into(),
                    discard_writes: false,
                })?;
            }
        }
        self.servers.check()
    }

    /// From here on all goes well: it must come to rest, and the servers must show it.
    pub(crate) fn come_to_rest(&mut self) -> Result<(), TestCaseError> {
        for _ in 0..60 {
            self.orchestrate()?;
            if matches!(self.state.wait(), Wait::Findings | Wait::Person | Wait::Nothing) {
                return self.check_at_rest();
            }
            self.happen(Happening::Done(0))?;
        }
        Err(TestCaseError::fail(format!("never comes to rest: {:?}", self.state.phase)))
    }

    pub(crate) fn check_at_rest(&self) -> Result<(), TestCaseError> {
        let Servers { frozen, open, switched, .. } = self.servers;
        match &self.state.phase {
            Phase::Expired | Phase::ExpiryFailed => prop_assert!(frozen && open && switched),
            Phase::Held { .. } | Phase::RolledBack | Phase::Parked { undone: true, .. } => {
                prop_assert!(!frozen && !open && !switched, "{:?}", self.servers);
            }
            Phase::Parked { undone: false, .. } => {}
            other => return Err(TestCaseError::fail(format!("at rest as {other:?}"))),
        }
        Ok(())
    }
}
