//! A whole zone, for finding which host names point to which server. Changes nothing.

use std::collections::BTreeSet;

use drover_schemas::ServerName;
use hickory_proto::rr::{RData, Record};

use crate::{
    error::Error,
    names::{absolute, canonical},
    options::{Target, Zone},
    service::Service,
};

impl Service {
    /// The host names of a zone that point to a server of the configuration, in their order, each with
    /// that server; the servers' own names aside. The zone's primary must let its key transfer it (AXFR).
    ///
    /// # Errors
    /// [`Error::Configuration`], and those of asking the primary.
    pub async fn pointing(&self, zone: &Zone) -> Result<Vec<(String, ServerName)>, Error> {
        let name = canonical(&zone.name)
            .map_err(|problem| Error::Configuration(format!("zone {:?}: {problem}", zone.name)))?;
        let signer = self.inner.signers.get(&name).ok_or_else(|| {
            Error::Configuration(format!("zone {name} is not in this configuration"))
        })?;
        let mut found = BTreeSet::new();
        let servers = self.inner.targets.values().filter_map(|target| target.dns_name.as_deref());
        let own: BTreeSet<String> = servers.filter_map(|name| canonical(name).ok()).collect();
        let take = |record: &Record| {
            let to = self.inner.targets.iter().find(|(_, target)| points_to(record, target));
            if let Some((server, _)) = to {
                let text = record.name.to_ascii().trim_end_matches('.').to_lowercase();
                if !own.contains(&text) {
                    found.insert((text, server.clone()));
                }
            }
        };
        let of = (zone.name.as_str(), &absolute(&name)?);
        self.inner.client.transfer(zone.primary, of, signer, take).await?;
        Ok(found.into_iter().collect())
    }
}

fn points_to(record: &Record, target: &Target) -> bool {
    match &record.data {
        RData::CNAME(name) => {
            let text = name.0.to_ascii();
            let own = target.dns_name.as_deref().and_then(|own| canonical(own).ok());
            own.is_some_and(|own| text.trim_end_matches('.').eq_ignore_ascii_case(&own))
        }
        RData::A(address) => target.ipv4.contains(&address.0),
        RData::AAAA(address) => target.ipv6.contains(&address.0),
        _ => false,
    }
}
