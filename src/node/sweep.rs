//! Removes from this node's disk what the cluster has no use for any more: segments that fell out of the ledger, models that
//! fell out of the registry, checkpoints of jobs that are over.
//!
//! Whenever a blob is seen to be named, its file is touched; one that nobody has named for long enough goes. So the time
//! survives a restart, and a node that comes back after days asks before it removes anything.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use riftmesh_base::time::wall_clock;
use riftmesh_base::{BlobHash, Millis};
use riftmesh_statemachine::State;
use riftmesh_statemachine::archive::ArchiveBatch;
use riftmesh_storage::{BlobStore, StorageError};
use tokio::sync::watch;
use tokio::time::sleep;

use crate::client::{Client, deadlines};
use crate::duration::parse_duration;
use crate::protocol::{LOCATE_BLOBS_MAX, Request, Response};

/// How long a blob stays that nothing names.
const KEEP_UNNAMED: &str = "blobs.keep-unnamed";
/// Long enough to put an older snapshot of the state back, whose blobs are then all still here.
const KEEP_DEFAULT: Millis = Millis::from_secs(24 * 3_600);
/// Time between two looks: a quarter of what a blob is kept for, within these bounds.
const EVERY_MIN: Duration = Duration::from_secs(1);
const EVERY_MAX: Duration = Duration::from_secs(600);

/// What the settings say about how long to keep what nothing names.
///
/// # Errors
/// The setting makes no sense; the text names it.
pub fn keep_unnamed(state: &State) -> Result<Millis, String> {
    let Some(setting) = state.setting(KEEP_UNNAMED) else {
        return Ok(KEEP_DEFAULT);
    };
    let keep = parse_duration(&setting.value);
    keep.map(Millis::from)
        .map_err(|reason| format!("setting {KEEP_UNNAMED} is `{}`: {reason}", setting.value))
}

/// The sweeper of one node.
pub struct Sweeper {
    pub store: Arc<BlobStore>,
    pub client: Client,
}

/// What a look found.
struct Found {
    named: Vec<BlobHash>,
    unnamed: BTreeSet<BlobHash>,
    keep: Millis,
}

impl Sweeper {
    /// Sweeps until `stopping` turns true.
    pub async fn run(self, mut stopping: watch::Receiver<bool>) {
        tokio::select! {
            () = self.rounds() => {}
            // An error means that the node is gone, which is a stop as well.
            _ = stopping.wait_for(|stop| *stop) => {}
        }
    }

    async fn rounds(&self) {
        let mut before = BTreeSet::new();
        loop {
            let keep = match self.sweep(&before).await {
                Ok(found) => {
                    before = found.unnamed;
                    found.keep
                }
                Err(error) => {
                    tracing::warn!("what is of no use stays on this disk for now: {error:#}");
                    KEEP_DEFAULT
                }
            };
            sleep((keep.duration() / 4).clamp(EVERY_MIN, EVERY_MAX)).await;
        }
    }

    /// One round. Only what was not named in the round `before` either is removed, so that a wall clock that jumps takes
    /// nothing away that is just about to be named.
    async fn sweep(&self, before: &BTreeSet<BlobHash>) -> anyhow::Result<Found> {
        let store = Arc::clone(&self.store);
        let here = tokio::task::spawn_blocking(move || store.list()).await??;
        let here: Vec<_> = here.into_iter().map(|(hash, _)| hash).collect();
        let found = self.look(&here).await?;
        let doubtful: Vec<_> = found.unnamed.intersection(before).copied().collect();
        let (store, named, keep) = (Arc::clone(&self.store), found.named.clone(), found.keep);
        let settled = move || settle(&store, &named, &doubtful, wall_clock(), keep);
        let removed = tokio::task::spawn_blocking(settled).await??;
        if removed > 0 {
            tracing::info!(removed, "removed blobs that nothing has named for {keep}");
        }
        Ok(found)
    }

    async fn look(&self, here: &[BlobHash]) -> anyhow::Result<Found> {
        let mut found = Found {
            named: Vec::new(),
            unnamed: here.iter().copied().collect(),
            keep: KEEP_DEFAULT,
        };
        // Asked with nothing to ask for too: the answer says how often to look.
        let nothing = here.is_empty().then_some(here);
        for blobs in here.chunks(LOCATE_BLOBS_MAX).chain(nothing) {
            let blobs = blobs.to_vec();
            let request = Request::Named { blobs };
            match self.client.ask_leader(request, deadlines::COMMAND).await? {
                Response::Named { blobs, keep } => {
                    found.named.extend(blobs);
                    found.keep = keep;
                }
                Response::Invalid { reason } => bail!(reason),
                other => bail!("unexpected answer {other:?}"),
            }
        }
        for blob in &found.named {
            found.unnamed.remove(blob);
        }
        Ok(found)
    }
}

/// Touches what is named, and removes what is doubtful, has not been named for `keep`, and is no part of the archive. Gives
/// how many were removed.
fn settle(
    store: &BlobStore,
    named: &[BlobHash],
    doubtful: &[BlobHash],
    now: Millis,
    keep: Millis,
) -> Result<usize, StorageError> {
    for blob in named.iter().filter(|blob| store.contains(blob)) {
        store.touch(blob)?;
    }
    let mut removed = 0;
    for blob in doubtful.iter().filter(|blob| store.contains(blob)) {
        let is_old = now.since(store.last_use(blob)?) >= keep;
        if is_old && !store.begins_with(blob, ArchiveBatch::begins())? {
            store.remove(blob)?;
            removed += 1;
        }
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::time::UNIX_EPOCH;

    use riftmesh_statemachine::archive::{ArchiveLink, walk};

    use super::*;

    const NOW: Millis = Millis(2_000_000_000_000);
    const KEEP: Millis = Millis::from_secs(60);

    /// A blob that was last of use so long before now.
    fn put(store: &BlobStore, bytes: &[u8], age: Millis) -> BlobHash {
        let hash = store.put(bytes).unwrap();
        let file = File::open(store.path(&hash)).unwrap();
        let at = UNIX_EPOCH + NOW.since(age).duration();
        file.set_modified(at).unwrap();
        hash
    }

    /// Only what is doubtful and old goes; what is named becomes young; an archive of jobs stays whole for ever.
    #[test]
    fn only_what_is_of_no_use_goes() {
        let dir = tempfile::tempdir().unwrap();
        let store = BlobStore::open(dir.path()).unwrap();
        let old = KEEP + Millis(1);
        let batch = ArchiveBatch {
            number: 1,
            previous: None,
            cluster: None,
            closed: Millis(0),
            jobs: Vec::new(),
        };
        let archived = put(&store, &batch.to_bytes(), old);
        let [named, useless] = [b"named", b"loose"].map(|bytes| put(&store, bytes, old));
        let young = put(&store, b"young", KEEP.since(Millis(1)));
        let news = put(&store, b"not looked at twice", old);
        let doubtful = [archived, useless, young];
        assert_eq!(settle(&store, &[named], &doubtful, NOW, KEEP).unwrap(), 1);
        let here: BTreeSet<_> = store
            .list()
            .unwrap()
            .into_iter()
            .map(|(hash, _)| hash)
            .collect();
        assert_eq!(here, BTreeSet::from([archived, named, young, news]));
        // The clock of this machine is not `NOW`, but it is not that long ago either.
        assert_ne!(store.last_use(&named).unwrap(), NOW.since(old));
        let head = ArchiveLink {
            number: 1,
            hash: archived,
        };
        let read = |hash: &BlobHash| store.read(hash).map_err(|error| error.to_string());
        assert_eq!(walk(Some(head), 2, read).broken, None);
    }

    /// What was removed may come again under its name, and counts as young then.
    #[test]
    fn a_blob_that_is_put_again_is_young() {
        let dir = tempfile::tempdir().unwrap();
        let store = BlobStore::open(dir.path()).unwrap();
        let blob = put(&store, b"again", NOW);
        assert_eq!(store.last_use(&blob).unwrap(), Millis(0));
        let before = wall_clock();
        store.put(b"again").unwrap();
        // File systems may keep seconds only.
        assert!(store.last_use(&blob).unwrap() + Millis::from_secs(2) >= before);
    }
}
