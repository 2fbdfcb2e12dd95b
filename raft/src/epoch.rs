//! The epoch of a cluster: raised when a lost quorum is given up, so that whoever was left behind is refused.
//!
//! The members that were given up still have a log with a quorum of their own in it. Should they come back, they would
//! elect a leader at a higher term, and the survivors would follow it and forget what they did meanwhile. So requests
//! carry the epoch, and only a node without any data may take up another one than its own.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use riftmesh_base::codec::{open, seal};
use riftmesh_base::{decode, encode};
use riftmesh_storage::disk::HostDisk;
use riftmesh_storage::{StorageError, durable};

const MAGIC: [u8; 4] = *b"RMep";
const VERSION: u16 = 1;

/// A node's epoch, durable where its log is; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Epoch(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// None in memory.
    file: Option<PathBuf>,
    epoch: Mutex<u64>,
}

impl Epoch {
    /// The epoch kept in `directory`; zero when none was written.
    ///
    /// # Errors
    /// [`StorageError::Damaged`] or [`StorageError::Io`].
    pub fn open(directory: &Path) -> Result<Self, StorageError> {
        let file = directory.join("epoch");
        let epoch = match std::fs::read(&file) {
            Ok(bytes) => read(&bytes).map_err(|e| StorageError::damaged(&file, e))?,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => 0,
            Err(e) => return Err(StorageError::io("read", &file, &e)),
        };
        Ok(Self(Arc::new(Shared {
            file: Some(file),
            epoch: Mutex::new(epoch),
        })))
    }

    fn epoch(&self) -> MutexGuard<'_, u64> {
        self.0.epoch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The epoch.
    pub fn get(&self) -> u64 {
        *self.epoch()
    }

    /// Raises the epoch, durable on return; a lower one changes nothing.
    ///
    /// # Errors
    /// [`StorageError::Io`]; the epoch is unchanged then.
    pub fn raise(&self, to: u64) -> Result<(), StorageError> {
        let mut epoch = self.epoch();
        if to <= *epoch {
            return Ok(());
        }
        if let Some(file) = &self.0.file {
            durable::replace_file(&HostDisk, file, &[&seal(MAGIC, VERSION, &encode(&to))])?;
        }
        *epoch = to;
        Ok(())
    }
}

fn read(bytes: &[u8]) -> Result<u64, riftmesh_base::DecodeError> {
    let (payload, _) = open(MAGIC, VERSION, bytes)?;
    decode(payload)
}

/// What to do with a request of epoch `theirs`, on a node of epoch `own`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Admission {
    /// Answer it.
    Answer,
    /// Take up their epoch, then answer it.
    TakeUp,
    /// Refuse it, for this reason.
    Refuse(String),
}

/// A node with data answers its own epoch only; one without any follows whoever adds it to a cluster.
pub(crate) fn admit(own: u64, theirs: u64, has_data: bool) -> Admission {
    if own == theirs {
        Admission::Answer
    } else if theirs < own {
        Admission::Refuse(format!(
            "the sender belongs to epoch {theirs} of this cluster, which was given up; this is epoch {own}: start the sender on an empty directory and add it again"
        ))
    } else if has_data {
        Admission::Refuse(format!(
            "this node belongs to epoch {own} of the cluster, which was given up for epoch {theirs}; start it on an empty directory and add it again"
        ))
    } else {
        Admission::TakeUp
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_only_rises_and_survives() {
        let dir = tempfile::tempdir().unwrap();
        let epoch = Epoch::open(dir.path()).unwrap();
        assert_eq!(epoch.get(), 0);
        epoch.raise(3).unwrap();
        epoch.raise(2).unwrap();
        assert_eq!(epoch.get(), 3);
        assert_eq!(Epoch::open(dir.path()).unwrap().get(), 3);
        let file = dir.path().join("epoch");
        let mut bytes = std::fs::read(&file).unwrap();
        bytes[10] ^= 1;
        std::fs::write(&file, bytes).unwrap();
        assert!(matches!(
            Epoch::open(dir.path()),
            Err(StorageError::Damaged { .. })
        ));
    }

    #[test]
    fn only_an_empty_node_takes_up_another_epoch() {
        assert_eq!(admit(2, 2, true), Admission::Answer);
        assert_eq!(admit(0, 2, false), Admission::TakeUp);
        assert!(matches!(admit(1, 2, true), Admission::Refuse(_)));
        assert!(matches!(admit(2, 1, true), Admission::Refuse(_)));
        assert!(matches!(admit(2, 1, false), Admission::Refuse(_)));
    }
}
