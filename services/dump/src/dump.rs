//! The dump step: one object for the customer, its manifest, and the sealed accounts.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use async_compression::{Level, tokio::bufread::ZstdEncoder};
use drover_dumpstore::{Attempt, Object};
use drover_mysql::{Manifest, Order, Server, dump::error_of, trailer};
use drover_schemas::{
    Code, Failure,
    v1::{DumpStored, Job},
};
use tokio::io::{AsyncRead, AsyncWrite, BufReader, ReadBuf};

use crate::Service;

/// zstd's level: at 3 it keeps up with the dump program on one core.
const LEVEL: Level = Level::Precise(3);

impl Service {
    /// Streams the dump to the store, then writes the manifest and the accounts. Each attempt has
    /// objects of its own.
    pub(crate) async fn dump(
        &self,
        server: &Server,
        order: &Order,
        job: &Job,
    ) -> Result<DumpStored, Failure> {
        let destination = job.planned.as_ref().map_or("", |planned| planned.destination.as_str());
        let seal = self.seals.iter().find(|(name, _)| name.as_str() == destination);
        let (_, seal) = seal.ok_or_else(|| {
            let text = format!("the destination {destination:?} is not in this configuration");
            Failure::new(Code::JobIncomplete, text)
        })?;
        let accounts = drover_mysql::accounts(server, order).await?;
        let sealed = seal.seal(&accounts)?;
        let description = drover_mysql::describe(server, &order.database).await?;
        let attempt =
            Attempt::new(order.campaign.clone(), order.migration, order.run, order.attempt);
        let [dump_key, manifest_key, accounts_key] =
            [Object::Dump, Object::Manifest, Object::Accounts].map(|object| attempt.key(object));

        let dump = drover_mysql::dump(server, order, &description).await?;
        let mut sql = Counted { inner: dump, bytes: 0 };
        let mut writer = self.store.write(&dump_key);
        let loaded_bytes = compress(&mut sql, &mut writer).await.map_err(failure)?;
        let trailer = trailer(&accounts.events);
        compress(trailer.as_bytes(), &mut writer).await.map_err(failure)?;
        let dump = writer.finish().await?;

        let accounts = self.store.put_small(&accounts_key, &sealed).await?;
        let (tables, rows) = (description.tables(), description.rows());
        let manifest = Manifest::new(description, loaded_bytes, sql.bytes, accounts.sha256);
        let json = manifest
            .to_json()
            .map_err(|error| Failure::new(Code::DumpRefused, error.to_string()))?;
        let manifest = self.store.put_small(&manifest_key, &json).await?;
        Ok(DumpStored {
            dump_object: dump_key.to_string(),
            manifest_object: manifest_key.to_string(),
            accounts_object: accounts_key.to_string(),
            dump_bytes: dump.bytes,
            dump_sha256: dump.sha256,
            manifest_sha256: manifest.sha256,
            tables,
            rows,
        })
    }
}

/// Writes `from` as one zstd frame; the compressed size.
async fn compress(
    from: impl AsyncRead + Unpin,
    to: &mut (impl AsyncWrite + Unpin),
) -> io::Result<u64> {
    let mut encoder = ZstdEncoder::with_quality(BufReader::new(from), LEVEL);
    tokio::io::copy(&mut encoder, to).await
}

/// An error of the dump's stream, or of the store.
fn failure(error: io::Error) -> Failure {
    match error_of(error) {
        Ok(error) => error.into(),
        Err(error) => drover_dumpstore::Error::from_io(error).into(),
    }
}

/// Counts what is read.
struct Counted<R> {
    inner: R,
    bytes: u64,
}

impl<R: AsyncRead + Unpin> AsyncRead for Counted<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(cx, buffer);
        self.bytes += (buffer.filled().len() - before) as u64;
        polled
    }
}
