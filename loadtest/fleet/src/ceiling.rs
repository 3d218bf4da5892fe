//! What this machine's JetStream does when nothing but messages is asked of it: as many of the
//! same size as migrations make, published, consumed and acknowledged.
//!
//! Events go into a stream that keeps them and has two readers, as the orchestrator and the
//! projector are; orders go through a work queue with a consumer for each service. No message
//! waits for another: it is a ceiling, which a chain of steps that each wait for the last one's
//! event can only come near to.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use async_nats::jetstream::{
    self,
    consumer::{AckPolicy, PullConsumer, pull},
    stream::{Config, RetentionPolicy, StorageType},
};
use drover_testbed::{Bed, Nats};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use tokio::task::JoinSet;

/// How many publishes are under way at once.
const PIPELINE: usize = 1_024;
/// The queue's consumers.
const CONSUMERS: u64 = 4;
/// Readers of the events.
const READERS: u64 = 2;

/// What a migration is made of.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// How many migrations' messages.
    pub migrations: u64,
    /// Events of one, and their size in bytes.
    pub events: u64,
    /// Their size.
    pub event_bytes: u64,
    /// Orders of one.
    pub jobs: u64,
    /// Their size.
    pub job_bytes: u64,
}

/// Migrations a second, as far as their messages alone go.
///
/// # Errors
/// When the server fails.
pub async fn measure(load: Load) -> Result<f64> {
    let bed = Bed::new()?;
    let nats = Nats::start(&bed)?;
    let context = context(&nats).await?;
    let config = |name: &str, retention| Config {
        name: name.to_owned(),
        subjects: vec![format!("{name}.>")],
        retention,
        storage: StorageType::File,
        ..Config::default()
    };
    context.create_stream(config("events", RetentionPolicy::Limits)).await?;
    context.create_stream(config("jobs", RetentionPolicy::WorkQueue)).await?;
    let (events, jobs) = (load.migrations * load.events, load.migrations * load.jobs);
    let start = Instant::now();
    let mut tasks = JoinSet::new();
    for reader in 0..READERS {
        tasks.spawn(consume(self::context(&nats).await?, "events", reader, None, events));
    }
    for consumer in 0..CONSUMERS {
        let count = (jobs + CONSUMERS - 1 - consumer) / CONSUMERS;
        let filter = Some(format!("jobs.{consumer}.>"));
        tasks.spawn(consume(self::context(&nats).await?, "jobs", consumer, filter, count));
    }
    let subject = move |n: u64| format!("events.{:036}", n % load.migrations.max(1));
    tasks.spawn(publish(self::context(&nats).await?, events, load.event_bytes, subject));
    let subject = |n: u64| format!("jobs.{}.{n:036}", n % CONSUMERS);
    tasks.spawn(publish(self::context(&nats).await?, jobs, load.job_bytes, subject));
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    Ok(load.migrations as f64 / start.elapsed().as_secs_f64())
}

async fn context(nats: &Nats) -> Result<jetstream::Context> {
    Ok(jetstream::new(async_nats::connect(nats.url()).await?))
}

async fn publish(
    context: jetstream::Context,
    count: u64,
    bytes: u64,
    subject: impl Fn(u64) -> String,
) -> Result<()> {
    let payload = bytes::Bytes::from(vec![b'x'; usize::try_from(bytes)?]);
    let mut acknowledged = stream::iter(0..count)
        .map(|n| {
            let (context, subject, payload) = (&context, subject(n), payload.clone());
            async move { anyhow::Ok(context.publish(subject, payload).await?.await?) }
        })
        .buffer_unordered(PIPELINE);
    while acknowledged.try_next().await?.is_some() {}
    Ok(())
}

/// Takes `count` messages; with a filter it acknowledges them, as an order is.
async fn consume(
    context: jetstream::Context,
    name: &str,
    number: u64,
    filter: Option<String>,
    count: u64,
) -> Result<()> {
    let acknowledges = filter.is_some();
    let config = pull::Config {
        durable_name: Some(format!("consumer-{number}")),
        ack_policy: if acknowledges { AckPolicy::Explicit } else { AckPolicy::None },
        filter_subject: filter.unwrap_or_default(),
        max_ack_pending: if acknowledges { 1_000 } else { 0 },
        ..pull::Config::default()
    };
    let consumer: PullConsumer = context.create_consumer_on_stream(config, name).await?;
    let mut messages = consumer.stream().max_messages_per_batch(1_000).messages().await?;
    for _ in 0..count {
        let next = tokio::time::timeout(Duration::from_secs(60), messages.next());
        let message = next.await.context("no message comes")?.context("the stream ended")??;
        if acknowledges {
            message.ack().await.map_err(|error| anyhow::anyhow!("{error}"))?;
        }
    }
    Ok(())
}
