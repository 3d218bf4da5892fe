//! One batch of one campaign's messages, within one transaction.

use std::collections::hash_map;

use drover_bus::{Item, Recorded};
use drover_lifecycle::{Fact, Migration, Wait};
use drover_schemas::{
    CampaignName, MigrationId,
    subjects::{self, Aggregate},
    v1::{StepFailed, migration_event::Event},
};
use rusqlite::{Transaction, params};
use uuid::Uuid;

use crate::{
    Error,
    campaign_row::CampaignRow,
    entry::{Entry, Note},
    projection::Warm,
    state,
    tally::{Place, Tally},
};

/// How many messages that were set aside are described in the table and the program's log; all
/// are counted.
const SET_ASIDE_KEPT: i64 = 1000;
/// How much of a reason is kept, in characters.
const REASON_CHARS_MAX: usize = 300;

/// Why a message is set aside that is an event, but of no history that was planned.
const FOREIGN: &str = "it names other servers than its migration's, or one that was not planned";

/// Counts the messages that could not be folded.
const METRIC_SET_ASIDE: &str = "drover_projector_set_aside_total";
/// Counts the messages that were taken in.
const METRIC_EVENTS: &str = "drover_projector_events_total";

/// A batch on its way into the tables.
pub(crate) struct Fold<'a> {
    transaction: &'a Transaction<'a>,
    warm: &'a mut Warm,
    name: &'a CampaignName,
    row: CampaignRow,
    changed: Vec<MigrationId>,
    tally: Tally,
    taken: u64,
    /// The last event taken in; its text is only made for the row.
    last_event: Option<Uuid>,
}

impl<'a> Fold<'a> {
    /// Begins where the tables stand.
    pub(crate) fn begin(
        transaction: &'a Transaction<'a>,
        warm: &'a mut Warm,
        name: &'a CampaignName,
    ) -> Result<Self, Error> {
        let row = CampaignRow::load(transaction, name)?;
        let (changed, tally) = (Vec::new(), Tally::default());
        Ok(Self { transaction, warm, name, row, changed, tally, taken: 0, last_event: None })
    }

    /// Takes in the next message; skips one that is known.
    pub(crate) fn take(&mut self, item: &Item) -> Result<(), Error> {
        match item {
            Item::CaughtUp => self.row.caught_up = true,
            Item::Resumed => {}
            Item::Event(recorded) if recorded.sequence <= self.row.position => {}
            Item::Event(recorded) => {
                self.taken += 1;
                self.row.position = recorded.sequence;
                self.last_event = Some(recorded.event.id);
                self.row.last_event_at = recorded.event.time.timestamp_millis();
                if let Err(reason) = self.event(recorded)? {
                    let subject = subjects::event(self.name, &recorded.history);
                    self.set_aside(recorded.sequence, &subject, &reason)?;
                }
            }
            Item::Undecodable { sequence, .. } if *sequence <= self.row.position => {}
            Item::Undecodable { sequence, subject, .. } => {
                self.taken += 1;
                self.row.position = *sequence;
                self.last_event = None;
                self.row.last_event_id.clear();
                self.set_aside(*sequence, subject, "not a CloudEvent of Drover's")?;
            }
        }
        Ok(())
    }

    /// Writes everything that has changed.
    pub(crate) fn finish(mut self) -> Result<(), Error> {
        for id in self.changed.drain(..) {
            let hash_map::Entry::Occupied(mut place) = self.warm.entry((self.row.id, id)) else {
                continue;
            };
            let entry = place.get_mut();
            if entry.changed {
                let now = Place::of(&entry.migration);
                self.tally.moved(&entry.names, entry.counted, now);
                entry.store(self.transaction, self.row.id, id)?;
            }
            if !is_on_its_way(&entry.migration) {
                place.remove();
            }
        }
        if let Some(id) = self.last_event {
            self.row.last_event_id = id.to_string();
        }
        self.tally.store(self.transaction, self.row.id)?;
        self.row.store(self.transaction)?;
        metrics::counter!(METRIC_EVENTS).increment(self.taken);
        Ok(())
    }

    fn event(&mut self, recorded: &Recorded) -> Result<Result<(), String>, Error> {
        match recorded.aggregate() {
            Aggregate::Campaign => Ok(self.row.evolve(recorded)),
            Aggregate::Migration(id) => match recorded.event.decode_migration() {
                Ok(event) => self.migration(id, recorded, event),
                Err(error) => Ok(Err(error.to_string())),
            },
        }
    }

    fn migration(
        &mut self,
        id: MigrationId,
        recorded: &Recorded,
        event: Event,
    ) -> Result<Result<(), String>, Error> {
        let at_unix_ms = recorded.event.time.timestamp_millis();
        let note = Note::of(&event);
        let place = match self.warm.entry((self.row.id, id)) {
            hash_map::Entry::Occupied(place) => place,
            hash_map::Entry::Vacant(place) => {
                match Entry::load(self.transaction, self.row.id, id)? {
                    Some(entry) => place.insert_entry(Box::new(entry)),
                    None => return self.begin_migration(id, recorded, event),
                }
            }
        };
        let entry = place.into_mut();
        if !entry.changed {
            self.changed.push(id);
        }
        let [_, source, destination] = &entry.names;
        if !recorded.history.is_between(source, destination) {
            return Ok(Err(FOREIGN.to_owned()));
        }
        let fact = Fact { revision: recorded.sequence, at_unix_ms, event };
        if let Err(error) = entry.migration.evolve(fact) {
            return Ok(Err(error.to_string()));
        }
        state::trim(&mut entry.migration);
        entry.changed = true;
        let opened_after_ms = entry.note(&note, at_unix_ms);
        self.count(id, &note, at_unix_ms, opened_after_ms)?;
        Ok(Ok(()))
    }

    fn begin_migration(
        &mut self,
        id: MigrationId,
        recorded: &Recorded,
        event: Event,
    ) -> Result<Result<(), String>, Error> {
        if !recorded.history.admits(self.name, None, &event) {
            return Ok(Err(FOREIGN.to_owned()));
        }
        let at_unix_ms = recorded.event.time.timestamp_millis();
        match Migration::begin(Fact { revision: recorded.sequence, at_unix_ms, event }) {
            Ok(migration) => {
                self.warm.insert((self.row.id, id), Box::new(Entry::begin(migration)));
                self.changed.push(id);
                Ok(Ok(()))
            }
            Err(error) => Ok(Err(error.to_string())),
        }
    }

    /// Counts what is counted for the campaign as a whole.
    fn count(
        &mut self,
        id: MigrationId,
        note: &Note,
        at_unix_ms: i64,
        opened_after_ms: Option<i64>,
    ) -> Result<(), Error> {
        match note {
            Note::Admitted => {
                self.row.first_admission_at.get_or_insert(at_unix_ms);
            }
            Note::Completed => {
                self.tally.completed(at_unix_ms);
                self.row.last_completion_at = self.row.last_completion_at.max(Some(at_unix_ms));
            }
            Note::Failed(failed) => {
                self.row.failures += 1;
                self.failed(id, failed, at_unix_ms)?;
            }
            Note::Deferred => self.row.deferrals += 1,
            Note::Frozen { .. }
            | Note::Opened { .. }
            | Note::Closed
            | Note::Thawed
            | Note::Onward
            | Note::Parked { .. }
            | Note::Nothing => {}
        }
        if let Some(ms) = opened_after_ms {
            self.tally.opened(ms);
            self.row.frozen_ms_max = self.row.frozen_ms_max.max(ms);
        }
        Ok(())
    }

    fn failed(
        &mut self,
        id: MigrationId,
        failed: &StepFailed,
        at_unix_ms: i64,
    ) -> Result<(), Error> {
        let StepFailed { code, signature, message, transient, host, .. } = failed;
        let (campaign, uuid) = (self.row.id, id.uuid());
        let migrations = self.transaction.prepare_cached(FAILURE_MIGRATION)?.execute(params![
            campaign,
            signature,
            uuid.as_bytes()
        ])?;
        self.transaction.prepare_cached(FAILURE)?.execute(params![
            campaign,
            signature,
            code,
            transient,
            migrations,
            at_unix_ms,
            uuid.as_bytes(),
            message
        ])?;
        self.transaction
            .prepare_cached(FAILURE_HOST)?
            .execute(params![campaign, signature, host])?;
        Ok(())
    }

    fn set_aside(&mut self, sequence: u64, subject: &str, reason: &str) -> Result<(), Error> {
        metrics::counter!(METRIC_SET_ASIDE).increment(1);
        if self.row.set_aside < SET_ASIDE_KEPT {
            tracing::warn!(campaign = %self.name, sequence, subject, reason, "set aside");
            let reason: String = reason.chars().take(REASON_CHARS_MAX).collect();
            let statement = "INSERT INTO set_aside VALUES (?1, ?2, ?3, ?4)";
            let values = params![self.row.id, sequence, subject, reason];
            self.transaction.prepare_cached(statement)?.execute(values)?;
        }
        self.row.set_aside += 1;
        Ok(())
    }
}

const FAILURE: &str = "
INSERT INTO failure (campaign, signature, code, transient, count, migrations, first_seen,
    last_seen, migration, message)
VALUES (?1, ?2, ?3, ?4, 1, ?5, ?6, ?6, ?7, ?8)
ON CONFLICT DO UPDATE SET code = excluded.code, transient = excluded.transient, count = count + 1,
    migrations = migrations + excluded.migrations, first_seen = min(first_seen, excluded.first_seen),
    last_seen = max(last_seen, excluded.last_seen), migration = excluded.migration,
    message = excluded.message";
const FAILURE_MIGRATION: &str =
    "INSERT INTO failure_migration VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING";
const FAILURE_HOST: &str = "
INSERT INTO failure_host (campaign, signature, host, count) VALUES (?1, ?2, ?3, 1)
ON CONFLICT DO UPDATE SET count = count + 1";

/// Whether its next event may come at any moment.
fn is_on_its_way(migration: &Migration) -> bool {
    !migration.has_ended()
        && match migration.wait() {
            Wait::Job { .. } | Wait::Settlement => true,
            Wait::Admission { .. } | Wait::Findings | Wait::Person | Wait::Nothing => false,
        }
}
