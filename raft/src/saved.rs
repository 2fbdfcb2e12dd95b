//! A snapshot as a file of its own, to be kept elsewhere: whose it is, its meta part and the state's image.

use riftmesh_base::codec::{open, seal};
use riftmesh_base::limits::SNAPSHOT_BYTES_MAX;
use riftmesh_base::{ClusterId, DecodeError, NodeId, decode, encode};
use riftmesh_storage::SavedSnapshot;
use serde::{Deserialize, Serialize};

const HEADER_MAGIC: [u8; 4] = *b"RMsv";
const META_MAGIC: [u8; 4] = *b"RMsm";
const IMAGE_MAGIC: [u8; 4] = *b"RMsi";
const VERSION: u16 = 1;
/// Longest file: an image with what belongs to it.
pub const FILE_BYTES_MAX: usize = SNAPSHOT_BYTES_MAX + (1 << 20);

/// Where a saved snapshot comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedOrigin {
    /// The cluster; none if it had no name yet.
    pub cluster: Option<ClusterId>,
    /// Its epoch.
    pub epoch: u64,
    /// The node that made it.
    pub node: NodeId,
}

/// A snapshot with its origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedFile {
    /// Where it comes from.
    pub origin: SavedOrigin,
    /// The snapshot.
    pub snapshot: SavedSnapshot,
}

impl SavedFile {
    /// The file's bytes, each part sealed with a checksum.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = seal(HEADER_MAGIC, VERSION, &encode(&self.origin));
        bytes.extend(seal(META_MAGIC, VERSION, &self.snapshot.meta));
        bytes.extend(seal(IMAGE_MAGIC, VERSION, &self.snapshot.image));
        bytes
    }

    /// Reads a file.
    ///
    /// # Errors
    /// [`DecodeError`], with the part that does not fit.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let (origin, rest) = open(HEADER_MAGIC, VERSION, bytes)?;
        let (meta, rest) = open(META_MAGIC, VERSION, rest)?;
        let (image, rest) = open(IMAGE_MAGIC, VERSION, rest)?;
        if !rest.is_empty() {
            return Err(DecodeError::Trailing(rest.len()));
        }
        Ok(Self {
            origin: decode(origin)?,
            snapshot: SavedSnapshot {
                meta: meta.to_vec(),
                image: image.to_vec(),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file is read as it was written; every flipped byte and every cut is noticed.
    #[test]
    fn damage_is_noticed() {
        let file = SavedFile {
            origin: SavedOrigin {
                cluster: Some(ClusterId([3; 16])),
                epoch: 2,
                node: NodeId(7),
            },
            snapshot: SavedSnapshot {
                meta: b"meta".to_vec(),
                image: b"image".to_vec(),
            },
        };
        let bytes = file.to_bytes();
        assert_eq!(SavedFile::from_bytes(&bytes), Ok(file));
        for i in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[i] ^= 0x10;
            assert!(SavedFile::from_bytes(&flipped).is_err(), "byte {i}");
            assert!(SavedFile::from_bytes(&bytes[..i]).is_err(), "cut at {i}");
        }
        assert!(SavedFile::from_bytes(&[&bytes[..], b"x"].concat()).is_err());
    }
}
