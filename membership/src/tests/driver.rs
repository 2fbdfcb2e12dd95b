//! Whole nodes, each on a runtime of its own, over the in-memory network and over QUIC on loopback.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use riftmesh_base::time::wall_clock;
use riftmesh_base::{BlobHash, ClusterId, Millis, NodeId, Role, Seed};
use riftmesh_transport::{
    BoxFuture, ClusterAuthority, Handler, Lane, MemoryNetwork, NodeCredential, Peer, QuicLink,
    QuicSettings, Refused, SharedLink, Target,
};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::time::timeout;

use super::metadata;
use crate::{
    BODY_BYTES_MAX, GenerationFile, Membership, MembershipSettings, MembershipView, NodeState,
    PeerFile, Seeds,
};

const PATIENCE: Duration = Duration::from_secs(20);

/// Timing for tests: a tenth of the real one.
fn settings() -> MembershipSettings {
    MembershipSettings {
        pause_tolerance: Millis(1_600),
        probe_every: Millis(200),
        probe_rtt: Millis(80),
        repair_every: Millis(3_000),
        seek_every: Millis(100),
        evidence_patience: Millis(200),
        ..MembershipSettings::default()
    }
}

/// Hands what arrives to the membership, once there is one.
#[derive(Default)]
struct Door(OnceLock<Membership>);

impl Handler for Door {
    fn call(&self, from: Peer, _: Lane, request: Bytes) -> BoxFuture<'_, Result<Bytes, Refused>> {
        let membership = self.0.get().unwrap();
        Box::pin(membership.handle_call(from, request))
    }
    fn datagram(&self, from: Peer, payload: Bytes) {
        self.0.get().unwrap().handle_datagram(from, payload);
    }
    fn blob(&self, _: Peer, _: BlobHash) -> Option<PathBuf> {
        None
    }
}

/// One kind of network.
trait Wire {
    fn link(&self, node: NodeId, address: Option<SocketAddr>) -> SharedLink;
    fn stop(&self, node: NodeId);
    /// Lets nobody dial a node, where the network can do that.
    fn hide(&self, _node: NodeId) {}
}

struct Memory(MemoryNetwork);

impl Wire for Memory {
    fn link(&self, node: NodeId, address: Option<SocketAddr>) -> SharedLink {
        let address = address.unwrap_or_else(|| ([10, 1, 1, node.0 as u8], 7_000).into());
        self.0.link(node, address)
    }
    fn stop(&self, node: NodeId) {
        self.0.stop(node);
    }
    fn hide(&self, node: NodeId) {
        self.0.hide(node);
    }
}

struct Quic(ClusterAuthority);

impl Quic {
    fn credential(&self, node: NodeId) -> NodeCredential {
        self.0
            .issue(node, Role::Voter, Millis::from_secs(3_600), wall_clock())
            .unwrap()
    }
}

impl Wire for Quic {
    fn link(&self, node: NodeId, address: Option<SocketAddr>) -> SharedLink {
        let address = address.unwrap_or((Ipv4Addr::LOCALHOST, 0).into());
        QuicLink::bind(address, &self.credential(node), QuicSettings::default()).unwrap()
    }
    fn stop(&self, _: NodeId) {}
}

/// The file of a node's peers.
fn peers(folder: &TempDir, node: u64) -> PeerFile {
    PeerFile::eager(folder.path().join(format!("peers-{node}")))
}

struct Process {
    runtime: Option<Runtime>,
    membership: Membership,
    address: SocketAddr,
}

impl Process {
    fn start(
        wire: &impl Wire,
        folder: &TempDir,
        node: u64,
        address: Option<SocketAddr>,
        seeds: &[SocketAddr],
    ) -> Self {
        Self::with(settings(), wire, folder, node, address, seeds)
    }

    fn with(
        settings: MembershipSettings,
        wire: &impl Wire,
        folder: &TempDir,
        node: u64,
        address: Option<SocketAddr>,
        seeds: &[SocketAddr],
    ) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let _inside = runtime.enter();
        let link = wire.link(NodeId(node), address);
        let peers = peers(folder, node);
        let seeds = Seeds {
            named: seeds.to_vec(),
            met: peers.read(),
        };
        let membership = Membership::start(
            settings,
            link.clone(),
            NodeId(node),
            link.local_address(),
            GenerationFile::new(folder.path().join(node.to_string())),
            metadata(node),
            seeds,
        )
        .unwrap();
        tokio::spawn(peers.follow(membership.clone()));
        let door = Door::default();
        door.0.set(membership.clone()).ok();
        let address = link.local_address();
        link.serve(Arc::new(door));
        Self {
            runtime: Some(runtime),
            membership,
            address,
        }
    }

    /// Waits until this node's view is as described.
    async fn sees(&self, what: &str, is_so: impl Fn(&MembershipView) -> bool) {
        let mut views = self.membership.subscribe();
        let seen = timeout(PATIENCE, views.wait_for(|view| is_so(view))).await;
        let view = self.membership.view();
        assert!(
            seen.is_ok(),
            "{} does not see {what}: {view:#?}",
            self.membership.node()
        );
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn is(view: &MembershipView, node: u64, state: NodeState) -> bool {
    view.get(NodeId(node)).is_some_and(|n| n.state == state)
}

/// Three nodes find each other from one seed; a change of description, a crash, a new life at another address and
/// a goodbye are each known to the others.
async fn a_life_in_the_mesh(wire: impl Wire) {
    let folder = tempfile::tempdir().unwrap();
    let one = Process::start(&wire, &folder, 1, None, &[]);
    let seeds = [one.address];
    let two = Process::start(&wire, &folder, 2, None, &seeds);
    let three = Process::start(&wire, &folder, 3, None, &seeds);
    let is_complete =
        |view: &MembershipView| view.active().filter(|node| node.metadata.is_some()).count() == 3;
    for process in [&one, &two, &three] {
        process.sees("all three", is_complete).await;
    }

    let mut described = metadata(2);
    described.name = "renamed".to_owned();
    two.membership
        .update_metadata(described.clone())
        .await
        .unwrap();
    three
        .sees("two's new description", |view| {
            view.get(NodeId(2)).unwrap().metadata.as_deref() == Some(&described)
        })
        .await;

    let body = Bytes::from_static(b"what takes more words");
    two.membership.publish(body.clone()).await.unwrap();
    for process in [&one, &two, &three] {
        process
            .sees("what two says at length", |view| {
                let known = &view.get(NodeId(2)).unwrap().body;
                known.as_ref().is_some_and(|known| known.bytes == body)
            })
            .await;
    }
    let long = Bytes::from(vec![0; BODY_BYTES_MAX + 1]);
    let refused = two.membership.publish(long).await.unwrap_err().to_string();
    assert_eq!(refused, "body has 4097 bytes, over the bound of 4096");

    let first_life = one.membership.view().get(NodeId(3)).unwrap().generation;
    drop(three);
    wire.stop(NodeId(3));
    let started = tokio::time::Instant::now();
    one.sees("three down", |view| is(view, 3, NodeState::Down))
        .await;
    two.sees("three down", |view| is(view, 3, NodeState::Down))
        .await;
    println!(
        "down everywhere after {:?} of {:?} ms",
        started.elapsed(),
        settings().suspicion().0
    );

    let elsewhere = if seeds[0].ip().is_loopback() {
        None
    } else {
        Some(([10, 1, 1, 3], 8_000).into())
    };
    let three = Process::start(&wire, &folder, 3, elsewhere, &seeds);
    for process in [&one, &two] {
        process
            .sees("three's second life", |view| {
                let seen = view.get(NodeId(3)).unwrap();
                seen.state == NodeState::Alive
                    && seen.generation > first_life
                    && seen.address == three.address
            })
            .await;
    }

    two.membership.leave().await;
    for process in [&one, &three] {
        process
            .sees("two leave", |view| is(view, 2, NodeState::Left))
            .await;
    }
    let suspicions: Vec<_> = one
        .membership
        .view()
        .suspicions(one.membership.now())
        .collect();
    assert_eq!(suspicions.len(), 1);
    assert_eq!(
        (suspicions[0].node, suspicions[0].state),
        (NodeId(2), NodeState::Left)
    );
}

/// A node that nobody can dial joins through the seeds, is probed through a relay that all know of, gets another when that
/// one dies, and is missed when it dies itself.
async fn a_life_behind_a_relay(wire: impl Wire) {
    let folder = tempfile::tempdir().unwrap();
    // A lost relay is noticed after some seconds, which must not cost a life.
    let patient = MembershipSettings {
        pause_tolerance: Millis(8_000),
        ..settings()
    };
    let hidden = MembershipSettings {
        dial_out: true,
        ..patient.clone()
    };
    let start =
        |node, seeds: &[_]| Process::with(patient.clone(), &wire, &folder, node, None, seeds);
    let one = start(1, &[]);
    let two = start(2, &[one.address]);
    let three = start(3, &[one.address]);
    let seeds = [one.address, two.address, three.address];
    wire.hide(NodeId(4));
    let four = Process::with(hidden, &wire, &folder, 4, None, &seeds);
    let relay_in = |view: &MembershipView| view.get(NodeId(4))?.relay;
    for process in [&one, &two, &three, &four] {
        let is_seen = |view: &MembershipView| {
            is(view, 4, NodeState::Alive) && relay_in(view).is_some() && view.active().count() == 4
        };
        process.sees("the hidden one and its relay", is_seen).await;
    }
    let generation = four.membership.view().get(NodeId(4)).unwrap().generation;
    let relay = relay_in(&one.membership.view()).unwrap();
    let (dead, living): (Vec<_>, Vec<_>) = [one, two, three]
        .into_iter()
        .partition(|process| process.address == relay);
    for process in dead {
        let node = process.membership.node();
        drop(process);
        wire.stop(node);
    }
    for process in &living {
        let is_back = |view: &MembershipView| {
            let other = relay_in(view).is_some_and(|now| now != relay);
            other && is(view, 4, NodeState::Alive)
        };
        process.sees("another relay", is_back).await;
    }
    let still = living[0]
        .membership
        .view()
        .get(NodeId(4))
        .unwrap()
        .generation;
    assert_eq!(still, generation, "it was never given up");
    drop(four);
    wire.stop(NodeId(4));
    for process in &living {
        process
            .sees("its end", |view| is(view, 4, NodeState::Down))
            .await;
    }
}

/// A node returns to a mesh of which no seed lives any more through others that it met; if they can be dialled by nobody but
/// a relay, through that.
async fn a_return_without_seeds(wire: impl Wire, hidden: bool) {
    let folder = tempfile::tempdir().unwrap();
    let settings = MembershipSettings {
        dial_out: hidden,
        ..settings()
    };
    let seed = Process::start(&wire, &folder, 1, None, &[]);
    let seeds = [seed.address];
    let other = Process::start(&wire, &folder, 2, None, &seeds);
    if hidden {
        wire.hide(NodeId(3));
    }
    let start = || Process::with(settings.clone(), &wire, &folder, 3, None, &seeds);
    let is_there = |view: &MembershipView| is(view, 3, NodeState::Alive);
    let before = start();
    other.sees("three", is_there).await;
    let met = async {
        let knows = |met: Vec<Target>| met.iter().any(|peer| peer.node == Some(NodeId(2)));
        while !knows(peers(&folder, 3).read()) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, met).await.expect("two is written down");
    for (process, node) in [(before, NodeId(3)), (seed, NodeId(1))] {
        drop(process);
        wire.stop(node);
        other
            .sees("its end", |view| is(view, node.0, NodeState::Down))
            .await;
    }
    let after = start();
    other.sees("three again", is_there).await;
    after
        .sees("two", |view| is(view, 2, NodeState::Alive))
        .await;
}

#[tokio::test]
async fn back_without_seeds_over_the_memory_network() {
    a_return_without_seeds(Memory(MemoryNetwork::new(Seed(3))), false).await;
}

#[tokio::test]
async fn back_without_seeds_behind_a_relay() {
    a_return_without_seeds(Memory(MemoryNetwork::new(Seed(4))), true).await;
}

#[tokio::test]
async fn back_without_seeds_over_quic() {
    let authority = ClusterAuthority::create(ClusterId([5; 16]), wall_clock()).unwrap();
    a_return_without_seeds(Quic(authority), false).await;
}

#[tokio::test]
async fn behind_a_relay_over_the_memory_network() {
    a_life_behind_a_relay(Memory(MemoryNetwork::new(Seed(2)))).await;
}

#[tokio::test]
async fn behind_a_relay_over_quic() {
    let authority = ClusterAuthority::create(ClusterId([4; 16]), wall_clock()).unwrap();
    a_life_behind_a_relay(Quic(authority)).await;
}

#[tokio::test]
async fn over_the_memory_network() {
    a_life_in_the_mesh(Memory(MemoryNetwork::new(Seed(1)))).await;
}

#[tokio::test]
async fn over_quic() {
    let authority = ClusterAuthority::create(ClusterId([3; 16]), wall_clock()).unwrap();
    a_life_in_the_mesh(Quic(authority)).await;
}
