//! Puts snapshots together from the parts they arrive in: at most one per sender, bounded, and whole or not at all.
//!
//! A part may come twice, because its sender did not hear that it was taken. A repeat changes nothing, and the last
//! part's repeat waits for the same installation instead of beginning another.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use futures::FutureExt as _;
use futures::future::Shared;
use openraft::raft::SnapshotResponse;
use riftmesh_base::limits::SNAPSHOT_BYTES_MAX;
use riftmesh_base::{BlobHash, NodeId};
use riftmesh_transport::BoxFuture;

use crate::types::{Image, TypeConfig, Vote};
use crate::wire::SnapshotPart;

/// What came of an installation, for everybody who waits for it.
pub(crate) type Installed =
    Shared<BoxFuture<'static, Result<SnapshotResponse<TypeConfig>, String>>>;

/// What has arrived so far.
#[derive(Default)]
pub(crate) struct SnapshotInbox(Mutex<BTreeMap<NodeId, Transfer>>);

/// One sender's transfer.
struct Transfer {
    hash: BlobHash,
    phase: Phase,
}

enum Phase {
    Arriving(Vec<u8>),
    /// Under the vote it was sent with.
    Installing(Vote, Installed),
}

/// What a part led to.
pub(crate) enum Taken {
    /// More has to come.
    Part,
    /// The image is whole and being installed.
    Installing(Installed),
}

impl SnapshotInbox {
    /// Takes a part. Once the image is whole `install` begins its installation.
    ///
    /// # Errors
    /// When the part does not continue what is here, is over the bound, or the whole does not hash to its name: the
    /// sender is at fault and starts again.
    pub fn take(
        &self,
        from: NodeId,
        part: &SnapshotPart,
        install: impl FnOnce(Image) -> BoxFuture<'static, Result<SnapshotResponse<TypeConfig>, String>>,
    ) -> Result<Taken, String> {
        let mut inbox = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let transfer = inbox.remove(&from).filter(|t| t.hash == part.hash);
        let bytes = match transfer.map(|transfer| transfer.phase) {
            Some(Phase::Installing(vote, installed)) if is_repeat(part, &vote, &installed) => {
                let again = Taken::Installing(installed.clone());
                let phase = Phase::Installing(vote, installed);
                inbox.insert(from, Transfer::of(part, phase));
                return Ok(again);
            }
            Some(Phase::Arriving(bytes)) => bytes,
            Some(Phase::Installing(..)) | None => Vec::new(),
        };
        let bytes = joined(bytes, part)?;
        if (bytes.len() as u64) < part.total {
            inbox.insert(from, Transfer::of(part, Phase::Arriving(bytes)));
            return Ok(Taken::Part);
        }
        if BlobHash::of(&bytes) != part.hash {
            return Err("the image does not hash to its name".to_owned());
        }
        let installed = install(Image(Arc::new(bytes))).shared();
        let phase = Phase::Installing(part.vote, installed.clone());
        inbox.insert(from, Transfer::of(part, phase));
        Ok(Taken::Installing(installed))
    }
}

impl Transfer {
    fn of(part: &SnapshotPart, phase: Phase) -> Self {
        Self {
            hash: part.hash,
            phase,
        }
    }
}

/// Whether the part is the last of an image that is being installed, or was. One that could not be is begun anew.
fn is_repeat(part: &SnapshotPart, vote: &Vote, installed: &Installed) -> bool {
    let failed = matches!(installed.peek(), Some(Err(_)));
    let end = part.offset.saturating_add(part.bytes.0.len() as u64);
    part.vote == *vote && end == part.total && !failed
}

/// What is here with the part behind it; as it is when it holds the part already. A part at 0 begins anew if it
/// brings anything new.
fn joined(mut bytes: Vec<u8>, part: &SnapshotPart) -> Result<Vec<u8>, String> {
    if part.total > SNAPSHOT_BYTES_MAX as u64 {
        return Err(format!(
            "a snapshot of {} bytes is over the bound",
            part.total
        ));
    }
    let here = bytes.len() as u64;
    let end = part.offset.saturating_add(part.bytes.0.len() as u64);
    if end > part.total {
        return Err(format!("{end} bytes came for an image of {}", part.total));
    }
    if end <= here && here < part.total {
        return Ok(bytes);
    }
    if part.offset == 0 {
        bytes.clear();
    } else if part.offset != here {
        return Err(format!("part at {} does not continue {here}", part.offset));
    }
    bytes.extend_from_slice(&part.bytes.0);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Membership, Payload};
    use std::sync::atomic::{AtomicUsize, Ordering};

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

    /// An inbox, and the images whose installation it began.
    #[derive(Default)]
    struct Desk {
        inbox: SnapshotInbox,
        begun: AtomicUsize,
    }

    impl Desk {
        /// Takes a part; gives the image when its installation began now, and whether it is being installed.
        fn take(
            &self,
            from: NodeId,
            part: &SnapshotPart,
        ) -> Result<(Option<Vec<u8>>, bool), String> {
            self.take_with(from, part, Ok(SnapshotResponse::new(part.vote)))
        }

        fn take_with(
            &self,
            from: NodeId,
            part: &SnapshotPart,
            outcome: Result<SnapshotResponse<TypeConfig>, String>,
        ) -> Result<(Option<Vec<u8>>, bool), String> {
            let mut whole = None;
            let taken = self.inbox.take(from, part, |image| {
                self.begun.fetch_add(1, Ordering::Relaxed);
                whole = Some(image.0.to_vec());
                std::future::ready(outcome).boxed()
            })?;
            let installing = match taken {
                Taken::Part => false,
                Taken::Installing(installed) => {
                    drop(installed.now_or_never());
                    true
                }
            };
            Ok((whole, installing))
        }
    }

    /// Parts in order make the image; a transfer of another image forgets the one before.
    #[test]
    fn parts_make_the_image() {
        let (desk, image) = (Desk::default(), b"abcdefgh");
        assert_eq!(desk.take(FROM, &part(b"another", 0, 3)), Ok((None, false)));
        assert_eq!(desk.take(FROM, &part(image, 0, 3)), Ok((None, false)));
        assert_eq!(desk.take(FROM, &part(image, 0, 5)), Ok((None, false)));
        assert_eq!(desk.take(NodeId(2), &part(b"zz", 0, 1)), Ok((None, false)));
        let whole = desk.take(FROM, &part(image, 5, 3)).unwrap();
        assert_eq!(whole, (Some(image.to_vec()), true));
        let empty = desk.take(FROM, &part(b"", 0, 0)).unwrap();
        assert_eq!(empty, (Some(Vec::new()), true));
    }

    /// A part that comes again changes nothing, however late; the last one shares the installation. A sender that
    /// begins again finds what it has sent already.
    #[test]
    fn repeats_change_nothing() {
        let (desk, image) = (Desk::default(), b"abcdefgh");
        for part in [part(image, 0, 3), part(image, 3, 3)] {
            for _ in 0..3 {
                assert_eq!(desk.take(FROM, &part), Ok((None, false)));
            }
        }
        assert_eq!(desk.take(FROM, &part(image, 0, 3)), Ok((None, false)));
        let last = part(image, 6, 2);
        assert_eq!(desk.take(FROM, &last), Ok((Some(image.to_vec()), true)));
        assert_eq!(desk.take(FROM, &last), Ok((None, true)));
        assert_eq!(desk.begun.load(Ordering::Relaxed), 1);
    }

    /// An installation that failed is not shared, nor is one under another vote.
    #[test]
    fn what_failed_is_begun_anew() {
        let (desk, whole) = (Desk::default(), part(b"abcdefgh", 0, 8));
        let failed = desk.take_with(FROM, &whole, Err("no disk".to_owned()));
        assert!(failed.unwrap().0.is_some());
        assert!(desk.take(FROM, &whole).unwrap().0.is_some());
        let mut later = part(b"abcdefgh", 0, 8);
        later.vote = Vote::new(2, 1);
        assert!(desk.take(FROM, &later).unwrap().0.is_some());
        assert!(desk.take(FROM, &later).unwrap().0.is_none());
    }

    /// Gaps, too much, and bytes that are not what they claim to be are refused, and the transfer starts anew.
    #[test]
    fn wrong_parts_are_refused() {
        let (desk, image) = (Desk::default(), b"abcdefgh");
        desk.take(FROM, &part(image, 0, 3)).unwrap();
        assert!(desk.take(FROM, &part(image, 4, 2)).is_err());
        assert!(
            desk.take(FROM, &part(image, 3, 2)).is_err(),
            "the transfer was dropped"
        );
        let mut long = part(image, 0, 8);
        long.total = 4;
        assert!(desk.take(FROM, &long).is_err());
        let mut forged = part(image, 0, 8);
        forged.hash = BlobHash::of(b"other");
        assert!(desk.take(FROM, &forged).is_err());
        let mut huge = part(image, 0, 1);
        huge.total = u64::MAX;
        assert!(desk.take(FROM, &huge).is_err());
        let mut far = part(image, 1, 2);
        far.offset = u64::MAX;
        assert!(desk.take(FROM, &far).is_err());
    }
}
