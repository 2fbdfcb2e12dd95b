//! What processes took, from `/proc`.

use std::fs::read_to_string;

/// Kernel time is counted in hundredths of a second.
const TICKS_PER_SECOND: f64 = 100.0;

/// Resident memory in MB: now and at most so far. Zero for a process that is gone.
pub fn memory(process: u32) -> (f64, f64) {
    let text = read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        let kib: f64 = line.split_whitespace().next()?.parse().ok()?;
        Some(kib * 1_024.0 / 1e6)
    };
    (
        field("VmRSS:").unwrap_or(0.0),
        field("VmHWM:").unwrap_or(0.0),
    )
}

/// Processor seconds that these took so far, in user and kernel mode.
pub fn seconds(processes: &[u32]) -> f64 {
    processes.iter().copied().map(seconds_of).sum()
}

fn seconds_of(process: u32) -> f64 {
    let text = read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // The name is in parentheses and may hold anything; the 12th and 13th field behind it are the times.
    let fields = text.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks = fields.split_whitespace().skip(11).take(2);
    let ticks: f64 = ticks.filter_map(|field| field.parse::<f64>().ok()).sum();
    ticks / TICKS_PER_SECOND
}
