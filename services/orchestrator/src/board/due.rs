//! What is to be done about a migration, and which are to be looked at.

use std::ops::RangeInclusive;

use drover_lifecycle::Wait;
use drover_schemas::{
    CampaignName,
    v1::{CampaignPaused, Job, Step},
};

use super::{Board, Key, entry::Entry};

/// How long whoever did the step before is taken to go on with the next one. Then it is looked whether
/// it does.
pub(super) const GONE_ON_MS: i64 = 30_000;
/// What waits for a time further off than this, in milliseconds, has no timer yet: hundreds of thousands
/// of dumps end in weeks. [`Board::coming`] tells when it has come near.
pub(super) const NEAR_MS: i64 = 600_000;

/// What is to be done about a migration.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Put this order on the work queue, unless whoever has the order of the step before is still
    /// there to go on with it.
    Order {
        /// The order.
        job: Box<Job>,
        /// That step; none where nobody goes on with this one.
        gone_on_from: Option<Step>,
    },
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

impl Board {
    /// What is to be done about a migration now; nothing yet where its time is not near.
    pub fn action(&mut self, key: &Key, now_unix_ms: i64) -> Option<Action> {
        let herd = self.herds.get_mut(&key.0)?;
        let entry = herd.migrations.get_mut(&key.1)?;
        let near_until_unix_ms = now_unix_ms.max(self.near_until_unix_ms);
        if entry.state.is_asleep_after(near_until_unix_ms) {
            return None;
        }
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
                if not_before_unix_ms > near_until_unix_ms {
                    return None;
                }
                let revision = migration.revision;
                Some(Action::Timer { at_unix_ms: not_before_unix_ms, revision })
            }
            Wait::Job { .. }
                if entry.gone_on_from.is_some()
                    && now_unix_ms < migration.at_unix_ms.saturating_add(GONE_ON_MS) =>
            {
                let at_unix_ms = migration.at_unix_ms.saturating_add(GONE_ON_MS);
                Some(Action::Timer { at_unix_ms, revision: migration.revision })
            }
            Wait::Job { step, .. } => {
                let campaign = herd.campaign.as_ref()?;
                let at = herd.turns.of(key.1, &migration, step, &campaign.limits, now_unix_ms);
                if at > now_unix_ms {
                    return Some(Action::Timer { at_unix_ms: at, revision: migration.revision });
                }
                let job = migration.job(&key.0, key.1, &campaign.policy, now_unix_ms)?;
                self.working.insert(key.clone());
                let gone_on_from = entry.gone_on_from;
                Some(Action::Order { job: Box::new(job), gone_on_from })
            }
            Wait::Settlement => Some(Action::Settle),
            Wait::Admission { .. } => {
                entry.enqueue(key, &mut self.admission);
                None
            }
            Wait::Findings | Wait::Person | Wait::Nothing => None,
        }
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

    /// The migrations of a campaign that wait for a job, a near time, or their closing fact.
    pub fn waiting(&self, name: &CampaignName) -> Vec<Key> {
        self.waiting_for(name, i64::MIN..=self.near_until_unix_ms)
    }

    /// The migrations whose time has come near since this was last asked.
    pub fn coming(&mut self, now_unix_ms: i64) -> Vec<Key> {
        let until = now_unix_ms.saturating_add(NEAR_MS).max(self.near_until_unix_ms);
        let before = std::mem::replace(&mut self.near_until_unix_ms, until);
        let times = before.saturating_add(1)..=until;
        let coming = |name| self.waiting_for(name, times.clone());
        self.herds.keys().flat_map(coming).collect()
    }

    fn waiting_for(&self, name: &CampaignName, times: RangeInclusive<i64>) -> Vec<Key> {
        let waits = |entry: &Entry| match entry.state.phase().wait() {
            Wait::Job { not_before_unix_ms, .. } => times.contains(&not_before_unix_ms),
            Wait::Settlement => times.contains(&0),
            Wait::Admission { not_before_unix_ms } => {
                not_before_unix_ms > 0 && times.contains(&not_before_unix_ms)
            }
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

    /// The migrations whose job is due.
    pub fn working(&self) -> Vec<Key> {
        self.working.iter().cloned().collect()
    }
}
