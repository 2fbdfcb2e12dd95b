//! Replay segments: append-only files of games.
//!
//! ```text
//! sealed header | sealed game | sealed game | ... | sealed footer | trailer
//! ```
//!
//! Every part is sealed with magic, version, length and CRC-32 ([`riftmesh_base::codec`]). The footer has the places of
//! the games and the BLAKE3 hash of everything before it; the trailer says where the footer starts. A file without
//! trailer was not finished: its torn last record is cut and the games before it are good. Anything else out of place is
//! damage, and no game of a damaged segment is used.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use riftmesh_base::codec::{open, seal};
use riftmesh_base::limits::BLOB_BYTES_MAX;
use riftmesh_base::{BlobHash, DecodeError, decode, encode};
use serde::{Deserialize, Serialize};

use crate::record::{GameRecord, SegmentHeader};

/// Version of the format.
pub const SEGMENT_VERSION: u16 = 1;
/// How every segment starts.
pub const SEGMENT_MAGIC: [u8; 4] = *b"RMsh";
const GAME: [u8; 4] = *b"RMsg";
const FOOTER: [u8; 4] = *b"RMsf";
const TRAILER: [u8; 4] = *b"RMst";
/// Magic (4), version (2), start of the footer (8).
const TRAILER_BYTES: usize = 14;

#[derive(Debug, Serialize, Deserialize)]
struct Footer {
    /// Where each game's seal starts.
    starts: Vec<u64>,
    rows: u64,
    hash: BlobHash,
}

/// Why a segment was refused.
#[derive(Debug, thiserror::Error)]
pub enum SegmentError {
    /// A file could not be read or written; the machine is at fault and nothing is said about the data.
    #[error("cannot {act} {}: {reason}", path.display())]
    Io {
        /// `read`, `write` or `finish`.
        act: &'static str,
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        reason: std::io::Error,
    },
    /// Larger than any segment can be; refused unread.
    #[error("the segment has {0} bytes, more than the {BLOB_BYTES_MAX} allowed")]
    TooLarge(u64),
    /// No segment, or of another format version.
    #[error("not a segment of version {SEGMENT_VERSION}: {0}")]
    Foreign(DecodeError),
    /// Damaged where a torn write cannot explain it: quarantine it.
    #[error("damaged at byte {at}: {what}")]
    Damaged {
        /// Where.
        at: u64,
        /// What is wrong there.
        what: String,
    },
}

impl SegmentError {
    /// Whether the bytes themselves are bad and the segment belongs in quarantine.
    pub fn is_damage(&self) -> bool {
        !matches!(self, Self::Io { .. })
    }
}

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentSummary {
    /// Name of the bytes.
    pub hash: BlobHash,
    /// Length.
    pub bytes: u64,
    /// Games.
    pub games: u32,
    /// Training rows.
    pub rows: u64,
}

/// Writes a segment game by game under a temporary name (`.part`) and gives it its own when it is finished.
#[derive(Debug)]
pub struct SegmentWriter {
    path: PathBuf,
    temporary: PathBuf,
    file: File,
    hasher: blake3::Hasher,
    length: u64,
    starts: Vec<u64>,
    rows: u64,
}

impl SegmentWriter {
    /// Starts the segment that will be at `path`.
    ///
    /// # Errors
    /// [`SegmentError::Io`].
    pub fn create(path: &Path, header: &SegmentHeader) -> Result<Self, SegmentError> {
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(".part");
        let temporary = PathBuf::from(temporary);
        let file = File::create(&temporary).map_err(|reason| SegmentError::Io {
            act: "write",
            path: temporary.clone(),
            reason,
        })?;
        let mut writer = Self {
            path: path.to_owned(),
            temporary,
            file,
            hasher: blake3::Hasher::new(),
            length: 0,
            starts: Vec::new(),
            rows: 0,
        };
        writer.append(&seal(SEGMENT_MAGIC, SEGMENT_VERSION, &encode(header)))?;
        Ok(writer)
    }

    /// Appends a game.
    ///
    /// # Errors
    /// [`SegmentError::Io`]; what was written before stays readable.
    pub fn push(&mut self, game: &GameRecord) -> Result<(), SegmentError> {
        self.starts.push(self.length);
        self.rows += game.rows() as u64;
        self.append(&seal(GAME, SEGMENT_VERSION, &encode(game)))
    }

    /// Games so far.
    pub fn games(&self) -> usize {
        self.starts.len()
    }

    /// Writes footer and trailer, syncs, and gives the file its name.
    ///
    /// # Errors
    /// [`SegmentError::Io`]; the file keeps its temporary name.
    pub fn finish(mut self) -> Result<SegmentSummary, SegmentError> {
        let footer = Footer {
            starts: std::mem::take(&mut self.starts),
            rows: self.rows,
            hash: BlobHash(*self.hasher.finalize().as_bytes()),
        };
        let games = footer.starts.len() as u32;
        let start = self.length;
        self.append(&seal(FOOTER, SEGMENT_VERSION, &encode(&footer)))?;
        let mut trailer = Vec::with_capacity(TRAILER_BYTES);
        trailer.extend_from_slice(&TRAILER);
        trailer.extend_from_slice(&SEGMENT_VERSION.to_le_bytes());
        trailer.extend_from_slice(&start.to_le_bytes());
        self.append(&trailer)?;
        let finish = |reason| SegmentError::Io {
            act: "finish",
            path: self.path.clone(),
            reason,
        };
        self.file.sync_all().map_err(finish)?;
        fs::rename(&self.temporary, &self.path).map_err(finish)?;
        Ok(SegmentSummary {
            hash: BlobHash(*self.hasher.finalize().as_bytes()),
            bytes: self.length,
            games,
            rows: footer.rows,
        })
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), SegmentError> {
        self.file
            .write_all(bytes)
            .map_err(|reason| SegmentError::Io {
                act: "write",
                path: self.temporary.clone(),
                reason,
            })?;
        self.hasher.update(bytes);
        self.length += bytes.len() as u64;
        Ok(())
    }
}

/// A segment that was read.
#[derive(Debug, Clone, PartialEq)]
pub struct Segment {
    /// What its games share.
    pub header: SegmentHeader,
    /// Its games, in the order they were finished.
    pub games: Vec<GameRecord>,
    /// Bytes of a torn last record that were ignored; zero for a finished segment.
    pub torn_bytes: u64,
}

impl Segment {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// [`SegmentError`].
    pub fn read(path: &Path) -> Result<Self, SegmentError> {
        let io = |reason| SegmentError::Io {
            act: "read",
            path: path.to_owned(),
            reason,
        };
        let length = fs::metadata(path).map_err(io)?.len();
        if length > BLOB_BYTES_MAX {
            return Err(SegmentError::TooLarge(length));
        }
        Self::from_bytes(&fs::read(path).map_err(io)?)
    }

    /// Reads a segment from memory.
    ///
    /// # Errors
    /// [`SegmentError`], never [`SegmentError::Io`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SegmentError> {
        let (header, rest) =
            open(SEGMENT_MAGIC, SEGMENT_VERSION, bytes).map_err(SegmentError::Foreign)?;
        let header = decode(header).map_err(SegmentError::Foreign)?;
        let start = bytes.len() - rest.len();
        match footer_start(bytes) {
            Some(end) => Self::finished(header, bytes, start, end),
            None => Self::torn(header, bytes, start),
        }
    }

    fn finished(
        header: SegmentHeader,
        bytes: &[u8],
        start: usize,
        end: usize,
    ) -> Result<Self, SegmentError> {
        let damaged = |at: usize, what: String| SegmentError::Damaged {
            at: at as u64,
            what,
        };
        let body = &bytes[..bytes.len() - TRAILER_BYTES];
        let (footer, rest) = body
            .get(end..)
            .ok_or_else(|| {
                damaged(
                    bytes.len(),
                    "the trailer points outside the file".to_owned(),
                )
            })
            .and_then(|footer| {
                open(FOOTER, SEGMENT_VERSION, footer)
                    .map_err(|error| damaged(end, error.to_string()))
            })?;
        let footer: Footer = decode(footer).map_err(|error| damaged(end, error.to_string()))?;
        if !rest.is_empty() || end < start {
            return Err(damaged(
                end,
                "the footer is not where it should be".to_owned(),
            ));
        }
        if BlobHash::of(&bytes[..end]) != footer.hash {
            return Err(damaged(
                end,
                "the games do not match the footer's hash".to_owned(),
            ));
        }
        let (games, stop) = read_games(bytes, start, end);
        let rows: usize = games.iter().map(|(_, game)| game.rows()).sum();
        let starts = games.iter().map(|(at, _)| *at as u64);
        if stop != end || !starts.eq(footer.starts) || rows as u64 != footer.rows {
            return Err(damaged(
                stop,
                "the games do not match the footer's index".to_owned(),
            ));
        }
        Ok(Self {
            header,
            games: games.into_iter().map(|(_, game)| game).collect(),
            torn_bytes: 0,
        })
    }

    fn torn(header: SegmentHeader, bytes: &[u8], start: usize) -> Result<Self, SegmentError> {
        let (games, stop) = read_games(bytes, start, bytes.len());
        // A write that was cut off leaves nothing whole behind the cut.
        let later = (stop + 1..bytes.len()).find(|&at| {
            open(GAME, SEGMENT_VERSION, &bytes[at..]).is_ok()
                || open(FOOTER, SEGMENT_VERSION, &bytes[at..]).is_ok()
        });
        if let Some(later) = later {
            return Err(SegmentError::Damaged {
                at: stop as u64,
                what: format!("unreadable, yet a whole record follows at byte {later}"),
            });
        }
        Ok(Self {
            header,
            games: games.into_iter().map(|(_, game)| game).collect(),
            torn_bytes: (bytes.len() - stop) as u64,
        })
    }

    /// Training rows of all games.
    pub fn rows(&self) -> usize {
        self.games.iter().map(GameRecord::rows).sum()
    }
}

/// Where the footer starts, if there is a trailer.
fn footer_start(bytes: &[u8]) -> Option<usize> {
    let trailer = bytes.last_chunk::<TRAILER_BYTES>()?;
    let (magic, rest) = trailer.split_first_chunk::<4>()?;
    let (version, start) = rest.split_first_chunk::<2>()?;
    let known = *magic == TRAILER && u16::from_le_bytes(*version) == SEGMENT_VERSION;
    let start = u64::from_le_bytes(*start.first_chunk()?);
    known.then(|| usize::try_from(start).unwrap_or(usize::MAX))
}

/// Games from `start` on, with their places, until `end` or the first that cannot be read; where reading stopped.
fn read_games(bytes: &[u8], start: usize, end: usize) -> (Vec<(usize, GameRecord)>, usize) {
    let mut games = Vec::new();
    let mut at = start;
    while at < end {
        let Ok((payload, rest)) = open(GAME, SEGMENT_VERSION, &bytes[at..end]) else {
            break;
        };
        match decode::<GameRecord>(payload) {
            Ok(game) if game.is_bounded() => games.push((at, game)),
            Ok(_) | Err(_) => break,
        }
        at = end - rest.len();
    }
    (games, at)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use riftmesh_base::{JobId, Seed};
    use riftmesh_rules::Action;

    use super::*;
    use crate::record::{DecisionRecord, FLAG_ROW, RULES_VERSION};

    fn header() -> SegmentHeader {
        SegmentHeader {
            rules: RULES_VERSION,
            codec: 1,
            encoder: 1,
            configuration: "hex8_2p".parse().unwrap(),
            swap: false,
            model: None,
            job: JobId(7),
            seed: Seed(11),
            simulations: 16,
        }
    }

    fn game(number: u64) -> GameRecord {
        GameRecord {
            number,
            moves: vec![Action::Place { to: 3, count: 2 }, Action::NoMovement],
            decisions: vec![DecisionRecord {
                chosen: 5,
                policy: vec![(5, 0.75), (9, 0.25)],
                values: [0.6, 0.4, 0.0, 0.0],
                simulations: 16,
                flags: FLAG_ROW,
            }],
            winner: 1,
            end: 99,
        }
    }

    fn segment(games: u64) -> Vec<u8> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("segment");
        let mut writer = SegmentWriter::create(&path, &header()).unwrap();
        for number in 0..games {
            writer.push(&game(number)).unwrap();
        }
        let summary = writer.finish().unwrap();
        let bytes = fs::read(&path).unwrap();
        assert_eq!(summary.hash, BlobHash::of(&bytes));
        assert_eq!(
            (summary.games as u64, summary.rows, summary.bytes),
            (games, games, bytes.len() as u64)
        );
        bytes
    }

    #[test]
    fn what_is_written_is_read() {
        for games in [0, 1, 5] {
            let read = Segment::from_bytes(&segment(games)).unwrap();
            assert_eq!(read.header, header());
            assert_eq!(read.games, (0..games).map(game).collect::<Vec<_>>());
            assert_eq!(read.torn_bytes, 0);
        }
    }

    /// A crash while writing leaves a prefix: whatever its length, the whole games in it are kept.
    #[test]
    fn a_torn_tail_is_cut() {
        let bytes = segment(4);
        let first = Segment::from_bytes(&bytes[..bytes.len() - 1]);
        assert_eq!(
            first.unwrap().games.len(),
            4,
            "without its trailer's last byte"
        );
        for length in 0..bytes.len() {
            match Segment::from_bytes(&bytes[..length]) {
                Ok(segment) => {
                    let whole = segment.games.len() as u64;
                    assert_eq!(segment.games, (0..whole).map(game).collect::<Vec<_>>());
                }
                Err(error) => assert!(
                    matches!(error, SegmentError::Foreign(_)),
                    "{length}: {error}"
                ),
            }
        }
    }

    /// One flipped bit anywhere in a finished segment: it is refused, or (in its trailer) read without loss.
    #[test]
    fn damage_is_never_read_as_data() {
        let bytes = segment(3);
        let whole = Segment::from_bytes(&bytes).unwrap();
        for position in 0..bytes.len() {
            for bit in 0..8 {
                let mut damaged = bytes.clone();
                damaged[position] ^= 1 << bit;
                if let Ok(read) = Segment::from_bytes(&damaged) {
                    assert_eq!(read.games, whole.games, "bit {bit} of byte {position}");
                    assert!(position >= bytes.len() - TRAILER_BYTES || read.torn_bytes > 0);
                }
            }
        }
    }

    proptest! {
        /// No bytes make the reader panic.
        #[test]
        fn reading_never_panics(noise: Vec<u8>, cut in 0usize..200) {
            let mut bytes = segment(1);
            bytes.truncate(bytes.len().saturating_sub(cut));
            bytes.extend(noise);
            prop_assert!(Segment::from_bytes(&bytes).is_ok() || Segment::from_bytes(&bytes).is_err());
        }
    }
}
