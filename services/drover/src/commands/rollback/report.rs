//! What `drover rollback` tells of each migration.

use drover_lifecycle::Undo;
use drover_mysql::Lost;
use drover_projector::render::printable;
use drover_schemas::{MigrationId, subjects::step_name};
use serde::Serialize;

use crate::standing::Standing;

/// How many tables and objects a text names of one migration; JSON has all.
const NAMED_MAX: usize = 20;

#[derive(Debug, Serialize)]
pub struct Report {
    pub campaign: String,
    pub migrations: Vec<Row>,
}

/// One migration.
#[derive(Debug, Serialize)]
pub struct Row {
    pub id: MigrationId,
    pub database: String,
    pub source: String,
    pub destination: String,
    /// Where it stood, as the views name it.
    pub was: &'static str,
    pub outcome: Outcome,
    /// The steps that undo it, in their order.
    pub steps: Vec<&'static str>,
    /// What would be lost.
    pub writes: Vec<Lost>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// The migration that brings it back, and its campaign.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub brought_back: Option<Other>,
}

/// A migration of another campaign.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Other {
    pub campaign: String,
    pub id: String,
}

/// What becomes of a migration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The steps are being done.
    TakenBack,
    /// It had not begun, or nothing of it was left: there is nothing to undo.
    Ended,
    /// It was taken back before, or is on its way.
    AlreadyBack,
    /// Nothing was done: its destination, or another of its wave, has taken writes; or it cannot be
    /// brought back.
    Left,
    /// Another migration brings it back.
    BroughtBack,
    /// The word could not be given.
    Failed,
}

impl Row {
    /// As it stands, with what a rollback leads to.
    pub fn of(one: &Standing) -> Self {
        let migration = &one.migration;
        let steps = migration.steps_back().unwrap_or_default();
        let brought_back = migration.brought_back.as_ref();
        let outcome = match (migration.goes_back(), steps.is_empty()) {
            _ if brought_back.is_some() => Outcome::BroughtBack,
            (true, _) => Outcome::AlreadyBack,
            (false, true) => Outcome::Ended,
            (false, false) => Outcome::TakenBack,
        };
        Self {
            id: one.id,
            database: migration.planned.database.clone(),
            source: migration.planned.source.clone(),
            destination: migration.planned.destination.clone(),
            was: migration.name(),
            outcome,
            steps: steps.into_iter().map(|undo: Undo| step_name(undo.step())).collect(),
            writes: Vec::new(),
            failure: None,
            brought_back: brought_back
                .map(|by| Other { campaign: by.campaign.clone(), id: by.migration_id.clone() }),
        }
    }

    /// Nothing is done.
    pub fn leave(&mut self) {
        match self.outcome {
            Outcome::AlreadyBack | Outcome::BroughtBack => {}
            Outcome::TakenBack | Outcome::Ended | Outcome::Left | Outcome::Failed => {
                self.outcome = Outcome::Left;
            }
        }
    }

    /// Whether a rollback acts on it.
    pub fn is_meant(&self) -> bool {
        !matches!(self.outcome, Outcome::AlreadyBack | Outcome::BroughtBack)
    }

    /// Which migration brings it back.
    pub fn other(&self) -> Other {
        let none = || Other { campaign: String::new(), id: String::new() };
        self.brought_back.clone().unwrap_or_else(none)
    }

    fn line(&self) -> String {
        let steps = self.steps.join(", ");
        let what = match self.outcome {
            Outcome::TakenBack => format!("is taken back: {steps}"),
            Outcome::Ended => "is ended: nothing of it is to be undone".to_owned(),
            Outcome::AlreadyBack => "is on its way back, or there, already".to_owned(),
            Outcome::Left => match &self.failure {
                Some(why) => format!("is left as it is: {why}"),
                None => "is left as it is".to_owned(),
            },
            Outcome::BroughtBack => {
                let Other { campaign, id } = self.other();
                format!("is brought back by migration {id} of campaign {campaign}")
            }
            Outcome::Failed => self.failure.clone().unwrap_or_default(),
        };
        let Self { database, source, destination, was, id, .. } = self;
        format!("{database}  {source} > {destination}  {was}  {what}  ({id})")
    }
}

impl Report {
    /// For a person.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for row in &self.migrations {
            text.push_str(&format!("{}\n", printable(&row.line())));
            for one in row.writes.iter().take(NAMED_MAX) {
                text.push_str(&format!("    would be lost: {}\n", printable(&of_lost(one))));
            }
            let more = row.writes.len().saturating_sub(NAMED_MAX);
            if more > 0 {
                text.push_str(&format!("    and {more} more; --json has all\n"));
            }
        }
        let back = self.count(Outcome::TakenBack) + self.count(Outcome::Ended);
        let (campaign, all) = (&self.campaign, self.migrations.len());
        let brought = self.count(Outcome::BroughtBack);
        if brought > 0 {
            text.push_str(&format!("{campaign}: {brought} of {all} migrations are brought back\n"));
            if back == 0 {
                return text;
            }
        }
        text.push_str(&format!("{campaign}: {back} of {all} migrations are taken back\n"));
        text
    }

    fn count(&self, outcome: Outcome) -> usize {
        self.migrations.iter().filter(|row| row.outcome == outcome).count()
    }
}

/// One table or object, and how many rows of it.
fn of_lost(one: &Lost) -> String {
    let Lost { object, change, rows_then, rows_now, rows_lost } = one;
    let number = |rows: &Option<u64>| rows.map_or("none".to_owned(), |rows| rows.to_string());
    let rows = match (rows_then, rows_now) {
        (None, None) => String::new(),
        (then, now) => format!(", rows then {}, now {}", number(then), number(now)),
    };
    let lost = match rows_lost {
        Some(lost) => format!(", {lost} of them only here"),
        None if rows_now.is_some() => ", nobody knows how many of them only here".to_owned(),
        None => String::new(),
    };
    format!("{object} {change}{rows}{lost}")
}
