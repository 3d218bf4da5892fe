//! One migration's row, while events are folded into it.

use std::sync::Arc;

use drover_lifecycle::Migration;
use drover_schemas::{
    MigrationId,
    v1::{MigrationPlanned, StepFailed, migration_event::Event},
};
use rusqlite::{OptionalExtension as _, Row, Statement, Transaction, params};

use crate::{
    Error,
    state::{self, Kept},
    tally::Place,
};

/// A migration's state, and what the views want to know beyond it.
#[derive(Debug)]
pub(crate) struct Entry {
    row: MigrationRow,
    /// Trimmed.
    pub(crate) migration: Migration,
    /// Where it is counted: wave, source and destination.
    pub(crate) names: [Arc<str>; 3],
    /// As what it is counted in the tables; none while its row is new.
    pub(crate) counted: Option<Place>,
    pub(crate) changed: bool,
    /// Of this run: when the freeze began.
    frozen_since: Option<i64>,
    /// Of this run: the deadline of its promise, until it is kept or given up.
    thaw_at: Option<i64>,
    frozen_ms: Option<i64>,
    code: Option<String>,
    signature: Option<String>,
}

/// Where it is written.
#[derive(Debug)]
enum MigrationRow {
    /// Nowhere yet; of this database.
    New { database: String },
    /// In this row.
    Numbered(i64),
}

const INSERT: &str = "
INSERT INTO migration (number, phase, state, holds_slot, waits_for, revision, at, run, attempt,
    switched, expires_at, frozen_since, frozen_ms, code, signature, thaw_at, rollback, campaign, id,
    database, wave, source, destination)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20,
    ?21, ?22, ?23)";

const UPDATE: &str = "
UPDATE migration SET phase = ?2, state = ?3, holds_slot = ?4, waits_for = ?5, revision = ?6,
    at = ?7, run = ?8, attempt = ?9, switched = ?10, expires_at = ?11, frozen_since = ?12,
    frozen_ms = ?13, code = ?14, signature = ?15, thaw_at = ?16, rollback = ?17
WHERE number = ?1";

const SELECT: &str = "
SELECT number, state, revision, at, run, switched, expires_at, wave, source, destination,
    frozen_since, frozen_ms, code, signature, thaw_at, rollback
FROM migration WHERE campaign = ?1 AND id = ?2";

impl Entry {
    /// A migration that was just planned, and has no row yet.
    pub(crate) fn begin(mut migration: Migration) -> Self {
        let MigrationPlanned { database, source, destination, wave, .. } =
            std::mem::take(&mut migration.planned);
        state::trim(&mut migration);
        Self {
            row: MigrationRow::New { database },
            migration,
            names: [wave.into(), source.into(), destination.into()],
            counted: None,
            changed: true,
            frozen_since: None,
            thaw_at: None,
            frozen_ms: None,
            code: None,
            signature: None,
        }
    }

    /// The migration as its row has it.
    pub(crate) fn load(
        transaction: &Transaction<'_>,
        campaign: i64,
        id: MigrationId,
    ) -> Result<Option<Self>, Error> {
        transaction
            .prepare_cached(SELECT)?
            .query_row(params![campaign, id.uuid().as_bytes()], |row| Ok(Self::of_row(row)))
            .optional()?
            .transpose()
    }

    fn of_row(row: &Row<'_>) -> Result<Self, Error> {
        let kept = Kept {
            phase: row.get(1)?,
            revision: row.get(2)?,
            at_unix_ms: row.get(3)?,
            run: row.get(4)?,
            switched: row.get(5)?,
            expires_at_unix_ms: row.get(6)?,
            rollback: row.get(15)?,
        };
        let migration = kept.restore()?;
        Ok(Self {
            row: MigrationRow::Numbered(row.get(0)?),
            names: [row.get(7)?, row.get(8)?, row.get(9)?],
            counted: Some(Place::of(&migration)),
            migration,
            changed: false,
            frozen_since: row.get(10)?,
            frozen_ms: row.get(11)?,
            code: row.get(12)?,
            signature: row.get(13)?,
            thaw_at: row.get(14)?,
        })
    }

    /// Writes it, into a row of its own where it has none yet.
    pub(crate) fn store(
        &mut self,
        transaction: &Transaction<'_>,
        campaign: i64,
        id: MigrationId,
    ) -> Result<(), Error> {
        let (statement, number) = match &self.row {
            MigrationRow::New { .. } => (INSERT, None),
            MigrationRow::Numbered(number) => (UPDATE, Some(*number)),
        };
        let mut statement = transaction.prepare_cached(statement)?;
        let place = self.bind(&mut statement, number)?;
        if let MigrationRow::New { database } = &self.row {
            let [wave, source, destination] = &self.names;
            statement.raw_bind_parameter(18, campaign)?;
            statement.raw_bind_parameter(19, id.uuid().as_bytes())?;
            statement.raw_bind_parameter(20, database)?;
            statement.raw_bind_parameter(21, wave)?;
            statement.raw_bind_parameter(22, source)?;
            statement.raw_bind_parameter(23, destination)?;
        }
        statement.raw_execute()?;
        if number.is_none() {
            self.row = MigrationRow::Numbered(transaction.last_insert_rowid());
        }
        self.counted = Some(place);
        self.changed = false;
        Ok(())
    }

    /// What both statements write.
    fn bind(&self, statement: &mut Statement<'_>, number: Option<i64>) -> Result<Place, Error> {
        let kept = Kept::of(&self.migration);
        let place = Place::of(&self.migration);
        let values = params![
            number,
            place.phase,
            kept.phase,
            place.holds_slot,
            state::waits_for(&self.migration),
            kept.revision,
            kept.at_unix_ms,
            kept.run,
            state::attempt(&self.migration.phase),
            kept.switched,
            kept.expires_at_unix_ms,
            self.frozen_since,
            self.frozen_ms,
            self.code,
            self.signature,
            self.thaw_at,
            kept.rollback
        ];
        for (parameter, value) in (1..).zip(values) {
            statement.raw_bind_parameter(parameter, value)?;
        }
        Ok(place)
    }

    /// Notes what an event, which the state has taken in, says beyond the state. When it is an
    /// opening: gives how long it came after the freeze, in ms.
    pub(crate) fn note(&mut self, note: &Note, at_unix_ms: i64) -> Option<i64> {
        match note {
            Note::Frozen { since_unix_ms, thaw_at_unix_ms } => {
                self.frozen_since = Some(*since_unix_ms);
                self.thaw_at = *thaw_at_unix_ms;
                self.forget_failure();
            }
            Note::Opened { at_unix_ms } => {
                self.forget_failure();
                self.thaw_at = None;
                let since = self.frozen_since.take()?;
                // Two servers' clocks: they may differ by more than the step took.
                self.frozen_ms = Some(at_unix_ms.saturating_sub(since).max(0));
                return self.frozen_ms;
            }
            // The source stays frozen until the thaw: the customer can write nowhere.
            Note::Closed => self.frozen_since = self.frozen_since.or(Some(at_unix_ms)),
            Note::Thawed => (self.frozen_since, self.thaw_at) = (None, None),
            Note::Admitted | Note::Onward | Note::Deferred | Note::Completed => {
                self.forget_failure()
            }
            Note::Failed(StepFailed { code, signature, .. }) | Note::Parked { code, signature } => {
                self.code = Some(code.clone());
                self.signature = Some(signature.clone());
            }
            Note::Nothing => {}
        }
        None
    }

    fn forget_failure(&mut self) {
        self.code = None;
        self.signature = None;
    }
}

/// What an event says beyond the lifecycle's state.
#[derive(Debug)]
pub(crate) enum Note {
    Frozen {
        since_unix_ms: i64,
        thaw_at_unix_ms: Option<i64>,
    },
    Opened {
        at_unix_ms: i64,
    },
    Closed,
    Thawed,
    Admitted,
    /// A step forward was done, or is to be tried from the beginning: earlier failures are over.
    Onward,
    /// It was undone so as not to break the promise, and is tried later.
    Deferred,
    Completed,
    Failed(StepFailed),
    Parked {
        code: String,
        signature: String,
    },
    Nothing,
}

impl Note {
    pub(crate) fn of(event: &Event) -> Self {
        match event {
            Event::SourceFrozen(frozen) => Self::Frozen {
                since_unix_ms: frozen.frozen_at_unix_ms,
                thaw_at_unix_ms: Some(frozen.thaw_at_unix_ms).filter(|at| *at > 0),
            },
            Event::DestinationOpened(opened) => {
                Self::Opened { at_unix_ms: opened.opened_at_unix_ms }
            }
            Event::DestinationClosed(_) => Self::Closed,
            Event::SourceThawed(_) => Self::Thawed,
            Event::MigrationAdmitted(_) => Self::Admitted,
            Event::DumpStored(_)
            | Event::ImportCompleted(_)
            | Event::CopyVerified(_)
            | Event::SourceDisarmed(_)
            | Event::DnsSwitched(_)
            | Event::SourceRetired(_)
            | Event::DumpPublished(_)
            | Event::CustomerNotified(_)
            | Event::DumpExpired(_)
            | Event::RetryRequested(_)
            | Event::MigrationRolledBack(_) => Self::Onward,
            Event::MigrationDeferred(_) => Self::Deferred,
            Event::MigrationCompleted(_) | Event::MigrationRehearsed(_) => Self::Completed,
            Event::StepFailed(failed) => Self::Failed(failed.clone()),
            Event::MigrationParked(parked) => {
                Self::Parked { code: parked.code.clone(), signature: parked.signature.clone() }
            }
            // Steps back leave standing what they are taken for.
            Event::MigrationPlanned(_)
            | Event::MigrationChecked(_)
            | Event::MigrationRecalled(_)
            | Event::RollbackRequested(_)
            | Event::BringBackRequested(_)
            | Event::DnsReverted(_)
            | Event::DestinationDropped(_) => Self::Nothing,
        }
    }
}
