//! One campaign on the board: its migrations, and what controls their flow.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use drover_lifecycle::{
    Forward, Migration,
    admission::{Admission, Limit},
    breaker::{Breaker, Verdict},
    budget::Budgets,
    campaign::{self, Campaign},
    concurrency::{self, Change, Controller},
    forecast::Foreseen,
    host_slots::{Standing, Watched},
    limits::range,
    pace::Pace,
    promise::max_frozen_ms,
    slot_times::SlotTimes,
    wave::Wave,
    window::Windows,
};
use drover_schemas::{
    CampaignName, MigrationId, ServerName,
    v1::{HostLoad, HostSlots, Limits, Step, migration_event::Event},
};

use super::entry::Entry;
use crate::press::Press;

#[derive(Debug, Default)]
pub(crate) struct Herd {
    /// Its log was read to its end: before that nothing is admitted, because what the log says
    /// further on is not known.
    pub(crate) live: bool,
    pub(crate) campaign: Option<Campaign>,
    pub(crate) migrations: HashMap<MigrationId, Entry>,
    /// Of what it keeps of those at rest.
    pub(crate) press: Press,
    pub(crate) ended: u64,
    pub(crate) rolled_back: u64,
    pub(crate) sequence: u64,
    pub(crate) seen: Seen,
    /// When it and its waves will have come to their ends, as it was last foreseen.
    pub(crate) foreseen: Foreseen,
    pub(crate) waves: BTreeMap<Wave, WaveCount>,
    pub(crate) turns: Turns,
}

/// How far back what decides on the flow reaches, in milliseconds: several windows of the breaker and of
/// the controller. An orchestrator that takes over derives from the log what the one before it had
/// seen; what is older would cost time then, and say nothing.
pub(crate) const SEEN_MS: i64 = 3_600_000;

/// What was seen of a campaign's migrations of late, and decides on its flow.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) breaker: Breaker,
    /// Of all that was parked, however long ago.
    pub(crate) budgets: Budgets,
    pub(crate) times: SlotTimes,
    pub(crate) controller: Option<Controller>,
    /// What its servers say that they are under.
    pub(crate) watched: Watched,
}

/// How many migrations a wave has, and how many of them completed.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct WaveCount {
    pub(crate) total: u64,
    pub(crate) completed: u64,
}

/// The turns of the steps of which there may be only so many a second.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    dns: Pace,
    notices: Pace,
    /// Which were given out, at which revision.
    given: HashMap<MigrationId, (u64, i64)>,
}

impl Turns {
    /// When a step may be ordered, in ms since 1970. What takes a customer back to where they can
    /// write is not held up, but counts.
    pub(crate) fn of(
        &mut self,
        id: MigrationId,
        migration: &Migration,
        step: Step,
        limits: &Limits,
        now_unix_ms: i64,
    ) -> i64 {
        let (pace, per_second_max) = match step {
            Step::Switch | Step::Revert => (&mut self.dns, limits.dns_per_second_max),
            // Whoever has published goes on with the message, at the same rate.
            Step::Publish | Step::Announce => (&mut self.notices, limits.notices_per_second_max),
            Step::Unspecified
            | Step::Freeze
            | Step::Dump
            | Step::Import
            | Step::Verify
            | Step::Disarm
            | Step::Open
            | Step::Retire
            | Step::Expire
            | Step::Close
            | Step::Drop
            | Step::Thaw => return now_unix_ms,
        };
        let given = self.given.get(&id).filter(|(revision, _)| *revision == migration.revision);
        match given {
            Some((_, at)) => *at,
            None if per_second_max == 0 => now_unix_ms,
            None => {
                let turn = pace.take(now_unix_ms, per_second_max);
                let at = if step == Step::Revert { now_unix_ms } else { turn };
                self.given.insert(id, (migration.revision, at));
                at
            }
        }
    }

    /// A migration has moved on.
    pub(crate) fn forget(&mut self, id: MigrationId) {
        self.given.remove(&id);
    }
}

impl Herd {
    pub(crate) fn is_running(&self) -> bool {
        self.campaign.as_ref().is_some_and(|campaign| campaign.phase == campaign::Phase::Running)
    }

    /// Brings what is admitted in line with the campaign's state.
    pub(crate) fn set_limits(
        &mut self,
        name: &CampaignName,
        admission: &mut Admission,
        now_unix_ms: i64,
    ) {
        let Some(campaign) = &self.campaign else { return };
        let Limits {
            per_source_max,
            per_destination_max,
            per_wave_max,
            dns_per_second_max,
            waves_at_once,
            ..
        } = campaign.limits;
        let limit = Limit {
            admitting: self.live && self.is_running() && self.is_within_hours(now_unix_ms),
            in_flight_max: campaign.in_flight_max,
            per_source_max,
            per_destination_max,
            per_wave_max,
            per_second_max: dns_per_second_max,
            waves_at_once,
            only_wave: self.canary(),
            quarantined: campaign.quarantined.clone(),
            host_slots: campaign.host_slots.clone(),
        };
        if range(&campaign.limits).is_none() {
            self.seen.controller = None;
        } else if self.seen.controller.is_none() {
            self.seen.controller = Some(Controller::new(campaign.in_flight_max));
        }
        admission.limit(name, limit);
    }

    /// Whether the campaign has hours.
    pub(crate) fn has_hours(&self) -> bool {
        self.campaign.as_ref().is_some_and(|campaign| !campaign.limits.windows.is_empty())
    }

    /// Whether what is begun now would finish within the campaign's hours.
    fn is_within_hours(&self, now_unix_ms: i64) -> bool {
        let Some(campaign) = self.campaign.as_ref() else { return false };
        let Limits { windows, dates_left_out, .. } = &campaign.limits;
        // Before anything is known of it, it may take as long as it is allowed to.
        let allowed_ms = || i64::from(max_frozen_ms(Some(&campaign.policy)));
        let takes_ms = self.seen.times.p95_ms().unwrap_or_else(allowed_ms);
        // What cannot be read is of a newer version: then nothing is begun.
        Windows::new(windows, dates_left_out)
            .is_ok_and(|windows| windows.lets_begin(now_unix_ms, takes_ms))
    }

    /// When the hours end in which it may run; none where it has none, or is outside of them.
    pub(crate) fn hours_end(&self, now_unix_ms: i64) -> Option<i64> {
        let Limits { windows, dates_left_out, .. } = &self.campaign.as_ref()?.limits;
        Windows::new(windows, dates_left_out).ok()?.open_until(now_unix_ms)
    }

    /// What is to be done because too much has failed.
    pub(crate) fn judge(&self) -> Option<Verdict> {
        let campaign = self.campaign.as_ref()?;
        let is_set_aside = |name: &str| campaign.quarantined.iter().any(|h| h.as_str() == name);
        let spent = || self.seen.budgets.judge(&campaign.limits, is_set_aside);
        let has_no_room = || self.seen.watched.judge(&campaign.quarantined);
        self.seen.breaker.judge(&campaign.quarantined).or_else(spent).or_else(has_no_room)
    }

    /// Takes in what a server says that it is under; whether one is to be set aside for it.
    pub(crate) fn hear(
        &mut self,
        host: &ServerName,
        load: &HostLoad,
        admission: &Admission,
        now_unix_ms: i64,
    ) -> bool {
        let (true, Some(campaign)) = (self.live && self.is_running(), &self.campaign) else {
            return false;
        };
        // Of one that is not in the configuration there is nothing to decide.
        let Some(own) = admission.slots_at(host) else { return false };
        let is_destination = own.as_destination > 0;
        self.seen.watched.take(now_unix_ms, host, is_destination, load, &campaign.limits);
        self.seen.watched.judge(&campaign.quarantined).is_some()
    }

    /// Other numbers of slots for servers, by what they say.
    pub(crate) fn retune_hosts(
        &mut self,
        admission: &Admission,
        now_unix_ms: i64,
    ) -> Vec<HostSlots> {
        let (true, Some(campaign)) = (self.live && self.is_running(), &self.campaign) else {
            return Vec::new();
        };
        let standing = |host: &ServerName| {
            let own =
                admission.slots_at(host).map_or(0, |own| own.as_source.max(own.as_destination));
            let slots_max = campaign.host_slots_max(host.as_str());
            Standing { own: own.max(1), slots_max, in_flight: admission.in_flight_at(host) }
        };
        let held = campaign.host_slots.keys();
        self.seen.watched.decide(now_unix_ms, &campaign.limits, held, standing)
    }

    /// The wave that has to succeed before the rest, as long as it has not.
    fn canary(&self) -> Option<Wave> {
        let name = &self.campaign.as_ref()?.limits.canary_wave;
        let wave = Some(Wave::new(name)).filter(|_| !name.is_empty())?;
        // A name that no migration has lets nobody through: it is a slip of the pen.
        let count = self.waves.get(&wave).copied().unwrap_or_default();
        (count.total == 0 || count.completed < count.total).then_some(wave)
    }

    /// Whether a wave has to succeed before the rest.
    pub(crate) fn has_canary(&self) -> bool {
        self.campaign.as_ref().is_some_and(|campaign| !campaign.limits.canary_wave.is_empty())
    }

    /// Another number of slots, where they move by themselves and it is time.
    pub(crate) fn retune(&mut self, now_unix_ms: i64, in_flight: u32) -> Option<Change> {
        if !self.live || !self.is_running() {
            return None;
        }
        let campaign = self.campaign.as_ref()?;
        let range = range(&campaign.limits)?;
        self.seen.controller.as_mut()?.decide(range, now_unix_ms, in_flight, campaign.in_flight_max)
    }
}

impl Seen {
    /// Takes in a fact of a migration, as it stood before that.
    pub(crate) fn take(
        &mut self,
        id: MigrationId,
        before: &Migration,
        at_unix_ms: i64,
        event: &Event,
    ) {
        self.breaker.take(id, &before.planned, at_unix_ms, event);
        self.times.take(id, &before.planned, at_unix_ms, event);
        self.observe(before.at_unix_ms, at_unix_ms, event);
    }

    /// Lets the controller learn what one that ran at that time had learned. What it decided then
    /// stands in the log.
    pub(crate) fn relearn(&mut self, campaign: &Campaign, at_unix_ms: i64, in_flight: u32) {
        if let (Some(controller), Some(range)) = (&mut self.controller, range(&campaign.limits)) {
            let _ = controller.decide(range, at_unix_ms, in_flight, campaign.in_flight_max);
        }
    }

    /// Takes in how long a step took whose work is the same for every database, or that one failed.
    fn observe(&mut self, before_unix_ms: i64, at_unix_ms: i64, event: &Event) {
        let Some(controller) = &mut self.controller else { return };
        // Who does not tell a step's own time yet: the time since the event before.
        let took = |own_us: u64| match own_us {
            0 => Duration::from_millis(
                at_unix_ms.saturating_sub(before_unix_ms).max(0).unsigned_abs(),
            ),
            own_us => Duration::from_micros(own_us),
        };
        if let Event::SourceDisarmed(disarmed) = event {
            controller.take(at_unix_ms, concurrency::Seen::Disarmed(took(disarmed.took_us)));
        } else if let Event::DestinationOpened(opened) = event {
            controller.take(at_unix_ms, concurrency::Seen::Opened(took(opened.took_us)));
        } else if let Event::StepFailed(failed) = event
            && Forward::ALL.iter().any(|f| *f < Forward::Switch && f.step() == failed.step())
        {
            controller.take(at_unix_ms, concurrency::Seen::Failed);
        }
    }
}
