//! What can go wrong, one enum per act. Each variant says whether something was done and whether to repeat it.

use riftmesh_base::Millis;
use riftmesh_storage::StorageError;

use crate::status::LeaderHint;

/// Why a node could not start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The disk, or what is on it.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The settings contradict each other. The caller is at fault.
    #[error("raft settings: {0}")]
    Settings(String),
    /// What is stored does not make sense, or was written by a later build.
    #[error("the stored log or snapshot cannot be used: {0}")]
    Content(String),
}

/// Why a directory could not be made the beginning of a new epoch. Nothing was lost.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecoverError {
    /// What is stored cannot be used.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// There is nothing to begin from.
    #[error("it holds no entries: there is nothing to begin from")]
    Empty,
    /// A restored snapshot must not be mixed with what is there.
    #[error("it holds a log already; restore into an empty directory")]
    NotEmpty,
    /// An entry between the snapshot and the end of the log is missing: the log is damaged.
    #[error("log entry {index} is missing between the snapshot and the end of the log")]
    Gap {
        /// Which.
        index: u64,
    },
}

impl From<StorageError> for RecoverError {
    fn from(error: StorageError) -> Self {
        Self::Open(error.into())
    }
}

/// Why a proposal was not carried out, or may have been.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// Surely not done. Ask the leader, if one is known and has a quorum.
    #[error("this node does not lead; {}", hint_text(.hint.as_ref()))]
    NotLeader {
        /// The leader, when its quorum is confirmed.
        hint: Option<LeaderHint>,
    },
    /// Surely not done: too much is waiting. Try again later.
    #[error("overloaded; try again in {retry_after}")]
    Overloaded {
        /// When.
        retry_after: Millis,
    },
    /// Surely not done, and never will be: the command is over its bound. The caller is at fault.
    #[error("a command of {bytes} bytes is over the bound of {max}")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The bound.
        max: usize,
    },
    /// Perhaps done: the deadline passed, or leadership was lost, after the command had entered the log. Repeat it
    /// with the same origin to learn the outcome.
    #[error("outcome unknown: {0}")]
    Unknown(String),
    /// Surely not done: this node is stopping or has died.
    #[error("consensus has stopped on this node: {0}")]
    Stopped(String),
}

/// Why a linearizable read is not possible now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// No leader is known here.
    #[error("no leader is known")]
    NoLeader,
    /// The leader could not confirm that it still leads a quorum.
    #[error("no quorum: {0}")]
    NoQuorum(String),
    /// It took longer than the caller wanted to wait.
    #[error("no confirmed index within {0}")]
    Late(Millis),
    /// Too many reads are waiting. Try again later.
    #[error("overloaded; try again in {retry_after}")]
    Overloaded {
        /// When.
        retry_after: Millis,
    },
    /// This node is stopping or has died.
    #[error("consensus has stopped on this node: {0}")]
    Stopped(String),
}

/// Why a change of the members, or of the leader, did not happen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MemberError {
    /// Only the leader changes members. Not done.
    #[error("this node does not lead; {}", hint_text(.hint.as_ref()))]
    NotLeader {
        /// The leader, when its quorum is confirmed.
        hint: Option<LeaderHint>,
    },
    /// Not done: it breaks a rule, or another change is under way.
    #[error("{0}")]
    Refused(String),
    /// Perhaps done; look at the members.
    #[error("outcome unknown: {0}")]
    Unknown(String),
    /// This node is stopping or has died.
    #[error("consensus has stopped on this node: {0}")]
    Stopped(String),
}

fn hint_text(hint: Option<&LeaderHint>) -> String {
    hint.map_or_else(
        || "no leader with a quorum is known".to_owned(),
        |hint| format!("ask {} at {}", hint.node, hint.address),
    )
}
