//! Streams, the lease bucket and consumers: made where they are missing, and always read back.
//!
//! A server accepts options that it does not know and ignores them, and somebody may have made or
//! changed a stream by hand. Either would break a promise silently, so each option that a
//! promise rests on is compared after the creation, and a difference is an error that names it.
//! Making the same thing twice, also at the same time, is harmless.
//!
//! What is there as it must be is only read: who may not make streams, as the services may not
//! where `drover init` gave each its rights, needs an administrator once. Its own consumer each
//! service may make, and makes it again after a restart of a server that keeps it alone.

use std::{collections::BTreeSet, fmt::Debug, time::Duration};

use async_nats::jetstream::{
    ErrorCode,
    consumer::{self, AckPolicy, DeliverPolicy},
    response::Response,
    stream::{self, DiscardPolicy, PersistenceMode, RetentionPolicy, StorageType},
};
use drover_schemas::{
    CampaignName,
    streams::{self, Retention},
};
use futures::{TryStreamExt as _, future::try_join_all};
use serde_json::json;

use crate::{Bus, Error};

/// How many consumers a stream may have: one a service and host, and the readers of a log. From 2.15
/// on a server takes "no limit" for 1,000, which is less than the hosts of a large fleet.
const CONSUMERS_MAX: i32 = 100_000;
/// What the streams' own names of key-value buckets begin with (ADR-8).
const BUCKET_PREFIX: &str = "KV_";

impl Bus {
    /// Makes the work queues, the signals and the leases where they are missing; checks them.
    pub async fn ensure_base(&self) -> Result<(), Error> {
        let queues = streams::queues().map(|queue| self.ensure_stream(self.config_of(queue)));
        try_join_all(queues).await?;
        self.ensure_stream(self.config_of(streams::signals())).await?;
        self.ensure_stream(self.leases()).await
    }

    /// Makes a campaign's stream where it is missing; checks it.
    pub async fn ensure_campaign(&self, campaign: &CampaignName) -> Result<(), Error> {
        self.ensure_stream(self.config_of(streams::events(campaign))).await
    }

    /// The campaigns that have a stream, in order of their names.
    pub async fn campaigns(&self) -> Result<Vec<CampaignName>, Error> {
        let names: Vec<String> =
            self.context().stream_names().try_collect().await.map_err(|error| Error::Failed {
                doing: "listing the streams".to_owned(),
                reason: error.to_string(),
            })?;
        let campaigns: BTreeSet<CampaignName> = names
            .iter()
            .filter_map(|name| name.strip_prefix(streams::EVENTS_PREFIX)?.parse().ok())
            .collect();
        Ok(campaigns.into_iter().collect())
    }

    /// Makes a durable consumer of a work queue where it is missing, or changes its slots;
    /// checks it.
    pub async fn ensure_consumer(&self, wanted: &streams::Consumer) -> Result<(), Error> {
        self.ensure_consumer_with(wanted, self.ack_wait()).await
    }

    pub(crate) async fn ensure_consumer_with(
        &self,
        wanted: &streams::Consumer,
        ack_wait: Duration,
    ) -> Result<(), Error> {
        let _turn = self.making().await;
        let name = &wanted.name;
        let config = consumer_config(wanted, ack_wait);
        let state = match self.find_consumer(wanted).await? {
            None => "not there".to_owned(),
            Some(found) => match check_consumer(name, &config, &found.config) {
                Ok(()) => return Ok(()),
                Err(difference) => difference.to_string(),
            },
        };
        let doing = format!("making consumer {name}");
        let request = json!({ "stream_name": wanted.queue, "config": config });
        let subject = format!("CONSUMER.CREATE.{}.{name}.{}", wanted.queue, wanted.filter);
        let made = self.api::<consumer::Info>(&subject, &request, &doing).await;
        made.map_err(|error| not_prepared(format!("consumer {name}"), state, error))?;
        match self.find_consumer(wanted).await? {
            Some(found) => check_consumer(name, &config, &found.config),
            None => Err(Error::Failed { doing, reason: "it is gone again".to_owned() }),
        }
    }

    /// A consumer of a work queue; none where it is not there.
    async fn find_consumer(
        &self,
        wanted: &streams::Consumer,
    ) -> Result<Option<consumer::Info>, Error> {
        let doing = format!("reading consumer {}", wanted.name);
        let subject = format!("CONSUMER.INFO.{}.{}", wanted.queue, wanted.name);
        match self.api_response(&subject, &(), &doing).await? {
            Response::Ok(info) => Ok(Some(info)),
            Response::Err { error } if error.error_code() == ErrorCode::CONSUMER_NOT_FOUND => {
                Ok(None)
            }
            Response::Err { error } => Err(Error::Failed { doing, reason: error.to_string() }),
        }
    }

    pub(crate) async fn ensure_stream(&self, wanted: stream::Config) -> Result<(), Error> {
        if let Some(found) = self.find_stream(&wanted.name).await? {
            return check_stream(&wanted, &found.config);
        }
        let doing = format!("making stream {}", wanted.name);
        let subject = format!("STREAM.CREATE.{}", wanted.name);
        let made = self.api_response::<stream::Info>(&subject, &wanted, &doing).await;
        let thing = format!("stream {}", wanted.name);
        match made.map_err(|error| not_prepared(thing, "not there".to_owned(), error))? {
            Response::Ok(_) => {}
            // Another was faster, with other options: the check names the one that differs.
            Response::Err { error } if error.error_code() == ErrorCode::STREAM_NAME_EXIST => {}
            Response::Err { error } => {
                return Err(Error::Failed { doing, reason: error.to_string() });
            }
        }
        let found = self.stream_info(&wanted.name).await?;
        check_stream(&wanted, &found.config)
    }

    /// A stream's configuration and state; none where it is not there.
    async fn find_stream(&self, name: &str) -> Result<Option<stream::Info>, Error> {
        let doing = format!("reading stream {name}");
        match self.api_response(&format!("STREAM.INFO.{name}"), &(), &doing).await? {
            Response::Ok(info) => Ok(Some(info)),
            Response::Err { error } if error.error_code() == ErrorCode::STREAM_NOT_FOUND => {
                Ok(None)
            }
            Response::Err { error } => Err(Error::Failed { doing, reason: error.to_string() }),
        }
    }

    /// A stream's configuration and state.
    pub(crate) async fn stream_info(&self, name: &str) -> Result<stream::Info, Error> {
        let doing = format!("reading stream {name}");
        self.api(&format!("STREAM.INFO.{name}"), &(), &doing).await
    }

    /// A campaign's stream; [`Error::CampaignUnknown`] when it has none.
    pub(crate) async fn campaign_info(
        &self,
        campaign: &CampaignName,
    ) -> Result<stream::Info, Error> {
        let found = self.find_stream(&streams::events_name(campaign)).await?;
        found.ok_or_else(|| Error::CampaignUnknown { campaign: campaign.clone() })
    }

    pub(crate) fn config_of(&self, stream: streams::Stream) -> stream::Config {
        stream::Config {
            name: stream.name,
            subjects: stream.subjects,
            retention: match stream.retention {
                Retention::Limits => RetentionPolicy::Limits,
                Retention::WorkQueue => RetentionPolicy::WorkQueue,
            },
            max_messages: -1,
            // Zero and -1 are one to the server, and it answers -1.
            max_messages_per_subject: match stream.messages_per_subject_max {
                0 => -1,
                limit => limit,
            },
            max_age: stream.age_max,
            max_bytes: stream.bytes_max,
            max_message_size: streams::MESSAGE_BYTES_MAX,
            max_consumers: CONSUMERS_MAX,
            discard: DiscardPolicy::Old,
            storage: StorageType::File,
            num_replicas: self.replicas(),
            deny_delete: stream.append_only,
            deny_purge: stream.append_only,
            allow_direct: true,
            // Of a stream that is kept several times the server knows no such mode: what it was
            // given is in its log then.
            persist_mode: (stream.made_again && self.replicas() == 1)
                .then_some(PersistenceMode::Async),
            allow_atomic_publish: stream.append_only,
            ..stream::Config::default()
        }
    }

    /// A key-value bucket's stream (ADR-8), so that `nats kv` shows who holds which lease.
    fn leases(&self) -> stream::Config {
        stream::Config {
            name: lease_stream(),
            subjects: vec![format!("$KV.{}.>", streams::LEASES)],
            retention: RetentionPolicy::Limits,
            max_messages: -1,
            max_messages_per_subject: 1,
            max_bytes: -1,
            max_message_size: streams::MESSAGE_BYTES_MAX,
            max_consumers: -1,
            discard: DiscardPolicy::New,
            storage: StorageType::File,
            num_replicas: self.replicas(),
            deny_delete: true,
            allow_rollup: true,
            allow_direct: true,
            ..stream::Config::default()
        }
    }
}

/// The name of the stream under the lease bucket.
pub(crate) fn lease_stream() -> String {
    format!("{BUCKET_PREFIX}{}", streams::LEASES)
}

/// What is missing is the administrator's to make, where the user may not.
fn not_prepared(thing: String, state: String, error: Error) -> Error {
    match error {
        Error::Denied { reason, .. } => Error::NotPrepared { thing, state, reason },
        other => other,
    }
}

fn consumer_config(wanted: &streams::Consumer, ack_wait: Duration) -> consumer::Config {
    consumer::Config {
        durable_name: Some(wanted.name.clone()),
        name: Some(wanted.name.clone()),
        deliver_policy: DeliverPolicy::All,
        ack_policy: AckPolicy::Explicit,
        ack_wait,
        // A job that is given up by count would stay in the stream without being delivered; the
        // worker counts, and gives it up with an event.
        max_deliver: -1,
        filter_subject: wanted.filter.clone(),
        // Of a queue, what was given out and acknowledged is kept in memory: on the disk it would be a file
        // written anew for each job and each acknowledgement, for every host. It is of no worth
        // beside the log: when it is lost, all jobs that are there are given out again, and each
        // is looked up in its history before it is begun.
        memory_storage: !wanted.kept,
        max_ack_pending: i64::from(wanted.slots),
        ..consumer::Config::default()
    }
}

fn check_stream(wanted: &stream::Config, found: &stream::Config) -> Result<(), Error> {
    let check = Check { thing: format!("stream {}", wanted.name) };
    let sorted = |subjects: &[String]| subjects.iter().cloned().collect::<BTreeSet<_>>();
    check.same("subjects", &sorted(&found.subjects), &sorted(&wanted.subjects))?;
    check.same("retention", &found.retention, &wanted.retention)?;
    check.same("storage", &found.storage, &wanted.storage)?;
    check.same("num_replicas", &found.num_replicas, &wanted.num_replicas)?;
    check.same("max_msgs", &found.max_messages, &wanted.max_messages)?;
    check.same(
        "max_msgs_per_subject",
        &found.max_messages_per_subject,
        &wanted.max_messages_per_subject,
    )?;
    check.same("max_age", &found.max_age, &wanted.max_age)?;
    check.same("max_bytes", &found.max_bytes, &wanted.max_bytes)?;
    check.same("max_msg_size", &found.max_message_size, &wanted.max_message_size)?;
    check.same("discard", &found.discard, &wanted.discard)?;
    check.same("discard_new_per_subject", &found.discard_new_per_subject, &false)?;
    check.same("deny_delete", &found.deny_delete, &wanted.deny_delete)?;
    check.same("deny_purge", &found.deny_purge, &wanted.deny_purge)?;
    check.same("allow_rollup_hdrs", &found.allow_rollup, &wanted.allow_rollup)?;
    check.same("allow_direct", &found.allow_direct, &wanted.allow_direct)?;
    if wanted.persist_mode.is_none() {
        let mode = found.persist_mode.unwrap_or_default();
        check.same("persist_mode", &mode, &PersistenceMode::Default)?;
    }
    check.same("no_ack", &found.no_ack, &false)?;
    check.same("sealed", &found.sealed, &false)?;
    check.same("mirror", &found.mirror.is_some(), &false)?;
    check.same("subject_transform", &found.subject_transform, &None)
}

fn check_consumer(
    name: &str,
    wanted: &consumer::Config,
    found: &consumer::Config,
) -> Result<(), Error> {
    let check = Check { thing: format!("consumer {name}") };
    check.same("durable_name", &found.durable_name, &wanted.durable_name)?;
    check.same("filter_subject", &found.filter_subject, &wanted.filter_subject)?;
    check.same("filter_subjects", &found.filter_subjects, &wanted.filter_subjects)?;
    check.same("deliver_policy", &found.deliver_policy, &wanted.deliver_policy)?;
    check.same("ack_policy", &found.ack_policy, &wanted.ack_policy)?;
    check.same("ack_wait", &found.ack_wait, &wanted.ack_wait)?;
    check.same("max_deliver", &found.max_deliver, &wanted.max_deliver)?;
    check.same("max_ack_pending", &found.max_ack_pending, &wanted.max_ack_pending)?;
    check.same("mem_storage", &found.memory_storage, &wanted.memory_storage)?;
    check.same("backoff", &found.backoff, &wanted.backoff)?;
    check.same("headers_only", &found.headers_only, &false)?;
    check.same("deliver_subject", &found.deliver_subject, &None)
}

struct Check {
    thing: String,
}

impl Check {
    fn same<T: PartialEq + Debug>(
        &self,
        option: &'static str,
        found: &T,
        wanted: &T,
    ) -> Result<(), Error> {
        if found == wanted {
            return Ok(());
        }
        Err(Error::Mismatch {
            thing: self.thing.clone(),
            option,
            found: format!("{found:?}"),
            wanted: format!("{wanted:?}"),
        })
    }
}
