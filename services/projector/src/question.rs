//! What a projector is asked, and how others ask it: a [`Query`] on
//! `drover.control.projector.query`, answered by a [`QueryAnswer`].
//!
//! `Query.view` is `status`, `failures`, or `migrations` and a space and a [`Filter`] as JSON.
//! The answer is the view as a JSON document.
//!
//! Whoever asks also gets an answer when no projector runs, or when the one that runs has not
//! reached the log's end: then the log itself is folded, in memory.

use std::{path::Path, time::Duration};

use bytes::Bytes;
use drover_bus::{Bus, From, Item};
use drover_schemas::{
    CampaignName, Failure, subjects,
    v1::{Query, QueryAnswer},
};
use futures::StreamExt as _;
use prost::Message as _;
use serde::de::DeserializeOwned;

use crate::{
    BATCH_EVENTS_MAX, Error, Projection, Reader, now_unix_ms,
    view::{FailureGroup, Filter, MigrationRow, Status, Views},
};

/// How long a projector's answer is waited for: far above what it takes, little for a person.
const ANSWER_WAIT: Duration = Duration::from_secs(3);

/// Where projectors answer.
pub(crate) fn subject() -> String {
    subjects::control("projector.query")
}

#[derive(Debug, Clone, PartialEq)]
enum View {
    Status,
    Failures,
    Migrations(Filter),
}

impl View {
    fn text(&self) -> Result<String, Error> {
        let unwritable = |error: serde_json::Error| Error::Question(error.to_string());
        Ok(match self {
            Self::Status => "status".to_owned(),
            Self::Failures => "failures".to_owned(),
            Self::Migrations(filter) => {
                format!("migrations {}", serde_json::to_string(filter).map_err(unwritable)?)
            }
        })
    }

    fn parse(text: &str) -> Result<Self, Error> {
        match text.split_once(' ').unwrap_or((text, "{}")) {
            ("status", _) => Ok(Self::Status),
            ("failures", _) => Ok(Self::Failures),
            ("migrations", filter) => serde_json::from_str(filter)
                .map(Self::Migrations)
                .map_err(|error| Error::Question(error.to_string())),
            _ => Err(Error::Question("no such view".to_owned())),
        }
    }

    fn json(&self, views: Views<'_>, campaign: &CampaignName) -> Result<String, Error> {
        let json = match self {
            Self::Status => serde_json::to_string(&views.status(campaign, now_unix_ms())?),
            Self::Failures => serde_json::to_string(&views.failures(campaign)?),
            Self::Migrations(filter) => serde_json::to_string(&views.migrations(campaign, filter)?),
        };
        json.map_err(|error| Error::Question(error.to_string()))
    }
}

/// Answers a request from the tables in a file. Blocks.
pub(crate) fn answer(path: &Path, request: &[u8]) -> Bytes {
    let answer = match answer_json(path, request) {
        Ok(json) => QueryAnswer { json, ..QueryAnswer::default() },
        Err(error) => {
            let Failure { code, message } = error.into();
            let (error_code, error_message) = (code.to_string(), message);
            QueryAnswer { json: String::new(), error_code, error_message }
        }
    };
    answer.encode_to_vec().into()
}

fn answer_json(path: &Path, request: &[u8]) -> Result<String, Error> {
    let query = Query::decode(request).map_err(|error| Error::Question(error.to_string()))?;
    let campaign: CampaignName = query
        .campaign
        .parse()
        .map_err(|_| Error::Question("no campaign has such a name".to_owned()))?;
    let view = View::parse(&query.view)?;
    let reader = Reader::open(path)?;
    let views = reader.views();
    if !views.is_caught_up(&campaign)? {
        return Err(Error::Behind(campaign));
    }
    view.json(views, &campaign)
}

/// A projector's answer; none where the log must be asked itself.
async fn ask<T: DeserializeOwned>(
    bus: &Bus,
    campaign: &CampaignName,
    view: &View,
) -> Result<Option<T>, Error> {
    let query = Query { campaign: campaign.to_string(), view: view.text()? };
    let request = query.encode_to_vec().into();
    let answer = match bus.ask_one(&subject(), request, ANSWER_WAIT).await {
        Ok(answer) => answer,
        Err(drover_bus::Error::NoAnswer { .. }) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let parsed =
        QueryAnswer::decode(answer).map_err(|error| error.to_string()).and_then(|answer| {
            if answer.error_code.is_empty() {
                serde_json::from_str(&answer.json).map_err(|error| error.to_string())
            } else {
                Err(format!("{} {}", answer.error_code, answer.error_message))
            }
        });
    match parsed {
        Ok(view) => Ok(Some(view)),
        Err(reason) => {
            tracing::debug!(reason, "no answer from the projector; reading the log");
            Ok(None)
        }
    }
}

/// A campaign's projection, folded from its log into memory. Reads the whole log: some seconds
/// for a million events.
///
/// # Errors
/// [`Error::CampaignUnknown`], or what the bus says.
pub async fn load(bus: &Bus, campaign: &CampaignName) -> Result<Projection, Error> {
    if !bus.campaigns().await?.contains(campaign) {
        return Err(Error::CampaignUnknown(campaign.clone()));
    }
    let mut projection = Projection::in_memory()?;
    let mut batches = bus.replay(campaign, From::Start, None).ready_chunks(BATCH_EVENTS_MAX);
    while let Some(batch) = batches.next().await {
        let items: Vec<Item> = batch.into_iter().collect::<Result<_, _>>()?;
        let name = campaign.clone();
        projection = tokio::task::spawn_blocking(move || {
            projection.apply(&name, &items).map(|()| projection)
        })
        .await??;
    }
    projection.apply(campaign, &[Item::CaughtUp])?;
    Ok(projection)
}

/// How a campaign goes, from a projector or else from the log.
///
/// # Errors
/// [`Error::CampaignUnknown`], or what the bus says.
pub async fn status(bus: &Bus, campaign: &CampaignName) -> Result<Status, Error> {
    match ask(bus, campaign, &View::Status).await? {
        Some(status) => Ok(status),
        None => load(bus, campaign).await?.views().status(campaign, now_unix_ms()),
    }
}

/// Failures by signature, most frequent first, from a projector or else from the log.
///
/// # Errors
/// [`Error::CampaignUnknown`], or what the bus says.
pub async fn failures(bus: &Bus, campaign: &CampaignName) -> Result<Vec<FailureGroup>, Error> {
    match ask(bus, campaign, &View::Failures).await? {
        Some(groups) => Ok(groups),
        None => load(bus, campaign).await?.views().failures(campaign),
    }
}

/// All migrations to which `filter` applies, up to its limit, page by page, from a projector or
/// else from the log.
///
/// # Errors
/// [`Error::CampaignUnknown`], or what the bus says.
pub async fn migrations(
    bus: &Bus,
    campaign: &CampaignName,
    filter: &Filter,
) -> Result<Vec<MigrationRow>, Error> {
    let mut folded: Option<Projection> = None;
    let mut rows: Vec<MigrationRow> = Vec::new();
    let mut page = filter.clone();
    loop {
        page.limit = filter.limit.map(|limit| limit.saturating_sub(rows.len() as u32));
        let asked = match &folded {
            Some(_) => None,
            None => ask(bus, campaign, &View::Migrations(page.clone())).await?,
        };
        let next = match asked {
            Some(next) => next,
            None => {
                let projection = match folded.take() {
                    Some(projection) => projection,
                    None => load(bus, campaign).await?,
                };
                let next = projection.views().migrations(campaign, &page)?;
                folded = Some(projection);
                next
            }
        };
        let is_last = next.len() < page.page_rows() as usize;
        page.after = next.last().map(|row| row.id);
        rows.extend(next);
        if is_last || filter.limit.is_some_and(|limit| rows.len() >= limit as usize) {
            return Ok(rows);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_read_as_it_was_written() {
        let filter = Filter { phase: Some("parked".into()), limit: Some(7), ..Filter::default() };
        for view in [View::Status, View::Failures, View::Migrations(filter)] {
            assert_eq!(View::parse(&view.text().unwrap()).unwrap(), view);
        }
        assert_eq!(View::parse("migrations").unwrap(), View::Migrations(Filter::default()));
        for foreign in ["", "statu", "migrations {", "migrations {\"fase\":1}"] {
            assert!(View::parse(foreign).is_err(), "{foreign}");
        }
    }
}
