//! Foreign keys that go from one database to another.

use crate::{
    Error, Flavour, Session,
    ident::{ident, literals},
    questions::Question,
};

/// A foreign key to another database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ForeignKey {
    /// Whose it is.
    pub database: String,
    /// Of which table.
    pub table: String,
    /// Where it points to.
    pub other: String,
    /// Whether a change there changes rows here.
    pub cascades: bool,
}

impl ForeignKey {
    /// The database and what to say of it, where rows here follow changes there.
    pub(crate) fn follows(&self) -> Option<(String, String)> {
        let (table, other) = (ident(&self.table), ident(&self.other));
        let what = format!("a foreign key of {table} follows changes in {other}");
        self.cascades.then(|| (self.database.clone(), what))
    }
}

/// The foreign keys of these databases to others.
pub(crate) async fn foreign_keys(
    session: &mut Session,
    databases: &[&str],
) -> Result<Vec<ForeignKey>, Error> {
    match session.ask(any_keys(session.about().flavour)).await?.is_empty() {
        true => Ok(Vec::new()),
        false => keys_of(session, databases).await,
    }
}

/// Hardly any server has a foreign key between databases, and InnoDB's own list says so at once;
/// the other view opens every table of the database.
pub(crate) fn any_keys(flavour: Flavour) -> Question<String> {
    let list = match flavour {
        Flavour::MariaDb => "INNODB_SYS_FOREIGN",
        Flavour::MySql => "INNODB_FOREIGN",
    };
    let sql = format!(
        "SELECT FOR_NAME FROM information_schema.{list} \
         WHERE SUBSTRING_INDEX(FOR_NAME, '/', 1) <> SUBSTRING_INDEX(REF_NAME, '/', 1) LIMIT 1"
    );
    Question::new("reading the foreign keys", sql)
}

/// The foreign keys of these databases to others, where there may be some.
pub(crate) async fn keys_of(
    session: &mut Session,
    databases: &[&str],
) -> Result<Vec<ForeignKey>, Error> {
    let sql = format!(
        "SELECT CONSTRAINT_SCHEMA, TABLE_NAME, UNIQUE_CONSTRAINT_SCHEMA, \
         UPDATE_RULE NOT IN ('RESTRICT', 'NO ACTION') \
         OR DELETE_RULE NOT IN ('RESTRICT', 'NO ACTION') \
         FROM information_schema.REFERENTIAL_CONSTRAINTS WHERE CONSTRAINT_SCHEMA IN ({}) \
         AND UNIQUE_CONSTRAINT_SCHEMA <> CONSTRAINT_SCHEMA",
        literals(databases.iter().copied())
    );
    let found: Vec<(String, String, String, bool)> =
        session.rows("reading the foreign keys", &sql).await?;
    let key = |(database, table, other, cascades)| ForeignKey { database, table, other, cascades };
    Ok(found.into_iter().map(key).collect())
}
