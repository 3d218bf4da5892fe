//! From a link to the bytes of a dump.

use std::{sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::{Path, Query, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use chrono::Utc;
use drover_bus::{Bus, Recorded};
use drover_dumpstore::{Key, Object, Store, Written, link::Refusal, link::Signer};
use drover_schemas::{
    CampaignName, Code, Failure, MigrationId,
    subjects::Aggregate,
    v1::{DumpStored, migration_event::Event},
};
use futures::StreamExt as _;
use serde::Deserialize;
use tokio::{
    io::AsyncRead,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use tokio_util::io::ReaderStream;

use crate::{
    Error,
    file_name::content_disposition,
    range::{self, Wanted},
};

/// How much is read from the store at once, in bytes, for each download.
const CHUNK_BYTES: usize = 64 << 10;
/// How long the bus may take to tell a migration's history.
const HISTORY_WAIT: Duration = Duration::from_secs(5);
/// When a client that found no place may come again, in seconds.
const COME_AGAIN_S: &str = "30";

/// What a request needs.
pub(crate) struct Door {
    pub(crate) bus: Bus,
    pub(crate) store: Store,
    pub(crate) signer: Signer,
    pub(crate) places: Arc<Semaphore>,
}

/// The link's own part. Its texts are checked here, not by the framework, so that what it says
/// about a wrong one shows nothing.
#[derive(Deserialize)]
pub(crate) struct Link {
    #[serde(default)]
    expires: String,
    #[serde(default)]
    signature: String,
}

/// The dump that a history leads to.
struct Dump {
    database: String,
    key: Key,
    written: Written,
}

/// Why a request gets no dump.
enum No {
    Unknown,
    Forged,
    Expired,
    Full,
    Failed(Failure),
}

impl<E: Into<Error>> From<E> for No {
    fn from(error: E) -> Self {
        let failure = Failure::from(error.into());
        match failure.code {
            Code::CampaignUnknown | Code::StoreMissing => Self::Unknown,
            _ => Self::Failed(failure),
        }
    }
}

impl No {
    fn response(self) -> Response {
        let (status, text) = match self {
            Self::Unknown => (StatusCode::NOT_FOUND, "There is no such dump any more."),
            Self::Forged => (StatusCode::FORBIDDEN, "This link is not complete or not right."),
            Self::Expired => (StatusCode::GONE, "This link has expired."),
            Self::Full => (StatusCode::SERVICE_UNAVAILABLE, "Too many downloads; later, please."),
            Self::Failed(failure) if failure.code.is_transient() => {
                (StatusCode::SERVICE_UNAVAILABLE, "The dump cannot be read now; later, please.")
            }
            Self::Failed(_) => {
                (StatusCode::INTERNAL_SERVER_ERROR, "The dump cannot be read. We have been told.")
            }
        };
        let mut response = (status, format!("{text}\n")).into_response();
        if status == StatusCode::SERVICE_UNAVAILABLE {
            set(&mut response, header::RETRY_AFTER, COME_AGAIN_S);
        }
        response
    }
}

/// `GET` and `HEAD /dumps/{campaign}/{migration}`.
pub(crate) async fn serve(
    State(door): State<Arc<Door>>,
    Path((campaign, migration)): Path<(String, String)>,
    Query(link): Query<Link>,
    method: Method,
    headers: HeaderMap,
) -> Response {
    let outcome = door.answer(&campaign, &migration, &link, &method, &headers).await;
    let response = match outcome {
        Ok(response) => response,
        Err(no) => {
            if let No::Failed(failure) = &no {
                tracing::error!(campaign, migration, %failure, "a dump cannot be given");
            }
            no.response()
        }
    };
    // The signature, which opens the dump, is not logged.
    tracing::info!(campaign, migration, %method, status = response.status().as_u16(), "dump");
    response
}

impl Door {
    async fn answer(
        &self,
        campaign: &str,
        migration: &str,
        link: &Link,
        method: &Method,
        headers: &HeaderMap,
    ) -> Result<Response, No> {
        let campaign: CampaignName = campaign.parse().map_err(|_| No::Forged)?;
        let migration: MigrationId = migration.parse().map_err(|_| No::Forged)?;
        let expires: i64 = link.expires.parse().map_err(|_| No::Forged)?;
        let verified =
            self.signer.verify(&campaign, migration, expires, &link.signature, Utc::now());
        verified.map_err(|refusal| match refusal {
            Refusal::Forged => No::Forged,
            Refusal::Expired => No::Expired,
        })?;
        let place = self.places.clone().try_acquire_owned().map_err(|_| No::Full)?;

        let history = self.bus.history(&campaign, Aggregate::Migration(migration));
        let history = timeout(HISTORY_WAIT, history).await.map_err(|_| {
            No::Failed(Failure::new(Code::BusUnreachable, "no history within a browser's patience"))
        })??;
        let dump = published(&history)?.ok_or(No::Unknown)?;
        let wanted = match headers.get(header::IF_RANGE) {
            Some(tag) if tag.as_bytes() != dump.tag().as_bytes() => Wanted::Whole,
            _ => {
                let range = headers.get(header::RANGE).and_then(|value| value.to_str().ok());
                range::parse(range, dump.written.bytes)
            }
        };
        self.give(&dump, wanted, method == Method::HEAD, place).await
    }

    async fn give(
        &self,
        dump: &Dump,
        wanted: Wanted,
        head: bool,
        place: OwnedSemaphorePermit,
    ) -> Result<Response, No> {
        let (key, bytes) = (&dump.key, dump.written.bytes);
        let mut response = match wanted {
            Wanted::Unsatisfiable => {
                let mut response = StatusCode::RANGE_NOT_SATISFIABLE.into_response();
                set(&mut response, header::CONTENT_RANGE, &format!("bytes */{bytes}"));
                return Ok(response);
            }
            // HEAD is answered as if there were no range; the store is asked all the same.
            _ if head => {
                self.store.size(key).await?.ok_or(No::Unknown)?;
                let mut response = Response::new(Body::empty());
                set(&mut response, header::CONTENT_LENGTH, &bytes.to_string());
                response
            }
            Wanted::Whole => {
                let reader = self.store.read(key, &dump.written).await?;
                let mut response = Response::new(body(reader, key, place));
                set(&mut response, header::CONTENT_LENGTH, &bytes.to_string());
                response
            }
            Wanted::Part(range) => {
                let (first, last) = (range.start, range.end - 1);
                let reader = self.store.read_range(key, range.clone()).await?;
                let mut response = Response::new(body(reader, key, place));
                *response.status_mut() = StatusCode::PARTIAL_CONTENT;
                let part = format!("bytes {first}-{last}/{bytes}");
                set(&mut response, header::CONTENT_RANGE, &part);
                let length = (range.end - range.start).to_string();
                set(&mut response, header::CONTENT_LENGTH, &length);
                response
            }
        };
        let (kind, ending) = match key.object() {
            Object::GzipDump => ("application/gzip", "gz"),
            Object::Dump | Object::Manifest | Object::Accounts | Object::Mailed => {
                ("application/zstd", "zst")
            }
        };
        set(&mut response, header::CONTENT_TYPE, kind);
        let disposition = content_disposition(&dump.database, ending);
        set(&mut response, header::CONTENT_DISPOSITION, &disposition);
        set(&mut response, header::ACCEPT_RANGES, "bytes");
        set(&mut response, header::ETAG, &dump.tag());
        // A whole database is in it, and the link to it in the browser's address.
        set(&mut response, header::CACHE_CONTROL, "private, no-store");
        set(&mut response, header::REFERRER_POLICY, "no-referrer");
        set(&mut response, header::X_CONTENT_TYPE_OPTIONS, "nosniff");
        Ok(response)
    }
}

impl Dump {
    /// The entity tag: the bytes' digest, so that a download goes on only with the same bytes.
    fn tag(&self) -> String {
        format!("\"{}\"", self.written.sha256)
    }
}

/// The dump that was published last and has not expired.
fn published(history: &[Recorded]) -> Result<Option<Dump>, No> {
    let (mut database, mut stored, mut published) = (String::new(), None, None);
    for recorded in history {
        let event = recorded.event.decode_migration();
        let event = event
            .map_err(|error| No::Failed(Failure::new(Code::EventUndecodable, error.to_string())))?;
        match event {
            Event::MigrationPlanned(planned) => database = planned.database,
            Event::DumpStored(dump) => stored = Some(dump),
            // A later run's dump takes the place of this one when it is published itself.
            Event::DumpPublished(_) => published.clone_from(&stored),
            Event::DumpExpired(_) => published = None,
            Event::MigrationAdmitted(_)
            | Event::SourceFrozen(_)
            | Event::ImportCompleted(_)
            | Event::CopyVerified(_)
            | Event::SourceDisarmed(_)
            | Event::DestinationOpened(_)
            | Event::DnsSwitched(_)
            | Event::SourceRetired(_)
            | Event::CustomerNotified(_)
            | Event::MigrationCompleted(_)
            | Event::StepFailed(_)
            | Event::MigrationParked(_)
            | Event::MigrationChecked(_)
            | Event::RetryRequested(_)
            | Event::RollbackRequested(_)
            | Event::BringBackRequested(_)
            | Event::MigrationRolledBack(_)
            | Event::MigrationDeferred(_)
            | Event::MigrationRecalled(_)
            | Event::MigrationRehearsed(_)
            | Event::DnsReverted(_)
            | Event::DestinationClosed(_)
            | Event::DestinationDropped(_)
            | Event::SourceThawed(_) => {}
        }
    }
    let Some(DumpStored { dump_object, dump_bytes, dump_sha256, .. }) = published else {
        return Ok(None);
    };
    let written = Written { bytes: dump_bytes, sha256: dump_sha256 };
    Ok(Some(Dump { database, key: dump_object.parse()?, written }))
}

/// The bytes as they are asked for; the place is given back with the last. A reader that fails
/// ends the connection before the announced length, so that no client takes it for whole.
fn body(reader: impl AsyncRead + Send + 'static, key: &Key, place: OwnedSemaphorePermit) -> Body {
    let key = key.to_string();
    let chunks = ReaderStream::with_capacity(reader, CHUNK_BYTES).map(move |chunk| {
        let _held = &place;
        chunk.inspect_err(|error| tracing::error!(key, %error, "a download was broken off"))
    });
    Body::from_stream(chunks)
}

fn set(response: &mut Response, name: HeaderName, value: &str) {
    // All values are made of visible ASCII; one that is not would be left out, not sent.
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}
