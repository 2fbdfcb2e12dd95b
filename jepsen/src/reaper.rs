//! Ends the processes of a harness that was killed, where no room does.
//!
//! A second process of this program waits for the end of its input, which comes when the harness is gone for whatever
//! reason, and kills the process groups it was told of. Inside a room the kernel does that.

use std::collections::BTreeSet;
use std::io::{BufRead, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process_group};

/// Name of the command that this program's second process runs.
pub const COMMAND: &str = "reap";

/// The harness's end.
pub struct Reaper {
    orders: Mutex<Option<ChildStdin>>,
    process: Child,
}

impl Reaper {
    /// Starts the second process from `program`, which is this one.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(program: &Path) -> anyhow::Result<Self> {
        let mut process = Command::new(program)
            .arg(COMMAND)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            // Not hit by a Ctrl-C that is meant for the harness.
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        Ok(Self {
            orders: Mutex::new(process.stdin.take()),
            process,
        })
    }

    /// The group of this process is to end with the harness.
    ///
    /// # Errors
    /// The second process is gone.
    pub fn adopt(&self, leader: u32) -> std::io::Result<()> {
        self.order('+', leader)
    }

    /// The group has ended; its number may become somebody else's.
    ///
    /// # Errors
    /// The second process is gone.
    pub fn release(&self, leader: u32) -> std::io::Result<()> {
        self.order('-', leader)
    }

    fn order(&self, sign: char, leader: u32) -> std::io::Result<()> {
        let mut orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
        match orders.as_mut() {
            Some(orders) => writeln!(orders, "{sign}{leader}"),
            None => Err(std::io::ErrorKind::BrokenPipe.into()),
        }
    }
}

impl Drop for Reaper {
    fn drop(&mut self) {
        drop(
            self.orders
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take(),
        );
        if let Err(error) = self.process.wait() {
            tracing::warn!(%error, "the reaper cannot be waited for");
        }
    }
}

/// Kills a process group; one that has ended is no error.
///
/// # Errors
/// It is somebody else's.
pub fn kill_group(leader: u32) -> std::io::Result<()> {
    let Some(pid) = i32::try_from(leader).ok().and_then(Pid::from_raw) else {
        return Ok(());
    };
    match kill_process_group(pid, Signal::KILL) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// What the second process does: reads orders until they end, then kills what is left.
///
/// # Errors
/// The input cannot be read.
pub fn reap(input: impl BufRead) -> std::io::Result<()> {
    let mut groups = BTreeSet::new();
    for line in input.lines() {
        let line = line?;
        let number = |digits: &str| digits.parse::<u32>().ok();
        if let Some(leader) = line.strip_prefix('+').and_then(number) {
            groups.insert(leader);
        } else if let Some(leader) = line.strip_prefix('-').and_then(number) {
            groups.remove(&leader);
        }
    }
    groups.into_iter().try_for_each(kill_group)
}
