//! The few requests that everything else is made of.
//!
//! 1. A request waits for its answer at most [`REQUEST_WAIT`]. When the connection was lost and
//!    came back in the meantime, the answer is most likely lost, and it waits only
//!    [`RECONNECT_GRACE`] longer.
//! 2. A server tells of a refused subject apart from the request that it refuses, which then has
//!    no answer at all. So refusals are remembered, and end the requests that they are about.

use std::{future, time::Duration};

use async_nats::{
    HeaderMap, Message, Request, RequestErrorKind,
    header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE,
    jetstream::{ErrorCode, publish::PublishAck, response::Response},
};
use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};
use tokio::time::sleep;

use crate::{Bus, Error};

/// How long a request waits for its answer. Far above what a healthy server takes, below what
/// makes a person think that a command hangs.
pub(crate) const REQUEST_WAIT: Duration = Duration::from_secs(5);
/// How long a request goes on waiting after the connection came back: what was queued meanwhile
/// is sent first, and is answered within milliseconds.
const RECONNECT_GRACE: Duration = Duration::from_millis(500);
/// JetStream's API.
pub(crate) const API: &str = "$JS.API";

/// Why a message was not stored, or not known to be.
#[derive(Debug)]
pub(crate) enum Unstored {
    /// The subject's last message is another than expected.
    Wrong,
    /// Another message on the subject is being stored just now.
    Busy,
    /// No answer came: it may be stored, or be stored yet.
    Unknown(Error),
    /// The server refused it.
    Refused(Error),
}

impl Bus {
    /// Sends a request and waits for its answer, in bounded time.
    pub(crate) async fn request(
        &self,
        subject: &str,
        headers: Option<HeaderMap>,
        payload: Bytes,
        wait: Duration,
    ) -> Result<Message, Error> {
        let mut refused = self.refusals();
        let mut request = Request::new().payload(payload).timeout(None);
        if let Some(headers) = headers {
            request = request.headers(headers);
        }
        let mut connections = self.connections();
        let came_back = async {
            if connections.changed().await.is_err() {
                future::pending::<()>().await;
            }
            sleep(RECONNECT_GRACE).await;
        };
        let refusal = async {
            loop {
                if refused.changed().await.is_err() {
                    future::pending::<()>().await;
                }
                if let Some(reason) = self.refusal_of(subject) {
                    return reason;
                }
            }
        };
        let unreachable = |reason: &str| Error::Unreachable {
            doing: format!("request on {subject}"),
            reason: format!("{}: {reason}", self.address()),
        };
        let doing = format!("request on {subject}");
        let error = tokio::select! {
            answer = self.client().send_request(subject.to_owned(), request) => match answer {
                Ok(message) => return Ok(message),
                Err(error) => error,
            },
            reason = refusal => return Err(Error::Denied { doing, reason }),
            () = came_back => return Err(unreachable("the connection was lost before an answer")),
            // The client's own limit does not hold while its queue is full.
            () = sleep(wait) => return Err(
                unreachable(&format!("no answer within {} ms", wait.as_millis()))
            ),
        };
        let reason = match error.kind() {
            RequestErrorKind::NoResponders => {
                "nothing listens there: no JetStream, no such stream or consumer, or no leader for \
                 it at the moment"
                    .to_owned()
            }
            RequestErrorKind::TimedOut
            | RequestErrorKind::InvalidSubject
            | RequestErrorKind::MaxPayloadExceeded
            | RequestErrorKind::Other => error.to_string(),
        };
        Err(Error::Failed { doing, reason })
    }

    /// A request to JetStream's API, its answer decoded; an empty one for a payload of `()`.
    pub(crate) async fn api<T: DeserializeOwned>(
        &self,
        subject: &str,
        payload: &impl Serialize,
        doing: &str,
    ) -> Result<T, Error> {
        match self.api_response(subject, payload, doing).await? {
            Response::Ok(answer) => Ok(answer),
            Response::Err { error } => {
                Err(Error::Failed { doing: doing.to_owned(), reason: error.to_string() })
            }
        }
    }

    /// As [`Bus::api`], with the API's own errors for the caller to tell apart.
    pub(crate) async fn api_response<T: DeserializeOwned>(
        &self,
        subject: &str,
        payload: &impl Serialize,
        doing: &str,
    ) -> Result<Response<T>, Error> {
        let failed = |error: serde_json::Error| Error::Failed {
            doing: doing.to_owned(),
            reason: error.to_string(),
        };
        let mut payload = serde_json::to_vec(payload).map_err(failed)?;
        // Some requests must be empty, and `null` is not.
        if payload == b"null" {
            payload.clear();
        }
        let subject = format!("{API}.{subject}");
        let answer = self.request(&subject, None, payload.into(), REQUEST_WAIT).await?;
        serde_json::from_slice(&answer.payload).map_err(failed)
    }

    /// Stores a message if the last one on its subject is `expected` (0: none); its sequence.
    pub(crate) async fn store(
        &self,
        subject: &str,
        expected: Option<u64>,
        mut headers: HeaderMap,
        payload: Bytes,
        wait: Option<Duration>,
    ) -> Result<u64, Unstored> {
        if let Some(expected) = expected {
            headers.insert(NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, expected.to_string());
        }
        let wait = wait.unwrap_or(REQUEST_WAIT);
        let answer = self.request(subject, Some(headers), payload, wait).await.map_err(
            |error| match error {
                Error::Unreachable { .. } => Unstored::Unknown(error),
                other => Unstored::Refused(other),
            },
        )?;
        let refused = |reason: String| {
            Unstored::Refused(Error::Failed { doing: format!("storing on {subject}"), reason })
        };
        match serde_json::from_slice::<Response<PublishAck>>(&answer.payload) {
            Ok(Response::Ok(ack)) => Ok(ack.sequence),
            Ok(Response::Err { error }) => Err(match error.error_code() {
                ErrorCode::STREAM_WRONG_LAST_SEQUENCE => Unstored::Wrong,
                ErrorCode::STREAM_WRONG_LAST_SEQUENCE_CONSTANT => Unstored::Busy,
                _ => refused(error.to_string()),
            }),
            Err(error) => Err(refused(error.to_string())),
        }
    }
}
