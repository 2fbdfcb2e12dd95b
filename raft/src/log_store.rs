//! openraft's log store over [`LogEngine`]: entries are readable at once, written and synced by the disk thread, and
//! acknowledged in groups.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::{Stream, StreamExt, stream};
use openraft::storage::{IOFlushed, RaftLogStorage};
use openraft::{EntryPayload, LogState, OptionalSend, RaftLogReader};
use riftmesh_base::{decode, encode};
use riftmesh_storage::{LogEngine, LogOp, PurgePoint, StorageError, SyncTimes};
use tokio::sync::{Semaphore, oneshot};

use crate::disk::{Disk, LogQueue, WRITES_WAITING_MAX};
use crate::error::OpenError;
use crate::mutants::{Mutant, is_planted};
use crate::types::{Entry, LogId, TypeConfig, Vote};

/// Bytes of recent entries kept in memory for replication.
const CACHE_BYTES: usize = 32 << 20;
/// Once a read has passed this many bytes it ends; with the longest entry it still fits one message.
const READ_BYTES: usize = 1 << 20;

/// A shared handle; clones are the same log.
#[derive(Clone)]
pub(crate) struct LogStore(Arc<Shared>);

struct Shared {
    engine: Arc<dyn LogEngine>,
    disk: Disk,
    writer: Arc<dyn LogQueue>,
    /// One permit per place in the writer's queue, so that a full queue makes writers wait instead of failing.
    room: Arc<Semaphore>,
    /// Shared with the acknowledgements under way; those must not keep the writer alive, whose end waits for them.
    view: Arc<Mutex<View>>,
}

/// What is known without asking the disk, ahead of it by the writes under way.
#[derive(Debug, Default)]
struct View {
    vote: Option<Vote>,
    purged: Option<LogId>,
    last: Option<LogId>,
    committed: Option<LogId>,
    /// Whether `committed` has to go out with the next write. It never causes a write: a restart re-learns it.
    committed_unsaved: bool,
    /// The newest entries without a gap, up to the last.
    cache: BTreeMap<u64, Entry>,
    cache_bytes: usize,
    /// Everything up to here is on disk.
    durable: u64,
}

fn lock(view: &Mutex<View>) -> MutexGuard<'_, View> {
    view.lock().unwrap_or_else(PoisonError::into_inner)
}

impl LogStore {
    /// Starts writing to `engine` on `disk` and reads what it holds.
    pub fn open(engine: Arc<dyn LogEngine>, disk: Disk) -> Result<Self, OpenError> {
        let head = engine.head()?;
        let content = |e: riftmesh_base::DecodeError| OpenError::Content(format!("log: {e}"));
        let known = head.purged.as_ref();
        let known = known.filter(|_| !is_planted(Mutant::ForgetPurgePoint));
        let purged: Option<LogId> = match known {
            Some(point) => Some(decode(&point.mark).map_err(content)?),
            None => None,
        };
        let last = match head.entries {
            Some((_, last)) => Some(last_id(&*engine, last)?),
            None => purged,
        };
        let vote = head.vote.as_deref().map(decode).transpose();
        let committed = head.committed.as_deref().map(decode::<LogId>).transpose();
        let view = View {
            vote: vote.map_err(content)?,
            committed: committed
                .map_err(content)?
                .filter(|id| Some(id) <= last.as_ref()),
            durable: last.map_or(0, |id| id.index),
            purged,
            last,
            ..View::default()
        };
        Ok(Self(Arc::new(Shared {
            writer: disk.queue(&engine)?,
            disk,
            engine,
            room: Arc::new(Semaphore::new(WRITES_WAITING_MAX)),
            view: Arc::new(Mutex::new(view)),
        })))
    }

    /// Whether anything was ever written to it; known from the moment it is opened.
    pub fn has_entries(&self) -> bool {
        self.view().last.is_some()
    }

    /// How long the last writes took.
    pub fn sync_times(&self) -> SyncTimes {
        self.0.writer.times()
    }

    fn view(&self) -> MutexGuard<'_, View> {
        lock(&self.0.view)
    }

    /// Queues changes; `done` is called from the disk thread.
    async fn submit(
        &self,
        ops: Vec<LogOp>,
        done: impl FnOnce(Result<(), io::Error>) + Send + 'static,
    ) -> Result<(), io::Error> {
        let room = Arc::clone(&self.0.room);
        let permit = room.acquire_owned().await.map_err(io::Error::other)?;
        let ack = move |result: Result<(), StorageError>| {
            drop(permit);
            done(result.map_err(io::Error::other));
        };
        self.0.writer.submit(ops, Box::new(ack));
        Ok(())
    }

    /// Returns when the change is durable, and with it all that were queued before.
    async fn write(&self, op: LogOp) -> Result<(), io::Error> {
        let (done, wait) = oneshot::channel();
        let tell = move |result| {
            // The core that waits may be shutting down.
            drop(done.send(result));
        };
        self.submit(vec![op], tell).await?;
        wait.await.map_err(io::Error::other)?
    }

    /// Entries of `from..to`, ending early once `bytes_max` is passed: the older ones from the engine, the newer ones
    /// from memory.
    async fn read(&self, from: u64, to: u64, bytes_max: usize) -> Result<Vec<Entry>, io::Error> {
        let (from, cached, first_cached) = {
            let view = self.view();
            let from = view.purged.map_or(from, |id| from.max(id.index + 1));
            let to = to.min(view.last.map_or(0, |id| id.index + 1));
            if from >= to {
                return Ok(Vec::new());
            }
            let first = view
                .cache
                .keys()
                .next()
                .map_or(to, |first| (*first).clamp(from, to));
            let newer = view.cache.range(first..to).map(|(_, entry)| entry);
            let cached = within(newer, bytes_max);
            (from, cached, first)
        };
        if from == first_cached {
            return Ok(cached);
        }
        let engine = Arc::clone(&self.0.engine);
        let read = move || engine.read(from, first_cached, bytes_max);
        let stored = self.0.disk.run(read).await?;
        let mut entries = Vec::new();
        for (index, bytes) in stored.map_err(io::Error::other)? {
            let entry: Entry =
                decode(&bytes).map_err(|e| io::Error::other(format!("log entry {index}: {e}")))?;
            entries.push(entry);
        }
        // Only a complete older part may be continued by the newer one. Nothing at all is complete: the engine gives
        // at least one entry if it has any.
        let complete = |last: &Entry| last.log_id.index + 1 == first_cached;
        if entries.last().is_none_or(complete) {
            entries.extend(cached);
        }
        Ok(within(&entries, bytes_max))
    }
}

/// The first entries, ending with the one that passes `bytes_max`. A clone shares its content.
fn within<'a>(entries: impl IntoIterator<Item = &'a Entry>, bytes_max: usize) -> Vec<Entry> {
    let mut bytes = 0;
    let fitting = entries.into_iter().take_while(|entry| {
        let fits = bytes <= bytes_max;
        bytes += size(entry);
        fits
    });
    fitting.cloned().collect()
}

fn last_id(engine: &dyn LogEngine, last: u64) -> Result<LogId, OpenError> {
    let entries = engine.read(last, last + 1, 0)?;
    let missing = || OpenError::Content(format!("the last log entry, {last}, is missing"));
    let (_, bytes) = entries.first().ok_or_else(missing)?;
    let entry: Entry =
        decode(bytes).map_err(|e| OpenError::Content(format!("log entry {last}: {e}")))?;
    Ok(entry.log_id)
}

fn size(entry: &Entry) -> usize {
    match &entry.payload {
        EntryPayload::Normal(payload) => payload.0.len(),
        EntryPayload::Blank | EntryPayload::Membership(_) => 256,
    }
}

impl View {
    fn push(&mut self, entry: Entry) {
        self.last = Some(entry.log_id);
        self.cache_bytes += size(&entry);
        self.cache.insert(entry.log_id.index, entry);
    }

    /// Forgets what the disk has, oldest first, until the cache is within its bound.
    fn evict(&mut self) {
        while self.cache_bytes > CACHE_BYTES
            && let Some(first) = self.cache.first_entry()
            && *first.key() <= self.durable
        {
            self.cache_bytes -= size(&first.remove());
        }
    }

    fn drop_after(&mut self, last: Option<LogId>) {
        if self.last.map(|own| own.index) <= last.map(|id| id.index) {
            return;
        }
        let removed = self.cache.split_off(&last.map_or(0, |id| id.index + 1));
        self.cache_bytes -= removed.values().map(size).sum::<usize>();
        self.last = last.or(self.purged);
    }

    fn drop_until(&mut self, purged: LogId) {
        let kept = self.cache.split_off(&(purged.index + 1));
        let removed = std::mem::replace(&mut self.cache, kept);
        self.cache_bytes -= removed.values().map(size).sum::<usize>();
        self.purged = self.purged.max(Some(purged));
        if self.last.is_none_or(|last| last.index < purged.index) {
            self.last = Some(purged);
        }
    }
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn entries_stream<RB>(
        &mut self,
        range: RB,
    ) -> impl Stream<Item = Result<Entry, io::Error>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let (from, to) = bounds(&range);
        let chunks = stream::try_unfold((self.clone(), from), move |(log, from)| async move {
            let entries = log.read(from, to, READ_BYTES).await?;
            let next = from.max(entries.last().map_or(from, |entry| entry.log_id.index + 1));
            Ok((!entries.is_empty()).then_some((entries, (log, next))))
        });
        let entries = chunks.map(|chunk: Result<Vec<Entry>, io::Error>| match chunk {
            Ok(entries) => stream::iter(entries.into_iter().map(Ok).collect::<Vec<_>>()),
            Err(error) => stream::iter(vec![Err(error)]),
        });
        Box::pin(entries.flatten())
    }

    async fn try_get_log_entries<RB>(&mut self, range: RB) -> Result<Vec<Entry>, io::Error>
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let (from, to) = bounds(&range);
        self.read(from, to, usize::MAX).await
    }

    async fn limited_get_log_entries(
        &mut self,
        from: u64,
        to: u64,
    ) -> Result<Vec<Entry>, io::Error> {
        self.read(from, to, READ_BYTES).await
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.view().vote)
    }
}

/// As `from..to`.
fn bounds(range: &impl RangeBounds<u64>) -> (u64, u64) {
    let from = match range.start_bound() {
        Bound::Included(from) => *from,
        Bound::Excluded(before) => before + 1,
        Bound::Unbounded => 0,
    };
    let to = match range.end_bound() {
        Bound::Included(last) => last + 1,
        Bound::Excluded(to) => *to,
        Bound::Unbounded => u64::MAX,
    };
    (from, to)
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        let view = self.view();
        Ok(LogState {
            last_purged_log_id: view.purged,
            last_log_id: view.last,
        })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        if is_planted(Mutant::VoteNotDurable) {
            self.submit(vec![LogOp::Vote(encode(vote))], drop).await?;
        } else {
            self.write(LogOp::Vote(encode(vote))).await?;
        }
        self.view().vote = Some(*vote);
        Ok(())
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        let mut view = self.view();
        view.committed = committed;
        view.committed_unsaved = true;
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        Ok(self.view().committed)
    }

    async fn append<I>(
        &mut self,
        entries: I,
        callback: IOFlushed<TypeConfig>,
    ) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        let mut ops: Vec<LogOp> = entries
            .iter()
            .map(|entry| LogOp::Append {
                index: entry.log_id.index,
                bytes: encode(entry),
            })
            .collect();
        {
            let mut view = self.view();
            entries.into_iter().for_each(|entry| view.push(entry));
            if std::mem::take(&mut view.committed_unsaved)
                && let Some(committed) = view.committed
            {
                ops.push(LogOp::Committed(encode(&committed)));
            }
        }
        if is_planted(Mutant::AckBeforeSync) {
            callback.io_completed(Ok(()));
            return self.submit(ops, drop).await;
        }
        let last = self.view().last.map_or(0, |id| id.index);
        let view = Arc::clone(&self.0.view);
        let done = move |result: Result<(), io::Error>| {
            if result.is_ok() {
                let mut view = lock(&view);
                view.durable = view.durable.max(last);
                view.evict();
            }
            callback.io_completed(result);
        };
        self.submit(ops, done).await
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> Result<(), io::Error> {
        let from = last.map_or(0, |id| id.index + 1);
        self.view().drop_after(last);
        self.write(LogOp::TruncateFrom(from)).await?;
        let mut view = self.view();
        view.durable = view.durable.min(from.saturating_sub(1));
        Ok(())
    }

    async fn purge(&mut self, upto: LogId) -> Result<(), io::Error> {
        self.view().drop_until(upto);
        let point = PurgePoint {
            index: upto.index,
            mark: encode(&upto),
        };
        self.write(LogOp::Purge(point)).await
    }
}
