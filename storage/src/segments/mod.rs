//! The log in plain files that are only ever appended to: the engine that shares nothing with sled but its duties.
//!
//! ```text
//! directory:  0000000000000001.segment, 0000000000000002.segment, ...     numbered without a gap
//! segment:    opening batch, batch, batch, ...      one batch per write, one sync per batch
//! ```
//!
//! - A write is one batch, all or nothing: `sector` says which parts of it are whole, `replay` what a crash left.
//! - The first batch of a file repeats vote, commit mark, purge point and range, so files are removed one by one from
//!   the oldest, each when everything that it ever held is purged. Every removal is synced before the next.
//! - At opening, the last batch is written and synced again: a process that ended because its sync failed may have left
//!   it in the page cache only, where it looks durable and is not.
//! - After an error nothing more is written; the process has to end.
//!
//! Whoever opens it for writing holds the data directory's lock.

mod index;
mod record;
mod replay;
mod sector;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::disk::{FileSystem, HostDisk};
use crate::durable;
use crate::error::StorageError;
use crate::log::{LogEngine, LogHead, LogOp};

use index::{BatchPlace, EntryPlace, Index, SegmentFile, read_entry};
use replay::{Found, LastBatch, replay};

/// A file longer than this is followed by a new one. Purging frees whole files.
const SEGMENT_BYTES: u64 = 16 << 20;
const SUFFIX: &str = ".segment";

/// A durable log in files in a directory of their own.
#[derive(Debug)]
pub struct SegmentLog {
    disk: Arc<dyn FileSystem>,
    directory: PathBuf,
    segment_bytes: u64,
    index: Mutex<Index>,
    writer: Mutex<Writer>,
}

/// Where the next batch goes.
#[derive(Debug)]
struct Writer {
    segment: u64,
    end: u64,
    batch: u64,
    /// Why nothing more is written.
    stopped: Option<String>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl SegmentLog {
    /// Opens the log in `directory`, creating it if needed. What a crash left of an unacknowledged write is removed.
    ///
    /// # Errors
    /// [`StorageError::Damaged`] with file and offset when anything that was acknowledged is missing or changed,
    /// [`StorageError::Foreign`] when other files are there, else [`StorageError::Io`].
    pub fn open(directory: &Path) -> Result<Self, StorageError> {
        Self::open_on(Arc::new(HostDisk), directory, SEGMENT_BYTES)
    }

    /// As [`Self::open`], on any file system, with files of about `segment_bytes`.
    pub(crate) fn open_on(
        disk: Arc<dyn FileSystem>,
        directory: &Path,
        segment_bytes: u64,
    ) -> Result<Self, StorageError> {
        durable::create_directory(&*disk, directory)?;
        let numbers = segment_numbers(&*disk, directory)?;
        let found = replay(&*disk, directory, &numbers, false)?;
        if let Some(number) = found.stillborn {
            let path = segment_path(directory, number);
            tracing::warn!(file = %path.display(), "removing a log file that a crash left unfinished");
            durable::remove_if_present(&*disk, &path)?;
        }
        // Also for the sake of a file whose creation was not synced any more.
        durable::sync_directory(&*disk, directory)?;
        let last = found.last;
        let log = Self::over(disk, directory, segment_bytes, found);
        match last {
            Some(last) => log.mend(&last)?,
            None => log.roll(&mut lock(&log.writer))?,
        }
        Ok(log)
    }

    /// The log in `directory` for looking only: nothing is changed, and writes are refused.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub(crate) fn look(directory: &Path) -> Result<Self, StorageError> {
        let disk = Arc::new(HostDisk);
        let numbers = segment_numbers(&*disk, directory)?;
        let found = replay(&*disk, directory, &numbers, true)?;
        let log = Self::over(disk, directory, SEGMENT_BYTES, found);
        lock(&log.writer).stopped = Some("it was opened for looking only".to_owned());
        Ok(log)
    }

    fn over(disk: Arc<dyn FileSystem>, directory: &Path, segment_bytes: u64, found: Found) -> Self {
        let last = found.last;
        Self {
            disk,
            directory: directory.to_owned(),
            segment_bytes,
            index: Mutex::new(found.index),
            writer: Mutex::new(Writer {
                segment: last.map_or(0, |last| last.place.segment),
                end: last.map_or(0, |last| last.end),
                batch: last.map_or(0, |last| last.place.batch + 1),
                stopped: None,
            }),
        }
    }

    /// Cuts off what a crash left behind the last batch, and makes sure of that batch.
    fn mend(&self, last: &LastBatch) -> Result<(), StorageError> {
        let segment = self.segment(last.place.segment)?;
        let path = &segment.path;
        let failed = |doing| move |e: io::Error| StorageError::io(doing, path, &e);
        if last.file_len > last.end {
            tracing::warn!(
                file = %segment.path.display(), offset = last.end, bytes = last.file_len - last.end,
                "cutting off a write that a crash interrupted"
            );
            segment.file.cut(last.end).map_err(failed("cut"))?;
        }
        // Bounded by the longest write of this process's predecessor, which held it in memory too.
        let mut batch = vec![0; (last.end - last.place.start) as usize];
        let read = segment
            .file
            .fill_at(&mut batch, last.place.start)
            .map_err(failed("read"))?;
        segment
            .file
            .write_all_at(&batch[..read], last.place.start)
            .map_err(failed("write"))?;
        segment.file.sync().map_err(failed("sync"))
    }

    fn segment(&self, number: u64) -> Result<SegmentFile, StorageError> {
        lock(&self.index)
            .segments
            .get(&number)
            .cloned()
            .ok_or_else(|| {
                let path = segment_path(&self.directory, number);
                StorageError::damaged(&path, "it is gone")
            })
    }

    /// Begins a new file.
    fn roll(&self, writer: &mut Writer) -> Result<(), StorageError> {
        let number = writer.segment + 1;
        let path = segment_path(&self.directory, number);
        let failed = |doing| {
            let path = &path;
            move |e: io::Error| StorageError::io(doing, path, &e)
        };
        let file = self.disk.create(&path).map_err(failed("create"))?;
        let opening = record::opening(number, &lock(&self.index).head);
        let sectors = sector::frame(writer.batch, &opening);
        file.write_all_at(&sectors, 0).map_err(failed("write"))?;
        file.sync().map_err(failed("sync"))?;
        durable::sync_directory(&*self.disk, &self.directory)?;
        let segment = SegmentFile {
            path,
            file,
            highest: None,
        };
        lock(&self.index).segments.insert(number, segment);
        writer.segment = number;
        writer.end = sectors.len() as u64;
        writer.batch += 1;
        Ok(())
    }

    fn commit(&self, writer: &mut Writer, ops: &[LogOp]) -> Result<(), StorageError> {
        if writer.end >= self.segment_bytes {
            self.roll(writer)?;
        }
        let (payload, skips) = record::payload(ops);
        let sectors = sector::frame(writer.batch, &payload);
        let segment = self.segment(writer.segment)?;
        segment
            .file
            .write_all_at(&sectors, writer.end)
            .map_err(|e| StorageError::io("write", &segment.path, &e))?;
        segment
            .file
            .sync()
            .map_err(|e| StorageError::io("sync", &segment.path, &e))?;
        let place = BatchPlace {
            segment: writer.segment,
            start: writer.end,
            batch: writer.batch,
        };
        self.note(ops, place, &skips)?;
        writer.end += sectors.len() as u64;
        writer.batch += 1;
        self.remove_purged(writer.segment)
    }

    /// Makes a written batch visible.
    fn note(&self, ops: &[LogOp], batch: BatchPlace, skips: &[usize]) -> Result<(), StorageError> {
        let mut index = lock(&self.index);
        let mut skips = skips.iter();
        for op in ops {
            match (op, skips.as_slice()) {
                (LogOp::Append { index: at, bytes }, [skip, ..]) => {
                    let place = EntryPlace {
                        batch,
                        skip: *skip,
                        len: bytes.len(),
                    };
                    index.append(*at, place)?;
                    skips.next();
                }
                _ => index.change(op)?,
            }
        }
        Ok(())
    }

    /// Removes the oldest file if it is done with: one at a time, so that no write waits long and no gap can arise.
    fn remove_purged(&self, current: u64) -> Result<(), StorageError> {
        let Some((number, path)) = lock(&self.index).purged_segment(current) else {
            return Ok(());
        };
        durable::remove_if_present(&*self.disk, &path)?;
        durable::sync_directory(&*self.disk, &self.directory)?;
        lock(&self.index).segments.remove(&number);
        Ok(())
    }
}

impl LogEngine for SegmentLog {
    fn head(&self) -> Result<LogHead, StorageError> {
        Ok(lock(&self.index).head.clone())
    }

    fn write(&self, ops: &[LogOp]) -> Result<(), StorageError> {
        let mut writer = lock(&self.writer);
        if let Some(reason) = &writer.stopped {
            return Err(StorageError::Stopped(reason.clone()));
        }
        let mut head = self.head()?;
        ops.iter().try_for_each(|op| head.apply(op))?;
        if ops.is_empty() {
            return Ok(());
        }
        let written = self.commit(&mut writer, ops);
        if let Err(error) = &written {
            writer.stopped = Some(error.to_string());
        }
        written
    }

    fn read(
        &self,
        from: u64,
        to: u64,
        bytes_max: usize,
    ) -> Result<Vec<(u64, Vec<u8>)>, StorageError> {
        let mut wanted = Vec::new();
        if from < to {
            let index = lock(&self.index);
            let mut bytes = 0;
            for (at, place) in index.entries.range(from..to) {
                if bytes > bytes_max {
                    break;
                }
                bytes += place.len;
                // Kept open by this handle should it be purged meanwhile.
                let segment = index.segments.get(&place.batch.segment).cloned();
                wanted.push((*at, *place, segment));
            }
        }
        let mut out = Vec::with_capacity(wanted.len());
        for (at, place, segment) in wanted {
            let gone = || StorageError::damaged(&self.directory, format!("entry {at} is gone"));
            out.push((at, read_entry(&segment.ok_or_else(gone)?, &place)?));
        }
        Ok(out)
    }
}

fn segment_path(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("{number:016}{SUFFIX}"))
}

/// The numbers of the files in `directory`, rising.
fn segment_numbers(disk: &dyn FileSystem, directory: &Path) -> Result<Vec<u64>, StorageError> {
    let names = disk
        .list(directory)
        .map_err(|e| StorageError::io("list", directory, &e))?;
    let mut numbers = Vec::with_capacity(names.len());
    for name in names {
        let number = name
            .strip_suffix(SUFFIX)
            .and_then(|number| number.parse::<u64>().ok());
        let number = number
            .filter(|number| *number > 0)
            .ok_or_else(|| StorageError::Foreign {
                path: directory.to_owned(),
                reason: format!(
                    "it holds `{name}`, which is no file of a segmented log; move that elsewhere"
                ),
            })?;
        numbers.push(number);
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Whether `directory` holds a log of this engine.
pub(crate) fn is_here(directory: &Path) -> bool {
    HostDisk
        .list(directory)
        .is_ok_and(|names| names.iter().any(|name| name.ends_with(SUFFIX)))
}
