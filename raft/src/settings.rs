//! What a node is started with.

use std::path::Path;
use std::sync::Arc;

use riftmesh_base::{Millis, NodeId};
use riftmesh_storage::{
    DiskSnapshots, LogEngine, LogKind, MemoryLog, MemorySnapshots, SegmentLog, SledLog,
    SnapshotSlot, StorageError, format,
};

use crate::disk::Disk;
use crate::epoch::Epoch;

/// The times and bounds of an election and of the log (DISTRIBUTED rule 14).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RaftTimings {
    /// Shortest silence of a leader after which a follower asks for votes.
    pub election_min: Millis,
    /// Longest.
    pub election_max: Millis,
    /// How often a leader speaks.
    pub heartbeat: Millis,
    /// A leader without a quorum falls silent and speaks again in phases of this length, so that a majority it
    /// cannot hear is free to elect another. At least twice `election_max`.
    pub quorum_loss_probe: Millis,
    /// A snapshot is made after this many entries.
    pub snapshot_every: u64,
    /// Entries kept behind the snapshot for followers that lag.
    pub entries_kept: u64,
    /// How long sending a snapshot may take.
    pub install_snapshot: Millis,
    /// How long a learner stays close behind before it gets a vote.
    pub learner_steady: Millis,
}

impl Default for RaftTimings {
    /// For hosts with time to spare: a dead leader is replaced in 0.2 to 0.8 s.
    fn default() -> Self {
        Self {
            election_min: Millis(200),
            election_max: Millis(400),
            heartbeat: Millis(66),
            quorum_loss_probe: Millis(800),
            snapshot_every: 5_000,
            entries_kept: 10_000,
            install_snapshot: Millis(10_000),
            learner_steady: Millis(10_000),
        }
    }
}

impl RaftTimings {
    /// For hosts whose cores are busy with something else.
    pub fn patient() -> Self {
        Self {
            election_min: Millis(300),
            election_max: Millis(600),
            heartbeat: Millis(100),
            quorum_loss_probe: Millis(1_200),
            ..Self::default()
        }
    }
}

/// Where the log and the snapshot live.
#[derive(Clone)]
pub struct RaftStore {
    /// The log.
    pub log: Arc<dyn LogEngine>,
    /// The snapshot.
    pub snapshots: Arc<dyn SnapshotSlot>,
    /// Where their work is done.
    pub disk: Disk,
    /// The epoch of the cluster it belongs to.
    pub epoch: Epoch,
}

impl RaftStore {
    /// On disk below `directory`, created if needed. The caller holds the directory's lock.
    ///
    /// # Errors
    /// [`StorageError`].
    pub fn on_disk(directory: &Path) -> Result<Self, StorageError> {
        Self::with_engine(directory, LogKind::Sled)
    }

    /// On disk, with the log in another engine; a directory that holds one of the other kind is refused.
    ///
    /// # Errors
    /// [`StorageError`].
    pub fn with_engine(directory: &Path, engine: LogKind) -> Result<Self, StorageError> {
        let log = directory.join(format::LOG);
        Ok(Self {
            log: match engine {
                LogKind::Sled => Arc::new(SledLog::open(&log)?),
                LogKind::Segments => Arc::new(SegmentLog::open(&log)?),
            },
            snapshots: Arc::new(DiskSnapshots::open(&directory.join(format::SNAPSHOTS))?),
            disk: Disk::Threads,
            epoch: Epoch::open(directory)?,
        })
    }

    /// In memory, for tests. Clones share the content, so a clone kept aside survives a node's restart.
    pub fn in_memory() -> Self {
        Self {
            log: Arc::new(MemoryLog::default()),
            snapshots: Arc::new(MemorySnapshots::default()),
            disk: Disk::Threads,
            epoch: Epoch::default(),
        }
    }
}

/// What a node is started with.
#[derive(Clone)]
pub struct RaftSettings {
    /// This node. Never reused: a wiped disk is a new node.
    pub node: NodeId,
    /// Its log and snapshot.
    pub store: RaftStore,
    /// Times and bounds; the same on every voter.
    pub timings: RaftTimings,
}
