//! openraft's state machine over the replicated state: applies entries, answers their proposers, tells watchers, and
//! makes and installs snapshots.

use std::io;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use futures::{Stream, TryStreamExt};
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend, RaftSnapshotBuilder};
use riftmesh_base::{LogIndex, decode, encode};
use riftmesh_statemachine::{Batch, Effect, State};
use riftmesh_storage::{SavedSnapshot, SnapshotSlot, StorageError};
use tokio::sync::watch;

use crate::disk::Disk;
use crate::error::OpenError;
use crate::types::{Entry, Image, LogId, Membership, Replies, Snapshot, SnapshotMeta, TypeConfig};
use crate::watch::Feed;

/// A shared handle; clones are the same machine.
#[derive(Clone)]
pub(crate) struct Machine(Arc<Shared>);

struct Shared {
    applied: RwLock<Replica>,
    slot: Arc<dyn SnapshotSlot>,
    disk: Disk,
    /// Last log id of the snapshot in the slot; held while the slot is written.
    saved: Mutex<Option<LogId>>,
    feed: Feed,
    index: watch::Sender<LogIndex>,
}

/// The state and where it stands; never one without the other.
#[derive(Clone)]
pub(crate) struct Replica {
    pub state: State,
    pub last: Option<LogId>,
    pub membership: Membership,
}

impl Replica {
    /// The replica that a snapshot holds.
    pub fn of(saved: &SavedSnapshot) -> Result<Self, OpenError> {
        let (last, membership) =
            decode(&saved.meta).map_err(|e| OpenError::Content(format!("snapshot: {e}")))?;
        let state = State::restore(&saved.image)
            .map_err(|e| OpenError::Content(format!("snapshot: {e}")))?;
        Ok(Self {
            state,
            last,
            membership,
        })
    }

    fn new() -> Self {
        Self {
            state: State::new(),
            last: None,
            membership: Membership::default(),
        }
    }
}

impl Machine {
    /// The machine as the slot's snapshot left it, or a new one.
    pub fn open(slot: Arc<dyn SnapshotSlot>, disk: Disk) -> Result<Self, OpenError> {
        let applied = match slot.load()? {
            Some(saved) => Replica::of(&saved)?,
            None => Replica::new(),
        };
        let saved = applied.last;
        let index = watch::Sender::new(index_of(applied.last));
        Ok(Self(Arc::new(Shared {
            applied: RwLock::new(applied),
            slot,
            disk,
            saved: Mutex::new(saved),
            feed: Feed::new(index_of(saved)),
            index,
        })))
    }

    /// Looks at the state together with the index it stands at. Applying waits meanwhile: keep it short.
    pub fn read<T>(&self, look: impl FnOnce(LogIndex, &State) -> T) -> T {
        let applied = self.applied();
        look(index_of(applied.last), &applied.state)
    }

    /// The applied index, as it moves.
    pub fn index(&self) -> watch::Receiver<LogIndex> {
        self.0.index.subscribe()
    }

    /// What happens from now on.
    pub fn feed(&self) -> &Feed {
        &self.0.feed
    }

    /// Applies an entry from the log of a node that does not run.
    pub fn replay(&self, entry: Entry) -> Result<(), OpenError> {
        let applied = self.apply_entry(entry);
        applied
            .map(drop)
            .map_err(|e| OpenError::Content(e.to_string()))
    }

    /// The snapshot in the slot; blocks on the disk.
    pub fn load(&self) -> Result<Option<SavedSnapshot>, StorageError> {
        self.0.slot.load()
    }

    /// A copy of the whole.
    pub fn replica(&self) -> Replica {
        self.applied().clone()
    }

    /// The state's image. Applying waits meanwhile.
    fn image(&self) -> Snapshot {
        let applied = self.applied();
        Snapshot {
            meta: SnapshotMeta {
                last_log_id: applied.last,
                last_membership: applied.membership.clone(),
            },
            snapshot: Image(Arc::new(applied.state.snapshot())),
        }
    }

    fn applied(&self) -> RwLockReadGuard<'_, Replica> {
        self.0
            .applied
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn applied_mut(&self) -> RwLockWriteGuard<'_, Replica> {
        self.0
            .applied
            .write()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Applies one entry. An entry that this build cannot read is not applied: the core stops before it.
    fn apply_entry(&self, entry: Entry) -> Result<(Replies, Vec<Effect>), io::Error> {
        let index = LogIndex(entry.log_id.index);
        let batch = match &entry.payload {
            EntryPayload::Normal(payload) => Some(
                Batch::from_bytes(&payload.0)
                    .map_err(|e| io::Error::other(format!("log entry {index}: {e}")))?,
            ),
            EntryPayload::Blank | EntryPayload::Membership(_) => None,
        };
        let mut applied = self.applied_mut();
        if let Some(batch) = &batch {
            let check = applied.state.check(batch);
            check.map_err(|e| io::Error::other(format!("log entry {index}: {e}")))?;
        }
        let (replies, effects) = match &batch {
            Some(batch) => applied.state.apply(index, batch),
            None => (Vec::new(), Vec::new()),
        };
        applied.last = Some(entry.log_id);
        if let EntryPayload::Membership(members) = entry.payload {
            applied.membership = Membership::new(Some(entry.log_id), members);
        }
        Ok((Replies(replies), effects))
    }

    /// Puts a snapshot in the slot unless a newer one is there; blocks on the disk.
    fn save(&self, meta: &SnapshotMeta, image: &Image) -> Result<(), io::Error> {
        let mut saved = self.0.saved.lock().unwrap_or_else(PoisonError::into_inner);
        if *saved > meta.last_log_id {
            return Ok(());
        }
        let bytes = encode(&(&meta.last_log_id, &meta.last_membership));
        self.0
            .slot
            .save(&bytes, &image.0)
            .map_err(io::Error::other)?;
        *saved = meta.last_log_id;
        Ok(())
    }

    async fn save_aside(&self, meta: SnapshotMeta, image: Image) -> Result<(), io::Error> {
        let machine = self.clone();
        self.0.disk.run(move || machine.save(&meta, &image)).await?
    }
}

fn index_of(last: Option<LogId>) -> LogIndex {
    LogIndex(last.map_or(0, |id| id.index))
}

impl RaftStateMachine<TypeConfig> for Machine {
    type SnapshotData = Image;
    type SnapshotBuilder = Frozen;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, Membership), io::Error> {
        let applied = self.applied();
        Ok((applied.last, applied.membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        while let Some((entry, responder)) = entries.try_next().await? {
            let index = LogIndex(entry.log_id.index);
            let (replies, effects) = self.apply_entry(entry)?;
            self.0.index.send_replace(index);
            if let Some(responder) = responder {
                responder.send(replies);
            }
            self.0.feed.applied(index, effects);
        }
        Ok(())
    }

    /// The image is made at once, while nothing is applied: a copy of the state to make it from later would take as long
    /// and several times the memory.
    async fn get_snapshot_builder(&mut self) -> Frozen {
        let machine = self.clone();
        Frozen {
            image: self.0.disk.run(move || machine.image()).await,
            machine: self.clone(),
        }
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        image: Image,
    ) -> Result<(), io::Error> {
        let bytes = Arc::clone(&image.0);
        let restore = move || State::restore(&bytes);
        let state = self
            .0
            .disk
            .run(restore)
            .await?
            .map_err(|e| io::Error::other(format!("the leader's snapshot: {e}")))?;
        self.save_aside(meta.clone(), image).await?;
        *self.applied_mut() = Replica {
            state,
            last: meta.last_log_id,
            membership: meta.last_membership.clone(),
        };
        let index = index_of(meta.last_log_id);
        self.0.index.send_replace(index);
        self.0.feed.gap(index);
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, io::Error> {
        let slot = Arc::clone(&self.0.slot);
        let loaded = self.0.disk.run(move || slot.load()).await?;
        let Some(SavedSnapshot { meta, image }) = loaded.map_err(io::Error::other)? else {
            return Ok(None);
        };
        let (last_log_id, last_membership) = decode(&meta).map_err(io::Error::other)?;
        Ok(Some(Snapshot {
            meta: SnapshotMeta {
                last_log_id,
                last_membership,
            },
            snapshot: Image(Arc::new(image)),
        }))
    }
}

/// The state as it was, to be saved while applying goes on.
pub(crate) struct Frozen {
    image: Result<Snapshot, io::Error>,
    machine: Machine,
}

impl RaftSnapshotBuilder<TypeConfig> for Frozen {
    type SnapshotData = Image;

    async fn build_snapshot(&mut self) -> Result<Snapshot, io::Error> {
        let built = Err(io::Error::other("a snapshot builder builds once"));
        let snapshot = std::mem::replace(&mut self.image, built)?;
        self.machine
            .save_aside(snapshot.meta.clone(), snapshot.snapshot.clone())
            .await?;
        Ok(snapshot)
    }
}
