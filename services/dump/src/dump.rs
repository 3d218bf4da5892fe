//! The dump step: one object for the customer, its manifest, and the sealed accounts.

use drover_dumpstore::{Attempt, Object};
use drover_mysql::{Manifest, Order, Server};
use drover_schemas::{
    Code, Failure,
    v1::{DumpStored, Job},
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
        let [dump_key, manifest_key, accounts_key] =
            [Object::Dump, Object::Manifest, Object::Accounts].map(|object| attempt.key(object));

        let mut writer = self.store.write(&dump_key);
        let contents = drover_mysql::dump(server, order, &accounts.events, &mut writer).await;
        let contents = contents.map_err(failure)?;
        let dump = writer.finish().await?;

        let accounts = self.store.put_small(&accounts_key, &sealed).await?;
        let (tables, rows) = (contents.description.tables(), contents.description.rows());
        let manifest = Manifest::new(contents, accounts.sha256);
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
