//! Reading: the last byte is handed out only after size and digest have been checked.
//!
//! A reader that stops at the end of a compressed stream never sees the object's end; so the
//! check comes with the last bytes, not after them. Whoever has all bytes has the right ones.

use std::{
    fmt, io, mem,
    pin::Pin,
    task::{Context, Poll, ready},
};

use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncRead, ReadBuf};

use crate::{Error, Key, Written, link::hex};

/// An object's bytes. An end without an error means that they are what was written.
pub struct Reader {
    key: Key,
    expected: Written,
    source: Pin<Box<dyn AsyncRead + Send>>,
    digest: Sha256,
    bytes: u64,
    failed: bool,
}

impl Reader {
    pub(crate) fn new(
        key: Key,
        expected: Written,
        source: impl AsyncRead + Send + 'static,
    ) -> Self {
        let (source, digest) = (Box::pin(source), Sha256::new());
        Self { key, expected, source, digest, bytes: 0, failed: false }
    }

    fn check(&mut self, read: &[u8], at_end: bool) -> Result<(), Error> {
        self.digest.update(read);
        self.bytes += read.len() as u64;
        let expected = self.expected.bytes;
        if self.bytes > expected || (at_end && self.bytes < expected) {
            let more_or_less = if at_end { "ends after" } else { "has more than" };
            let bytes = self.bytes.min(expected);
            return Err(self.corrupt(format!("{more_or_less} {bytes} of {expected} bytes")));
        }
        if self.bytes == expected && !at_end || expected == 0 {
            let found = hex(&mem::take(&mut self.digest).finalize());
            if found != self.expected.sha256 {
                let expected = &self.expected.sha256;
                return Err(self.corrupt(format!("its SHA-256 is {found}, not {expected}")));
            }
        }
        Ok(())
    }

    fn corrupt(&self, difference: String) -> Error {
        Error::Corrupt { key: self.key.to_string(), difference }
    }
}

impl AsyncRead for Reader {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        if this.failed {
            // Nobody takes the rest for good by reading on.
            return Poll::Ready(Err(this.corrupt("could not be read before".to_owned()).into()));
        }
        let before = buf.filled().len();
        let outcome = ready!(this.source.as_mut().poll_read(cx, buf));
        let read = &buf.filled()[before..];
        let outcome = match outcome {
            Ok(()) => this.check(read, read.is_empty()),
            Err(error) => Err(Error::failed("read", &this.key, &error)),
        };
        if let Err(error) = outcome {
            this.failed = true;
            buf.set_filled(before);
            return Poll::Ready(Err(error.into()));
        }
        Poll::Ready(Ok(()))
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reader({}, {} of {} bytes)", self.key, self.bytes, self.expected.bytes)
    }
}
