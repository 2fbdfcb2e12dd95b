//! What the bytes of a stopped node's log and snapshot mean.

use std::sync::Arc;

use openraft::EntryPayload;
use riftmesh_base::{LogIndex, Millis, NodeId, Term, decode};
use riftmesh_statemachine::{Batch, State};
use riftmesh_storage::{LogHead, MemorySnapshots, SavedSnapshot, SnapshotSlot, StorageError};
use serde::{Deserialize, Serialize};

use crate::disk::Disk;
use crate::error::{OpenError, RecoverError};
use crate::machine::{Machine, Replica};
use crate::types::{Entry, LogId, Membership, Vote};

/// Bytes of entries read at once.
const READ_BYTES: usize = 8 << 20;

/// What a log says about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogSummary {
    /// The term of the last vote, and for whom it was.
    pub vote: Option<(Term, NodeId)>,
    /// The last entry known to be committed.
    pub committed: Option<LogIndex>,
    /// The last entry that was purged.
    pub purged: Option<LogIndex>,
    /// First and last entry held.
    pub entries: Option<(LogIndex, LogIndex)>,
}

/// One entry of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryView {
    /// Its place.
    pub index: LogIndex,
    /// The term it was written in.
    pub term: Term,
    /// The leader that wrote it.
    pub leader: NodeId,
    /// Its length in the log.
    pub bytes: usize,
    /// What it says.
    pub content: EntryContent,
}

/// What an entry says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EntryContent {
    /// Nothing: a leader's first entry.
    Blank,
    /// Who belongs to the group from here on.
    Members {
        /// Voters; of a change that is half done the old and the new ones.
        voters: Vec<Vec<NodeId>>,
        /// Members without a vote.
        learners: Vec<NodeId>,
    },
    /// Commands.
    Commands {
        /// Cluster time.
        now: Millis,
        /// In order, as sentences.
        commands: Vec<String>,
    },
}

/// Reads the head of a log.
///
/// # Errors
/// [`OpenError::Content`] when it makes no sense.
pub fn summary(head: &LogHead) -> Result<LogSummary, OpenError> {
    let wrong = |e: riftmesh_base::DecodeError| OpenError::Content(format!("log: {e}"));
    let vote = head.vote.as_deref().map(decode::<Vote>).transpose();
    let committed = head.committed.as_deref().map(decode::<LogId>).transpose();
    Ok(LogSummary {
        vote: vote
            .map_err(wrong)?
            .map(|vote| (Term(vote.leader_id.term), NodeId(vote.leader_id.node_id))),
        committed: committed.map_err(wrong)?.map(|id| LogIndex(id.index)),
        purged: head.purged.as_ref().map(|point| LogIndex(point.index)),
        entries: head
            .entries
            .map(|(first, last)| (LogIndex(first), LogIndex(last))),
    })
}

/// Reads an entry.
///
/// # Errors
/// [`OpenError::Content`] when it makes no sense, or was written by a later build.
pub fn entry(index: u64, bytes: &[u8]) -> Result<EntryView, OpenError> {
    let wrong = |e: &dyn std::fmt::Display| OpenError::Content(format!("log entry {index}: {e}"));
    let entry: Entry = decode(bytes).map_err(|e| wrong(&e))?;
    let content = match &entry.payload {
        EntryPayload::Blank => EntryContent::Blank,
        EntryPayload::Membership(members) => EntryContent::Members {
            voters: members
                .get_joint_config()
                .iter()
                .map(|voters| voters.iter().map(|node| NodeId(*node)).collect())
                .collect(),
            learners: members.learner_ids().map(NodeId).collect(),
        },
        EntryPayload::Normal(payload) => {
            let batch = Batch::from_bytes(&payload.0).map_err(|e| wrong(&e))?;
            EntryContent::Commands {
                now: batch.now,
                commands: batch.commands.iter().map(ToString::to_string).collect(),
            }
        }
    };
    Ok(EntryView {
        index: LogIndex(index),
        term: Term(entry.log_id.leader_id.term),
        leader: NodeId(entry.log_id.leader_id.node_id),
        bytes: bytes.len(),
        content,
    })
}

/// A state, where it stands, and who belonged to the group there.
#[derive(Clone)]
pub struct StoppedState {
    /// The state.
    pub state: State,
    /// The last entry in it, with its term; none for a node that never had one.
    pub last: Option<(Term, LogIndex)>,
    /// The voters there.
    pub voters: Vec<NodeId>,
}

/// The state that a snapshot holds.
///
/// # Errors
/// [`OpenError::Content`] when it cannot be read.
pub fn snapshot(saved: &SavedSnapshot) -> Result<StoppedState, OpenError> {
    Replica::of(saved).map(standing)
}

/// The state after a snapshot and every entry of the log behind it, committed or not. `read` gives entries as a log
/// engine does.
///
/// # Errors
/// [`RecoverError`].
pub fn state(
    saved: Option<&SavedSnapshot>,
    entries: Option<(u64, u64)>,
    read: impl Fn(u64, u64, usize) -> Result<Vec<(u64, Vec<u8>)>, StorageError>,
) -> Result<StoppedState, RecoverError> {
    replay(saved, entries, read).map(standing)
}

fn standing(replica: Replica) -> StoppedState {
    let last = |id: LogId| (Term(id.leader_id.term), LogIndex(id.index));
    StoppedState {
        state: replica.state,
        last: replica.last.map(last),
        voters: voters(&replica.membership),
    }
}

fn voters(membership: &Membership) -> Vec<NodeId> {
    membership.membership().voter_ids().map(NodeId).collect()
}

/// See [`state`].
pub(crate) fn replay(
    saved: Option<&SavedSnapshot>,
    entries: Option<(u64, u64)>,
    read: impl Fn(u64, u64, usize) -> Result<Vec<(u64, Vec<u8>)>, StorageError>,
) -> Result<Replica, RecoverError> {
    let slot = MemorySnapshots::default();
    if let Some(saved) = saved {
        slot.save(&saved.meta, &saved.image)?;
    }
    let machine = Machine::open(Arc::new(slot), Disk::Threads)?;
    let Some((first, last)) = entries else {
        return Ok(machine.replica());
    };
    let mut next = machine.replica().last.map_or(first, |id| id.index + 1);
    while next <= last {
        let entries = read(next, last + 1, READ_BYTES)?;
        if entries.first().map(|(index, _)| *index) != Some(next) {
            return Err(RecoverError::Gap { index: next });
        }
        for (index, bytes) in entries {
            let entry: Entry = decode(&bytes)
                .map_err(|e| OpenError::Content(format!("log entry {index}: {e}")))?;
            machine.replay(entry)?;
            next = index + 1;
        }
    }
    Ok(machine.replica())
}

#[cfg(test)]
mod tests {
    use riftmesh_base::{JobId, encode};
    use riftmesh_statemachine::{Body, Command};
    use riftmesh_storage::{LogEngine, LogOp, MemoryLog};

    use super::*;
    use crate::types::Payload;

    fn cancel(index: u64) -> Vec<u8> {
        let command = Command {
            origin: None,
            body: Body::Cancel { job: JobId(index) },
        };
        let batch = Batch::new(Millis(index), vec![command]);
        let payload = EntryPayload::Normal(Payload(batch.to_bytes().into()));
        encode(&Entry {
            log_id: LogId::new(Vote::new(3, 7).leader_id, index),
            payload,
        })
    }

    /// Entries read as sentences, and the state is the one after the last of them; a hole is named.
    #[test]
    fn a_log_is_read_and_replayed() {
        let log = MemoryLog::default();
        let ops: Vec<LogOp> = (1..5)
            .map(|index| LogOp::Append {
                index,
                bytes: cancel(index),
            })
            .collect();
        log.write(&ops).unwrap();
        let view = entry(2, &cancel(2)).unwrap();
        assert_eq!((view.term, view.leader), (Term(3), NodeId(7)));
        assert!(
            matches!(&view.content, EntryContent::Commands { commands, .. } if commands[0].contains("j2")),
            "{view:?}"
        );
        let entries = log.head().unwrap().entries;
        let standing = state(None, entries, |from, to, max| log.read(from, to, max)).unwrap();
        assert_eq!(standing.last, Some((Term(3), LogIndex(4))));
        assert_eq!(standing.state.applied(), LogIndex(4));
        let holed = state(None, entries, |from, to, max| {
            log.read(from.max(3), to, max)
        });
        assert_eq!(holed.err(), Some(RecoverError::Gap { index: 1 }));
        assert!(entry(2, &cancel(2)[1..]).is_err());
    }
}
