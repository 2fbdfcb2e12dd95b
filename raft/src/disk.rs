//! Where a node's disk work happens: on threads of their own, or in simulated time.

use std::io;
use std::sync::Arc;

use riftmesh_storage::{Ack, LogEngine, LogOp, LogWriter, StorageError, SyncTimes};

/// Writes waiting for the disk at most.
pub const WRITES_WAITING_MAX: usize = 1_024;

/// Takes changes of the log in order, makes them durable, and acknowledges each.
pub trait LogQueue: Send + Sync + 'static {
    /// Queues changes; never blocks. `ack` is called exactly once, when they and all before them are durable or have
    /// failed. A simulated crash drops it uncalled.
    fn submit(&self, ops: Vec<LogOp>, ack: Ack);

    /// How long the last writes took.
    fn times(&self) -> SyncTimes;
}

impl LogQueue for LogWriter {
    fn submit(&self, ops: Vec<LogOp>, ack: Ack) {
        Self::submit(self, ops, ack);
    }

    fn times(&self) -> SyncTimes {
        Self::times(self)
    }
}

/// Where a node's disk work happens.
#[derive(Clone)]
pub enum Disk {
    /// The log is written by a thread of its own; reads and snapshots run on tokio's threads for blocking work.
    Threads,
    /// The log is written by this queue; everything else runs where it is called, which must not block. Nothing
    /// depends on threads then, so that tests with paused time can repeat a run exactly.
    Simulated(Arc<dyn LogQueue>),
}

impl Disk {
    /// What writes `engine`.
    ///
    /// # Errors
    /// [`StorageError::Stopped`] when the operating system gives no thread.
    pub(crate) fn queue(
        &self,
        engine: &Arc<dyn LogEngine>,
    ) -> Result<Arc<dyn LogQueue>, StorageError> {
        match self {
            Self::Threads => Ok(Arc::new(LogWriter::start(
                Arc::clone(engine),
                WRITES_WAITING_MAX,
            )?)),
            Self::Simulated(queue) => Ok(Arc::clone(queue)),
        }
    }

    /// Runs work that may block on a disk, or is long.
    ///
    /// # Errors
    /// It panicked, or the runtime is shutting down.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<T> {
        match self {
            Self::Threads => tokio::task::spawn_blocking(work)
                .await
                .map_err(io::Error::other),
            Self::Simulated(_) => Ok(work()),
        }
    }
}
