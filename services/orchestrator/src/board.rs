//! What the orchestrator knows: every campaign and migration, folded from the log, and the slots.
//!
//! No input or output: the service feeds it facts and asks it what to do. So two orchestrators
//! that have read the same log know the same, and one that waits is ready at once.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet, HashMap},
};

use drover_lifecycle::{
    Fact, Migration, NotAllowed, Wait,
    admission::{Admission, Route, Slots},
    breaker::{Breaker, Verdict},
    campaign::{self, Campaign},
};
use drover_schemas::{
    CampaignName, MigrationId, ServerName,
    v1::{CampaignPaused, CampaignStatus, Job, MigrationPlanned, campaign_event, migration_event},
};

use crate::state::State;

/// One migration, by its campaign.
pub type Key = (CampaignName, MigrationId);

/// What is to be done about a migration.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Put this order on the work queue.
    Order(Box<Job>),
    /// Look again at this time.
    Timer {
        /// When.
        at_unix_ms: i64,
        /// Of no meaning any more when the migration has moved on from here.
        revision: u64,
    },
    /// Append the closing fact.
    Settle,
    /// The destination would not be open in time: append that the step is broken off.
    BreakOff,
    /// The campaign calls back what is under way: append that.
    Recall(CampaignPaused),
}

/// Whether a migration counts against the limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Slot {
    None,
    Queued,
    /// Taken from the line; its admission is on its way to the log.
    Admitting,
    Taken,
}

#[derive(Debug)]
struct Entry {
    state: State,
    slot: Slot,
    /// Under which it stands in [`Board::deadlines`].
    deadline: Option<i64>,
}

#[derive(Debug, Default)]
struct Herd {
    /// Its log was read to its end: before that nothing is admitted, because what the log says
    /// further on is not known.
    live: bool,
    campaign: Option<Campaign>,
    migrations: HashMap<MigrationId, Entry>,
    ended: u64,
    rolled_back: u64,
    sequence: u64,
    /// Of what was heard since the log was read to its end.
    breaker: Breaker,
}

/// Why a fact was set aside.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The log is damaged, or of a newer version.
    #[error(transparent)]
    NotAllowed(#[from] NotAllowed),
    /// A server's name that is none.
    #[error(transparent)]
    Name(#[from] drover_schemas::names::InvalidName),
}

/// Every campaign and migration.
#[derive(Debug)]
pub struct Board {
    herds: BTreeMap<CampaignName, Herd>,
    admission: Admission,
    /// Migrations that wait for a job that is due: they are looked at again from time to time.
    working: BTreeSet<Key>,
    /// Until when the destination has to be open, of those whose source is frozen.
    deadlines: BTreeSet<(i64, Key)>,
}

impl Board {
    /// Nothing known yet, with these servers' slots.
    pub fn new(slots: HashMap<ServerName, Slots>) -> Self {
        Self {
            herds: BTreeMap::new(),
            admission: Admission::new(slots),
            working: BTreeSet::new(),
            deadlines: BTreeSet::new(),
        }
    }

    /// Takes in a campaign's fact.
    ///
    /// # Errors
    /// When it is not allowed where it stands; nothing has changed then.
    pub fn take_campaign(
        &mut self,
        name: &CampaignName,
        revision: u64,
        event: campaign_event::Event,
    ) -> Result<(), Refused> {
        let herd = self.herds.entry(name.clone()).or_default();
        herd.sequence = herd.sequence.max(revision);
        match &event {
            campaign_event::Event::CampaignResumed(_) => herd.breaker.reset(),
            campaign_event::Event::HostReleased(released) => herd.breaker.release(&released.host),
            campaign_event::Event::CampaignCreated(_)
            | campaign_event::Event::CampaignStarted(_)
            | campaign_event::Event::ConcurrencyChanged(_)
            | campaign_event::Event::CampaignPaused(_)
            | campaign_event::Event::HostQuarantined(_)
            | campaign_event::Event::PreflightCompleted(_)
            | campaign_event::Event::CampaignCompleted(_)
            | campaign_event::Event::LogRepaired(_) => {}
        }
        let fact = campaign::Fact { revision, event };
        match &mut herd.campaign {
            None => herd.campaign = Some(Campaign::begin(fact)?),
            Some(campaign) => campaign.evolve(fact)?,
        }
        herd.set_limits(name, &mut self.admission);
        Ok(())
    }

    /// A campaign's log was read to its end.
    pub fn go_live(&mut self, name: &CampaignName) {
        let herd = self.herds.entry(name.clone()).or_default();
        herd.live = true;
        herd.set_limits(name, &mut self.admission);
    }

    /// Whether a campaign's log was read to its end.
    pub fn is_live(&self, name: &CampaignName) -> bool {
        self.herds.get(name).is_some_and(|herd| herd.live)
    }

    /// The campaigns whose log was read to its end.
    pub fn live(&self) -> Vec<CampaignName> {
        let live = self.herds.iter().filter(|(_, herd)| herd.live);
        live.map(|(name, _)| name.clone()).collect()
    }

    /// Takes in a migration's fact.
    ///
    /// # Errors
    /// When it is not allowed where it stands; nothing has changed then.
    pub fn take_migration(
        &mut self,
        key: &Key,
        revision: u64,
        at_unix_ms: i64,
        event: migration_event::Event,
    ) -> Result<(), Refused> {
        let herd = self.herds.entry(key.0.clone()).or_default();
        herd.sequence = herd.sequence.max(revision);
        let fact = Fact { revision, at_unix_ms, event };
        let entry = match herd.migrations.entry(key.1) {
            std::collections::hash_map::Entry::Vacant(vacant) => {
                let migration = Migration::begin(fact)?;
                // A name that is none is refused here; from here on there is a route.
                route(&migration.planned)?;
                let (state, slot) = (State::of(migration), Slot::None);
                vacant.insert(Entry { state, slot, deadline: None })
            }
            std::collections::hash_map::Entry::Occupied(occupied) => {
                let entry = occupied.into_mut();
                if herd.live {
                    let planned = &entry.state.migration().planned;
                    herd.breaker.take(key.1, planned, at_unix_ms, &fact.event);
                }
                let ends = |state: &State| {
                    let migration = state.migration();
                    (migration.has_ended(), migration.is_rolled_back())
                };
                let before = ends(&entry.state);
                entry.state.evolve(fact)?;
                let after = ends(&entry.state);
                herd.ended = herd.ended + u64::from(after.0) - u64::from(before.0);
                herd.rolled_back = herd.rolled_back + u64::from(after.1) - u64::from(before.1);
                entry
            }
        };
        entry.settle_slot(key, &mut self.admission);
        entry.settle_deadline(key, &mut self.deadlines);
        if !matches!(entry.state.wait(), Wait::Job { .. }) {
            self.working.remove(key);
        }
        Ok(())
    }

    /// What is to be done about a migration now.
    pub fn action(&mut self, key: &Key, now_unix_ms: i64) -> Option<Action> {
        let herd = self.herds.get_mut(&key.0)?;
        let entry = herd.migrations.get_mut(&key.1)?;
        let migration = entry.state.migration();
        let recall = herd.campaign.as_ref().and_then(|campaign| campaign.recall.as_ref());
        match migration.wait() {
            Wait::Job { .. } if recall.is_some() && migration.can_be_recalled() => {
                recall.cloned().map(Action::Recall)
            }
            Wait::Job { not_before_unix_ms, .. }
                if migration
                    .deadline_unix_ms()
                    .is_some_and(|deadline| deadline <= now_unix_ms.max(not_before_unix_ms)) =>
            {
                Some(Action::BreakOff)
            }
            Wait::Job { not_before_unix_ms, .. } | Wait::Admission { not_before_unix_ms }
                if not_before_unix_ms > now_unix_ms =>
            {
                let revision = migration.revision;
                Some(Action::Timer { at_unix_ms: not_before_unix_ms, revision })
            }
            Wait::Job { .. } => {
                let policy = herd.campaign.as_ref()?.policy;
                let job = migration.job(&key.0, key.1, &policy, now_unix_ms)?;
                self.working.insert(key.clone());
                Some(Action::Order(Box::new(job)))
            }
            Wait::Settlement => Some(Action::Settle),
            Wait::Admission { .. } => {
                entry.enqueue(key, &mut self.admission);
                None
            }
            Wait::Findings | Wait::Person | Wait::Nothing => None,
        }
    }

    /// Whether a running campaign is to stop by itself, or without a host.
    pub fn judge(&self, name: &CampaignName) -> Option<Verdict> {
        let herd = self.herds.get(name).filter(|herd| herd.live && herd.is_running())?;
        herd.breaker.judge(&herd.campaign.as_ref()?.quarantined)
    }

    /// The next migration for which there is a slot everywhere. Its slots are taken until its
    /// admission was read from the log, or [`Self::not_admitted`].
    pub fn admit(&mut self) -> Option<Key> {
        loop {
            let (campaign, id, route) = self.admission.admit()?;
            let key = (campaign, id);
            let entry = self.herds.get_mut(&key.0).and_then(|herd| herd.migrations.get_mut(&id));
            match entry {
                Some(entry) if entry.slot == Slot::Queued => {
                    entry.slot = Slot::Admitting;
                    return Some(key);
                }
                // It left the line for another reason, and stands in it once more than it should.
                Some(_) | None => self.admission.release(&key.0, &route),
            }
        }
    }

    /// The admission did not come to the log: the slots are free again, the migration waits.
    pub fn not_admitted(&mut self, key: &Key) {
        if let Some(entry) =
            self.herds.get_mut(&key.0).and_then(|herd| herd.migrations.get_mut(&key.1))
            && entry.slot == Slot::Admitting
        {
            if let Some(route) = entry.route() {
                self.admission.release(&key.0, &route);
                self.admission.enqueue(&key.0, key.1, &route);
            }
            entry.slot = Slot::Queued;
        }
    }

    /// A migration's state.
    pub fn migration(&self, key: &Key) -> Option<Cow<'_, Migration>> {
        self.herds.get(&key.0)?.migrations.get(&key.1).map(|entry| entry.state.migration())
    }

    /// The sequence of a migration's last fact.
    pub fn revision(&self, key: &Key) -> Option<u64> {
        self.herds.get(&key.0)?.migrations.get(&key.1).map(|entry| entry.state.revision())
    }

    /// A campaign's state.
    pub fn campaign(&self, name: &CampaignName) -> Option<&Campaign> {
        self.herds.get(name)?.campaign.as_ref()
    }

    /// The first time at which a destination has to be open that is not.
    pub fn next_deadline(&self) -> Option<i64> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// A migration whose deadline has passed; each is given once.
    pub fn overdue(&mut self, now_unix_ms: i64) -> Option<Key> {
        self.next_deadline().filter(|at| *at <= now_unix_ms)?;
        self.deadlines.pop_first().map(|(_, key)| key)
    }

    /// The migrations of a campaign that wait for a job, a time, or their closing fact.
    pub fn waiting(&self, name: &CampaignName) -> Vec<Key> {
        let waits = |entry: &Entry| match entry.state.wait() {
            Wait::Job { .. } | Wait::Settlement => true,
            Wait::Admission { not_before_unix_ms } => not_before_unix_ms > 0,
            Wait::Findings | Wait::Person | Wait::Nothing => false,
        };
        let migrations = self.herds.get(name).map(|herd| &herd.migrations);
        let migrations = migrations.into_iter().flatten().filter(|(_, entry)| waits(entry));
        migrations.map(|(id, _)| (name.clone(), *id)).collect()
    }

    /// The migrations of a campaign that a pause which calls them back has to look at.
    pub fn to_recall(&self, name: &CampaignName) -> Vec<Key> {
        let herd = self.herds.get(name);
        let herd = herd.filter(|herd| herd.campaign.as_ref().is_some_and(|c| c.recall.is_some()));
        let migrations = herd.into_iter().flat_map(|herd| &herd.migrations);
        let migrations = migrations.filter(|(_, entry)| entry.slot.is_held());
        migrations.map(|(id, _)| (name.clone(), *id)).collect()
    }

    /// Forgets a campaign whose log has lost its end, but how far it went: a repair asks for that.
    pub fn lose(&mut self, name: &CampaignName, sequence: u64) {
        self.forget(name);
        self.herds.insert(name.clone(), Herd { sequence, ..Herd::default() });
    }

    /// Forgets a campaign, whose log is read anew.
    pub fn forget(&mut self, name: &CampaignName) {
        let Some(herd) = self.herds.remove(name) else { return };
        for entry in herd.migrations.values().filter(|entry| entry.slot.is_held()) {
            if let Some(route) = entry.route() {
                self.admission.release(name, &route);
            }
        }
        self.working.retain(|(campaign, _)| campaign != name);
        self.deadlines.retain(|(_, (campaign, _))| campaign != name);
    }

    /// The migrations whose job is due.
    pub fn working(&self) -> Vec<Key> {
        self.working.iter().cloned().collect()
    }

    /// How many of a running campaign's migrations completed and were rolled back, once all have.
    pub fn all_ended(&self, name: &CampaignName) -> Option<(u64, u64)> {
        let herd = self.herds.get(name)?;
        let total = herd.migrations.len() as u64;
        (herd.is_running() && total > 0 && herd.ended == total)
            .then_some((herd.ended - herd.rolled_back, herd.rolled_back))
    }

    /// What is known of each campaign.
    pub fn overview(&self) -> Vec<CampaignStatus> {
        let status = |(name, herd): (&CampaignName, &Herd)| CampaignStatus {
            campaign: name.to_string(),
            sequence: herd.sequence,
            in_flight: self.admission.in_flight(name),
            admitting: herd.live && herd.is_running(),
        };
        self.herds.iter().map(status).collect()
    }
}

impl Herd {
    fn is_running(&self) -> bool {
        self.campaign.as_ref().is_some_and(|campaign| campaign.phase == campaign::Phase::Running)
    }

    fn set_limits(&self, name: &CampaignName, admission: &mut Admission) {
        if let Some(campaign) = &self.campaign {
            let admitting = self.live && self.is_running();
            admission.limit(name, campaign.in_flight_max, admitting, &campaign.quarantined);
        }
    }
}

impl Entry {
    /// Brings the slots in line with the state.
    fn settle_slot(&mut self, key: &Key, admission: &mut Admission) {
        let target = match self.state.wait() {
            Wait::Admission { not_before_unix_ms: 0 } => Slot::Queued,
            // It comes into the line when its time has come.
            Wait::Admission { .. } => Slot::None,
            Wait::Job { .. } | Wait::Settlement | Wait::Findings | Wait::Person | Wait::Nothing => {
                if self.state.migration().holds_slot() {
                    Slot::Taken
                } else {
                    Slot::None
                }
            }
        };
        let (holds, shall_hold) = (self.slot.is_held(), target.is_held());
        if holds != shall_hold
            && let Some(route) = self.route()
        {
            if holds {
                admission.release(&key.0, &route);
            } else {
                admission.take(&key.0, &route);
            }
        }
        if target == Slot::Queued {
            self.enqueue(key, admission);
        } else {
            self.slot = target;
        }
    }

    /// Puts it in line, where it is not.
    fn enqueue(&mut self, (campaign, id): &Key, admission: &mut Admission) {
        match self.slot {
            Slot::Queued | Slot::Admitting => return,
            Slot::None | Slot::Taken => {}
        }
        if let Some(route) = self.route() {
            admission.enqueue(campaign, *id, &route);
            self.slot = Slot::Queued;
        }
    }

    /// Where it goes; there is always one, since it was looked at when the entry was made.
    fn route(&self) -> Option<Route> {
        route(&self.state.migration().planned).ok()
    }

    fn settle_deadline(&mut self, key: &Key, deadlines: &mut BTreeSet<(i64, Key)>) {
        let now = match &self.state {
            State::Awake(migration) => migration.deadline_unix_ms(),
            State::Asleep(_) => None,
        };
        if self.deadline != now {
            if let Some(before) = self.deadline {
                deadlines.remove(&(before, key.clone()));
            }
            deadlines.extend(now.map(|at| (at, key.clone())));
            self.deadline = now;
        }
    }
}

impl Slot {
    fn is_held(self) -> bool {
        match self {
            Self::Admitting | Self::Taken => true,
            Self::None | Self::Queued => false,
        }
    }
}

fn route(planned: &MigrationPlanned) -> Result<Route, Refused> {
    Ok(Route { source: planned.source.parse()?, destination: planned.destination.parse()? })
}

#[cfg(test)]
mod tests {
    use drover_lifecycle::Command;
    use drover_schemas::v1::{self, Policy, Step, campaign_event, migration_event::Event};

    use super::*;

    struct Log {
        board: Board,
        campaign: CampaignName,
        sequence: u64,
    }

    impl Log {
        fn new(slots: u32, in_flight_max: u32) -> Self {
            let slots = Slots { as_source: slots, as_destination: slots };
            let hosts = ["a", "b"].map(|host| (host.parse().unwrap(), slots));
            let board = Board::new(hosts.into_iter().collect());
            let mut log = Self { board, campaign: "night".parse().unwrap(), sequence: 0 };
            log.board.go_live(&log.campaign);
            let policy = Some(Policy::default());
            log.campaign(campaign_event::Event::CampaignCreated(v1::CampaignCreated { policy }));
            log.campaign(campaign_event::Event::CampaignStarted(v1::CampaignStarted {
                in_flight_max,
                by: "me".into(),
            }));
            log
        }

        fn campaign(&mut self, event: campaign_event::Event) {
            self.sequence += 1;
            self.board.take_campaign(&self.campaign, self.sequence, event).unwrap();
        }

        fn migration(&mut self, key: &Key, event: Event) {
            self.sequence += 1;
            self.board.take_migration(key, self.sequence, 0, event).unwrap();
        }

        fn plan(&mut self, n: u32) -> Key {
            let database = format!("db{n}");
            let id = MigrationId::new(&self.campaign, &"a".parse().unwrap(), &database);
            let key = (self.campaign.clone(), id);
            let planned = MigrationPlanned {
                database,
                source: "a".into(),
                destination: "b".into(),
                ..Default::default()
            };
            self.migration(&key, Event::MigrationPlanned(planned));
            key
        }

        fn admit(&mut self) -> Option<Key> {
            let key = self.board.admit()?;
            let event = self.board.migration(&key)?.decide(Command::Admit).unwrap();
            self.migration(&key, event);
            Some(key)
        }
    }

    #[test]
    fn a_slot_comes_free_when_the_host_names_are_switched() {
        let mut log = Log::new(1, 10);
        let (first, second) = (log.plan(1), log.plan(2));
        assert_eq!(log.admit(), Some(first.clone()));
        assert_eq!(log.admit(), None);
        for event in [
            Event::SourceFrozen(v1::SourceFrozen::default()),
            Event::DumpStored(v1::DumpStored::default()),
            Event::ImportCompleted(v1::ImportCompleted::default()),
            Event::CopyVerified(v1::CopyVerified::default()),
            Event::SourceDisarmed(v1::SourceDisarmed::default()),
            Event::DestinationOpened(v1::DestinationOpened::default()),
        ] {
            log.migration(&first, event);
            assert_eq!(log.admit(), None);
        }
        log.migration(&first, Event::DnsSwitched(v1::DnsSwitched::default()));
        assert_eq!(log.admit(), Some(second));
    }

    #[test]
    fn an_admission_that_was_overtaken_gives_its_slots_back() {
        let mut log = Log::new(1, 10);
        let (first, second) = (log.plan(1), log.plan(2));
        assert_eq!(log.board.admit(), Some(first.clone()));
        let rollback = Command::RollBack { by: "me".into(), reason: String::new() };
        let event = log.board.migration(&first).unwrap().decide(rollback).unwrap();
        log.migration(&first, event);
        log.board.not_admitted(&first);
        assert_eq!(log.board.action(&first, 0), Some(Action::Settle));
        assert_eq!(log.admit(), Some(second));
    }

    #[test]
    fn an_admission_that_failed_stands_in_line_again_once() {
        let mut log = Log::new(1, 10);
        let first = log.plan(1);
        assert_eq!(log.board.admit(), Some(first.clone()));
        log.board.not_admitted(&first);
        assert_eq!(log.admit(), Some(first));
        assert_eq!(log.board.admit(), None);
    }

    #[test]
    fn what_another_orchestrator_admitted_counts() {
        let mut log = Log::new(2, 1);
        let (first, _) = (log.plan(1), log.plan(2));
        log.migration(&first, Event::MigrationAdmitted(v1::MigrationAdmitted { run: 1 }));
        assert_eq!(log.board.admit(), None, "the campaign has one slot");
        let action = log.board.action(&first, 0);
        assert!(matches!(action, Some(Action::Order(job)) if job.step() == Step::Freeze));
    }

    #[test]
    fn nothing_is_admitted_before_the_log_was_read_to_its_end() {
        let mut log = Log::new(2, 10);
        log.plan(1);
        let name = log.campaign.clone();
        log.board.herds.get_mut(&name).unwrap().live = false;
        log.campaign(campaign_event::Event::CampaignPaused(CampaignPaused::default()));
        log.campaign(campaign_event::Event::CampaignResumed(v1::CampaignResumed::default()));
        assert_eq!(log.board.admit(), None);
        log.board.go_live(&name);
        assert!(log.board.admit().is_some());
    }

    #[test]
    fn a_forgotten_campaign_gives_its_slots_back() {
        let mut log = Log::new(1, 10);
        log.plan(1);
        assert!(log.admit().is_some());
        let name = log.campaign.clone();
        log.board.forget(&name);
        assert_eq!(log.board.admission.in_flight(&name), 0);
    }

    #[test]
    fn a_pause_stops_admissions_and_a_resume_goes_on() {
        let mut log = Log::new(2, 10);
        let first = log.plan(1);
        let event = CampaignPaused { reason: "test".into(), ..Default::default() };
        log.campaign(campaign_event::Event::CampaignPaused(event));
        assert_eq!(log.board.admit(), None);
        let event = v1::CampaignResumed { by: "me".into() };
        log.campaign(campaign_event::Event::CampaignResumed(event));
        assert_eq!(log.board.admit(), Some(first));
    }

    #[test]
    fn a_pause_that_recalls_undoes_what_is_not_being_switched() {
        let mut log = Log::new(4, 10);
        let keys: Vec<Key> = (1..4).map(|n| log.plan(n)).collect();
        for _ in 0..2 {
            log.admit();
        }
        for event in [
            Event::SourceFrozen(v1::SourceFrozen::default()),
            Event::DumpStored(v1::DumpStored::default()),
            Event::ImportCompleted(v1::ImportCompleted::default()),
            Event::CopyVerified(v1::CopyVerified::default()),
            Event::SourceDisarmed(v1::SourceDisarmed::default()),
            Event::DestinationOpened(v1::DestinationOpened::default()),
        ] {
            log.migration(&keys[1], event);
        }
        let paused = CampaignPaused { recalls: true, ..Default::default() };
        log.campaign(campaign_event::Event::CampaignPaused(paused));
        let mut found = log.board.to_recall(&log.campaign);
        found.sort();
        assert_eq!(found.len(), 2, "what waits for a slot goes on waiting");
        assert!(matches!(log.board.action(&keys[0], 0), Some(Action::Recall(_))));
        let switch = log.board.action(&keys[1], 0);
        assert!(matches!(switch, Some(Action::Order(job)) if job.step() == Step::Switch));
        let recall = Command::Recall { by: "me".into(), reason: String::new() };
        let event = log.board.migration(&keys[0]).unwrap().decide(recall).unwrap();
        log.migration(&keys[0], event);
        let thaw = log.board.action(&keys[0], 0);
        assert!(matches!(thaw, Some(Action::Order(job)) if job.step() == Step::Thaw));
        log.migration(&keys[0], Event::SourceThawed(v1::SourceThawed::default()));
        let event = log.board.migration(&keys[0]).unwrap().decide(Command::Settle).unwrap();
        log.migration(&keys[0], event);
        assert_eq!(log.board.admit(), None, "the pause lasts");
        log.campaign(campaign_event::Event::CampaignResumed(v1::CampaignResumed::default()));
        let again = [log.admit(), log.admit()];
        assert!(again.contains(&Some(keys[0].clone())), "{again:?}");
    }

    #[test]
    fn the_campaign_ends_with_its_last_migration() {
        let mut log = Log::new(2, 10);
        let key = log.plan(1);
        assert_eq!(log.board.all_ended(&log.campaign), None);
        let rollback = Command::RollBack { by: "me".into(), reason: String::new() };
        for command in [rollback, Command::Settle] {
            let event = log.board.migration(&key).unwrap().decide(command).unwrap();
            log.migration(&key, event);
        }
        assert_eq!(log.board.all_ended(&log.campaign), Some((0, 1)));
    }
}
