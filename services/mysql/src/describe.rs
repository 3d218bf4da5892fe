//! Reading what a database is ([`Description`]): at the destination to compare it, and as a part
//! of dumping it.
//!
//! Few round trips, as most databases are small: one for the lists, one for every hundred
//! definitions, one for the rows of every hundred tables.

use std::collections::BTreeMap;

use drover_schemas::Code;

use crate::{
    Error, Server, Session,
    digest::Digest,
    ident::ident,
    listing::{Lists, Relation, ask, definition, text},
    normal::normalise_table,
    rows,
    schema::{Description, Kind, Object, Table},
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
    let mut digests = BTreeMap::new();
    let tables: Vec<(&String, &Relation)> = found.lists.tables.iter().collect();
    for some in tables.chunks(rows::TABLES_A_PACKET) {
        let mut reader = rows::Reader::start(session, some).await?;
        for (name, _) in some {
            let mut digest = Digest::default();
            while let Some(row) = reader.next().await? {
                digest.add(&row);
            }
            digests.insert((*name).clone(), digest);
        }
    }
    session.run("describing", "SET SESSION character_set_results = 'utf8mb4'").await?;
    Ok(found.description(&digests))
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
    pub(crate) fn description(self, digests: &BTreeMap<String, Digest>) -> Description {
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
    let select = format!(
        "SET SESSION sql_quote_show_create = 1, character_set_results = 'utf8mb4'; USE {}",
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
    let doing = "reading the definitions";
    // Of the selected database's views the server leaves the name out at some places and not at
    // others, which depends on what it has opened before.
    session.run(doing, "USE information_schema").await?;
    let answers = ask(session, doing, &shows).await?;
    session.run(doing, &format!("USE {database}")).await?;
    for ((kind, name), rows) in lists.others.iter().zip(answers) {
        let definition = rows.first().map(|row| definition(row, 1)).unwrap_or_default();
        objects.push(Object { kind: *kind, name: name.clone(), definition });
    }
    positions(session, &mut objects).await?;
    objects.sort_by(|a, b| (a.kind, &a.name).cmp(&(b.kind, &b.name)));
    Ok(objects)
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
