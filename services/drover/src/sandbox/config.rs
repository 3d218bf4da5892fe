//! The sandbox's configuration: the file that an operator would write.

use std::path::{Path, PathBuf};

use age::{secrecy::ExposeSecret as _, x25519::Identity};
use anyhow::Result;
use drover_testbed::mariadb::{Mariadb, secret, write_private};
use toml::{Table, Value, toml};

use super::{herd::ZONE, servers::Servers};

/// Writes the configuration and its secrets into the bed's folder.
pub fn write(servers: &Servers) -> Result<PathBuf> {
    let folder = servers.bed.dir();
    let path = |name: &str| folder.join(name).display().to_string();
    write_private(&folder.join("link.key"), &format!("{}{}", secret(), secret()))?;
    let (store, link_key, projections) = (path("store"), path("link.key"), path("projections.db"));
    let nats = servers.nats.url();
    let (public_url, listen) = (format!("http://{}", servers.console), servers.console.to_string());
    let (dns, key_name) = (servers.bind.address().to_string(), servers.bind.key_name());
    let dns_key = servers.bind.key_file().display().to_string();
    let (smtp_host, smtp_port) =
        (servers.smtp.address().ip().to_string(), i64::from(servers.smtp.address().port()));
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
    for (name, server) in servers.named() {
        let entry = self::server(folder, name, server)?;
        set(&mut config, &["servers", name], entry);
    }
    let file = folder.join("drover.toml");
    write_private(&file, &toml::to_string_pretty(&config)?)?;
    Ok(file)
}

fn server(folder: &Path, name: &str, server: &Mariadb) -> Result<Table> {
    let is_source = name.starts_with("src");
    let slots = i64::from(!is_source) * 4;
    let mut entry = Table::new();
    set(&mut entry, &["slots_as_source"], 4 - slots);
    set(&mut entry, &["slots_as_destination"], slots);
    set(&mut entry, &["mysql", "host"], server.address().to_string());
    set(&mut entry, &["mysql", "port"], i64::from(server.port()));
    set(&mut entry, &["mysql", "user"], server.drover_user());
    let password_file = server.drover_password_file().display().to_string();
    set(&mut entry, &["mysql", "password_file"], password_file);
    let trusted = vec![Value::from("root@localhost"), Value::from("root@%")];
    set(&mut entry, &["mysql", "trusted_accounts"], trusted);
    set(&mut entry, &["dns", "dns_name"], format!("{name}.{ZONE}"));
    set(&mut entry, &["dns", "ipv4"], vec![Value::from(server.address().to_string())]);
    if !is_source {
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
