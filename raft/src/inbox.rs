//! Puts snapshots together from the parts they arrive in: at most one per sender, bounded, and whole or not at all.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use riftmesh_base::limits::SNAPSHOT_BYTES_MAX;
use riftmesh_base::{BlobHash, NodeId};

use crate::types::Image;
use crate::wire::SnapshotPart;

/// What has arrived so far.
#[derive(Debug, Default)]
pub(crate) struct SnapshotInbox(Mutex<BTreeMap<NodeId, Arriving>>);

#[derive(Debug)]
struct Arriving {
    hash: BlobHash,
    bytes: Vec<u8>,
}

impl SnapshotInbox {
    /// Takes a part; gives the image once it is whole.
    ///
    /// # Errors
    /// When the part does not continue what is here, is over the bound, or the whole does not hash to its name: the
    /// sender is at fault and starts again.
    pub fn take(&self, from: NodeId, part: &SnapshotPart) -> Result<Option<Image>, String> {
        if part.total > SNAPSHOT_BYTES_MAX as u64 {
            return Err(format!(
                "a snapshot of {} bytes is over the bound",
                part.total
            ));
        }
        let mut inbox = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut arriving = inbox
            .remove(&from)
            .filter(|arriving| part.offset > 0 && arriving.hash == part.hash)
            .unwrap_or_else(|| Arriving {
                hash: part.hash,
                bytes: Vec::new(),
            });
        if arriving.bytes.len() as u64 != part.offset {
            return Err(format!(
                "part at {} does not continue {}",
                part.offset,
                arriving.bytes.len()
            ));
        }
        arriving.bytes.extend_from_slice(&part.bytes.0);
        let length = arriving.bytes.len() as u64;
        if length > part.total {
            return Err(format!(
                "{length} bytes came for an image of {}",
                part.total
            ));
        }
        if length < part.total {
            inbox.insert(from, arriving);
            return Ok(None);
        }
        if BlobHash::of(&arriving.bytes) != part.hash {
            return Err("the image does not hash to its name".to_owned());
        }
        Ok(Some(Image(Arc::new(arriving.bytes))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Membership, Payload, Vote};

    const FROM: NodeId = NodeId(1);

    fn part(image: &[u8], offset: usize, len: usize) -> SnapshotPart {
        SnapshotPart {
            vote: Vote::new(1, 1),
            last_log_id: None,
            membership: Membership::default(),
            total: image.len() as u64,
            hash: BlobHash::of(image),
            offset: offset as u64,
            bytes: Payload(image[offset..offset + len].into()),
        }
    }

    /// Parts in order make the image; a transfer that starts anew forgets the one before.
    #[test]
    fn parts_make_the_image() {
        let (inbox, image) = (SnapshotInbox::default(), b"abcdefgh");
        assert_eq!(inbox.take(FROM, &part(image, 0, 3)), Ok(None));
        assert_eq!(inbox.take(FROM, &part(image, 0, 5)), Ok(None));
        assert_eq!(inbox.take(NodeId(2), &part(b"zz", 0, 1)), Ok(None));
        let whole = inbox.take(FROM, &part(image, 5, 3)).unwrap().unwrap();
        assert_eq!(*whole.0, image);
        let empty = inbox.take(FROM, &part(b"", 0, 0)).unwrap().unwrap();
        assert!(empty.0.is_empty());
    }

    /// Gaps, too much, and bytes that are not what they claim to be are refused, and the transfer starts anew.
    #[test]
    fn wrong_parts_are_refused() {
        let (inbox, image) = (SnapshotInbox::default(), b"abcdefgh");
        inbox.take(FROM, &part(image, 0, 3)).unwrap();
        assert!(inbox.take(FROM, &part(image, 4, 2)).is_err());
        assert!(
            inbox.take(FROM, &part(image, 3, 2)).is_err(),
            "the transfer was dropped"
        );
        let mut long = part(image, 0, 8);
        long.total = 4;
        assert!(inbox.take(FROM, &long).is_err());
        let mut forged = part(image, 0, 8);
        forged.hash = BlobHash::of(b"other");
        assert!(inbox.take(FROM, &forged).is_err());
        let mut huge = part(image, 0, 1);
        huge.total = u64::MAX;
        assert!(inbox.take(FROM, &huge).is_err());
    }
}
