//! Whole groups of voters in one process, over the in-memory network, in real time.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use riftmesh_base::{BlobHash, Clock, LogIndex, Millis, NodeId, Seed, SystemClock};
use riftmesh_statemachine::job::{JobKind, JobSpec};
use riftmesh_statemachine::{Body, Command, Effect, Origin, Reply};
use riftmesh_storage::{LogEngine, LogHead, LogOp, MemoryLog, MemorySnapshots, StorageError};
use riftmesh_transport::memory::MemoryNetwork;
use riftmesh_transport::{BoxFuture, Handler, Lane, Link, Peer, Refused};
use tokio::time::{Instant, sleep};

use crate::epoch::Epoch;
use crate::error::{ProposeError, ReadError};
use crate::node::RaftNode;
use crate::settings::{RaftSettings, RaftStore, RaftTimings};
use crate::status::RaftRole;
use crate::watch::Change;

pub(crate) const SOON: Duration = Duration::from_secs(20);

/// Serves a node's Raft lane until the node is taken away.
struct Serve(Mutex<Option<RaftNode>>);

impl Handler for Serve {
    fn call(&self, from: Peer, _: Lane, request: Bytes) -> BoxFuture<'_, Result<Bytes, Refused>> {
        let node = self.0.lock().unwrap().clone();
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

pub(crate) struct Group {
    network: MemoryNetwork,
    timings: RaftTimings,
    stores: BTreeMap<u64, RaftStore>,
    nodes: BTreeMap<u64, (RaftNode, Arc<Serve>)>,
}

pub(crate) fn address(i: u64) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 7_000 + u16::try_from(i).unwrap()))
}

fn job(payload: usize) -> JobSpec {
    let configuration = "hex8_2p".parse().unwrap();
    JobSpec::plain(JobKind::Selfplay, configuration, "x".repeat(payload))
}

pub(crate) fn submit(jobs: usize, payload: usize) -> Command {
    Command {
        origin: None,
        body: Body::Submit {
            jobs: vec![job(payload); jobs],
        },
    }
}

/// Waits for a fact, with its name for the failure.
pub(crate) async fn until<T>(what: &str, mut fact: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + SOON;
    loop {
        if let Some(found) = fact() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        sleep(Duration::from_millis(5)).await;
    }
}

impl Group {
    /// Empty nodes 1 to `n`, running.
    pub(crate) async fn empty(n: u64, timings: RaftTimings) -> Self {
        let mut group = Self {
            network: MemoryNetwork::new(Seed(1)),
            timings,
            stores: (1..=n).map(|i| (i, RaftStore::in_memory())).collect(),
            nodes: BTreeMap::new(),
        };
        for i in 1..=n {
            group.start(i).await;
        }
        group
    }

    /// A group of `n` voters with a leader.
    pub(crate) async fn of(n: u64, timings: RaftTimings) -> Self {
        let group = Self::empty(n, timings).await;
        let voters = (1..=n)
            .map(|i| (NodeId(i), address(i).to_string()))
            .collect();
        group.node(1).initialize(voters).await.unwrap();
        group.leader().await;
        group
    }

    /// Cuts a node off from all others.
    pub(crate) fn isolate(&self, i: u64) {
        self.network.isolate(NodeId(i));
    }

    pub(crate) fn store(&self, i: u64) -> RaftStore {
        self.stores[&i].clone()
    }

    pub(crate) fn set_store(&mut self, i: u64, store: RaftStore) {
        self.stores.insert(i, store);
    }

    pub(crate) async fn start(&mut self, i: u64) {
        let link = self.network.link(NodeId(i), address(i));
        let settings = RaftSettings {
            node: NodeId(i),
            store: self.stores[&i].clone(),
            timings: self.timings.clone(),
        };
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::start());
        let node = RaftNode::open(settings, link.clone(), clock).await.unwrap();
        let serve = Arc::new(Serve(Mutex::new(Some(node.clone()))));
        link.serve(serve.clone());
        self.nodes.insert(i, (node, serve));
    }

    pub(crate) async fn crash(&mut self, i: u64) {
        self.network.stop(NodeId(i));
        let (node, serve) = self.nodes.remove(&i).unwrap();
        serve.0.lock().unwrap().take();
        node.halt().await;
    }

    /// Crashes the leader and starts it again once another one has taken a command, on which all agree then. Gives who it
    /// was and the command's index.
    async fn lose_leader(&mut self) -> (u64, LogIndex) {
        let first = self.leader().await;
        self.crash(first).await;
        let (index, _) = self.propose(submit(4, 10)).await;
        assert_ne!(self.leader().await, first);
        self.start(first).await;
        self.all_agree_at(index).await;
        (first, index)
    }

    pub(crate) fn node(&self, i: u64) -> &RaftNode {
        &self.nodes[&i].0
    }

    pub(crate) fn followers(&self, leader: u64) -> Vec<u64> {
        self.nodes
            .keys()
            .copied()
            .filter(|i| *i != leader)
            .collect()
    }

    /// A leader whose quorum is confirmed.
    pub(crate) async fn leader(&self) -> u64 {
        self.leader_among(&self.nodes.keys().copied().collect::<Vec<_>>())
            .await
    }

    pub(crate) async fn leader_among(&self, ids: &[u64]) -> u64 {
        until("a confirmed leader", || {
            ids.iter().copied().find(|i| {
                let status = self.node(*i).status();
                status.role == RaftRole::Leader && status.has_quorum
            })
        })
        .await
    }

    /// Proposes at whoever leads, repeating what was surely not done.
    pub(crate) async fn propose(&self, command: Command) -> (LogIndex, Reply) {
        let deadline = Instant::now() + SOON;
        loop {
            let leader = self.leader().await;
            match self.node(leader).propose(command.clone(), SOON).await {
                Ok(done) => return done,
                Err(ProposeError::NotLeader { .. }) if Instant::now() < deadline => {}
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Waits until all running nodes have applied `index`; their states must be equal then.
    pub(crate) async fn all_agree_at(&self, index: LogIndex) {
        let mut hashes = Vec::new();
        for (node, _) in self.nodes.values() {
            let mut applied = node.applied();
            let reached = applied.wait_for(|applied| *applied >= index);
            tokio::time::timeout(SOON, reached)
                .await
                .expect("applies in time")
                .unwrap();
            hashes.push(node.read(|_, state| state.hash()));
        }
        assert!(
            hashes.windows(2).all(|pair| pair[0] == pair[1]),
            "states differ"
        );
    }
}

/// The ordinary day: an election, proposals at the leader, the same state everywhere; a follower names the leader.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_voters_elect_a_leader_and_agree() {
    let group = Group::of(3, RaftTimings::default()).await;
    let mut last = LogIndex(0);
    for n in 1..=20 {
        let (index, reply) = group.propose(submit(n, 10)).await;
        assert!(matches!(reply, Reply::Submitted { jobs } if jobs.len() == n));
        assert!(index > last);
        last = index;
    }
    group.all_agree_at(last).await;
    let leader = group.leader().await;
    for follower in group.followers(leader) {
        let node = group.node(follower);
        until("the follower knows its leader", || node.hint()).await;
        match node.propose(submit(1, 1), SOON).await {
            Err(ProposeError::NotLeader { hint: Some(hint) }) => {
                assert_eq!(
                    (hint.node, hint.address),
                    (NodeId(leader), address(leader).to_string())
                );
            }
            other => panic!("expected a hint, got {other:?}"),
        }
    }
    let text = serde_json::to_string(&group.node(leader).status()).unwrap();
    assert!(
        text.contains("\"role\":\"leader\"") && text.contains("\"has_quorum\":true"),
        "{text}"
    );
}

/// Who votes alone has a quorum, also when nothing has been written for longer than an election takes.
#[tokio::test]
async fn a_voter_alone_has_a_quorum_when_idle() {
    let timings = RaftTimings::default();
    let idle = timings.election_max.duration() * 3;
    let group = Group::of(1, timings).await;
    sleep(idle).await;
    assert!(group.node(1).status().has_quorum);
}

/// Losing the leader costs an election and nothing else; the lost node comes back and agrees.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_leader_is_replaced() {
    let mut group = Group::of(3, RaftTimings::default()).await;
    group.propose(submit(3, 10)).await;
    let (first, index) = group.lose_leader().await;
    assert_eq!(group.node(first).read(|_, state| state.applied()), index);
}

/// A leader whose host refuses its port is replaced at once: nobody waits for an election timeout, which is a minute here.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_seen_to_be_gone_is_replaced_at_once() {
    let mut group = Group::of(
        3,
        RaftTimings {
            election_min: Millis::from_secs(60),
            election_max: Millis::from_secs(120),
            quorum_loss_probe: Millis::from_secs(240),
            ..RaftTimings::default()
        },
    )
    .await;
    for _ in 0..2 {
        let (index, _) = group.propose(submit(3, 10)).await;
        group.all_agree_at(index).await;
        group.lose_leader().await;
    }
}

/// A repeated command changes nothing and gets the stored reply, also from another leader.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn repeats_get_the_same_reply() {
    let mut group = Group::of(3, RaftTimings::default()).await;
    let mut command = submit(2, 10);
    command.origin = Some(Origin { client: 77, seq: 1 });
    let (_, first) = group.propose(command.clone()).await;
    assert_eq!(group.propose(command.clone()).await.1, first);
    let leader = group.leader().await;
    group.crash(leader).await;
    assert_eq!(group.propose(command).await.1, first);
}

/// Many callers at once share entries, and each gets its own reply.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_share_entries() {
    let group = Group::of(3, RaftTimings::default()).await;
    let node = group.node(group.leader().await).clone();
    let calls = (0..400).map(|_| {
        let node = node.clone();
        tokio::spawn(async move { node.propose(submit(1, 10), SOON).await.unwrap() })
    });
    let mut ids = Vec::new();
    let mut entries = std::collections::BTreeSet::new();
    for call in calls.collect::<Vec<_>>() {
        let (index, reply) = call.await.unwrap();
        let Reply::Submitted { jobs } = reply else {
            panic!("{reply:?}")
        };
        ids.extend(jobs);
        entries.insert(index);
    }
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 400, "every caller got a job of its own");
    assert!(
        entries.len() < 200,
        "{} entries for 400 commands",
        entries.len()
    );
}

/// Linearizable reads on the leader and on a follower see every acknowledged write; a leader without a quorum gives
/// none, takes no proposal as done, and names no leader.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_are_linearizable_or_refused() {
    let group = Group::of(3, RaftTimings::default()).await;
    let leader = group.leader().await;
    for round in 1..=5 {
        let (written, _) = group.propose(submit(round, 1)).await;
        for i in 1..=3 {
            let node = group.node(i);
            until("knows the leader", || node.hint()).await;
            let index = node.linearizable(SOON).await.unwrap();
            assert!(index >= written);
            assert!(node.read(|applied, state| applied >= written && state.applied() >= written));
        }
    }
    group.network.isolate(NodeId(leader));
    let node = group.node(leader);
    until("the quorum is seen to be lost", || {
        (!node.status().has_quorum).then_some(())
    })
    .await;
    let refused = node.linearizable(Duration::from_secs(2)).await.unwrap_err();
    assert!(
        matches!(
            refused,
            ReadError::NoQuorum(_) | ReadError::NoLeader | ReadError::Late(_)
        ),
        "{refused}"
    );
    let refused = node
        .propose(submit(1, 1), Duration::from_millis(500))
        .await
        .unwrap_err();
    assert!(
        matches!(
            refused,
            ProposeError::NotLeader { hint: None } | ProposeError::Unknown(_)
        ),
        "{refused}"
    );
    assert_eq!(node.hint(), None);
    group.leader_among(&group.followers(leader)).await;
    group.network.heal_all();
    let (index, _) = group.propose(submit(1, 1)).await;
    group.all_agree_at(index).await;
}

fn snapshots_often() -> RaftTimings {
    RaftTimings {
        snapshot_every: 20,
        entries_kept: 5,
        ..RaftTimings::default()
    }
}

/// A node that was away for longer than the log reaches back is given a snapshot, here one larger than a message.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_laggard_is_given_a_snapshot() {
    let mut group = Group::of(3, snapshots_often()).await;
    let away = group.followers(group.leader().await)[0];
    group.crash(away).await;
    let mut last = LogIndex(0);
    for _ in 0..60 {
        last = group.propose(submit(12, 16_000)).await.0;
    }
    let leader = group.node(group.leader().await).clone();
    until("the log was purged", || {
        leader.status().purged.filter(|purged| purged.0 > 20)
    })
    .await;
    assert!(leader.read(|_, state| state.snapshot()).len() > 9 << 20);
    group.start(away).await;
    group.all_agree_at(last).await;
    let status = group.node(away).status();
    assert!(
        status.snapshot.is_some_and(|snapshot| snapshot.0 > 20),
        "{status:?}"
    );
}

/// The first test of any store: write, snapshot, purge, kill, restart. All voters, on disk, twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_restarts_from_its_disks() {
    let dir = tempfile::tempdir().unwrap();
    let mut group = Group::empty(0, snapshots_often()).await;
    let mut expected = Vec::new();
    for round in 0..3 {
        for i in 1..=3 {
            let path = dir.path().join(i.to_string());
            // The store of the round before is closed by tasks that may still be ending.
            let store = until("the directory is free", || RaftStore::on_disk(&path).ok()).await;
            group.stores.insert(i, store);
            group.start(i).await;
            // At once: a node with data that takes itself for a new one would let itself be talked into another cluster.
            assert_eq!(group.node(i).status().initialised, round > 0);
        }
        if round == 0 {
            let voters = (1..=3)
                .map(|i| (NodeId(i), address(i).to_string()))
                .collect();
            group.node(1).initialize(voters).await.unwrap();
        }
        let mut last = LogIndex(0);
        for _ in 0..40 {
            let (index, reply) = group.propose(submit(1, 50)).await;
            let Reply::Submitted { jobs } = reply else {
                panic!("{reply:?}")
            };
            expected.extend(jobs);
            last = index;
        }
        group.all_agree_at(last).await;
        for i in 1..=3 {
            let node = group.node(i);
            assert!(
                node.read(|_, state| expected.iter().all(|job| state.job_record(*job).is_some()))
            );
            until("a purge", || {
                node.status().purged.filter(|purged| purged.0 > 0)
            })
            .await;
        }
        for i in 1..=3 {
            group.stores.remove(&i);
            group.crash(i).await;
        }
    }
}

/// Leadership moves on request, and a leader that stops hands it over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leadership_is_handed_over() {
    let group = Group::of(3, RaftTimings::default()).await;
    group.propose(submit(1, 1)).await;
    let first = group.leader().await;
    let wanted = NodeId(group.followers(first)[1]);
    let node = group.node(first);
    until("the voter is known to be close", || {
        node.status()
            .members
            .iter()
            .find(|m| m.node == wanted)?
            .lag
            .filter(|lag| *lag < 100)
    })
    .await;
    assert_eq!(
        node.transfer_leader(Some(wanted), SOON).await.unwrap(),
        wanted
    );
    assert_eq!(group.leader().await, wanted.0);
    let began = Instant::now();
    group.node(wanted.0).shutdown().await;
    let next = group.leader_among(&group.followers(wanted.0)).await;
    assert_ne!(next, wanted.0);
    assert!(
        began.elapsed() < Duration::from_secs(3),
        "took {:?}",
        began.elapsed()
    );
    let stopped = group
        .node(wanted.0)
        .propose(submit(1, 1), SOON)
        .await
        .unwrap_err();
    assert!(matches!(stopped, ProposeError::Stopped(_)), "{stopped}");
}

/// A leader that only one follower can hear (a bridge) does not hold up the majority: pre-vote and the quorum-loss
/// probe together free it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bridged_leader_is_replaced() {
    let group = Group::of(5, RaftTimings::default()).await;
    group.propose(submit(1, 1)).await;
    let old = group.leader().await;
    let bridge = group.followers(old)[0];
    for i in group.followers(old).into_iter().filter(|i| *i != bridge) {
        group.network.cut(NodeId(old), NodeId(i));
        group.network.cut(NodeId(i), NodeId(old));
    }
    let began = Instant::now();
    let next = group.leader_among(&group.followers(old)).await;
    group.node(next).propose(submit(1, 1), SOON).await.unwrap();
    assert!(
        began.elapsed() < Duration::from_secs(8),
        "took {:?}",
        began.elapsed()
    );
}

/// A log whose disk fails when told so.
#[derive(Default)]
struct BadDisk {
    log: MemoryLog,
    bad: AtomicBool,
}

impl LogEngine for BadDisk {
    fn head(&self) -> Result<LogHead, StorageError> {
        self.log.head()
    }
    fn write(&self, ops: &[LogOp]) -> Result<(), StorageError> {
        if self.bad.load(Ordering::Relaxed) {
            return Err(StorageError::Stopped("the disk is on fire".to_owned()));
        }
        self.log.write(ops)
    }
    fn read(&self, from: u64, to: u64, max: usize) -> Result<Vec<(u64, Vec<u8>)>, StorageError> {
        self.log.read(from, to, max)
    }
}

/// A disk error ends consensus on that node, and the node says so instead of lingering.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_error_is_a_death_that_is_told() {
    let mut group = Group::empty(0, RaftTimings::default()).await;
    let disk = Arc::new(BadDisk::default());
    let store = RaftStore {
        log: disk.clone(),
        snapshots: Arc::new(MemorySnapshots::default()),
        disk: crate::Disk::Threads,
        epoch: Epoch::default(),
    };
    group.stores.insert(1, store);
    group.start(1).await;
    let node = group.node(1);
    node.initialize(BTreeMap::from([(NodeId(1), address(1).to_string())]))
        .await
        .unwrap();
    group.propose(submit(1, 1)).await;
    disk.bad.store(true, Ordering::Relaxed);
    let outcome = node.propose(submit(1, 1), SOON).await.unwrap_err();
    assert!(matches!(outcome, ProposeError::Unknown(_)), "{outcome}");
    let reason = tokio::time::timeout(SOON, node.death())
        .await
        .expect("death is told");
    assert!(reason.contains("on fire"), "{reason}");
    let status = node.status();
    assert!(status.dead.is_some() && !status.has_quorum, "{status:?}");
}

/// Requests for another node, in another's name, or of no sense are refused with a reason.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strange_requests_are_refused() {
    use crate::types::Vote;
    use crate::wire::{Envelope, Request};
    let group = Group::of(1, RaftTimings::default()).await;
    let node = group.node(1);
    let vote = |to, speaker| {
        let rpc = openraft::raft::VoteRequest::new(Vote::new(9, speaker), None);
        Bytes::from(riftmesh_base::encode(&Envelope {
            to,
            request: Request::Vote(rpc),
        }))
    };
    for (request, reason) in [
        (Bytes::from_static(b"\xff\xff"), "malformed"),
        (
            vote(7, 2),
            "this is node 0000000000000001, not 0000000000000007",
        ),
        (
            vote(1, 3),
            "speaks for node 0000000000000003 and came from 0000000000000002",
        ),
    ] {
        let Refused(text) = node.handle(NodeId(2), request).await.unwrap_err();
        assert!(text.contains(reason), "{text}");
    }
    node.handle(NodeId(2), vote(1, 2)).await.unwrap();
}

/// A watcher sees effects in log order; one that falls behind is told that it missed some.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watchers_see_effects_in_order_or_a_gap() {
    let group = Group::of(1, RaftTimings::default()).await;
    let node = group.node(1);
    let mut watch = node.subscribe(None);
    let mut slow = node.subscribe(None);
    let mut last = LogIndex(0);
    for _ in 0..3 {
        node.propose(submit(1, 1), SOON).await.unwrap();
        match watch.next().await {
            Some(Change::Applied { index, effects }) => {
                assert!(index > last && matches!(effects[0], Effect::JobReady { .. }));
                last = index;
            }
            other => panic!("{other:?}"),
        }
    }
    for _ in 0..1_100 {
        node.propose(submit(1, 1), SOON).await.unwrap();
    }
    assert_eq!(slow.next().await, Some(Change::Gap));
    assert!(matches!(slow.next().await, Some(Change::Applied { .. })));
}
