//! sled's directory: opening it after a crash, its size, and putting a fresh one in its place.

use std::fs::{self, File, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::disk::{DiskFile, FileSystem as _, HostDisk};
use crate::durable;
use crate::error::StorageError;
use crate::segments;

/// sled's segment.
const SEGMENT_BYTES: usize = 2 << 20;
/// sled's page cache.
const CACHE_BYTES: u64 = 64 << 20;
/// How long another holder of the directory is waited for.
const LOCK_WAIT: Duration = Duration::from_secs(5);
/// Time between two attempts to lock the directory.
const LOCK_RETRY: Duration = Duration::from_millis(20);

/// sled with our own handle to its file, the one that is synced.
#[derive(Debug)]
pub struct OpenSled {
    /// The store.
    pub tree: sled::Db,
    file: File,
    path: PathBuf,
    watermark: Watermark,
}

/// How many writes were durable, told outside of sled: sled takes damage in its log for the end of it and forgets
/// what comes behind, and would be believed. Written after each sync of a write and never synced itself, so it may be
/// late after a power cut, by what the system had not written back yet, and is never ahead.
#[derive(Debug)]
struct Watermark {
    path: PathBuf,
    file: Arc<dyn DiskFile>,
}

impl Watermark {
    fn open(directory: &Path) -> Result<Self, StorageError> {
        let path = directory.join("watermark");
        let opened = match HostDisk.open(&path, false) {
            Err(e) if e.kind() == ErrorKind::NotFound => HostDisk.create(&path),
            opened => opened,
        };
        let file = opened.map_err(|e| StorageError::io("open", &path, &e))?;
        Ok(Self { path, file })
    }

    fn write(&self, writes: u64) -> Result<(), StorageError> {
        let mut bytes = [0; 12];
        bytes[..8].copy_from_slice(&writes.to_le_bytes());
        bytes[8..].copy_from_slice(&crc32fast::hash(&writes.to_le_bytes()).to_le_bytes());
        self.file
            .write_all_at(&bytes, 0)
            .map_err(|e| StorageError::io("write", &self.path, &e))
    }

    /// Zero when it was never written, or a power cut came before it reached the disk.
    fn read(&self) -> Result<u64, StorageError> {
        let mut bytes = [0; 12];
        self.file
            .fill_at(&mut bytes, 0)
            .map_err(|e| StorageError::io("read", &self.path, &e))?;
        let [w @ .., c0, c1, c2, c3] = bytes;
        if bytes == [0; 12] || crc32fast::hash(&w) == u32::from_le_bytes([c0, c1, c2, c3]) {
            return Ok(u64::from_le_bytes(w));
        }
        Err(StorageError::damaged(
            &self.path,
            "it does not fit its checksum",
        ))
    }
}

impl OpenSled {
    /// Opens `path`, creating it if needed.
    pub fn open(path: &Path) -> Result<Self, StorageError> {
        durable::create_directory(&HostDisk, path)?;
        if segments::is_here(path) {
            return Err(StorageError::Foreign {
                path: path.to_owned(),
                reason: "it holds a segmented log; this build uses sled here".to_owned(),
            });
        }
        remove_partial_snapshots(path)?;
        let tree = open_tree(path)?;
        let db = path.join("db");
        let file = File::open(&db).map_err(|e| StorageError::io("open", &db, &e))?;
        let watermark = Watermark::open(path)?;
        durable::sync_directory(&HostDisk, path)?;
        Ok(Self {
            tree,
            file,
            path: path.to_owned(),
            watermark,
        })
    }

    /// Takes note that so many writes are durable.
    pub fn note(&self, writes: u64) -> Result<(), StorageError> {
        self.watermark.write(writes)
    }

    /// Checks that sled still has the last of the writes that were durable, where it found `writes`.
    pub fn check(&self, writes: u64) -> Result<(), StorageError> {
        let durable = self.watermark.read()?;
        if writes >= durable {
            return Ok(());
        }
        let reason = format!(
            "sled finds {writes} of the {durable} writes that were acknowledged; what was behind the damage is lost. \
             Remove this node from the cluster and let it join again with an empty directory"
        );
        Err(StorageError::damaged(&self.path.join("db"), reason))
    }

    /// Makes everything written durable.
    pub fn sync(&self) -> Result<(), StorageError> {
        self.tree
            .flush()
            .map_err(|e| engine_error("flush", &self.path, &e))?;
        self.file
            .sync_data()
            .map_err(|e| StorageError::io("sync", &self.path.join("db"), &e))
    }

    /// Closes the store and waits until sled's background threads have let go of it, so that the directory can be
    /// renamed: they write to its path.
    pub fn close(self) -> Result<(), StorageError> {
        let Self {
            tree, file, path, ..
        } = self;
        drop(tree);
        let begin = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(()),
                Err(TryLockError::WouldBlock) if begin.elapsed() < LOCK_WAIT => {
                    std::thread::park_timeout(LOCK_RETRY);
                }
                Err(TryLockError::WouldBlock) => return Err(StorageError::InUse { path }),
                Err(TryLockError::Error(e)) => return Err(StorageError::io("lock", &path, &e)),
            }
        }
    }
}

/// sled on `path`. The lock of a store that was dropped a moment ago can outlive it: in the disk thread that drops the last
/// handle, or in a child process between its fork and its exec, which has a copy of every open file.
fn open_tree(path: &Path) -> Result<sled::Db, StorageError> {
    let begin = Instant::now();
    loop {
        let opened = sled::Config::new()
            .path(path)
            .mode(sled::Mode::LowSpace)
            .segment_size(SEGMENT_BYTES)
            .cache_capacity(CACHE_BYTES)
            .flush_every_ms(None)
            .open();
        match opened {
            Ok(tree) => return Ok(tree),
            // sled has no kind of its own for this.
            Err(error)
                if error.to_string().contains("could not acquire lock")
                    && begin.elapsed() < LOCK_WAIT =>
            {
                std::thread::park_timeout(LOCK_RETRY);
            }
            Err(error) => return Err(engine_error("open", path, &error)),
        }
    }
}

/// A crash while sled writes a snapshot of its page table leaves a partial file behind, on which its next open
/// fails. The log itself is whole: sled rebuilds the page table from it.
fn remove_partial_snapshots(path: &Path) -> Result<(), StorageError> {
    let list = fs::read_dir(path).map_err(|e| StorageError::io("list", path, &e))?;
    for entry in list {
        let file = entry
            .map_err(|e| StorageError::io("list", path, &e))?
            .path();
        let name = file.file_name().and_then(|name| name.to_str());
        if name.is_some_and(|name| name.starts_with("snap.") && name.ends_with(".generating")) {
            tracing::warn!(file = %file.display(), "removing a partial page-table snapshot left by a crash");
            durable::remove_if_present(&HostDisk, &file)?;
        }
    }
    Ok(())
}

/// Where the log that belongs at `path` rests, if there is one: beside it, after a crash between a rewrite's renames.
pub fn resting_place(path: &Path) -> Option<PathBuf> {
    [path.to_owned(), path.with_extension("old")]
        .into_iter()
        .find(|place| place.exists())
}

/// Completes or undoes a rewrite that a crash interrupted: see [`put_in_place`].
pub fn finish_rewrite(path: &Path) -> Result<(), StorageError> {
    let (fresh, old) = (path.with_extension("fresh"), path.with_extension("old"));
    if !path.exists() && old.exists() {
        durable::rename(&HostDisk, &old, path)?;
    }
    for leftover in [fresh, old] {
        if leftover.exists() {
            fs::remove_dir_all(&leftover).map_err(|e| StorageError::io("remove", &leftover, &e))?;
        }
    }
    Ok(())
}

/// Puts the directory `fresh` in the place of `path`. A crash in between leaves `path` beside its name, where
/// [`finish_rewrite`] finds it.
pub fn put_in_place(fresh: &Path, path: &Path) -> Result<(), StorageError> {
    let old = path.with_extension("old");
    durable::rename(&HostDisk, path, &old)?;
    durable::rename(&HostDisk, fresh, path)?;
    fs::remove_dir_all(&old).map_err(|e| StorageError::io("remove", &old, &e))
}

/// Bytes of the files below `path`, as allocated on disk.
pub fn size_on_disk(path: &Path) -> Result<u64, StorageError> {
    use std::os::unix::fs::MetadataExt as _;
    let list = fs::read_dir(path).map_err(|e| StorageError::io("list", path, &e))?;
    let mut sum = 0;
    for entry in list {
        let entry = entry.map_err(|e| StorageError::io("list", path, &e))?;
        let data = match entry.metadata() {
            Ok(data) => data,
            // sled tidies up in the background.
            Err(e) if e.kind() == ErrorKind::NotFound => continue,
            Err(e) => return Err(StorageError::io("inspect", &entry.path(), &e)),
        };
        sum += if data.is_dir() {
            size_on_disk(&entry.path())?
        } else {
            data.blocks() * 512
        };
    }
    Ok(sum)
}

/// What sled says, in our words.
pub fn engine_error(doing: &'static str, path: &Path, error: &sled::Error) -> StorageError {
    match error {
        sled::Error::Io(io) if io.kind() == ErrorKind::WouldBlock => StorageError::InUse {
            path: path.to_owned(),
        },
        sled::Error::Io(io) => StorageError::io(doing, path, io),
        sled::Error::Corruption { .. } => StorageError::damaged(path, error),
        _ => StorageError::Io {
            doing,
            path: path.to_owned(),
            reason: error.to_string(),
        },
    }
}
