//! The log on sled, made durable.
//!
//! What sled 0.34 needs from us, each measured or reproduced:
//! - its `flush` does not reach the disk on Linux (it calls `sync_file_range`), so after every flush we call
//!   `fdatasync` on a handle of our own to its `db` file; its background flusher is off;
//! - its default mode never gives space back; low-space mode does;
//! - values that make a tree page larger than a quarter segment go to side files that are never synced, so
//!   entries are cut into parts that keep pages inside the log file;
//! - a leftover `snap.*.generating` file makes it refuse to open, so those are removed first;
//! - it hardly shrinks, so a log far larger than its content is rewritten when it is opened.
//!
//! A log entry holds a batch of commands already: one entry is one value, as long as it fits one part.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::durable;
use crate::error::StorageError;
use crate::log::{LogEngine, LogHead, LogOp, PurgePoint};

/// Entries are stored in parts of this size: sixteen parts, a full tree page, stay below a quarter segment.
const PART_BYTES: usize = 16 << 10;
/// sled's segment.
const SEGMENT_BYTES: usize = 2 << 20;
/// sled's page cache.
const CACHE_BYTES: u64 = 64 << 20;
/// Keys of purged entries removed with each write, so that no write waits for a large purge.
const SWEEP_KEYS: usize = 256;
/// A log directory is rewritten when it is larger than this and than [`REWRITE_RATIO`] times its content.
const REWRITE_BYTES: u64 = 64 << 20;
/// See [`REWRITE_BYTES`].
const REWRITE_RATIO: u64 = 20;
/// Length and checksum in front of an entry's first part.
const HEADER_BYTES: usize = 8;

const VOTE: &[u8] = b"h/vote";
const COMMITTED: &[u8] = b"h/committed";
const PURGED: &[u8] = b"h/purged";

/// How long another holder of the directory is waited for.
const LOCK_WAIT: Duration = Duration::from_secs(5);
/// Time between two attempts to lock the directory.
const LOCK_RETRY: Duration = Duration::from_millis(20);

/// A durable log in a directory of its own.
#[derive(Debug)]
pub struct SledLog {
    path: PathBuf,
    tree: sled::Db,
    /// Our own handle to sled's file, the one that is synced.
    file: File,
    head: Mutex<LogHead>,
    /// Whether keys of purged entries may be left.
    garbage: AtomicBool,
    failed: AtomicBool,
}

impl SledLog {
    /// Opens the log in `path`, creating the directory if needed, and checks that its entries have no gap. Waits up to
    /// five seconds for a holder that is just leaving.
    ///
    /// # Errors
    /// [`StorageError::Damaged`] when the content contradicts itself, else [`StorageError::Io`].
    pub fn open(path: &Path) -> Result<Self, StorageError> {
        finish_rewrite(path)?;
        let log = Self::open_as_is(path)?;
        let live = log.live_bytes()?;
        if size_on_disk(path)? <= REWRITE_BYTES.max(REWRITE_RATIO.saturating_mul(live)) {
            return Ok(log);
        }
        log.rewrite()
    }

    pub(crate) fn open_as_is(path: &Path) -> Result<Self, StorageError> {
        durable::create_directory(path)?;
        remove_partial_snapshots(path)?;
        let tree = open_tree(path)?;
        let db = path.join("db");
        let file = File::open(&db).map_err(|e| StorageError::io("open", &db, &e))?;
        durable::sync_directory(path)?;
        let log = Self {
            head: Mutex::new(read_head(&tree, path)?),
            path: path.to_owned(),
            tree,
            file,
            garbage: AtomicBool::new(true),
            failed: AtomicBool::new(false),
        };
        Ok(log)
    }

    /// Bytes of the directory's files, as allocated on disk.
    ///
    /// # Errors
    /// [`StorageError::Io`].
    pub fn disk_bytes(&self) -> Result<u64, StorageError> {
        size_on_disk(&self.path)
    }

    fn live_bytes(&self) -> Result<u64, StorageError> {
        self.tree.iter().try_fold(0, |sum, item| {
            let (key, value) = item.map_err(|e| engine_error("read", &self.path, &e))?;
            Ok(sum + (key.len() + value.len()) as u64)
        })
    }

    /// Copies the content to a fresh directory and puts that in this one's place.
    fn rewrite(self) -> Result<Self, StorageError> {
        let path = self.path.clone();
        let (fresh, old) = (path.with_extension("fresh"), path.with_extension("old"));
        tracing::info!(path = %path.display(), "rewriting the log directory: it is far larger than its content");
        let copy = Self::open_as_is(&fresh)?;
        for item in self.tree.iter() {
            let (key, value) = item.map_err(|e| engine_error("read", &path, &e))?;
            copy.tree
                .insert(key, value)
                .map_err(|e| engine_error("write", &fresh, &e))?;
        }
        copy.sync()?;
        drop(copy);
        drop(self);
        durable::rename(&path, &old)?;
        durable::rename(&fresh, &path)?;
        fs::remove_dir_all(&old).map_err(|e| StorageError::io("remove", &old, &e))?;
        Self::open_as_is(&path)
    }

    fn sync(&self) -> Result<(), StorageError> {
        self.tree
            .flush()
            .map_err(|e| engine_error("flush", &self.path, &e))?;
        self.file
            .sync_data()
            .map_err(|e| StorageError::io("sync", &self.path.join("db"), &e))
    }

    fn head_mut(&self) -> MutexGuard<'_, LogHead> {
        self.head.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The keys to write (some) or remove (none) for `ops`.
    fn changes(&self, ops: &[LogOp]) -> Result<BTreeMap<Vec<u8>, Option<Vec<u8>>>, StorageError> {
        let mut changes = BTreeMap::new();
        for op in ops {
            match op {
                LogOp::Append { index, bytes } => {
                    changes.extend(parts(*index, bytes).map(|(key, value)| (key, Some(value))));
                }
                LogOp::TruncateFrom(from) => {
                    for key in self.keys(*from..u64::MAX, usize::MAX)? {
                        changes.insert(key, None);
                    }
                    let written = changes.range_mut(key(*from, 0)..key(u64::MAX, 0));
                    written.for_each(|(_, value)| *value = None);
                }
                LogOp::Purge(point) => {
                    self.garbage.store(true, Ordering::Relaxed);
                    let value = [&point.index.to_be_bytes()[..], &point.mark].concat();
                    changes.insert(PURGED.to_vec(), Some(value));
                }
                LogOp::Vote(bytes) => {
                    changes.insert(VOTE.to_vec(), Some(bytes.clone()));
                }
                LogOp::Committed(bytes) => {
                    changes.insert(COMMITTED.to_vec(), Some(bytes.clone()));
                }
            }
        }
        Ok(changes)
    }

    /// Adds the removal of some keys of purged entries.
    fn sweep(
        &self,
        purged: Option<u64>,
        changes: &mut BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    ) -> Result<(), StorageError> {
        let Some(purged) = purged.filter(|_| self.garbage.load(Ordering::Relaxed)) else {
            return Ok(());
        };
        let keys = self.keys(0..purged + 1, SWEEP_KEYS)?;
        self.garbage
            .store(keys.len() == SWEEP_KEYS, Ordering::Relaxed);
        changes.extend(keys.into_iter().map(|key| (key, None)));
        Ok(())
    }

    fn keys(&self, indexes: Range<u64>, max: usize) -> Result<Vec<Vec<u8>>, StorageError> {
        self.tree
            .range(key(indexes.start, 0)..key(indexes.end, 0))
            .keys()
            .take(max)
            .map(|key| {
                key.map(|key| key.to_vec())
                    .map_err(|e| engine_error("read", &self.path, &e))
            })
            .collect()
    }

    fn commit(&self, ops: &[LogOp], head: &LogHead) -> Result<(), StorageError> {
        let mut changes = self.changes(ops)?;
        self.sweep(head.purged.as_ref().map(|point| point.index), &mut changes)?;
        let mut batch = sled::Batch::default();
        for (key, value) in changes {
            match value {
                Some(value) => batch.insert(key, value),
                None => batch.remove(key),
            }
        }
        self.tree
            .apply_batch(batch)
            .map_err(|e| engine_error("write", &self.path, &e))?;
        self.sync()
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

impl LogEngine for SledLog {
    fn head(&self) -> Result<LogHead, StorageError> {
        Ok(self.head_mut().clone())
    }

    fn write(&self, ops: &[LogOp]) -> Result<(), StorageError> {
        if self.failed.load(Ordering::Relaxed) {
            return Err(StorageError::Stopped("an earlier write failed".to_owned()));
        }
        let mut head = self.head()?;
        // A purge that comes late must not move the stored point back.
        let mut taken = Vec::with_capacity(ops.len());
        for op in ops {
            let before = head.purged.as_ref().map(|point| point.index);
            head.apply(op)?;
            let late =
                matches!(op, LogOp::Purge(point) if before.is_some_and(|b| b >= point.index));
            if !late {
                taken.push(op.clone());
            }
        }
        self.commit(&taken, &head)
            .inspect_err(|_| self.failed.store(true, Ordering::Relaxed))?;
        *self.head_mut() = head;
        Ok(())
    }

    fn read(
        &self,
        from: u64,
        to: u64,
        bytes_max: usize,
    ) -> Result<Vec<(u64, Vec<u8>)>, StorageError> {
        let Some((first, last)) = self.head()?.entries else {
            return Ok(Vec::new());
        };
        let (from, to) = (from.max(first), to.min(last + 1));
        let mut out: Vec<(u64, Vec<u8>)> = Vec::new();
        if from >= to {
            return Ok(out);
        }
        let mut bytes = 0;
        for item in self.tree.range(key(from, 0)..key(to, 0)) {
            let (key, value) = item.map_err(|e| engine_error("read", &self.path, &e))?;
            let (index, part) = split_key(&key)
                .ok_or_else(|| StorageError::damaged(&self.path, "a key of unknown form"))?;
            match out.last_mut() {
                Some((open, entry)) if *open == index && part > 0 => {
                    entry.extend_from_slice(&value);
                }
                _ if bytes > bytes_max => break,
                _ => out.push((index, value.to_vec())),
            }
            bytes += value.len();
        }
        for (i, (index, entry)) in out.iter_mut().enumerate() {
            if *index != from + i as u64 {
                return Err(StorageError::damaged(
                    &self.path,
                    format!("entry {} is missing", from + i as u64),
                ));
            }
            unseal(entry)
                .map_err(|e| StorageError::damaged(&self.path, format!("entry {index} is {e}")))?;
        }
        Ok(out)
    }
}

fn key(index: u64, part: u16) -> Vec<u8> {
    let mut key = Vec::with_capacity(11);
    key.push(b'e');
    key.extend_from_slice(&index.to_be_bytes());
    key.extend_from_slice(&part.to_be_bytes());
    key
}

fn split_key(key: &[u8]) -> Option<(u64, u16)> {
    let (index, part) = key.strip_prefix(b"e")?.split_first_chunk::<8>()?;
    let part: [u8; 2] = part.try_into().ok()?;
    Some((u64::from_be_bytes(*index), u16::from_be_bytes(part)))
}

/// The keys and values of an entry: length and checksum, then its bytes, cut into parts.
fn parts(index: u64, bytes: &[u8]) -> impl Iterator<Item = (Vec<u8>, Vec<u8>)> {
    let mut sealed = Vec::with_capacity(HEADER_BYTES + bytes.len());
    sealed.extend_from_slice(&(bytes.len() as u64).to_be_bytes()[4..]);
    sealed.extend_from_slice(&crc32fast::hash(bytes).to_be_bytes());
    sealed.extend_from_slice(bytes);
    let values: Vec<Vec<u8>> = sealed.chunks(PART_BYTES).map(<[u8]>::to_vec).collect();
    (0..=u16::MAX)
        .zip(values)
        .map(move |(part, value)| (key(index, part), value))
}

/// Strips length and checksum from an entry put together from its parts, and checks them.
fn unseal(entry: &mut Vec<u8>) -> Result<(), &'static str> {
    let Some((header, body)) = entry.split_first_chunk::<HEADER_BYTES>() else {
        return Err("cut off");
    };
    let [a, b, c, d, e, f, g, h] = *header;
    if u32::from_be_bytes([a, b, c, d]) as usize != body.len() {
        return Err("cut off");
    }
    if u32::from_be_bytes([e, f, g, h]) != crc32fast::hash(body) {
        return Err("not what was written");
    }
    entry.drain(..HEADER_BYTES);
    Ok(())
}

fn read_head(tree: &sled::Db, path: &Path) -> Result<LogHead, StorageError> {
    let get = |key| {
        let value = tree.get(key).map_err(|e| engine_error("read", path, &e))?;
        Ok::<_, StorageError>(value.map(|value| value.to_vec()))
    };
    let purged = match get(PURGED)? {
        None => None,
        Some(value) => {
            let (index, mark) = value
                .split_first_chunk::<8>()
                .ok_or_else(|| StorageError::damaged(path, "the purge point is cut off"))?;
            Some(PurgePoint {
                index: u64::from_be_bytes(*index),
                mark: mark.to_vec(),
            })
        }
    };
    let start = purged.as_ref().map_or(0, |point| point.index + 1);
    Ok(LogHead {
        vote: get(VOTE)?,
        committed: get(COMMITTED)?,
        purged,
        entries: entry_range(tree, path, start)?,
    })
}

/// First and last index from `start` on; every entry in between must have its first part.
fn entry_range(
    tree: &sled::Db,
    path: &Path,
    start: u64,
) -> Result<Option<(u64, u64)>, StorageError> {
    let mut range: Option<(u64, u64)> = None;
    for key in tree.range(key(start, 0)..key(u64::MAX, 0)).keys() {
        let key = key.map_err(|e| engine_error("read", path, &e))?;
        let (index, part) =
            split_key(&key).ok_or_else(|| StorageError::damaged(path, "a key of unknown form"))?;
        range = match range {
            None if part == 0 => Some((index, index)),
            Some((first, last)) if index == last && part > 0 => Some((first, last)),
            Some((first, last)) if index == last + 1 && part == 0 => Some((first, index)),
            _ => {
                let reason = format!("the log has a gap before entry {index}, part {part}");
                return Err(StorageError::damaged(path, reason));
            }
        };
    }
    Ok(range)
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
            durable::remove_if_present(&file)?;
        }
    }
    Ok(())
}

/// Where the log that belongs at `path` rests, if there is one: beside it, after a crash between a rewrite's renames.
pub(crate) fn resting_place(path: &Path) -> Option<PathBuf> {
    [path.to_owned(), path.with_extension("old")]
        .into_iter()
        .find(|place| place.exists())
}

/// Completes or undoes a rewrite that a crash interrupted: see [`SledLog::rewrite`] for the order of its steps.
fn finish_rewrite(path: &Path) -> Result<(), StorageError> {
    let (fresh, old) = (path.with_extension("fresh"), path.with_extension("old"));
    if !path.exists() && old.exists() {
        durable::rename(&old, path)?;
    }
    for leftover in [fresh, old] {
        if leftover.exists() {
            fs::remove_dir_all(&leftover).map_err(|e| StorageError::io("remove", &leftover, &e))?;
        }
    }
    Ok(())
}

pub(crate) fn size_on_disk(path: &Path) -> Result<u64, StorageError> {
    use std::os::unix::fs::MetadataExt as _;
    let list = fs::read_dir(path).map_err(|e| StorageError::io("list", path, &e))?;
    let mut sum = 0;
    for entry in list {
        let entry = entry.map_err(|e| StorageError::io("list", path, &e))?;
        let data = entry
            .metadata()
            .map_err(|e| StorageError::io("inspect", &entry.path(), &e))?;
        sum += if data.is_dir() {
            size_on_disk(&entry.path())?
        } else {
            data.blocks() * 512
        };
    }
    Ok(sum)
}

fn engine_error(doing: &'static str, path: &Path, error: &sled::Error) -> StorageError {
    match error {
        sled::Error::Io(io) if io.kind() == std::io::ErrorKind::WouldBlock => StorageError::InUse {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn append(index: u64, bytes: Vec<u8>) -> LogOp {
        LogOp::Append { index, bytes }
    }

    /// The known way to make sled unopenable: a snapshot of its page table that a crash cut short.
    #[test]
    fn a_partial_page_table_snapshot_does_not_lock_us_out() {
        let dir = tempfile::tempdir().unwrap();
        let log = SledLog::open(dir.path()).unwrap();
        log.write(&[append(1, b"kept".to_vec())]).unwrap();
        drop(log);
        fs::write(dir.path().join("snap.FFFFFFFFFFFFFFFF.generating"), b"cut").unwrap();
        let log = SledLog::open(dir.path()).unwrap();
        assert_eq!(log.read(0, 9, 1 << 20).unwrap(), [(1, b"kept".to_vec())]);
    }

    /// sled never syncs its side files for large pages: no entry, however large, may end up there.
    #[test]
    fn large_entries_stay_in_the_synced_file() {
        let dir = tempfile::tempdir().unwrap();
        let log = SledLog::open(dir.path()).unwrap();
        for index in 1..20 {
            log.write(&[append(index, vec![index as u8; 300_000])])
                .unwrap();
        }
        drop(log);
        assert_eq!(fs::read_dir(dir.path().join("blobs")).unwrap().count(), 0);
        let log = SledLog::open(dir.path()).unwrap();
        let entries = log.read(1, 20, usize::MAX).unwrap();
        assert!(
            entries
                .iter()
                .all(|(i, bytes)| *bytes == vec![*i as u8; 300_000])
        );
    }

    /// A flipped byte under an entry's key is reported as damage with the entry's number, never served.
    #[test]
    fn a_damaged_entry_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let log = SledLog::open(dir.path()).unwrap();
        log.write(&[append(1, b"one".to_vec()), append(2, b"two".to_vec())])
            .unwrap();
        let mut value = log.tree.get(key(2, 0)).unwrap().unwrap().to_vec();
        *value.last_mut().unwrap() ^= 1;
        log.tree.insert(key(2, 0), value).unwrap();
        let error = log.read(1, 3, 1 << 20).unwrap_err().to_string();
        assert!(error.contains("entry 2"), "{error}");
    }

    /// A missing entry makes the log refuse to open.
    #[test]
    fn a_gap_is_refused_at_open() {
        let dir = tempfile::tempdir().unwrap();
        let log = SledLog::open(dir.path()).unwrap();
        let ops: Vec<LogOp> = (1..5).map(|i| append(i, vec![0; 9])).collect();
        log.write(&ops).unwrap();
        log.tree.remove(key(3, 0)).unwrap();
        log.sync().unwrap();
        drop(log);
        assert!(matches!(
            SledLog::open(dir.path()),
            Err(StorageError::Damaged { .. })
        ));
    }

    /// Rewriting keeps everything, and a crash between its two renames is repaired at the next open.
    #[test]
    fn a_rewrite_keeps_everything() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let log = SledLog::open(&path).unwrap();
        log.write(&[LogOp::Vote(b"v".to_vec()), append(1, b"one".to_vec())])
            .unwrap();
        let head = log.head().unwrap();
        let log = log.rewrite().unwrap();
        assert_eq!(log.head().unwrap(), head);
        drop(log);
        fs::rename(&path, path.with_extension("old")).unwrap();
        fs::create_dir(path.with_extension("fresh")).unwrap();
        let log = SledLog::open(&path).unwrap();
        assert_eq!(log.head().unwrap(), head);
        assert!(!path.with_extension("fresh").exists());
    }
}
