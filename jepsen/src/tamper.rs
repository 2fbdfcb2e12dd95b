//! Syncs of a running process that take long or fail: `strace` answers them in the kernel's place.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};

/// The calls that promise that bytes are on the disk.
const SYNCS: &str = "fsync,fdatasync,sync_file_range,msync";

/// What becomes of a sync.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncFate {
    /// It begins so much later.
    Late(Duration),
    /// The disk reports an input/output error and nothing is written.
    Fails,
}

/// A process whose syncs are tampered with. Dropping it lets the process go on as it was.
#[derive(Debug)]
pub struct Tampering {
    tracer: Option<Child>,
    log: PathBuf,
}

impl Tampering {
    /// Begins with the process `id`; what was done is noted in the file `log`.
    ///
    /// # Errors
    /// `strace` is not there or cannot be started.
    pub fn begin(id: u32, fate: SyncFate, log: &Path) -> anyhow::Result<Self> {
        let fate = match fate {
            SyncFate::Late(by) => format!("delay_enter={}", by.as_micros()),
            SyncFate::Fails => "error=EIO".to_owned(),
        };
        let tracer = Command::new("strace")
            .args(["--follow-forks", "--quiet=all", "--attach", &id.to_string()])
            .args(["-e", &format!("trace={SYNCS}")])
            .args(["-e", &format!("inject={SYNCS}:{fate}")])
            .arg("--output")
            .arg(log)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start `strace`")?;
        Ok(Self {
            tracer: Some(tracer),
            log: log.to_owned(),
        })
    }

    /// Ends it, and says how many syncs it met.
    ///
    /// # Errors
    /// The tracer does not end, or its log cannot be read.
    pub fn end(mut self) -> anyhow::Result<usize> {
        self.detach()?;
        let log = match std::fs::read_to_string(&self.log) {
            Ok(log) => log,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error).context("what strace noted"),
        };
        let met = |line: &&str| line.contains("(DELAYED)") || line.contains("(INJECTED)");
        Ok(log.lines().filter(met).count())
    }

    fn detach(&mut self) -> anyhow::Result<()> {
        let Some(mut tracer) = self.tracer.take() else {
            return Ok(());
        };
        if tracer.try_wait()?.is_none() {
            let pid = i32::try_from(tracer.id()).ok().and_then(Pid::from_raw);
            // It lets go of the process before it ends; killed, it would not.
            kill_process(pid.context("strace has no usable id")?, Signal::TERM)?;
        }
        tracer.wait().context("strace does not end")?;
        Ok(())
    }
}

impl Drop for Tampering {
    fn drop(&mut self) {
        if let Err(error) = self.detach() {
            tracing::warn!(%error, "strace");
        }
    }
}

/// Whether `strace` is installed.
pub fn is_possible() -> bool {
    let version = Command::new("strace")
        .arg("-V")
        .stdin(Stdio::null())
        .output();
    version.is_ok_and(|output| output.status.success())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead as _, BufReader, Write as _};

    /// A process that syncs when told to sees its syncs fail while they are tampered with, and not before or after.
    #[test]
    fn syncs_fail_as_long_as_they_are_tampered_with() {
        if !is_possible() {
            eprintln!("not tested: strace is not installed");
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let mut shell = Command::new("sh")
            .arg("-c")
            .arg("while read x; do if sync -d f 2>/dev/null; then echo well; else echo badly; fi; done")
            .current_dir(folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        std::fs::write(folder.path().join("f"), "bytes").unwrap();
        let mut orders = shell.stdin.take().unwrap();
        let mut answers = BufReader::new(shell.stdout.take().unwrap()).lines();
        let mut sync = || {
            orders.write_all(b"now\n").unwrap();
            answers.next().unwrap().unwrap()
        };
        assert_eq!(sync(), "well");
        let log = folder.path().join("log");
        let tampering = Tampering::begin(shell.id(), SyncFate::Fails, &log).unwrap();
        // The tracer takes a moment to attach.
        assert!((0..1_000).any(|_| sync() == "badly"));
        assert!(tampering.end().unwrap() >= 1);
        assert_eq!(sync(), "well");
        drop(orders);
        shell.wait().unwrap();
    }
}
