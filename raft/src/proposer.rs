//! Packs commands into log entries: one when idle, hundreds when busy.
//!
//! While few entries are under way a command goes out at once. While some are, commands gather until one of those is
//! done or the entry is full: the slower the disks, the larger the entries, without a timer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use openraft::async_runtime::WatchReceiver as _;
use openraft::errors::ClientWriteError;
use openraft::impls::ProgressResponder;
use riftmesh_base::limits::{BATCH_BYTES_MAX, BATCH_COMMANDS_MAX, ENTRIES_IN_FLIGHT_MAX};
use riftmesh_base::{Clock, LogIndex, Millis, Term, encode};
use riftmesh_statemachine::command::COMMAND_VERSION;
use riftmesh_statemachine::{Command, Reply};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};

use crate::clock::ClusterClock;
use crate::error::ProposeError;
use crate::machine::Machine;
use crate::types::{Core, Payload, Replies, TypeConfig};

/// Longest encoded command; with it an entry still fits the log and a message.
pub(crate) const COMMAND_BYTES_MAX: usize = 5 << 20;
/// Commands waiting to be packed at most.
const QUEUE_MAX: usize = 8_192;
/// Their bytes at most.
const QUEUE_BYTES_MAX: usize = 64 << 20;
/// While this many entries are under way, an entry waits to be filled.
const EAGER_ENTRIES: usize = 2;
/// Full entries under way at most; the bytes of a message bound it further.
const ENTRIES_MAX: usize = ENTRIES_IN_FLIGHT_MAX;
/// Cluster time moves at least this often while leading.
const CLOCK_TURN: Duration = Duration::from_millis(250);
/// Advice to those turned away.
const RETRY_AFTER: Millis = Millis(100);

type Outcome = Result<(LogIndex, Reply), ProposeError>;

/// A command's stage, so that a caller whose deadline passes knows whether it may have been carried out.
const QUEUED: u8 = 0;
const PACKED: u8 = 1;
const ABANDONED: u8 = 2;

struct Ticket {
    bytes: Vec<u8>,
    stage: Arc<AtomicU8>,
    reply: oneshot::Sender<Outcome>,
    _room: OwnedSemaphorePermit,
}

/// The proposer's front; clones share it.
#[derive(Clone)]
pub(crate) struct Proposer {
    queue: mpsc::Sender<Ticket>,
    room: Arc<Semaphore>,
}

impl Proposer {
    /// Starts the packing task on the current runtime. It ends when all fronts are dropped.
    pub fn start(core: Core, machine: Machine, clock: Arc<dyn Clock>) -> Self {
        let (queue, tickets) = mpsc::channel(QUEUE_MAX);
        let packer = Packer {
            core,
            machine,
            clock,
            cluster_clock: ClusterClock::default(),
            under_way: Arc::new(Semaphore::new(ENTRIES_MAX)),
            finished: Arc::new(Notify::new()),
            tickets,
        };
        tokio::spawn(packer.run());
        Self {
            queue,
            room: Arc::new(Semaphore::new(QUEUE_BYTES_MAX)),
        }
    }

    /// Proposes a command and waits for its reply.
    pub async fn propose(&self, command: &Command, deadline: Duration) -> Outcome {
        let until = Instant::now() + deadline;
        let bytes = encode(command);
        if bytes.len() > COMMAND_BYTES_MAX {
            return Err(ProposeError::TooLarge {
                bytes: bytes.len(),
                max: COMMAND_BYTES_MAX,
            });
        }
        let overloaded = ProposeError::Overloaded {
            retry_after: RETRY_AFTER,
        };
        let weight = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let Ok(room) = Arc::clone(&self.room).try_acquire_many_owned(weight) else {
            return Err(overloaded);
        };
        let stage = Arc::new(AtomicU8::new(QUEUED));
        let (reply, wait) = oneshot::channel();
        let ticket = Ticket {
            bytes,
            stage: Arc::clone(&stage),
            reply,
            _room: room,
        };
        match self.queue.try_send(ticket) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(_)) => return Err(overloaded),
            Err(mpsc::error::TrySendError::Closed(_)) => return Err(stopped()),
        }
        match timeout_at(until, wait).await {
            Ok(outcome) => outcome.unwrap_or_else(|_| Err(stopped())),
            Err(_) if abandon(&stage) => Err(overloaded),
            Err(_) => Err(ProposeError::Unknown(format!(
                "not committed within {}",
                Millis::from(deadline)
            ))),
        }
    }
}

fn stopped() -> ProposeError {
    ProposeError::Stopped("the node is shutting down".to_owned())
}

/// Takes a command back; false when it has been packed already.
fn abandon(stage: &AtomicU8) -> bool {
    let swap = stage.compare_exchange(QUEUED, ABANDONED, Ordering::AcqRel, Ordering::Acquire);
    swap.is_ok()
}

/// Claims a ticket for an entry; false when its caller gave up.
fn claim(ticket: &Ticket) -> bool {
    let swap = ticket
        .stage
        .compare_exchange(QUEUED, PACKED, Ordering::AcqRel, Ordering::Acquire);
    swap.is_ok()
}

struct Packer {
    core: Core,
    machine: Machine,
    clock: Arc<dyn Clock>,
    cluster_clock: ClusterClock,
    under_way: Arc<Semaphore>,
    finished: Arc<Notify>,
    tickets: mpsc::Receiver<Ticket>,
}

/// An entry being filled.
#[derive(Default)]
struct Filling {
    tickets: Vec<Ticket>,
    bytes: usize,
}

impl Filling {
    fn add(&mut self, ticket: Ticket) {
        self.bytes += ticket.bytes.len();
        self.tickets.push(ticket);
    }

    fn is_full(&self) -> bool {
        self.tickets.len() >= BATCH_COMMANDS_MAX || self.bytes >= BATCH_BYTES_MAX
    }
}

impl Packer {
    async fn run(mut self) {
        let mut turn = interval(CLOCK_TURN);
        turn.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                ticket = self.tickets.recv() => match ticket {
                    Some(ticket) => self.fill_and_send(ticket).await,
                    None => return,
                },
                _ = turn.tick() => {
                    self.cluster_time();
                }
            }
        }
    }

    async fn fill_and_send(&mut self, first: Ticket) {
        let mut filling = Filling::default();
        filling.add(first);
        let Ok(permit) = Arc::clone(&self.under_way).acquire_owned().await else {
            return;
        };
        self.take_waiting(&mut filling);
        while !filling.is_full() && self.entries_under_way() > EAGER_ENTRIES {
            tokio::select! {
                ticket = self.tickets.recv() => match ticket {
                    Some(ticket) => filling.add(ticket),
                    None => break,
                },
                () = self.finished.notified() => {}
            }
            self.take_waiting(&mut filling);
        }
        self.send(filling, permit).await;
    }

    /// How many entries hold a permit, the one being filled among them.
    fn entries_under_way(&self) -> usize {
        ENTRIES_MAX - self.under_way.available_permits()
    }

    fn take_waiting(&mut self, filling: &mut Filling) {
        while !filling.is_full()
            && let Ok(ticket) = self.tickets.try_recv()
        {
            filling.add(ticket);
        }
    }

    fn cluster_time(&mut self) -> Millis {
        let metrics = self.core.server_metrics();
        let leading = {
            let metrics = metrics.borrow_watched();
            metrics
                .state
                .is_leader()
                .then(|| Term(metrics.vote.leader_id().term))
        };
        let replicated = self.machine.read(|_, state| state.now());
        self.cluster_clock
            .turn(leading, self.clock.now(), replicated)
    }

    /// Hands an entry to openraft; a task of its own waits for the outcome and tells the callers.
    async fn send(&mut self, filling: Filling, permit: OwnedSemaphorePermit) {
        let tickets: Vec<Ticket> = filling.tickets.into_iter().filter(claim).collect();
        if tickets.is_empty() {
            return;
        }
        let commands = tickets.iter().map(|ticket| &ticket.bytes[..]);
        let payload = pack(self.cluster_time(), tickets.len(), commands);
        let (responder, outcome) = ProgressResponder::complete_only();
        let sent = self.core.client_write_ff(payload, Some(responder)).await;
        let finished = Arc::clone(&self.finished);
        tokio::spawn(async move {
            let outcome = match sent {
                Ok(()) => outcome.await.map_err(|_| "consensus ended".to_owned()),
                Err(fatal) => Err(fatal.to_string()),
            };
            drop(permit);
            finished.notify_one();
            match outcome {
                Ok(outcome) => deliver(tickets, outcome.map(|r| (r.log_id.index, r.data))),
                Err(reason) => fail(tickets, &ProposeError::Unknown(reason)),
            }
        });
    }
}

/// The bytes of a batch, put together from commands that are encoded already.
fn pack<'a>(now: Millis, count: usize, commands: impl Iterator<Item = &'a [u8]>) -> Payload {
    let mut bytes = encode(&(COMMAND_VERSION, now, count));
    commands.for_each(|command| bytes.extend_from_slice(command));
    Payload(bytes.into())
}

fn deliver(tickets: Vec<Ticket>, outcome: Result<(u64, Replies), ClientWriteError<TypeConfig>>) {
    match outcome {
        Ok((index, Replies(replies))) if replies.len() == tickets.len() => {
            for (ticket, reply) in tickets.into_iter().zip(replies) {
                answer(ticket, Ok((LogIndex(index), reply)));
            }
        }
        Ok((index, _)) => {
            let error = ProposeError::Unknown(format!("entry {index} lacks replies"));
            fail(tickets, &error);
        }
        Err(ClientWriteError::ForwardToLeader(_)) => {
            fail(tickets, &ProposeError::NotLeader { hint: None });
        }
        Err(other) => fail(tickets, &ProposeError::Unknown(other.to_string())),
    }
}

fn fail(tickets: Vec<Ticket>, error: &ProposeError) {
    for ticket in tickets {
        answer(ticket, Err(error.clone()));
    }
}

fn answer(ticket: Ticket, outcome: Outcome) {
    // Fails when the caller has gone.
    drop(ticket.reply.send(outcome));
}

#[cfg(test)]
mod tests {
    use super::*;
    use riftmesh_base::JobId;
    use riftmesh_statemachine::{Batch, Body};

    /// Commands encoded one by one and put together are the batch the state machine reads.
    #[test]
    fn a_packed_entry_is_a_batch() {
        let command = |job| Command {
            origin: None,
            body: Body::Cancel { job: JobId(job) },
        };
        for count in [0, 1, 3, 200] {
            let commands: Vec<Command> = (0..count).map(command).collect();
            let encoded: Vec<Vec<u8>> = commands.iter().map(encode).collect();
            let packed = pack(
                Millis(1_234),
                encoded.len(),
                encoded.iter().map(Vec::as_slice),
            );
            assert_eq!(*packed.0, *Batch::new(Millis(1_234), commands).to_bytes());
        }
    }
}
