//! A voter's disk in simulated time: changes wait, are written together, and are lost when the power goes before that.
//!
//! The disk outlives the voter. Each start of the voter is a life of its own, with a queue of its own; a crash ends the
//! life, keeps what was durable and, of what was waiting, a beginning of random length.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use riftmesh_base::Seed;
use riftmesh_raft::epoch::Epoch;
use riftmesh_raft::lines::{LogLine, VoteLine, log_line, vote_line};
use riftmesh_raft::{Disk, LogQueue, RaftStore};
use riftmesh_storage::{
    Ack, LogEngine as _, LogOp, MemoryLog, MemorySnapshots, StorageError, SyncTimes,
};
use tokio::sync::Notify;
use tokio::time::sleep;

/// How long a write with its sync takes on a healthy disk.
const HEALTHY: RangeInclusive<Duration> = Duration::from_micros(300)..=Duration::from_millis(6);

/// A log as an observer sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogPicture {
    /// The entries held.
    pub lines: BTreeMap<u64, LogLine>,
    /// The last index that was purged, zero for none.
    pub purged: u64,
    /// The vote.
    pub vote: Option<VoteLine>,
}

impl LogPicture {
    /// Changes the picture as the log changes.
    fn apply(&mut self, op: &LogOp) -> Result<(), StorageError> {
        let unreadable = |e: riftmesh_base::DecodeError| StorageError::Misuse(e.to_string());
        match op {
            LogOp::Append { index, bytes } => {
                self.lines
                    .insert(*index, log_line(bytes).map_err(unreadable)?);
            }
            LogOp::TruncateFrom(from) => drop(self.lines.split_off(from)),
            LogOp::Purge(point) => {
                self.lines = self.lines.split_off(&(point.index + 1));
                self.purged = self.purged.max(point.index);
            }
            LogOp::Vote(bytes) => self.vote = Some(vote_line(bytes).map_err(unreadable)?),
            LogOp::Committed(_) => {}
        }
        Ok(())
    }

    /// The index of the last entry, held or purged.
    pub fn last(&self) -> u64 {
        self.lines
            .last_key_value()
            .map_or(self.purged, |(last, _)| *last)
    }
}

struct Waiting {
    ops: Vec<LogOp>,
    ack: Ack,
}

struct Content {
    /// Counts the starts of the voter.
    life: u64,
    rng: StdRng,
    speed: RangeInclusive<Duration>,
    /// Handed over and not durable, in order.
    waiting: Vec<Waiting>,
    /// What the voter may read: durable, with what is waiting on top.
    accepted: Arc<LogPicture>,
    durable: Arc<LogPicture>,
}

/// One voter's disk. Clones share it.
#[derive(Clone)]
pub struct SimulatedDisk(Arc<Shared>);

struct Shared {
    log: Arc<MemoryLog>,
    snapshots: Arc<MemorySnapshots>,
    content: Mutex<Content>,
    wake: Notify,
}

impl SimulatedDisk {
    /// An empty disk.
    pub fn new(seed: Seed) -> Self {
        Self(Arc::new(Shared {
            log: Arc::default(),
            snapshots: Arc::default(),
            content: Mutex::new(Content {
                life: 0,
                rng: StdRng::seed_from_u64(seed.0),
                speed: HEALTHY,
                waiting: Vec::new(),
                accepted: Arc::default(),
                durable: Arc::default(),
            }),
            wake: Notify::new(),
        }))
    }

    /// Begins a life: what a voter that starts now is given.
    pub fn mount(&self) -> RaftStore {
        let life = self.content().life;
        tokio::spawn(self.clone().work(life));
        RaftStore {
            log: self.0.log.clone(),
            snapshots: self.0.snapshots.clone(),
            disk: Disk::Simulated(Arc::new(Mounted {
                disk: self.clone(),
                life,
            })),
            epoch: Epoch::default(),
        }
    }

    /// The power goes: what waits is lost but for a beginning that may have reached the platter, and nothing more is
    /// acknowledged in this life.
    pub fn crash(&self) {
        let mut content = self.content();
        content.life += 1;
        let waiting = std::mem::take(&mut content.waiting);
        let kept = content.rng.random_range(0..=waiting.len());
        for request in &waiting[..kept] {
            self.write(&mut content, &request.ops);
        }
        content.accepted = content.durable.clone();
        self.0.wake.notify_one();
    }

    /// From now on a write takes `factor` times as long as on a healthy disk.
    pub fn slow_down(&self, factor: u32) {
        self.content().speed = *HEALTHY.start() * factor..=*HEALTHY.end() * factor;
    }

    /// Pictures of the log: what the voter may read, and what would survive a crash.
    pub fn pictures(&self) -> (Arc<LogPicture>, Arc<LogPicture>) {
        let content = self.content();
        (content.accepted.clone(), content.durable.clone())
    }

    /// Writes what waits, all at once, until this life ends.
    async fn work(self, life: u64) {
        loop {
            let woken = self.0.wake.notified();
            let (delay, requests) = {
                let mut content = self.content();
                if content.life != life {
                    // The next life's writer may have missed this call.
                    self.0.wake.notify_one();
                    return;
                }
                let speed = content.speed.clone();
                (content.rng.random_range(speed), content.waiting.len())
            };
            if requests == 0 {
                woken.await;
                continue;
            }
            sleep(delay).await;
            let written: Vec<Waiting> = {
                let mut content = self.content();
                if content.life != life {
                    continue;
                }
                let written: Vec<Waiting> = content.waiting.drain(..requests).collect();
                for request in &written {
                    self.write(&mut content, &request.ops);
                }
                written
            };
            for request in written {
                (request.ack)(Ok(()));
            }
        }
    }

    #[expect(
        clippy::expect_used,
        reason = "memory does not fail, and the log store is correct or the simulation must stop"
    )]
    fn write(&self, content: &mut Content, ops: &[LogOp]) {
        self.0
            .log
            .write(ops)
            .expect("the log store writes what continues the log");
        let durable = Arc::make_mut(&mut content.durable);
        for op in ops {
            durable
                .apply(op)
                .expect("the log store writes entries and votes");
        }
    }

    fn content(&self) -> MutexGuard<'_, Content> {
        self.0
            .content
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// The disk in one life of its voter.
struct Mounted {
    disk: SimulatedDisk,
    life: u64,
}

impl LogQueue for Mounted {
    fn submit(&self, ops: Vec<LogOp>, ack: Ack) {
        let mut content = self.disk.content();
        if content.life != self.life {
            return;
        }
        let accepted = Arc::make_mut(&mut content.accepted);
        let understood = ops.iter().try_for_each(|op| accepted.apply(op));
        if let Err(error) = understood {
            drop(content);
            return ack(Err(error));
        }
        content.waiting.push(Waiting { ops, ack });
        drop(content);
        self.disk.0.wake.notify_one();
    }

    fn times(&self) -> SyncTimes {
        SyncTimes::default()
    }
}
