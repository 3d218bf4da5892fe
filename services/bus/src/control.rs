//! Requests to the services that run, and signals from them: neither decides anything, both are
//! bounded in time.

use std::time::Duration;

use async_nats::{HeaderMap, Message, StatusCode, Subscriber, header::NATS_MESSAGE_ID};
use bytes::Bytes;
use drover_schemas::{
    CampaignName, ServerName, subjects,
    v1::{HostLoad, Signal},
};
use futures::StreamExt as _;
use prost::Message as _;
use tokio::{
    task::JoinSet,
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;

use crate::{Bus, Error, metrics, request::Unstored};

/// How many requests are answered at once; more wait.
const ANSWERS_MAX: usize = 16;
/// How long the first answer is waited for.
const FIRST_ANSWER_WAIT: Duration = Duration::from_secs(2);
/// How long after an answer another instance's may come. How many instances there are is known
/// to nobody.
const NEXT_ANSWER_WAIT: Duration = Duration::from_millis(250);

impl Bus {
    /// Answers requests on `subject` (see [`subjects::control`]) until `shutdown`. Every instance
    /// of a service answers.
    pub async fn serve<H, F>(
        &self,
        subject: &str,
        shutdown: CancellationToken,
        handler: H,
    ) -> Result<(), Error>
    where
        H: Fn(Bytes) -> F + Send + Sync,
        F: Future<Output = Bytes> + Send + 'static,
    {
        let mut requests = self.hear_on(subject).await?;
        let mut answers = JoinSet::new();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                Some(ended) = answers.join_next(), if !answers.is_empty() => {
                    if let Err(error) = ended {
                        tracing::error!(subject, %error, "a request's task ended");
                    }
                }
                request = requests.next(), if answers.len() < ANSWERS_MAX => {
                    // Only the end of the connection ends a subscription.
                    let Some(request) = request else { return Ok(()) };
                    let Some(reply) = request.reply else { continue };
                    let (client, answer) = (self.client().clone(), handler(request.payload));
                    answers.spawn(async move {
                        if let Err(error) = client.publish(reply, answer.await).await {
                            tracing::debug!(%error, "an answer was not sent");
                        }
                    });
                }
            }
        }
    }

    /// Asks all running instances of `service`; their answers. [`Error::NoAnswer`] when none
    /// runs. Takes some 250 ms, at most [`FIRST_ANSWER_WAIT`] longer.
    pub async fn ask(&self, service: &str, request: Bytes) -> Result<Vec<Bytes>, Error> {
        self.ask_until(service, request, |_| false).await
    }

    /// The same, and waits for no more answers once one is enough.
    pub async fn ask_until(
        &self,
        service: &str,
        request: Bytes,
        is_enough: impl Fn(&[u8]) -> bool,
    ) -> Result<Vec<Bytes>, Error> {
        let subject = subjects::control(service);
        let no_answer = || Error::NoAnswer { subject: subject.clone() };
        let failed = |reason: String| Error::Failed { doing: format!("asking {service}"), reason };
        let client = self.client();
        let inbox = client.new_inbox();
        let subscribed = client.subscribe(inbox.clone()).await;
        let mut replies = subscribed.map_err(|error| failed(error.to_string()))?;
        let published = client.publish_with_reply(subject.clone(), inbox, request).await;
        published.map_err(|error| failed(error.to_string()))?;
        let mut answers = Vec::new();
        let mut deadline = Instant::now() + FIRST_ANSWER_WAIT;
        while let Ok(Some(Message { payload, status, .. })) =
            timeout_at(deadline, replies.next()).await
        {
            if status == Some(StatusCode::NO_RESPONDERS) {
                return Err(no_answer());
            }
            let enough = is_enough(&payload);
            answers.push(payload);
            if enough {
                break;
            }
            deadline = Instant::now() + NEXT_ANSWER_WAIT;
        }
        if answers.is_empty() { Err(no_answer()) } else { Ok(answers) }
    }

    /// Asks on `subject`; the first answer that comes within `wait`.
    pub async fn ask_one(
        &self,
        subject: &str,
        request: Bytes,
        wait: Duration,
    ) -> Result<Bytes, Error> {
        match self.request(subject, None, request, wait).await {
            Ok(answer) => Ok(answer.payload),
            Err(Error::Failed { .. } | Error::Unreachable { .. }) => {
                Err(Error::NoAnswer { subject: subject.to_owned() })
            }
            Err(other) => Err(other),
        }
    }

    /// Tells what a server is under. It is kept nowhere, and whether anybody hears it is not known; that
    /// it was refused, which the server says later, is known the next time.
    pub async fn tell_load(&self, server: &ServerName, load: &HostLoad) -> Result<(), Error> {
        let subject = subjects::load(server);
        let doing = format!("publishing on {subject}");
        if let Some(reason) = self.refusal_of(&subject) {
            return Err(Error::Denied { doing, reason });
        }
        let told = self.client().publish(subject, load.encode_to_vec().into()).await;
        told.map_err(|error| Error::Failed { doing, reason: error.to_string() })
    }

    /// Hears what all servers are under, until `shutdown`.
    pub async fn loads(
        &self,
        shutdown: CancellationToken,
        mut hear: impl FnMut(ServerName, HostLoad),
    ) -> Result<(), Error> {
        let mut told = self.hear_on(subjects::LOADS).await?;
        loop {
            let message = tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                message = told.next() => message,
            };
            // Only the end of the connection ends a subscription.
            let Some(message) = message else { return Ok(()) };
            // What JetStream was told to send here has headers, and is nobody's word.
            if message.headers.is_some() {
                continue;
            }
            match (subjects::parse_load(&message.subject), HostLoad::decode(message.payload)) {
                (Some(server), Ok(load)) => hear(server, load),
                _ => metrics::undecodable("load"),
            }
        }
    }

    async fn hear_on(&self, subject: &str) -> Result<Subscriber, Error> {
        let subscribed = self.client().subscribe(subject.to_owned()).await;
        subscribed.map_err(|error| Error::Failed {
            doing: format!("subscribing to {subject}"),
            reason: error.to_string(),
        })
    }

    /// Publishes a derived fact. `id` names it: the same fact published again within two minutes
    /// is kept once.
    pub async fn signal(
        &self,
        campaign: &CampaignName,
        kind: &str,
        signal: &Signal,
        id: &str,
    ) -> Result<(), Error> {
        let mut headers = HeaderMap::new();
        headers.insert(NATS_MESSAGE_ID, id);
        let subject = subjects::signal(campaign, kind);
        let payload = signal.encode_to_vec().into();
        match self.store(&subject, None, headers, payload, None).await {
            Ok(_) => Ok(()),
            Err(Unstored::Unknown(error) | Unstored::Refused(error)) => Err(error),
            Err(Unstored::Wrong | Unstored::Busy) => {
                let doing = format!("storing on {subject}");
                Err(Error::Failed { doing, reason: "an unexpected refusal".to_owned() })
            }
        }
    }
}
