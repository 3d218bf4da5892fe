//! The job that is gone on with is the one that would be ordered.
#![allow(clippy::unwrap_used, reason = "a failed test may panic anywhere")]

use drover_lifecycle::{
    Fact, Migration,
    onward::{onward, step_after},
};
use drover_schemas::{
    CampaignName, MigrationId,
    v1::{
        DumpPublished, DumpStored, ImportCompleted, Job, MigrationAdmitted, MigrationPlanned,
        Policy, SourceFrozen, Step, StepFailed, migration_event::Event,
    },
};

const NOW_MS: i64 = 77;
/// When the last fact was found.
const FACT_MS: i64 = 2;

struct History {
    migration: Migration,
    campaign: CampaignName,
    id: MigrationId,
}

impl History {
    fn new(rehearsal: bool) -> Self {
        let campaign: CampaignName = "night".parse().unwrap();
        let id = MigrationId::new(&campaign, &"a".parse().unwrap(), "shop");
        let planned = MigrationPlanned {
            source: "a".into(),
            destination: "b".into(),
            database: "shop".into(),
            rehearsal,
            ..Default::default()
        };
        let event = Event::MigrationPlanned(planned);
        let migration = Migration::begin(Fact { revision: 3, at_unix_ms: 1, event }).unwrap();
        let mut history = Self { migration, campaign, id };
        history.take(Event::MigrationAdmitted(MigrationAdmitted { run: 1, rehearsal }));
        history
    }

    fn take(&mut self, event: Event) -> Fact {
        let fact = Fact { revision: self.migration.revision + 4, at_unix_ms: FACT_MS, event };
        self.migration.evolve(fact.clone()).unwrap();
        fact
    }

    fn job(&self) -> Job {
        self.migration.job(&self.campaign, self.id, &Policy::default(), NOW_MS).unwrap()
    }

    /// Takes in what a job has led to; the job that is gone on with.
    fn goes_on(&mut self, event: Event) -> Option<Job> {
        let job = self.job();
        let fact = self.take(event);
        onward(&job, fact, NOW_MS)
    }
}

fn dump() -> Event {
    Event::DumpStored(DumpStored { tables: 12, ..Default::default() })
}

#[test]
fn what_is_gone_on_with_is_what_would_be_ordered() {
    let mut history = History::new(false);
    let frozen = SourceFrozen { thaw_at_unix_ms: 9, ..Default::default() };
    let next = history.goes_on(Event::SourceFrozen(frozen));
    assert_eq!(next.as_ref().map(Job::step), Some(Step::Dump));
    assert_eq!(next.as_ref().map(|job| job.revision_at_unix_ms), Some(FACT_MS));
    assert_eq!(next, Some(history.job()));
    assert_eq!(history.goes_on(dump()), None, "the import is another server's");
    let next = history.goes_on(Event::ImportCompleted(ImportCompleted::default()));
    assert_eq!(next.as_ref().map(Job::step), Some(Step::Verify));
    assert_eq!(next, Some(history.job()));
    for event in [
        Event::CopyVerified(Default::default()),
        Event::SourceDisarmed(Default::default()),
        Event::DestinationOpened(Default::default()),
        Event::DnsSwitched(Default::default()),
        Event::SourceRetired(Default::default()),
    ] {
        assert_eq!(history.goes_on(event), None);
    }
    let published = DumpPublished { expires_at_unix_ms: 8, ..Default::default() };
    let next = history.goes_on(Event::DumpPublished(published));
    assert_eq!(next.as_ref().map(Job::step), Some(Step::Announce));
    assert_eq!(next, Some(history.job()));
    assert_eq!(history.goes_on(Event::CustomerNotified(Default::default())), None);
}

#[test]
fn a_rehearsal_compares_what_it_has_imported() {
    let mut history = History::new(true);
    assert_eq!(history.goes_on(dump()), None);
    let next = history.goes_on(Event::ImportCompleted(ImportCompleted::default()));
    assert_eq!(next, Some(history.job()));
}

#[test]
fn after_a_failed_attempt_the_next_one_goes_on_all_the_same() {
    let mut history = History::new(false);
    let failed = StepFailed {
        step: Step::Freeze.into(),
        attempt: 1,
        next_attempt_at_unix_ms: 5,
        ..Default::default()
    };
    assert_eq!(history.goes_on(Event::StepFailed(failed)), None, "its time is to be awaited");
    let next = history.goes_on(Event::SourceFrozen(SourceFrozen::default()));
    assert_eq!(next, Some(history.job()), "the dump's first attempt");
}

#[test]
fn what_is_gone_on_with_is_done_at_the_same_server() {
    use drover_lifecycle::{Forward, Undo, steps::host_of};
    let planned =
        MigrationPlanned { source: "a".into(), destination: "b".into(), ..Default::default() };
    let steps = Forward::ALL.map(Forward::step).into_iter().chain(Undo::ALL.map(Undo::step));
    for step in steps {
        let Some(next) = step_after(step) else { continue };
        assert_eq!(host_of(step, &planned).unwrap(), host_of(next, &planned).unwrap());
        assert_eq!(
            drover_schemas::streams::Service::of(step),
            drover_schemas::streams::Service::of(next)
        );
    }
}
