//! Reading what a database is ([`Description`]): at the destination to compare it, and as a part
//! of dumping it.
//!
//! Few round trips, as most databases are small: one for the lists, one for every hundred
//! definitions, one for the rows of every hundred tables.

use std::{collections::BTreeMap, sync::Arc};

use drover_schemas::Code;

use crate::{
    Error, Flavour, Server, Session,
    ident::ident,
    listing::{Lists, Relation, ask, definition, text},
    normal::normalise_table,
    rows::{self, Digests, merge},
    schema::{Description, Kind, Object, Table},
    slices::{self, SIDE_BY_SIDE_MAX},
    team::{Team, words},
};

/// No such database.
const NO_DATABASE: u16 = 1049;

/// Describes a database, on a session of its own.
///
/// # Errors
/// `DatabaseMissing`; otherwise what a server may answer.
pub async fn describe(server: &Server, database: &str) -> Result<Description, Error> {
    let mut session = server.session().await?;
    let description = describe_in(&mut session, database).await?;
    session.end().await?;
    Ok(description)
}

/// Describes a database on a session, which then has it selected.
pub(crate) async fn describe_in(
    session: &mut Session,
    database: &str,
) -> Result<Description, Error> {
    let found = Found::read(session, database).await?;
    let tables = &found.lists.tables;
    let digests = if slices::are_large(tables) {
        side_by_side(session, database, tables).await?
    } else {
        let mut digests = Digests::new();
        for part in slices::packets(tables.iter().collect()) {
            rows::read(session, &part, &mut digests, &mut rows::Nowhere).await?;
        }
        digests
    };
    session.run("describing", "SET SESSION character_set_results = 'utf8mb4'").await?;
    Ok(found.description(&digests))
}

/// The digests of a large database's rows, which nobody changes meanwhile, on several sessions.
async fn side_by_side(
    session: &mut Session,
    database: &str,
    tables: &BTreeMap<String, Relation>,
) -> Result<Digests, Error> {
    let queue = Arc::new(slices::queue(session, tables).await?);
    let mut team = Team::default();
    for _ in 0..SIDE_BY_SIDE_MAX {
        let (server, database) = (session.server().clone(), database.to_owned());
        let queue = queue.clone();
        team.spawn(async move {
            let mut session = rows::session(&server, &database, "DO 1").await?;
            let (mut digests, mut done) = (Digests::new(), None);
            while let Some((at, part)) = queue.next(done) {
                rows::read(&mut session, &part, &mut digests, &mut rows::Nowhere).await?;
                done = Some(at);
            }
            session.end().await?;
            Ok(digests)
        });
    }
    let (mut digests, mut words) = (Digests::new(), words());
    while !team.is_empty() {
        tokio::select! {
            ended = team.next() => merge(&mut digests, ended?),
            _ = words.tick() => session.run("holding the lock", "DO 1").await?,
        }
    }
    Ok(digests)
}

/// What was found in a database, but for its rows.
pub(crate) struct Found {
    /// What there is.
    pub lists: Lists,
    /// The tables' definitions as the server prints them, by name.
    pub tables: BTreeMap<String, String>,
    /// Everything else, for the comparison.
    pub objects: Vec<Object>,
}

impl Found {
    /// Selects the database and reads all but its rows.
    pub(crate) async fn read(session: &mut Session, database: &str) -> Result<Self, Error> {
        select(session, database).await?;
        let lists = Lists::read(session, database).await?;
        let doing = "reading the definitions";
        let names: Vec<&String> = lists.tables.keys().collect();
        let shows: Vec<String> =
            names.iter().map(|name| format!("SHOW CREATE TABLE {}", ident(name))).collect();
        let mut tables = BTreeMap::new();
        for (name, rows) in names.iter().zip(ask(session, doing, &shows).await?) {
            let definition = rows.first().map(|row| text(row, 1)).unwrap_or_default();
            tables.insert((*name).clone(), definition);
        }
        let objects = objects(session, database, &lists).await?;
        Ok(Self { lists, tables, objects })
    }

    /// All that was found, with the digests of the rows.
    pub(crate) fn description(self, digests: &Digests) -> Description {
        let Self { lists, mut tables, objects } = self;
        let table = |(name, relation): (String, Relation)| {
            let definition = tables.remove(&name).unwrap_or_default();
            let digest = digests.get(&name).copied().unwrap_or_default();
            let table = Table {
                definition: normalise_table(&definition),
                rows: digest.rows(),
                digest: digest.text(),
                system_versioned: relation.system_versioned,
            };
            (name, table)
        };
        Description {
            server_version: lists.server_version,
            defaults: lists.defaults,
            tables: lists.tables.into_iter().map(table).collect(),
            objects,
        }
    }
}

async fn select(session: &mut Session, database: &str) -> Result<(), Error> {
    session.has_selected();
    let options = match session.about().flavour {
        // Else MariaDB prints options that no engine knows in comments, from which nobody makes them.
        Flavour::MariaDb => ", sql_mode = CONCAT(@@sql_mode, ',IGNORE_BAD_TABLE_OPTIONS')",
        Flavour::MySql => "",
    };
    let select = format!(
        "SET SESSION sql_quote_show_create = 1, character_set_results = 'utf8mb4'{options}; USE {}",
        ident(database)
    );
    session.run("selecting the database", &select).await.map_err(|error| match error.number() {
        Some(NO_DATABASE) => session
            .server()
            .found(Code::DatabaseMissing, format!("there is no database {}", ident(database))),
        _ => error,
    })
}

async fn objects(
    session: &mut Session,
    database: &str,
    lists: &Lists,
) -> Result<Vec<Object>, Error> {
    let database = ident(database);
    let shows: Vec<String> = lists
        .others
        .iter()
        .map(|(kind, name)| format!("SHOW CREATE {} {database}.{}", kind.word(), ident(name)))
        .collect();
    let mut objects = lists.defined.clone();
    if !shows.is_empty() {
        more_objects(session, &database, lists, &shows, &mut objects).await?;
    }
    objects.sort_by(|a, b| (a.kind, &a.name).cmp(&(b.kind, &b.name)));
    Ok(objects)
}

async fn more_objects(
    session: &mut Session,
    database: &str,
    lists: &Lists,
    shows: &[String],
    objects: &mut Vec<Object>,
) -> Result<(), Error> {
    let doing = "reading the definitions";
    // Of the selected database's views the server leaves the name out at some places and not at
    // others, which depends on what it has opened before.
    session.run(doing, "USE information_schema").await?;
    let answers = ask(session, doing, shows).await?;
    session.run(doing, &format!("USE {database}")).await?;
    for ((kind, name), rows) in lists.others.iter().zip(answers) {
        let definition = rows.first().map(|row| definition(row, 1)).unwrap_or_default();
        objects.push(Object { kind: *kind, name: name.clone(), definition });
    }
    positions(session, objects).await
}

/// A sequence's position is part of what it is.
async fn positions(session: &mut Session, objects: &mut [Object]) -> Result<(), Error> {
    let mut sequences: Vec<&mut Object> =
        objects.iter_mut().filter(|object| object.kind == Kind::Sequence).collect();
    let asks: Vec<String> = sequences
        .iter()
        .map(|object| {
            format!("SELECT next_not_cached_value, cycle_count FROM {}", ident(&object.name))
        })
        .collect();
    let answers = ask(session, "reading the sequences", &asks).await?;
    for (object, rows) in sequences.iter_mut().zip(answers) {
        let (position, round) =
            rows.first().map(|row| (text(row, 0), text(row, 1))).unwrap_or_default();
        object.definition.push_str(&format!("position: {position}\nround: {round}\n"));
    }
    Ok(())
}
