//! A fleet's configuration: the file that an operator would write.

use std::path::{Path, PathBuf};

use age::{secrecy::ExposeSecret as _, x25519::Identity};
use anyhow::Result;
use toml::{Table, Value, toml};

use crate::{
    fleet::{Fleet, ZONE},
    mariadb::{Mariadb, secret, write_private},
};

pub(crate) fn write(fleet: &Fleet) -> Result<PathBuf> {
    let folder = fleet.bed.dir();
    let path = |name: &str| folder.join(name).display().to_string();
    write_private(&folder.join("link.key"), &format!("{}{}", secret(), secret()))?;
    let (store, link_key, projections) = (path("store"), path("link.key"), path("projections.db"));
    let nats = fleet.nats.url();
    let (public_url, listen) = (format!("http://{}", fleet.console), fleet.console.to_string());
    let (dns, key_name) = (fleet.bind.address().to_string(), fleet.bind.key_name());
    let dns_key = fleet.bind.key_file().display().to_string();
    let (smtp_host, smtp_port) =
        (fleet.smtp.address().ip().to_string(), i64::from(fleet.smtp.address().port()));
    let mut config = toml! {
        [nats]
        [store]
        [links]
        [projector]
        [console]
        [dns]
        [notify.smtp]
        tls = "none"
        from = "Sandbox Hosting <no-reply@sandbox.example>"
        [campaign]
        session_grace_ms = 200
        backoff_base_ms = 500
    };
    set(&mut config, &["nats", "url"], nats);
    if fleet.nats.scheme() == "tls" {
        let (users, authority) = (path("bus/users"), path("bus/authority.pem"));
        set(&mut config, &["nats", "users_folder"], users);
        set(&mut config, &["nats", "tls_ca_file"], authority);
    }
    set(&mut config, &["store", "url"], store);
    set(&mut config, &["links", "public_url"], public_url);
    set(&mut config, &["links", "key_file"], link_key);
    set(&mut config, &["projector", "database"], projections);
    set(&mut config, &["console", "listen"], listen);
    set(&mut config, &["notify", "smtp", "host"], smtp_host);
    set(&mut config, &["notify", "smtp", "port"], smtp_port);
    let mut zone = Table::new();
    set(&mut zone, &["name"], ZONE);
    set(&mut zone, &["primary"], dns);
    set(&mut zone, &["key_name"], key_name);
    set(&mut zone, &["key_file"], dns_key);
    set(&mut config, &["dns", "zones"], vec![Value::Table(zone)]);
    for server in fleet.servers() {
        set(&mut config, &["servers", server.name()], entry(folder, server, fleet)?);
    }
    let file = folder.join("drover.toml");
    write_private(&file, &toml::to_string_pretty(&config)?)?;
    Ok(file)
}

fn entry(folder: &Path, server: &Mariadb, fleet: &Fleet) -> Result<Table> {
    let name = server.name();
    let is_source = fleet.both_ways || name.starts_with("src");
    let is_destination = fleet.both_ways || !name.starts_with("src");
    let slots = i64::from(fleet.slots);
    let mut entry = Table::new();
    set(&mut entry, &["slots_as_source"], if is_source { slots } else { 0 });
    set(&mut entry, &["slots_as_destination"], if is_destination { slots } else { 0 });
    set(&mut entry, &["mysql", "host"], server.address().to_string());
    set(&mut entry, &["mysql", "port"], i64::from(server.port()));
    set(&mut entry, &["mysql", "user"], server.drover_user());
    let password_file = server.drover_password_file().display().to_string();
    set(&mut entry, &["mysql", "password_file"], password_file);
    let trusted = vec![Value::from("root@localhost"), Value::from("root@%")];
    set(&mut entry, &["mysql", "trusted_accounts"], trusted);
    set(&mut entry, &["dns", "dns_name"], format!("{name}.{ZONE}"));
    set(&mut entry, &["dns", "ipv4"], vec![Value::from(server.address().to_string())]);
    if is_destination {
        let identity = Identity::generate();
        let file = folder.join(format!("{name}.age"));
        write_private(&file, identity.to_string().expose_secret())?;
        set(&mut entry, &["seal", "to"], identity.to_public().to_string());
        set(&mut entry, &["seal", "identity_file"], file.display().to_string());
    }
    Ok(entry)
}

/// Sets a key by its path, making the tables on the way.
fn set(table: &mut Table, path: &[&str], value: impl Into<Value>) {
    match path {
        [] => {}
        [last] => {
            table.insert((*last).to_owned(), value.into());
        }
        [first, rest @ ..] => {
            let inner = table.entry(*first).or_insert_with(|| Value::Table(Table::new()));
            if let Value::Table(inner) = inner {
                set(inner, rest, value);
            }
        }
    }
}
