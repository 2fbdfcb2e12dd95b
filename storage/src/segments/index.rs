//! What the files hold: the log's head, and where each entry lies.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use crate::disk::DiskFile;
use crate::error::StorageError;
use crate::log::{LogHead, LogOp};

use super::sector::{self, PAYLOAD_BYTES, SECTOR_BYTES, Sector};

/// A file of the log.
#[derive(Debug, Clone)]
pub struct SegmentFile {
    /// Its name.
    pub path: PathBuf,
    /// Open for reading, and for writing too unless one only looks.
    pub file: Arc<dyn DiskFile>,
    /// The highest index that was ever appended to it.
    pub highest: Option<u64>,
}

/// Where a batch begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchPlace {
    /// Number of the file.
    pub segment: u64,
    /// Offset in the file.
    pub start: u64,
    /// Number of the batch.
    pub batch: u64,
}

/// Where an entry's bytes lie: in the payload of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntryPlace {
    /// The batch.
    pub batch: BatchPlace,
    /// Where the bytes begin in its payload.
    pub skip: usize,
    /// How many they are.
    pub len: usize,
}

/// Head, entries' places, and files, in step with each other.
#[derive(Debug, Clone, Default)]
pub struct Index {
    /// Vote, commit mark, purge point and range.
    pub head: LogHead,
    /// The entries held, by their index.
    pub entries: BTreeMap<u64, EntryPlace>,
    /// The files, by their number.
    pub segments: BTreeMap<u64, SegmentFile>,
}

impl Index {
    /// Takes note of an appended entry.
    ///
    /// # Errors
    /// As [`LogHead::apply`].
    pub fn append(&mut self, index: u64, place: EntryPlace) -> Result<(), StorageError> {
        self.head.append(index, place.len)?;
        self.entries.insert(index, place);
        if let Some(segment) = self.segments.get_mut(&place.batch.segment) {
            segment.highest = segment.highest.max(Some(index));
        }
        Ok(())
    }

    /// Takes note of a change that is no append.
    ///
    /// # Errors
    /// As [`LogHead::apply`].
    pub fn change(&mut self, op: &LogOp) -> Result<(), StorageError> {
        self.head.apply(op)?;
        match op {
            LogOp::TruncateFrom(from) => drop(self.entries.split_off(from)),
            LogOp::Purge(point) => self.entries = self.entries.split_off(&(point.index + 1)),
            LogOp::Append { .. } | LogOp::Vote(_) | LogOp::Committed(_) => {}
        }
        Ok(())
    }

    /// The oldest file, if all it ever held was purged and it is not `current`, which is written to.
    pub fn purged_segment(&self, current: u64) -> Option<(u64, PathBuf)> {
        let purged = self.head.purged.as_ref().map(|point| point.index);
        let (number, segment) = self.segments.first_key_value()?;
        let done = segment.highest.is_none() || segment.highest <= purged;
        (*number < current && done).then(|| (*number, segment.path.clone()))
    }
}

/// The bytes of an entry, each of its sectors checked.
///
/// # Errors
/// [`StorageError::Damaged`] with file and offset, or [`StorageError::Io`].
pub fn read_entry(segment: &SegmentFile, place: &EntryPlace) -> Result<Vec<u8>, StorageError> {
    let (first, count, within) = sector::locate(place.skip, place.len);
    let start = place.batch.start + (first * SECTOR_BYTES) as u64;
    let mut sectors = vec![0; count * SECTOR_BYTES];
    segment
        .file
        .fill_at(&mut sectors, start)
        .map_err(|e| StorageError::io("read", &segment.path, &e))?;
    let mut region = Vec::with_capacity(count * PAYLOAD_BYTES);
    for (number, bytes) in sectors.chunks(SECTOR_BYTES).enumerate() {
        match sector::read(bytes) {
            Sector::Whole { batch, payload, .. } if batch == place.batch.batch => {
                region.extend_from_slice(payload);
            }
            other => {
                let offset = start + (number * SECTOR_BYTES) as u64;
                return Err(misfit(segment, offset, &other, place.batch.batch));
            }
        }
    }
    region
        .get(within..within + place.len)
        .map(<[u8]>::to_vec)
        .ok_or_else(|| {
            let reason = format!(
                "the batch at offset {} is shorter than it was",
                place.batch.start
            );
            StorageError::damaged(&segment.path, reason)
        })
}

/// A sector that is not what belongs at `offset`.
pub fn misfit(
    segment: &SegmentFile,
    offset: u64,
    found: &Sector<'_>,
    expected: u64,
) -> StorageError {
    let what = match found {
        Sector::Whole { batch, .. } => {
            format!("holds a part of batch {batch} instead of {expected}")
        }
        Sector::Missing => format!("is empty, and belongs to batch {expected}"),
        Sector::Damaged => "does not fit its checksum".to_owned(),
    };
    StorageError::damaged(
        &segment.path,
        format!("the sector at offset {offset} {what}"),
    )
}
