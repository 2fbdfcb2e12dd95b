//! `riftmesh up`: a cluster of processes on this machine, started, watched, shown and stopped.
//!
//! `up` holds no state of the cluster and decides nothing in it: it starts processes and talks HTTP to them, like any
//! client.

mod layout;
mod report;
mod supervise;
mod view;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use anyhow::Context;
use riftmesh_base::ConfigurationName;

use crate::answers::StatusAnswer;
use crate::chores::settings::Preset;
use crate::cli::{Asker, talk};
use crate::interrupt::interrupts;
use crate::node::testimony::Supervision;
use layout::Prepared;
use report::Report;
use supervise::{NodeCommandLine, Notice, Supervised};
use view::View;

/// Things nodes have to say that have not been shown yet.
const NOTICES_MAX: usize = 64;

/// What a person asked for; `None` means as before in this directory, or the default.
#[derive(Debug, Clone)]
pub struct UpOptions {
    pub dir: PathBuf,
    pub voters: Option<u16>,
    pub workers: Option<u16>,
    pub slots: Option<u16>,
    pub configuration: Option<ConfigurationName>,
    pub preset: Option<Preset>,
    pub port: Option<u16>,
    pub seed: Option<u64>,
}

impl UpOptions {
    /// Nothing asked for but a directory.
    #[cfg(test)]
    pub fn in_dir(dir: PathBuf) -> Self {
        Self {
            dir,
            voters: None,
            workers: None,
            slots: None,
            configuration: None,
            preset: None,
            port: None,
            seed: None,
        }
    }
}

/// When to leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// On Ctrl-C.
    Interrupted,
    /// After a time, with a report.
    Elapsed(Duration),
    /// After the first verdict, with a report.
    FirstVerdict,
}

/// Runs the cluster. True if everything asked for was done and every node left by itself.
///
/// # Errors
/// Something was wrong before the start, or a node could not be started. Nothing is left running.
pub fn run(options: &UpOptions, until: Until) -> anyhow::Result<bool> {
    let prepared = layout::prepare(options)?;
    crate::node::make_credential(&prepared.credential)?;
    let interrupts = interrupts()?;
    let (notices, noticed) = sync_channel(NOTICES_MAX);
    let nodes = start(&prepared, &notices)?;
    welcome(&prepared);
    let outcome = watch(&prepared, until, &interrupts, &noticed);
    talk("leaving: telling the nodes to stop");
    // Workers first: they give their jobs back while there is still a leader to take them.
    let (voters, workers) = nodes;
    let clean = [stop_all(workers), stop_all(voters)];
    let clean = clean.iter().all(|left| *left);
    if !clean {
        talk("a node did not leave in time and was killed; nothing acknowledged is lost");
    }
    talk(&format!(
        "everything is kept in {}; the same command resumes",
        options.dir.display()
    ));
    outcome.map(|done| done && clean)
}

/// Stops nodes together. True if all left by themselves.
fn stop_all(nodes: Vec<Supervised>) -> bool {
    let since = Instant::now();
    nodes.iter().for_each(Supervised::request_stop);
    let left: Vec<bool> = nodes.into_iter().map(|node| node.wait(since)).collect();
    left.iter().all(|left| *left)
}

/// Starts every node: the voters, and the workers.
fn start(
    prepared: &Prepared,
    notices: &SyncSender<Notice>,
) -> anyhow::Result<(Vec<Supervised>, Vec<Supervised>)> {
    let exe = std::env::current_exe().context("cannot find this program's own file")?;
    let (mut voters, mut workers) = (Vec::new(), Vec::new());
    let voting = prepared.nodes.iter().filter(|place| place.voter);
    let seeds: Vec<_> = voting.map(|place| place.address).collect();
    for place in &prepared.nodes {
        std::fs::create_dir_all(&place.dir)?;
        let command = NodeCommandLine {
            name: place.name.clone(),
            exe: exe.clone(),
            args: arguments(prepared, place),
            log: place.dir.with_extension("log"),
            supervision: Supervision {
                dir: place.dir.clone(),
                credential: Some(prepared.credential.clone()),
                seeds: seeds.clone(),
            },
        };
        let started = Supervised::start(command, notices.clone())?;
        if place.voter {
            &mut voters
        } else {
            &mut workers
        }
        .push(started);
    }
    Ok((voters, workers))
}

fn arguments(prepared: &Prepared, place: &layout::NodePlace) -> Vec<String> {
    let layout = &prepared.layout;
    let voters = prepared.nodes.iter().filter(|node| node.voter);
    let seeds: Vec<_> = voters.map(|node| node.address.to_string()).collect();
    let mut args = vec!["node".to_owned(), "run".to_owned(), "--lifeline".to_owned()];
    let mut option = |name: &str, value: String| args.extend([format!("--{name}"), value]);
    option("dir", place.dir.display().to_string());
    option("name", place.name.clone());
    option("listen", place.address.to_string());
    option("http", place.address.to_string());
    option(
        "role",
        if place.voter { "voter" } else { "worker" }.to_owned(),
    );
    option("seeds", seeds.join(","));
    option("credential", prepared.credential.display().to_string());
    option("configuration", layout.configuration.to_string());
    option(
        "preset",
        clap::ValueEnum::to_possible_value(&layout.preset)
            .map_or_else(String::new, |v| v.get_name().to_owned()),
    );
    option("seed", layout.seed.to_string());
    if place.voter {
        option("bootstrap-expect", layout.voters.to_string());
    } else {
        option("slots", layout.slots.to_string());
    }
    args
}

fn welcome(prepared: &Prepared) {
    let layout = &prepared.layout;
    let first = prepared
        .nodes
        .first()
        .map_or_else(String::new, |node| node.address.to_string());
    talk(&format!(
        "{} {} voters and {} workers of {} slots, learning {}",
        if prepared.resumed {
            "resuming"
        } else {
            "starting"
        },
        layout.voters,
        layout.workers,
        layout.slots,
        layout.configuration
    ));
    talk("from another terminal:");
    let addr = if layout.port == 7_700 {
        String::new()
    } else {
        format!(" --addr {first}")
    };
    for (command, what) in [
        ("status", "everything at a glance"),
        ("leader", "who leads"),
        ("job watch", "what is done"),
        ("model list", "what was learned"),
    ] {
        talk(&format!(
            "  riftmesh {:<34} {what}",
            format!("{command}{addr}")
        ));
    }
    talk(&format!("  curl http://{first}/v1/progress"));
    talk("Ctrl-C leaves; kill -9 anything you like: it comes back");
}

/// Shows the cluster until it is time to leave, then reports. True if the report is complete.
fn watch(
    prepared: &Prepared,
    until: Until,
    interrupts: &Receiver<()>,
    notices: &Receiver<Notice>,
) -> anyhow::Result<bool> {
    let addresses: Vec<_> = prepared
        .nodes
        .iter()
        .map(|node| node.address.to_string())
        .collect();
    let asker = Asker::new(&addresses);
    let mut view = View::new(std::io::stdout().is_terminal());
    let mut report = Report::new(
        prepared.layout.configuration.clone(),
        prepared.layout.preset,
        prepared.layout.seed,
    );
    let begin = Instant::now();
    let mut verdicts_before = None;
    loop {
        let status = asker.get::<StatusAnswer>("/v1/status");
        notices
            .try_iter()
            .for_each(|notice| view.event(&format!("{}: {}", notice.node, notice.text)));
        view.show(
            begin.elapsed(),
            status
                .as_ref()
                .map(|envelope| &envelope.answer)
                .map_err(ToString::to_string),
        );
        let progress = status
            .ok()
            .and_then(|envelope| envelope.answer.progress.into_iter().next());
        if let Some(progress) = &progress {
            for line in report.advance(begin.elapsed(), progress, &asker) {
                view.event(&line);
            }
        }
        let over = match until {
            Until::Interrupted => false,
            Until::Elapsed(limit) => begin.elapsed() >= limit,
            Until::FirstVerdict => progress.is_some_and(|progress| {
                let now = progress.verdicts.len();
                now > *verdicts_before.get_or_insert(now)
            }),
        };
        if over {
            return Ok(report.finish(&asker, interrupts, &mut view, begin));
        }
        match interrupts.recv_timeout(view.pause()) {
            Err(RecvTimeoutError::Timeout) => {}
            Ok(()) | Err(RecvTimeoutError::Disconnected) => return Ok(true),
        }
    }
}
