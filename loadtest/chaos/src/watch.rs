//! What each process takes: memory and open files, looked at while it runs.

use std::{
    collections::BTreeMap,
    fs,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::sleep;

use crate::world::World;

/// How often is looked.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// The most memory that a process of one service may have taken, in MB.
pub const MEMORY_MB_MAX: u64 = 100;
/// The most files and sockets that it may have open.
pub const FILES_MAX: usize = 150;

/// The most that the processes of one service took.
#[derive(Debug, Clone, Copy, Default)]
pub struct Taken {
    /// The peak of resident memory (`VmHWM`), in KB.
    pub memory_kb: u64,
    /// Open files and sockets.
    pub files: usize,
}

/// By service.
pub type Peaks = Arc<Mutex<BTreeMap<&'static str, Taken>>>;

/// Looks at every process for as long as it is not dropped.
pub async fn watch(world: Arc<World>, peaks: Peaks) {
    loop {
        for service in &world.services {
            // Until it has become the binary, it has the files of this program.
            let Some(pid) = service.pid().filter(|pid| is_drover(*pid)) else { continue };
            let (memory_kb, files) = (memory_peak_kb(pid), open_files(pid));
            let mut peaks = peaks.lock().unwrap_or_else(PoisonError::into_inner);
            let peak = peaks.entry(service.kind).or_default();
            peak.memory_kb = peak.memory_kb.max(memory_kb.unwrap_or(0));
            peak.files = peak.files.max(files.unwrap_or(0));
        }
        sleep(LOOK_EVERY).await;
    }
}

/// The peak of a process's resident memory; none when it has ended.
pub fn memory_peak_kb(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().trim_end_matches("kB").trim().parse().ok()
}

fn is_drover(pid: u32) -> bool {
    let program = fs::read_link(format!("/proc/{pid}/exe"));
    program.is_ok_and(|program| program.file_name().is_some_and(|name| name == "drover"))
}

fn open_files(pid: u32) -> Option<usize> {
    Some(fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count())
}
