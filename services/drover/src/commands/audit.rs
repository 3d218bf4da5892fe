//! `drover audit`: the whole history of a campaign or of one database, with times.

use std::path::Path;

use chrono::{DateTime, Utc};
use drover_bus::{From, Item, Recorded};
use drover_projector::{render, view::Filter};
use drover_schemas::{CampaignName, Code, Failure, subjects::Aggregate};
use futures::StreamExt as _;

use super::print;
use crate::{context::Context, report::Trouble};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The campaign's name.
    campaign: CampaignName,
    /// Only the database of this name, on whichever sources it was.
    #[arg(long)]
    database: Option<String>,
    /// As it was at this time (RFC 3339).
    #[arg(long, conflicts_with = "until")]
    at: Option<DateTime<Utc>>,
    /// As it was after this event.
    #[arg(long, value_name = "SEQ")]
    until: Option<u64>,
    /// One JSON document a line.
    #[arg(long)]
    json: bool,
}

pub async fn run(config: &Path, args: Args) -> Result<(), Trouble> {
    let context = Context::read(config, "audit", &args.campaign).await?;
    match &args.database {
        Some(database) => one_database(&context, &args, database).await,
        None => whole_campaign(&context, &args).await,
    }
}

async fn one_database(context: &Context, args: &Args, database: &str) -> Result<(), Trouble> {
    let filter = Filter { database: Some(database.to_owned()), ..Filter::default() };
    let rows = drover_projector::migrations(&context.bus, &args.campaign, &filter).await?;
    if rows.is_empty() {
        return Err(Failure::new(Code::MigrationUnknown, format!("database {database:?}")).into());
    }
    for row in rows {
        let aggregate = Aggregate::Migration(row.id);
        let mut history = context.bus.history(&args.campaign, aggregate).await?;
        history.retain(|recorded| args.includes(recorded));
        if args.json {
            history.iter().for_each(print_line);
        } else {
            let name = render::printable(&row.database);
            print(&format!("{name} ({}), {} to {}\n", row.id, row.source, row.destination));
            print(&render::audit(&history));
        }
    }
    Ok(())
}

async fn whole_campaign(context: &Context, args: &Args) -> Result<(), Trouble> {
    let mut items = context.bus.replay(&args.campaign, From::Start, args.until);
    while let Some(item) = items.next().await {
        match item? {
            Item::Event(recorded) if args.includes(&recorded) => {
                if args.json {
                    print_line(&recorded);
                } else {
                    print(&format!("{}\n", render::event(&recorded)));
                }
            }
            Item::Event(_) | Item::CaughtUp | Item::Resumed | Item::Undecodable { .. } => {}
        }
    }
    Ok(())
}

impl Args {
    fn includes(&self, recorded: &Recorded) -> bool {
        self.until.is_none_or(|until| recorded.sequence <= until)
            && self.at.is_none_or(|at| recorded.event.time <= at)
    }
}

fn print_line(recorded: &Recorded) {
    print(&format!("{}\n", render::json(recorded)));
}
