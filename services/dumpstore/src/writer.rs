//! Writing: streamed in parts, visible only as a whole.

use std::{
    fmt, io, mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::BytesMut;
use futures::{FutureExt as _, future::BoxFuture};
use object_store::{MultipartUpload, ObjectStore, ObjectStoreExt as _, path::Path};
use sha2::{Digest as _, Sha256};
use tokio::{io::AsyncWrite, task::JoinSet};

use crate::{Error, Key, link::hex};

/// The size of a part, in bytes: above the 5 MiB that S3 wants at least, and the same for all
/// but the last, as some stores want. An object below it is written in one request.
const PART_BYTES: usize = 8 << 20;
/// Parts on their way at once. With the one that is being filled, a writer holds at most three.
const PARTS_IN_FLIGHT_MAX: usize = 2;
/// S3's limit.
const PARTS_MAX: u64 = 10_000;
/// The largest object, in bytes: 78 GiB.
pub const OBJECT_BYTES_MAX: u64 = PART_BYTES as u64 * PARTS_MAX;

/// What was written, for the reader to check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The object's size.
    pub bytes: u64,
    /// Its SHA-256, in lower-case hexadecimal.
    pub sha256: String,
}

/// An object in the making. It appears in the store when [`Writer::finish`] returns, and never
/// when the writer is dropped before.
#[must_use = "nothing is stored before `finish`"]
pub struct Writer {
    store: Arc<dyn ObjectStore>,
    key: Key,
    path: Path,
    buffer: BytesMut,
    digest: Sha256,
    bytes: u64,
    upload: Upload,
    parts: JoinSet<object_store::Result<()>>,
}

enum Upload {
    NotBegun,
    Opening(BoxFuture<'static, object_store::Result<Box<dyn MultipartUpload>>>),
    Open(Box<dyn MultipartUpload>),
}

impl Writer {
    pub(crate) fn new(store: Arc<dyn ObjectStore>, key: Key) -> Self {
        Self {
            store,
            path: Path::from(key.to_string()),
            key,
            buffer: BytesMut::new(),
            digest: Sha256::new(),
            bytes: 0,
            upload: Upload::NotBegun,
            parts: JoinSet::new(),
        }
    }

    /// Writes what is left and makes the object visible. After an error nothing is.
    pub async fn finish(mut self) -> Result<Written, Error> {
        let result = self.complete().await;
        if result.is_err() {
            self.abort().await;
        }
        result.map_err(|error| self.failed(&error))?;
        let digest = mem::take(&mut self.digest).finalize();
        Ok(Written { bytes: self.bytes, sha256: hex(&digest) })
    }

    async fn complete(&mut self) -> object_store::Result<()> {
        if matches!(self.upload, Upload::NotBegun) {
            let payload = mem::take(&mut self.buffer).freeze();
            self.store.put(&self.path, payload.into()).await?;
            return Ok(());
        }
        if !self.buffer.is_empty() {
            std::future::poll_fn(|cx| self.poll_send(cx)).await?;
        }
        while let Some(part) = self.parts.join_next().await {
            part??;
        }
        if let Upload::Open(upload) = &mut self.upload {
            upload.complete().await?;
        }
        self.upload = Upload::NotBegun;
        Ok(())
    }

    async fn abort(&mut self) {
        let upload = mem::replace(&mut self.upload, Upload::NotBegun);
        abort(upload, mem::take(&mut self.parts), self.key.to_string()).await;
    }

    /// Sends the buffer as a part, when there is room for one more on its way.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<object_store::Result<()>> {
        loop {
            match &mut self.upload {
                Upload::NotBegun => {
                    let (store, path) = (self.store.clone(), self.path.clone());
                    let opening = async move { store.put_multipart(&path).await };
                    self.upload = Upload::Opening(opening.boxed());
                }
                Upload::Opening(opening) => {
                    self.upload = match ready!(opening.poll_unpin(cx)) {
                        Ok(upload) => Upload::Open(upload),
                        Err(error) => {
                            self.upload = Upload::NotBegun;
                            return Poll::Ready(Err(error));
                        }
                    };
                }
                Upload::Open(upload) => {
                    while self.parts.len() >= PARTS_IN_FLIGHT_MAX {
                        match ready!(self.parts.poll_join_next(cx)) {
                            Some(part) => part??,
                            None => break,
                        }
                    }
                    let part = self.buffer.split().freeze();
                    self.parts.spawn(upload.put_part(part.into()));
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }

    fn failed(&self, error: &object_store::Error) -> Error {
        Error::of_store("write", &self.key, error)
    }
}

impl AsyncWrite for Writer {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.buffer.len() >= PART_BYTES
            && let Err(error) = ready!(this.poll_send(cx))
        {
            return Poll::Ready(Err(this.failed(&error).into()));
        }
        let taken = data.len().min(PART_BYTES - this.buffer.len());
        if this.bytes + taken as u64 > OBJECT_BYTES_MAX {
            let (key, bytes_max) = (this.key.to_string(), OBJECT_BYTES_MAX);
            return Poll::Ready(Err(Error::TooLarge { key, bytes_max }.into()));
        }
        let data = &data[..taken];
        this.buffer.extend_from_slice(data);
        this.digest.update(data);
        this.bytes += taken as u64;
        Poll::Ready(Ok(taken))
    }

    /// Does nothing: a part is sent when it is full.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Does nothing: only [`Writer::finish`] makes the object.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let upload = mem::replace(&mut self.upload, Upload::NotBegun);
        if matches!(upload, Upload::NotBegun) {
            return;
        }
        let (parts, key) = (mem::take(&mut self.parts), self.key.to_string());
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(abort(upload, parts, key));
        }
    }
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Writer({}, {} bytes)", self.key, self.bytes)
    }
}

/// Takes back what has been sent; what the store keeps all the same is invisible.
async fn abort(upload: Upload, mut parts: JoinSet<object_store::Result<()>>, key: String) {
    parts.shutdown().await;
    let aborted = match upload {
        Upload::NotBegun => Ok(()),
        Upload::Opening(opening) => match opening.await {
            Ok(mut upload) => upload.abort().await,
            Err(_) => Ok(()),
        },
        Upload::Open(mut upload) => upload.abort().await,
    };
    if let Err(error) = aborted {
        tracing::warn!(key, %error, "an upload that failed could not be taken back");
    }
}
