//! A real BIND server, authoritative for one signed zone that takes updates by key.
//!
//! 1. The zone is dynamic and signed by `dnssec-policy default`, as at a provider that takes
//!    RFC 2136 updates: every update is signed as it arrives.
//! 2. The program is copied into the folder and started from there. Debian confines
//!    `/usr/sbin/named` by its path (AppArmor) to folders that a test may not write to.
//! 3. It listens on 127.0.0.1 at a free port: named takes only addresses that an interface has,
//!    and of the loopback network that is this one alone.
//! 4. A secondary takes the zone over by NOTIFY and transfer, or, to play one that lags behind,
//!    only when it starts.

use std::{
    fs::{self, Permissions},
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use hickory_proto::{
    op::{Message, OpCode, Query, ResponseCode},
    rr::{Name, Record, RecordType},
};

use crate::bed::{Bed, DEADLINE, Process, find_program, wait_until};

/// Where to look for a free port: below the ports that the system gives to outgoing connections,
/// so that none of those takes it while the server is down.
const PORTS: std::ops::Range<u16> = 20_000..32_000;
/// How many ports are tried before that is an error: others may take one between look and use.
const PORTS_TRIED_MAX: usize = 5;
/// One answer's wait; the next try is a fresh question.
const ANSWER_WAIT: Duration = Duration::from_secs(2);
/// The name of the key by which updates and transfers are signed.
const KEY_NAME: &str = "drover-testbed";
/// What its log says when another process has its port.
const ADDRESS_LOST: &str = "interface ignored";

/// What a server does when the primary says that the zone has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Follow {
    /// Fetches the zone at once.
    AtOnce,
    /// Goes on with what it has until it is started again.
    AtStart,
}

/// A server with one zone. Killed when it is dropped.
pub struct Bind {
    bed: Bed,
    folder: PathBuf,
    zone: String,
    address: SocketAddr,
    /// Where the primary sends its NOTIFY: the address kept for a secondary.
    secondary: SocketAddr,
    process: Mutex<Process>,
}

impl Bind {
    /// Starts a primary for `zone` that holds `records`, lines of a zone file with names relative
    /// to the zone. Returns when it answers, signed.
    pub fn start(bed: &Bed, zone: &str, records: &[&str]) -> Result<Self> {
        let key = BASE64_STANDARD.encode(rand::random::<[u8; 32]>());
        on_free_port(|address| {
            let secondary = free_port()?;
            let folder = folder(bed, address)?;
            write_secret(&folder.join("secret"), &key)?;
            let clause =
                format!("key \"{KEY_NAME}\" {{ algorithm hmac-sha256; secret \"{key}\"; }};\n");
            write_secret(&folder.join("update.key"), &clause)?;
            fs::write(folder.join("zone.db"), zone_file(zone, address, records))?;
            let clause = format!(
                "zone \"{zone}\" {{ type primary; file \"zone.db\"; dnssec-policy default; \
                 allow-update {{ key \"{KEY_NAME}\"; }}; allow-transfer {{ key \"{KEY_NAME}\"; }}; \
                 notify explicit; also-notify {{ {} port {}; }}; }};\n",
                secondary.ip(),
                secondary.port(),
            );
            fs::write(folder.join("named.conf"), configuration(&folder, address, &clause))?;
            Self::run(bed, folder, zone, address, secondary)
        })
    }

    /// Starts a secondary of this primary. At most one.
    pub fn secondary(&self, follow: Follow) -> Result<Self> {
        let folder = folder(&self.bed, self.secondary)?;
        let key = fs::read_to_string(self.folder.join("update.key"))?;
        write_secret(&folder.join("update.key"), &key)?;
        let notified = match follow {
            Follow::AtOnce => "any",
            Follow::AtStart => "none",
        };
        let clause = format!(
            "zone \"{}\" {{ type secondary; file \"zone.db\"; notify no; \
             allow-notify {{ {notified}; }}; \
             primaries {{ {} port {} key \"{KEY_NAME}\"; }}; }};\n",
            self.zone,
            self.address.ip(),
            self.address.port(),
        );
        fs::write(folder.join("named.conf"), configuration(&folder, self.secondary, &clause))?;
        Self::run(&self.bed, folder, &self.zone, self.secondary, self.secondary)
    }

    fn run(
        bed: &Bed,
        folder: PathBuf,
        zone: &str,
        address: SocketAddr,
        secondary: SocketAddr,
    ) -> Result<Self> {
        copy_program(&find_program(&["named"])?, &folder.join("named"))?;
        let process = Mutex::new(spawn(bed, &folder, address)?);
        let (bed, zone) = (bed.clone(), zone.to_owned());
        let bind = Self { bed, folder, zone, address, secondary, process };
        bind.wait_ready()?;
        Ok(bind)
    }

    /// Where it answers, over UDP and TCP.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The zone, without a final dot.
    pub fn zone(&self) -> &str {
        &self.zone
    }

    /// The name of the key that may update and transfer the zone; its algorithm is hmac-sha256.
    pub fn key_name(&self) -> &str {
        KEY_NAME
    }

    /// The file that holds the primary's key and nothing else, in base64.
    pub fn key_file(&self) -> PathBuf {
        self.folder.join("secret")
    }

    /// Its folder: configuration, zone, journal and keys.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Asks it to end and waits until it has.
    pub fn stop(&self) -> Result<()> {
        self.lock().stop()
    }

    /// Kills it at once.
    pub fn kill(&self) -> Result<()> {
        self.lock().kill()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: nix::sys::signal::Signal) -> Result<()> {
        self.lock().signal(signal)
    }

    /// Starts it again on the same files; returns when it answers.
    pub fn restart(&self) -> Result<()> {
        self.stop()?;
        *self.lock() = spawn(&self.bed, &self.folder, self.address)?;
        self.wait_ready()
    }

    /// What it answers: the records of this type at this name, as text, sorted. Names are relative
    /// to the zone, or end with a dot.
    pub fn answer(&self, name: &str, kind: &str) -> Result<Vec<String>> {
        let records = self.records(name, kind)?;
        let mut values: Vec<String> = records.iter().map(|it| it.data.to_string()).collect();
        values.sort();
        Ok(values)
    }

    /// The TTL that it answers for this type at this name, in seconds; none without a record.
    pub fn ttl(&self, name: &str, kind: &str) -> Result<Option<u32>> {
        Ok(self.records(name, kind)?.first().map(|record| record.ttl))
    }

    /// Waits until it answers exactly `values`, sorted.
    pub fn wait_answer(&self, name: &str, kind: &str, values: &[&str]) -> Result<()> {
        wait_until(DEADLINE, || Ok(self.answer(name, kind).is_ok_and(|it| it == values)))
    }

    /// Changes the zone as somebody else would, with the stock `nsupdate`: each line one of its
    /// commands, with names written in full.
    pub fn update(&self, lines: &[&str]) -> Result<()> {
        let (ip, port) = (self.address.ip(), self.address.port());
        let mut script = format!("server {ip} {port}\nzone {}.\n", self.zone);
        for line in lines.iter().chain(&["send", "quit"]) {
            script.push_str(line);
            script.push('\n');
        }
        let mut child = Command::new(find_program(&["nsupdate"])?)
            .arg("-k")
            .arg(self.folder.join("update.key"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        child.stdin.take().context("nsupdate's input")?.write_all(script.as_bytes())?;
        let output = child.wait_with_output()?;
        ensure!(output.status.success(), "nsupdate: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    fn records(&self, name: &str, kind: &str) -> Result<Vec<Record>> {
        let name = match name {
            "@" => format!("{}.", self.zone),
            name if name.ends_with('.') => name.to_owned(),
            name => format!("{name}.{}.", self.zone),
        };
        let name = Name::from_ascii(name)?;
        let kind: RecordType = kind.parse().context("record type")?;
        let mut records = ask(self.address, &name, kind)?.answers;
        records.retain(|record| record.name == name && record.record_type() == kind);
        Ok(records)
    }

    fn wait_ready(&self) -> Result<()> {
        let apex = Name::from_ascii(format!("{}.", self.zone))?;
        let process = self.lock();
        process.wait_ready(|| {
            // It goes on without an address that it did not get.
            if fs::read_to_string(process.log())?.contains(ADDRESS_LOST) {
                bail!("{ADDRESS_LOST}");
            }
            let answered = |kind| {
                ask(self.address, &apex, kind).is_ok_and(|reply| {
                    reply.metadata.authoritative
                        && reply.answers.iter().any(|record| record.record_type() == kind)
                })
            };
            Ok(answered(RecordType::SOA) && answered(RecordType::RRSIG))
        })
    }

    fn lock(&self) -> MutexGuard<'_, Process> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn on_free_port(start: impl Fn(SocketAddr) -> Result<Bind>) -> Result<Bind> {
    let mut outcome = start(free_port()?);
    for _ in 1..PORTS_TRIED_MAX {
        match &outcome {
            Err(error) if format!("{error:#}").contains(ADDRESS_LOST) => {
                outcome = start(free_port()?);
            }
            Ok(_) | Err(_) => break,
        }
    }
    outcome
}

fn free_port() -> Result<SocketAddr> {
    for _ in 0..100 {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, rand::random_range(PORTS)));
        if UdpSocket::bind(address).is_ok() && TcpListener::bind(address).is_ok() {
            return Ok(address);
        }
    }
    bail!("no free port on 127.0.0.1")
}

fn folder(bed: &Bed, address: SocketAddr) -> Result<PathBuf> {
    let folder = bed.dir().join(format!("bind-{}", address.port()));
    fs::create_dir_all(folder.join("keys"))?;
    Ok(folder)
}

/// Copied by a process of its own: a child that another thread forks meanwhile would inherit the
/// copy's open file, and a program that is open for writing is not started (`ETXTBSY`, execve(2)).
fn copy_program(from: &Path, to: &Path) -> Result<()> {
    let copied = Command::new("cp").arg(from).arg(to).status().context("starting cp")?;
    ensure!(copied.success(), "cp {} {}: {copied}", from.display(), to.display());
    Ok(())
}

fn spawn(bed: &Bed, folder: &Path, address: SocketAddr) -> Result<Process> {
    let mut command = Command::new(folder.join("named"));
    // In the foreground with its log on standard error; one thread is enough for a test.
    command.args(["-g", "-n", "1", "-c"]).arg(folder.join("named.conf"));
    bed.spawn(&format!("bind-{}", address.port()), command)
}

fn configuration(folder: &Path, address: SocketAddr, zone: &str) -> String {
    let (folder, port, address) = (folder.display(), address.port(), address.ip());
    format!(
        "include \"{folder}/update.key\";\n\
         controls {{ }};\n\
         options {{\n\
           directory \"{folder}\"; key-directory \"{folder}/keys\";\n\
           pid-file \"{folder}/named.pid\"; session-keyfile \"{folder}/session.key\";\n\
           lock-file none; recursion no; dnssec-validation no; allow-query {{ any; }};\n\
           listen-on port {port} {{ {address}; }}; listen-on-v6 {{ none; }};\n\
           notify-source {address}; transfer-source {address}; notify-delay 0;\n\
           max-cache-size 8M; max-refresh-time 3600;\n\
         }};\n{zone}"
    )
}

fn zone_file(zone: &str, address: SocketAddr, records: &[&str]) -> String {
    let mut text = format!(
        "$ORIGIN {zone}.\n$TTL 300\n\
         @ IN SOA ns1 hostmaster 1 3600 600 86400 60\n@ IN NS ns1\nns1 IN A {}\n",
        address.ip()
    );
    for record in records {
        text.push_str(record);
        text.push('\n');
    }
    text
}

fn write_secret(path: &Path, text: &str) -> Result<()> {
    fs::write(path, "")?;
    fs::set_permissions(path, Permissions::from_mode(0o600))?;
    fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}

fn ask(server: SocketAddr, name: &Name, kind: RecordType) -> Result<Message> {
    let mut question = Message::query();
    question.metadata.op_code = OpCode::Query;
    question.add_query(Query::query(name.clone(), kind));
    let bytes = question.to_vec()?;
    let mut stream = TcpStream::connect_timeout(&server, ANSWER_WAIT)?;
    stream.set_read_timeout(Some(ANSWER_WAIT))?;
    stream.write_all(&[&u16::try_from(bytes.len())?.to_be_bytes(), &bytes[..]].concat())?;
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut answer)?;
    let reply = Message::from_vec(&answer)?;
    ensure!(reply.metadata.id == question.metadata.id, "an answer to another question");
    match reply.metadata.response_code {
        ResponseCode::NoError | ResponseCode::NXDomain => Ok(reply),
        code => bail!("{server} answers {code}"),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

    use super::*;

    #[test]
    fn a_primary_takes_updates_and_its_secondary_follows() {
        let bed = Bed::new().unwrap();
        let primary = Bind::start(&bed, "example.test", &["www 77 A 192.0.2.1"]).unwrap();
        let secondary = primary.secondary(Follow::AtOnce).unwrap();
        assert_eq!(primary.answer("www", "A").unwrap(), ["192.0.2.1"]);
        assert_eq!(primary.ttl("www", "A").unwrap(), Some(77));
        assert!(!primary.answer("www", "RRSIG").unwrap().is_empty());
        primary
            .update(&[
                "update delete www.example.test A",
                "update add www.example.test 60 A 192.0.2.2",
            ])
            .unwrap();
        assert_eq!(primary.answer("www", "A").unwrap(), ["192.0.2.2"]);
        secondary.wait_answer("www", "A", &["192.0.2.2"]).unwrap();

        primary.kill().unwrap();
        assert!(primary.answer("www", "A").is_err());
        primary.restart().unwrap();
        assert_eq!(primary.answer("www", "A").unwrap(), ["192.0.2.2"]);
    }

    #[test]
    fn a_copied_program_starts_whatever_else_is_started_beside() {
        let folder = tempfile::tempdir().unwrap();
        let program = find_program(&["true"]).unwrap();
        let ended = AtomicBool::new(false);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while !ended.load(Ordering::Relaxed) {
                        Command::new(&program).status().unwrap();
                    }
                });
            }
            let started = (0..200).try_for_each(|number| {
                let copy = folder.path().join(number.to_string());
                copy_program(&program, &copy)?;
                Command::new(&copy).status().map(drop).context("starting the copy")
            });
            ended.store(true, Ordering::Relaxed);
            started.unwrap();
        });
    }

    #[test]
    fn a_secondary_can_be_made_to_lag() {
        let bed = Bed::new().unwrap();
        let primary = Bind::start(&bed, "lag.test", &["www A 192.0.2.1"]).unwrap();
        let secondary = primary.secondary(Follow::AtStart).unwrap();
        primary.update(&["update add new.lag.test 60 A 192.0.2.2"]).unwrap();
        assert!(secondary.answer("new", "A").unwrap().is_empty());
        secondary.restart().unwrap();
        secondary.wait_answer("new", "A", &["192.0.2.2"]).unwrap();
    }
}
