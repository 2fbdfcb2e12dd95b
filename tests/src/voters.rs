//! Voters of the product, openraft included, in one thread on paused time: simulated disks, a simulated network with
//! gates, and what their clients share.
//!
//! Nothing here reads a clock or starts a thread, so a process that also controls its entropy runs a seed the same way
//! each time; see `tests/simulation`. World time, which leases and clients live by, runs [`SPEED`] times as fast as
//! the time elections live by, so that leases run out within seconds.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use riftmesh_base::{BlobHash, Clock, LogIndex, Millis, NodeId, Seed};
use riftmesh_raft::{
    MemberError, OpenError, RaftNode, RaftRole, RaftSettings, RaftStatus, RaftTimings,
};
use riftmesh_statemachine::State;
use riftmesh_transport::memory::MemoryNetwork;
use riftmesh_transport::{BoxFuture, Handler, Lane, Link, Peer, Refused};
use tokio::time::Instant;

use crate::checker::{Checker, Sight};
use crate::disk::SimulatedDisk;
use crate::gate::{Gate, GatedLink};
use crate::oracle::Oracle;
use crate::trace::Trace;

/// World milliseconds per millisecond of elections and disks.
pub const SPEED: u64 = 20;

/// Why a voter or a group of voters could not be brought up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormError {
    /// A voter did not start.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The first entry was refused.
    #[error(transparent)]
    Initialize(#[from] MemberError),
}

/// Serves a voter's Raft lane until the voter is taken away.
struct Serve(Mutex<Option<RaftNode>>);

impl Handler for Serve {
    fn call(&self, from: Peer, _: Lane, request: Bytes) -> BoxFuture<'_, Result<Bytes, Refused>> {
        let node = lock(&self.0).clone();
        Box::pin(async move {
            match node {
                Some(node) => node.handle(from.node, request).await,
                None => Err(Refused("gone".to_owned())),
            }
        })
    }

    fn datagram(&self, _: Peer, _: Bytes) {}

    fn blob(&self, _: Peer, _: BlobHash) -> Option<PathBuf> {
        None
    }
}

/// One machine: a disk, and a voter when it is up.
struct Machine {
    disk: SimulatedDisk,
    gate: Gate,
    /// Counts the starts.
    life: u64,
    up: Option<(RaftNode, Arc<Serve>)>,
    /// Taken out of the group for good.
    retired: bool,
    /// Where its state was last compared with the others'.
    compared: LogIndex,
}

/// Voters, what their disks hold, and what everybody outside shares.
pub struct Voters {
    /// The weather between them.
    pub network: MemoryNetwork,
    /// What clients were promised.
    pub oracle: Mutex<Oracle>,
    /// What must hold among voters.
    pub checker: Mutex<Checker>,
    /// What happened.
    pub trace: Mutex<Trace>,
    seed: Seed,
    machines: Mutex<BTreeMap<u64, Machine>>,
    started: Instant,
}

/// The guarded value, whatever befell an earlier holder.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where machine `number` is reached.
pub fn address(number: u64) -> SocketAddr {
    // A run starts a few dozen machines.
    SocketAddr::from(([127, 0, 0, 1], 7_000 + number as u16))
}

impl Voters {
    /// A group of `count` voters that has been initialised.
    ///
    /// # Errors
    /// [`FormError`].
    pub async fn form(count: u64, seed: Seed) -> Result<Arc<Self>, FormError> {
        let voters = Arc::new(Self {
            network: MemoryNetwork::new(seed.derive("network", 0)),
            oracle: Mutex::default(),
            checker: Mutex::default(),
            trace: Mutex::default(),
            seed,
            machines: Mutex::default(),
            started: Instant::now(),
        });
        for _ in 0..count {
            voters.add_machine().await?;
        }
        let members = (1..=count).map(|n| (NodeId(n), address(n).to_string()));
        if let Some(first) = voters.node(1) {
            first.initialize(members.collect()).await?;
        }
        Ok(voters)
    }

    /// Starts a machine with an empty disk and a new number, which it gives. It belongs to no group yet.
    ///
    /// # Errors
    /// [`FormError::Open`].
    pub async fn add_machine(&self) -> Result<u64, FormError> {
        let number = {
            let mut machines = lock(&self.machines);
            let number = machines.last_key_value().map_or(0, |(last, _)| *last) + 1;
            let machine = Machine {
                disk: SimulatedDisk::new(self.seed.derive("disk", number)),
                gate: Gate::default(),
                life: 0,
                up: None,
                retired: false,
                compared: LogIndex(0),
            };
            machines.insert(number, machine);
            number
        };
        self.start(number).await?;
        Ok(number)
    }

    /// Starts the voter of a machine that is down on what its disk holds.
    ///
    /// # Errors
    /// [`FormError::Open`]: what it holds cannot be used.
    pub async fn start(&self, number: u64) -> Result<(), FormError> {
        let link = self.network.link(NodeId(number), address(number));
        let (store, gate) = {
            let mut machines = lock(&self.machines);
            let Some(machine) = machines.get_mut(&number) else {
                return Ok(());
            };
            machine.life += 1;
            (machine.disk.mount(), machine.gate.clone())
        };
        let settings = RaftSettings {
            node: NodeId(number),
            store,
            timings: RaftTimings {
                snapshot_every: 120,
                entries_kept: 60,
                learner_steady: Millis(1_500),
                ..RaftTimings::default()
            },
        };
        let link = Arc::new(GatedLink { link, gate });
        let clock: Arc<dyn Clock> = Arc::new(WorldClock(self.started));
        let node = RaftNode::open(settings, link.clone(), clock).await?;
        let serve = Arc::new(Serve(Mutex::new(Some(node.clone()))));
        link.serve(serve.clone());
        if let Some(machine) = lock(&self.machines).get_mut(&number) {
            machine.up = Some((node, serve));
        }
        self.note(&format!("{number} up"));
        Ok(())
    }

    /// Cuts the power of machine `number`, if it is up: what it had not synced is lost.
    pub async fn crash(&self, number: u64) {
        let gone = {
            let mut machines = lock(&self.machines);
            machines.get_mut(&number).and_then(|machine| {
                machine.gate.set_open(true);
                machine.disk.crash();
                machine.up.take()
            })
        };
        let Some((node, serve)) = gone else {
            return;
        };
        self.network.stop(NodeId(number));
        lock(&serve.0).take();
        self.note(&format!("{number} down"));
        node.halt().await;
    }

    /// Replaces the disk of a machine that is down by an empty one: what nobody may do to a voter that keeps its id.
    pub fn wipe(&self, number: u64) {
        if let Some(machine) = lock(&self.machines).get_mut(&number)
            && machine.up.is_none()
        {
            let life = machine.life;
            machine.disk =
                SimulatedDisk::new(self.seed.derive("disk", number).derive("life", life));
        }
    }

    /// Takes a machine away for good. Its disk is still looked at.
    pub async fn retire(&self, number: u64) {
        if let Some(machine) = lock(&self.machines).get_mut(&number) {
            machine.retired = true;
        }
        self.crash(number).await;
    }

    /// Shuts or opens a machine's gate: a pause, as far as others can tell.
    pub fn set_paused(&self, number: u64, paused: bool) {
        if let Some(machine) = lock(&self.machines).get(&number) {
            machine.gate.set_open(!paused);
        }
    }

    /// Makes a machine's disk `factor` times as slow as a healthy one.
    pub fn slow_disk(&self, number: u64, factor: u32) {
        if let Some(machine) = lock(&self.machines).get(&number) {
            machine.disk.slow_down(factor);
        }
    }

    /// Machines that were not retired.
    pub fn numbers(&self) -> Vec<u64> {
        let machines = lock(&self.machines);
        let there = machines.iter().filter(|(_, machine)| !machine.retired);
        there.map(|(number, _)| *number).collect()
    }

    /// Machines that are up.
    pub fn running(&self) -> Vec<u64> {
        let machines = lock(&self.machines);
        let up = machines.iter().filter(|(_, machine)| machine.up.is_some());
        up.map(|(number, _)| *number).collect()
    }

    /// The voter of a machine, if it is up.
    pub fn node(&self, number: u64) -> Option<RaftNode> {
        let machines = lock(&self.machines);
        machines
            .get(&number)?
            .up
            .as_ref()
            .map(|(node, _)| node.clone())
    }

    /// A machine's gate.
    pub fn gate(&self, number: u64) -> Option<Gate> {
        lock(&self.machines)
            .get(&number)
            .map(|machine| machine.gate.clone())
    }

    /// The voter that leads with a quorum, if one does.
    pub fn leader(&self) -> Option<RaftNode> {
        let machines = lock(&self.machines);
        let nodes = machines.values().filter_map(|machine| machine.up.as_ref());
        let leads = |status: &RaftStatus| status.role == RaftRole::Leader && status.has_quorum;
        let leaders = nodes.map(|(node, _)| (node.status(), node));
        let newest = leaders
            .filter(|(status, _)| leads(status))
            .max_by_key(|(status, _)| status.term);
        newest.map(|(_, node)| node.clone())
    }

    /// World time since the beginning.
    pub fn now(&self) -> Millis {
        Millis(Millis::from(self.started.elapsed()).0 * SPEED)
    }

    /// Time since the beginning, as elections count it.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Adds a line to the trace.
    pub fn note(&self, line: &str) {
        lock(&self.trace).note(self.started.elapsed(), line);
    }

    /// Looks at every voter once: at its log, its status, and its state where that has moved.
    pub fn look(&self) {
        let mut machines = lock(&self.machines);
        let mut trace = lock(&self.trace);
        let mut pictures = Vec::new();
        for (&number, machine) in machines.iter_mut() {
            let node = machine.up.as_ref().map(|(node, _)| node);
            let status = node.map(RaftNode::status);
            if let Some(reason) = status.as_ref().and_then(|status| status.dead.clone()) {
                lock(&self.checker).died(NodeId(number), reason);
            }
            if let Some((index, hash)) = node.and_then(|node| state_beyond(node, machine.compared))
            {
                machine.compared = index;
                lock(&self.oracle).replica_at(index, hash);
            }
            trace.status(self.started.elapsed(), number, status.as_ref());
            pictures.push((
                NodeId(number),
                machine.life,
                status,
                machine.disk.pictures(),
            ));
        }
        let sights = pictures
            .iter()
            .map(|(node, life, status, (accepted, durable))| Sight {
                node: *node,
                life: *life,
                status: status.clone(),
                accepted,
                durable,
            });
        lock(&self.checker).look(&sights.collect::<Vec<_>>());
    }

    /// The index every voter of the group stands at, and the leader's state, once they all stand at the same one and
    /// everything that was acknowledged is finished.
    pub fn settled(&self) -> Option<State> {
        let leader = self.leader()?;
        let status = leader.status();
        let index = status.applied?;
        for member in status.members.iter().filter(|member| member.voter) {
            let applied = self.node(member.node.0)?.read(|index, _| index);
            if applied != index {
                return None;
            }
        }
        let oracle = lock(&self.oracle);
        leader.read(|_, state| oracle.is_settled(state).then(|| state.clone()))
    }
}

/// Where a node's state stands and its hash, if it has moved beyond `compared`.
fn state_beyond(node: &RaftNode, compared: LogIndex) -> Option<(LogIndex, BlobHash)> {
    node.read(|index, state| (index > compared).then(|| (index, state.hash())))
}

/// Paused time at world speed.
struct WorldClock(Instant);

impl Clock for WorldClock {
    fn now(&self) -> Millis {
        Millis(Millis::from(self.0.elapsed()).0 * SPEED)
    }
}
