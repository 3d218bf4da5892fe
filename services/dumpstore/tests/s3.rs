//! The store over S3's protocol, spoken by a small stand-in: whole objects, parts, ranges, lists,
//! and an upload that fails and is taken back.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::{
    collections::{BTreeMap, HashMap},
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Query, State},
    http::{HeaderMap, Method, Response, StatusCode, Uri},
};
use drover_dumpstore::{Attempt, Key, Object, Options, S3, Store};
use drover_schemas::{CampaignName, Code, Failure, MigrationId};
use futures::TryStreamExt as _;
use tokio::io::AsyncReadExt as _;

const SECRET: &str = "a-key-that-must-not-be-shown";

#[derive(Default)]
struct Bucket {
    objects: Mutex<BTreeMap<String, Bytes>>,
    uploads: Mutex<HashMap<String, BTreeMap<u32, Bytes>>>,
    refuses_parts: AtomicBool,
    refuses_all: AtomicBool,
}

type Shared = Arc<Bucket>;

fn answer(status: StatusCode, body: impl Into<Body>) -> Response<Body> {
    let builder = Response::builder().status(status).header("etag", "\"e\"");
    builder.header("last-modified", "Mon, 01 Jan 2024 00:00:00 GMT").body(body.into()).unwrap()
}

fn list(bucket: &Bucket, prefix: &str) -> String {
    let objects = bucket.objects.lock().unwrap();
    let found = objects.iter().filter(|(key, _)| key.starts_with(prefix)).map(|(key, body)| {
        format!(
            "<Contents><Key>{key}</Key><Size>{}</Size><ETag>e</ETag>\
             <LastModified>2024-01-01T00:00:00.000Z</LastModified></Contents>",
            body.len()
        )
    });
    format!("<ListBucketResult>{}</ListBucketResult>", found.collect::<String>())
}

async fn serve(
    State(bucket): State<Shared>,
    method: Method,
    uri: Uri,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response<Body> {
    let signed = headers.get("authorization").and_then(|value| value.to_str().ok());
    if !signed.is_some_and(|value| value.starts_with("AWS4-HMAC-SHA256 Credential=id/"))
        || bucket.refuses_all.load(Ordering::Relaxed)
    {
        return answer(StatusCode::FORBIDDEN, "<Error><Code>AccessDenied</Code></Error>");
    }
    let key = uri.path().trim_start_matches("/dumps").trim_start_matches('/').to_owned();
    let upload = query.get("uploadId");
    let mut objects = bucket.objects.lock().unwrap();
    let mut uploads = bucket.uploads.lock().unwrap();
    match (method, upload) {
        (Method::GET, _) if key.is_empty() => {
            drop(objects);
            answer(StatusCode::OK, list(&bucket, &query["prefix"]))
        }
        (Method::POST, None) => {
            let id = format!("upload-{}", uploads.len());
            uploads.insert(id.clone(), BTreeMap::new());
            let id = format!("<UploadId>{id}</UploadId>");
            answer(
                StatusCode::OK,
                format!("<InitiateMultipartUploadResult>{id}</InitiateMultipartUploadResult>"),
            )
        }
        (Method::PUT, Some(_)) if bucket.refuses_parts.load(Ordering::Relaxed) => {
            answer(StatusCode::BAD_REQUEST, "<Error><Code>EntityTooSmall</Code></Error>")
        }
        (Method::PUT, Some(id)) => {
            uploads.get_mut(id).unwrap().insert(query["partNumber"].parse().unwrap(), body);
            answer(StatusCode::OK, "")
        }
        (Method::POST, Some(id)) => {
            let parts = uploads.remove(id).unwrap();
            objects.insert(key, parts.into_values().flatten().collect());
            let done = "<CompleteMultipartUploadResult><ETag>e</ETag>";
            answer(StatusCode::OK, format!("{done}</CompleteMultipartUploadResult>"))
        }
        (Method::DELETE, Some(id)) => {
            uploads.remove(id);
            answer(StatusCode::NO_CONTENT, "")
        }
        (Method::PUT, None) => {
            objects.insert(key, body);
            answer(StatusCode::OK, "")
        }
        (Method::DELETE, None) => {
            objects.remove(&key);
            answer(StatusCode::NO_CONTENT, "")
        }
        (_, None) => match (objects.get(&key).cloned(), headers.get("range")) {
            (None, _) => answer(StatusCode::NOT_FOUND, "<Error><Code>NoSuchKey</Code></Error>"),
            (Some(body), None) => answer(StatusCode::OK, body),
            (Some(body), Some(range)) => {
                let range = range.to_str().unwrap().strip_prefix("bytes=").unwrap();
                let (first, last) = range.split_once('-').unwrap();
                let (first, last): (usize, usize) = (first.parse().unwrap(), last.parse().unwrap());
                let mut part = answer(StatusCode::PARTIAL_CONTENT, body.slice(first..=last));
                let range = format!("bytes {first}-{last}/{}", body.len());
                part.headers_mut().insert("content-range", range.parse().unwrap());
                part
            }
        },
        (method, Some(_)) => panic!("{method} {uri}"),
    }
}

struct Bed {
    bucket: Shared,
    store: Store,
    _dir: tempfile::TempDir,
}

async fn bed() -> Bed {
    // Another test of this program may have done so before.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let bucket = Shared::default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let app = Router::new()
        .fallback(serve)
        .layer(axum::extract::DefaultBodyLimit::disable())
        .with_state(bucket.clone());
    tokio::spawn(axum::serve(listener, app).into_future());

    let dir = tempfile::tempdir().unwrap();
    let secret = |name: &str, content: &str| -> Option<PathBuf> {
        let path = dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        Some(path)
    };
    let s3 = S3 {
        endpoint: Some(endpoint),
        region: Some("eu-west-3".to_owned()),
        access_key_id_file: secret("id", "id\n"),
        secret_access_key_file: secret("key", SECRET),
    };
    let url = "s3://dumps/night".to_owned();
    let store = Store::open(&Options { url, s3, ..Options::default() }).unwrap();
    Bed { bucket, store, _dir: dir }
}

fn key() -> Key {
    let campaign: CampaignName = "night-1".parse().unwrap();
    let id = MigrationId::new(&campaign, &"s".parse().unwrap(), "wp");
    Attempt::new(campaign, id, 1, 1).key(Object::Dump)
}

#[tokio::test]
async fn objects_go_there_and_back() {
    let Bed { bucket, store, _dir } = bed().await;
    for count in [0, 1000, 20 << 20] {
        let (key, content) = (key(), vec![b'x'; count]);
        let written = store.put(&key, content.as_slice()).await.unwrap();
        assert!(bucket.objects.lock().unwrap().contains_key(&format!("night/{key}")));
        let mut read = Vec::new();
        store.read(&key, &written).await.unwrap().read_to_end(&mut read).await.unwrap();
        assert!(read == content);
        assert_eq!(store.size(&key).await.unwrap(), Some(count as u64));
    }
    let key = key();
    store.put_small(&key, b"0123456789").await.unwrap();
    let mut part = String::new();
    store.read_range(&key, 2..5).await.unwrap().read_to_string(&mut part).await.unwrap();
    assert_eq!(part, "234");
    let campaign = key.attempt().campaign();
    let listed: Vec<_> = store.list(campaign, None).try_collect().await.unwrap();
    assert!(listed.len() == 4 && listed.iter().any(|stored| stored.key == key));
    for _ in 0..2 {
        store.sweep(campaign, key.attempt().migration(), 1, None).await.unwrap();
        store.delete(&key).await.unwrap();
    }
    assert!(bucket.objects.lock().unwrap().is_empty());
}

#[tokio::test]
async fn an_upload_that_fails_is_taken_back() {
    let Bed { bucket, store, _dir } = bed().await;
    bucket.refuses_parts.store(true, Ordering::Relaxed);
    let error = store.put(&key(), vec![b'x'; 20 << 20].as_slice()).await.unwrap_err();
    assert_eq!(Failure::from(error).code, Code::StoreFailed);
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
    while !bucket.uploads.lock().unwrap().is_empty() {
        assert!(tokio::time::Instant::now() < deadline);
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert!(bucket.objects.lock().unwrap().is_empty());
}

#[tokio::test]
async fn refused_credentials_are_a_matter_of_configuration_and_not_shown() {
    let Bed { bucket, store, _dir } = bed().await;
    bucket.refuses_all.store(true, Ordering::Relaxed);
    let failure = Failure::from(store.put_small(&key(), b"x").await.unwrap_err());
    assert_eq!(failure.code, Code::StoreConfiguration);
    let shown = format!("{failure} {failure:?} {store:?}");
    assert!(!shown.contains(SECRET), "{shown}");
}

#[test]
fn half_a_credential_is_refused() {
    let s3 = S3 {
        region: Some("eu-west-3".to_owned()),
        access_key_id_file: Some("/nowhere".into()),
        ..S3::default()
    };
    let options = Options { url: "s3://dumps".to_owned(), s3, ..Options::default() };
    let failure = Failure::from(Store::open(&options).unwrap_err());
    assert_eq!(failure.code, Code::StoreConfiguration);
}
