//! Who orders, for what, and on which terms.

use drover_lifecycle::{ledger::Asked, promise::max_frozen_ms};
use drover_schemas::{CampaignName, MigrationId, v1};
use prost::Message as _;

use crate::Error;

/// Who orders, for what, and on which revision of the migration's history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// The migration's campaign.
    pub campaign: CampaignName,
    /// The migration.
    pub migration: MigrationId,
    /// The database's name.
    pub database: String,
    /// The stream sequence of the migration's last event when the order was decided.
    pub revision: u64,
    /// The migration's run, from 1.
    pub run: u32,
    /// The step's attempt in this run, from 1.
    pub attempt: u32,
    /// The history says that the destination was closed, or its copy dropped, in this run.
    pub destination_shut: bool,
    /// It is for a rehearsal: the source stays as it is, and nobody is let in at the destination.
    pub rehearsal: bool,
    /// The migration that this one brings back: at this destination the database is the one that
    /// that migration has retired.
    pub brings_back: Option<MigrationId>,
    /// After how long the source thaws itself unless it was disarmed, in milliseconds.
    pub max_frozen_ms: u32,
    /// The job as it came, encoded: the ledger keeps the last one, so that a log that has lost its
    /// end can be told what it said.
    pub job: Vec<u8>,
}

impl Order {
    /// What the ledger's rules look at.
    pub(crate) fn asked(&self) -> Asked {
        let Self { revision, run, destination_shut, rehearsal, .. } = *self;
        Asked { revision, run, destination_shut, rehearsal }
    }
}

/// A rehearsal of such a migration sets nothing aside: there the name is taken.
fn brings_back(planned: &v1::MigrationPlanned) -> Result<Option<MigrationId>, Error> {
    let text = planned.brings_back.as_str();
    let id = (!text.is_empty() && !planned.rehearsal).then(|| text.parse());
    id.transpose().map_err(|e| Error::Order(format!("brings back: {e}")))
}

impl TryFrom<&v1::Job> for Order {
    type Error = Error;

    fn try_from(job: &v1::Job) -> Result<Self, Error> {
        let planned =
            job.planned.as_ref().ok_or_else(|| Error::Order("plan is missing".to_owned()))?;
        Ok(Self {
            campaign: job.campaign.parse().map_err(|e| Error::Order(format!("campaign: {e}")))?,
            migration: job.migration_id.parse().map_err(|e| Error::Order(format!("id: {e}")))?,
            database: planned.database.clone(),
            revision: job.revision,
            run: job.run,
            attempt: job.attempt,
            destination_shut: job.destination_shut,
            rehearsal: planned.rehearsal,
            brings_back: brings_back(planned)?,
            max_frozen_ms: max_frozen_ms(job.policy.as_ref()),
            job: job.encode_to_vec(),
        })
    }
}
