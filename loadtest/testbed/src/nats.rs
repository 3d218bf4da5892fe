//! A real nats-server with JetStream in a bed.
//!
//! It has an address of its own and keeps its usual port and its store folder over stops, kills
//! and restarts, so that a client that reconnects finds the same server again.

use std::{
    env, fs,
    io::{BufRead as _, BufReader},
    net::{IpAddr, SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result};
use drover_access::{Bus, Certificates, Folder, Node};
use drover_schemas::users::User;
use nix::sys::signal::Signal;

use crate::bed::{Bed, Process, find_program};

/// The environment variable that names a nats-server program to use instead of the one on PATH.
pub const PROGRAM_VARIABLE: &str = "DROVER_NATS_SERVER";

/// The port of every server; each has an address of its own.
const PORT: u16 = 4222;

/// How long one attempt to greet a starting server may take.
const GREETING_WAIT: Duration = Duration::from_secs(1);

/// A running nats-server; killed when it is dropped.
pub struct Nats {
    bed: Bed,
    name: String,
    program: PathBuf,
    config: PathBuf,
    address: IpAddr,
    scheme: &'static str,
    process: Mutex<Process>,
}

impl Nats {
    /// Starts a server with JetStream, without credentials.
    pub fn start(bed: &Bed) -> Result<Self> {
        Self::start_with(bed, JETSTREAM)
    }

    /// Starts a server whose configuration has `extra` after its address: [`JETSTREAM`], accounts
    /// and whatever else a test is about. `$DIR` in it stands for the server's own folder.
    pub fn start_with(bed: &Bed, extra: &str) -> Result<Self> {
        Self::start_at(bed, bed.address()?, extra)
    }

    /// The same, on an address that the bed has given out.
    pub fn start_at(bed: &Bed, address: IpAddr, extra: &str) -> Result<Self> {
        let name = format!("nats-{address}");
        let dir = bed.dir().join(&name);
        fs::create_dir_all(&dir)?;
        let config = dir.join("nats.conf");
        let dir_text = dir.to_str().context("the bed's folder is not UTF-8")?;
        let extra = extra.replace("$DIR", dir_text);
        fs::write(&config, format!("listen: \"{address}:{PORT}\"\n{extra}\n"))?;
        let program = find_server()?;
        let process = Mutex::new(spawn(bed, &name, &program, &config)?);
        let server =
            Self { bed: bed.clone(), name, program, config, address, scheme: "nats", process };
        server.wait_ready()?;
        Ok(server)
    }

    /// Starts a server as `drover init` configures it: TLS, and these users with their rights
    /// only. What they need lies in [`bus_folder`].
    pub fn start_guarded(bed: &Bed, users: Vec<User>) -> Result<Self> {
        let address = bed.address()?;
        let name = format!("nats-{address}");
        let node = Node {
            host: address.to_string(),
            // A test may put something in between, on another address of the bed.
            further_names: bed.addresses().map(|address| address.to_string()).collect(),
            listen: address.to_string(),
            port: PORT,
            store: bed.dir().join(&name).join("store"),
            // What a test kills is the process, not the machine.
            sync: false,
        };
        let bus = Bus { nodes: vec![node], users, certificates: Certificates::Own };
        drover_access::init(Folder::new(&bus_folder(bed))?, &bus)?;
        let config = bus_folder(bed).join(format!("servers/{address}/nats-server.conf"));
        let program = find_server()?;
        let process = Mutex::new(spawn(bed, &name, &program, &config)?);
        let server =
            Self { bed: bed.clone(), name, program, config, address, scheme: "tls", process };
        server.wait_ready()?;
        Ok(server)
    }

    /// `nats://<address>:4222`; `tls://` where it is guarded.
    pub fn url(&self) -> String {
        format!("{}://{}:{PORT}", self.scheme, self.address)
    }

    /// `nats`, or `tls` where it is guarded ([`Self::start_guarded`]).
    pub fn scheme(&self) -> &'static str {
        self.scheme
    }

    /// Where it listens.
    pub fn socket(&self) -> SocketAddr {
        SocketAddr::new(self.address, PORT)
    }

    /// Its configuration file; a change holds from the next restart.
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// The folder that holds its configuration and its store.
    pub fn dir(&self) -> PathBuf {
        self.bed.dir().join(&self.name)
    }

    /// The file that holds what it printed.
    pub fn log(&self) -> PathBuf {
        self.process().log().to_owned()
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process().pid()
    }

    /// Asks it to end, and waits until it has.
    pub fn stop(&self) -> Result<()> {
        self.process().stop()
    }

    /// Kills it at once.
    pub fn kill(&self) -> Result<()> {
        self.process().kill()
    }

    /// Sends it a signal: SIGSTOP makes it silent without closing a connection, SIGCONT wakes it.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.process().signal(signal)
    }

    /// Starts it again on the same data; stops it first where it still runs.
    pub fn restart(&self) -> Result<()> {
        {
            let mut process = self.process();
            process.stop()?;
            *process = spawn(&self.bed, &self.name, &self.program, &self.config)?;
        }
        self.wait_ready()
    }

    fn process(&self) -> std::sync::MutexGuard<'_, Process> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The server greets each client with its INFO line once it is up.
    fn wait_ready(&self) -> Result<()> {
        let socket = self.socket();
        self.process().wait_ready(|| Ok(greeted(&socket).unwrap_or(false)))
    }
}

/// The configuration's part that turns JetStream on, its store in the server's folder.
pub const JETSTREAM: &str = "jetstream { store_dir: \"$DIR/store\" }";

/// The folder that `drover init` would have made for the guarded servers of a bed: `users/` with
/// the users' keys, and `authority.pem`.
pub fn bus_folder(bed: &Bed) -> PathBuf {
    bed.dir().join("bus")
}

fn find_server() -> Result<PathBuf> {
    match env::var_os(PROGRAM_VARIABLE) {
        Some(program) => Ok(program.into()),
        None => find_program(&["nats-server"]),
    }
}

fn spawn(bed: &Bed, name: &str, program: &Path, config: &Path) -> Result<Process> {
    let mut command = Command::new(program);
    command.arg("--config").arg(config);
    bed.spawn(name, command)
}

fn greeted(socket: &SocketAddr) -> Result<bool> {
    let stream = TcpStream::connect_timeout(socket, GREETING_WAIT)?;
    stream.set_read_timeout(Some(GREETING_WAIT))?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    Ok(line.starts_with("INFO "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_answers_and_keeps_its_place_over_a_kill() {
        let bed = Bed::new().unwrap();
        let server = Nats::start(&bed).unwrap();
        let url = server.url();
        assert!(greeted(&server.socket()).unwrap());
        server.kill().unwrap();
        assert!(greeted(&server.socket()).is_err());
        server.restart().unwrap();
        assert!(greeted(&server.socket()).unwrap());
        assert_eq!(server.url(), url);
    }
}
