//! What a batch's payload says: a run of changes to the log. The first batch of a file begins with [`opening`].
//!
//! ```text
//! opening:  MAGIC (4) | version (2) | number of the file (8) | head of the log (length (4), encoded)
//! change:   tag (1) | index (8; append, truncate, purge) | length (4) and bytes (append, purge, vote, committed)
//! ```

use riftmesh_base::{decode, encode};

use crate::log::{LogHead, LogOp, PurgePoint};

const MAGIC: [u8; 4] = *b"RMls";
/// Format of the file. Raised by any change that an older build would misread.
const VERSION: u16 = 1;

const APPEND: u8 = 1;
const TRUNCATE: u8 = 2;
const PURGE: u8 = 3;
const VOTE: u8 = 4;
const COMMITTED: u8 = 5;

/// A change as it is read back.
#[derive(Debug, PartialEq, Eq)]
pub enum Record {
    /// An entry whose bytes are these of the payload.
    Entry {
        /// Its position in the log.
        index: u64,
        /// Where its bytes begin in the payload.
        skip: usize,
        /// How many they are.
        len: usize,
    },
    /// Any other change.
    Other(LogOp),
}

/// What does not fit; the caller knows the file.
pub type Misfit = String;

/// The changes as a payload, and where in it each append's bytes begin.
pub fn payload(ops: &[LogOp]) -> (Vec<u8>, Vec<usize>) {
    let (mut out, mut skips) = (Vec::new(), Vec::new());
    for op in ops {
        match op {
            LogOp::Append { index, bytes } => {
                out.push(APPEND);
                out.extend_from_slice(&index.to_le_bytes());
                let before = out.len() + 4;
                put(&mut out, bytes);
                skips.push(before);
            }
            LogOp::TruncateFrom(from) => {
                out.push(TRUNCATE);
                out.extend_from_slice(&from.to_le_bytes());
            }
            LogOp::Purge(point) => {
                out.push(PURGE);
                out.extend_from_slice(&point.index.to_le_bytes());
                put(&mut out, &point.mark);
            }
            LogOp::Vote(bytes) => {
                out.push(VOTE);
                put(&mut out, bytes);
            }
            LogOp::Committed(bytes) => {
                out.push(COMMITTED);
                put(&mut out, bytes);
            }
        }
    }
    (out, skips)
}

/// The payload of a file's first batch: which file it is, and the log's head at this point.
pub fn opening(number: u64, head: &LogHead) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&number.to_le_bytes());
    put(&mut out, &encode(head));
    out
}

/// Reads [`opening`] back; gives number and head.
pub fn read_opening(payload: &[u8]) -> Result<(u64, LogHead), Misfit> {
    let mut rest = Reader { payload, at: 0 };
    if rest.take(4)? != MAGIC {
        return Err("it is no file of a log".to_owned());
    }
    let [low, high] = rest.array()?;
    let version = u16::from_le_bytes([low, high]);
    if version != VERSION {
        return Err(format!(
            "its format version is {version} and this build reads {VERSION}; run the riftmesh that wrote it"
        ));
    }
    let number = u64::from_le_bytes(rest.array()?);
    let (skip, len) = rest.piece()?;
    let head = decode(&payload[skip..skip + len]).map_err(|e| format!("the log's head: {e}"))?;
    rest.finish()?;
    Ok((number, head))
}

/// Reads [`payload`] back.
pub fn read(payload: &[u8]) -> Result<Vec<Record>, Misfit> {
    let mut rest = Reader { payload, at: 0 };
    let mut records = Vec::new();
    while rest.at < payload.len() {
        let [tag] = rest.array()?;
        let record = match tag {
            APPEND => {
                let index = u64::from_le_bytes(rest.array()?);
                let (skip, len) = rest.piece()?;
                Record::Entry { index, skip, len }
            }
            TRUNCATE => Record::Other(LogOp::TruncateFrom(u64::from_le_bytes(rest.array()?))),
            PURGE => Record::Other(LogOp::Purge(PurgePoint {
                index: u64::from_le_bytes(rest.array()?),
                mark: rest.bytes()?,
            })),
            VOTE => Record::Other(LogOp::Vote(rest.bytes()?)),
            COMMITTED => Record::Other(LogOp::Committed(rest.bytes()?)),
            other => return Err(format!("a change of unknown kind {other}")),
        };
        records.push(record);
    }
    Ok(records)
}

/// Length and bytes. Every caller's bytes are bounded far below 4 GiB: entries by `ENTRY_BYTES_MAX`, the rest is short.
fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    out.extend_from_slice(bytes);
}

struct Reader<'a> {
    payload: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], Misfit> {
        let piece = self
            .payload
            .get(self.at..)
            .and_then(|rest| rest.get(..len))
            .ok_or("a change is longer than its batch")?;
        self.at += len;
        Ok(piece)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Misfit> {
        let piece = self.take(N)?;
        piece
            .try_into()
            .map_err(|_| "a change is cut off".to_owned())
    }

    /// Where the next piece lies: its start and length.
    fn piece(&mut self) -> Result<(usize, usize), Misfit> {
        let len = u32::from_le_bytes(self.array()?) as usize;
        let skip = self.at;
        self.take(len)?;
        Ok((skip, len))
    }

    fn bytes(&mut self) -> Result<Vec<u8>, Misfit> {
        let (skip, len) = self.piece()?;
        Ok(self.payload[skip..skip + len].to_vec())
    }

    fn finish(&self) -> Result<(), Misfit> {
        match self.payload.len() - self.at {
            0 => Ok(()),
            left => Err(format!("{left} bytes left over behind the log's head")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all_kinds() -> Vec<LogOp> {
        vec![
            LogOp::Append {
                index: 3,
                bytes: b"three".to_vec(),
            },
            LogOp::TruncateFrom(2),
            LogOp::Purge(PurgePoint {
                index: 1,
                mark: b"one".to_vec(),
            }),
            LogOp::Vote(b"v".to_vec()),
            LogOp::Committed(Vec::new()),
        ]
    }

    /// The bytes on disk are part of the format: a change of these needs a new version.
    #[test]
    fn golden_bytes() {
        let (bytes, skips) = payload(&all_kinds());
        assert_eq!(
            bytes,
            b"\x01\x03\0\0\0\0\0\0\0\x05\0\0\0three\x02\x02\0\0\0\0\0\0\0\x03\x01\0\0\0\0\0\0\0\x03\0\0\0one\
              \x04\x01\0\0\0v\x05\0\0\0\0"
        );
        assert_eq!(skips, [13]);
        let head = LogHead {
            vote: Some(b"v".to_vec()),
            entries: Some((3, 300)),
            ..LogHead::default()
        };
        assert_eq!(
            opening(9, &head),
            b"RMls\x01\0\x09\0\0\0\0\0\0\0\x09\0\0\0\x01\x01v\0\0\x01\x03\xAC\x02"
        );
    }

    /// What was written is read back.
    #[test]
    fn changes_come_back() {
        let ops = all_kinds();
        let records = read(&payload(&ops).0).unwrap();
        let entry = Record::Entry {
            index: 3,
            skip: 13,
            len: 5,
        };
        assert_eq!(records[0], entry);
        let others: Vec<Record> = ops[1..].iter().cloned().map(Record::Other).collect();
        assert_eq!(records[1..], others);
        let head = LogHead {
            entries: Some((1, 2)),
            ..LogHead::default()
        };
        assert_eq!(read_opening(&opening(4, &head)).unwrap(), (4, head));
    }

    /// No beginning of a payload and no flipped byte makes the readers panic; cuts within a change are errors.
    #[test]
    fn strange_payloads_are_errors() {
        let (bytes, _) = payload(&all_kinds()[..1]);
        for cut in 1..bytes.len() {
            read(&bytes[..cut]).unwrap_err();
        }
        let opening = opening(4, &LogHead::default());
        for cut in 0..opening.len() {
            read_opening(&opening[..cut]).unwrap_err();
        }
        for at in 0..opening.len() {
            let mut flipped = opening.clone();
            flipped[at] ^= 0xFF;
            drop(read_opening(&flipped));
        }
        let mut newer = opening;
        newer[4] = 2;
        let error = read_opening(&newer).unwrap_err();
        assert!(error.contains("format version is 2"), "{error}");
    }
}
