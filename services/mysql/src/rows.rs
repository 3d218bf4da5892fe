//! Reading tables' rows: as text, in the bytes that are stored.
//!
//! 1. `character_set_results = NULL`, so that nothing is converted on the way: what is hashed, and
//!    what is dumped, is what is stored. Times are in UTC.
//! 2. The text of a value says all of it, except a FLOAT's, which is read as a DOUBLE
//!    (`listing::Relation`). A DOUBLE's text is the shortest that gives the same number again.
//! 3. Rows of many tables come in one round trip; one row is in memory at a time, and one that is too
//!    long for that comes behind the others, in pieces ([`long`]).

use std::collections::BTreeMap;

use mysql_async::{QueryResult, Row, TextProtocol, Value, prelude::Queryable as _};

use crate::{
    Error, Server, Session,
    digest::Digest,
    ident::ident,
    listing::Relation,
    long::{self, Left},
    slices::Part,
};

const DOING: &str = "reading the rows";

/// The digests of tables' rows, by table.
pub(crate) type Digests = BTreeMap<String, Digest>;

/// Adds the digests of some tables' parts to those of others.
pub(crate) fn merge(digests: &mut Digests, more: Digests) {
    for (name, digest) in more {
        digests.entry(name).or_default().merge(digest);
    }
}

/// Where rows go as they are read: one table after the other.
pub(crate) trait Sink: Send {
    /// The rows that follow are this table's.
    fn begin(&mut self, table: &str, relation: &Relation);
    /// A row; the digest of all that came since the beginning, with this one.
    fn row(
        &mut self,
        row: Vec<Value>,
        so_far: Digest,
    ) -> impl Future<Output = Result<(), Error>> + Send;
    /// A long row stands here, which comes later.
    fn gap(&mut self) -> impl Future<Output = Result<(), Error>> + Send {
        async { Ok(()) }
    }
    /// The next piece of a long row, of its value in this column; the row as far as it is short.
    fn piece(
        &mut self,
        _column: usize,
        _piece: Vec<u8>,
        _row: &[Value],
    ) -> impl Future<Output = Result<(), Error>> + Send {
        async { Ok(()) }
    }
    /// All pieces of a long row have come; the same row again, with NULL for what came in pieces.
    fn long(
        &mut self,
        row: Vec<Value>,
        so_far: Digest,
    ) -> impl Future<Output = Result<(), Error>> + Send {
        self.row(row, so_far)
    }
    /// The table's rows, or as many as were asked for, have come.
    fn end(&mut self) -> impl Future<Output = Result<(), Error>> + Send;
}

/// Reads a part. The session has the database selected, and keeps `character_set_results = NULL`.
pub(crate) async fn read(
    session: &mut Session,
    part: &Part,
    digests: &mut Digests,
    sink: &mut impl Sink,
) -> Result<(), Error> {
    let mut left_out = Vec::new();
    let mut reader = Reader::start(session, "character_set_results = NULL", &part.select()).await?;
    for (name, relation) in &part.tables {
        sink.begin(name, relation);
        let (mut digest, mut left) = (Digest::default(), Left::default());
        let may_be_long = relation.may_have_long_rows();
        while let Some(mut row) = reader.next().await? {
            if may_be_long && long::is_left_out(&mut row) {
                left.add(relation, &row);
                sink.gap().await?;
            } else {
                digest.add(&row);
                sink.row(row, digest).await?;
            }
        }
        sink.end().await?;
        digests.entry(name.clone()).or_default().merge(digest);
        if !left.is_empty() {
            left_out.push((name, relation, left));
        }
    }
    drop(reader);
    for (name, relation, left) in left_out {
        sink.begin(name, relation);
        let digest = long::read(session, (name, relation), (&part.condition, left), sink).await?;
        sink.end().await?;
        digests.entry(name.clone()).or_default().merge(digest);
    }
    Ok(())
}

/// A session that reads rows only.
pub(crate) async fn session(
    server: &Server,
    database: &str,
    begin: &str,
) -> Result<Session, Error> {
    let mut session = server.session().await?;
    session.run(DOING, &format!("{begin}; USE {}", ident(database))).await?;
    Ok(session)
}

/// Digests only.
pub(crate) struct Nowhere;

impl Sink for Nowhere {
    fn begin(&mut self, _: &str, _: &Relation) {}

    async fn row(&mut self, _: Vec<Value>, _: Digest) -> Result<(), Error> {
        Ok(())
    }

    async fn end(&mut self) -> Result<(), Error> {
        Ok(())
    }
}

/// The answers of some queries, one after the other.
pub(crate) struct Reader<'a> {
    server: Server,
    result: QueryResult<'a, 'static, TextProtocol>,
}

impl<'a> Reader<'a> {
    /// Asks, under these settings, which the session keeps.
    pub(crate) async fn start(
        session: &'a mut Session,
        settings: &str,
        selects: &str,
    ) -> Result<Self, Error> {
        let server = session.server().clone();
        let failed = |e| server.statement_error(DOING, &e);
        let sql = format!("SET SESSION {settings}; {selects}");
        let mut result = session.conn().query_iter(sql).await.map_err(failed)?;
        // The answer of SET: no rows.
        let none: Vec<Row> = result.collect().await.map_err(failed)?;
        debug_assert!(none.is_empty(), "SET has no rows");
        Ok(Self { server, result })
    }

    /// The next row of the present answer; none at its end, after which the next one's come.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<Value>>, Error> {
        let row = self.result.next().await;
        Ok(row.map_err(|e| self.server.statement_error(DOING, &e))?.map(Row::unwrap))
    }

    /// The failure of an answer that is not what was asked for.
    pub(crate) fn unexpected(&self, what: &str) -> Error {
        let server = self.server.name().to_string();
        Error::Unexpected { server, doing: DOING, what: what.to_owned() }
    }
}
