//! nats-server's configuration as a text.

use std::{fmt::Write as _, path::Path};

use drover_schemas::users::User;

use crate::{
    init::Node,
    rights::{Rights, rights},
};

/// The port on which the servers of a cluster speak to each other.
const CLUSTER_PORT: u16 = 6222;

/// Where a server finds its certificate.
pub(crate) struct Paths<'a> {
    pub(crate) authority: Option<&'a Path>,
    pub(crate) certificate: &'a Path,
    pub(crate) key: &'a Path,
}

/// The configuration of `node`, one of `nodes`, for users with these public keys.
pub(crate) fn nats_server(
    node: &Node,
    nodes: &[Node],
    paths: &Paths<'_>,
    users: &[(User, String)],
) -> String {
    let mut text = format!(
        "# Made by drover init. Users are known by their keys: nothing in here is a secret.\n\
         server_name: {name}\n\
         listen: {listen}\n\
         jetstream {{\n  store_dir: {store}\n{sync}}}\n\
         tls {{\n  cert_file: {certificate}\n  key_file: {key}\n}}\n",
        name = quoted(&node.host),
        listen = quoted(&format!("{}:{}", node.listen, node.port)),
        store = quoted(&node.store.to_string_lossy()),
        sync = if node.sync { SYNC } else { "" },
        certificate = quoted(&paths.certificate.to_string_lossy()),
        key = quoted(&paths.key.to_string_lossy()),
    );
    if nodes.len() > 1 {
        text.push_str(&cluster(node, nodes, paths));
    }
    text.push_str("authorization {\n  users = [\n");
    for (user, key) in users {
        let Rights { publish, publish_denied, subscribe } = rights(user);
        let _ = write!(
            text,
            "    # {user}\n    {{ nkey: {key}, permissions: {{\n      \
             publish: {{ allow: {}, deny: {} }},\n      subscribe: {{ allow: {} }} }} }}\n",
            list(&publish),
            list(&publish_denied),
            list(&subscribe),
        );
    }
    text.push_str("  ]\n}\n");
    text
}

/// Without it a power cut takes up to two minutes of acknowledged events with it.
const SYNC: &str = "  # An acknowledged event is on disk.\n  sync_interval: always\n";

/// How the servers find and trust each other: by certificates of one authority, both ways.
fn cluster(node: &Node, nodes: &[Node], paths: &Paths<'_>) -> String {
    let others = nodes.iter().filter(|other| other.host != node.host);
    let routes: Vec<String> =
        others.map(|other| format!("nats://{}:{CLUSTER_PORT}", bracketed(&other.host))).collect();
    let authority = match paths.authority {
        Some(path) => format!("    ca_file: {}\n", quoted(&path.to_string_lossy())),
        None => String::new(),
    };
    format!(
        "cluster {{\n  name: drover\n  listen: {}\n  routes = {}\n  tls {{\n    cert_file: {}\n    \
         key_file: {}\n{authority}    verify: true\n  }}\n}}\n",
        quoted(&format!("{}:{CLUSTER_PORT}", node.listen)),
        list(&routes),
        quoted(&paths.certificate.to_string_lossy()),
        quoted(&paths.key.to_string_lossy()),
    )
}

/// An IPv6 address as it stands in a URL.
fn bracketed(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}

/// JSON's strings and lists are also nats-server's.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn list(texts: &[String]) -> String {
    serde_json::Value::from(texts).to_string()
}
