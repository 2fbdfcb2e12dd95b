//! Each node in a process of its own, restarted with back-off when it dies, told to leave by closing its stdin.

use std::fs::{File, OpenOptions};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context;

use crate::node::testimony::Supervision;

const BACKOFF_MIN: Duration = Duration::from_millis(500);
const BACKOFF_MAX: Duration = Duration::from_secs(8);
/// A node that ran this long has earned a fresh back-off.
const SETTLED: Duration = Duration::from_secs(30);
/// How long a node may take to leave.
const LEAVE_MAX: Duration = Duration::from_secs(12);
/// Logs above this size start anew, one old file kept.
const LOG_BYTES_MAX: u64 = 16 << 20;

/// Something a supervisor has to say.
#[derive(Debug)]
pub struct Notice {
    /// The node's name.
    pub node: String,
    /// What happened.
    pub text: String,
}

/// How to start one node.
#[derive(Debug, Clone)]
pub struct NodeCommandLine {
    /// For people.
    pub name: String,
    /// This binary.
    pub exe: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// Where its stdout and stderr go.
    pub log: PathBuf,
    /// What its peers are told by when it dies.
    pub supervision: Supervision,
}

/// A node process and the thread that looks after it.
pub struct Supervised {
    name: String,
    lifeline: Arc<Mutex<Option<ChildStdin>>>,
    pid: Arc<Mutex<Option<rustix::process::Pid>>>,
    stopping: Arc<AtomicBool>,
    wake: SyncSender<()>,
    thread: JoinHandle<()>,
}

impl Supervised {
    /// Starts a node and keeps it running until [`Supervised::request_stop`].
    ///
    /// # Errors
    /// The first start failed.
    pub fn start(command: NodeCommandLine, notices: SyncSender<Notice>) -> anyhow::Result<Self> {
        let name = command.name.clone();
        let lifeline = Arc::new(Mutex::new(None));
        let pid = Arc::new(Mutex::new(None));
        let stopping = Arc::new(AtomicBool::new(false));
        let (wake, woken) = sync_channel(1);
        let keeper = Keeper {
            command,
            lifeline: Arc::clone(&lifeline),
            pid: Arc::clone(&pid),
            stopping: Arc::clone(&stopping),
            woken,
            notices,
        };
        let thread = std::thread::Builder::new()
            .name(format!("supervise-{name}"))
            .spawn(move || keeper.keep())?;
        Ok(Self {
            name,
            lifeline,
            pid,
            stopping,
            wake,
            thread,
        })
    }

    /// Tells the node to leave and not to be restarted. Returns at once.
    pub fn request_stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        if self.wake.try_send(()).is_err() {
            tracing::debug!(node = self.name, "the supervisor is gone already");
        }
        lock(&self.lifeline).take();
    }

    /// Waits until the node is gone, killing it if it takes too long. True if it left by itself.
    pub fn wait(self, since: Instant) -> bool {
        while !self.thread.is_finished() && since.elapsed() < LEAVE_MAX {
            std::thread::park_timeout(Duration::from_millis(20));
        }
        let left = self.thread.is_finished();
        if let Some(pid) = lock(&self.pid).filter(|_| !left)
            && let Err(error) = rustix::process::kill_process(pid, rustix::process::Signal::KILL)
        {
            tracing::debug!(%error, node = self.name, "already gone");
        }
        self.thread.join().is_ok() && left
    }
}

/// The thread's own side.
struct Keeper {
    command: NodeCommandLine,
    lifeline: Arc<Mutex<Option<ChildStdin>>>,
    pid: Arc<Mutex<Option<rustix::process::Pid>>>,
    stopping: Arc<AtomicBool>,
    woken: Receiver<()>,
    notices: SyncSender<Notice>,
}

impl Keeper {
    fn keep(self) {
        let mut backoff = BACKOFF_MIN;
        while !self.stopping() {
            let started = Instant::now();
            let outcome = self.run_once();
            if self.stopping() {
                return;
            }
            if started.elapsed() > SETTLED {
                backoff = BACKOFF_MIN;
            }
            let what = match outcome {
                Ok(status) => {
                    if !status.success() {
                        self.testify();
                    }
                    describe(status)
                }
                Err(error) => format!("could not be started: {error:#}"),
            };
            self.say(format!(
                "{what}; restarting in {} ms (log: {})",
                backoff.as_millis(),
                self.command.log.display()
            ));
            match self.woken.recv_timeout(backoff) {
                Err(RecvTimeoutError::Timeout) => backoff = (backoff * 2).min(BACKOFF_MAX),
                Ok(()) | Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn run_once(&self) -> anyhow::Result<ExitStatus> {
        let mut child = spawn(&self.command)?;
        *lock(&self.pid) = i32::try_from(child.id())
            .ok()
            .and_then(rustix::process::Pid::from_raw);
        *lock(&self.lifeline) = child.stdin.take();
        if self.stopping() {
            // The request came while the process was being started and found nothing to close.
            lock(&self.lifeline).take();
        }
        let status = child.wait();
        // Under the lock, so that nobody signals a number that belongs to somebody else by now.
        *lock(&self.pid) = None;
        lock(&self.lifeline).take();
        status.context("cannot wait for the process")
    }

    /// The node died without a goodbye; says it in its place, so that nobody waits for it.
    fn testify(&self) {
        if let Err(error) = self.command.supervision.testify() {
            // Its peers find out by themselves.
            tracing::debug!(
                error = format!("{error:#}"),
                node = self.command.name,
                "no testimony"
            );
        }
    }

    fn stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    fn say(&self, text: String) {
        if self
            .notices
            .try_send(Notice {
                node: self.command.name.clone(),
                text,
            })
            .is_err()
        {
            tracing::debug!(node = self.command.name, "nobody listens");
        }
    }
}

fn spawn(command: &NodeCommandLine) -> anyhow::Result<Child> {
    let log = open_log(&command.log)
        .with_context(|| format!("cannot write the log {}", command.log.display()))?;
    Command::new(&command.exe)
        .args(&command.args)
        .stdin(Stdio::piped())
        .stdout(log.try_clone()?)
        .stderr(log)
        // A Ctrl-C in the terminal is for `up`, which lets the nodes leave one after another.
        .process_group(0)
        .spawn()
        .with_context(|| format!("cannot start {}", command.exe.display()))
}

fn open_log(path: &Path) -> std::io::Result<File> {
    if std::fs::metadata(path).is_ok_and(|meta| meta.len() > LOG_BYTES_MAX) {
        std::fs::rename(path, path.with_extension("log.old"))?;
    }
    OpenOptions::new().create(true).append(true).open(path)
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("left with code {code}"),
        (None, Some(signal)) => format!("was killed by signal {signal}"),
        (None, None) => "ended".to_owned(),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
