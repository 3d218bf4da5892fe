//! The store itself.

use std::{
    ops::Range,
    path::{Path as FilePath, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use drover_schemas::{CampaignName, MigrationId};
use futures::{StreamExt as _, TryStreamExt as _, stream::BoxStream};
use object_store::{
    GetOptions, GetResult, GetResultPayload, ObjectStore, ObjectStoreExt as _, path::Path,
};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio_util::io::StreamReader;

use crate::{
    DumpForm, Error, Key, Object, Options, Reader, Writer, Written,
    keys::{Attempt, run_of_folder},
    options,
};

/// The largest object that is read or written whole, in bytes: the manifest of a database with
/// five thousand tables is some 3 MB.
pub const SMALL_BYTES_MAX: u64 = 16 << 20;

/// How much of a file is read at once, in bytes, where there is so much: below it the hops between
/// threads cost more than the reading. The room for it is filled with zeros first, and most objects are
/// far smaller.
const READ_BYTES: usize = 256 << 10;

/// An object in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Its key.
    pub key: Key,
    /// Its size.
    pub bytes: u64,
    /// When it was written, by the store's clock.
    pub modified: DateTime<Utc>,
}

/// An object store. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    objects: Arc<dyn ObjectStore>,
    folder: Option<PathBuf>,
    dump_form: DumpForm,
}

impl Store {
    /// Opens the store; makes its folder where it is one. Does not yet speak to an S3 store.
    pub fn open(options: &Options) -> Result<Self, Error> {
        let (folder, objects) = options::open(options)?;
        Ok(Self { objects, folder, dump_form: options.dump_form })
    }

    /// How dumps are to be compressed here.
    pub fn dump_form(&self) -> DumpForm {
        self.dump_form
    }

    /// A writer of the object `key`, which must not have been written before.
    pub fn write(&self, key: &Key) -> Writer {
        Writer::new(self.objects.clone(), key.clone())
    }

    /// Writes all that `source` gives. An error of `source` is an error of the store here; where
    /// they are to be told apart, use [`Store::write`].
    pub async fn put(&self, key: &Key, source: impl AsyncRead) -> Result<Written, Error> {
        let mut writer = self.write(key);
        tokio::pin!(source);
        tokio::io::copy(&mut source, &mut writer).await.map_err(Error::from_io)?;
        writer.finish().await
    }

    /// Writes a small object, at most [`SMALL_BYTES_MAX`].
    pub async fn put_small(&self, key: &Key, content: &[u8]) -> Result<Written, Error> {
        if content.len() as u64 > SMALL_BYTES_MAX {
            return Err(too_large(key));
        }
        let mut writer = self.write(key);
        writer.write_all(content).await.map_err(Error::from_io)?;
        writer.finish().await
    }

    /// A reader of an object that is known to be `expected`; see [`Reader`].
    pub async fn read(&self, key: &Key, expected: &Written) -> Result<Reader, Error> {
        let found = self.get(key, GetOptions::default()).await?;
        let bytes = found.meta.size;
        if bytes != expected.bytes {
            let difference = format!("has {bytes} bytes, not {}", expected.bytes);
            return Err(Error::Corrupt { key: key.to_string(), difference });
        }
        Ok(Reader::new(key.clone(), expected.clone(), body(found).await?))
    }

    /// Some bytes of an object. They are not checked: a digest is of the whole.
    pub async fn read_range(
        &self,
        key: &Key,
        range: Range<u64>,
    ) -> Result<impl AsyncRead + Send + use<>, Error> {
        let bytes = range.end.saturating_sub(range.start);
        let options = GetOptions { range: Some(range.into()), ..GetOptions::default() };
        Ok(body(self.get(key, options).await?).await?.take(bytes))
    }

    /// A small object, whole, at most [`SMALL_BYTES_MAX`]; checked where its digest is known.
    pub async fn get_small(&self, key: &Key, sha256: Option<&str>) -> Result<Vec<u8>, Error> {
        let found = self.get(key, GetOptions::default()).await?;
        let bytes = found.meta.size;
        if bytes > SMALL_BYTES_MAX {
            return Err(too_large(key));
        }
        let source = body(found).await?;
        let mut content = Vec::new();
        let read = match sha256 {
            Some(sha256) => {
                let expected = Written { bytes, sha256: sha256.to_owned() };
                let mut reader = Reader::new(key.clone(), expected, source);
                reader.read_to_end(&mut content).await
            }
            None => source.take(SMALL_BYTES_MAX).read_to_end(&mut content).await,
        };
        read.map_err(Error::from_io)?;
        Ok(content)
    }

    /// The object's size; none where it is not there.
    pub async fn size(&self, key: &Key) -> Result<Option<u64>, Error> {
        match self.objects.head(&path(key)).await {
            Ok(meta) => Ok(Some(meta.size)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(Error::of_store("look for", key, &error)),
        }
    }

    /// Deletes an object, or finds it gone.
    pub async fn delete(&self, key: &Key) -> Result<(), Error> {
        match self.objects.delete(&path(key)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(Error::of_store("delete", key, &error)),
        }
    }

    /// How many bytes the folder's disk has free; none for a store that is no folder.
    pub fn room_bytes(&self) -> Result<Option<u64>, Error> {
        let Some(folder) = &self.folder else { return Ok(None) };
        let disk = nix::sys::statvfs::statvfs(folder)
            .map_err(|error| Error::failed("see the room of", folder.display(), &error))?;
        Ok(Some(disk.blocks_available().saturating_mul(disk.fragment_size())))
    }

    /// The objects of a campaign, or of one of its migrations. What is not Drover's is left out.
    pub fn list(
        &self,
        campaign: &CampaignName,
        migration: Option<MigrationId>,
    ) -> BoxStream<'static, Result<Stored, Error>> {
        let prefix = match migration {
            Some(id) => format!("{campaign}/{id}"),
            None => campaign.to_string(),
        };
        let listed = self.objects.list(Some(&Path::from(prefix.clone())));
        listed
            .map_err(move |error| Error::of_store("list", &prefix, &error))
            .try_filter_map(|meta| async move {
                let key = meta.location.as_ref().parse().ok();
                let (bytes, modified) = (meta.size, meta.last_modified);
                Ok(key.map(|key| Stored { key, bytes, modified }))
            })
            .boxed()
    }

    /// Deletes what the attempts of a migration's runs up to `run` have left, also what a killed
    /// writer left half-written in a folder; `keep` stays. A later run's objects are not touched,
    /// so that an order that comes too late does no harm.
    pub async fn sweep(
        &self,
        campaign: &CampaignName,
        migration: MigrationId,
        run: u32,
        keep: Option<&Attempt>,
    ) -> Result<(), Error> {
        let mut listed = self.list(campaign, Some(migration));
        while let Some(stored) = listed.next().await {
            let key = stored?.key;
            if key.attempt().run() <= run && keep != Some(key.attempt()) {
                self.delete(&key).await?;
            }
        }
        let keep = keep.map(Attempt::folder);
        self.in_folder(campaign, migration, move |folder| sweep_folder(folder, run, keep)).await
    }

    /// Deletes the sealed accounts of a migration's runs up to `run`, and nothing else; also what a
    /// killed writer left of them half-written in a folder. A later run's are not touched.
    pub async fn delete_accounts(
        &self,
        campaign: &CampaignName,
        migration: MigrationId,
        run: u32,
    ) -> Result<(), Error> {
        let mut listed = self.list(campaign, Some(migration));
        while let Some(stored) = listed.next().await {
            let key = stored?.key;
            if key.object() == Object::Accounts && key.attempt().run() <= run {
                self.delete(&key).await?;
            }
        }
        self.in_folder(campaign, migration, move |folder| delete_halves(folder, run)).await
    }

    /// Does something in the migration's folder, where the store is one.
    async fn in_folder(
        &self,
        campaign: &CampaignName,
        migration: MigrationId,
        act: impl FnOnce(&FilePath) -> std::io::Result<()> + Send + 'static,
    ) -> Result<(), Error> {
        let Some(folder) = &self.folder else { return Ok(()) };
        let folder = folder.join(campaign.as_str()).join(migration.to_string());
        let label = format!("{campaign}/{migration}");
        match tokio::task::spawn_blocking(move || act(&folder)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(Error::failed("delete", label, &error)),
            Err(error) => Err(Error::failed("delete", label, &error)),
        }
    }

    async fn get(&self, key: &Key, options: GetOptions) -> Result<GetResult, Error> {
        let found = self.objects.get_opts(&path(key), options).await;
        found.map_err(|error| Error::of_store("read", key, &error))
    }
}

fn path(key: &Key) -> Path {
    Path::from(key.to_string())
}

fn too_large(key: &Key) -> Error {
    Error::TooLarge { key: key.to_string(), bytes_max: SMALL_BYTES_MAX }
}

async fn body(found: GetResult) -> Result<Box<dyn AsyncRead + Send + Unpin>, Error> {
    let (range, key) = (found.range.clone(), found.meta.location.clone());
    match found.payload {
        GetResultPayload::File(file, _) => {
            let mut file = tokio::fs::File::from_std(file);
            let start = std::io::SeekFrom::Start(range.start);
            let sought = tokio::io::AsyncSeekExt::seek(&mut file, start).await;
            sought.map_err(|error| Error::failed("read", &key, &error))?;
            let bytes = range.end.saturating_sub(range.start);
            let room = usize::try_from(bytes).map_or(READ_BYTES, |bytes| bytes.min(READ_BYTES));
            Ok(Box::new(BufReader::with_capacity(room.max(1), file)))
        }
        GetResultPayload::Stream(stream) => {
            let bytes: BoxStream<'static, std::io::Result<Bytes>> =
                stream.map_err(move |error| Error::of_store("read", &key, &error).into()).boxed();
            Ok(Box::new(StreamReader::new(bytes)))
        }
    }
}

fn sweep_folder(folder: &FilePath, run: u32, keep: Option<String>) -> std::io::Result<()> {
    for (name, path) in attempts(folder, run)? {
        if keep.as_ref() != Some(&name) {
            found(std::fs::remove_dir_all(path))?;
        }
    }
    // Fails while something is in it, as it should.
    let _ = std::fs::remove_dir(folder);
    Ok(())
}

/// The writer of a folder's store writes to a name of its own first: the object's, `#`, a number.
fn delete_halves(folder: &FilePath, run: u32) -> std::io::Result<()> {
    let halves = format!("{}#", Object::Accounts.file_name());
    for (_, attempt) in attempts(folder, run)? {
        for entry in found(std::fs::read_dir(attempt))?.into_iter().flatten() {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(&halves) {
                found(std::fs::remove_file(entry.path()))?;
            }
        }
    }
    Ok(())
}

/// The folders of a migration's attempts in its runs up to `run`: their names and paths.
fn attempts(folder: &FilePath, run: u32) -> std::io::Result<Vec<(String, PathBuf)>> {
    let mut attempts = Vec::new();
    for entry in found(std::fs::read_dir(folder))?.into_iter().flatten() {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if run_of_folder(&name).is_some_and(|of| of <= run) {
            attempts.push((name, entry.path()));
        }
    }
    Ok(attempts)
}

/// What was done, or none where somebody else has deleted it meanwhile.
fn found<T>(done: std::io::Result<T>) -> std::io::Result<Option<T>> {
    match done {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
