//! The dump as an object: zstd frames, one behind the other, each of which can be read by itself.
//!
//! The frames' text, in order, is what the stock client takes. Drover's own import does not read
//! SQL: the manifest says for each frame which bytes of its text are a statement, and what stands
//! between them (`DELIMITER`, comments) is for the stock client only. So no name and no text of a
//! customer's can be taken for the end of a statement.

use drover_schemas::Code;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncWrite, AsyncWriteExt as _};

use crate::{Error, Server};

/// zstd's level: at 3 it keeps up with a server's rows on one core.
const LEVEL: i32 = 3;

/// From this size on a frame is compressed or unpacked on a thread of its own, in bytes: it takes
/// longer than others may be kept waiting.
const BLOCKING_BYTES_MIN: usize = 256 << 10;

/// The largest text of a frame that is unpacked, in bytes: a row of 1 GiB, the protocol's limit,
/// with every byte escaped.
const TEXT_BYTES_MAX: u64 = (2 << 30) + (16 << 20);

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
    /// Some of a table's rows.
    Rows,
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
    /// Whether Drover's import loads it.
    pub(crate) fn is_loaded(self) -> bool {
        self != Self::Trailer
    }

    /// Whether its statements hold text that a customer wrote, beyond names and values that
    /// Drover has quoted: then each must be one statement to the server too.
    pub(crate) fn holds_definitions(self) -> bool {
        match self {
            Self::Sequence
            | Self::Table
            | Self::Routine
            | Self::View
            | Self::Trigger
            | Self::Event => true,
            Self::Prologue | Self::Rows | Self::RowsEnd | Self::Trailer => false,
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
}

impl Frame {
    /// Checks its stored bytes and unpacks them.
    ///
    /// # Errors
    /// What is wrong with them, in words.
    pub(crate) async fn unpack(&self, stored: Vec<u8>) -> Result<Vec<u8>, String> {
        if blake3::hash(&stored).to_hex().as_str() != self.blake3 {
            return Err("its checksum is another".to_owned());
        }
        let length = self.text_bytes;
        if length > TEXT_BYTES_MAX {
            return Err(format!("its text of {length} bytes is too long"));
        }
        let capacity = usize::try_from(length).map_err(|e| e.to_string())?;
        let text = off_thread(capacity, move || zstd::bulk::decompress(&stored, capacity)).await;
        let text = text.map_err(|e| format!("it cannot be unpacked: {e}"))?;
        if text.len() as u64 == length { Ok(text) } else { Err("its text is shorter".to_owned()) }
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
    text: Vec<u8>,
    statements: Vec<(u64, u64)>,
    frames: Vec<Frame>,
    offset: u64,
}

impl<'a, W: AsyncWrite + Unpin> Writer<'a, W> {
    pub(crate) fn new(server: &Server, to: &'a mut W) -> Self {
        Self {
            server: server.clone(),
            to,
            text: Vec::new(),
            statements: Vec::new(),
            frames: Vec::new(),
            offset: 0,
        }
    }

    /// Adds text for the stock client only.
    pub(crate) fn client(&mut self, text: &str) {
        self.text.extend_from_slice(text.as_bytes());
    }

    /// Adds a statement, without its semicolon.
    pub(crate) fn statement(&mut self, sql: &[u8]) {
        self.add(|text| text.extend_from_slice(sql));
        self.client(";\n");
    }

    /// Adds a statement that may hold semicolons.
    pub(crate) fn compound(&mut self, sql: &[u8]) {
        let end = delimiter(sql);
        self.client(&format!("DELIMITER {end}\n"));
        self.add(|text| text.extend_from_slice(sql));
        // On a line of its own: the statement may end in a comment.
        self.client(&format!("\n{end}\nDELIMITER ;\n"));
    }

    fn add(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.text.len();
        write(&mut self.text);
        self.statements.push((start as u64, (self.text.len() - start) as u64));
    }

    /// The frame's text as far as it is there, to be written to directly between
    /// [`Self::statement_begins`] and [`Self::statement_ends`].
    pub(crate) fn text(&mut self) -> &mut Vec<u8> {
        &mut self.text
    }

    /// Where the statement that is about to be written begins.
    pub(crate) fn statement_begins(&self) -> usize {
        self.text.len()
    }

    /// Ends the statement that began there.
    pub(crate) fn statement_ends(&mut self, began: usize) {
        self.statements.push((began as u64, (self.text.len() - began) as u64));
        self.client(";\n");
    }

    /// Ends the frame and writes it.
    pub(crate) async fn end(&mut self, kind: FrameKind, name: &str) -> Result<(), Error> {
        let text = std::mem::take(&mut self.text);
        let text_bytes = text.len() as u64;
        let packed = off_thread(text.len(), move || {
            let mut compressor = zstd::bulk::Compressor::new(LEVEL)?;
            compressor.include_checksum(true)?;
            let packed = compressor.compress(&text)?;
            Ok((packed, text))
        });
        let (packed, mut text) = packed.await.map_err(|e| self.failed(e))?;
        // Its room is used again, unless a very long row made it large.
        text.clear();
        text.shrink_to(BLOCKING_BYTES_MIN << 5);
        self.text = text;
        self.to.write_all(&packed).await.map_err(|e| self.failed(e))?;
        let bytes = packed.len() as u64;
        self.frames.push(Frame {
            kind,
            name: name.to_owned(),
            offset: self.offset,
            bytes,
            text_bytes,
            blake3: blake3::hash(&packed).to_hex().to_string(),
            statements: std::mem::take(&mut self.statements),
        });
        self.offset += bytes;
        Ok(())
    }

    /// The frames that were written.
    pub(crate) fn finish(self) -> Vec<Frame> {
        self.frames
    }

    fn failed(&self, source: std::io::Error) -> Error {
        Error::Writing { server: self.server.name().to_string(), source }
    }
}

/// Runs what takes its time where it keeps nobody waiting.
async fn off_thread<T: Send + 'static>(
    bytes: usize,
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> std::io::Result<T> {
    if bytes < BLOCKING_BYTES_MIN {
        return work();
    }
    tokio::task::spawn_blocking(work).await.map_err(std::io::Error::other)?
}

/// A delimiter that does not stand in the statement.
fn delimiter(statement: &[u8]) -> String {
    let mut end = ";;".to_owned();
    while statement.windows(end.len()).any(|part| part == end.as_bytes()) {
        end.push(';');
    }
    end
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

    #[test]
    fn the_delimiter_is_not_in_the_statement() {
        assert_eq!(delimiter(b"DO 1"), ";;");
        assert_eq!(delimiter(b"SELECT ';;;'"), ";;;;");
    }

    fn frame(kind: FrameKind, offset: u64, statements: &[(u64, u64)]) -> Frame {
        let statements = statements.to_vec();
        let (name, blake3) = (String::new(), String::new());
        Frame { kind, name, offset, bytes: 10, text_bytes: 20, blake3, statements }
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
