//! `inspect archive`: whether the jobs that left a voter's state are on its disk, every one of them.

use std::path::PathBuf;

use riftmesh_base::limits::SNAPSHOT_BYTES_MAX;
use riftmesh_base::{BlobHash, NodeId};
use riftmesh_statemachine::State;
use riftmesh_statemachine::archive::{ArchiveLink, walk};
use riftmesh_storage::inspect::StoppedNode;
use serde::Serialize;

use super::Exit;
use super::inspect::{NodeArgs, megabytes, open, standing};
use super::output::{data, json};

/// A look down the chain of an archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct ArchiveReport {
    node: NodeId,
    /// The last batch that the state knows.
    head: Option<ArchiveLink>,
    /// Jobs that have left the state's ring and are in batches, as the state counts them.
    jobs: u64,
    #[serde(flatten)]
    found: ArchiveCheck,
}

/// What the files say.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
struct ArchiveCheck {
    /// Batches that are what the chain says, from the last one down.
    whole_batches: u64,
    /// Jobs in them.
    whole_jobs: u64,
    /// Their bytes.
    whole_bytes: u64,
    /// Of these batches, those that only the state has yet.
    in_state_alone: u64,
    broken: Option<BrokenBatch>,
}

/// Where the chain breaks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct BrokenBatch {
    batch: ArchiveLink,
    file: PathBuf,
    problem: String,
    /// What to do.
    advice: &'static str,
}

const ADVICE_MISSING: &str = "start this voter: it fetches the batch from another one. If none has it, copy the file from \
                              a backup to where it should be; without it the jobs in it, and the proof of all before, \
                              are lost";
const ADVICE_DAMAGED: &str = "move the file away and start this voter: it fetches the batch from another one. If none \
                              has it, copy the file from a backup";

/// Runs `inspect archive`.
pub fn run(args: &NodeArgs) -> anyhow::Result<Exit> {
    let node = open(&args.dir)?;
    let state = standing(&node, args)?.state;
    let file = |hash: &BlobHash| node.blob_path(hash);
    let report = ArchiveReport {
        node: node.node(),
        head: state.archive_head(),
        jobs: state.archived_jobs(),
        found: check(&state, |hash| read(&node, hash), file),
    };
    if args.json {
        json(&report)?;
    } else {
        lines(&report).iter().for_each(|line| data(line));
    }
    Ok(Exit::of(report.found.broken.is_none()))
}

fn read(node: &StoppedNode, hash: &BlobHash) -> Result<Option<Vec<u8>>, String> {
    // A batch was in an image once, so it is no longer than one.
    node.blob(hash, SNAPSHOT_BYTES_MAX as u64)
        .map_err(|error| error.to_string())
}

/// Follows the chain from the state's last batch to the first; `read` gives the bytes of a file, if it is there.
fn check(
    state: &State,
    read: impl Fn(&BlobHash) -> Result<Option<Vec<u8>>, String>,
    file: impl Fn(&BlobHash) -> PathBuf,
) -> ArchiveCheck {
    let mut found = ArchiveCheck::default();
    let mut at = state.archive_head();
    while let Some(link) = at {
        let (mut bytes, mut alone) = (0, false);
        let walked = walk(Some(link), 1, |hash| {
            let here = read(hash)?;
            alone = here.is_none();
            let whole = here.or_else(|| in_state(state, hash));
            let whole = whole.ok_or_else(|| "the file is missing".to_owned())?;
            bytes = whole.len() as u64;
            Ok(whole)
        });
        if let Some((batch, problem)) = walked.broken {
            found.broken = Some(BrokenBatch {
                batch,
                file: file(&batch.hash),
                problem,
                advice: if alone {
                    ADVICE_MISSING
                } else {
                    ADVICE_DAMAGED
                },
            });
            return found;
        }
        found.whole_batches += 1;
        found.whole_jobs += walked
            .batches
            .iter()
            .map(|batch| batch.jobs.len() as u64)
            .sum::<u64>();
        found.whole_bytes += bytes;
        found.in_state_alone += u64::from(alone);
        at = walked.next;
    }
    found
}

fn in_state(state: &State, hash: &BlobHash) -> Option<Vec<u8>> {
    let mut outbox = state.archive_outbox();
    let kept = outbox.find(|(link, ..)| link.hash == *hash);
    kept.map(|(_, bytes, _)| bytes.to_vec())
}

fn lines(report: &ArchiveReport) -> Vec<String> {
    let Some(head) = report.head else {
        return vec!["no job has left the state yet, so there is no archive".to_owned()];
    };
    let found = &report.found;
    let mut lines = vec![
        format!(
            "the last of the archive is {head}, {} jobs in all",
            report.jobs
        ),
        format!(
            "{} batches with {} jobs are whole, {}; {} of them only the state has yet",
            found.whole_batches,
            found.whole_jobs,
            megabytes(found.whole_bytes),
            found.in_state_alone
        ),
    ];
    match &found.broken {
        None => lines.push("every link holds, down to the first".to_owned()),
        Some(broken) => {
            lines.push(format!("broken at {}: {}", broken.batch, broken.problem));
            lines.push(format!("  {}", broken.file.display()));
            lines.push(format!("  {}", broken.advice));
        }
    }
    lines
}

#[cfg(test)]
#[path = "inspect_archive_tests.rs"]
mod tests;
