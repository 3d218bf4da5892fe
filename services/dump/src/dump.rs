//! The dump step: one object for the customer, its manifest, and the sealed accounts.
//!
//! The accounts are kept only while they may be needed: `publish` deletes them where the migration
//! succeeds, and the thaw, with which every undo ends, where it does not. They are written before
//! the dump, so that the ledger says after that once more that the source is frozen: who thaws it
//! later finds them; and where it was thawed already, the dump fails and takes them back.

use drover_dumpstore::{Attempt, DumpForm, Object, Written};
use drover_mysql::{Accounts, Form, Manifest, Order, Server};
use drover_schemas::{
    Code, Failure,
    v1::{DumpStored, Job, SourceThawed},
};

use crate::Service;

impl Service {
    /// Streams the dump to the store, then writes the manifest and the accounts. Each attempt has
    /// objects of its own.
    pub(crate) async fn dump(
        &self,
        server: &Server,
        order: &Order,
        job: &Job,
    ) -> Result<DumpStored, Failure> {
        let destination = job.planned.as_ref().map_or("", |planned| planned.destination.as_str());
        let seal = self.seals.iter().find(|(name, _)| name.as_str() == destination);
        let (_, seal) = seal.ok_or_else(|| {
            let text = format!("the destination {destination:?} is not in this configuration");
            Failure::new(Code::JobIncomplete, text)
        })?;
        let accounts = drover_mysql::accounts(server, order).await?;
        let sealed = seal.seal(&accounts)?;
        let attempt =
            Attempt::new(order.campaign.clone(), order.migration, order.run, order.attempt);
        let accounts_key = attempt.key(Object::Accounts);
        let stored = self.store.put_small(&accounts_key, &sealed).await?;
        let dumped = self.write(server, order, &attempt, &accounts, &stored).await;
        if dumped.is_err()
            && let Err(error) = self.store.delete(&accounts_key).await
        {
            tracing::warn!(migration = %order.migration, %error, "sealed accounts were left");
        }
        dumped
    }

    /// Writes the dump and the manifest, when the accounts are stored.
    async fn write(
        &self,
        server: &Server,
        order: &Order,
        attempt: &Attempt,
        accounts: &Accounts,
        sealed: &Written,
    ) -> Result<DumpStored, Failure> {
        let (form, object) = match self.store.dump_form() {
            DumpForm::Zstd => (Form::Zstd, Object::Dump),
            DumpForm::Gzip => (Form::Gzip, Object::GzipDump),
        };
        let [dump_key, manifest_key, accounts_key] =
            [object, Object::Manifest, Object::Accounts].map(|object| attempt.key(object));
        let mut writer = self.store.write(&dump_key);
        let contents = drover_mysql::dump(server, order, &accounts.events, form, &mut writer).await;
        let contents = contents.map_err(failure)?;
        let dump = writer.finish().await?;
        let (tables, rows) = (contents.description.tables(), contents.description.rows());
        let manifest = Manifest::new(contents, sealed.sha256.clone());
        let json = manifest
            .to_json()
            .map_err(|error| Failure::new(Code::DumpRefused, error.to_string()))?;
        let manifest = self.store.put_small(&manifest_key, &json).await?;
        Ok(DumpStored {
            dump_object: dump_key.to_string(),
            manifest_object: manifest_key.to_string(),
            accounts_object: accounts_key.to_string(),
            dump_bytes: dump.bytes,
            dump_sha256: dump.sha256,
            manifest_sha256: manifest.sha256,
            tables,
            rows,
        })
    }

    /// Thaws the source, then deletes the accounts that this run and earlier ones have stored:
    /// nobody opens the destination with them any more. The customer comes first; where the store
    /// is away, the step is done again.
    pub(crate) async fn thaw(
        &self,
        server: &Server,
        order: &Order,
    ) -> Result<SourceThawed, Failure> {
        let thawed = drover_mysql::thaw(server, order).await?;
        self.store.delete_accounts(&order.campaign, order.migration, order.run).await?;
        Ok(thawed)
    }
}

/// An error of the dump; where its writer failed, of the store.
fn failure(error: drover_mysql::Error) -> Failure {
    match error {
        drover_mysql::Error::Writing { source, .. } => {
            drover_dumpstore::Error::from_io(source).into()
        }
        other => other.into(),
    }
}
