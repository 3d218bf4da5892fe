//! A frame in the making: its text, which parts of it are statements, and how it is compressed.

use std::io::Write as _;

use serde::{Deserialize, Serialize};

use crate::frames::{Frame, FrameKind, KeyRange, off_thread};

/// zstd's level: at 3 it keeps up with a server's rows on one core.
const ZSTD_LEVEL: i32 = 3;

/// gzip's level: above it, it takes several times as long for some per cent.
const GZIP_LEVEL: u32 = 4;

/// A frame's room is used again, unless a very long row made it larger than this, in bytes.
const TEXT_KEPT_BYTES_MAX: usize = 8 << 20;

/// How the frames of a dump are compressed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// zstd frames.
    #[default]
    Zstd,
    /// gzip members, for customers whose programs take nothing else.
    Gzip,
}

/// A frame as it is stored, but for its place.
pub(crate) struct Packed {
    /// What the manifest says of it; its offset is not known yet.
    pub frame: Frame,
    /// Its bytes.
    pub stored: Vec<u8>,
}

/// A frame in the making.
pub(crate) struct Draft {
    packer: Option<Packer>,
    text: Vec<u8>,
    statements: Vec<(u64, u64)>,
}

impl Draft {
    pub(crate) fn new(form: Form) -> std::io::Result<Self> {
        Ok(Self { packer: Some(Packer::new(form)?), text: Vec::new(), statements: Vec::new() })
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

    /// Ends the frame; the next one begins.
    pub(crate) async fn pack(
        &mut self,
        kind: FrameKind,
        name: &str,
        keys: Option<KeyRange>,
    ) -> std::io::Result<Packed> {
        let text = std::mem::take(&mut self.text);
        let text_bytes = text.len() as u64;
        let mut packer = self.packer.take().ok_or_else(|| std::io::Error::other("no packer"))?;
        let packed = off_thread(text.len(), move || {
            let stored = packer.pack(&text)?;
            let blake3 = blake3::hash(&stored).to_hex().to_string();
            Ok((stored, blake3, text, packer))
        });
        let (stored, blake3, mut text, packer) = packed.await?;
        self.packer = Some(packer);
        text.clear();
        text.shrink_to(TEXT_KEPT_BYTES_MAX);
        self.text = text;
        let frame = Frame {
            kind,
            name: name.to_owned(),
            offset: 0,
            bytes: stored.len() as u64,
            text_bytes,
            blake3,
            statements: std::mem::take(&mut self.statements),
            keys,
        };
        Ok(Packed { frame, stored })
    }
}

/// What compresses. A compressor is made once: making one takes longer than a small frame.
enum Packer {
    Zstd(zstd::bulk::Compressor<'static>),
    Gzip,
}

impl Packer {
    fn new(form: Form) -> std::io::Result<Self> {
        match form {
            Form::Zstd => {
                let mut compressor = zstd::bulk::Compressor::new(ZSTD_LEVEL)?;
                compressor.include_checksum(true)?;
                Ok(Self::Zstd(compressor))
            }
            Form::Gzip => Ok(Self::Gzip),
        }
    }

    fn pack(&mut self, text: &[u8]) -> std::io::Result<Vec<u8>> {
        match self {
            Self::Zstd(compressor) => compressor.compress(text),
            Self::Gzip => {
                let level = flate2::Compression::new(GZIP_LEVEL);
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
                encoder.write_all(text)?;
                encoder.finish()
            }
        }
    }
}

/// A delimiter that does not stand in the statement.
fn delimiter(statement: &[u8]) -> String {
    let mut end = ";;".to_owned();
    while statement.windows(end.len()).any(|part| part == end.as_bytes()) {
        end.push(';');
    }
    end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_delimiter_is_not_in_the_statement() {
        assert_eq!(delimiter(b"DO 1"), ";;");
        assert_eq!(delimiter(b"SELECT ';;;'"), ";;;;");
    }

    #[tokio::test]
    async fn a_frame_of_either_form_is_unpacked_again() {
        for form in [Form::Zstd, Form::Gzip] {
            let mut draft = Draft::new(form).unwrap();
            for text in ["DO 1", "DO 2"] {
                draft.statement(text.as_bytes());
                let packed = draft.pack(FrameKind::Rows, "t", None).await.unwrap();
                let unpacked = packed.frame.unpack(form, packed.stored).await.unwrap();
                assert_eq!(unpacked, format!("{text};\n").into_bytes());
            }
        }
    }
}
