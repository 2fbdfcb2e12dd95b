//! What every link must do, run on the in-memory twin and on QUIC over loopback.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use riftmesh_base::limits::{DATAGRAM_BYTES_MAX, MESSAGE_BYTES_MAX};
use riftmesh_base::time::wall_clock;
use riftmesh_base::{BlobHash, ClusterId, Millis, NodeId, Role, Seed};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use crate::{
    BoxFuture, CallError, ClusterAuthority, Handler, Lane, Link, MemoryNetwork, NodeCredential,
    Peer, QuicLink, QuicSettings, Refused, SharedLink, Target, relayed,
};

const DEADLINE: Duration = Duration::from_secs(5);
const ALICE: NodeId = NodeId(0xa);
const BOB: NodeId = NodeId(0xb);
const CAROL: NodeId = NodeId(0xc);
const DAVE: NodeId = NodeId(0xd);

/// Starts and kills nodes on one kind of network.
trait Rig {
    fn start(&self, node: NodeId, address: Option<SocketAddr>, handler: Script) -> SharedLink;
    /// Ends a node without a farewell, as `kill -9` does.
    async fn kill(&self, node: NodeId);
    /// Lets nobody dial a node, where the network can do that.
    fn hide(&self, _node: NodeId) {}
    /// An address of a host that is up, with nobody listening.
    fn deserted(&self) -> SocketAddr;
}

struct MemoryRig(MemoryNetwork);

impl MemoryRig {
    fn new() -> Self {
        Self(MemoryNetwork::new(Seed(1)))
    }
}

impl Rig for MemoryRig {
    fn start(&self, node: NodeId, address: Option<SocketAddr>, handler: Script) -> SharedLink {
        let address = address.unwrap_or_else(|| ([10, 0, 0, node.0 as u8], 7000).into());
        let link = self.0.link(node, address);
        link.serve(Arc::new(handler));
        link
    }

    async fn kill(&self, node: NodeId) {
        self.0.stop(node);
    }

    fn hide(&self, node: NodeId) {
        self.0.hide(node);
    }

    fn deserted(&self) -> SocketAddr {
        ([10, 0, 0, 99], 7000).into()
    }
}

/// Each node has a runtime of its own, whose sudden end is the node's.
struct QuicRig {
    authority: ClusterAuthority,
    /// As PEM: a restarted node comes back with the credential it had.
    credentials: Mutex<BTreeMap<NodeId, String>>,
    runtimes: Mutex<BTreeMap<NodeId, (Runtime, SocketAddr)>>,
}

impl QuicRig {
    fn new() -> Self {
        let cluster = ClusterId([7; 16]);
        Self {
            authority: ClusterAuthority::create(cluster, wall_clock()).unwrap(),
            credentials: Mutex::default(),
            runtimes: Mutex::default(),
        }
    }

    fn credential(&self, node: NodeId) -> NodeCredential {
        let now = wall_clock();
        let mut credentials = self.credentials.lock().unwrap();
        let pem = credentials.entry(node).or_insert_with(|| {
            let issued = self
                .authority
                .issue(node, Role::Voter, Millis::from_secs(3_600), now);
            issued.unwrap().to_pem()
        });
        NodeCredential::from_pem(pem, now).unwrap()
    }
}

impl Rig for QuicRig {
    fn start(&self, node: NodeId, address: Option<SocketAddr>, handler: Script) -> SharedLink {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let _inside = runtime.enter();
        let address = address.unwrap_or((Ipv4Addr::LOCALHOST, 0).into());
        let link =
            QuicLink::bind(address, &self.credential(node), QuicSettings::default()).unwrap();
        link.serve(Arc::new(handler));
        let entry = (runtime, link.local_address());
        self.runtimes.lock().unwrap().insert(node, entry);
        link
    }

    async fn kill(&self, node: NodeId) {
        let (runtime, address) = self.runtimes.lock().unwrap().remove(&node).unwrap();
        runtime.shutdown_background();
        let free = async {
            while std::net::UdpSocket::bind(address).is_err() {
                tokio::task::yield_now().await;
            }
        };
        timeout(DEADLINE, free)
            .await
            .expect("the socket closes with the runtime");
    }

    fn deserted(&self) -> SocketAddr {
        // Bound, so that nobody else gets it, and closed again.
        let socket = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        socket.local_addr().unwrap()
    }
}

impl Drop for QuicRig {
    fn drop(&mut self) {
        for (_, (runtime, _)) in std::mem::take(&mut *self.runtimes.lock().unwrap()) {
            runtime.shutdown_background();
        }
    }
}

/// A handler told by the request's text what to do.
#[derive(Clone, Default)]
struct Script {
    datagrams: Option<mpsc::Sender<(Peer, Bytes)>>,
    blobs: BTreeMap<BlobHash, PathBuf>,
}

impl Handler for Script {
    fn call(
        &self,
        from: Peer,
        lane: Lane,
        request: Bytes,
    ) -> BoxFuture<'_, Result<Bytes, Refused>> {
        Box::pin(async move {
            match &request[..] {
                b"refuse" => Err(Refused("not today".to_owned())),
                b"sleep" => std::future::pending().await,
                b"panic" => panic!("a handler's bug"),
                b"huge" => Ok(vec![0; MESSAGE_BYTES_MAX + 1].into()),
                b"largest" => Ok(vec![1; MESSAGE_BYTES_MAX].into()),
                other => Ok(format!("{} {lane} {}", from.node, other.len()).into()),
            }
        })
    }

    fn datagram(&self, from: Peer, payload: Bytes) {
        if let Some(sender) = &self.datagrams {
            sender.try_send((from, payload)).unwrap();
        }
    }

    fn blob(&self, _from: Peer, hash: BlobHash) -> Option<PathBuf> {
        self.blobs.get(&hash).cloned()
    }
}

fn at(node: NodeId, link: &SharedLink) -> Target {
    Target {
        node: Some(node),
        address: link.local_address(),
    }
}

fn pair(rig: &impl Rig, bob: Script) -> (SharedLink, Target) {
    let alice = rig.start(ALICE, None, Script::default());
    let target = at(BOB, &rig.start(BOB, None, bob));
    (alice, target)
}

/// Each lane carries a call to the handler, which learns who called, and its reply back, up to the bound.
async fn calls_are_answered(rig: &impl Rig) {
    let (alice, bob) = pair(rig, Script::default());
    for lane in [Lane::Raft, Lane::Client, Lane::Mesh] {
        let reply = alice
            .call(bob, lane, "hello".into(), DEADLINE)
            .await
            .unwrap();
        assert_eq!(reply, format!("{ALICE} {lane} 5"));
    }
    let largest = Bytes::from(vec![0; MESSAGE_BYTES_MAX]);
    let reply = alice.call(bob, Lane::Client, largest, DEADLINE).await;
    assert!(reply.unwrap().ends_with(b"8388608"));
    let reply = alice
        .call(bob, Lane::Client, "largest".into(), DEADLINE)
        .await;
    assert_eq!(reply.unwrap().len(), MESSAGE_BYTES_MAX);
}

/// A handler that takes too long costs its caller the deadline and no more, and the outcome is unknown.
async fn deadlines_hold(rig: &impl Rig) {
    let (alice, bob) = pair(rig, Script::default());
    let started = Instant::now();
    let deadline = Duration::from_millis(300);
    let error = alice
        .call(bob, Lane::Client, "sleep".into(), deadline)
        .await;
    assert!(matches!(error, Err(CallError::Unknown(_))), "{error:?}");
    assert!((deadline..2 * deadline).contains(&started.elapsed()));
    alice
        .call(bob, Lane::Client, "next".into(), DEADLINE)
        .await
        .unwrap();
}

/// What is over a bound is refused on the side that knows it first, and names the bound.
async fn bounds_hold(rig: &impl Rig) {
    let (alice, bob) = pair(rig, Script::default());
    let huge = Bytes::from(vec![0; MESSAGE_BYTES_MAX + 1]);
    let is_too_large = |error: &CallError, kind: &str, bound: usize| matches!(error, CallError::TooLarge { what, max, .. } if *what == kind && *max == bound as u64);
    let error = alice
        .call(bob, Lane::Mesh, huge.clone(), DEADLINE)
        .await
        .unwrap_err();
    assert!(
        is_too_large(&error, "request", MESSAGE_BYTES_MAX),
        "{error}"
    );
    let error = alice
        .call(bob, Lane::Mesh, "huge".into(), DEADLINE)
        .await
        .unwrap_err();
    assert!(is_too_large(&error, "reply", MESSAGE_BYTES_MAX), "{error}");
    let error = alice
        .datagram(bob, huge.slice(..DATAGRAM_BYTES_MAX + 1))
        .await
        .unwrap_err();
    assert!(
        is_too_large(&error, "datagram", DATAGRAM_BYTES_MAX),
        "{error}"
    );
}

/// A refusal reaches the caller with its reason; a handler that panics is nobody's answer.
async fn refusals_and_panics_are_told_apart(rig: &impl Rig) {
    let (alice, bob) = pair(rig, Script::default());
    let error = alice
        .call(bob, Lane::Client, "refuse".into(), DEADLINE)
        .await;
    assert_eq!(error, Err(CallError::Refused("not today".to_owned())));
    let error = alice
        .call(bob, Lane::Client, "panic".into(), DEADLINE)
        .await;
    assert!(matches!(error, Err(CallError::Unknown(_))), "{error:?}");
}

/// A port nobody listens on is reported at once, not at the deadline, and seen as evidence of death.
async fn deserted_ports_fail_fast(rig: &impl Rig) {
    let (alice, bob) = pair(rig, Script::default());
    let address = rig.deserted();
    let nobody = Target {
        node: Some(BOB),
        address,
    };
    let started = Instant::now();
    let error = alice
        .call(nobody, Lane::Raft, "hello".into(), DEADLINE)
        .await;
    assert!(
        matches!(error, Err(CallError::Unreachable { .. })),
        "{error:?}"
    );
    assert!(started.elapsed() < Duration::from_millis(500));
    assert!(alice.port_refused(address, DEADLINE).await);
    assert!(
        !alice
            .port_refused(bob.address, Duration::from_millis(300))
            .await
    );
}

/// A call meant for one node is not given to another that took its address.
async fn the_wrong_node_is_noticed(rig: &impl Rig) {
    let (alice, bob) = pair(rig, Script::default());
    let carol = Target {
        node: Some(NodeId(0xc)),
        ..bob
    };
    let error = alice
        .call(carol, Lane::Client, "hello".into(), DEADLINE)
        .await;
    assert!(
        matches!(error, Err(CallError::Untrusted { .. })),
        "{error:?}"
    );
}

/// An address tells who lives there.
async fn addresses_are_identified(rig: &impl Rig) {
    let (alice, bob) = pair(rig, Script::default());
    assert_eq!(alice.identify(bob.address, DEADLINE).await, Ok(BOB));
    let anyone = Target { node: None, ..bob };
    alice
        .call(anyone, Lane::Mesh, "hello".into(), DEADLINE)
        .await
        .unwrap();
}

/// Datagrams arrive with their sender's name, also at the largest size.
async fn datagrams_arrive(rig: &impl Rig) {
    let (sender, mut datagrams) = mpsc::channel(16);
    let script = Script {
        datagrams: Some(sender),
        ..Script::default()
    };
    let (alice, bob) = pair(rig, script);
    for size in [1, DATAGRAM_BYTES_MAX] {
        let payload = Bytes::from(vec![7; size]);
        alice.datagram(bob, payload.clone()).await.unwrap();
        let (from, received) = timeout(DEADLINE, datagrams.recv()).await.unwrap().unwrap();
        assert_eq!((from.node, received), (ALICE, payload));
    }
}

/// A blob appears whole under its name or not at all: missing and damaged ones leave the folder empty.
async fn blobs_are_verified(rig: &impl Rig) {
    let folder = tempfile::tempdir().unwrap();
    let bytes = vec![42; 3 << 20];
    let (whole, damaged) = (BlobHash::of(&bytes), BlobHash::of(b"something else"));
    let source = folder.path().join("source");
    std::fs::write(&source, &bytes).unwrap();
    let blobs = [(whole, source.clone()), (damaged, source)].into();
    let (alice, bob) = pair(
        rig,
        Script {
            blobs,
            ..Script::default()
        },
    );
    let arrivals = folder.path().join("arrivals");
    std::fs::create_dir(&arrivals).unwrap();
    let into = arrivals.join("blob");

    let missing = alice
        .fetch(bob, BlobHash::of(b"missing"), &into, DEADLINE)
        .await;
    assert!(matches!(missing, Err(CallError::Refused(_))), "{missing:?}");
    let corrupt = alice.fetch(bob, damaged, &into, DEADLINE).await;
    assert!(
        matches!(corrupt, Err(CallError::Corrupt { .. })),
        "{corrupt:?}"
    );
    assert_eq!(std::fs::read_dir(&arrivals).unwrap().count(), 0);

    assert_eq!(
        alice.fetch(bob, whole, &into, DEADLINE).await,
        Ok(bytes.len() as u64)
    );
    assert_eq!(std::fs::read(&into).unwrap(), bytes);
    assert_eq!(std::fs::read_dir(&arrivals).unwrap().count(), 1);
    let nowhere = folder.path().join("no-such-folder/blob");
    let local = alice.fetch(bob, whole, &nowhere, DEADLINE).await;
    assert!(matches!(local, Err(CallError::Local(_))), "{local:?}");
}

/// A thousand calls at once, each with its own answer.
async fn many_calls_run_at_once(rig: &impl Rig) {
    let (alice, bob) = pair(rig, Script::default());
    let calls = (0..1_000).map(|size| {
        let alice = alice.clone();
        async move {
            let request = Bytes::from(vec![0; size]);
            let reply = alice.call(bob, Lane::Client, request, 4 * DEADLINE).await;
            assert_eq!(reply.unwrap(), format!("{ALICE} client {size}"));
        }
    });
    futures::future::join_all(calls).await;
}

/// A closed link answers nobody and reaches nobody, and says so without waiting.
async fn closing_is_final(rig: &impl Rig) {
    let alice = rig.start(ALICE, None, Script::default());
    let bob = rig.start(BOB, None, Script::default());
    let to_bob = at(BOB, &bob);
    alice
        .call(to_bob, Lane::Client, "hello".into(), DEADLINE)
        .await
        .unwrap();
    bob.close().await;
    let started = Instant::now();
    let short = Duration::from_secs(2);
    alice
        .call(to_bob, Lane::Client, "hello".into(), short)
        .await
        .unwrap_err();
    let error = bob
        .call(at(ALICE, &alice), Lane::Client, "hello".into(), DEADLINE)
        .await;
    assert!(
        matches!(error, Err(CallError::Unreachable { .. })),
        "{error:?}"
    );
    assert!(started.elapsed() <= short + short / 10);
}

/// A killed peer's waiting calls fail within a second, not at their deadline; so do later ones.
async fn a_killed_peer_is_noticed(rig: &impl Rig) {
    let (alice, bob) = pair(rig, Script::default());
    let waiting = tokio::spawn({
        let alice = alice.clone();
        async move {
            alice
                .call(bob, Lane::Client, "sleep".into(), 4 * DEADLINE)
                .await
        }
    });
    alice
        .call(bob, Lane::Client, "hello".into(), DEADLINE)
        .await
        .unwrap();
    rig.kill(BOB).await;
    let started = Instant::now();
    let error = waiting.await.unwrap();
    let is_unknown = matches!(error, Err(CallError::Unknown(_) | CallError::Lost(_)));
    assert!(is_unknown, "{error:?}");
    alice
        .call(bob, Lane::Client, "hello".into(), DEADLINE)
        .await
        .unwrap_err();
    assert!(
        started.elapsed() < Duration::from_secs(1),
        "{:?}",
        started.elapsed()
    );
}

/// A peer killed and restarted on the same address is reached again within a second, over whatever was left.
async fn a_restarted_peer_is_reached_again(rig: &impl Rig) {
    let (alice, bob) = pair(rig, Script::default());
    for lane in [Lane::Client, Lane::Raft] {
        alice
            .call(bob, lane, "hello".into(), DEADLINE)
            .await
            .unwrap();
    }
    rig.kill(BOB).await;
    rig.start(BOB, Some(bob.address), Script::default());
    let started = Instant::now();
    for lane in [Lane::Client, Lane::Raft] {
        while let Err(error) = alice.call(bob, lane, "hello".into(), DEADLINE).await {
            assert!(started.elapsed() < Duration::from_secs(1), "{error}");
        }
    }
    assert!(
        started.elapsed() < Duration::from_secs(1),
        "{:?}",
        started.elapsed()
    );
}

/// What may be carried out twice reaches a peer that was killed and started anew at the first try, whatever connection is left from its
/// former life; a vote asked for in vain costs an election.
async fn what_may_be_repeated_survives_a_restart(rig: &impl Rig) {
    let (alice, bob) = pair(rig, Script::default());
    let requests = [Bytes::from("hello"), vec![7; 100_000].into()];
    for request in requests {
        for lane in [Lane::Raft, Lane::Mesh] {
            let call = || alice.call_repeatable(bob, lane, request.clone(), DEADLINE);
            call().await.unwrap();
            rig.kill(BOB).await;
            rig.start(BOB, Some(bob.address), Script::default());
            call().await.unwrap();
        }
    }
}

fn behind(relay: &SharedLink, node: NodeId) -> Target {
    let address = relayed::through(relay.local_address(), node).unwrap();
    Target {
        node: Some(node),
        address,
    }
}

/// A node that nobody can dial is reached through its relay by everybody, the relay included, for all that a node is reached
/// for; and it reaches others as ever.
async fn the_hidden_are_reached_through_a_relay(rig: &impl Rig) {
    let folder = tempfile::tempdir().unwrap();
    let bytes = vec![42; 1 << 20];
    let (hash, file) = (BlobHash::of(&bytes), folder.path().join("source"));
    std::fs::write(&file, &bytes).unwrap();
    let (sender, mut datagrams) = mpsc::channel(16);
    let script = Script {
        datagrams: Some(sender),
        blobs: [(hash, file)].into(),
    };
    let alice = rig.start(ALICE, None, Script::default());
    let bob = rig.start(BOB, None, script);
    let carol = rig.start(CAROL, None, Script::default());
    rig.hide(BOB);
    let attachment = bob.attach(carol.local_address(), DEADLINE).await.unwrap();
    assert_eq!(attachment.relay(), at(CAROL, &carol));
    let to_bob = behind(&carol, BOB);
    for (from, name) in [(&alice, ALICE), (&carol, CAROL)] {
        for lane in [Lane::Raft, Lane::Client, Lane::Mesh] {
            let reply = from.call(to_bob, lane, "hello".into(), DEADLINE).await;
            assert_eq!(reply.unwrap(), format!("{name} {lane} 5"));
        }
        let payload = Bytes::from(vec![7; DATAGRAM_BYTES_MAX]);
        from.datagram(to_bob, payload.clone()).await.unwrap();
        let (sender, received) = timeout(DEADLINE, datagrams.recv()).await.unwrap().unwrap();
        assert_eq!((sender.node, received), (name, payload));
        let into = folder.path().join(name.to_string());
        let fetched = from.fetch(to_bob, hash, &into, 4 * DEADLINE).await;
        assert_eq!(fetched, Ok(bytes.len() as u64));
        assert_eq!(from.identify(to_bob.address, DEADLINE).await, Ok(BOB));
    }
    let within = Duration::from_millis(300);
    assert!(!alice.port_refused(to_bob.address, within).await);
    let reply = bob.call(at(ALICE, &alice), Lane::Client, "hello".into(), DEADLINE);
    assert_eq!(reply.await.unwrap(), format!("{BOB} client 5"));
}

/// Two nodes that nobody can dial reach each other, each through the other's relay.
async fn the_hidden_reach_each_other(rig: &impl Rig) {
    let alice = rig.start(ALICE, None, Script::default());
    let bob = rig.start(BOB, None, Script::default());
    let carol = rig.start(CAROL, None, Script::default());
    let dave = rig.start(DAVE, None, Script::default());
    rig.hide(ALICE);
    rig.hide(BOB);
    let _alices = alice.attach(carol.local_address(), DEADLINE).await.unwrap();
    let _bobs = bob.attach(dave.local_address(), DEADLINE).await.unwrap();
    for (from, name, to) in [
        (&alice, ALICE, behind(&dave, BOB)),
        (&bob, BOB, behind(&carol, ALICE)),
    ] {
        let reply = from.call(to, Lane::Client, "hello".into(), DEADLINE).await;
        assert_eq!(reply.unwrap(), format!("{name} client 5"));
    }
}

/// A relay that leads to somebody else, by mistake or on purpose, leads nowhere: who answers must be who was meant.
async fn a_relay_cannot_pass_off_one_for_another(rig: &impl Rig) {
    let alice = rig.start(ALICE, None, Script::default());
    let carol = rig.start(CAROL, None, Script::default());
    let dave = rig.start(DAVE, None, Script::default());
    let _attachment = dave.attach(carol.local_address(), DEADLINE).await.unwrap();
    let wrong = Target {
        node: Some(BOB),
        ..behind(&carol, DAVE)
    };
    let error = alice.call(wrong, Lane::Client, "hello".into(), DEADLINE);
    let error = error.await.unwrap_err();
    assert!(matches!(error, CallError::Untrusted { .. }), "{error}");
    let short = Duration::from_secs(2);
    for nobody in [behind(&carol, BOB), behind(&alice, BOB)] {
        let error = alice.call(nobody, Lane::Client, "hello".into(), short);
        let error = error.await.unwrap_err();
        assert!(!matches!(error, CallError::Untrusted { .. }), "{error}");
    }
    let nowhere = Target {
        node: Some(BOB),
        address: relayed::nowhere(BOB),
    };
    let error = alice.call(nowhere, Lane::Client, "hello".into(), DEADLINE);
    let error = error.await.unwrap_err();
    assert!(matches!(error, CallError::Unreachable { .. }), "{error}");
}

/// A relay's end is noticed by those behind it, and another relay takes its place.
async fn a_lost_relay_is_replaced(rig: &impl Rig) {
    let alice = rig.start(ALICE, None, Script::default());
    let bob = rig.start(BOB, None, Script::default());
    let carol = rig.start(CAROL, None, Script::default());
    let dave = rig.start(DAVE, None, Script::default());
    rig.hide(BOB);
    let (relay, to_bob) = (carol.local_address(), behind(&carol, BOB));
    drop(carol);
    let attachment = bob.attach(relay, DEADLINE).await.unwrap();
    let reply = alice.call(to_bob, Lane::Client, "hello".into(), DEADLINE);
    reply.await.unwrap();
    rig.kill(CAROL).await;
    let noticed = timeout(2 * DEADLINE, attachment.lost()).await;
    noticed.expect("the relay's end is noticed");
    let again = bob.attach(relay, DEADLINE).await;
    assert!(again.is_err(), "{again:?}");
    let _attachment = bob.attach(dave.local_address(), DEADLINE).await.unwrap();
    let reply = alice.call(behind(&dave, BOB), Lane::Client, "hello".into(), DEADLINE);
    assert_eq!(reply.await.unwrap(), format!("{ALICE} client 5"));
}

/// Runs every case on both networks.
macro_rules! conformance {
    ($($case:ident),* $(,)?) => {
        mod memory {
            $(#[tokio::test]
            async fn $case() {
                super::$case(&super::MemoryRig::new()).await;
            })*
        }
        mod quic {
            $(#[tokio::test]
            async fn $case() {
                super::$case(&super::QuicRig::new()).await;
            })*
        }
    };
}

conformance!(
    calls_are_answered,
    deadlines_hold,
    bounds_hold,
    refusals_and_panics_are_told_apart,
    deserted_ports_fail_fast,
    the_wrong_node_is_noticed,
    addresses_are_identified,
    datagrams_arrive,
    blobs_are_verified,
    many_calls_run_at_once,
    closing_is_final,
    a_killed_peer_is_noticed,
    a_restarted_peer_is_reached_again,
    what_may_be_repeated_survives_a_restart,
    the_hidden_are_reached_through_a_relay,
    the_hidden_reach_each_other,
    a_relay_cannot_pass_off_one_for_another,
    a_lost_relay_is_replaced,
);
