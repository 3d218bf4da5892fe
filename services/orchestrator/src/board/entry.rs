//! One migration on the board, and its slots.

use std::collections::BTreeSet;

use drover_lifecycle::{
    Wait,
    admission::{Admission, Route},
    labels,
    wave::Wave,
};
use drover_schemas::v1::{MigrationPlanned, Step};

use super::{Key, Refused};
use crate::state::State;

/// Whether a migration counts against the limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Slot {
    None,
    Queued,
    /// Taken from the line; its admission is on its way to the log.
    Admitting,
    Taken,
}

#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) state: State,
    pub(crate) slot: Slot,
    /// The step that its last fact ended, where whoever did it goes on with the next one.
    pub(crate) gone_on_from: Option<Step>,
}

impl Entry {
    /// Brings the slots in line with the state.
    pub(crate) fn settle_slot(&mut self, key: &Key, admission: &mut Admission) {
        let target = match self.state.phase().wait() {
            Wait::Admission { not_before_unix_ms: 0 } => Slot::Queued,
            // It comes into the line when its time has come.
            Wait::Admission { .. } => Slot::None,
            Wait::Job { .. } | Wait::Settlement | Wait::Findings | Wait::Person | Wait::Nothing => {
                if self.state.phase().holds_slot() {
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
            if self.slot == Slot::Queued
                && let Some(route) = self.route()
            {
                // Another orchestrator has admitted it, say.
                admission.leave(&key.0, key.1, &route);
            }
            self.slot = target;
        }
    }

    /// Puts it in line, where it is not.
    pub(crate) fn enqueue(&mut self, (campaign, id): &Key, admission: &mut Admission) {
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
    pub(crate) fn route(&self) -> Option<Route> {
        route(&self.state.migration().planned).ok()
    }

    /// Brings the board's deadlines in line with the state, where it stands with the one `before`.
    pub(crate) fn settle_deadline(
        &self,
        key: &Key,
        before: Option<i64>,
        deadlines: &mut BTreeSet<(i64, Key)>,
    ) {
        let now = self.state.deadline_unix_ms();
        if before != now {
            if let Some(before) = before {
                deadlines.remove(&(before, key.clone()));
            }
            deadlines.extend(now.map(|at| (at, key.clone())));
        }
    }
}

impl Slot {
    pub(crate) fn is_held(self) -> bool {
        match self {
            Self::Admitting | Self::Taken => true,
            Self::None | Self::Queued => false,
        }
    }
}

pub(crate) fn route(planned: &MigrationPlanned) -> Result<Route, Refused> {
    Ok(Route {
        source: planned.source.parse()?,
        destination: planned.destination.parse()?,
        wave: Wave::new(&planned.wave),
        priority: labels::priority(planned),
        bytes: labels::bytes(planned).unwrap_or(0),
    })
}
