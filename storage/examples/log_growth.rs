//! How large a log's directory gets under a million small commands with purging, for each engine; and how long writes
//! take. The log lies below the current directory, so that its disk is measured.
//!
//! `cargo run --release -p riftmesh-storage --example log_growth [COMMANDS]`
//!
//! One command per entry, 64 entries per write as the disk thread gathers them under load; a purge every 5,000 entries
//! that keeps the last 10,000, as after a snapshot.

use std::error::Error;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use riftmesh_storage::{LogEngine, LogOp, PurgePoint, SegmentLog, SledLog};

const COMMANDS: u64 = 1_000_000;
const COMMAND_BYTES: usize = 160;
const ENTRIES_PER_WRITE: u64 = 64;
const PURGE_EVERY: u64 = 5_000;
const ENTRIES_KEPT: u64 = 10_000;
const REPORTS: u64 = 10;

fn main() -> Result<(), Box<dyn Error>> {
    let commands = match std::env::args().nth(1) {
        Some(text) => text.parse()?,
        None => COMMANDS,
    };
    let dir = tempfile::tempdir_in(".")?;
    let sled = dir.path().join("sled");
    grow("sled", &SledLog::open(&sled)?, &sled, commands)?;
    let segments = dir.path().join("segments");
    grow(
        "segments",
        &SegmentLog::open(&segments)?,
        &segments,
        commands,
    )
}

fn grow(name: &str, log: &dyn LogEngine, path: &Path, commands: u64) -> Result<(), Box<dyn Error>> {
    let mut out = std::io::stdout();
    let begin = Instant::now();
    let (mut times, mut largest, mut next) = (Vec::new(), 0, 1);
    let report_every = (commands / REPORTS).max(1);
    while next <= commands {
        let end = (next + ENTRIES_PER_WRITE).min(commands + 1);
        let mut ops: Vec<LogOp> = (next..end).map(append).collect();
        if next / PURGE_EVERY != end / PURGE_EVERY && end > ENTRIES_KEPT {
            ops.push(LogOp::Purge(PurgePoint {
                index: end - ENTRIES_KEPT,
                mark: Vec::new(),
            }));
        }
        let started = Instant::now();
        log.write(&ops)?;
        times.push(started.elapsed());
        let bytes = size_on_disk(path)?;
        largest = bytes.max(largest);
        if next / report_every != end / report_every {
            let held = log
                .head()?
                .entries
                .map_or(0, |(first, last)| last - first + 1);
            let live = held * COMMAND_BYTES as u64;
            writeln!(
                out,
                "{name}: {:>9} commands, {held} held ({} KiB), directory {} KiB",
                end - 1,
                live >> 10,
                bytes >> 10
            )?;
        }
        next = end;
    }
    times.sort_unstable();
    let at = |per_mille: usize| -> Duration {
        let index = times.len().saturating_sub(1) * per_mille / 1_000;
        times.get(index).copied().unwrap_or_default()
    };
    writeln!(
        out,
        "{name}: {commands} commands in {:.1} s; largest directory {} KiB; writes of {ENTRIES_PER_WRITE}: p50 {:?}, p99 {:?}, max {:?}",
        begin.elapsed().as_secs_f64(),
        largest >> 10,
        at(500),
        at(990),
        at(1_000)
    )?;
    Ok(())
}

fn append(index: u64) -> LogOp {
    LogOp::Append {
        index,
        bytes: index.to_be_bytes().repeat(COMMAND_BYTES / 8),
    }
}

fn size_on_disk(path: &Path) -> Result<u64, std::io::Error> {
    use std::os::unix::fs::MetadataExt as _;
    let mut sum = 0;
    for entry in std::fs::read_dir(path)? {
        // The engine removes files meanwhile.
        let Ok(data) = entry?.metadata() else {
            continue;
        };
        sum += data.blocks() * 512;
    }
    Ok(sum)
}
