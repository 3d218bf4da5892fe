//! The dump as an object: zstd frames (or gzip members), one behind the other, each of which can be
//! read by itself.
//!
//! The frames' text, in order, is what the stock client takes. Drover's own import does not read
//! SQL: the manifest says for each frame which bytes of its text are a statement, and what stands
//! between them (`DELIMITER`, comments) is for the stock client only. So no name and no text of a
//! customer's can be taken for the end of a statement.

use std::{cell::RefCell, io::Read as _};

use drover_schemas::Code;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncWrite, AsyncWriteExt as _};

use crate::{
    Error, Server,
    digest::DigestText,
    draft::{Draft, Form, Packed},
};

/// From this size on a frame is compressed or unpacked on a thread of its own, in bytes: it takes
/// longer than others may be kept waiting.
const BLOCKING_BYTES_MIN: usize = 256 << 10;

/// The largest text of a frame that is unpacked, in bytes: a row of 1 GiB, the protocol's limit,
/// with every byte escaped.
const TEXT_BYTES_MAX: u64 = (2 << 30) + (16 << 20);

thread_local! {
    /// Made once a thread: to make one takes longer than to unpack a small frame.
    static UNPACKER: RefCell<Option<zstd::bulk::Decompressor<'static>>> = const { RefCell::new(None) };
}

/// What a frame is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FrameKind {
    /// The session's settings and the database's defaults.
    Prologue,
    /// A sequence, with its position.
    Sequence,
    /// A table's definition.
    Table,
    /// The settings under which rows are loaded.
    RowsBegin,
    /// Some of a table's rows.
    Rows,
    /// The secondary keys of a large table, behind its rows.
    Keys,
    /// The end of all rows.
    RowsEnd,
    /// A function, procedure, package, or package body.
    Routine,
    /// A view.
    View,
    /// A trigger.
    Trigger,
    /// A scheduled event, disabled.
    Event,
    /// For customers only: the scheduled events are enabled. The last frame.
    Trailer,
}

impl FrameKind {
    /// Whether it is rows, what is made behind them, or the settings for them.
    pub(crate) fn is_of_rows(self) -> bool {
        match self {
            Self::Prologue | Self::RowsBegin | Self::Rows | Self::Keys | Self::RowsEnd => true,
            Self::Sequence
            | Self::Table
            | Self::Routine
            | Self::View
            | Self::Trigger
            | Self::Event
            | Self::Trailer => false,
        }
    }

    /// Whether its statements hold text that a customer wrote, beyond names and values that
    /// Drover has quoted: then each must be one statement to the server too.
    pub(crate) fn holds_definitions(self) -> bool {
        match self {
            Self::Sequence
            | Self::Table
            | Self::Keys
            | Self::Routine
            | Self::View
            | Self::Trigger
            | Self::Event => true,
            Self::Prologue | Self::RowsBegin | Self::Rows | Self::RowsEnd | Self::Trailer => false,
        }
    }
}

/// One frame of a dump.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frame {
    /// What it is about.
    pub kind: FrameKind,
    /// The object's name; empty where it is about none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Where it begins in the object, in bytes.
    pub offset: u64,
    /// Its size in the object, in bytes.
    pub bytes: u64,
    /// The size of its text, in bytes.
    pub text_bytes: u64,
    /// The BLAKE3 of its bytes in the object, in hexadecimal.
    pub blake3: String,
    /// The statements in its text: for each where it begins, and its length, in bytes.
    pub statements: Vec<(u64, u64)>,
    /// Of rows that came in the order of a key of one integer column: where they lie.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys: Option<KeyRange>,
}

/// Where the rows of a frame lie, and what they are: so that a difference can be named more closely.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRange {
    /// The first row's key.
    pub first: String,
    /// The last row's key.
    pub last: String,
    /// How many rows; none: pieces of a row of this key, which stands in a later frame.
    pub rows: u64,
    /// Their digest.
    pub digest: DigestText,
}

impl Frame {
    /// Checks its stored bytes and unpacks them.
    ///
    /// # Errors
    /// What is wrong with them, in words.
    pub(crate) async fn unpack(&self, form: Form, stored: Vec<u8>) -> Result<Vec<u8>, String> {
        if blake3::hash(&stored).to_hex().as_str() != self.blake3 {
            return Err("its checksum is another".to_owned());
        }
        let length = self.text_bytes;
        if length > TEXT_BYTES_MAX {
            return Err(format!("its text of {length} bytes is too long"));
        }
        let capacity = usize::try_from(length).map_err(|e| e.to_string())?;
        let text = off_thread(capacity, move || match form {
            Form::Zstd => UNPACKER.with_borrow_mut(|unpacker| {
                let unpacker = match unpacker {
                    Some(unpacker) => unpacker,
                    None => unpacker.insert(zstd::bulk::Decompressor::new()?),
                };
                unpacker.decompress(&stored, capacity)
            }),
            Form::Gzip => {
                let mut text = Vec::with_capacity(capacity);
                // One byte more than there may be, which is then too many.
                let decoder = flate2::read::GzDecoder::new(stored.as_slice());
                decoder.take(length.saturating_add(1)).read_to_end(&mut text)?;
                Ok(text)
            }
        });
        let text = text.await.map_err(|e| format!("it cannot be unpacked: {e}"))?;
        if text.len() as u64 == length {
            Ok(text)
        } else {
            Err("its text has another length".to_owned())
        }
    }

    /// A statement of its text.
    pub(crate) fn statement<'a>(&self, text: &'a [u8], span: (u64, u64)) -> Option<&'a [u8]> {
        let start = usize::try_from(span.0).ok()?;
        let length = usize::try_from(span.1).ok()?;
        text.get(start..start.checked_add(length)?)
    }
}

/// Writes a dump, frame by frame. One frame's text is in memory at a time.
pub(crate) struct Writer<'a, W> {
    server: Server,
    to: &'a mut W,
    form: Form,
    draft: Draft,
    frames: Vec<Frame>,
    offset: u64,
}

impl<'a, W: AsyncWrite + Unpin> Writer<'a, W> {
    pub(crate) fn new(server: &Server, form: Form, to: &'a mut W) -> Result<Self, Error> {
        let draft = Draft::new(form).map_err(|source| writing(server, source))?;
        Ok(Self { server: server.clone(), to, form, draft, frames: Vec::new(), offset: 0 })
    }

    /// The server that the dump is of.
    pub(crate) fn server(&self) -> &Server {
        &self.server
    }

    /// How its frames are compressed.
    pub(crate) fn form(&self) -> Form {
        self.form
    }

    /// The frame that is being made.
    pub(crate) fn draft(&mut self) -> &mut Draft {
        &mut self.draft
    }

    /// Adds text for the stock client only.
    pub(crate) fn client(&mut self, text: &str) {
        self.draft.client(text);
    }

    /// Adds a statement, without its semicolon.
    pub(crate) fn statement(&mut self, sql: &[u8]) {
        self.draft.statement(sql);
    }

    /// Adds a statement that may hold semicolons.
    pub(crate) fn compound(&mut self, sql: &[u8]) {
        self.draft.compound(sql);
    }

    /// Ends the frame and writes it.
    pub(crate) async fn end(&mut self, kind: FrameKind, name: &str) -> Result<(), Error> {
        let packed = self.draft.pack(kind, name, None).await;
        self.put(packed.map_err(|source| writing(&self.server, source))?).await
    }

    /// Writes a frame that was made elsewhere.
    pub(crate) async fn put(&mut self, packed: Packed) -> Result<(), Error> {
        let Packed { frame, stored } = packed;
        let written = self.to.write_all(&stored).await;
        written.map_err(|source| writing(&self.server, source))?;
        let bytes = frame.bytes;
        self.frames.push(Frame { offset: self.offset, ..frame });
        self.offset += bytes;
        Ok(())
    }

    /// How many frames were written so far.
    pub(crate) fn written(&self) -> usize {
        self.frames.len()
    }

    /// The frames that were written.
    pub(crate) fn finish(self) -> Vec<Frame> {
        self.frames
    }
}

/// The failure of whoever takes the dump.
pub(crate) fn writing(server: &Server, source: std::io::Error) -> Error {
    Error::Writing { server: server.name().to_string(), source }
}

/// Runs what takes its time where it keeps nobody waiting.
pub(crate) async fn off_thread<T: Send + 'static>(
    bytes: usize,
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> std::io::Result<T> {
    if bytes < BLOCKING_BYTES_MIN {
        return work();
    }
    tokio::task::spawn_blocking(work).await.map_err(std::io::Error::other)?
}

/// Whether frames lie one behind the other from the beginning, and their statements inside them.
pub(crate) fn check(frames: &[Frame]) -> Result<(), String> {
    let mut offset = 0;
    for (i, frame) in frames.iter().enumerate() {
        if frame.offset != offset {
            return Err(format!("frame {i} does not begin where the one before it ends"));
        }
        offset = offset.checked_add(frame.bytes).ok_or("a frame without an end")?;
        let mut end = 0;
        for (start, length) in &frame.statements {
            let next = start.checked_add(*length).filter(|_| *start >= end);
            end = next.ok_or_else(|| format!("the statements of frame {i} overlap"))?;
        }
        if end > frame.text_bytes {
            return Err(format!("a statement of frame {i} goes beyond its text"));
        }
    }
    match frames {
        [Frame { kind: FrameKind::Prologue, .. }, .., Frame { kind: FrameKind::Trailer, .. }] => {
            Ok(())
        }
        _ => Err("its first or last frame is missing".to_owned()),
    }
}

/// The failure of a dump that is not what its manifest says.
pub(crate) fn damaged(server: &Server, what: impl Into<String>) -> Error {
    server.found(Code::DumpDamaged, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: FrameKind, offset: u64, statements: &[(u64, u64)]) -> Frame {
        let statements = statements.to_vec();
        let (name, blake3) = (String::new(), String::new());
        Frame { kind, name, offset, bytes: 10, text_bytes: 20, blake3, statements, keys: None }
    }

    #[test]
    fn what_is_no_list_of_frames_is_refused() {
        let first = frame(FrameKind::Prologue, 0, &[(0, 5), (7, 13)]);
        let last = frame(FrameKind::Trailer, 20, &[]);
        let rows = |offset, statements: &[_]| frame(FrameKind::Rows, offset, statements);
        let of = |middle: Frame| [first.clone(), middle, last.clone()];
        assert!(check(&of(rows(10, &[]))).is_ok());
        for wrong in [
            of(rows(11, &[])).to_vec(),
            of(rows(10, &[(0, 21)])).to_vec(),
            of(rows(10, &[(5, 5), (9, 1)])).to_vec(),
            of(rows(10, &[(1, u64::MAX)])).to_vec(),
            of(rows(10, &[]))[..2].to_vec(),
            of(rows(10, &[]))[1..].to_vec(),
            Vec::new(),
        ] {
            assert!(check(&wrong).is_err(), "{wrong:?}");
        }
    }
}
