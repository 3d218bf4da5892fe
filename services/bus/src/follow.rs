//! Reading histories: in order, without a gap, over every loss of the connection.
//!
//! Each follower has a consumer of its own in the server's memory. When that is lost, or when its
//! numbering has a gap, another is made that goes on at the last event that was given out, and
//! finds out first whether that is still the one there. A stream that ends before it, or has
//! another in its place, has lost acknowledged events (it was restored from older data): that is
//! an error, since going on would mix two histories.

use std::{
    pin::Pin,
    time::{Duration, SystemTime},
};

use async_nats::jetstream::{
    self,
    consumer::{self, AckPolicy, DeliverPolicy},
};
use chrono::{DateTime, Utc};
use drover_schemas::{CampaignName, ServerName, streams, subjects};
use futures::{Stream, StreamExt as _, stream};
use serde_json::json;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::{
    Bus, Error, metrics,
    pull::{Lost, Pull},
    record::{self, Recorded},
    request::API,
};

/// How many events are asked for ahead: enough that the server sends while what came is being
/// folded; some megabytes of memory.
const AHEAD_MAX: usize = 4_000;
/// How long the server keeps a consumer that nobody asks.
const CONSUMER_KEPT: Duration = Duration::from_secs(60);
/// Between attempts to go on after a loss; doubled each time.
const PAUSE_MIN: Duration = Duration::from_millis(50);
/// The longest such pause.
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// How long a reading that has an end goes on trying while nothing comes.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// At the campaign's first event.
    Start,
    /// At the event with this sequence, or the first after it.
    Sequence(u64),
    /// At the first event that was stored at this time (by the server's clock) or later.
    Time(DateTime<Utc>),
}

/// What a follower gives out.
#[derive(Debug, Clone, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "nearly all of them are events")]
pub enum Item {
    /// The next event.
    Event(Recorded),
    /// Once: all events that were there when following began have been given out.
    CaughtUp,
    /// The server was lost and is there again, and the event that was given out last stands where it
    /// stood. What else it kept may be of a moment earlier.
    Resumed,
    /// A message that is not an event of Drover's. It has been counted and logged.
    Undecodable {
        /// Its place in the stream.
        sequence: u64,
        /// Its subject.
        subject: String,
    },
}

/// Items as they come. Ends only after an error.
pub type Items = Pin<Box<dyn Stream<Item = Result<Item, Error>> + Send>>;

impl Bus {
    /// Follows a campaign's events for ever, in order and without a gap. Waits, over every loss
    /// of the connection. Ends after an error that waiting does not mend.
    pub fn follow(&self, campaign: &CampaignName, from: From) -> Items {
        Follower::new(self, campaign, from, None).items()
    }

    /// A campaign's events up to `until`, or up to the last one there is at the time of the call;
    /// then it ends. Gives no [`Item::CaughtUp`].
    pub fn replay(&self, campaign: &CampaignName, from: From, until: Option<u64>) -> Items {
        let mut follower = Follower::new(self, campaign, from, None);
        follower.ends = true;
        follower.patience = Some(PATIENCE);
        follower.until = until;
        follower.items()
    }

    /// The events of a campaign's migrations from one source, up to the last one there is at the
    /// time of the call: a small part of a large campaign's.
    pub fn replay_from(&self, campaign: &CampaignName, source: &ServerName) -> Items {
        self.replay_on(campaign, subjects::events_from(campaign, source))
    }

    /// As [`Bus::replay`], of the events on some subjects only.
    pub(crate) fn replay_on(&self, campaign: &CampaignName, filter: String) -> Items {
        let mut follower = Follower::new(self, campaign, From::Start, Some(filter));
        follower.ends = true;
        follower.patience = Some(PATIENCE);
        follower.items()
    }

    /// Names of campaigns, as their own events are appended: a hint that one is new or has
    /// changed. Not kept anywhere: what happened while the connection was lost is not repeated.
    pub async fn campaign_events(
        &self,
    ) -> Result<Pin<Box<dyn Stream<Item = CampaignName> + Send>>, Error> {
        let subject = subjects::CAMPAIGN_EVENTS;
        let subscriber = self.client().subscribe(subject).await.map_err(|error| Error::Failed {
            doing: format!("subscribing to {subject}"),
            reason: error.to_string(),
        })?;
        Ok(subscriber
            .filter_map(|message| async move {
                subjects::parse_event(&message.subject).map(|(campaign, _)| campaign)
            })
            .boxed())
    }
}

struct Follower {
    bus: Bus,
    campaign: CampaignName,
    stream: String,
    from: From,
    filter: Option<String>,
    until: Option<u64>,
    /// Ends where it has caught up.
    ends: bool,
    /// How long it goes on trying while nothing comes; none: for ever.
    patience: Option<Duration>,
    last_success: Instant,
    /// The sequence of the last message given out; 0 for none.
    last: u64,
    /// When the server stored it, in nanoseconds: no other message at its place has the same.
    last_stored_at: i128,
    /// The stream's last sequence when following began.
    target: Option<u64>,
    caught_up: bool,
    /// Ends before the next item.
    is_over: bool,
    source: Option<Source>,
    pause: Duration,
}

struct Source {
    pull: Pull,
    /// Lent to each message while its place is read: a clone costs more than that.
    context: Option<jetstream::Context>,
    consumer: String,
    /// The consumer's numbering of what it delivered.
    delivered: u64,
    /// The first delivery is the last message that was given out before, to be compared.
    begins_at_last: bool,
}

impl Follower {
    fn new(bus: &Bus, campaign: &CampaignName, from: From, filter: Option<String>) -> Self {
        Self {
            bus: bus.clone(),
            campaign: campaign.clone(),
            stream: streams::events_name(campaign),
            from,
            filter,
            until: None,
            ends: false,
            patience: None,
            last_success: Instant::now(),
            last: 0,
            last_stored_at: 0,
            target: None,
            caught_up: false,
            is_over: false,
            source: None,
            pause: PAUSE_MIN,
        }
    }

    fn items(self) -> Items {
        stream::unfold(self, |mut follower| async move {
            let item = follower.next().await?;
            Some((item, follower))
        })
        .boxed()
    }

    async fn next(&mut self) -> Option<Result<Item, Error>> {
        loop {
            if self.is_over {
                self.close();
                return None;
            }
            if self.source.is_none() {
                match self.open().await {
                    Ok(true) => return self.catch_up(),
                    Ok(false) => {}
                    Err(error) if self.is_patient() && error.is_passing() => {
                        tracing::warn!(stream = self.stream, %error, "cannot follow; trying again");
                        sleep(self.pause).await;
                        self.pause = (self.pause * 2).min(PAUSE_MAX);
                        continue;
                    }
                    Err(error) => {
                        self.is_over = true;
                        return Some(Err(error));
                    }
                }
            }
            if self.caught_up_before_item() {
                return self.catch_up();
            }
            match self.receive().await {
                Ok(Some(Ok(item))) => return Some(Ok(item)),
                Ok(Some(Err(error))) => {
                    self.is_over = true;
                    return Some(Err(error));
                }
                Ok(None) => {}
                Err(lost) => {
                    tracing::debug!(stream = self.stream, reason = lost.reason, "going on anew");
                    self.source = None;
                }
            }
        }
    }

    fn is_patient(&self) -> bool {
        self.patience.is_none_or(|patience| self.last_success.elapsed() < patience)
    }

    /// Reaching the target was noticed with the last event.
    fn caught_up_before_item(&self) -> bool {
        !self.caught_up && self.target.is_some_and(|target| self.last >= target)
    }

    fn catch_up(&mut self) -> Option<Result<Item, Error>> {
        self.caught_up = true;
        if self.ends {
            self.is_over = true;
            self.close();
            return None;
        }
        Some(Ok(Item::CaughtUp))
    }

    /// Makes a consumer; whether there is nothing to read yet, for the first time.
    async fn open(&mut self) -> Result<bool, Error> {
        let found = self.bus.campaign_info(&self.campaign).await?.state.last_sequence;
        let known = match (self.last, self.from) {
            (0, From::Sequence(first)) => first.saturating_sub(1),
            (last, From::Start | From::Sequence(_) | From::Time(_)) => last,
        };
        if known > found {
            return Err(Error::HistoryShortened { stream: self.stream.clone(), found, known });
        }
        let until = self.until.unwrap_or(u64::MAX);
        let target = *self.target.get_or_insert(found.min(until));
        let name = format!("follow-{}", Uuid::new_v4().simple());
        let doing = format!("following {}", self.stream);
        let config = consumer::Config {
            name: Some(name.clone()),
            deliver_policy: self.deliver_policy(),
            ack_policy: AckPolicy::None,
            filter_subject: self.filter.clone().unwrap_or_default(),
            inactive_threshold: CONSUMER_KEPT,
            num_replicas: 1,
            memory_storage: true,
            ..consumer::Config::default()
        };
        let request = json!({ "stream_name": self.stream, "config": config, "action": "create" });
        let filter = self.filter.as_ref().map_or(String::new(), |filter| format!(".{filter}"));
        let subject = format!("CONSUMER.CREATE.{}.{name}{filter}", self.stream);
        let info: consumer::Info = self.bus.api(&subject, &request, &doing).await?;
        let pull = Pull::open(&self.bus, &self.stream, &name).await?;
        let begins_at_last = self.last > 0;
        let context = Some(self.bus.context().clone());
        self.source = Some(Source { pull, context, consumer: name, delivered: 0, begins_at_last });
        self.pause = PAUSE_MIN;
        Ok(!self.caught_up && (info.num_pending == 0 || known >= target))
    }

    fn deliver_policy(&self) -> DeliverPolicy {
        if self.last > 0 {
            return DeliverPolicy::ByStartSequence { start_sequence: self.last };
        }
        match self.from {
            From::Start | From::Sequence(0) => DeliverPolicy::All,
            From::Sequence(first) => DeliverPolicy::ByStartSequence { start_sequence: first },
            From::Time(time) => {
                let start_time = SystemTime::from(time).into();
                DeliverPolicy::ByStartTime { start_time }
            }
        }
    }

    async fn receive(&mut self) -> Result<Option<Result<Item, Error>>, Lost> {
        let Some(source) = self.source.as_mut() else { return Ok(None) };
        let outstanding = source.pull.outstanding();
        if outstanding <= AHEAD_MAX / 2 {
            source.pull.ask(AHEAD_MAX - outstanding).await?;
        }
        let Some(message) = source.pull.next().await? else { return Ok(None) };
        let lost = |reason: String| Lost { reason, is_gone: false };
        let Some(context) = source.context.take() else {
            return Err(lost("the place of the last message was not read".to_owned()));
        };
        let message = jetstream::Message { message, context };
        let (sequence, delivered, pending, stored_at) = match message.info() {
            Ok(info) => (
                info.stream_sequence,
                info.consumer_sequence,
                info.pending,
                info.published.unix_timestamp_nanos(),
            ),
            Err(error) => return Err(lost(error.to_string())),
        };
        let jetstream::Message { message, context } = message;
        source.context = Some(context);
        if delivered != source.delivered + 1 {
            return Err(lost(format!("delivery {delivered} came after {}", source.delivered)));
        }
        source.delivered = delivered;
        self.last_success = Instant::now();
        if std::mem::take(&mut source.begins_at_last) {
            if (sequence, stored_at) != (self.last, self.last_stored_at) {
                let (stream, known) = (self.stream.clone(), self.last);
                return Ok(Some(Err(Error::HistoryShortened { stream, found: known - 1, known })));
            }
            if pending == 0 && !self.caught_up {
                self.target = Some(sequence);
            }
            return Ok(Some(Ok(Item::Resumed)));
        }
        if self.until.is_some_and(|until| sequence > until) {
            self.is_over = true;
            return Ok(None);
        }
        (self.last, self.last_stored_at) = (sequence, stored_at);
        if pending == 0 && !self.caught_up {
            self.target = Some(sequence);
        }
        let headers = message.headers.as_ref();
        let decoded = record::decode(&message.subject, sequence, headers, &message.payload);
        Ok(Some(Ok(decoded.map_or_else(
            |error| {
                metrics::undecodable("event");
                tracing::error!(%error, "an event is set aside");
                Item::Undecodable { sequence, subject: message.subject.to_string() }
            },
            Item::Event,
        ))))
    }

    /// Lets the server forget the consumer at once; it would by itself after [`CONSUMER_KEPT`].
    fn close(&mut self) {
        let Some(source) = self.source.take() else { return };
        let subject = format!("{API}.CONSUMER.DELETE.{}.{}", self.stream, source.consumer);
        let client = self.bus.client().clone();
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                // Nobody waits for the answer.
                let _ = client.publish(subject, "".into()).await;
            });
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.close();
    }
}
