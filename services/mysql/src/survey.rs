//! What a server's ledger holds of a campaign, read without a lock and without changing anything.
//!
//! For holding the event log against it. Each row has the order that acted last, with what the
//! history said when it was decided, and what the step found.

use std::fmt::Write as _;

use drover_lifecycle::ledger::{Side, State};
use drover_schemas::{
    CampaignName, MigrationId,
    v1::{
        BringBackRequested, DestinationOpened, Job, SourceDisarmed, SourceFrozen, SourceRetired,
        migration_event::Event,
    },
};
use prost::Message as _;

use crate::{Error, Server, aside, freeze, ident::literal, ledger::is_missing, open};

/// A row of the ledger.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// The migration.
    pub migration: MigrationId,
    /// At which end of the move.
    pub side: Side,
    /// The database.
    pub database: String,
    /// What was begun or done last.
    pub state: State,
    /// The highest revision that acted.
    pub revision: u64,
    /// The run that acted last.
    pub run: u32,
    /// The order that acted last, where it can be read.
    pub order: Option<Job>,
    /// The events of the steps whose findings are here.
    pub tells: Vec<Event>,
}

type Read = (String, String, String, String, u64, u32, String, Vec<u8>);

/// The rows of a campaign; none where the server has no ledger.
///
/// # Errors
/// The server's; and a row that this version cannot read.
pub async fn survey(server: &Server, campaign: &CampaignName) -> Result<Vec<Row>, Error> {
    let doing = "reading the ledger";
    let mut session = server.session().await?;
    let sql = format!(
        "SELECT migration, side, database_name, state, revision, run, facts, job \
         FROM drover.ledger WHERE campaign = {}",
        literal(campaign.as_str())
    );
    let rows: Vec<Read> = match session.rows(doing, &sql).await {
        Err(error) if is_missing(&error) => Vec::new(),
        other => other?,
    };
    let unread = || session_unread(server);
    let rows: Result<Vec<Row>, Error> =
        rows.into_iter().map(|read| row(read).ok_or_else(unread)).collect();
    let mut rows = rows?;
    for row in rows.iter_mut().filter(|row| row.state == State::Aside) {
        if let Some((campaign, migration_id)) = aside::taker(&mut session, row.migration).await? {
            let (by, reason) = ("unknown".to_owned(), "as the ledger tells".to_owned());
            let asked = BringBackRequested { by, reason, campaign, migration_id };
            row.tells.push(Event::BringBackRequested(asked));
        }
    }
    session.end().await?;
    Ok(rows)
}

fn session_unread(server: &Server) -> Error {
    server.found(
        drover_schemas::Code::ServerRefused,
        "the ledger has a row that this version cannot read".to_owned(),
    )
}

fn row(read: Read) -> Option<Row> {
    let (migration, side, database, state, revision, run, facts, job) = read;
    let state = State::read(&state)?;
    let sides = [Side::Source, Side::Destination];
    Some(Row {
        migration: migration.parse().ok()?,
        side: sides.into_iter().find(|known| known.name() == side)?,
        database,
        state,
        revision,
        run,
        order: Job::decode(job.as_slice()).ok().filter(|job| job.planned.is_some()),
        tells: told(state, &facts),
    })
}

/// What a step found, as its event.
fn told(state: State, facts: &str) -> Vec<Event> {
    let frozen = || serde_json::from_str::<freeze::Facts>(facts).ok();
    match state {
        State::Frozen => {
            frozen().map(|facts| Event::SourceFrozen(facts.into())).into_iter().collect()
        }
        State::Disarmed => frozen()
            .map(|facts| {
                let disarmed_at_unix_ms = facts.disarmed_at_unix_ms;
                let disarmed =
                    Event::SourceDisarmed(SourceDisarmed { disarmed_at_unix_ms, took_us: 0 });
                vec![Event::SourceFrozen(SourceFrozen::from(facts)), disarmed]
            })
            .unwrap_or_default(),
        State::Retired | State::Aside => serde_json::from_str(facts)
            .map(|accounts| vec![Event::SourceRetired(SourceRetired { accounts })])
            .unwrap_or_default(),
        State::Open => serde_json::from_str::<open::Facts>(facts)
            .map(|facts| vec![Event::DestinationOpened(DestinationOpened::from(facts))])
            .unwrap_or_default(),
        State::Freezing
        | State::Lapsing
        | State::Lapsed
        | State::Thawing
        | State::Thawed
        | State::Retiring
        | State::Importing
        | State::Imported
        | State::Opening
        | State::Closing
        | State::Closed
        | State::Dropping
        | State::Dropped => Vec::new(),
    }
}

/// Bytes as a statement's hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a text does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
