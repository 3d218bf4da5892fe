//! A real MariaDB server in a bed: a data folder of its own, port 3306 on a loopback address of
//! its own, a binary log with GTIDs and the event scheduler on, as a hosting company's servers
//! have them.
//!
//! 1. The system tables are made once a bed and copied for each further server: that is ten times
//!    faster than making them again.
//! 2. `root@localhost` is the administrator, over the socket, with a random password. Drover's
//!    account comes over TCP, as it does in life, and has [`DROVER_RIGHTS`] and no more.
//! 3. Every password lies in a file of mode 0600 in the bed's folder, none on a command line.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpStream},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use mysql_async::{Conn, Opts, OptsBuilder, prelude::Queryable as _};
use tokio::task::spawn_blocking;

use crate::bed::{Bed, Process, find_program};

/// The port of every server: each has an address of its own.
pub const PORT: u16 = 3306;
/// The name of Drover's account on every server.
pub const DROVER_USER: &str = "drover";
/// Where Drover's account may come from.
const DROVER_HOST: &str = "127.%";

/// What Drover's account may do, with the right to grant it on: whoever gives customers their
/// rights back needs to hold them.
pub const DROVER_RIGHTS: &str = "SELECT, INSERT, UPDATE, DELETE, CREATE, DROP, REFERENCES, INDEX, \
     ALTER, CREATE TEMPORARY TABLES, LOCK TABLES, EXECUTE, CREATE VIEW, SHOW VIEW, \
     CREATE ROUTINE, ALTER ROUTINE, EVENT, TRIGGER, DELETE HISTORY, RELOAD, PROCESS, \
     SUPER, SET USER, CONNECTION ADMIN, BINLOG ADMIN, \
     BINLOG MONITOR, REPLICA MONITOR";

/// How long the greeting of a server that comes up is waited for at a time.
const GREETING_TIMEOUT: Duration = Duration::from_millis(500);

/// Small enough that four servers fit a small machine, and otherwise what Debian ships.
const SERVER_OPTIONS: &[&str] = &[
    "--port=3306",
    "--skip-name-resolve",
    "--event-scheduler=ON",
    "--character-set-server=utf8mb4",
    "--collation-server=utf8mb4_general_ci",
    "--performance-schema=OFF",
    "--innodb-buffer-pool-size=64M",
    "--innodb-log-file-size=32M",
    "--key-buffer-size=8M",
    "--aria-pagecache-buffer-size=8M",
    "--max-connections=500",
    "--max-allowed-packet=256M",
    "--max-binlog-size=64M",
    "--gtid-strict-mode=ON",
    "--local-infile=OFF",
];

/// How a server is started.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Do without the flushes to disk at each commit: for tests that survive no power cut anyway.
    pub relaxed_durability: bool,
    /// More options of `mariadbd`, such as `--log-bin-trust-function-creators=ON`.
    pub more_options: Vec<String>,
}

/// A server. Killed when it is dropped.
pub struct Mariadb {
    bed: Bed,
    name: String,
    address: IpAddr,
    arguments: Vec<String>,
    root_password: String,
    process: Mutex<Process>,
}

impl Mariadb {
    /// A server that flushes at each commit, as one in service does.
    pub async fn start(bed: &Bed, name: &str) -> Result<Self> {
        Self::start_with(bed, name, Settings::default()).await
    }

    /// A server with these settings. `name` names its files in the bed's folder.
    pub async fn start_with(bed: &Bed, name: &str, settings: Settings) -> Result<Self> {
        let (bed, name) = (bed.clone(), name.to_owned());
        spawn_blocking(move || Self::start_blocking(bed, name, settings)).await?
    }

    fn start_blocking(bed: Bed, name: String, settings: Settings) -> Result<Self> {
        let address = bed.address()?;
        let data = bed.dir().join(&name);
        copy_folder(&template(&bed)?, &data)?;
        fs::create_dir(bed.dir().join(format!("{name}.tmp")))?;
        let root_password = secret();
        let drover_password = secret();
        write_private(&bed.dir().join(format!("{name}.drover.password")), &drover_password)?;
        let socket = bed.dir().join(format!("{name}.sock"));
        write_private(
            &bed.dir().join(format!("{name}.root.cnf")),
            &format!(
                "[client]\nuser=root\npassword={root_password}\nsocket={}\n\
                 default-character-set=utf8mb4\n",
                socket.display()
            ),
        )?;
        let arguments = arguments(&bed, &name, address, &settings);
        let first_words = bed.dir().join(format!("{name}.init.sql"));
        write_private(&first_words, &accounts(&root_password, &drover_password))?;
        let mut command = server_command(&arguments)?;
        command.arg(format!("--init-file={}", first_words.display()));
        let process = bed.spawn(&name, command)?;
        process.wait_ready(|| Ok(greets(address)))?;
        fs::remove_file(&first_words)?;
        Ok(Self { bed, name, address, arguments, root_password, process: Mutex::new(process) })
    }

    /// The name it was started under.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The address that it listens on.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// The port that it listens on.
    pub fn port(&self) -> u16 {
        PORT
    }

    /// Its Unix socket.
    pub fn socket(&self) -> PathBuf {
        self.file("sock")
    }

    /// Its data folder.
    pub fn data(&self) -> PathBuf {
        self.bed.dir().join(&self.name)
    }

    /// The name of Drover's account.
    pub fn drover_user(&self) -> &'static str {
        DROVER_USER
    }

    /// The file that holds the password of Drover's account.
    pub fn drover_password_file(&self) -> PathBuf {
        self.file("drover.password")
    }

    /// The stock programs' options file of the administrator (`--defaults-file=`).
    pub fn root_options_file(&self) -> PathBuf {
        self.file("root.cnf")
    }

    /// The administrator's password.
    pub fn root_password(&self) -> &str {
        &self.root_password
    }

    /// A new connection as the administrator.
    pub async fn root(&self) -> Result<Conn> {
        let options = OptsBuilder::default()
            .socket(Some(self.socket().to_string_lossy()))
            .user(Some("root"))
            .pass(Some(&self.root_password));
        Conn::new(Opts::from(options)).await.context("connecting as root")
    }

    /// A new connection over TCP as any account.
    pub async fn connect(&self, user: &str, password: &str) -> Result<Conn, mysql_async::Error> {
        let options = OptsBuilder::default()
            .ip_or_hostname(self.address.to_string())
            .tcp_port(PORT)
            .prefer_socket(false)
            .user(Some(user))
            .pass(Some(password));
        Conn::new(Opts::from(options)).await
    }

    /// Runs SQL text, of any number of statements, as the administrator.
    pub async fn execute(&self, sql: &str) -> Result<()> {
        let mut root = self.root().await?;
        root.query_drop(sql).await.with_context(|| format!("at {}", self.name))?;
        Ok(root.disconnect().await?)
    }

    /// The stock `mariadb` client, as the administrator.
    pub fn client_command(&self) -> Result<Command> {
        self.stock(&["mariadb", "mysql"])
    }

    /// The stock `mariadb-dump`, as the administrator.
    pub fn dump_command(&self) -> Result<Command> {
        self.stock(&["mariadb-dump", "mysqldump"])
    }

    /// Ends it in good order.
    pub async fn stop(&self) -> Result<()> {
        tokio::task::block_in_place(|| self.process().stop())
    }

    /// Kills it, as a power cut would.
    pub fn kill(&self) -> Result<()> {
        self.process().kill()
    }

    /// Sends its process a signal, such as SIGSTOP.
    pub fn signal(&self, signal: nix::sys::signal::Signal) -> Result<()> {
        self.process().signal(signal)
    }

    /// Starts it again after [`Self::stop`] or [`Self::kill`], on its address and data.
    pub async fn restart(&self) -> Result<()> {
        let process = self.bed.spawn(&self.name, server_command(&self.arguments)?)?;
        let address = self.address;
        let process = spawn_blocking(move || {
            process.wait_ready(|| Ok(greets(address)))?;
            anyhow::Ok(process)
        })
        .await??;
        *self.process() = process;
        Ok(())
    }

    fn process(&self) -> std::sync::MutexGuard<'_, Process> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn file(&self, ending: &str) -> PathBuf {
        self.bed.dir().join(format!("{}.{ending}", self.name))
    }

    fn stock(&self, names: &[&str]) -> Result<Command> {
        let mut command = Command::new(find_program(names)?);
        command.arg(format!("--defaults-file={}", self.root_options_file().display()));
        Ok(command)
    }
}

/// A random password: 128 bits, in letters that need no quoting anywhere.
pub fn secret() -> String {
    format!("{:032x}", rand::random::<u128>())
}

/// Writes a file that only its owner may read.
pub fn write_private(path: &Path, text: &str) -> Result<()> {
    let mut file =
        fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes()).with_context(|| format!("writing {}", path.display()))
}

fn arguments(bed: &Bed, name: &str, address: IpAddr, settings: &Settings) -> Vec<String> {
    let file = |ending: &str| bed.dir().join(format!("{name}.{ending}")).display().to_string();
    let flushes = if settings.relaxed_durability { ("0", "0") } else { ("1", "1") };
    let mut arguments = vec![
        "--no-defaults".to_owned(),
        format!("--datadir={}", bed.dir().join(name).display()),
        // Its own: a server that starts removes every temporary table in its folder, whose ever.
        format!("--tmpdir={}", file("tmp")),
        format!("--socket={}", file("sock")),
        format!("--pid-file={}", file("pid")),
        format!("--bind-address={address}"),
        format!("--server-id={}", server_id(address)),
        "--log-bin=binlog".to_owned(),
        format!("--innodb-flush-log-at-trx-commit={}", flushes.0),
        format!("--sync-binlog={}", flushes.1),
    ];
    arguments.extend(SERVER_OPTIONS.iter().map(|option| (*option).to_owned()));
    arguments.extend(settings.more_options.iter().cloned());
    arguments
}

/// The last two bytes of the address: different for each server of a bed, and never 0.
fn server_id(address: IpAddr) -> u32 {
    match address {
        IpAddr::V4(v4) => u32::from(v4) & 0xffff,
        IpAddr::V6(v6) => v6.segments()[7].into(),
    }
}

fn server_command(arguments: &[String]) -> Result<Command> {
    let mut command = Command::new(find_program(&["mariadbd", "mysqld"])?);
    command.args(arguments);
    if nix::unistd::geteuid().is_root() {
        // The server runs as root only when it is told so.
        command.arg("--user=root");
    }
    Ok(command)
}

/// Statements of the first start; one a line, as `--init-file` wants them. Not in the binary log:
/// it would hold the passwords.
fn accounts(root_password: &str, drover_password: &str) -> String {
    format!(
        "SET SESSION sql_log_bin = 0;\n\
         DELETE FROM mysql.global_priv WHERE (User, Host) NOT IN \
         (('root', 'localhost'), ('mariadb.sys', 'localhost'));\n\
         DELETE FROM mysql.proxies_priv;\n\
         DELETE FROM mysql.db;\n\
         FLUSH PRIVILEGES;\n\
         ALTER USER root@localhost IDENTIFIED BY '{root_password}';\n\
         CREATE USER {DROVER_USER}@'{DROVER_HOST}' IDENTIFIED BY '{drover_password}';\n\
         GRANT {DROVER_RIGHTS} ON *.* TO {DROVER_USER}@'{DROVER_HOST}' WITH GRANT OPTION;\n"
    )
}

/// Whether a server greets at the address: it does when it has come up and read its init file.
fn greets(address: IpAddr) -> bool {
    let socket = SocketAddr::new(address, PORT);
    let Ok(mut stream) = TcpStream::connect_timeout(&socket, GREETING_TIMEOUT) else {
        return false;
    };
    stream.set_read_timeout(Some(GREETING_TIMEOUT)).is_ok()
        && stream.read_exact(&mut [0; 5]).is_ok()
}

/// The folder with new system tables, made by whoever comes first.
fn template(bed: &Bed) -> Result<PathBuf> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let data = bed.dir().join("mariadb-template");
    if data.exists() {
        return Ok(data);
    }
    let building = bed.dir().join("mariadb-template.new");
    let mut command = Command::new(find_program(&["mariadb-install-db", "mysql_install_db"])?);
    command.arg("--no-defaults");
    if nix::unistd::geteuid().is_root() {
        // Not --user: with that the script also changes owners in the system's plugin folder.
        command.arg("--loose-user=root");
    }
    let temporary = bed.dir().join("mariadb-template.tmp");
    fs::create_dir(&temporary)?;
    let output = command
        .env("TMPDIR", temporary)
        .arg(format!("--datadir={}", building.display()))
        .args(["--auth-root-authentication-method=normal", "--skip-test-db"])
        .args(["--skip-name-resolve", "--innodb-log-file-size=4M"])
        .stdin(Stdio::null())
        .output()?;
    if !output.status.success() {
        bail!("mariadb-install-db failed:\n{}", String::from_utf8_lossy(&output.stderr));
    }
    fs::rename(&building, &data)?;
    Ok(data)
}

fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn servers_come_up_side_by_side_and_again_after_a_kill() {
        let bed = Bed::new().unwrap();
        let (a, b) =
            tokio::try_join!(Mariadb::start(&bed, "a"), Mariadb::start(&bed, "b")).unwrap();
        assert_ne!(a.address(), b.address());
        a.execute("CREATE DATABASE kept; CREATE TABLE kept.t (n INT) SELECT 7 AS n").await.unwrap();
        a.kill().unwrap();
        assert!(a.root().await.is_err());
        a.restart().await.unwrap();
        let mut root = a.root().await.unwrap();
        assert_eq!(root.query_first("SELECT n FROM kept.t").await.unwrap(), Some(7));
        let settings: (String, u32, u32) = root
            .query_first("SELECT @@event_scheduler, @@log_bin, @@sync_binlog")
            .await
            .unwrap()
            .unwrap();
        assert_eq!(settings, ("ON".to_owned(), 1, 1));
        b.stop().await.unwrap();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn accounts_are_those_that_are_named_here_and_the_stock_client_gets_in() {
        let bed = Bed::new().unwrap();
        let server = Mariadb::start(&bed, "a").await.unwrap();
        let mut root = server.root().await.unwrap();
        let accounts: Vec<String> = root
            .query("SELECT CONCAT(user, '@', host) FROM mysql.global_priv ORDER BY 1")
            .await
            .unwrap();
        assert_eq!(accounts, ["drover@127.%", "mariadb.sys@localhost", "root@localhost"]);
        let password = fs::read_to_string(server.drover_password_file()).unwrap();
        let mut drover = server.connect(server.drover_user(), &password).await.unwrap();
        assert_eq!(drover.query_first("SELECT 1").await.unwrap(), Some(1));
        let output =
            server.client_command().unwrap().args(["-N", "-e", "SELECT 'ö'"]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "ö");
        assert!(server.connect("drover", "wrong").await.is_err());
    }
}
