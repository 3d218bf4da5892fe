//! A campaign's own row in the tables.

use std::collections::{BTreeMap, BTreeSet};

use drover_bus::Recorded;
use drover_lifecycle::{
    campaign::{self, Campaign},
    promise::max_frozen_ms,
};
use drover_schemas::{
    CampaignName, ServerName,
    v1::{Limits, Policy},
};
use rusqlite::{Row, Transaction, params};

use crate::Error;

/// The campaign's own row.
#[derive(Debug)]
pub(crate) struct CampaignRow {
    pub id: i64,
    pub position: u64,
    pub last_event_id: String,
    pub last_event_at: i64,
    pub caught_up: bool,
    pub state: Option<Campaign>,
    pub first_admission_at: Option<i64>,
    pub last_completion_at: Option<i64>,
    pub frozen_ms_max: i64,
    pub promised_ms: i64,
    pub deferrals: i64,
    pub failures: i64,
    pub set_aside: i64,
}

impl CampaignRow {
    pub(crate) fn load(transaction: &Transaction<'_>, name: &CampaignName) -> Result<Self, Error> {
        transaction.prepare_cached(INSERT_CAMPAIGN)?.execute([name.as_str()])?;
        transaction
            .prepare_cached(SELECT_CAMPAIGN)?
            .query_row([name.as_str()], |row| Ok(Self::of_row(row)))?
    }

    fn of_row(row: &Row<'_>) -> Result<Self, Error> {
        Ok(Self {
            id: row.get(0)?,
            position: row.get(1)?,
            last_event_id: row.get(2)?,
            last_event_at: row.get(3)?,
            state: restore_campaign(
                row.get(4)?,
                row.get(5)?,
                row.get(6)?,
                row.get(7)?,
                row.get(16)?,
            )?,
            first_admission_at: row.get(8)?,
            last_completion_at: row.get(9)?,
            frozen_ms_max: row.get(10)?,
            failures: row.get(11)?,
            set_aside: row.get(12)?,
            caught_up: row.get(13)?,
            promised_ms: row.get(14)?,
            deferrals: row.get(15)?,
        })
    }

    pub(crate) fn store(&self, transaction: &Transaction<'_>) -> Result<(), Error> {
        let state = self.state.as_ref();
        let quarantined: Vec<&str> = state
            .map(|state| state.quarantined.iter().map(ServerName::as_str).collect())
            .unwrap_or_default();
        let pair = |(host, slots): (&ServerName, &u32)| format!("{host}={slots}");
        let host_slots: Vec<String> =
            state.map(|state| state.host_slots.iter().map(pair).collect()).unwrap_or_default();
        transaction.prepare_cached(UPDATE_CAMPAIGN)?.execute(params![
            self.id,
            self.position,
            self.last_event_id,
            self.last_event_at,
            state.map_or(0, |state| state.revision),
            state.map_or("", |state| state.phase.name()),
            state.map_or(0, |state| state.in_flight_max),
            quarantined.join(" "),
            self.first_admission_at,
            self.last_completion_at,
            self.frozen_ms_max,
            self.failures,
            self.set_aside,
            self.caught_up,
            self.promised_ms,
            self.deferrals,
            host_slots.join(" ")
        ])?;
        Ok(())
    }

    pub(crate) fn evolve(&mut self, recorded: &Recorded) -> Result<(), String> {
        let event = recorded.event.decode_campaign().map_err(|error| error.to_string())?;
        let fact = campaign::Fact { revision: recorded.sequence, event };
        match &mut self.state {
            Some(state) => state.evolve(fact).map_err(|error| error.to_string()),
            None => {
                let mut state = Campaign::begin(fact).map_err(|error| error.to_string())?;
                self.promised_ms = max_frozen_ms(Some(&state.policy)).into();
                // No phase depends on it, and so the row does not keep it.
                state.policy = Policy::default();
                self.state = Some(state);
                Ok(())
            }
        }
    }
}

const INSERT_CAMPAIGN: &str = "
INSERT INTO campaign (name, position, last_event_id, last_event_at, revision, phase, in_flight_max,
    quarantined, host_slots, frozen_ms_max, failures, set_aside, caught_up, promised_ms, deferrals)
VALUES (?1, 0, '', 0, 0, '', 0, '', '', 0, 0, 0, 0, 0, 0) ON CONFLICT DO NOTHING";
const SELECT_CAMPAIGN: &str = "
SELECT id, position, last_event_id, last_event_at, revision, phase, in_flight_max, quarantined,
    first_admission_at, last_completion_at, frozen_ms_max, failures, set_aside, caught_up,
    promised_ms, deferrals, host_slots
FROM campaign WHERE name = ?1";
const UPDATE_CAMPAIGN: &str = "
UPDATE campaign SET position = ?2, last_event_id = ?3, last_event_at = ?4, revision = ?5,
    phase = ?6, in_flight_max = ?7, quarantined = ?8, first_admission_at = ?9,
    last_completion_at = ?10, frozen_ms_max = ?11, failures = ?12, set_aside = ?13,
    caught_up = ?14, promised_ms = ?15, deferrals = ?16, host_slots = ?17
WHERE id = ?1";

fn restore_campaign(
    revision: u64,
    phase: String,
    in_flight_max: u32,
    quarantined: String,
    host_slots: String,
) -> Result<Option<Campaign>, Error> {
    use campaign::Phase;
    if revision == 0 {
        return Ok(None);
    }
    let phase = [Phase::Created, Phase::Running, Phase::Paused, Phase::Completed]
        .into_iter()
        .find(|known| known.name() == phase)
        .ok_or(Error::Damaged { what: "a campaign's phase", text: phase })?;
    let quarantined = quarantined
        .split_whitespace()
        .map(str::parse::<ServerName>)
        .collect::<Result<BTreeSet<_>, _>>()
        .map_err(|error| Error::Damaged { what: "a quarantined host", text: error.text })?;
    let slots = |pair: &str| -> Option<(ServerName, u32)> {
        let (host, slots) = pair.split_once('=')?;
        Some((host.parse().ok()?, slots.parse().ok()?))
    };
    let host_slots = host_slots
        .split_whitespace()
        .map(slots)
        .collect::<Option<BTreeMap<_, _>>>()
        .ok_or(Error::Damaged { what: "a host's slots", text: host_slots })?;
    Ok(Some(Campaign {
        revision,
        phase,
        policy: Policy::default(),
        in_flight_max,
        limits: Limits::default(),
        recall: None,
        quarantined,
        host_slots,
    }))
}
