//! The order for the step that a migration waits for.

use drover_schemas::{
    CampaignName, MigrationId,
    v1::{Job, Policy},
};

use super::Migration;
use crate::phase::{Goal, Phase, Wait};

impl Migration {
    /// The order for the step that this state waits for; none when it waits for something else.
    pub fn job(
        &self,
        campaign: &CampaignName,
        id: MigrationId,
        policy: &Policy,
        now_unix_ms: i64,
    ) -> Option<Job> {
        let Wait::Job { step, attempt, .. } = self.wait() else { return None };
        Some(Job {
            campaign: campaign.to_string(),
            migration_id: id.to_string(),
            step: step.into(),
            revision: self.revision,
            run: self.run,
            attempt,
            issued_at_unix_ms: now_unix_ms,
            policy: Some(policy.clone()),
            revision_at_unix_ms: self.at_unix_ms,
            planned: Some(self.planned.clone()),
            frozen: self.frozen.clone(),
            dump: self.dump.clone(),
            opened: self.opened,
            switched: self.switched.clone(),
            published: self.published.clone(),
            destination_shut: self.destination_shut,
            keep_writes: self.keeps_writes(),
        })
    }

    /// Whether the destination may have taken writes that nobody said may be lost: it is undone on the
    /// word of a person who did not say so, or by itself although the host names pointed to it. A
    /// switch that failed may have been seen all the same.
    fn keeps_writes(&self) -> bool {
        let Phase::Undoing(_, _, goal) = &self.phase else { return false };
        match goal {
            Goal::RollBack => !self.rollback.discard_writes,
            Goal::Park | Goal::Defer | Goal::Recall => self.switched.is_some(),
        }
    }
}
