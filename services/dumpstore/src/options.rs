//! Which store, and how it is opened.

use std::{
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use object_store::{
    ClientOptions, ObjectStore, RetryConfig,
    aws::{AmazonS3Builder, AmazonS3ConfigKey},
    local::LocalFileSystem,
    prefix::PrefixStore,
};
use serde::Deserialize;
use url::Url;

use crate::Error;

/// A store that says nothing for so long has failed. Not the time of a whole transfer: an import
/// may read slowly.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// How long a request may be repeated within the client; the step's own retries come after it.
const RETRY_TIME_MAX: Duration = Duration::from_secs(60);
const RETRIES_MAX: usize = 4;

/// The part `[store]` of the configuration.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// A folder, as a path or as `file:///…`, made when it is not there; or `s3://bucket/prefix`.
    pub url: String,
    /// For a folder: whether an object is on the disk before it counts as written. Without it a
    /// power cut may lose the dumps of the last seconds, which is found out when they are read.
    pub fsync: bool,
    /// How dumps are compressed: `zstd`, or `gzip` for customers whose programs take nothing else,
    /// at more time and room.
    pub dump_form: DumpForm,
    /// For S3.
    pub s3: S3,
}

/// How dumps are compressed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DumpForm {
    /// zstd.
    #[default]
    Zstd,
    /// gzip.
    Gzip,
}

impl Default for Options {
    fn default() -> Self {
        let url = "/var/lib/drover/store".to_owned();
        Self { url, fsync: true, dump_form: DumpForm::Zstd, s3: S3::default() }
    }
}

/// How the S3 store is reached. What is not given is taken from the environment (`AWS_REGION`,
/// `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_ENDPOINT`, …).
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct S3 {
    /// The address of a store that is not Amazon's. `http://` only where the way is safe.
    pub endpoint: Option<String>,
    /// The region.
    pub region: Option<String>,
    /// A file with the access key's id, mode 0600; together with `secret_access_key_file`.
    pub access_key_id_file: Option<PathBuf>,
    /// A file with the secret access key, mode 0600.
    pub secret_access_key_file: Option<PathBuf>,
}

/// An opened store: the folder where it is one, and the store.
pub(crate) type Opened = (Option<PathBuf>, Arc<dyn ObjectStore>);

pub(crate) fn open(options: &Options) -> Result<Opened, Error> {
    match Url::parse(&options.url) {
        Ok(url) if url.scheme() == "s3" => Ok((None, open_s3(&url, &options.s3)?)),
        Ok(url) if url.scheme() == "file" => {
            let path = url.to_file_path();
            let path = path.map_err(|()| wrong(options, "not the path of a folder"))?;
            open_folder(&path, options)
        }
        Ok(_) => Err(wrong(options, "neither a path nor file:/// nor s3://")),
        Err(_) if options.url.is_empty() => Err(wrong(options, "empty")),
        Err(_) => open_folder(Path::new(&options.url), options),
    }
}

fn wrong(options: &Options, why: &str) -> Error {
    Error::Configuration(format!("url {:?}: {why}", options.url))
}

fn open_folder(path: &Path, options: &Options) -> Result<Opened, Error> {
    // Dumps are customers' data: nobody else on the machine can enter a folder that we make.
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|error| wrong(options, &error.to_string()))?;
    let store = LocalFileSystem::new_with_prefix(path)
        .map_err(|error| wrong(options, &error.to_string()))?
        .with_fsync(options.fsync)
        .with_automatic_cleanup(true);
    Ok((Some(path.to_owned()), Arc::new(store)))
}

fn open_s3(url: &Url, options: &S3) -> Result<Arc<dyn ObjectStore>, Error> {
    let wrong = |why: String| Error::Configuration(format!("url {url}: {why}"));
    let bucket = url.host_str().ok_or_else(|| wrong("names no bucket".to_owned()))?;
    let client = ClientOptions::new().with_timeout_disabled().with_read_timeout(SILENCE_MAX);
    let mut builder = AmazonS3Builder::from_env()
        .with_bucket_name(bucket)
        .with_client_options(client)
        // One request an object: some stores do not know the other form.
        .with_disable_bulk_delete(true)
        .with_retry(RetryConfig {
            max_retries: RETRIES_MAX,
            retry_timeout: RETRY_TIME_MAX,
            ..RetryConfig::default()
        });
    if let Some(region) = &options.region {
        builder = builder.with_region(region);
    }
    if let Some(endpoint) = &options.endpoint {
        builder = builder.with_endpoint(endpoint).with_allow_http(endpoint.starts_with("http://"));
    }
    match (&options.access_key_id_file, &options.secret_access_key_file) {
        (Some(id), Some(key)) => {
            builder = builder
                .with_access_key_id(drover_secrets::read(id)?.expose())
                .with_secret_access_key(drover_secrets::read(key)?.expose());
        }
        (None, None) => {}
        (Some(_), None) | (None, Some(_)) => {
            let both = "access_key_id_file and secret_access_key_file belong together";
            return Err(wrong(both.to_owned()));
        }
    }
    if builder.get_config_value(&AmazonS3ConfigKey::Region).is_none() {
        return Err(wrong("no region in [store.s3] or AWS_REGION".to_owned()));
    }
    let store = builder.build().map_err(|error| wrong(error.to_string()))?;
    let prefix = url.path().trim_matches('/');
    if prefix.is_empty() {
        return Ok(Arc::new(store));
    }
    Ok(Arc::new(PrefixStore::new(store, prefix)))
}
