//! What a process has used of the machine, as Linux counts it.

use std::fs;

use anyhow::Result;

/// What a process has used.
#[derive(Debug, Clone, Copy, Default)]
pub struct Used {
    /// Its memory, in megabytes.
    pub memory_mb: f64,
    /// The most it has had, in megabytes.
    pub memory_mb_max: f64,
    /// Its processor time, in seconds.
    pub cpu_seconds: f64,
}

/// What a process has used so far.
///
/// # Errors
/// When it is not there.
pub fn used(pid: u32) -> Result<Used> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let kilobytes = |key: &str| {
        let line = status.lines().find(|line| line.starts_with(key));
        let number = line.and_then(|line| line.split_whitespace().nth(1));
        number.and_then(|number| number.parse::<f64>().ok()).unwrap_or(0.0)
    };
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // After the name, which is in brackets and may hold anything.
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
    // User and system time, in hundredths of a second on Linux.
    let ticks: f64 = fields.skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum();
    Ok(Used {
        memory_mb: kilobytes("VmRSS:") / 1024.0,
        memory_mb_max: kilobytes("VmHWM:") / 1024.0,
        cpu_seconds: ticks / 100.0,
    })
}
