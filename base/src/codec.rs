//! Values to bytes and back. Everything read from a network or a disk comes through here.
//!
//! The encoding is postcard: compact, stable across platforms, without self-description. What lies on a disk is
//! wrapped in a [`seal`], so that a torn, flipped or foreign file is recognised before it is interpreted.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Why bytes were refused. Nothing was changed; the sender or the disk is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes do not describe a value of the expected type.
    #[error("malformed value: {0}")]
    Malformed(String),
    /// A value was read and bytes were left over.
    #[error("{0} bytes left over behind the value")]
    Trailing(usize),
    /// A sealed record starts with other magic bytes than expected.
    #[error("not a {expected} file: it starts with {found:?}")]
    Magic {
        /// The magic that was expected.
        expected: String,
        /// What was found, shown as text.
        found: String,
    },
    /// A sealed record has a format version this build cannot read.
    #[error("format version {found} of {magic} cannot be read: this build reads {supported}")]
    Version {
        /// The magic of the record.
        magic: String,
        /// The version found.
        found: u16,
        /// The only version supported.
        supported: u16,
    },
    /// A sealed record is shorter than its header says.
    #[error("cut off: {expected} bytes announced, {found} found")]
    Short {
        /// Bytes announced.
        expected: usize,
        /// Bytes found.
        found: usize,
    },
    /// A sealed record's checksum does not match its payload.
    #[error("checksum mismatch: the bytes were damaged")]
    Checksum,
}

/// The bytes of `value`.
///
/// # Panics
/// Never for types whose sequences know their length and whose maps have ordered keys; only such types are
/// encoded in this workspace.
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    #[expect(
        clippy::expect_used,
        reason = "postcard fails only for sequences of unknown length, which no type here has"
    )]
    postcard::to_stdvec(value).expect("every encoded type knows its length")
}

/// Reads a value that must fill `bytes` exactly.
///
/// # Errors
/// [`DecodeError::Malformed`] or [`DecodeError::Trailing`].
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    let (value, rest) =
        postcard::take_from_bytes(bytes).map_err(|e| DecodeError::Malformed(e.to_string()))?;
    if rest.is_empty() {
        Ok(value)
    } else {
        Err(DecodeError::Trailing(rest.len()))
    }
}

/// Bytes in front of a sealed payload: magic (4), version (2), length (4), CRC-32 of version, length and payload (4).
pub const SEAL_BYTES: usize = 14;

/// Wraps `payload` so that [`open`] can tell whether it is whole and what it is.
///
/// # Panics
/// When the payload is 4 GiB or longer; callers bound their payloads far below.
pub fn seal(magic: [u8; 4], version: u16, payload: &[u8]) -> Vec<u8> {
    #[expect(
        clippy::expect_used,
        reason = "every payload is bounded by a limit far below 4 GiB"
    )]
    let length = u32::try_from(payload.len()).expect("payload shorter than 4 GiB");
    let mut out = Vec::with_capacity(SEAL_BYTES + payload.len());
    out.extend_from_slice(&magic);
    out.extend_from_slice(&version.to_le_bytes());
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&checksum(version, length, payload).to_le_bytes());
    out.extend_from_slice(payload);
    out
}

/// Checks and strips the seal at the start of `bytes`; gives the payload and what follows it.
///
/// # Errors
/// Says which check failed; see [`DecodeError`].
pub fn open(magic: [u8; 4], version: u16, bytes: &[u8]) -> Result<(&[u8], &[u8]), DecodeError> {
    let text = |bytes: &[u8]| bytes.escape_ascii().to_string();
    let found = &bytes[..bytes.len().min(4)];
    if found != magic {
        return Err(DecodeError::Magic {
            expected: text(&magic),
            found: text(found),
        });
    }
    let Some((header, rest)) = bytes.split_at_checked(SEAL_BYTES) else {
        return Err(DecodeError::Short {
            expected: SEAL_BYTES,
            found: bytes.len(),
        });
    };
    let found_version = u16::from_le_bytes([header[4], header[5]]);
    if found_version != version {
        return Err(DecodeError::Version {
            magic: text(&magic),
            found: found_version,
            supported: version,
        });
    }
    let length = u32::from_le_bytes([header[6], header[7], header[8], header[9]]);
    let expected = length as usize;
    let Some((payload, rest)) = rest.split_at_checked(expected) else {
        return Err(DecodeError::Short {
            expected,
            found: rest.len(),
        });
    };
    let crc = u32::from_le_bytes([header[10], header[11], header[12], header[13]]);
    if checksum(version, length, payload) == crc {
        Ok((payload, rest))
    } else {
        Err(DecodeError::Checksum)
    }
}

fn checksum(version: u16, length: u32, payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&version.to_le_bytes());
    hasher.update(&length.to_le_bytes());
    hasher.update(payload);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MAGIC: [u8; 4] = *b"RMxx";

    proptest! {
        /// A sealed payload opens to itself, and what was appended comes back as the rest.
        #[test]
        fn seals_round_trip(payload: Vec<u8>, rest: Vec<u8>) {
            let mut bytes = seal(MAGIC, 3, &payload);
            bytes.extend_from_slice(&rest);
            prop_assert_eq!(open(MAGIC, 3, &bytes).unwrap(), (&payload[..], &rest[..]));
        }

        /// One flipped bit anywhere in a sealed record is noticed.
        #[test]
        fn a_flipped_bit_is_noticed(payload in prop::collection::vec(any::<u8>(), 0..64), bit: prop::sample::Index) {
            let mut bytes = seal(MAGIC, 3, &payload);
            let bit = bit.index(bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(open(MAGIC, 3, &bytes).is_err());
        }

        /// Every prefix of a sealed record is refused, never a panic.
        #[test]
        fn prefixes_are_refused(payload in prop::collection::vec(any::<u8>(), 0..32), cut: prop::sample::Index) {
            let bytes = seal(MAGIC, 3, &payload);
            let cut = cut.index(bytes.len());
            prop_assert!(open(MAGIC, 3, &bytes[..cut]).is_err());
        }
    }

    #[test]
    fn leftover_bytes_are_an_error() {
        let mut bytes = encode(&7u32);
        bytes.push(0);
        assert_eq!(decode::<u32>(&bytes), Err(DecodeError::Trailing(1)));
    }
}
