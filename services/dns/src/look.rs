//! What the zone's own ledger holds of a migration's host names: read, and nothing changed. For
//! holding the event log against it.

use drover_schemas::{
    MigrationId,
    v1::{DnsChange, MigrationPlanned},
};

use crate::{
    error::Error,
    mark::{Mark, State},
    names::check_host_names,
    records::Change,
    service::Service,
};

/// What a migration did to its host names last.
#[derive(Debug, Clone, PartialEq)]
pub struct Marked {
    /// The host names point to the destination; false: not, or not any more.
    pub switched: bool,
    /// The run in which it was done.
    pub run: u32,
    /// The revision of the highest order that acted.
    pub revision: u64,
    /// What the switch changed.
    pub changes: Vec<DnsChange>,
}

impl Service {
    /// The marks of a migration at its host names, as one: one message writes all of them. None
    /// where there is none at one of them, or where it has no host names.
    ///
    /// # Errors
    /// [`Error::Configuration`] and those of asking the primary.
    pub async fn marked(
        &self,
        migration: MigrationId,
        planned: &MigrationPlanned,
    ) -> Result<Option<Marked>, Error> {
        let hosts = check_host_names(&planned.host_names, &self.inner.options.zones)?;
        let Some(zone) = self.zone(&hosts)? else { return Ok(None) };
        let mut marked: Option<Marked> = None;
        for host in &hosts {
            let texts = self.texts(zone, host, None).await?;
            let mut marks = texts.iter().filter_map(Mark::of_txt);
            let Some(mark) = marks.find(|mark| mark.migration == migration) else {
                return Ok(None);
            };
            let changes = mark.changes.iter().map(|change| Change::switched(change, host.as_str()));
            marked
                .get_or_insert(Marked {
                    switched: mark.state == State::Switched,
                    run: mark.run,
                    revision: mark.revision,
                    changes: Vec::new(),
                })
                .changes
                .extend(changes);
        }
        Ok(marked)
    }
}
