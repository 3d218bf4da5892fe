//! What the orchestrator knows: every campaign and migration, folded from the log, and the slots.
//!
//! No input or output: the service feeds it facts and asks it what to do. So two orchestrators
//! that have read the same log know the same, and one that waits is ready at once.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet, HashMap},
};

use drover_lifecycle::{
    Fact, Migration, NotAllowed, Phase, Wait,
    admission::{Admission, Slots},
    breaker::Verdict,
    campaign::{self, Campaign},
    concurrency::Change,
    forecast::{Forecast, Foreseen, Rests},
    onward::step_after,
    steps::step_of,
    wave::Wave,
};
use drover_schemas::{
    CampaignName, MigrationId, ServerName,
    subjects::History,
    v1::{self, CampaignStatus, HostLoad, HostSlots, campaign_event, migration_event},
};

mod due;
mod entry;
mod herd;

pub use self::due::Action;
use self::{
    entry::{Entry, Slot, route},
    herd::{Herd, SEEN_MS},
};
use crate::state::State;

/// Of how many waves it is foreseen when they end: each costs as much as the whole.
const WAVES_FORESEEN_MAX: usize = 3;

/// One migration, by its campaign.
pub type Key = (CampaignName, MigrationId);

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
    /// What time it was when last told.
    now_unix_ms: i64,
    /// A time up to this one is near: what waits for it was, or is to be, looked at.
    near_until_unix_ms: i64,
}

impl Board {
    /// Nothing known yet, with these servers' slots.
    pub fn new(slots: HashMap<ServerName, Slots>) -> Self {
        Self {
            herds: BTreeMap::new(),
            admission: Admission::new(slots),
            working: BTreeSet::new(),
            deadlines: BTreeSet::new(),
            now_unix_ms: 0,
            near_until_unix_ms: 0,
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
            campaign_event::Event::CampaignResumed(_) => {
                herd.seen.breaker.reset();
                herd.seen.budgets.reset();
            }
            campaign_event::Event::HostReleased(released) => {
                herd.seen.breaker.release(&released.host);
                herd.seen.budgets.release(&released.host);
                herd.seen.watched.release(&released.host);
            }
            campaign_event::Event::CampaignCreated(_)
            | campaign_event::Event::CampaignStarted(_)
            | campaign_event::Event::ConcurrencyChanged(_)
            | campaign_event::Event::LimitsChanged(_)
            | campaign_event::Event::CampaignPaused(_)
            | campaign_event::Event::HostQuarantined(_)
            | campaign_event::Event::HostSlotsChanged(_)
            | campaign_event::Event::PreflightCompleted(_)
            | campaign_event::Event::CampaignCompleted(_)
            | campaign_event::Event::LogRepaired(_) => {}
        }
        let fact = campaign::Fact { revision, event };
        match &mut herd.campaign {
            None => herd.campaign = Some(Campaign::begin(fact)?),
            Some(campaign) => campaign.evolve(fact)?,
        }
        herd.set_limits(name, &mut self.admission, self.now_unix_ms);
        Ok(())
    }

    /// It is so late: campaigns come into their hours and out of them.
    pub fn tell_time(&mut self, now_unix_ms: i64) {
        self.now_unix_ms = now_unix_ms;
        for (name, herd) in self.herds.iter_mut().filter(|(_, herd)| herd.has_hours()) {
            herd.set_limits(name, &mut self.admission, now_unix_ms);
        }
    }

    /// A campaign's log was read to its end.
    pub fn go_live(&mut self, name: &CampaignName) {
        let herd = self.herds.entry(name.clone()).or_default();
        herd.live = true;
        herd.set_limits(name, &mut self.admission, self.now_unix_ms);
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
        let in_flight = self.admission.in_flight(&key.0);
        let since_unix_ms = self.now_unix_ms.saturating_sub(SEEN_MS);
        let herd = self.herds.entry(key.0.clone()).or_default();
        herd.sequence = herd.sequence.max(revision);
        let fact = Fact { revision, at_unix_ms, event };
        let (mut ends_changed, mut deadline_before) = (false, None);
        let entry = match herd.migrations.entry(key.1) {
            std::collections::hash_map::Entry::Vacant(vacant) => {
                let migration = Migration::begin(fact)?;
                // A name that is none is refused here; from here on there is a route.
                route(&migration.planned)?;
                let wave = Wave::new(&migration.planned.wave);
                herd.waves.entry(wave).or_default().total += 1;
                let state = State::of(migration, &mut herd.press);
                vacant.insert(Entry { state, slot: Slot::None, gone_on_from: None })
            }
            std::collections::hash_map::Entry::Occupied(occupied) => {
                let entry = occupied.into_mut();
                if let migration_event::Event::MigrationParked(parked) = &fact.event {
                    herd.seen.budgets.take(&entry.state.migration().planned, parked);
                }
                if herd.live || at_unix_ms >= since_unix_ms {
                    herd.seen.take(key.1, &entry.state.migration(), at_unix_ms, &fact.event);
                    if let Some(campaign) = herd.campaign.as_ref().filter(|_| !herd.live) {
                        herd.seen.relearn(campaign, at_unix_ms, in_flight);
                    }
                }
                let ends = |state: &State| {
                    let phase = state.phase();
                    (phase.has_ended(), *phase == Phase::RolledBack)
                };
                let before = ends(&entry.state);
                let gone_on_from = step_of(&fact.event).filter(|step| step_after(*step).is_some());
                deadline_before = entry.state.deadline_unix_ms();
                entry.state.evolve(fact, &mut herd.press)?;
                entry.gone_on_from = gone_on_from;
                let after = ends(&entry.state);
                herd.ended = herd.ended + u64::from(after.0) - u64::from(before.0);
                herd.rolled_back = herd.rolled_back + u64::from(after.1) - u64::from(before.1);
                if before != after {
                    let completed = |(ended, back): (bool, bool)| u64::from(ended && !back);
                    let wave = Wave::new(&entry.state.migration().planned.wave);
                    let count = herd.waves.entry(wave).or_default();
                    count.completed = count.completed + completed(after) - completed(before);
                    ends_changed = true;
                }
                entry
            }
        };
        entry.settle_slot(key, &mut self.admission);
        entry.settle_deadline(key, deadline_before, &mut self.deadlines);
        if !matches!(entry.state.phase().wait(), Wait::Job { .. }) {
            self.working.remove(key);
        }
        herd.turns.forget(key.1);
        // The canary wave may have come to its end.
        if ends_changed && herd.has_canary() {
            herd.set_limits(&key.0, &mut self.admission, self.now_unix_ms);
        }
        Ok(())
    }

    /// Whether a running campaign is to stop by itself, or without a host.
    pub fn judge(&self, name: &CampaignName) -> Option<Verdict> {
        let herd = self.herds.get(name).filter(|herd| herd.live && herd.is_running())?;
        herd.judge()
    }

    /// The next migration for which there is a slot everywhere. Its slots are taken until its
    /// admission was read from the log, or [`Self::not_admitted`].
    pub fn admit(&mut self, now_unix_ms: i64) -> Option<Key> {
        loop {
            let (campaign, id, route) = self.admission.admit(now_unix_ms)?;
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

    /// When the next admission is allowed, where only their rate stands against one now.
    pub fn next_turn(&self, now_unix_ms: i64) -> Option<i64> {
        self.admission.next_turn(now_unix_ms)
    }

    /// The campaigns whose slots are to be moved by what was seen of them.
    pub fn retune(&mut self, now_unix_ms: i64) -> Vec<(CampaignName, Campaign, Change)> {
        let admission = &self.admission;
        let moved = self.herds.iter_mut().filter_map(|(name, herd)| {
            let change = herd.retune(now_unix_ms, admission.in_flight(name))?;
            Some((name.clone(), herd.campaign.clone()?, change))
        });
        moved.collect()
    }

    /// Takes in what a server says that it is under; the campaigns that are to be judged for it.
    pub fn hear(
        &mut self,
        host: &ServerName,
        load: &HostLoad,
        now_unix_ms: i64,
    ) -> Vec<CampaignName> {
        let admission = &self.admission;
        let heard = self.herds.iter_mut().filter_map(|(name, herd)| {
            herd.hear(host, load, admission, now_unix_ms).then(|| name.clone())
        });
        heard.collect()
    }

    /// Those of these campaigns of which servers are to have other numbers of slots, by what they say.
    pub fn retune_hosts(
        &mut self,
        now_unix_ms: i64,
        may_move: impl Fn(&CampaignName) -> bool,
    ) -> Vec<(CampaignName, Campaign, Vec<HostSlots>)> {
        let admission = &self.admission;
        let herds = self.herds.iter_mut().filter(|(name, _)| may_move(name));
        let moved = herds.filter_map(|(name, herd)| {
            let hosts = herd.retune_hosts(admission, now_unix_ms);
            let campaign = herd.campaign.clone().filter(|_| !hosts.is_empty())?;
            Some((name.clone(), campaign, hosts))
        });
        moved.collect()
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

    /// Whether nothing more will happen to a migration's database.
    pub fn has_ended(&self, key: &Key) -> bool {
        let entry = self.herds.get(&key.0).and_then(|herd| herd.migrations.get(&key.1));
        entry.is_some_and(|entry| entry.state.phase().has_ended())
    }

    /// Whether a migration's event counts that stands in `history`.
    pub fn admits(&self, key: &Key, history: &History, event: &migration_event::Event) -> bool {
        let known = self.migration(key);
        history.admits(&key.0, known.as_deref().map(|known| &known.planned), event)
    }

    /// The sequence of a migration's last fact.
    pub fn revision(&self, key: &Key) -> Option<u64> {
        self.herds.get(&key.0)?.migrations.get(&key.1).map(|entry| entry.state.revision())
    }

    /// A campaign's state.
    pub fn campaign(&self, name: &CampaignName) -> Option<&Campaign> {
        self.herds.get(name)?.campaign.as_ref()
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

    /// How many of a running campaign's migrations completed and were rolled back, once all have.
    pub fn all_ended(&self, name: &CampaignName) -> Option<(u64, u64)> {
        let herd = self.herds.get(name)?;
        let total = herd.migrations.len() as u64;
        (herd.is_running() && total > 0 && herd.ended == total)
            .then_some((herd.ended - herd.rolled_back, herd.rolled_back))
    }

    /// What is left to do of each running campaign, and of its next waves.
    pub fn rests(&self, now_unix_ms: i64) -> Vec<(CampaignName, Rests)> {
        let running = self.herds.iter().filter(|(_, herd)| herd.live && herd.is_running());
        let rests = |(name, herd): (&CampaignName, &Herd)| {
            let slots = herd.campaign.as_ref()?.in_flight_max;
            let rest = |waiting| herd.seen.times.rest(waiting, slots, now_unix_ms);
            let waves = self.admission.waiting_by_wave(name, WAVES_FORESEEN_MAX);
            let waves = waves.into_iter().map(|(wave, waiting)| (wave, rest(waiting))).collect();
            let whole = rest(self.admission.waiting(name));
            Some((name.clone(), Rests { whole, waves }))
        };
        running.filter_map(rests).collect()
    }

    /// Keeps when a campaign will have come to its end.
    pub fn foresee(&mut self, name: &CampaignName, foreseen: Foreseen) {
        if let Some(herd) = self.herds.get_mut(name) {
            herd.foreseen = foreseen;
        }
    }

    /// What is known of each campaign.
    pub fn overview(&self) -> Vec<CampaignStatus> {
        let status = |(name, herd): (&CampaignName, &Herd)| CampaignStatus {
            campaign: name.to_string(),
            sequence: herd.sequence,
            in_flight: self.admission.in_flight(name),
            admitting: herd.live && herd.is_running(),
            forecast: herd.foreseen.whole.as_ref().map(v1::Forecast::from),
            waves: herd.foreseen.waves.iter().map(of_wave).collect(),
            window_ends_at_unix_ms: herd.hours_end(self.now_unix_ms).unwrap_or(0),
        };
        self.herds.iter().map(status).collect()
    }
}

fn of_wave((wave, forecast): &(String, Forecast)) -> v1::WaveForecast {
    v1::WaveForecast { wave: wave.clone(), forecast: Some(forecast.into()) }
}

#[cfg(test)]
mod tests;
