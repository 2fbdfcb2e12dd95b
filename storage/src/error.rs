//! What can go wrong on a disk.

use std::io;
use std::path::{Path, PathBuf};

/// Why the disk did not do what was asked. After any of these from a write, what is on disk is either the old or
/// the new state, and the process must stop using the store: an error of a sync is never retried, because the
/// kernel may have dropped the pages that it failed to write.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StorageError {
    /// The operating system refused. The disk, its permissions or its free space are at fault.
    #[error("could not {doing} {}: {reason}", path.display())]
    Io {
        /// Such as `write`.
        doing: &'static str,
        /// Which file or directory.
        path: PathBuf,
        /// The operating system's words.
        reason: String,
    },
    /// What was read is not what was written. The disk is at fault, or someone edited the file.
    #[error("{} is damaged: {reason}", path.display())]
    Damaged {
        /// Which file or directory.
        path: PathBuf,
        /// What does not fit.
        reason: String,
    },
    /// The directory belongs to something else, to another node or to a newer riftmesh. Nothing was touched.
    #[error("{} cannot be used: {reason}", path.display())]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// What was found and what to do.
        reason: String,
    },
    /// Another process uses the directory. Nothing was touched.
    #[error("{} is in use by another riftmesh process; stop it, or use another data directory", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// The caller broke the log's order, such as an entry that leaves a gap. Nothing was written.
    #[error("the log cannot take this: {0}")]
    Misuse(String),
    /// Something is over its bound. Nothing was written.
    #[error("{what} of {bytes} bytes is over the bound of {max}")]
    TooLarge {
        /// Such as `blob`.
        what: &'static str,
        /// Its size, or the size at which reading stopped.
        bytes: u64,
        /// The bound.
        max: u64,
    },
    /// An earlier write failed, or the store was closed. Nothing was written.
    #[error("the store has stopped: {0}")]
    Stopped(String),
}

impl StorageError {
    /// An operating system error while `doing` something to `path`.
    pub fn io(doing: &'static str, path: &Path, error: &io::Error) -> Self {
        Self::Io {
            doing,
            path: path.to_owned(),
            reason: error.to_string(),
        }
    }

    /// Something read from `path` that does not fit.
    pub fn damaged(path: &Path, reason: impl ToString) -> Self {
        Self::Damaged {
            path: path.to_owned(),
            reason: reason.to_string(),
        }
    }
}
