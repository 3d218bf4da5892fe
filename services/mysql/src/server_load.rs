//! What a server is under, by its own word: threads that run, changes that wait to be flushed, replicas
//! that are behind, room on its disk.
//!
//! Half a millisecond of the server's time, and one small question to each of its replicas. What a
//! server does not tell is left open: MySQL nothing of its disk, MariaDB only where its plugin `disks` is
//! installed and Drover's account has the privilege FILE, which nothing else of Drover needs.

use drover_schemas::v1::HostLoad;
use mysql_async::Row;

use crate::{Error, Flavour, Server, Session, questions::Questions};

/// How full the redo log is of what is to be flushed, and how full it may be: MariaDB's names, and those
/// of MySQL from 8.0.30 on.
const BACKLOG: [(&str, &str); 2] = [
    ("Innodb_checkpoint_age", "Innodb_checkpoint_max_age"),
    ("Innodb_redo_log_logical_size", "Innodb_redo_log_capacity_resized"),
];

/// Asks a server.
///
/// # Errors
/// When it does not answer. Of replicas that do not, the load says so.
pub async fn load(server: &Server) -> Result<HostLoad, Error> {
    let (mut session, _) = server.step_session(Questions::default()).await?;
    let status = status(&mut session).await?;
    let value = |name: &str| status.iter().find(|(known, _)| known == name)?.1.parse::<u64>().ok();
    let room = room(&mut session).await?;
    session.give_back().await?;
    let backlog = BACKLOG.iter().find_map(|(used, most)| percent(value(used)?, value(most)?));
    let threads = value("Threads_running").unwrap_or_default();
    let (replica_lag_seconds, silent_replica) = slowest(server).await;
    Ok(HostLoad {
        // The one that asks runs too.
        threads_running: u32::try_from(threads.saturating_sub(1)).unwrap_or(u32::MAX),
        flush_backlog_percent: backlog,
        replica_lag_seconds,
        silent_replica,
        disk_free_percent: room.and_then(|room| percent(room.free_bytes, room.bytes)),
    })
}

async fn status(session: &mut Session) -> Result<Vec<(String, String)>, Error> {
    let names: Vec<String> = ["Threads_running"]
        .into_iter()
        .chain(BACKLOG.into_iter().flat_map(|(used, most)| [used, most]))
        .map(|name| format!("'{name}'"))
        .collect();
    let sql = format!("SHOW GLOBAL STATUS WHERE Variable_name IN ({})", names.join(", "));
    session.rows("reading the status", &sql).await
}

/// How far the slowest replica is behind; or a replica of which that is not known.
async fn slowest(server: &Server) -> (Option<u32>, String) {
    let mut slowest = None;
    for replica in server.replicas() {
        match behind(replica).await {
            Ok(Some(seconds)) => slowest = slowest.max(Some(seconds)),
            Ok(None) | Err(_) => {
                let options = replica.options();
                return (None, format!("{}:{}", options.host, options.port));
            }
        }
    }
    (slowest, String::new())
}

/// How far a replica is behind, in seconds; none where it does not replicate.
async fn behind(replica: &Server) -> Result<Option<u32>, Error> {
    let (mut session, _) = replica.step_session(Questions::default()).await?;
    let (sql, column) = match session.about().flavour {
        Flavour::MariaDb => ("SHOW ALL SLAVES STATUS", "Seconds_Behind_Master"),
        Flavour::MySql => ("SHOW REPLICA STATUS", "Seconds_Behind_Source"),
    };
    let channels: Vec<Row> = session.rows("reading the replication's state", sql).await?;
    session.give_back().await?;
    let seconds = |row: &Row| row.get_opt::<Option<u32>, _>(column)?.ok()?;
    // A channel that has stopped tells no time.
    let all: Option<Vec<u32>> = channels.iter().map(seconds).collect();
    Ok(all.and_then(|all| all.into_iter().max()))
}

/// A disk.
pub(crate) struct Room {
    pub free_bytes: u64,
    pub bytes: u64,
}

/// The disk with the data folder; none where the server does not tell.
pub(crate) async fn room(session: &mut Session) -> Result<Option<Room>, Error> {
    if session.about().flavour == Flavour::MySql {
        return Ok(None);
    }
    // The disk whose path is the longest that the data folder begins with; in units of 1,024 bytes.
    let sql = "SELECT Available, Total FROM information_schema.DISKS \
               WHERE LEFT(@@datadir, CHAR_LENGTH(Path)) = Path ORDER BY CHAR_LENGTH(Path) DESC LIMIT 1";
    match session.rows::<(u64, u64)>("reading the disk's room", sql).await {
        Ok(rows) => {
            let room =
                |&(free, all): &(u64, u64)| Room { free_bytes: free << 10, bytes: all << 10 };
            Ok(rows.first().map(room))
        }
        // No such table, or not for this account: it does not tell.
        Err(Error::Statement { .. } | Error::RightMissing { .. }) => Ok(None),
        Err(other) => Err(other),
    }
}

fn percent(part: u64, whole: u64) -> Option<u32> {
    u32::try_from(part.saturating_mul(100).checked_div(whole)?).ok()
}
