//! How a batch of changes lies in a file: in sectors that each say whose they are and whether they are whole.
//!
//! ```text
//! sector, 512 bytes:  payload (496, zeros behind its end) | batch number (8) | payload bytes and flags (2) | 0 (1)
//!                     | CRC-32 of all before (4) | MARK (1)                              all numbers little-endian
//! ```
//!
//! The last byte is what tells a crash from damage. A write that a crash cut short leaves, for each sector, the new
//! bytes, nothing, or a beginning of the new bytes; in the latter two cases the last byte is zero or missing. A sector
//! that ends in anything else and does not fit its checksum was whole once, and someone may have been told so.

/// Bytes of a sector.
pub const SECTOR_BYTES: usize = 512;
/// Bytes of payload in a sector.
pub const PAYLOAD_BYTES: usize = 496;
/// The last byte of a whole sector; no single flipped bit makes it zero.
const MARK: u8 = 0xA5;
/// The batch begins here.
const FIRST: u16 = 1 << 15;
/// The batch ends here.
const LAST: u16 = 1 << 14;

/// What a sector turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sector<'a> {
    /// As it was written.
    Whole {
        /// Number of its batch.
        batch: u64,
        /// Whether the batch begins here.
        first: bool,
        /// Whether the batch ends here.
        last: bool,
        /// Its part of the batch's payload.
        payload: &'a [u8],
    },
    /// Never completely written.
    Missing,
    /// Written, and changed since.
    Damaged,
}

/// Looks at a sector, which is shorter than [`SECTOR_BYTES`] only at the end of a file.
pub fn read(bytes: &[u8]) -> Sector<'_> {
    let Ok(sector) = <&[u8; SECTOR_BYTES]>::try_from(bytes) else {
        return Sector::Missing;
    };
    if sector[SECTOR_BYTES - 1] == 0 {
        return Sector::Missing;
    }
    let [
        ..,
        b0,
        b1,
        b2,
        b3,
        b4,
        b5,
        b6,
        b7,
        f0,
        f1,
        zero,
        c0,
        c1,
        c2,
        c3,
        mark,
    ] = *sector;
    let flags = u16::from_le_bytes([f0, f1]);
    let length = usize::from(flags & !(FIRST | LAST));
    let sum = checksum(&sector[..SECTOR_BYTES - 5]);
    let fits = mark == MARK && zero == 0 && sum == u32::from_le_bytes([c0, c1, c2, c3]);
    match sector.get(..length) {
        Some(payload) if fits && length <= PAYLOAD_BYTES => Sector::Whole {
            batch: u64::from_le_bytes([b0, b1, b2, b3, b4, b5, b6, b7]),
            first: flags & FIRST != 0,
            last: flags & LAST != 0,
            payload,
        },
        _ => Sector::Damaged,
    }
}

/// The sectors of a batch; at least one.
pub fn frame(batch: u64, payload: &[u8]) -> Vec<u8> {
    let count = payload.len().div_ceil(PAYLOAD_BYTES).max(1);
    let mut out = Vec::with_capacity(count * SECTOR_BYTES);
    for number in 0..count {
        let rest = &payload[(number * PAYLOAD_BYTES).min(payload.len())..];
        let part = &rest[..rest.len().min(PAYLOAD_BYTES)];
        let start = out.len();
        out.extend_from_slice(part);
        out.resize(start + PAYLOAD_BYTES, 0);
        out.extend_from_slice(&batch.to_le_bytes());
        // At most 496, so it leaves the flags' bits alone.
        let mut flags = part.len() as u16;
        if number == 0 {
            flags |= FIRST;
        }
        if number + 1 == count {
            flags |= LAST;
        }
        out.extend_from_slice(&flags.to_le_bytes());
        out.push(0);
        let sum = checksum(&out[start..]);
        out.extend_from_slice(&sum.to_le_bytes());
        out.push(MARK);
    }
    out
}

/// Where a piece of a batch's payload lies in the batch's sectors: first sector, number of sectors, and bytes to skip
/// in the first one. All sectors of a batch but the last are full.
pub fn locate(skip: usize, len: usize) -> (usize, usize, usize) {
    let first = skip / PAYLOAD_BYTES;
    let end = (skip + len).div_ceil(PAYLOAD_BYTES).max(first + 1);
    (first, end - first, skip % PAYLOAD_BYTES)
}

fn checksum(bytes: &[u8]) -> u32 {
    crc32fast::hash(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(len: usize) -> Vec<u8> {
        (0..len).map(|i| (i % 251) as u8).collect()
    }

    /// A batch comes back from its sectors, whatever its length, and any piece of it lies where it is looked for.
    #[test]
    fn batches_come_back() {
        for len in [0, 1, 495, 496, 497, 992, 5_000] {
            let payload = bytes(len);
            let framed = frame(7, &payload);
            let sectors: Vec<Sector<'_>> = framed.chunks(SECTOR_BYTES).map(read).collect();
            let mut back = Vec::new();
            for (i, sector) in sectors.iter().enumerate() {
                let Sector::Whole {
                    batch: 7,
                    first,
                    last,
                    payload,
                } = *sector
                else {
                    panic!("{sector:?}");
                };
                assert_eq!((first, last), (i == 0, i + 1 == sectors.len()));
                back.extend_from_slice(payload);
            }
            assert_eq!(back, payload);
            for skip in [0, 1, 400, 496, 700] {
                let piece = 300;
                if skip + piece > len {
                    continue;
                }
                let (first, count, within) = locate(skip, piece);
                let region: Vec<u8> = (first..first + count)
                    .flat_map(|i| framed[i * SECTOR_BYTES..][..PAYLOAD_BYTES].to_vec())
                    .collect();
                assert_eq!(region[within..within + piece], payload[skip..skip + piece]);
            }
        }
    }

    /// One flipped bit anywhere makes a whole sector a damaged one: never a missing one, which would be dropped, and
    /// never another whole one.
    #[test]
    fn a_flipped_bit_is_damage() {
        let framed = frame(7, &bytes(300));
        for bit in 0..SECTOR_BYTES * 8 {
            let mut sector = framed.clone();
            sector[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(read(&sector), Sector::Damaged, "bit {bit}");
        }
    }

    /// Any beginning of a sector, with the file's end or zeros behind it, is a missing sector.
    #[test]
    fn a_beginning_is_missing() {
        let framed = frame(7, &bytes(496));
        for cut in 0..SECTOR_BYTES {
            assert_eq!(read(&framed[..cut]), Sector::Missing);
            let mut zeros = framed[..cut].to_vec();
            zeros.resize(SECTOR_BYTES, 0);
            assert_eq!(read(&zeros), Sector::Missing);
        }
    }
}
