//! A voter, or a node that wants to be one: the whole interface of consensus.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use openraft::errors::{InitializeError, RaftError};
use riftmesh_base::{Clock, LogIndex, Millis, NodeId};
use riftmesh_statemachine::{Command, Reply, State};
use riftmesh_transport::SharedLink;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::config;
use crate::epoch::Epoch;
use crate::error::{MemberError, OpenError, ProposeError, ReadError};
use crate::heir;
use crate::inbox::SnapshotInbox;
use crate::log_store::LogStore;
use crate::machine::Machine;
use crate::members::Members;
use crate::mutants::{Mutant, is_planted};
use crate::network::Wires;
use crate::proposer::Proposer;
use crate::reads::{NoRound, ReadRounds};
use crate::saved::{SavedFile, SavedOrigin};
use crate::settings::{RaftSettings, RaftTimings};
use crate::status::{LeaderHint, RaftRole};
use crate::types::{Address, Core, LogId};
use crate::watch::Watch;
use crate::watchdog;
use crate::wire::{ReadRefusal, Request, Response};

/// How long a leader that stops waits for another to take over.
const HANDOVER_MAX: Duration = Duration::from_secs(2);

/// One node's consensus; clones share it.
///
/// It runs on the tokio runtime it was opened on, which should be one of its own: a voter whose runtime is busy with
/// other work loses its leadership. Requests from other voters are passed in with [`RaftNode::handle`].
#[derive(Clone)]
pub struct RaftNode(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub node: NodeId,
    pub timings: RaftTimings,
    pub core: Core,
    pub log: LogStore,
    pub machine: Machine,
    pub wires: Wires,
    pub epoch: Epoch,
    pub proposer: Proposer,
    pub reads: ReadRounds,
    pub members: Members,
    pub inbox: SnapshotInbox,
    pub clock: Arc<dyn Clock>,
    /// When a leader was last heard, on `clock`, plus one; zero for never.
    pub leader_heard: AtomicU64,
    pub death: watch::Receiver<Option<String>>,
    pub stopping: AtomicBool,
}

impl RaftNode {
    /// Starts the node on what its store holds: it resumes, or waits to be initialised or added.
    ///
    /// # Errors
    /// [`OpenError`]: nothing was started.
    pub async fn open(
        settings: RaftSettings,
        link: SharedLink,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, OpenError> {
        let config = config::effective(&settings.timings)?;
        let log = LogStore::open(settings.store.log, settings.store.disk.clone())?;
        let machine = Machine::open(settings.store.snapshots, settings.store.disk)?;
        let epoch = settings.store.epoch;
        let wires = Wires::new(
            link,
            epoch.clone(),
            settings.timings.election_min.duration(),
        );
        let core = Core::new(
            settings.node.0,
            config,
            wires.clone(),
            log.clone(),
            machine.clone(),
        )
        .await
        .map_err(|e| OpenError::Content(e.to_string()))?;
        let (dead, death) = watch::channel(None);
        watchdog::start(core.clone(), dead);
        let (members, membership_actor) = Members::new();
        let inner = Arc::new(Inner {
            node: settings.node,
            timings: settings.timings,
            proposer: Proposer::start(core.clone(), machine.clone(), Arc::clone(&clock)),
            reads: ReadRounds::start(core.clone()),
            members,
            core,
            log,
            machine,
            wires,
            epoch,
            inbox: SnapshotInbox::default(),
            clock,
            leader_heard: AtomicU64::new(0),
            death,
            stopping: AtomicBool::new(false),
        });
        tokio::spawn(membership_actor.run(Arc::downgrade(&inner)));
        heir::start(&inner);
        Ok(Self(inner))
    }

    /// This node.
    pub fn node(&self) -> NodeId {
        self.0.node
    }

    /// Writes the first entry of a new cluster: these voters, at these addresses (`host:port`). Only one node of a
    /// cluster may do it, and only once; see [`crate::bootstrap`].
    ///
    /// # Errors
    /// [`MemberError::Refused`] when this node has data already, or is not among the voters.
    pub async fn initialize(&self, voters: BTreeMap<NodeId, String>) -> Result<(), MemberError> {
        let voters: BTreeMap<u64, Address> = voters
            .into_iter()
            .map(|(node, address)| (node.0, Address(address)))
            .collect();
        self.0.core.initialize(voters).await.map_err(|e| match e {
            RaftError::APIError(InitializeError::NotAllowed(_)) => MemberError::Refused(
                "this node has data; a cluster is initialised once, on an empty node".to_owned(),
            ),
            RaftError::APIError(InitializeError::NotInMembers(_)) => {
                MemberError::Refused("the voters do not include this node".to_owned())
            }
            RaftError::Fatal(fatal) => MemberError::Stopped(fatal.to_string()),
        })
    }

    /// Proposes a command and waits until it is applied here. Many callers at once share log entries.
    ///
    /// # Errors
    /// [`ProposeError`]; only [`ProposeError::Unknown`] leaves open whether it was done.
    pub async fn propose(
        &self,
        command: Command,
        deadline: Duration,
    ) -> Result<(LogIndex, Reply), ProposeError> {
        if self.0.stopping.load(Ordering::Relaxed) {
            return Err(ProposeError::Stopped(
                "the node is shutting down".to_owned(),
            ));
        }
        let outcome = self.0.proposer.propose(&command, deadline).await;
        outcome.map_err(|error| match error {
            ProposeError::NotLeader { .. } => ProposeError::NotLeader { hint: self.hint() },
            other => other,
        })
    }

    /// Waits until this node's state is at least as new as anything that was acknowledged anywhere when the call
    /// began; gives the index it must have reached. A [`RaftNode::read`] afterwards is linearizable. A follower asks
    /// the leader for the index.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn linearizable(&self, deadline: Duration) -> Result<LogIndex, ReadError> {
        if is_planted(Mutant::LocalRead) {
            return Ok(self.read(|index, _| index));
        }
        let until = Instant::now() + deadline;
        let late = || ReadError::Late(deadline.into());
        let confirm = timeout_at(until, self.read_index(deadline));
        let index = confirm.await.map_err(|_| late())??;
        let mut applied = self.0.machine.index();
        let reached = timeout_at(until, applied.wait_for(|applied| *applied >= index)).await;
        match reached {
            Ok(Ok(_)) => Ok(index),
            Ok(Err(_)) => Err(ReadError::Stopped("the state machine has ended".to_owned())),
            Err(_) => Err(late()),
        }
    }

    async fn read_index(&self, deadline: Duration) -> Result<LogIndex, ReadError> {
        let answer = match self.own_read_index().await? {
            Err(ReadRefusal::NotLeader) => self.ask_leader(deadline).await?,
            own => own,
        };
        match answer {
            Ok(index) => Ok(LogIndex(index)),
            Err(ReadRefusal::NotLeader) => Err(ReadError::NoLeader),
            Err(ReadRefusal::NoQuorum(reason)) => Err(ReadError::NoQuorum(reason)),
        }
    }

    async fn own_read_index(&self) -> Result<Result<u64, ReadRefusal>, ReadError> {
        self.0.reads.index().await.map_err(|e| match e {
            NoRound::Full => ReadError::Overloaded {
                retry_after: Millis(100),
            },
            NoRound::Stopped => ReadError::Stopped("the node is shutting down".to_owned()),
        })
    }

    async fn ask_leader(&self, deadline: Duration) -> Result<Result<u64, ReadRefusal>, ReadError> {
        let hint = self.hint().filter(|hint| hint.node != self.0.node);
        let Some(LeaderHint { node, address }) = hint else {
            return Err(ReadError::NoLeader);
        };
        let call = self
            .0
            .wires
            .call(node.0, &address, Request::ReadIndex, deadline);
        match call.await {
            Ok(Response::ReadIndex(answer)) => Ok(answer),
            Ok(other) => Err(ReadError::NoQuorum(format!("{node} answered {other:?}"))),
            Err(error) => Err(ReadError::NoQuorum(format!("leader {node}: {error}"))),
        }
    }

    /// Looks at this node's state, however old it is, with the index it stands at. Applying waits meanwhile: copy out
    /// what is needed and return.
    pub fn read<T>(&self, look: impl FnOnce(LogIndex, &State) -> T) -> T {
        self.0.machine.read(look)
    }

    /// The applied index, as it moves.
    pub fn applied(&self) -> watch::Receiver<LogIndex> {
        self.0.machine.index()
    }

    /// What happens to this node's state from now on; with `after`, also what happened to it after that entry, as far
    /// back as changes are kept.
    pub fn subscribe(&self, after: Option<LogIndex>) -> Watch {
        self.0.machine.feed().watch(after)
    }

    /// Why consensus has died on this node, once it has: the process should end, and be restarted. Pends for ever
    /// while the node lives.
    pub fn death(&self) -> impl Future<Output = String> + Send + use<> {
        let mut death = self.0.death.clone();
        async move {
            let reason = death.wait_for(Option::is_some).await;
            match reason.map(|reason| reason.clone()) {
                Ok(Some(reason)) => reason,
                // The watchdog ended because the node was shut down on purpose.
                _ => std::future::pending().await,
            }
        }
    }

    /// Notes where a member is reached now. Used ahead of the address in the log, which stays as it is.
    pub fn note_address(&self, node: NodeId, address: SocketAddr) {
        self.0.wires.note_address(node, address);
    }

    /// Makes a snapshot of everything applied so far and waits until it is on disk; gives the last entry it covers.
    ///
    /// # Errors
    /// [`MemberError::Unknown`] when it is not there in time: it may still come.
    pub async fn snapshot(&self, deadline: Duration) -> Result<LogIndex, MemberError> {
        let goal = self.status().applied.unwrap_or_default();
        let trigger = self.0.core.trigger().snapshot().await;
        trigger.map_err(|fatal| MemberError::Stopped(fatal.to_string()))?;
        let covered = |id: Option<LogId>| id.map_or(LogIndex(0), |id| LogIndex(id.index));
        let wait = self.0.core.wait(Some(deadline));
        let made = wait
            .metrics(|metrics| covered(metrics.snapshot) >= goal, "a snapshot")
            .await;
        made.map(|metrics| covered(metrics.snapshot)).map_err(|_| {
            MemberError::Unknown(format!(
                "the snapshot up to entry {goal} is not there after {}; `raft status` shows when it is",
                Millis::from(deadline)
            ))
        })
    }

    /// The newest snapshot on disk, to be kept elsewhere.
    ///
    /// # Errors
    /// [`OpenError::Content`] when there is none, else what the disk says.
    pub async fn saved(&self) -> Result<SavedFile, OpenError> {
        let machine = self.0.machine.clone();
        let loaded = tokio::task::spawn_blocking(move || machine.load())
            .await
            .map_err(|e| OpenError::Content(e.to_string()))?;
        let none = || OpenError::Content("there is no snapshot yet".to_owned());
        Ok(SavedFile {
            origin: SavedOrigin {
                cluster: self.read(|_, state| state.cluster()),
                epoch: self.0.epoch.get(),
                node: self.0.node,
            },
            snapshot: loaded?.ok_or_else(none)?,
        })
    }

    /// Stops: takes no more proposals, hands leadership over if it has it and somebody can take it, then ends.
    /// Requests from other voters are refused from then on.
    pub async fn shutdown(&self) {
        self.0.stopping.store(true, Ordering::Relaxed);
        if self.status().role == RaftRole::Leader
            && let Err(error) = self.transfer_leader(None, HANDOVER_MAX).await
        {
            tracing::info!(%error, "stopping without handing leadership over");
        }
        self.halt().await;
    }

    /// Stops at once, without handing anything over, as a crash would.
    pub async fn halt(&self) {
        self.0.stopping.store(true, Ordering::Relaxed);
        if let Err(error) = self.0.core.shutdown().await {
            tracing::error!(%error, "consensus did not end cleanly");
        }
    }
}
