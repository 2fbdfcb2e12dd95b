//! The job child: reads one assignment, does it, says how it went, and never outlives its node.

use std::io::{BufRead, Read, Write};
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{SyncSender, sync_channel};

use anyhow::Context;

use super::run;
use super::wire::{Assignment, ChildLine};

/// Lowest urgency among the machine's ordinary work: heartbeats, a desktop and an editor go first.
const NICE: i32 = 10;

/// What the two threads of a child tell its main thread.
enum Event {
    Ended(Result<super::wire::Made, run::JobError>),
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
    watch_stdin(sender.clone())?;
    work(assignment, sender)?;
    Ok(match events.recv() {
        Ok(Event::Ended(Ok(made))) => {
            say(&ChildLine::Done { made });
            true
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

fn watch_stdin(sender: SyncSender<Event>) -> std::io::Result<()> {
    std::thread::Builder::new()
        .name("lifeline".to_owned())
        .spawn(move || {
            let mut rest = [0; 64];
            while let Ok(1..) = std::io::stdin().lock().read(&mut rest) {}
            // The main thread may be leaving already.
            drop(sender.send(Event::NodeGone));
        })?;
    Ok(())
}

fn work(assignment: Assignment, sender: SyncSender<Event>) -> std::io::Result<()> {
    // Search and training recurse and keep arrays on the stack; be generous.
    std::thread::Builder::new()
        .name("job".to_owned())
        .stack_size(64 << 20)
        .spawn(move || {
            // A cluster's job is done or not; a node that wants its end ends the process.
            let never = AtomicBool::new(false);
            let outcome = std::panic::catch_unwind(|| run::run(&assignment, &mut progress, &never));
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

fn progress(advance: run::Advance) {
    let run::Advance { done, total, .. } = advance;
    say(&ChildLine::Progress { done, total });
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
