//! Rows on their way into a dump: as INSERTs, in frames, with the range of keys of each.

use mysql_async::Value;
use tokio::{io::AsyncWrite, sync::mpsc};

use drover_schemas::Code;

use crate::{
    Error, Server,
    digest::Digest,
    draft::{Draft, Packed},
    frames::{FrameKind, KeyRange, Writer, writing},
    ident::ident,
    insert::{Insert, forget, piece},
    listing::Relation,
    long::number,
    momentary::Period,
    rows::Sink,
};

/// When an INSERT has at least this size it ends, in bytes: far under the smallest usual limit
/// (16 MB), and large enough that nothing is left to win. Whoever loads it holds it three times: as text,
/// as a packet, and on its way.
const INSERT_BYTES_MIN: usize = 512 << 10;

/// When a frame of rows has at least this size it ends, in bytes: each of the sessions that read side
/// by side has one, with its compressed form.
pub(crate) const FRAME_BYTES_MIN: usize = 2 << 20;

/// After a table of at least this size there is a COMMIT, in bytes. Small databases have one in all:
/// each costs the destination two flushes to its disk.
const COMMIT_BYTES_MIN: u64 = 16 << 20;

/// Where frames are made, and where they go.
pub(crate) trait Ship: Send {
    /// The server that the rows are of.
    fn server(&self) -> &Server;
    /// The frame that is being made.
    fn draft(&mut self) -> &mut Draft;
    /// Ends it, and takes it on.
    fn ship(
        &mut self,
        name: &str,
        keys: Option<KeyRange>,
    ) -> impl Future<Output = Result<(), Error>> + Send;
}

impl<W: AsyncWrite + Unpin + Send> Ship for Writer<'_, W> {
    fn server(&self) -> &Server {
        self.server()
    }

    fn draft(&mut self) -> &mut Draft {
        self.draft()
    }

    async fn ship(&mut self, name: &str, keys: Option<KeyRange>) -> Result<(), Error> {
        let packed = self.draft().pack(FrameKind::Rows, name, keys).await;
        let packed = packed.map_err(|source| writing(self.server(), source))?;
        self.put(packed).await
    }
}

/// One of several that make frames for one writer.
pub(crate) struct Remote {
    /// The server.
    pub server: Server,
    /// The frame that is being made.
    pub draft: Draft,
    /// To the writer.
    pub to: mpsc::Sender<Packed>,
}

impl Ship for Remote {
    fn server(&self) -> &Server {
        &self.server
    }

    fn draft(&mut self) -> &mut Draft {
        &mut self.draft
    }

    async fn ship(&mut self, name: &str, keys: Option<KeyRange>) -> Result<(), Error> {
        let packed = self.draft.pack(FrameKind::Rows, name, keys).await;
        let packed = packed.map_err(|source| writing(&self.server, source))?;
        // Where the writer has gone, it has an error of its own to tell.
        let gone = |_| writing(&self.server, std::io::Error::other("the dump was given up"));
        self.to.send(packed).await.map_err(gone)
    }
}

/// The rows of one table after the other on their way.
pub(crate) struct Rows<'s, S> {
    ship: &'s mut S,
    table: Option<Table>,
}

struct Table {
    name: String,
    insert: Insert,
    is_written: bool,
    period: Period,
    keys: Keys,
    /// The digest of what was in the table's frames before.
    before: Digest,
    so_far: Digest,
    /// Where the statement that is being written began; none: no row is written yet.
    began: Option<usize>,
    /// Of a long row the pieces that are written: of which column each is.
    pieces: Vec<usize>,
    written_bytes: u64,
}

/// The first and the last key in a frame, as long as they come in order.
struct Keys {
    column: Option<usize>,
    first: Option<i128>,
    last: Option<i128>,
}

impl Keys {
    fn of(&self, row: &[Value]) -> Option<i128> {
        number(row.get(self.column?)?)
    }

    /// All that is in the frame is this row's.
    fn are(&mut self, row: &[Value]) {
        (self.first, self.last) = (self.of(row), self.of(row));
    }

    fn see(&mut self, row: &[Value]) {
        match self.of(row) {
            Some(key) if self.last.is_none_or(|last| last < key) => {
                self.first.get_or_insert(key);
                self.last = Some(key);
            }
            Some(_) | None => self.column = None,
        }
    }
}

impl<'s, S: Ship> Rows<'s, S> {
    pub(crate) fn new(ship: &'s mut S) -> Self {
        Self { ship, table: None }
    }
}

impl<S: Ship> Sink for Rows<'_, S> {
    fn begin(&mut self, table: &str, relation: &Relation) {
        self.table = Some(Table {
            name: table.to_owned(),
            insert: Insert::new(table, relation),
            is_written: !relation.shows_others_rows(),
            period: relation.period,
            keys: Keys { column: relation.key_column(), first: None, last: None },
            before: Digest::default(),
            so_far: Digest::default(),
            began: None,
            pieces: Vec::new(),
            written_bytes: 0,
        });
    }

    async fn row(&mut self, row: Vec<Value>, so_far: Digest) -> Result<(), Error> {
        let Some(table) = self.table.as_mut().filter(|table| table.is_written) else {
            return Ok(());
        };
        table.so_far = so_far;
        table.keys.see(&row);
        // It stands in front of the others ([`momentary`](crate::momentary)).
        if table.period.is_momentary(&row) {
            return Ok(());
        }
        let own_head = table.insert.own_head(&row);
        let stands_alone = own_head.is_some();
        if stands_alone {
            self.end_statement();
        }
        let Some(table) = &mut self.table else { return Ok(()) };
        let draft = self.ship.draft();
        let began = match table.began {
            Some(began) => {
                draft.text().extend_from_slice(b",\n");
                began
            }
            None => {
                let began = draft.statement_begins();
                let head = own_head.as_deref().unwrap_or(table.insert.head());
                draft.text().extend_from_slice(head);
                began
            }
        };
        table.began = Some(began);
        let written = table.insert.row(&row, &[], draft.text());
        drop(row);
        let bytes = draft.statement_begins();
        written.map_err(|what| refused(self.ship.server(), &table.name, what))?;
        if stands_alone || bytes - began >= INSERT_BYTES_MIN {
            self.end_statement();
            if bytes >= FRAME_BYTES_MIN {
                self.end_frame().await?;
            }
        }
        Ok(())
    }

    async fn gap(&mut self) -> Result<(), Error> {
        // So that each frame's keys lie apart from every other's.
        self.end_statement();
        match self.ship.draft().statement_begins() {
            0 => Ok(()),
            _ => self.end_frame().await,
        }
    }

    async fn piece(&mut self, column: usize, bytes: Vec<u8>, row: &[Value]) -> Result<(), Error> {
        let written = |table: &&mut Table| {
            table.is_written && table.insert.says(column) && !table.period.is_momentary(row)
        };
        let Some(table) = self.table.as_mut().filter(written) else { return Ok(()) };
        table.keys.are(row);
        let draft = self.ship.draft();
        let began = draft.statement_begins();
        piece(table.pieces.len(), &bytes, draft.text());
        draft.statement_ends(began);
        table.pieces.push(column);
        drop(bytes);
        if draft.statement_begins() >= FRAME_BYTES_MIN {
            self.end_frame().await?;
        }
        Ok(())
    }

    async fn long(&mut self, row: Vec<Value>, so_far: Digest) -> Result<(), Error> {
        let Some(table) = self.table.as_mut().filter(|table| table.is_written) else {
            return Ok(());
        };
        table.so_far = so_far;
        table.keys.are(&row);
        if table.period.is_momentary(&row) {
            return Ok(());
        }
        let pieces = std::mem::take(&mut table.pieces);
        let own_head = table.insert.own_head(&row);
        let draft = self.ship.draft();
        let began = draft.statement_begins();
        draft.text().extend_from_slice(own_head.as_deref().unwrap_or(table.insert.head()));
        let written = table.insert.row(&row, &pieces, draft.text());
        draft.statement_ends(began);
        if !pieces.is_empty() {
            draft.statement(forget(pieces.len()).as_bytes());
        }
        written.map_err(|what| refused(self.ship.server(), &table.name, what))?;
        self.end_frame().await
    }

    async fn end(&mut self) -> Result<(), Error> {
        self.end_statement();
        let draft = self.ship.draft();
        let bytes = draft.statement_begins() as u64;
        let Some(table) = &self.table else { return Ok(()) };
        if table.written_bytes + bytes >= COMMIT_BYTES_MIN {
            draft.statement(b"COMMIT");
        }
        if bytes > 0 && table.so_far.rows() > 0 {
            self.end_frame().await?;
        }
        self.table = None;
        Ok(())
    }
}

/// What cannot be written of a table.
pub(crate) fn refused(server: &Server, table: &str, what: &str) -> Error {
    server.found(Code::DumpRefused, format!("TABLE {}: {what}", ident(table)))
}

impl<S: Ship> Rows<'_, S> {
    fn end_statement(&mut self) {
        if let Some(began) = self.table.as_mut().and_then(|table| table.began.take()) {
            self.ship.draft().statement_ends(began);
        }
    }

    async fn end_frame(&mut self) -> Result<(), Error> {
        let Some(table) = &mut self.table else { return Ok(()) };
        table.written_bytes += self.ship.draft().statement_begins() as u64;
        let digest = table.so_far.without(table.before);
        table.before = table.so_far;
        let keys = match (table.keys.column, table.keys.first.take(), table.keys.last) {
            (Some(_), Some(first), Some(last)) => Some(KeyRange {
                first: first.to_string(),
                last: last.to_string(),
                rows: digest.rows(),
                digest: digest.text(),
            }),
            _ => None,
        };
        self.ship.ship(&table.name, keys).await
    }
}
