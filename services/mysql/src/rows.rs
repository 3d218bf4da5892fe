//! Reading tables' rows: as text, in the bytes that are stored.
//!
//! 1. `character_set_results = NULL`, so that nothing is converted on the way: what is hashed, and
//!    what is dumped, is what is stored. Times are in UTC.
//! 2. The text of a value says all of it, except a FLOAT's, which is read as a DOUBLE
//!    (`listing::Relation`). A DOUBLE's text is the shortest that gives the same number again.
//! 3. Rows of many tables come in one round trip; one row is in memory at a time.

use mysql_async::{QueryResult, Row, TextProtocol, Value, prelude::Queryable as _};

use crate::{Error, Server, Session, listing::Relation};

/// Of how many tables the rows are asked for in one packet: some kilobytes of text a table at most
/// usual widths, and far under any server's limit.
pub(crate) const TABLES_A_PACKET: usize = 100;

const DOING: &str = "reading the rows";

/// The rows of some tables, one table after the other.
pub(crate) struct Reader<'a> {
    server: Server,
    result: QueryResult<'a, 'static, TextProtocol>,
}

impl<'a> Reader<'a> {
    /// Asks for the rows. The session keeps `character_set_results = NULL`.
    pub(crate) async fn start(
        session: &'a mut Session,
        tables: &[(&String, &Relation)],
    ) -> Result<Self, Error> {
        let server = session.server().clone();
        let mut sql = String::from("SET SESSION character_set_results = NULL");
        for (name, relation) in tables {
            sql.push(';');
            sql.push_str(&relation.select(name));
        }
        let failed = |e| server.statement_error(DOING, &e);
        let mut result = session.conn().query_iter(sql).await.map_err(failed)?;
        // The answer of SET: no rows.
        let none: Vec<Row> = result.collect().await.map_err(failed)?;
        debug_assert!(none.is_empty(), "SET has no rows");
        Ok(Self { server, result })
    }

    /// The next row of the present table; none at its end, after which the next table's come.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<Value>>, Error> {
        let row = self.result.next().await;
        Ok(row.map_err(|e| self.server.statement_error(DOING, &e))?.map(Row::unwrap))
    }
}
