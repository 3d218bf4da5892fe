//! What there is to tell about one migration, as the templates see it.

use std::collections::BTreeMap;

use chrono::{DateTime, SecondsFormat, Utc};
use drover_dumpstore::{Key, link::Signer};
use drover_schemas::{
    CampaignName, MigrationId,
    v1::{DumpPublished, DumpStored, Job, MigrationPlanned},
};
use serde::Serialize;

use crate::Error;

/// The names in a template. Only what does not change from one attempt to the next, so that a
/// duplicate is one to the letter.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Message {
    /// By which a receiver drops a duplicate.
    pub(crate) key: String,
    pub(crate) campaign: String,
    pub(crate) migration_id: String,
    pub(crate) database: String,
    pub(crate) source: String,
    pub(crate) destination: String,
    pub(crate) host_names: Vec<String>,
    pub(crate) wave: String,
    pub(crate) owner: String,
    pub(crate) labels: BTreeMap<String, String>,
    /// The signed link.
    pub(crate) link: String,
    /// The program that unpacks the dump to its standard output, with its options.
    pub(crate) unpack: String,
    /// RFC 3339, UTC.
    pub(crate) expires_at: String,
    /// When the destination opened; RFC 3339, UTC.
    pub(crate) moved_at: String,
}

impl Message {
    pub(crate) fn new(order: &Order<'_>, job: &Job, signer: &Signer) -> Result<Self, Error> {
        let published = order.published(job)?;
        let planned = order.planned;
        let opened = job.opened.as_ref().ok_or(Error::Incomplete("opening"))?;
        let expires = instant(published.expires_at_unix_ms, "expiry")?;
        Ok(Self {
            key: order.idempotency_key(),
            campaign: order.campaign.to_string(),
            migration_id: order.migration.to_string(),
            database: planned.database.clone(),
            source: planned.source.clone(),
            destination: planned.destination.clone(),
            host_names: planned.host_names.clone(),
            wave: planned.wave.clone(),
            owner: planned.owner.clone(),
            labels: planned.labels.clone().into_iter().collect(),
            link: signer.signed(&order.campaign, order.migration, expires),
            unpack: if order.stored.dump_object.ends_with(".gz") { "zcat" } else { "zstd -dc" }
                .to_owned(),
            expires_at: text(expires),
            moved_at: text(instant(opened.opened_at_unix_ms, "time of opening")?),
        })
    }

    /// One with which templates are tried.
    pub(crate) fn example() -> Self {
        let text = |text: &str| text.to_owned();
        Self {
            key: text("0d807e80-4d69-5772-8174-696f6e732121.1"),
            campaign: text("night-1"),
            migration_id: text("0d807e80-4d69-5772-8174-696f6e732121"),
            database: text("Müllers \"shop\""),
            source: text("old-1"),
            destination: text("new-1"),
            host_names: vec![text("shop.example.org")],
            wave: text("cluster-7"),
            owner: text("owner@example.org"),
            labels: BTreeMap::new(),
            link: text("https://dumps.example.org/dumps/night-1/0?expires=1&signature=0"),
            unpack: text("zstd -dc"),
            expires_at: text("2030-01-31T00:00:00Z"),
            moved_at: text("2030-01-01T00:00:00Z"),
        }
    }

    /// The message for a text that a person reads: names may hold line ends, which could forge
    /// lines of the text, and characters that turn it around; both are shown as `�`.
    pub(crate) fn visible(&self) -> Self {
        let each = |texts: &[String]| texts.iter().map(|text| visible(text)).collect();
        Self {
            database: visible(&self.database),
            host_names: each(&self.host_names),
            wave: visible(&self.wave),
            owner: visible(&self.owner),
            labels: self.labels.iter().map(|(k, v)| (k.clone(), visible(v))).collect(),
            ..self.clone()
        }
    }
}

/// `text` without control characters and without those that change the direction of writing.
pub(crate) fn visible(text: &str) -> String {
    let hidden = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().map(|c| if hidden(c) { '\u{fffd}' } else { c }).collect()
}

fn instant(unix_ms: i64, what: &'static str) -> Result<DateTime<Utc>, Error> {
    DateTime::from_timestamp_millis(unix_ms).ok_or(Error::Incomplete(what))
}

fn text(instant: DateTime<Utc>) -> String {
    instant.to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// A job, taken apart and checked.
pub(crate) struct Order<'a> {
    pub(crate) campaign: CampaignName,
    pub(crate) migration: MigrationId,
    pub(crate) planned: &'a MigrationPlanned,
    pub(crate) stored: &'a DumpStored,
    /// The dump's key in the store.
    pub(crate) dump: Key,
}

impl<'a> Order<'a> {
    pub(crate) fn of(job: &'a Job) -> Result<Self, Error> {
        let stored = job.dump.as_ref().ok_or(Error::Incomplete("dump"))?;
        let dump: Key = stored.dump_object.parse()?;
        let order = Self {
            campaign: job.campaign.parse().map_err(|_| Error::Incomplete("campaign"))?,
            migration: job.migration_id.parse().map_err(|_| Error::Incomplete("migration's id"))?,
            planned: job.planned.as_ref().ok_or(Error::Incomplete("plan"))?,
            stored,
            dump,
        };
        let of = order.dump.attempt();
        // What this step deletes must be this migration's, whatever else the event says.
        if of.migration() != order.migration || *of.campaign() != order.campaign {
            return Err(Error::Incomplete("own dump: the key is another migration's"));
        }
        Ok(order)
    }

    /// The same for all attempts to tell of this move, another after a rollback and a new run.
    pub(crate) fn idempotency_key(&self) -> String {
        format!("{}.{}", self.migration, self.dump.attempt().run())
    }

    fn published(&self, job: &'a Job) -> Result<&'a DumpPublished, Error> {
        job.published.as_ref().ok_or(Error::Incomplete("publication"))
    }
}
