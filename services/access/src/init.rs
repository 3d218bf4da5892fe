//! All files of a bus, in one folder.

use std::path::PathBuf;

use drover_schemas::users::User;
use nkeys::KeyPair;

use crate::{
    Authority, Error, Folder, Written,
    conf::{self, Paths},
};

/// A bus to be configured.
#[derive(Debug, Clone)]
pub struct Bus {
    /// Its servers; more than one are a cluster.
    pub nodes: Vec<Node>,
    /// Who may speak on it.
    pub users: Vec<User>,
    /// Where the servers' certificates come from.
    pub certificates: Certificates,
}

/// One nats-server.
#[derive(Debug, Clone)]
pub struct Node {
    /// The host name or address by which clients and the other servers reach it.
    pub host: String,
    /// Further names in its certificate.
    pub further_names: Vec<String>,
    /// The address on which it listens.
    pub listen: String,
    /// The port on which it listens.
    pub port: u16,
    /// Where it keeps its streams.
    pub store: PathBuf,
    /// Whether an acknowledged event is on disk.
    pub sync: bool,
}

/// Where the servers' certificates come from.
#[derive(Debug, Clone)]
pub enum Certificates {
    /// An authority of the bus's own, made with it.
    Own,
    /// These files, on every server in the same place.
    Given {
        /// The authority, where it is not one of the system's.
        authority: Option<PathBuf>,
        /// The certificate.
        certificate: PathBuf,
        /// Its key.
        key: PathBuf,
    },
}

/// Puts the bus's files into `folder`, as far as they are not there.
///
/// `authority.pem` is for everybody; `users/<user>.nk` for that user alone;
/// `servers/<host>/` for that server; `authority.key` for nobody: it makes further certificates.
///
/// # Errors
/// Where a file cannot be written, or one that is there not be used.
pub fn init(mut folder: Folder, bus: &Bus) -> Result<Vec<Written>, Error> {
    let mut users = Vec::new();
    for user in &bus.users {
        let name = format!("users/{user}.nk");
        let seed = folder.secret(&name, new_seed)?;
        let pair = KeyPair::from_seed(&seed)
            .map_err(|error| Error::Key { path: folder.path(&name), reason: error.to_string() })?;
        users.push((user.clone(), pair.public_key()));
    }
    match &bus.certificates {
        Certificates::Own => own(&mut folder, bus, &users)?,
        Certificates::Given { authority, certificate, key } => {
            let paths = Paths { authority: authority.as_deref(), certificate, key };
            for node in &bus.nodes {
                let text = conf::nats_server(node, &bus.nodes, &paths, &users);
                folder.public(&conf_name(node), &text)?;
            }
        }
    }
    Ok(folder.written())
}

/// The configuration with certificates of the bus's own authority.
fn own(folder: &mut Folder, bus: &Bus, users: &[(User, String)]) -> Result<(), Error> {
    let authority = Authority::of_key(&folder.secret("authority.key", Authority::new_key)?)?;
    if !folder.path("authority.pem").exists() {
        folder.public("authority.pem", authority.certificate())?;
    }
    let authority_path = folder.path("authority.pem");
    for node in &bus.nodes {
        let (certificate, key) = (file(node, "certificate.pem"), file(node, "key.pem"));
        let secret = folder.secret(&key, Authority::new_key)?;
        if !folder.path(&certificate).exists() {
            let mut names = vec![node.host.clone()];
            names.extend(node.further_names.iter().cloned());
            folder.public(&certificate, &authority.certify(&secret, &names)?)?;
        }
        let (certificate, key) = (folder.path(&certificate), folder.path(&key));
        let paths =
            Paths { authority: Some(&authority_path), certificate: &certificate, key: &key };
        let text = conf::nats_server(node, &bus.nodes, &paths, users);
        folder.public(&conf_name(node), &text)?;
    }
    Ok(())
}

fn new_seed() -> Result<String, Error> {
    KeyPair::new_user().seed().map_err(|error| Error::NewKey(error.to_string()))
}

fn conf_name(node: &Node) -> String {
    file(node, "nats-server.conf")
}

fn file(node: &Node, name: &str) -> String {
    format!("servers/{}/{name}", node.host)
}
