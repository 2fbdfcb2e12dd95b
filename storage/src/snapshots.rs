//! The place of the one current snapshot: a meta part and an image, each sealed with a checksum.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use riftmesh_base::codec::{open, seal};
use riftmesh_base::limits::SNAPSHOT_BYTES_MAX;

use crate::disk::{FileSystem, HostDisk};
use crate::durable;
use crate::error::StorageError;

const META_MAGIC: [u8; 4] = *b"RMsm";
const IMAGE_MAGIC: [u8; 4] = *b"RMsi";
const VERSION: u16 = 1;

/// A snapshot as it was saved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedSnapshot {
    /// What the owner wants to know about it.
    pub meta: Vec<u8>,
    /// The state's image.
    pub image: Vec<u8>,
}

/// Holds at most one snapshot.
pub trait SnapshotSlot: Send + Sync + 'static {
    /// Replaces the snapshot, durable on return: a crash leaves the old one or the new one.
    ///
    /// # Errors
    /// [`StorageError::TooLarge`] for an image over `SNAPSHOT_BYTES_MAX`: nothing happened. After
    /// [`StorageError::Io`] the old or the new snapshot is there, and nothing more is saved: every further call is
    /// answered with [`StorageError::Stopped`], and the process has to end.
    fn save(&self, meta: &[u8], image: &[u8]) -> Result<(), StorageError>;

    /// The snapshot, if one was saved.
    ///
    /// # Errors
    /// [`StorageError::Damaged`] when a checksum does not fit, else [`StorageError::Io`].
    fn load(&self) -> Result<Option<SavedSnapshot>, StorageError>;
}

fn check_size(image: &[u8]) -> Result<(), StorageError> {
    if image.len() <= SNAPSHOT_BYTES_MAX {
        return Ok(());
    }
    Err(StorageError::TooLarge {
        what: "snapshot",
        bytes: image.len() as u64,
        max: SNAPSHOT_BYTES_MAX as u64,
    })
}

/// A snapshot in a file.
#[derive(Debug)]
pub struct DiskSnapshots {
    disk: Arc<dyn FileSystem>,
    file: PathBuf,
    /// Why nothing more is saved. Held while the file is replaced.
    stopped: Mutex<Option<String>>,
}

impl DiskSnapshots {
    /// Uses the file `snapshot` in `directory`, creating the directory if needed. What an interrupted save left
    /// behind is removed.
    ///
    /// # Errors
    /// [`StorageError::Io`].
    pub fn open(directory: &Path) -> Result<Self, StorageError> {
        Self::open_on(Arc::new(HostDisk), directory)
    }

    /// As [`Self::open`], on any file system.
    pub(crate) fn open_on(
        disk: Arc<dyn FileSystem>,
        directory: &Path,
    ) -> Result<Self, StorageError> {
        durable::create_directory(&*disk, directory)?;
        let file = Self::file(directory);
        durable::remove_if_present(&*disk, &file.with_extension("tmp"))?;
        Ok(Self {
            disk,
            file,
            stopped: Mutex::new(None),
        })
    }

    fn stopped(&self) -> MutexGuard<'_, Option<String>> {
        self.stopped.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The snapshot's file in `directory`.
    pub(crate) fn file(directory: &Path) -> PathBuf {
        directory.join("snapshot")
    }

    /// The snapshot in `file`, if there is one.
    pub(crate) fn read(
        disk: &dyn FileSystem,
        file: &Path,
    ) -> Result<Option<SavedSnapshot>, StorageError> {
        let Some(bytes) = durable::read_file(disk, file)? else {
            return Ok(None);
        };
        let (meta, rest) = open(META_MAGIC, VERSION, &bytes)
            .map_err(|e| StorageError::damaged(file, format!("meta section: {e}")))?;
        let (image, rest) = open(IMAGE_MAGIC, VERSION, rest)
            .map_err(|e| StorageError::damaged(file, format!("image section: {e}")))?;
        if !rest.is_empty() {
            let reason = format!("{} bytes left over behind the image", rest.len());
            return Err(StorageError::damaged(file, reason));
        }
        Ok(Some(SavedSnapshot {
            meta: meta.to_vec(),
            image: image.to_vec(),
        }))
    }
}

impl SnapshotSlot for DiskSnapshots {
    fn save(&self, meta: &[u8], image: &[u8]) -> Result<(), StorageError> {
        check_size(image)?;
        let parts = [
            seal(META_MAGIC, VERSION, meta),
            seal(IMAGE_MAGIC, VERSION, image),
        ];
        let mut stopped = self.stopped();
        if let Some(reason) = &*stopped {
            return Err(StorageError::Stopped(reason.clone()));
        }
        durable::replace_file(&*self.disk, &self.file, &[&parts[0], &parts[1]])
            .inspect_err(|error| *stopped = Some(error.to_string()))
    }

    fn load(&self) -> Result<Option<SavedSnapshot>, StorageError> {
        Self::read(&*self.disk, &self.file)
    }
}

/// A snapshot in memory.
#[derive(Debug, Default)]
pub struct MemorySnapshots(Mutex<Option<SavedSnapshot>>);

impl SnapshotSlot for MemorySnapshots {
    fn save(&self, meta: &[u8], image: &[u8]) -> Result<(), StorageError> {
        check_size(image)?;
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(SavedSnapshot {
            meta: meta.to_vec(),
            image: image.to_vec(),
        });
        Ok(())
    }

    fn load(&self) -> Result<Option<SavedSnapshot>, StorageError> {
        Ok(self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// Both slots: empty at first, then the last one saved.
    fn keeps_the_last(slot: &dyn SnapshotSlot) {
        assert_eq!(slot.load().unwrap(), None);
        for image in [&b"one"[..], b"", b"three"] {
            slot.save(b"meta", image).unwrap();
            let saved = slot.load().unwrap().unwrap();
            assert_eq!((&saved.meta[..], &saved.image[..]), (&b"meta"[..], image));
        }
    }

    #[test]
    fn both_slots_keep_the_last() {
        let dir = tempfile::tempdir().unwrap();
        keeps_the_last(&MemorySnapshots::default());
        keeps_the_last(&DiskSnapshots::open(dir.path()).unwrap());
    }

    /// A save that a crash cut short leaves the old snapshot, and its remains are removed.
    #[test]
    fn an_interrupted_save_leaves_the_old_one() {
        let dir = tempfile::tempdir().unwrap();
        let slot = DiskSnapshots::open(dir.path()).unwrap();
        slot.save(b"m", b"old").unwrap();
        fs::write(dir.path().join("snapshot.tmp"), b"half of the n").unwrap();
        let slot = DiskSnapshots::open(dir.path()).unwrap();
        assert_eq!(slot.load().unwrap().unwrap().image, b"old");
        assert!(!dir.path().join("snapshot.tmp").exists());
    }

    /// Every flipped byte and every cut is noticed.
    #[test]
    fn damage_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let slot = DiskSnapshots::open(dir.path()).unwrap();
        slot.save(b"meta", b"image").unwrap();
        let file = dir.path().join("snapshot");
        let whole = fs::read(&file).unwrap();
        for i in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[i] ^= 0x10;
            fs::write(&file, &bytes).unwrap();
            assert!(
                matches!(slot.load(), Err(StorageError::Damaged { .. })),
                "byte {i}"
            );
            fs::write(&file, &whole[..i]).unwrap();
            assert!(
                matches!(slot.load(), Err(StorageError::Damaged { .. })),
                "cut at {i}"
            );
        }
    }
}
