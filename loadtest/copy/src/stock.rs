//! What others do with the same databases: the stock pipe, mydumper with myloader, and the import
//! statements alone.
//!
//! They come over the servers' Unix sockets as the administrator; Drover comes over TCP. myloader is
//! told to write the binary log, as everybody else does.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context as _, Result, bail};
use drover_testbed::bed::find_program;
use tokio::{io::AsyncWriteExt as _, task::spawn_blocking};

use crate::stage::Stage;

/// One database through `mariadb-dump | mariadb`; xargs puts its name behind.
const PIPE: &str = r#"
mariadb-dump --defaults-file="$1" --single-transaction --routines --events --triggers \
  --databases -- "$3" | mariadb --defaults-file="$2"
"#;

/// The stock pipe under `xargs -P`; the seconds that it took.
pub async fn pipe(stage: &Stage, databases: &[String], side_by_side: usize) -> Result<f64> {
    let mut command = Command::new("xargs");
    command.args(["-d", "\n", "-n", "1", "-P"]).arg(side_by_side.to_string());
    command.args(["bash", "-o", "pipefail", "-c", PIPE, "bash"]);
    command.arg(stage.source().root_options_file()).arg(stage.destination().root_options_file());
    timed(command, databases.join("\n").into_bytes()).await
}

/// mydumper, then myloader, with so many threads; the seconds that both took.
pub async fn mydumper(stage: &Stage, pattern: &str, threads: usize) -> Result<f64> {
    let folder = stage.fleet.bed.dir().join("mydumper");
    let mut dump = Command::new(find_program(&["mydumper"])?);
    dump.arg("--defaults-file").arg(stage.source().root_options_file());
    dump.arg("--socket").arg(stage.source().socket());
    dump.args(["--verbose=1", "--trx-consistency-only", "--triggers", "--events", "--routines"]);
    dump.arg(format!("--threads={threads}")).arg(format!("--regex=^({pattern})\\."));
    dump.arg("--outputdir").arg(&folder);
    let mut load = Command::new(find_program(&["myloader"])?);
    load.arg("--defaults-file").arg(stage.destination().root_options_file());
    load.arg("--socket").arg(stage.destination().socket());
    load.args(["--verbose=1", "--enable-binlog"]).arg(format!("--threads={threads}"));
    load.arg("--directory").arg(&folder);
    for (command, server) in [(&mut dump, stage.source()), (&mut load, stage.destination())] {
        // 0.10 takes neither from the file's [client].
        command.args(["--user=root"]).env("MYSQL_PWD", server.root_password());
    }
    let seconds = timed(dump, Vec::new()).await? + timed(load, Vec::new()).await?;
    fs::remove_dir_all(folder)?;
    Ok(seconds)
}

/// The statements of some databases, one text for each of so many clients.
pub struct Floor {
    texts: Vec<Vec<u8>>,
}

impl Floor {
    /// Reads them from the source: definitions, and one INSERT for many rows, in one transaction a
    /// database.
    pub async fn read(stage: &Stage, databases: &[String], clients: usize) -> Result<Self> {
        let mut texts = Vec::new();
        let share = databases.len().div_ceil(clients).max(1);
        for some in databases.chunks(share) {
            let mut command = stage.source().dump_command()?;
            command.args(["--single-transaction", "--skip-add-locks", "--skip-disable-keys"]);
            command.args(["--skip-add-drop-table", "--skip-comments", "--no-autocommit"]);
            command.arg("--databases").arg("--").args(some);
            let output = spawn_blocking(move || command.output()).await??;
            if !output.status.success() {
                bail!("{}", String::from_utf8_lossy(&output.stderr));
            }
            texts.push(output.stdout);
        }
        Ok(Self { texts })
    }

    /// Runs them; the seconds that it took.
    pub async fn run(&self, stage: &Stage) -> Result<f64> {
        let began = Instant::now();
        let clients = self.texts.iter().map(|text| async move {
            timed(stage.destination().client_command()?, text.clone()).await
        });
        futures::future::try_join_all(clients).await?;
        Ok(began.elapsed().as_secs_f64())
    }
}

/// Runs a program with this on its standard input; the seconds that it took.
pub async fn timed(command: Command, input: Vec<u8>) -> Result<f64> {
    let program = Path::new(command.get_program()).display().to_string();
    let mut command = tokio::process::Command::from(command);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    let began = Instant::now();
    let mut child = command.spawn().with_context(|| format!("starting {program}"))?;
    let pipe = child.stdin.take();
    let feed = async move {
        if let Some(mut pipe) = pipe {
            // A program that ends early says why by itself.
            let _ = pipe.write_all(&input).await;
        }
    };
    let (output, ()) = tokio::join!(child.wait_with_output(), feed);
    let output = output?;
    if !output.status.success() {
        bail!("{program}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(began.elapsed().as_secs_f64())
}
