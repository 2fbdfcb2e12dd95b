//! The Raft log as bytes by index, with its vote, commit mark and purge point, behind one trait.

use serde::{Deserialize, Serialize};

use crate::error::StorageError;

/// Longest log entry. Larger than the largest command and small enough that a follower's message holds it.
pub const ENTRY_BYTES_MAX: usize = 6 << 20;

/// One change to the log. The changes of one [`LogEngine::write`] are applied in order and become durable together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogOp {
    /// Adds the entry at `index`, which continues the log: one behind the last entry, or, in a log without
    /// entries, anywhere behind the purge point.
    Append {
        /// Its position.
        index: u64,
        /// Its content, at most [`ENTRY_BYTES_MAX`].
        bytes: Vec<u8>,
    },
    /// Removes this entry and all behind it.
    TruncateFrom(u64),
    /// Removes all entries up to and including the purge point's index, which may lie behind the last entry.
    /// A point that is not higher than the present one changes nothing.
    Purge(PurgePoint),
    /// Replaces the vote.
    Vote(Vec<u8>),
    /// Replaces the commit mark.
    Committed(Vec<u8>),
}

/// Where a log begins: entries up to `index` are gone because a snapshot covers them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PurgePoint {
    /// The last index that was purged.
    pub index: u64,
    /// What the owner wants to know about that entry.
    pub mark: Vec<u8>,
}

/// What a log holds besides the entries' content.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogHead {
    /// The vote, if one was written.
    pub vote: Option<Vec<u8>>,
    /// The commit mark, if one was written.
    pub committed: Option<Vec<u8>>,
    /// The purge point, if something was purged.
    pub purged: Option<PurgePoint>,
    /// First and last index of the entries held, if any.
    pub entries: Option<(u64, u64)>,
}

impl LogHead {
    /// Applies `op` to the head; the entries' content is the engine's affair.
    ///
    /// # Errors
    /// [`StorageError::Misuse`] or [`StorageError::TooLarge`]; the head is unchanged then.
    pub fn apply(&mut self, op: &LogOp) -> Result<(), StorageError> {
        match op {
            LogOp::Append { index, bytes } => self.append(*index, bytes.len())?,
            LogOp::TruncateFrom(from) => {
                self.entries = self
                    .entries
                    .filter(|(first, _)| first < from)
                    .map(|(first, last)| (first, last.min(from - 1)));
            }
            LogOp::Purge(point) if self.purged.as_ref().is_none_or(|p| p.index < point.index) => {
                self.entries = self
                    .entries
                    .filter(|(_, last)| *last > point.index)
                    .map(|(first, last)| (first.max(point.index + 1), last));
                self.purged = Some(point.clone());
            }
            LogOp::Purge(_) => {}
            LogOp::Vote(bytes) => self.vote = Some(bytes.clone()),
            LogOp::Committed(bytes) => self.committed = Some(bytes.clone()),
        }
        Ok(())
    }

    /// Adds an entry of so many bytes.
    pub(crate) fn append(&mut self, index: u64, bytes: usize) -> Result<(), StorageError> {
        if bytes > ENTRY_BYTES_MAX {
            return Err(StorageError::TooLarge {
                what: "log entry",
                bytes: bytes as u64,
                max: ENTRY_BYTES_MAX as u64,
            });
        }
        let purged = self.purged.as_ref().map(|point| point.index);
        match self.entries {
            Some((first, last)) if index == last + 1 => self.entries = Some((first, index)),
            Some((_, last)) => {
                return Err(StorageError::Misuse(format!(
                    "entry {index} does not follow the last entry, {last}"
                )));
            }
            None if purged.is_none_or(|purged| index > purged) => {
                self.entries = Some((index, index));
            }
            None => {
                return Err(StorageError::Misuse(format!("entry {index} was purged")));
            }
        }
        Ok(())
    }
}

/// A durable log. Writes come from one thread; reads from any.
pub trait LogEngine: Send + Sync + 'static {
    /// Everything but the entries.
    ///
    /// # Errors
    /// [`StorageError::Damaged`] or [`StorageError::Io`].
    fn head(&self) -> Result<LogHead, StorageError>;

    /// Applies `ops` in order, all or none, durable on return.
    ///
    /// # Errors
    /// [`StorageError::Misuse`] and [`StorageError::TooLarge`] leave the log as it was. After any other error the
    /// engine refuses further writes with [`StorageError::Stopped`], and the process has to end.
    fn write(&self, ops: &[LogOp]) -> Result<(), StorageError>;

    /// Entries `from..to` that are held, in order, without a gap, beginning with the lowest held; stops early
    /// once `bytes_max` is passed, but gives at least one entry if there is one.
    ///
    /// # Errors
    /// [`StorageError::Damaged`] or [`StorageError::Io`].
    fn read(
        &self,
        from: u64,
        to: u64,
        bytes_max: usize,
    ) -> Result<Vec<(u64, Vec<u8>)>, StorageError>;
}
