//! The disk thread: takes changes from a bounded queue, writes all that is waiting in one go, syncs once, then
//! acknowledges each (group commit).

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::error::StorageError;
use crate::log::{LogEngine, LogOp};

/// Called exactly once, on the disk thread, when the changes are durable or have failed. Must not block.
pub type Ack = Box<dyn FnOnce(Result<(), StorageError>) + Send>;

/// Bytes of entries after which a batch is closed.
const BATCH_BYTES: usize = 8 << 20;
/// How many sync times are remembered.
const TIMES_KEPT: usize = 512;

struct Request {
    ops: Vec<LogOp>,
    ack: Ack,
}

/// How long the last writes took, syncs included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SyncTimes {
    /// The median.
    pub p50: Duration,
    /// The slowest hundredth begins here.
    pub p99: Duration,
    /// Writes since the thread started.
    pub writes: u64,
    /// Requests acknowledged by these writes.
    pub requests: u64,
}

#[derive(Debug, Default)]
struct Times {
    last: VecDeque<Duration>,
    writes: u64,
    requests: u64,
}

/// The disk thread's front. Dropping it writes what is queued, then ends the thread.
#[derive(Debug)]
pub struct LogWriter {
    queue: Option<SyncSender<Request>>,
    queue_max: usize,
    times: Arc<Mutex<Times>>,
    thread: Option<JoinHandle<()>>,
}

impl LogWriter {
    /// Starts the thread. At most `queue_max` requests wait.
    ///
    /// # Errors
    /// [`StorageError::Stopped`] when the operating system gives no thread.
    pub fn start(engine: Arc<dyn LogEngine>, queue_max: usize) -> Result<Self, StorageError> {
        let (queue, requests) = sync_channel(queue_max);
        let times = Arc::new(Mutex::new(Times::default()));
        let seen = Arc::clone(&times);
        let thread = thread::Builder::new()
            .name("log-writer".to_owned())
            .spawn(move || run(&*engine, &requests, &seen))
            .map_err(|e| StorageError::Stopped(format!("no thread for the log: {e}")))?;
        Ok(Self {
            queue: Some(queue),
            queue_max,
            times,
            thread: Some(thread),
        })
    }

    /// How many requests may wait.
    pub fn queue_max(&self) -> usize {
        self.queue_max
    }

    /// Queues changes; never blocks. `ack` is called once they are durable, or have failed, or at once with
    /// [`StorageError::Stopped`] when the queue is full: callers keep count of what they have outstanding.
    pub fn submit(&self, ops: Vec<LogOp>, ack: Ack) {
        let request = Request { ops, ack };
        let sent = match &self.queue {
            Some(queue) => queue.try_send(request),
            None => Err(TrySendError::Disconnected(request)),
        };
        match sent {
            Ok(()) => {}
            Err(TrySendError::Full(request)) => (request.ack)(Err(StorageError::Stopped(format!(
                "more than {} writes are waiting",
                self.queue_max
            )))),
            Err(TrySendError::Disconnected(request)) => (request.ack)(Err(StorageError::Stopped(
                "the log's thread has ended".to_owned(),
            ))),
        }
    }

    /// How long the last writes took.
    pub fn times(&self) -> SyncTimes {
        let times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        let mut sorted: Vec<Duration> = times.last.iter().copied().collect();
        sorted.sort_unstable();
        let at = |percent: usize| {
            let index = sorted.len().saturating_sub(1) * percent / 100;
            sorted.get(index).copied().unwrap_or_default()
        };
        SyncTimes {
            p50: at(50),
            p99: at(99),
            writes: times.writes,
            requests: times.requests,
        }
    }
}

impl Drop for LogWriter {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the log's thread panicked");
        }
    }
}

fn run(engine: &dyn LogEngine, requests: &Receiver<Request>, times: &Mutex<Times>) {
    while let Ok(first) = requests.recv() {
        let (ops, acks) = gather(first, requests);
        let began = Instant::now();
        let result = engine.write(&ops);
        note(times, began.elapsed(), acks.len());
        if let Err(error) = &result {
            tracing::error!(%error, "writing the log failed");
        }
        for ack in acks {
            ack(result.clone());
        }
    }
}

/// Everything that is waiting, up to a bound.
fn gather(first: Request, requests: &Receiver<Request>) -> (Vec<LogOp>, Vec<Ack>) {
    let (mut ops, mut acks) = (first.ops, vec![first.ack]);
    let mut bytes = size(&ops);
    while bytes < BATCH_BYTES
        && let Ok(next) = requests.try_recv()
    {
        bytes += size(&next.ops);
        ops.extend(next.ops);
        acks.push(next.ack);
    }
    (ops, acks)
}

fn size(ops: &[LogOp]) -> usize {
    ops.iter()
        .map(|op| match op {
            LogOp::Append { bytes, .. } => bytes.len(),
            LogOp::TruncateFrom(_) | LogOp::Purge(_) | LogOp::Vote(_) | LogOp::Committed(_) => 0,
        })
        .sum()
}

fn note(times: &Mutex<Times>, took: Duration, requests: usize) {
    let mut times = times.lock().unwrap_or_else(PoisonError::into_inner);
    if times.last.len() == TIMES_KEPT {
        times.last.pop_front();
    }
    times.last.push_back(took);
    times.writes += 1;
    times.requests += requests as u64;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::LogHead;
    use std::sync::mpsc::channel;

    /// An engine that waits for leave before each write, and fails when told so.
    struct Gate {
        leave: Mutex<Receiver<bool>>,
        writes: Mutex<Vec<usize>>,
    }

    impl LogEngine for Gate {
        fn head(&self) -> Result<LogHead, StorageError> {
            Ok(LogHead::default())
        }
        fn write(&self, ops: &[LogOp]) -> Result<(), StorageError> {
            let good = self.leave.lock().unwrap().recv().unwrap();
            self.writes.lock().unwrap().push(ops.len());
            if good {
                Ok(())
            } else {
                Err(StorageError::Stopped("no disk".to_owned()))
            }
        }
        fn read(&self, _: u64, _: u64, _: usize) -> Result<Vec<(u64, Vec<u8>)>, StorageError> {
            Ok(Vec::new())
        }
    }

    fn gated(queue: usize) -> (Arc<Gate>, std::sync::mpsc::Sender<bool>, LogWriter) {
        let (leave, wait) = channel();
        let gate = Arc::new(Gate {
            leave: Mutex::new(wait),
            writes: Mutex::new(Vec::new()),
        });
        let writer = LogWriter::start(gate.clone(), queue).unwrap();
        (gate, leave, writer)
    }

    /// What waits while the disk is busy shares the next write, and every request is acknowledged once, in order.
    #[test]
    fn waiting_requests_share_one_write() {
        let (gate, leave, writer) = gated(16);
        let (acked, acks) = channel();
        for i in 0..10 {
            let acked = acked.clone();
            let ack = Box::new(move |result: Result<(), _>| acked.send((i, result)).unwrap());
            writer.submit(vec![LogOp::Vote(vec![i])], ack);
        }
        for _ in 0..10 {
            leave.send(true).unwrap();
        }
        let order: Vec<u8> = acks
            .iter()
            .take(10)
            .map(|(i, result)| {
                result.unwrap();
                i
            })
            .collect();
        assert_eq!(order, (0..10).collect::<Vec<_>>());
        let writes = gate.writes.lock().unwrap().clone();
        assert!(writes.len() <= 3, "{writes:?}");
        assert_eq!(writes.iter().sum::<usize>(), 10);
    }

    /// A failed write fails everyone who shared it; a full queue answers at once instead of blocking.
    #[test]
    fn failures_and_fullness_are_answers() {
        let (_gate, leave, writer) = gated(1);
        let (acked, acks) = channel();
        for _ in 0..4 {
            let acked = acked.clone();
            writer.submit(
                Vec::new(),
                Box::new(move |result| acked.send(result).unwrap()),
            );
        }
        assert!(
            matches!(acks.recv().unwrap(), Err(StorageError::Stopped(reason)) if reason.contains("waiting"))
        );
        for _ in 0..4 {
            leave.send(false).unwrap();
        }
        drop(writer);
        drop(acked);
        assert!(acks.iter().all(|result| result.is_err()));
    }
}
