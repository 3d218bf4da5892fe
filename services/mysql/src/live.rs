//! Reading the rows of a source that goes on being written to, as a rehearsal does: as they are at one
//! moment, and so that nobody waits for it.
//!
//! 1. One session reads all rows, in one snapshot; others would have other snapshots. It is begun
//!    before anything else is read, so that no definition is older than the rows.
//! 2. A session holds each table that it has read until its transaction ends; a customer's ALTER TABLE
//!    would wait for that, and everybody behind it. Going back to a savepoint lets them go and leaves
//!    the snapshot as it is, but only where every engine that took part allows it: Aria, in which
//!    MariaDB keeps its own tables, does not, nor does the binary log (10.11). So this session has
//!    none, and reads rows and nothing else; a customer's tables in Aria are held to the end.
//! 3. The other session, which reads the rest, is in no transaction.

use std::collections::BTreeMap;

use tokio::io::AsyncWrite;

use crate::{
    Error, Order, Session,
    frames::Writer,
    listing::Relation,
    momentary,
    rows::{self, Digests},
    slices::{self, Part},
    table_rows::Rows,
    team::words,
};

/// The session that reads rows, at its moment.
pub(crate) struct Live {
    session: Session,
}

impl Live {
    /// Begins; `snapshot` are the statements that begin the reading transaction.
    pub(crate) async fn begin(
        beside: &Session,
        order: &Order,
        snapshot: &str,
    ) -> Result<Self, Error> {
        // An engine that knows no savepoints takes none once it takes part: it comes first.
        let begin = format!("SET SESSION sql_log_bin = 0; {snapshot}; SAVEPOINT drover");
        let session = rows::session(beside.server(), &order.database, &begin).await?;
        Ok(Self { session })
    }

    /// Writes the rows of all tables, and hashes them. Large ones are let go one by one. `beside` says a
    /// word now and then, as the server would end it otherwise.
    pub(crate) async fn rows<W: AsyncWrite + Unpin + Send>(
        mut self,
        beside: &mut Session,
        tables: &BTreeMap<String, Relation>,
        writer: &mut Writer<'_, W>,
    ) -> Result<Digests, Error> {
        let parts: Vec<Part> = if slices::are_large(tables) {
            tables.iter().flat_map(|table| slices::packets(vec![table])).collect()
        } else {
            slices::packets(tables.iter().collect()).into()
        };
        let (mut digests, mut words) = (Digests::new(), words());
        momentary::write(&mut self.session, tables, writer).await?;
        for part in parts {
            {
                let mut to = Rows::new(writer);
                let reading = rows::read(&mut self.session, &part, &mut digests, &mut to);
                tokio::pin!(reading);
                loop {
                    tokio::select! {
                        read = &mut reading => break read?,
                        _ = words.tick() => beside.run("waiting for rows", "DO 1").await?,
                    }
                }
            }
            self.session.run("letting tables go", "ROLLBACK TO SAVEPOINT drover").await?;
        }
        self.session.end().await?;
        Ok(digests)
    }
}
