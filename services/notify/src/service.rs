//! The three steps, and the loop that takes them from the queue.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use drover_bus::Bus;
use drover_dumpstore::{
    Object, Store,
    link::{self, Signer},
};
use drover_lifecycle::Conclusion;
use drover_schemas::{
    Failure, streams,
    subjects::Host,
    v1::{CustomerNotified, DumpExpired, DumpPublished, Job, Step, migration_event::Event},
};
use tokio_util::sync::CancellationToken;

use crate::{
    Error, Options,
    mail::Mailer,
    message::{Message, Order},
    operators::Operators,
    templates::Templates,
    webhook::Poster,
};

/// How long the customer may fetch the dump where the campaign's policy does not say.
const RETENTION_DAYS_DEFAULT: u32 = 30;

/// Publishes, announces and lets expire. Cheap to clone.
#[derive(Clone)]
pub struct Service {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    signer: Signer,
    templates: Templates,
    mailer: Option<Mailer>,
    poster: Option<Poster>,
    operators: Option<Operators>,
    slots: u32,
}

impl Service {
    /// Reads secrets and templates, and tries the templates with an example; speaks to nobody.
    ///
    /// # Errors
    /// [`Error::Configuration`], [`Error::Secret`], [`Error::Template`], and [`Error::Store`] for
    /// `links`.
    pub fn new(options: &Options, links: &link::Options, store: Store) -> Result<Self, Error> {
        if options.slots == 0 {
            return Err(Error::Configuration("[notify] slots: at least 1".to_owned()));
        }
        let mailer = options.smtp.as_ref().map(Mailer::new);
        let (mails, posts) = (options.smtp.is_some(), options.webhook.is_some());
        let operators = options.operators.as_ref().map(|it| Operators::new(it, mails, posts));
        let inner = Inner {
            store,
            signer: Signer::open(links)?,
            templates: Templates::load(options.templates.as_deref())?,
            mailer: mailer.transpose()?,
            poster: options.webhook.as_ref().map(Poster::new).transpose()?,
            operators: operators.transpose()?,
            slots: options.slots,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Says where the dump is and until when, after it has made sure that it is there and has
    /// deleted what only the move needed: the sealed accounts, and what earlier attempts left.
    ///
    /// The link in the event opens nothing: the signature is added where it leaves for the
    /// customer, so that who may read events cannot fetch customers' databases.
    ///
    /// # Errors
    /// [`Error::Store`] and [`Error::Incomplete`]. The step can be done again after each.
    pub async fn publish(&self, job: &Job) -> Result<DumpPublished, Error> {
        self.publish_at(job, Utc::now()).await
    }

    async fn publish_at(&self, job: &Job, now: DateTime<Utc>) -> Result<DumpPublished, Error> {
        let order = Order::of(job)?;
        let store = &self.inner.store;
        let key = order.dump.to_string();
        match store.size(&order.dump).await? {
            None => return Err(drover_dumpstore::Error::Missing(key).into()),
            Some(bytes) if bytes != order.stored.dump_bytes => {
                let difference = format!("has {bytes} bytes, not {}", order.stored.dump_bytes);
                return Err(drover_dumpstore::Error::Corrupt { key, difference }.into());
            }
            Some(_) => {}
        }
        let attempt = order.dump.attempt();
        store.delete(&attempt.key(Object::Accounts)).await?;
        store.sweep(&order.campaign, order.migration, attempt.run(), Some(attempt)).await?;
        let policy = job.policy.as_ref().ok_or(Error::Incomplete("policy"))?;
        let days = match policy.dump_retention_days {
            0 => RETENTION_DAYS_DEFAULT,
            days => days,
        };
        let expires = now + TimeDelta::days(days.into());
        Ok(DumpPublished {
            link: self.inner.signer.unsigned(&order.campaign, order.migration),
            expires_at_unix_ms: expires.timestamp_millis(),
        })
    }

    /// Sends the messages by the configured channels. An owner that is empty gets no mail. One
    /// channel's failure does not keep the other's message back.
    ///
    /// # Errors
    /// The failure that may go away by itself first, else the one that does not: after both, the
    /// step can be done again. Mail that was accepted is then not sent again, as long as the
    /// store could note it; the webhook is, under the same `webhook-id`.
    pub async fn announce(&self, job: &Job) -> Result<CustomerNotified, Error> {
        let order = Order::of(job)?;
        let message = Message::new(&order, job, &self.inner.signer)?;
        let (mailed, posted) = tokio::join!(self.mail(&order, &message), self.post(&message));
        let mut channels = Vec::new();
        match (mailed, posted) {
            (Ok(mailed), Ok(posted)) => {
                channels.extend(mailed.then(|| "smtp".to_owned()));
                channels.extend(posted.then(|| "webhook".to_owned()));
            }
            (Err(error), Ok(_)) | (Ok(_), Err(error)) => return Err(error),
            (Err(mail), Err(post)) if post.is_transient() && !mail.is_transient() => {
                return Err(post);
            }
            (Err(mail), Err(_)) => return Err(mail),
        }
        Ok(CustomerNotified { channels, idempotency_key: message.key })
    }

    /// Whether a mail has gone, now or before.
    async fn mail(&self, order: &Order<'_>, message: &Message) -> Result<bool, Error> {
        let Some(mailer) = self.inner.mailer.as_ref().filter(|_| !message.owner.trim().is_empty())
        else {
            return Ok(false);
        };
        let store = &self.inner.store;
        let mark = order.dump.attempt().key(Object::Mailed);
        if store.size(&mark).await?.is_some() {
            return Ok(true);
        }
        mailer.send(message, &self.inner.templates).await?;
        if let Err(error) = store.put_small(&mark, message.key.as_bytes()).await {
            // To fail now would send the mail again for sure; without the mark it may be.
            tracing::warn!(migration = %order.migration, %error, "accepted mail was not noted");
        }
        Ok(true)
    }

    /// Whether a webhook is configured, and took the message.
    async fn post(&self, message: &Message) -> Result<bool, Error> {
        let Some(poster) = &self.inner.poster else { return Ok(false) };
        let body = self.inner.templates.webhook(message)?;
        poster.post(&message.key, body, Utc::now()).await?;
        Ok(true)
    }

    /// Deletes the dump and all else that the migration has in the store, except what a later run has
    /// written. In a rehearsal there may be no dump.
    ///
    /// # Errors
    /// [`Error::Store`] and [`Error::Incomplete`]. The step can be done again after each.
    pub async fn expire(&self, job: &Job) -> Result<DumpExpired, Error> {
        if job.dump.is_some() {
            // On the word of a job that names another migration's dump nothing is deleted.
            Order::of(job)?;
        }
        let campaign = job.campaign.parse().map_err(|_| Error::Incomplete("campaign"))?;
        let id = job.migration_id.parse().map_err(|_| Error::Incomplete("migration's id"))?;
        self.inner.store.sweep(&campaign, id, job.run, None).await?;
        Ok(DumpExpired {})
    }

    /// Does a job's step.
    ///
    /// # Errors
    /// Those of the steps; and a job that is not for this service.
    pub async fn step(&self, job: &Job) -> Conclusion {
        match job.step() {
            Step::Publish => Ok(Event::DumpPublished(self.publish(job).await?)),
            Step::Announce => Ok(Event::CustomerNotified(self.announce(job).await?)),
            Step::Expire => Ok(Event::DumpExpired(self.expire(job).await?)),
            Step::Unspecified
            | Step::Freeze
            | Step::Dump
            | Step::Import
            | Step::Verify
            | Step::Disarm
            | Step::Open
            | Step::Switch
            | Step::Retire
            | Step::Revert
            | Step::Close
            | Step::Drop
            | Step::Thaw => Err(drover_worker::foreign(streams::Service::Notify, job)),
        }
    }

    /// Takes jobs from the queue and does them, and tells the operators of the campaigns, until `shutdown`. `instance` tells this process
    /// from others in the events' source.
    ///
    /// # Errors
    /// The bus's, where the queue or the consumer cannot be made.
    pub async fn run(
        self,
        bus: Bus,
        instance: &str,
        shutdown: CancellationToken,
    ) -> Result<(), Failure> {
        let inner = self.inner.clone();
        let hosts = [(Host::Notify, inner.slots)];
        let step = move |job| {
            let service = self.clone();
            async move { service.step(&job).await }
        };
        let kind = streams::Service::Notify;
        let steps = drover_worker::run(&bus, kind, instance, hosts, shutdown.clone(), step);
        let Some(operators) = &inner.operators else { return steps.await };
        let (mailer, poster) = (inner.mailer.as_ref(), inner.poster.as_ref());
        let (steps, ()) = tokio::join!(steps, operators.run(&bus, mailer, poster, shutdown));
        steps
    }
}
