//! The log on sled, made durable.
//!
//! What sled 0.34 needs from us, each measured or reproduced:
//! - its `flush` does not reach the disk on Linux (it calls `sync_file_range`), so after every flush we call
//!   `fdatasync` on a handle of our own to its `db` file; its background flusher is off;
//! - its default mode never gives space back; low-space mode does;
//! - values that make a tree page larger than a quarter segment go to side files that are never synced, so
//!   entries are cut into parts that keep pages inside the log file;
//! - a leftover `snap.*.generating` file makes it refuse to open, so those are removed first;
//! - it takes damage in the middle of its log for the end and drops what follows without a word, so we count writes
//!   in the tree and beside it, and refuse to open when some are missing;
//! - it hardly shrinks, so a directory far larger than its content is rewritten, while the log is in use.
//!
//! A log entry holds a batch of commands already: one entry is one value, as long as it fits one part.

mod directory;
mod parts;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};

use crate::error::StorageError;
use crate::log::{LogEngine, LogHead, LogOp, PurgePoint};

use directory::{OpenSled, engine_error};
pub(crate) use directory::{resting_place, size_on_disk};
use parts::{key, parts, split_key, unseal};

/// Keys of purged entries removed with each write, so that no write waits for a large purge.
const SWEEP_KEYS: usize = 256;
/// A log directory is rewritten when it is larger than this and than [`REWRITE_RATIO`] times its content.
const REWRITE_BYTES: u64 = 64 << 20;
/// See [`REWRITE_BYTES`].
const REWRITE_RATIO: u64 = 20;
/// Writes between two looks at the directory's size.
const LOOK_EVERY: u64 = 256;

const VOTE: &[u8] = b"h/vote";
const COMMITTED: &[u8] = b"h/committed";
const PURGED: &[u8] = b"h/purged";
/// How many writes there were.
const WRITES: &[u8] = b"h/writes";

/// Values to write (some) and keys to remove (none).
type Changes = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// A durable log in a directory of its own.
#[derive(Debug)]
pub struct SledLog {
    path: PathBuf,
    /// None after a rewrite that failed half-way.
    sled: RwLock<Option<OpenSled>>,
    known: Mutex<Known>,
    /// Whether keys of purged entries may be left.
    garbage: AtomicBool,
    failed: AtomicBool,
    rewrite_bytes: u64,
}

/// What is known without asking sled.
#[derive(Debug, Default)]
struct Known {
    head: LogHead,
    /// Bytes of each entry held, as it is stored.
    sizes: BTreeMap<u64, u64>,
    writes: u64,
}

impl SledLog {
    /// Opens the log in `path`, creating the directory if needed, and checks that its entries have no gap. Waits up to
    /// five seconds for a holder that is just leaving. A directory far larger than its content is rewritten, here and
    /// whenever it has become so.
    ///
    /// # Errors
    /// [`StorageError::Damaged`] when the content contradicts itself, [`StorageError::Foreign`] when another engine's
    /// log is there, else [`StorageError::Io`].
    pub fn open(path: &Path) -> Result<Self, StorageError> {
        Self::open_bounded(path, REWRITE_BYTES)
    }

    /// As [`Self::open`], with another size from which on the directory is rewritten.
    pub(crate) fn open_bounded(path: &Path, rewrite_bytes: u64) -> Result<Self, StorageError> {
        directory::finish_rewrite(path)?;
        let mut log = Self::open_as_is(path)?;
        log.rewrite_bytes = rewrite_bytes;
        log.shrink()?;
        Ok(log)
    }

    /// Opens what is there without rewriting it.
    pub(crate) fn open_as_is(path: &Path) -> Result<Self, StorageError> {
        let sled = OpenSled::open(path)?;
        let known = read_known(&sled.tree, path)?;
        sled.check(known.writes)?;
        Ok(Self {
            known: Mutex::new(known),
            path: path.to_owned(),
            sled: RwLock::new(Some(sled)),
            garbage: AtomicBool::new(true),
            failed: AtomicBool::new(false),
            rewrite_bytes: REWRITE_BYTES,
        })
    }

    /// Bytes of the directory's files, as allocated on disk.
    ///
    /// # Errors
    /// [`StorageError::Io`].
    pub fn disk_bytes(&self) -> Result<u64, StorageError> {
        size_on_disk(&self.path)
    }

    /// Bytes of the entries held, as they are stored.
    pub fn live_bytes(&self) -> u64 {
        self.known().sizes.values().sum()
    }

    /// Rewrites the directory if it has outgrown its content.
    fn shrink(&self) -> Result<(), StorageError> {
        let bound = self
            .rewrite_bytes
            .max(REWRITE_RATIO.saturating_mul(self.live_bytes()));
        let bytes = self.disk_bytes()?;
        if bytes <= bound {
            return Ok(());
        }
        tracing::info!(path = %self.path.display(), bytes, "rewriting the log directory: it is far larger than its content");
        self.rewrite()
    }

    /// Copies the content to a fresh directory and puts that in this one's place. Readers wait.
    fn rewrite(&self) -> Result<(), StorageError> {
        let fresh = self.path.with_extension("fresh");
        if fresh.exists() {
            fs::remove_dir_all(&fresh).map_err(|e| StorageError::io("remove", &fresh, &e))?;
        }
        let mut sled = self.sled.write().unwrap_or_else(PoisonError::into_inner);
        let old = sled.take().ok_or_else(half_way)?;
        let copy = OpenSled::open(&fresh)?;
        let purged = self.head()?.purged.map(|point| point.index);
        for item in old.tree.iter() {
            let (key, value) = item.map_err(|e| engine_error("read", &self.path, &e))?;
            if split_key(&key).is_some_and(|(index, _)| Some(index) <= purged) {
                continue;
            }
            copy.tree
                .insert(key, value)
                .map_err(|e| engine_error("write", &fresh, &e))?;
        }
        copy.sync()?;
        copy.note(self.known().writes)?;
        copy.close()?;
        old.close()?;
        directory::put_in_place(&fresh, &self.path)?;
        *sled = Some(OpenSled::open(&self.path)?);
        Ok(())
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with_sled<T>(
        &self,
        act: impl FnOnce(&OpenSled) -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        let sled = self.sled.read().unwrap_or_else(PoisonError::into_inner);
        act(sled.as_ref().ok_or_else(half_way)?)
    }

    /// The keys to write (some) or remove (none) for `ops`.
    fn changes(&self, ops: &[LogOp]) -> Result<Changes, StorageError> {
        let mut changes = Changes::new();
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
    fn sweep(&self, purged: Option<u64>, changes: &mut Changes) -> Result<(), StorageError> {
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
        self.with_sled(|sled| {
            sled.tree
                .range(key(indexes.start, 0)..key(indexes.end, 0))
                .keys()
                .take(max)
                .map(|key| {
                    key.map(|key| key.to_vec())
                        .map_err(|e| engine_error("read", &self.path, &e))
                })
                .collect()
        })
    }

    fn commit(&self, ops: &[LogOp], head: &LogHead, writes: u64) -> Result<(), StorageError> {
        let mut changes = self.changes(ops)?;
        changes.insert(WRITES.to_vec(), Some(writes.to_be_bytes().to_vec()));
        self.sweep(head.purged.as_ref().map(|point| point.index), &mut changes)?;
        self.with_sled(|sled| {
            let applied = match is_whole_by_itself(ops) {
                true => apply_one_by_one(&sled.tree, changes),
                false => apply_together(&sled.tree, changes),
            };
            applied.map_err(|e| engine_error("write", &self.path, &e))?;
            sled.sync()?;
            sled.note(writes)
        })
    }

    /// The entries in `indexes` put together from their parts, not checked yet.
    fn read_parts(
        &self,
        sled: &OpenSled,
        indexes: Range<u64>,
        bytes_max: usize,
    ) -> Result<Vec<(u64, Vec<u8>)>, StorageError> {
        let mut out: Vec<(u64, Vec<u8>)> = Vec::new();
        let mut bytes = 0;
        for item in sled.tree.range(key(indexes.start, 0)..key(indexes.end, 0)) {
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
        Ok(out)
    }

    /// Writes, takes note of what was written, and now and then looks at the directory's size.
    fn write_and_note(&self, ops: &[LogOp], head: LogHead) -> Result<(), StorageError> {
        let writes = self.known().writes + 1;
        self.commit(ops, &head, writes)?;
        let mut known = self.known();
        known.head = head;
        known.writes = writes;
        for op in ops {
            match op {
                LogOp::Append { index, bytes } => {
                    known.sizes.insert(*index, parts::stored_bytes(bytes.len()));
                }
                LogOp::TruncateFrom(from) => drop(known.sizes.split_off(from)),
                LogOp::Purge(point) => known.sizes = known.sizes.split_off(&(point.index + 1)),
                LogOp::Vote(_) | LogOp::Committed(_) => {}
            }
        }
        drop(known);
        if writes.is_multiple_of(LOOK_EVERY) {
            self.shrink()?;
        }
        Ok(())
    }
}

/// Whether nothing can be torn: at most one entry, in one part. The commit mark and the count of writes may be late, and
/// sled keeps the order. A batch costs sled a write and a wait of its own, which an idle group would feel.
fn is_whole_by_itself(ops: &[LogOp]) -> bool {
    let mut entries = 0;
    ops.iter().all(|op| match op {
        LogOp::Append { bytes, .. } => {
            entries += 1;
            entries == 1 && parts::fits_one(bytes.len())
        }
        LogOp::Committed(_) => true,
        LogOp::TruncateFrom(_) | LogOp::Purge(_) | LogOp::Vote(_) => false,
    })
}

fn apply_one_by_one(tree: &sled::Db, changes: Changes) -> sled::Result<()> {
    for (key, value) in changes {
        match value {
            Some(value) => tree.insert(key, value)?,
            None => tree.remove(key)?,
        };
    }
    Ok(())
}

fn apply_together(tree: &sled::Db, changes: Changes) -> sled::Result<()> {
    let mut batch = sled::Batch::default();
    for (key, value) in changes {
        match value {
            Some(value) => batch.insert(key, value),
            None => batch.remove(key),
        }
    }
    tree.apply_batch(batch)
}

fn half_way() -> StorageError {
    StorageError::Stopped("rewriting its directory failed".to_owned())
}

impl LogEngine for SledLog {
    fn head(&self) -> Result<LogHead, StorageError> {
        Ok(self.known().head.clone())
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
        self.write_and_note(&taken, head)
            .inspect_err(|_| self.failed.store(true, Ordering::Relaxed))
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
        if from >= to {
            return Ok(Vec::new());
        }
        let mut out = self.with_sled(|sled| self.read_parts(sled, from..to, bytes_max))?;
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

fn read_known(tree: &sled::Db, path: &Path) -> Result<Known, StorageError> {
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
    let sizes = entry_sizes(tree, path, start)?;
    let ends = sizes.keys().next().zip(sizes.keys().next_back());
    let head = LogHead {
        vote: get(VOTE)?,
        committed: get(COMMITTED)?,
        purged,
        entries: ends.map(|(first, last)| (*first, *last)),
    };
    let writes = get(WRITES)?.map_or(Some(0), |value| {
        Some(u64::from_be_bytes(value.try_into().ok()?))
    });
    let writes =
        writes.ok_or_else(|| StorageError::damaged(path, "the number of writes is cut off"))?;
    Ok(Known {
        head,
        sizes,
        writes,
    })
}

/// Bytes of each entry from `start` on; there must be no gap, and every entry must have its first part.
fn entry_sizes(
    tree: &sled::Db,
    path: &Path,
    start: u64,
) -> Result<BTreeMap<u64, u64>, StorageError> {
    let mut sizes: BTreeMap<u64, u64> = BTreeMap::new();
    for item in tree.range(key(start, 0)..key(u64::MAX, 0)) {
        let (key, value) = item.map_err(|e| engine_error("read", path, &e))?;
        let (index, part) =
            split_key(&key).ok_or_else(|| StorageError::damaged(path, "a key of unknown form"))?;
        let last = sizes.keys().next_back().copied();
        let fits = match last {
            _ if part > 0 => last == Some(index),
            None => true,
            Some(last) => index == last + 1,
        };
        if !fits {
            let reason = format!("the log has a gap before entry {index}, part {part}");
            return Err(StorageError::damaged(path, reason));
        }
        *sizes.entry(index).or_default() += value.len() as u64;
    }
    Ok(sizes)
}
