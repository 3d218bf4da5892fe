//! Which fact a command leads to.

use drover_schemas::v1::{
    BringBackRequested, MigrationAdmitted, MigrationChecked, MigrationCompleted, MigrationParked,
    MigrationRecalled, MigrationRehearsed, MigrationRolledBack, RetryRequested, RollbackRequested,
    migration_event::Event,
};

use super::Migration;
use crate::phase::{Command, Fact, NotAllowed, Phase, Settlement};

impl Migration {
    /// The fact that a command leads to.
    ///
    /// # Errors
    /// When the command is not allowed here.
    pub fn decide(&self, command: Command) -> Result<Event, NotAllowed> {
        let (what, event) = match command {
            Command::Admit => {
                let (run, rehearsal) = (self.run.saturating_add(1), self.planned.rehearsal);
                ("admission", Event::MigrationAdmitted(MigrationAdmitted { run, rehearsal }))
            }
            Command::Settle => ("settlement", self.settlement()?),
            Command::BreakOff => {
                let failed = self.broken_off().ok_or_else(|| self.not_allowed("a break"))?;
                ("a break", Event::StepFailed(failed))
            }
            Command::Recall { by, reason } => {
                let step = self.step().unwrap_or_default().into();
                let recalled = MigrationRecalled { step, by, reason };
                ("a recall", Event::MigrationRecalled(recalled))
            }
            Command::Check { blocking_codes, by } => {
                let checked = MigrationChecked { blocking_codes, ignored: false, by };
                ("a pre-flight", Event::MigrationChecked(checked))
            }
            Command::IgnoreFindings { by } => {
                let checked = MigrationChecked { blocking_codes: Vec::new(), ignored: true, by };
                ("ignored findings", Event::MigrationChecked(checked))
            }
            Command::Retry { by } => ("a retry", Event::RetryRequested(RetryRequested { by })),
            Command::RollBack { by, reason, discard_writes } => {
                let requested = RollbackRequested { by, reason, discard_writes };
                ("a rollback", Event::RollbackRequested(requested))
            }
            Command::BringBack { by, reason, campaign, migration } => {
                let (campaign, migration_id) = (campaign.to_string(), migration.to_string());
                let requested = BringBackRequested { by, reason, campaign, migration_id };
                ("bringing it back", Event::BringBackRequested(requested))
            }
        };
        let fact =
            Fact { revision: self.revision.saturating_add(1), at_unix_ms: self.at_unix_ms, event };
        self.next_phase(&fact).map_err(|_| self.not_allowed(what))?;
        Ok(fact.event)
    }

    fn settlement(&self) -> Result<Event, NotAllowed> {
        let Phase::Settling(settlement) = &self.phase else {
            return Err(self.not_allowed("settlement"));
        };
        Ok(match settlement {
            Settlement::Complete => Event::MigrationCompleted(MigrationCompleted {}),
            Settlement::Rehearse => Event::MigrationRehearsed(MigrationRehearsed {}),
            Settlement::RollBack => Event::MigrationRolledBack(MigrationRolledBack {}),
            Settlement::Defer => match self.next_deferral() {
                Some(deferred) => Event::MigrationDeferred(deferred),
                None => Event::MigrationParked(self.parked(true)),
            },
            Settlement::Recall => Event::MigrationDeferred(self.recalled()),
            Settlement::Park { undone, .. } => Event::MigrationParked(self.parked(*undone)),
        })
    }

    fn parked(&self, undone: bool) -> MigrationParked {
        let failed = self.failure.clone().unwrap_or_default();
        MigrationParked {
            step: failed.step,
            code: failed.code,
            signature: failed.signature,
            message: failed.message,
            undone,
        }
    }
}
