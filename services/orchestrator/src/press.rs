//! Presses what is kept of a campaign's migrations at rest.
//!
//! They are alike: names of hosts, objects and links differ in a few letters, and most of one stands
//! in the one before. So the campaign's first ones become the dictionary of all others, which zstd
//! then writes as what differs; half of what is left are sums and ids that nothing makes shorter.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use zstd::bulk::{Compressor, Decompressor};

/// What is no longer than this is not pressed, in bytes: an inventory's row alone. A frame's own
/// bytes would take what is won.
const PLAIN_BYTES_MAX: usize = 256;
/// How long the dictionary is, in bytes: some three migrations.
const DICTIONARY_BYTES: usize = 2_048;
/// zstd's level: what a higher one finds more is little, as nearly all stands in the dictionary.
const LEVEL: i32 = 1;

/// Presses what one campaign keeps.
#[derive(Default)]
pub(crate) struct Press {
    /// The first that came, until there is enough of them.
    first: Vec<u8>,
    tools: Option<Tools>,
}

struct Tools {
    compressor: Compressor<'static>,
    reader: Arc<Reader>,
}

/// Reads with the dictionary. It is shared, since a new one reads the dictionary anew.
type Reader = Mutex<Decompressor<'static>>;

/// What came out of the press.
pub(crate) enum Pressed {
    /// As it was: short, or a part of the dictionary itself.
    Plain(Box<[u8]>),
    /// One zstd frame, and what reads it.
    Frame(Box<[u8]>, Arc<Reader>),
}

impl Press {
    /// Presses one.
    pub(crate) fn press(&mut self, plain: Vec<u8>) -> Pressed {
        if plain.len() > PLAIN_BYTES_MAX
            && let Some(tools) = &mut self.tools
            && let Ok(frame) = tools.compressor.compress(&plain)
            && frame.len() < plain.len()
        {
            return Pressed::Frame(frame.into_boxed_slice(), tools.reader.clone());
        }
        self.learn(&plain);
        Pressed::Plain(plain.into_boxed_slice())
    }

    /// Takes one into the dictionary, as long as that is not full.
    fn learn(&mut self, plain: &[u8]) {
        if plain.len() <= PLAIN_BYTES_MAX || self.tools.is_some() {
            return;
        }
        let room = DICTIONARY_BYTES - self.first.len();
        self.first.extend_from_slice(plain.get(..room).unwrap_or(plain));
        if self.first.len() == DICTIONARY_BYTES
            && let Ok(compressor) = Compressor::with_dictionary(LEVEL, &self.first)
            && let Ok(reader) = Decompressor::with_dictionary(&self.first)
        {
            self.first = Vec::new();
            self.tools = Some(Tools { compressor, reader: Arc::new(Mutex::new(reader)) });
        }
    }
}

impl Pressed {
    /// As it went into the press.
    pub(crate) fn plain(&self) -> std::io::Result<Vec<u8>> {
        match self {
            Self::Plain(plain) => Ok(plain.to_vec()),
            Self::Frame(frame, reader) => {
                let length = Decompressor::upper_bound(frame).unwrap_or_default();
                let mut reader = reader.lock().unwrap_or_else(PoisonError::into_inner);
                reader.decompress(frame, length)
            }
        }
    }
}

impl fmt::Debug for Press {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Press").field("learns", &self.tools.is_none()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Pressed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, bytes) = match self {
            Self::Plain(bytes) => ("Plain", bytes),
            Self::Frame(bytes, _) => ("Frame", bytes),
        };
        f.debug_tuple(name).field(&bytes.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_was_pressed_comes_back(
            all in prop::collection::vec(prop::collection::vec(b'a'..b'f', 0..3_000), 0..12),
        ) {
            let mut press = Press::default();
            let pressed: Vec<Pressed> = all.iter().map(|one| press.press(one.clone())).collect();
            for (pressed, plain) in pressed.iter().zip(&all) {
                prop_assert_eq!(&pressed.plain().unwrap(), plain);
            }
        }
    }

    #[test]
    fn what_is_like_the_first_ones_becomes_short() {
        let mut press = Press::default();
        let of = |n: u32| format!("https://dumps.example.net/night/{n:>300}").into_bytes();
        let lengths = (0..100).map(|n| match press.press(of(n)) {
            Pressed::Plain(plain) => plain.len(),
            Pressed::Frame(frame, _) => frame.len(),
        });
        let lengths: Vec<usize> = lengths.collect();
        assert_eq!(lengths.iter().filter(|length| **length > 300).count(), 7);
        assert!(lengths.iter().skip(7).all(|length| *length < 40), "{lengths:?}");
        assert!(matches!(press.press(b"short".to_vec()), Pressed::Plain(_)));
    }
}
