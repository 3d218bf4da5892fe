//! History that lasted for no time: a row of a system-versioned table that came and went in one moment
//! (`row_start` = `row_end`), as triggers, functions and cascades make it, in which the time stands still.
//!
//! MariaDB refuses it in an INSERT (error 1525), so it is made again as it was made: at its time, which
//! `SET timestamp` gives, the row is inserted and deleted. That is done in front of the table's other
//! rows, when nothing else is there to be deleted.

use std::collections::BTreeMap;

use mysql_async::Value;

use crate::{
    Error, Session,
    digest::Digest,
    ident::ident,
    insert::{Insert, forget, piece, quoted},
    listing::Relation,
    rows::{self, Digests, Sink},
    slices::Part,
    table_rows::{FRAME_BYTES_MIN, Ship, refused},
};

/// Half a microsecond, in seconds: `timestamp` is a binary fraction, of which the server cuts off what is
/// less than a microsecond (`hrtime_from_time` in MariaDB's `my_time.h`).
const HALF_A_MICROSECOND: &str = "0.0000005";

/// Where the two columns of a system-versioned table's period stand; none: it keeps no history.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Period {
    /// Since when a row was there.
    pub start: Option<usize>,
    /// Until when.
    pub end: Option<usize>,
}

impl Period {
    /// Whether this row is history that lasted for no time.
    pub(crate) fn is_momentary(self, row: &[Value]) -> bool {
        let time = |at: Option<usize>| at.and_then(|at| row.get(at));
        time(self.start).is_some_and(|start| time(self.end) == Some(start))
    }

    /// The columns' names, quoted.
    fn names(self, relation: &Relation) -> Option<[String; 2]> {
        let name = |at: Option<usize>| Some(ident(&relation.columns.get(at?)?.name));
        Some([name(self.start)?, name(self.end)?])
    }
}

/// Writes what makes such rows of these tables again. They count with the others: no digest is taken.
///
/// # Errors
/// `DumpRefused` for a number that is none; what a server may answer.
pub(crate) async fn write(
    session: &mut Session,
    tables: &BTreeMap<String, Relation>,
    ship: &mut impl Ship,
) -> Result<(), Error> {
    for (name, relation) in tables {
        let Some([start, end]) = relation.period.names(relation) else { continue };
        let part = Part { condition: format!("{start} = {end}"), ..Part::whole(name, relation) };
        let mut moments = Moments { ship, table: None };
        rows::read(session, &part, &mut Digests::new(), &mut moments).await?;
    }
    Ok(())
}

struct Moments<'s, S> {
    ship: &'s mut S,
    table: Option<Table>,
}

struct Table {
    name: String,
    insert: Insert,
    start: usize,
    /// Of a long row the pieces that are written: of which column each is.
    pieces: Vec<usize>,
}

impl<S: Ship> Sink for Moments<'_, S> {
    fn begin(&mut self, table: &str, relation: &Relation) {
        let Period { start, end } = relation.period;
        let mut relation = relation.clone();
        for (at, column) in relation.columns.iter_mut().enumerate() {
            column.written &= Some(at) != start && Some(at) != end;
        }
        let insert = Insert::new(table, &relation);
        let name = table.to_owned();
        self.table = start.map(|start| Table { name, insert, start, pieces: Vec::new() });
    }

    async fn row(&mut self, row: Vec<Value>, _: Digest) -> Result<(), Error> {
        let Some(table) = &mut self.table else { return Ok(()) };
        let Some(Value::Bytes(time)) = row.get(table.start) else { return Ok(()) };
        let mut at = b"SET timestamp = UNIX_TIMESTAMP(".to_vec();
        quoted(time, &mut at);
        at.extend_from_slice(format!(") + {HALF_A_MICROSECOND}").as_bytes());
        let pieces = std::mem::take(&mut table.pieces);
        let own_head = table.insert.own_head(&row);
        let mut insert = own_head.unwrap_or_else(|| table.insert.head().to_vec());
        let written = table.insert.row(&row, &pieces, &mut insert);
        written.map_err(|what| refused(self.ship.server(), &table.name, what))?;
        let draft = self.ship.draft();
        draft.statement(&at);
        draft.statement(&insert);
        draft.statement(format!("DELETE FROM {}", ident(&table.name)).as_bytes());
        if !pieces.is_empty() {
            draft.statement(forget(pieces.len()).as_bytes());
        }
        self.end_frame_if_large().await
    }

    async fn piece(&mut self, column: usize, bytes: Vec<u8>, _: &[Value]) -> Result<(), Error> {
        let says = |table: &&mut Table| table.insert.says(column);
        let Some(table) = self.table.as_mut().filter(says) else { return Ok(()) };
        let draft = self.ship.draft();
        let began = draft.statement_begins();
        piece(table.pieces.len(), &bytes, draft.text());
        draft.statement_ends(began);
        table.pieces.push(column);
        self.end_frame_if_large().await
    }

    async fn end(&mut self) -> Result<(), Error> {
        if self.ship.draft().statement_begins() > 0 {
            self.end_frame().await?;
        }
        self.table = None;
        Ok(())
    }
}

impl<S: Ship> Moments<'_, S> {
    async fn end_frame_if_large(&mut self) -> Result<(), Error> {
        match self.ship.draft().statement_begins() >= FRAME_BYTES_MIN {
            true => self.end_frame().await,
            false => Ok(()),
        }
    }

    async fn end_frame(&mut self) -> Result<(), Error> {
        let Some(table) = &self.table else { return Ok(()) };
        self.ship.draft().statement(b"SET timestamp = DEFAULT");
        self.ship.ship(&table.name, None).await
    }
}
