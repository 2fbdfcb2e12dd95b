//! Reading the files back, without changing them: what they hold, and where a crash cut the last write short.
//!
//! A batch is written only after the batch before it was synced. So an incomplete batch was never acknowledged, and may
//! be dropped, exactly if nothing later than it is found behind it. In any other place it is damage, and the log is
//! not opened.

use std::path::Path;

use crate::disk::FileSystem;
use crate::error::StorageError;

use super::index::{BatchPlace, EntryPlace, Index, SegmentFile, misfit};
use super::record::{self, Record};
use super::sector::{self, SECTOR_BYTES, Sector};
use super::segment_path;

/// Bytes read at a time.
const READ_SECTORS: usize = 512;

/// What was found.
#[derive(Debug)]
pub struct Found {
    /// Everything complete.
    pub index: Index,
    /// The last batch; none in a log without files.
    pub last: Option<LastBatch>,
    /// A file in which not even the first batch is complete: a crash came while it was made.
    pub stillborn: Option<u64>,
}

/// The end of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastBatch {
    /// Where it begins.
    pub place: BatchPlace,
    /// Offset behind it.
    pub end: u64,
    /// Length of its file; what lies behind `end` is an incomplete batch.
    pub file_len: u64,
}

/// Reads the files with these numbers, in rising order.
///
/// # Errors
/// [`StorageError::Damaged`] with file and offset, or [`StorageError::Io`].
pub fn replay(
    disk: &dyn FileSystem,
    directory: &Path,
    numbers: &[u64],
    read_only: bool,
) -> Result<Found, StorageError> {
    let mut found = Found {
        index: Index::default(),
        last: None,
        stillborn: None,
    };
    for (at, number) in numbers.iter().enumerate() {
        let path = segment_path(directory, *number);
        if at > 0 && numbers[at - 1] + 1 != *number {
            return Err(StorageError::damaged(
                &path,
                "the file before it is missing",
            ));
        }
        let file = disk
            .open(&path, read_only)
            .map_err(|e| StorageError::io("open", &path, &e))?;
        let segment = SegmentFile {
            path,
            file,
            highest: None,
        };
        let only = numbers.len() == 1 && *number > 1;
        let is_last = at + 1 == numbers.len();
        found.read_segment(*number, &segment, is_last, only)?;
    }
    found.check_entries(directory)?;
    Ok(found)
}

impl Found {
    fn read_segment(
        &mut self,
        number: u64,
        segment: &SegmentFile,
        is_last: bool,
        only: bool,
    ) -> Result<(), StorageError> {
        let read = |e| StorageError::io("read", &segment.path, &e);
        let file_len = segment.file.length().map_err(read)?;
        let mut scan = Scan::new(segment, number, self.last.map(|last| last.place.batch + 1));
        let mut buffer = vec![0; READ_SECTORS * SECTOR_BYTES];
        let mut offset = 0;
        self.index.segments.insert(number, segment.clone());
        loop {
            let filled = segment.file.fill_at(&mut buffer, offset).map_err(read)?;
            for sector in buffer[..filled].chunks(SECTOR_BYTES) {
                if let Some((place, payload)) = scan.sector(offset, sector)? {
                    offset += SECTOR_BYTES as u64;
                    self.batch(segment, place, &payload)?;
                    self.last = Some(LastBatch {
                        place,
                        end: offset,
                        file_len,
                    });
                } else {
                    offset += sector.len() as u64;
                }
            }
            if filled < buffer.len() {
                break;
            }
        }
        let Some(torn) = scan.torn(offset) else {
            return Ok(());
        };
        if !is_last || (torn == 0 && only) {
            let reason =
                format!("the batch at offset {torn} is cut off where no crash can have done it");
            return Err(StorageError::damaged(&segment.path, reason));
        }
        if torn == 0 {
            self.index.segments.remove(&number);
            self.stillborn = Some(number);
        }
        Ok(())
    }

    /// Takes note of a complete batch.
    fn batch(
        &mut self,
        segment: &SegmentFile,
        place: BatchPlace,
        payload: &[u8],
    ) -> Result<(), StorageError> {
        let damaged = |reason: String| {
            let reason = format!("the batch at offset {}: {reason}", place.start);
            StorageError::damaged(&segment.path, reason)
        };
        if place.start == 0 {
            return self.opening(place, payload).map_err(damaged);
        }
        for record in record::read(payload).map_err(damaged)? {
            let taken = match record {
                Record::Entry { index, skip, len } => {
                    let place = EntryPlace {
                        batch: place,
                        skip,
                        len,
                    };
                    self.index.append(index, place)
                }
                Record::Other(op) => self.index.change(&op),
            };
            taken.map_err(|e| damaged(e.to_string()))?;
        }
        Ok(())
    }

    /// The first batch of a file repeats the head, so that the files before it can be removed.
    fn opening(&mut self, place: BatchPlace, payload: &[u8]) -> Result<(), record::Misfit> {
        let (number, head) = record::read_opening(payload)?;
        if number != place.segment {
            return Err(format!("it was written as file {number}"));
        }
        if self.last.is_some() && head != self.index.head {
            return Err("it does not continue the file before it".to_owned());
        }
        self.index.head = head;
        Ok(())
    }

    /// Files are removed only when all of their entries are purged.
    fn check_entries(&self, directory: &Path) -> Result<(), StorageError> {
        let Some((first, last)) = self.index.head.entries else {
            return Ok(());
        };
        let held = self.index.entries.keys().next().copied();
        if held == Some(first) && self.index.entries.len() as u64 == last - first + 1 {
            return Ok(());
        }
        let end = held.unwrap_or(last + 1);
        Err(StorageError::damaged(
            directory,
            format!(
                "entries {first} to {} were in a file that is gone",
                end.saturating_sub(1)
            ),
        ))
    }
}

/// Puts the sectors of one file together to batches.
struct Scan<'a> {
    segment: &'a SegmentFile,
    number: u64,
    /// Number of the batch that has to come next; unknown at the start of a log whose first files are gone.
    next: Option<u64>,
    /// The batch under way: where it begins, and its payload so far.
    open: Option<(u64, Vec<u8>)>,
    /// Where the incomplete batch begins, once a sector of it is missing.
    hole: Option<u64>,
}

impl<'a> Scan<'a> {
    fn new(segment: &'a SegmentFile, number: u64, next: Option<u64>) -> Self {
        Self {
            segment,
            number,
            // The very first batch has the number 0.
            next: next.or((number == 1).then_some(0)),
            open: None,
            hole: None,
        }
    }

    /// Looks at the sector at `offset`; gives the batch that it completes.
    fn sector(
        &mut self,
        offset: u64,
        bytes: &[u8],
    ) -> Result<Option<(BatchPlace, Vec<u8>)>, StorageError> {
        let sector = sector::read(bytes);
        let Sector::Whole {
            batch,
            first,
            last,
            payload,
        } = sector
        else {
            if sector == Sector::Damaged {
                return Err(self.misfit(offset, &sector));
            }
            let begin = self.open.as_ref().map_or(offset, |(start, _)| *start);
            self.hole.get_or_insert(begin);
            return Ok(None);
        };
        let next = *self.next.get_or_insert(batch);
        if let Some(hole) = self.hole {
            if batch == next {
                return Ok(None);
            }
            let reason = format!(
                "a part of the batch at offset {hole} is missing, and batch {batch} behind it, at offset {offset}, is not"
            );
            return Err(StorageError::damaged(&self.segment.path, reason));
        }
        if batch != next || first != self.open.is_none() {
            return Err(self.misfit(offset, &sector));
        }
        let (start, whole) = self.open.get_or_insert_with(|| (offset, Vec::new()));
        whole.extend_from_slice(payload);
        let start = *start;
        if !last {
            return Ok(None);
        }
        self.next = Some(next + 1);
        let place = BatchPlace {
            segment: self.number,
            start,
            batch,
        };
        Ok(self.open.take().map(|(_, payload)| (place, payload)))
    }

    /// Where an incomplete batch begins in the file of `len` bytes.
    fn torn(&self, len: u64) -> Option<u64> {
        let open = self.open.as_ref().map(|(start, _)| *start);
        self.hole.or(open).or((len == 0).then_some(0))
    }

    fn misfit(&self, offset: u64, found: &Sector<'_>) -> StorageError {
        misfit(self.segment, offset, found, self.next.unwrap_or_default())
    }
}
