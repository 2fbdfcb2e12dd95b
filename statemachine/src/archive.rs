//! What becomes of jobs that leave the ring: batches, each of which names the hash of the one before.
//!
//! A batch is the same bytes on every voter. It stays in the state until enough nodes have said that they have it; after
//! that the state keeps the hash of the last one, from which the whole chain can be checked.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};

use riftmesh_base::{BlobHash, ClusterId, DecodeError, Millis, NodeId, codec, decode, encode};
use serde::{Deserialize, Serialize};

use crate::bounds::{ARCHIVE_BATCH_BYTES, ARCHIVE_BATCH_JOBS, ARCHIVE_COPIES, ARCHIVE_OUTBOX_MAX};
use crate::effect::Effect;
use crate::job::JobRecord;
use crate::ledger::add_holder;
use crate::queue::weight;
use crate::roster::Role;
use crate::state::{State, Turn};

const MAGIC: [u8; 4] = *b"RMja";
/// Rises with the meaning or the bytes of a batch; older batches stay readable.
const VERSION: u16 = 1;

/// Jobs that are over for good, in the order in which they left the ring.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArchiveBatch {
    /// Counts the batches of a cluster from 1.
    pub number: u64,
    /// Hash of the batch before; none of the first.
    pub previous: Option<BlobHash>,
    /// Whose jobs these are.
    pub cluster: Option<ClusterId>,
    /// Cluster time at which it was closed.
    pub closed: Millis,
    /// The jobs.
    pub jobs: Vec<JobRecord>,
}

/// The next link to look at, from the newest batch to the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArchiveLink {
    /// Number of the batch.
    pub number: u64,
    /// Hash that it must have.
    pub hash: BlobHash,
}

/// Why a batch is not the link that the chain has there. The file is at fault, or belongs elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArchiveError {
    /// Other bytes.
    #[error(
        "batch {number} of the archive has the hash {found}, and the chain has {expected} there"
    )]
    Hash {
        /// Which.
        number: u64,
        /// Hash that it must have.
        expected: BlobHash,
        /// Hash of the bytes.
        found: BlobHash,
    },
    /// The right bytes, which this build cannot read.
    #[error("batch {number} of the archive cannot be read: {error}")]
    Decode {
        /// Which.
        number: u64,
        /// Why.
        error: DecodeError,
    },
    /// A batch of another number, or a first one that names a predecessor, or a later one that names none.
    #[error("batch {number} of the archive says that it is number {found} and follows {previous}")]
    Order {
        /// Which it must be.
        number: u64,
        /// Which it says it is.
        found: u64,
        /// What it says it follows.
        previous: String,
    },
}

impl ArchiveBatch {
    /// Its bytes, whose hash names it.
    pub fn to_bytes(&self) -> Vec<u8> {
        codec::seal(MAGIC, VERSION, &encode(self))
    }

    /// Reads the batch that `link` asks for.
    ///
    /// # Errors
    /// [`ArchiveError`]: the chain is broken here.
    pub fn from_bytes(link: &ArchiveLink, bytes: &[u8]) -> Result<Self, ArchiveError> {
        let ArchiveLink { number, hash } = *link;
        let found = BlobHash::of(bytes);
        if found != hash {
            return Err(ArchiveError::Hash {
                number,
                expected: hash,
                found,
            });
        }
        let unreadable = |error| ArchiveError::Decode { number, error };
        let (payload, rest) = codec::open(MAGIC, VERSION, bytes).map_err(unreadable)?;
        if !rest.is_empty() {
            return Err(unreadable(DecodeError::Trailing(rest.len())));
        }
        let batch: Self = decode(payload).map_err(unreadable)?;
        if batch.number != number || batch.previous.is_none() != (number == 1) {
            return Err(ArchiveError::Order {
                number,
                found: batch.number,
                previous: batch
                    .previous
                    .map_or("none".to_owned(), |hash| hash.short()),
            });
        }
        Ok(batch)
    }

    /// With what the bytes of every batch, and of nothing else that is stored by its hash, begin.
    pub const fn begins() -> &'static [u8] {
        &MAGIC
    }

    /// The link before this one; none behind the first.
    pub fn before(&self) -> Option<ArchiveLink> {
        Some(ArchiveLink {
            number: self.number.checked_sub(1)?,
            hash: self.previous?,
        })
    }
}

impl Display for ArchiveLink {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "batch {} ({})", self.number, self.hash.short())
    }
}

/// What the state keeps of the archive.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Archive {
    /// The last batch.
    head: Option<ArchiveLink>,
    /// Jobs in all batches.
    jobs: u64,
    /// Jobs that have left the ring since, oldest first.
    open: Vec<JobRecord>,
    /// Batches that too few nodes have said to have, by number.
    outbox: BTreeMap<u64, Outgoing>,
}

/// A batch that the state still has to keep.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Outgoing {
    pub hash: BlobHash,
    pub bytes: Vec<u8>,
    /// Nodes that have it.
    pub holders: Vec<NodeId>,
}

impl Archive {
    pub fn head(&self) -> Option<ArchiveLink> {
        self.head
    }

    pub fn jobs(&self) -> u64 {
        self.jobs
    }

    pub fn open(&self) -> &[JobRecord] {
        &self.open
    }

    pub fn outbox(&self) -> &BTreeMap<u64, Outgoing> {
        &self.outbox
    }

    /// Whether jobs may leave the ring. While they may not, the ring is longer than it should be and new jobs are refused.
    pub fn has_room(&self) -> bool {
        self.outbox.len() < ARCHIVE_OUTBOX_MAX
    }

    fn is_due(&self) -> bool {
        let bytes: u64 = self.open.iter().map(weight).sum();
        self.open.len() >= ARCHIVE_BATCH_JOBS || bytes >= ARCHIVE_BATCH_BYTES
    }

    /// Closes a batch with the open jobs.
    fn close(&mut self, cluster: Option<ClusterId>, now: Millis) -> ArchiveLink {
        let batch = ArchiveBatch {
            number: self.head.map_or(0, |head| head.number) + 1,
            previous: self.head.map(|head| head.hash),
            cluster,
            closed: now,
            jobs: std::mem::take(&mut self.open),
        };
        let bytes = batch.to_bytes();
        let link = ArchiveLink {
            number: batch.number,
            hash: BlobHash::of(&bytes),
        };
        self.head = Some(link);
        self.jobs += batch.jobs.len() as u64;
        let outgoing = Outgoing {
            hash: link.hash,
            bytes,
            holders: Vec::new(),
        };
        self.outbox.insert(link.number, outgoing);
        link
    }
}

impl State {
    /// Lets jobs leave the ring until it keeps to its bounds. From the level on that has an archive they go there; before
    /// that they were gone.
    pub(crate) fn trim_ring(&mut self, turn: &mut Turn) {
        while self.queue.is_ring_over(&self.head.bounds) {
            if self.has_archive() && !self.archive.has_room() {
                return;
            }
            let Some(record) = self.queue.forget_oldest() else {
                return;
            };
            self.holds.forget(record.id);
            if !self.has_archive() {
                continue;
            }
            self.archive.open.push(record);
            if self.archive.is_due() {
                let link = self.archive.close(self.head.cluster, turn.now);
                turn.tell(Effect::ArchiveClosed { link });
            }
        }
    }

    /// Notes that a node has a batch of the outbox; false if there is no such batch.
    pub(crate) fn add_archive_holder(
        &mut self,
        turn: &mut Turn,
        blob: BlobHash,
        node: NodeId,
    ) -> bool {
        let mut outbox = self.archive.outbox.values_mut();
        let Some(outgoing) = outbox.find(|known| known.hash == blob) else {
            return false;
        };
        add_holder(&mut outgoing.holders, node);
        self.settle_outbox(turn);
        true
    }

    /// A node is gone, and with it what it had.
    pub(crate) fn drop_archive_holder(&mut self, turn: &mut Turn, node: NodeId) {
        for outgoing in self.archive.outbox.values_mut() {
            outgoing.holders.retain(|holder| *holder != node);
        }
        self.settle_outbox(turn);
    }

    /// Lets go of batches that enough nodes have. The ring may have waited for the room.
    fn settle_outbox(&mut self, turn: &mut Turn) {
        let voters = self.nodes.roster.values();
        let voters = voters.filter(|entry| entry.record.role == Role::Voter);
        let enough = voters.count().clamp(1, ARCHIVE_COPIES);
        self.archive.outbox.retain(|number, outgoing| {
            let stored = outgoing.holders.len() >= enough;
            if stored {
                turn.tell(Effect::ArchiveStored {
                    link: ArchiveLink {
                        number: *number,
                        hash: outgoing.hash,
                    },
                });
            }
            !stored
        });
        self.trim_ring(turn);
    }
}

/// What a look at a part of the chain found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchiveWalk {
    /// The batches looked at that are what they must be, the newest first.
    pub batches: Vec<ArchiveBatch>,
    /// Where to go on; none behind the first batch, or where the chain is broken.
    pub next: Option<ArchiveLink>,
    /// The first link that is broken, and why.
    pub broken: Option<(ArchiveLink, String)>,
}

/// Follows the chain from `from`, at most `max` batches; `read` gives the bytes that are stored under a hash, or says why not.
/// Who begins at the state's last batch and goes on until there is no next has looked at every job that was ever archived.
pub fn walk(
    from: Option<ArchiveLink>,
    max: usize,
    mut read: impl FnMut(&BlobHash) -> Result<Vec<u8>, String>,
) -> ArchiveWalk {
    let mut walk = ArchiveWalk {
        batches: Vec::new(),
        next: from,
        broken: None,
    };
    while let Some(link) = walk.next
        && walk.batches.len() < max
    {
        let bytes = read(&link.hash);
        let batch = bytes.and_then(|bytes| {
            ArchiveBatch::from_bytes(&link, &bytes).map_err(|error| error.to_string())
        });
        match batch {
            Ok(batch) => {
                walk.next = batch.before();
                walk.batches.push(batch);
            }
            Err(problem) => {
                walk.next = None;
                walk.broken = Some((link, problem));
            }
        }
    }
    walk
}
