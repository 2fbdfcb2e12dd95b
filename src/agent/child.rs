//! One job child: started, fed its assignment, listened to, and never left behind.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::job::wire::{Assignment, ChildLine, Made};
use crate::node::JOIN_VARIABLE;

/// Longest line a child may print; one that prints more is broken.
const LINE_BYTES_MAX: u64 = 64 << 10;
/// How much of a child's stderr is kept for the error text.
const STDERR_KEPT: usize = 2_000;
/// How long a child has to exit after its last line.
const EXIT_WAIT: Duration = Duration::from_secs(5);

/// How a child ended.
#[derive(Debug)]
pub enum ChildEnd {
    /// It did the job.
    Done(Made),
    /// It reported, or showed by exiting, that the job failed.
    Failed {
        /// What went wrong.
        error: String,
        /// Whether another attempt could help.
        retry: bool,
    },
    /// A signal took it: nobody's fault here.
    Lost {
        /// Which signal.
        reason: String,
    },
}

/// A running child. Dropping it kills the process.
pub struct JobChild {
    process: Child,
    // Open for as long as the child may live: its end of file tells the child that the node is gone.
    _stdin: ChildStdin,
    lines: BufReader<ChildStdout>,
    errors: tokio::task::JoinHandle<String>,
}

impl JobChild {
    /// Starts `exe job exec` and hands it the assignment.
    ///
    /// Must be called from a runtime worker thread: the child asks the kernel to be killed with its parent *thread*.
    ///
    /// # Errors
    /// The process could not be started or did not take its assignment.
    pub async fn start(exe: &PathBuf, assignment: &Assignment) -> anyhow::Result<Self> {
        let mut process = Command::new(exe)
            .args(["job", "exec"])
            // Jobs have no business with it.
            .env_remove(JOIN_VARIABLE)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start a job process from {}", exe.display()))?;
        let mut stdin = process.stdin.take().context("the child has no stdin")?;
        let stdout = process.stdout.take().context("the child has no stdout")?;
        let stderr = process.stderr.take().context("the child has no stderr")?;
        let mut line = serde_json::to_vec(assignment)?;
        line.push(b'\n');
        stdin
            .write_all(&line)
            .await
            .context("the child did not read its assignment")?;
        stdin.flush().await?;
        let errors = tokio::spawn(tail(stderr));
        Ok(Self {
            process,
            _stdin: stdin,
            lines: BufReader::new(stdout),
            errors,
        })
    }

    /// The process id, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.process.id()
    }

    /// Waits for the next progress report, or for the end. Safe to drop between two lines only; a caller that
    /// stops listening drops the child as well.
    pub async fn next(&mut self) -> Result<(u64, u64), ChildEnd> {
        let mut line = Vec::new();
        let read = (&mut self.lines)
            .take(LINE_BYTES_MAX)
            .read_until(b'\n', &mut line)
            .await;
        match read {
            Ok(0) => Err(self.ended().await),
            Ok(_) => match serde_json::from_slice(&line) {
                Ok(ChildLine::Progress { done, total }) => Ok((done, total)),
                Ok(ChildLine::Done { made }) => Err(self.finished(ChildEnd::Done(made)).await),
                Ok(ChildLine::Failed { error, retry }) => {
                    Err(self.finished(ChildEnd::Failed { error, retry }).await)
                }
                // A line cut off by the child's death is not its last word.
                Err(_) if !line.ends_with(b"\n") => Err(self.ended().await),
                Err(error) => Err(ChildEnd::Failed {
                    error: format!("the job process spoke out of turn: {error}"),
                    retry: false,
                }),
            },
            Err(error) => Err(ChildEnd::Failed {
                error: format!("cannot read from the job process: {error}"),
                retry: true,
            }),
        }
    }

    /// Kills it and waits until it is gone.
    pub async fn kill(mut self) {
        if let Err(error) = self.process.kill().await {
            tracing::debug!(%error, "the job process was gone already");
        }
    }

    /// After its last line: give it a moment to leave by itself.
    async fn finished(&mut self, end: ChildEnd) -> ChildEnd {
        if tokio::time::timeout(EXIT_WAIT, self.process.wait())
            .await
            .is_err()
        {
            tracing::warn!("a job process did not exit after its last line; killing it");
            if let Err(error) = self.process.kill().await {
                tracing::debug!(%error, "the job process was gone already");
            }
        }
        end
    }

    /// Its stdout closed without a last word: a signal, or a crash.
    async fn ended(&mut self) -> ChildEnd {
        let status = match tokio::time::timeout(EXIT_WAIT, self.process.wait()).await {
            Ok(Ok(status)) => status,
            Ok(Err(error)) => {
                return ChildEnd::Lost {
                    reason: format!("cannot wait for the job process: {error}"),
                };
            }
            Err(_) => {
                return ChildEnd::Failed {
                    error: "the job process closed its output and hangs".into(),
                    retry: true,
                };
            }
        };
        if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
            return ChildEnd::Lost {
                reason: format!("its process was ended by signal {signal}"),
            };
        }
        let errors = (&mut self.errors).await.unwrap_or_default();
        ChildEnd::Failed {
            error: format!("the job process left with {status}: {}", errors.trim()),
            retry: true,
        }
    }
}

/// The last part of what the child wrote to stderr.
async fn tail(mut stderr: tokio::process::ChildStderr) -> String {
    let mut kept = Vec::new();
    let mut chunk = [0; 1_024];
    while let Ok(n @ 1..) = stderr.read(&mut chunk).await {
        kept.extend_from_slice(&chunk[..n]);
        let excess = kept.len().saturating_sub(STDERR_KEPT);
        kept.drain(..excess);
    }
    String::from_utf8_lossy(&kept).into_owned()
}
