//! One job child: started, fed its assignment, listened to, and never left behind.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::job::wire::{Assignment, ChildLine, Made, SAVE_LINE, Saved};
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
    /// It stopped because it was asked to.
    Stopped(Option<Saved>),
    /// A signal took it: nobody's fault here.
    Lost {
        /// Which signal.
        reason: String,
    },
}

/// What is heard of a running child.
#[derive(Debug)]
pub enum Heard {
    /// A line.
    Line(ChildLine),
    /// Its stdout closed without a last word.
    Closed,
    /// Something that no child of ours says.
    Nonsense(ChildEnd),
}

/// A running child. Dropping it kills the process.
pub struct JobChild {
    process: Child,
    // Open for as long as the child may live: its end of file tells the child that the node is gone.
    stdin: ChildStdin,
    lines: BufReader<ChildStdout>,
    /// What has been read of the next line.
    line: Vec<u8>,
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
            stdin,
            lines: BufReader::new(stdout),
            line: Vec::new(),
            errors,
        })
    }

    /// The process id, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.process.id()
    }

    /// Asks it to write down how far it is and to leave. A child that is about to end anyway does not hear it.
    pub async fn ask_to_save(&mut self) {
        let line = format!("{SAVE_LINE}\n");
        if let Err(error) = self.stdin.write_all(line.as_bytes()).await {
            tracing::debug!(%error, "the job process does not listen");
        }
    }

    /// Waits for the next line, or for the end. May be dropped at any time: what was read of a line is kept.
    pub async fn hear(&mut self) -> Heard {
        let room = LINE_BYTES_MAX.saturating_sub(self.line.len() as u64);
        let read = (&mut self.lines)
            .take(room)
            .read_until(b'\n', &mut self.line)
            .await;
        if let Err(error) = read {
            return Heard::Nonsense(ChildEnd::Failed {
                error: format!("cannot read from the job process: {error}"),
                retry: true,
            });
        }
        let line = std::mem::take(&mut self.line);
        match serde_json::from_slice(&line) {
            Ok(line) => Heard::Line(line),
            // A line cut off by the child's death is not its last word.
            Err(_) if !line.ends_with(b"\n") && (line.len() as u64) < LINE_BYTES_MAX => {
                Heard::Closed
            }
            Err(error) => Heard::Nonsense(ChildEnd::Failed {
                error: format!("the job process spoke out of turn: {error}"),
                retry: false,
            }),
        }
    }

    /// How it ended, after the first thing heard of it that is not progress.
    pub async fn end(&mut self, heard: Heard) -> ChildEnd {
        let end = match heard {
            Heard::Line(ChildLine::Done { made }) => ChildEnd::Done(made),
            Heard::Line(ChildLine::Stopped { saved }) => ChildEnd::Stopped(saved),
            Heard::Line(ChildLine::Failed { error, retry }) => ChildEnd::Failed { error, retry },
            Heard::Line(ChildLine::Progress { .. } | ChildLine::Saved { .. }) | Heard::Closed => {
                return self.ended().await;
            }
            Heard::Nonsense(end) => return end,
        };
        self.finished(end).await
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
