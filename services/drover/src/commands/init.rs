//! `drover init`: the configuration of the bus, with TLS and a user for each service and host; and
//! afterwards, as the bus's administrator, its streams, which services may not make.

use std::path::{Path, PathBuf};

use drover_access::{Bus, Certificates, Folder, Node, Written};
use drover_schemas::{Code, Failure, ServerName, users::User};
use url::Url;

use super::print;
use crate::{
    config::{Config, Server},
    context::Context,
    report::Trouble,
};

/// The port of nats-server.
const PORT: u16 = 4222;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where the files are put; what is there is never changed.
    #[arg(long, value_name = "FOLDER", default_value = "/etc/drover/bus")]
    folder: PathBuf,
    /// Where nats-server keeps its streams.
    #[arg(long, value_name = "FOLDER", default_value = "/var/lib/nats")]
    store: PathBuf,
    /// The address on which nats-server listens, on each of its machines.
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0")]
    listen: String,
    /// A certificate for the servers, on each in this place; without it an authority of the bus's
    /// own is made.
    #[arg(long, value_name = "FILE", requires = "key_file")]
    certificate_file: Option<PathBuf>,
    /// The certificate's key.
    #[arg(long, value_name = "FILE", requires = "certificate_file")]
    key_file: Option<PathBuf>,
    /// The certificate's authority, where it is not one of the system's.
    #[arg(long, value_name = "FILE", requires = "certificate_file")]
    ca_file: Option<PathBuf>,
    /// Makes the streams on the running bus instead, as its administrator.
    #[arg(long, conflicts_with_all = ["certificate_file", "key_file", "ca_file"])]
    streams: bool,
}

pub async fn run(config: &Path, args: Args) -> Result<(), Trouble> {
    if args.streams {
        return streams(config).await;
    }
    let path = config;
    let config = Config::load(path, std::env::vars())?;
    let folder = std::path::absolute(&args.folder).map_err(|error| {
        Failure::new(Code::InitFailed, format!("{}: {error}", args.folder.display()))
    })?;
    let bus = bus(&config, &args)?;
    let written = drover_access::init(Folder::new(&folder)?, &bus)?;
    print(&listed(&written));
    print(&next(path, &folder, &bus, &args));
    Ok(())
}

/// The bus that the configuration describes.
fn bus(config: &Config, args: &Args) -> Result<Bus, Failure> {
    let nodes: Vec<Node> = config
        .nats
        .url
        .split(',')
        .map(|text| node(text.trim(), args))
        .collect::<Result<_, _>>()
        .map_err(|text| Failure::new(Code::InitRefused, format!("[nats] url: {text}")))?;
    let certificates = match (&args.certificate_file, &args.key_file) {
        (Some(certificate), Some(key)) => Certificates::Given {
            authority: args.ca_file.clone(),
            certificate: certificate.clone(),
            key: key.clone(),
        },
        (None, _) | (_, None) => Certificates::Own,
    };
    Ok(Bus { nodes, users: users(config), certificates })
}

fn node(text: &str, args: &Args) -> Result<Node, String> {
    let url: Url = text.parse().map_err(|_| format!("{text:?} is not tls://host:port"))?;
    let host = url.host_str().ok_or_else(|| format!("{text:?} names no host"))?;
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    Ok(Node {
        host,
        further_names: Vec::new(),
        listen: args.listen.clone(),
        port: url.port().unwrap_or(PORT),
        store: args.store.clone(),
        sync: true,
    })
}

/// Who speaks on the bus of these servers.
fn users(config: &Config) -> Vec<User> {
    let with = |slots: fn(&Server) -> u32, user: fn(ServerName) -> User| {
        let servers = config.servers.iter().filter(move |(_, server)| slots(server) > 0);
        servers.map(move |(name, _)| user(name.clone()))
    };
    let mut users = User::COMMON.to_vec();
    users.extend(with(|server| server.slots_as_source, User::Dump));
    users.extend(with(|server| server.slots_as_destination, User::Import));
    users
}

fn listed(written: &[Written]) -> String {
    let mut text = String::new();
    for file in written {
        text.push_str(&match file {
            Written::New(path) => format!("made       {}\n", path.display()),
            Written::Same(path) => format!("unchanged  {}\n", path.display()),
            Written::Beside(path) => format!(
                "DIFFERENT  {}: compare it with the file without .new, and put it in its place\n",
                path.display()
            ),
        });
    }
    text
}

/// What a person does now.
fn next(config: &Path, folder: &Path, bus: &Bus, args: &Args) -> String {
    let at = folder.display();
    let address = |node: &Node| {
        let host = &node.host;
        let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        format!("tls://{host}:{}", node.port)
    };
    let url = bus.nodes.iter().map(address).collect::<Vec<_>>().join(",");
    let authority = match (&bus.certificates, &args.ca_file) {
        (Certificates::Own, _) => format!("tls_ca_file = \"{at}/authority.pem\"\n"),
        (Certificates::Given { .. }, Some(file)) => {
            format!("tls_ca_file = \"{}\"\n", file.display())
        }
        (Certificates::Given { .. }, None) => String::new(),
    };
    let replicas = if bus.nodes.len() >= 3 { "replicas = 3\n" } else { "" };
    format!(
        "\nNext:\n\n\
         1. Bring to each NATS machine, to the same path: {at}/authority.pem and\n   \
         {at}/servers/HOST/. Start there: nats-server --config {at}/servers/HOST/nats-server.conf\n\
         2. Have in {config}:\n\n\
         [nats]\nurl = \"{url}\"\nusers_folder = \"{at}/users\"\n{authority}{replicas}\n\
         3. Bring to each other machine: {at}/authority.pem, and of {at}/users/ only the keys\n   \
         of what runs there: dump.SERVER.nk for `drover serve dump --host SERVER`, and so on.\n   \
         operator.nk is for who plans, starts and pauses; reader.nk for who only looks.\n\
         4. Once:\n   \
         drover --config {config} init --streams\n\
         5. Put admin.nk and authority.key away: no service needs them.\n\n\
         Drover's account on each MariaDB server needs these rights and no others (for MySQL, an\n\
         error that names a missing right gives the statement):\n\n   {grant};\n",
        config = config.display(),
        grant = drover_mysql::grants_needed("drover", "%"),
    )
}

/// Makes the streams.
pub async fn streams(config: &Path) -> Result<(), Trouble> {
    let Context { bus, .. } = Context::open_as(&User::Admin, config, "init").await?;
    bus.ensure_base().await?;
    print("the streams are there\n");
    Ok(())
}
