//! A bed: one temporary folder, one /24 of the loopback network, and the processes in it.
//!
//! 1. Each bed takes a random `127.x.y.0/24`, so that servers have addresses of their own and
//!    their usual ports, as on a real network, and test programs run side by side.
//! 2. A guardian, a small shell process in a session of its own, reads the pids of what was
//!    started from a pipe. When the pipe closes, because the bed was dropped or because its owner
//!    died in any way, it kills them and removes the folder.

use std::{
    fs::{self, File},
    io::Write as _,
    net::{IpAddr, Ipv4Addr, TcpListener},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU8, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// How long a server may take to come up or go down before that is an error. Generous: many
/// beds share a small machine.
pub const DEADLINE: Duration = Duration::from_secs(60);

const POLL: Duration = Duration::from_millis(20);

const GUARDIAN: &str = r#"
pids=
keep=
while read -r word pid; do
  case $word in
    pid) pids="$pids $pid" ;;
    # Its number may be given to somebody else's process.
    gone)
      left=
      for other in $pids; do [ "$other" = "$pid" ] || left="$left $other"; done
      pids=$left
      ;;
    keep) keep=1 ;;
  esac
done
[ -n "$keep" ] && exit 0
[ -n "$pids" ] && kill -KILL $pids 2>/dev/null
# What is being killed may still write for a moment.
for _ in 1 2 3 4 5 6 7 8 9 10; do
  rm -rf -- "$1" 2>/dev/null && [ ! -e "$1" ] && exit 0
  sleep 0.1
done
"#;

/// A folder, a network and the processes in them. Cheap to clone; ends with its last clone.
#[derive(Clone)]
pub struct Bed {
    inner: Arc<Inner>,
}

struct Inner {
    dir: PathBuf,
    network: [u8; 3],
    next_host: AtomicU8,
    guardian: Mutex<Guardian>,
}

struct Guardian {
    child: Child,
    pipe: Option<ChildStdin>,
}

impl Bed {
    /// A bed in a new folder under the system's temporary folder.
    pub fn new() -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("drover-").tempdir()?.keep();
        Self::in_folder(dir)
    }

    /// A bed in `dir`, which is made, and removed at the end.
    pub fn in_folder(dir: PathBuf) -> Result<Self> {
        fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
        let mut child = Command::new("setsid")
            .args(["sh", "-c", GUARDIAN, "drover-guardian"])
            .arg(&dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("starting the guardian (setsid, sh)")?;
        let pipe = child.stdin.take();
        let inner = Inner {
            dir,
            network: free_network()?,
            next_host: AtomicU8::new(1),
            guardian: Mutex::new(Guardian { child, pipe }),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The bed's folder.
    pub fn dir(&self) -> &Path {
        &self.inner.dir
    }

    /// A loopback address that nothing else in this bed has. At most 254 of them.
    pub fn address(&self) -> Result<IpAddr> {
        let host = self.inner.next_host.fetch_add(1, Ordering::Relaxed);
        if host == 0 || host == 255 {
            bail!("a bed has at most 254 addresses");
        }
        let [a, b, c] = self.inner.network;
        Ok(IpAddr::V4(Ipv4Addr::new(a, b, c, host)))
    }

    /// All addresses that [`Self::address`] gives, those that it has given included.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        let [a, b, c] = self.inner.network;
        (1..255).map(move |host| IpAddr::V4(Ipv4Addr::new(a, b, c, host)))
    }

    /// Starts `command`, its output appended to `<name>.log` in the bed's folder.
    pub fn spawn(&self, name: &str, mut command: Command) -> Result<Process> {
        let log = self.inner.dir.join(format!("{name}.log"));
        let file = File::options().create(true).append(true).open(&log)?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        // A group of its own: Ctrl-C at the terminal reaches the owner only, who ends the rest.
        command.process_group(0);
        let program = command.get_program().to_string_lossy().into_owned();
        let child = command.spawn().with_context(|| format!("starting {program}"))?;
        self.tell_guardian(&format!("pid {}", child.id()))?;
        let bed = Arc::downgrade(&self.inner);
        Ok(Process { name: name.to_owned(), log, child: Mutex::new(child), bed })
    }

    /// Leaves the processes and the folder as they are when the bed ends.
    pub fn keep(&self) -> Result<()> {
        self.tell_guardian("keep -")
    }

    fn tell_guardian(&self, line: &str) -> Result<()> {
        self.inner.tell_guardian(line)
    }
}

impl Inner {
    fn tell_guardian(&self, line: &str) -> Result<()> {
        let mut guardian = self.guardian.lock().unwrap_or_else(PoisonError::into_inner);
        let pipe = guardian.pipe.as_mut().context("the guardian has ended")?;
        writeln!(pipe, "{line}").context("telling the guardian")
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let mut guardian = self.guardian.lock().unwrap_or_else(PoisonError::into_inner);
        drop(guardian.pipe.take());
        // It has nothing else to do, so this ends; an error leaves nothing better to try.
        let _ = guardian.child.wait();
    }
}

/// A process in a bed. Killed when it is dropped.
pub struct Process {
    name: String,
    log: PathBuf,
    child: Mutex<Child>,
    bed: Weak<Inner>,
}

impl Process {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.lock().id()
    }

    /// The file that holds what it printed.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.pid()).context("pid")?;
        kill(Pid::from_raw(pid), signal).with_context(|| format!("signal to {}", self.name))
    }

    /// Asks it to end and waits until it has; kills it when [`DEADLINE`] is over.
    pub fn stop(&self) -> Result<()> {
        if self.has_ended() {
            return Ok(());
        }
        self.signal(Signal::SIGTERM)?;
        let ended = wait_until(DEADLINE, || Ok(self.has_ended()));
        if ended.is_err() { self.kill() } else { Ok(()) }
    }

    /// Kills it at once, and waits until it is gone.
    pub fn kill(&self) -> Result<()> {
        let mut child = self.lock();
        child.kill().with_context(|| format!("killing {}", self.name))?;
        child.wait()?;
        Ok(())
    }

    /// Whether it has ended.
    pub fn has_ended(&self) -> bool {
        !matches!(self.lock().try_wait(), Ok(None))
    }

    /// Waits until `ready` says yes; an error with the log's end when the process ends first or
    /// [`DEADLINE`] is over.
    pub fn wait_ready(&self, mut ready: impl FnMut() -> Result<bool>) -> Result<()> {
        let outcome = wait_until(DEADLINE, || {
            if self.has_ended() {
                bail!("{} ended", self.name);
            }
            ready()
        });
        outcome.with_context(|| format!("{}:\n{}", self.log.display(), self.log_end()))
    }

    fn log_end(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let child = self.child.get_mut().unwrap_or_else(PoisonError::into_inner);
        let _ = child.kill();
        let _ = child.wait();
        if let Some(bed) = self.bed.upgrade() {
            // Without a guardian there is nobody who could kill a wrong one.
            let _ = bed.tell_guardian(&format!("gone {}", child.id()));
        }
    }
}

/// Waits until `condition` holds, at most `deadline`; blocks the thread.
pub fn wait_until(deadline: Duration, mut condition: impl FnMut() -> Result<bool>) -> Result<()> {
    let start = Instant::now();
    loop {
        if condition()? {
            return Ok(());
        }
        if start.elapsed() > deadline {
            bail!("not so within {} s", deadline.as_secs());
        }
        std::thread::sleep(POLL);
    }
}

/// Waits until `condition` holds, at most `deadline`.
pub async fn eventually<F: Future<Output = Result<bool>>>(
    deadline: Duration,
    mut condition: impl FnMut() -> F,
) -> Result<()> {
    let start = Instant::now();
    while !condition().await? {
        if start.elapsed() > deadline {
            bail!("not so within {} s", deadline.as_secs());
        }
        tokio::time::sleep(POLL).await;
    }
    Ok(())
}

/// The first program of these that is on PATH or in the folders where servers' programs lie.
pub fn find_program(names: &[&str]) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/bin".into()]);
    for folder in folders {
        for name in names {
            let program = folder.join(name);
            if program.is_file() {
                return Ok(program);
            }
        }
    }
    bail!("not installed: {}", names.join(" or "))
}

/// A /24 of the loopback network in which nothing listens on the port by which beds mark theirs.
fn free_network() -> Result<[u8; 3]> {
    const MARK_PORT: u16 = 4222;
    for _ in 0..100 {
        let network = [127, rand::random_range(16..=254), rand::random_range(0..=254)];
        let [a, b, c] = network;
        if TcpListener::bind((Ipv4Addr::new(a, b, c, 1), MARK_PORT)).is_ok() {
            return Ok(network);
        }
    }
    bail!("no free loopback network found")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleeper() -> Command {
        let mut command = Command::new("sleep");
        command.arg("600");
        command
    }

    fn alive(pid: u32) -> bool {
        // A zombie is not alive: its parent is the test, which has not waited for it.
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        !stat.is_empty() && !stat.contains(") Z ")
    }

    #[test]
    fn a_dropped_bed_leaves_nothing_behind() {
        let bed = Bed::new().unwrap();
        let process = bed.spawn("sleep", sleeper()).unwrap();
        let (dir, pid) = (bed.dir().to_owned(), process.pid());
        assert!(alive(pid));
        std::mem::forget(process);
        drop(bed);
        // A kill is sent at once, and takes its moment.
        wait_until(DEADLINE, || Ok(!alive(pid))).unwrap();
        assert!(!dir.exists());
    }

    #[test]
    fn a_process_that_ends_early_is_reported_with_its_log() {
        let bed = Bed::new().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "echo no room left; exit 3"]);
        let process = bed.spawn("server", command).unwrap();
        let error = process.wait_ready(|| Ok(false)).unwrap_err();
        assert!(format!("{error:#}").contains("no room left"), "{error:#}");
    }

    #[test]
    fn addresses_differ() {
        let bed = Bed::new().unwrap();
        assert_ne!(bed.address().unwrap(), bed.address().unwrap());
    }
}
