//! The job child: reads one assignment, does it, says how it went, and never outlives its node.

use std::io::{BufRead, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};

use anyhow::Context;

use super::run;
use super::run::{Left, Pause};
use super::save::write_pause;
use super::wire::{Assignment, ChildLine, Made, SAVE_LINE, Saved};

/// Lowest urgency among the machine's ordinary work: heartbeats, a desktop and an editor go first.
const NICE: i32 = 10;

/// What the two threads of a child tell its main thread.
enum Event {
    Ended(Result<run::JobOutcome, run::JobError>),
    NodeGone,
}

/// Runs the assignment on stdin. True if the job was done.
///
/// The work has a thread of its own: the main thread waits for it or for the end of stdin, whichever comes first, and
/// returning from the main thread ends the process.
pub fn run() -> bool {
    match start() {
        Ok(done) => done,
        Err(error) => {
            say(&ChildLine::Failed {
                error: format!("{error:#}"),
                retry: true,
            });
            false
        }
    }
}

fn start() -> anyhow::Result<bool> {
    // Belt to the braces of stdin: the kernel ends this process when the thread that started it is gone.
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    rustix::process::nice(NICE)?;
    let mut line = String::new();
    std::io::stdin()
        .lock()
        .read_line(&mut line)
        .context("cannot read the assignment")?;
    let assignment: Assignment =
        serde_json::from_str(&line).context("the assignment is not one")?;
    let (sender, events) = sync_channel(2);
    let stop = Arc::new(AtomicBool::new(false));
    let out = assignment.out.clone();
    watch_stdin(sender.clone(), Arc::clone(&stop))?;
    work(assignment, sender, stop)?;
    Ok(match events.recv() {
        Ok(Event::Ended(Ok(outcome))) => {
            let line = last_line(outcome, &out)?;
            let done = matches!(line, ChildLine::Done { .. });
            say(&line);
            done
        }
        Ok(Event::Ended(Err(error))) => {
            say(&ChildLine::Failed {
                error: format!("{:#}", error.error),
                retry: error.retry,
            });
            false
        }
        Ok(Event::NodeGone) => false,
        Err(_) => anyhow::bail!("the job's thread ended without a word"),
    })
}

/// What the node hears of a job's outcome. How far a training run is goes into a file here, and only here: a run that is
/// through has no use for it.
fn last_line(outcome: run::JobOutcome, out: &Path) -> anyhow::Result<ChildLine> {
    let saved = match (outcome.left, &outcome.made) {
        (Left::Nothing, _) => return Ok(ChildLine::Done { made: outcome.made }),
        (Left::Rest(Pause::Games(done)), Made::Segment { file, .. }) => Some(Saved {
            file: file.clone(),
            done,
        }),
        (Left::Rest(Pause::Training(pause)), _) => Some(write_pause(&pause, out.join("pause"))?),
        (Left::Rest(Pause::Games(_)) | Left::All, _) => None,
    };
    Ok(ChildLine::Stopped { saved })
}

fn watch_stdin(sender: SyncSender<Event>, stop: Arc<AtomicBool>) -> std::io::Result<()> {
    std::thread::Builder::new()
        .name("lifeline".to_owned())
        .spawn(move || {
            for line in std::io::stdin().lock().lines() {
                match line {
                    Ok(line) if line == SAVE_LINE => stop.store(true, Ordering::Relaxed),
                    Ok(_) => {}
                    Err(_) => break,
                }
            }
            // The main thread may be leaving already.
            drop(sender.send(Event::NodeGone));
        })?;
    Ok(())
}

fn work(
    assignment: Assignment,
    sender: SyncSender<Event>,
    stop: Arc<AtomicBool>,
) -> std::io::Result<()> {
    // Search and training recurse and keep arrays on the stack; be generous.
    std::thread::Builder::new()
        .name("job".to_owned())
        .stack_size(64 << 20)
        .spawn(move || {
            let outcome = std::panic::catch_unwind(|| run::run(&assignment, &mut ToNode, &stop));
            let outcome = outcome.unwrap_or_else(|panic| {
                let text = panic.downcast_ref::<String>().cloned();
                let text =
                    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
                let text = text.unwrap_or_else(|| "a panic without words".to_owned());
                Err(run::JobError {
                    error: anyhow::anyhow!("the job panicked: {text}"),
                    retry: true,
                })
            });
            drop(sender.send(Event::Ended(outcome)));
        })?;
    Ok(())
}

/// Hands on to the node how the job goes.
struct ToNode;

impl run::JobListener for ToNode {
    fn advance(&mut self, advance: run::Advance) {
        let run::Advance { done, total, .. } = advance;
        say(&ChildLine::Progress { done, total });
    }

    fn saved(&mut self, saved: Saved) {
        say(&ChildLine::Saved { saved });
    }
}

/// Prints a line for the node. If the node is gone the end of stdin says so as well.
fn say(line: &ChildLine) {
    let written = serde_json::to_string(line).map(|text| {
        let mut stdout = std::io::stdout().lock();
        writeln!(stdout, "{text}").and_then(|()| stdout.flush())
    });
    if !matches!(written, Ok(Ok(()))) {
        tracing::debug!("the node does not listen");
    }
}
