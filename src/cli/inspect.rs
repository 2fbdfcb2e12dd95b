//! `inspect log|state|snapshot|archive`: what a stopped node has on its disk, without changing any of it.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, Subcommand};
use riftmesh_base::{BlobHash, LogIndex, NodeId, Term};
use riftmesh_raft::inspect::{self, EntryContent, EntryView, LogSummary, StoppedState};
use riftmesh_statemachine::query::StateSummary;
use riftmesh_storage::inspect::{StoppedLog, StoppedNode};
use serde::Serialize;

use super::Exit;
use super::output::{data, json};

/// Bytes of entries read at once.
const READ_BYTES: usize = 8 << 20;

/// The `inspect` family.
#[derive(Debug, Subcommand)]
pub enum InspectCommand {
    /// The log: vote, commit mark, bounds, and its last entries as sentences
    #[command(after_help = "\
Examples:
  riftmesh inspect log data                     the last twenty entries
  riftmesh inspect log data --from 4711 --count 3
Every entry is read and its checksum checked, also of those that are not shown.
Exit codes: 0 all is well, 1 the node runs, the directory is none of ours, or something is damaged")]
    Log {
        #[command(flatten)]
        node: NodeArgs,
        /// First entry to show
        #[arg(long)]
        from: Option<u64>,
        /// Entries to show
        #[arg(long, default_value_t = 20)]
        count: u64,
    },
    /// The state after the snapshot and every entry of the log, with its hash
    #[command(after_help = "\
Example:
  riftmesh inspect state data
Two nodes whose states have the same index must show the same hash. The last entries may not have been committed:
`inspect log` says up to where they surely were.
Exit codes: 0 all is well, 1 the node runs, something is damaged, or an invariant does not hold")]
    State(NodeArgs),
    /// The snapshot: what it covers, its hashes, the state in it
    #[command(after_help = "\
Example:
  riftmesh inspect snapshot data
Exit codes: 0 all is well, 1 there is none, the node runs, or it is damaged")]
    Snapshot(NodeArgs),
    /// The archive of jobs that left the state: whether every batch is there, is what it was, and follows the one before
    #[command(after_help = "\
Example:
  riftmesh inspect archive data
The chain is followed from the last batch that the state knows to the first. At a break it says which file and what to do.
Exit codes: 0 every link holds or there is none, 1 a batch is missing or damaged, the node runs or never voted")]
    Archive(NodeArgs),
}

/// Whose directory, and how to print.
#[derive(Debug, Clone, Args)]
pub struct NodeArgs {
    /// Data directory of a node that does not run
    pub(super) dir: PathBuf,
    /// Print as JSON
    #[arg(long)]
    pub(super) json: bool,
}

/// Runs an `inspect` command.
pub fn run(command: &InspectCommand) -> anyhow::Result<Exit> {
    match command {
        InspectCommand::Log { node, from, count } => log(node, *from, *count),
        InspectCommand::State(node) => state(node),
        InspectCommand::Snapshot(node) => snapshot(node),
        InspectCommand::Archive(node) => super::inspect_archive::run(node),
    }
}

pub(super) fn open(dir: &Path) -> anyhow::Result<StoppedNode> {
    StoppedNode::open(dir).with_context(|| format!("cannot look into {}", dir.display()))
}

#[derive(Debug, Serialize)]
struct LogAnswer {
    node: NodeId,
    engine: &'static str,
    disk_bytes: u64,
    entry_count: u64,
    entry_bytes: u64,
    entry_bytes_max: u64,
    log: LogSummary,
    shown: Vec<EntryView>,
}

fn log(args: &NodeArgs, from: Option<u64>, count: u64) -> anyhow::Result<Exit> {
    let node = open(&args.dir)?;
    let Some(log) = node.log()? else {
        anyhow::bail!("{} holds no log: the node never voted", args.dir.display());
    };
    let report = &log.report;
    let answer = LogAnswer {
        node: node.node(),
        engine: report.kind.name(),
        disk_bytes: report.disk_bytes,
        entry_count: report.entries,
        entry_bytes: report.entry_bytes,
        entry_bytes_max: report.entry_bytes_max,
        log: inspect::summary(&report.head)?,
        shown: entries(&log, from, count)?,
    };
    if args.json {
        json(&answer)?;
    } else {
        print_log(&answer);
    }
    Ok(Exit::Ok)
}

fn entries(log: &StoppedLog, from: Option<u64>, count: u64) -> anyhow::Result<Vec<EntryView>> {
    let Some((first, last)) = log.report.head.entries else {
        return Ok(Vec::new());
    };
    let tail = (last + 1).saturating_sub(count);
    let mut next = from.unwrap_or(tail).max(first);
    let end = next.saturating_add(count).min(last + 1);
    let mut views = Vec::new();
    while next < end {
        let read = log.entries(next, end, READ_BYTES)?;
        for (index, bytes) in &read {
            views.push(inspect::entry(*index, bytes)?);
        }
        match read.last() {
            Some((index, _)) => next = index + 1,
            None => break,
        }
    }
    Ok(views)
}

fn print_log(answer: &LogAnswer) {
    let or_none = |index: Option<LogIndex>| {
        index.map_or_else(|| "none".to_owned(), |index| index.to_string())
    };
    let log = &answer.log;
    let vote = log.vote.map_or_else(
        || "none".to_owned(),
        |(term, node)| format!("term {term} for {node}"),
    );
    let bounds = log.entries.map_or_else(
        || "no entries".to_owned(),
        |(first, last)| format!("entries {first} to {last}"),
    );
    data(&format!(
        "node {}: {bounds} on {}, {} on disk",
        answer.node,
        answer.engine,
        megabytes(answer.disk_bytes)
    ));
    data(&format!(
        "vote {vote}, committed {}, purged {}; {} entries of {} in all, the longest {} bytes",
        or_none(log.committed),
        or_none(log.purged),
        answer.entry_count,
        megabytes(answer.entry_bytes),
        answer.entry_bytes_max
    ));
    for entry in &answer.shown {
        data(&format!(
            "{} term {} of {} ({} bytes): {}",
            entry.index,
            entry.term,
            entry.leader,
            entry.bytes,
            sentence(&entry.content)
        ));
    }
}

fn sentence(content: &EntryContent) -> String {
    match content {
        EntryContent::Blank => "a leader begins".to_owned(),
        EntryContent::Members { voters, learners } => {
            let list = |nodes: &Vec<NodeId>| {
                let ids: Vec<_> = nodes.iter().map(ToString::to_string).collect();
                ids.join(", ")
            };
            let voters: Vec<_> = voters.iter().map(list).collect();
            format!(
                "voters {}; learners {}",
                voters.join(" and "),
                list(learners)
            )
        }
        EntryContent::Commands { now, commands } => {
            format!("at {now}: {}", commands.join("; "))
        }
    }
}

#[derive(Debug, Serialize)]
struct StateAnswer {
    node: NodeId,
    last: Option<(Term, LogIndex)>,
    voters: Vec<NodeId>,
    hash: BlobHash,
    summary: StateSummary,
    violations: Vec<String>,
}

impl StateAnswer {
    fn of(node: NodeId, standing: &StoppedState) -> Self {
        let violations = standing.state.validate().err().unwrap_or_default();
        Self {
            node,
            last: standing.last,
            voters: standing.voters.clone(),
            hash: standing.state.hash(),
            summary: standing.state.summary(),
            violations: violations.iter().map(ToString::to_string).collect(),
        }
    }

    fn exit(&self) -> Exit {
        if self.violations.is_empty() {
            Exit::Ok
        } else {
            Exit::Failed
        }
    }
}

/// The state after the snapshot and every entry of the log.
pub(super) fn standing(node: &StoppedNode, args: &NodeArgs) -> anyhow::Result<StoppedState> {
    let saved = node.snapshot()?.map(|snapshot| snapshot.saved);
    let Some(log) = node.log()? else {
        anyhow::bail!("{} holds no log: the node never voted", args.dir.display());
    };
    let entries = log.report.head.entries;
    Ok(inspect::state(saved.as_ref(), entries, |from, to, max| {
        log.entries(from, to, max)
    })?)
}

fn state(args: &NodeArgs) -> anyhow::Result<Exit> {
    let node = open(&args.dir)?;
    let standing = standing(&node, args)?;
    let answer = StateAnswer::of(node.node(), &standing);
    if args.json {
        json(&answer)?;
    } else {
        print_state(&answer);
    }
    Ok(answer.exit())
}

/// A state in a few lines.
fn print_state(answer: &StateAnswer) {
    print_standing(answer.last, &answer.voters, answer.hash, &answer.summary);
    for violation in &answer.violations {
        data(&format!("violated: {violation}"));
    }
}

pub(super) fn print_standing(
    last: Option<(Term, LogIndex)>,
    voters: &[NodeId],
    hash: BlobHash,
    summary: &StateSummary,
) {
    let last = last.map_or_else(
        || "before any entry".to_owned(),
        |(term, index)| format!("after entry {index} of term {term}"),
    );
    let voters: Vec<_> = voters.iter().map(ToString::to_string).collect();
    data(&format!("state {last}, hash {hash}"));
    data(&format!("voters there: {}", voters.join(", ")));
    let cluster = summary
        .cluster
        .map_or_else(|| "not founded".to_owned(), |cluster| cluster.to_string());
    data(&format!(
        "cluster {cluster} at level {}, cluster time {}",
        summary.level, summary.now
    ));
    let jobs = summary.jobs.iter().filter(|(_, count)| **count > 0);
    let jobs: Vec<_> = jobs
        .map(|(phase, count)| format!("{count} {phase}"))
        .collect();
    data(&format!(
        "jobs {}; nodes {}, sessions {}, locks {}, settings {}",
        if jobs.is_empty() {
            "none".to_owned()
        } else {
            jobs.join(", ")
        },
        summary.nodes,
        summary.sessions,
        summary.locks,
        summary.settings
    ));
}

#[derive(Debug, Serialize)]
struct SnapshotAnswer {
    path: PathBuf,
    file_bytes: u64,
    image_bytes: u64,
    image_hash: BlobHash,
    state: StateAnswer,
}

fn snapshot(args: &NodeArgs) -> anyhow::Result<Exit> {
    let node = open(&args.dir)?;
    let Some(found) = node.snapshot()? else {
        anyhow::bail!(
            "{} holds no snapshot: the node has not made one yet (`raft snapshot` makes one on a running node)",
            args.dir.display()
        );
    };
    let standing = inspect::snapshot(&found.saved)?;
    let answer = SnapshotAnswer {
        path: found.report.path,
        file_bytes: found.report.file_bytes,
        image_bytes: found.report.image_bytes,
        image_hash: found.report.image_hash,
        state: StateAnswer::of(node.node(), &standing),
    };
    if args.json {
        json(&answer)?;
    } else {
        data(&format!(
            "{}: {}, image {} with hash {}",
            answer.path.display(),
            megabytes(answer.file_bytes),
            megabytes(answer.image_bytes),
            answer.image_hash
        ));
        print_state(&answer.state);
    }
    Ok(answer.state.exit())
}

/// For people.
pub(super) fn megabytes(bytes: u64) -> String {
    format!("{:.2} MB", bytes as f64 / 1e6)
}
