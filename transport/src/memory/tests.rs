//! What only the in-memory network has: cuts, loss and crashes.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::time::Instant;

use super::*;

const DEADLINE: Duration = Duration::from_millis(400);

/// Counts what arrives.
#[derive(Default)]
struct Counter(AtomicUsize);

impl Handler for Counter {
    fn call(&self, _: Peer, _: Lane, request: Bytes) -> BoxFuture<'_, Result<Bytes, Refused>> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move { Ok(request) })
    }
    fn datagram(&self, _: Peer, _: Bytes) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
    fn blob(&self, _: Peer, _: BlobHash) -> Option<PathBuf> {
        None
    }
}

struct Pair {
    network: MemoryNetwork,
    links: [Arc<MemoryLink>; 2],
    arrived: Arc<Counter>,
}

const NODES: [NodeId; 2] = [NodeId(1), NodeId(2)];

fn target(of: usize) -> Target {
    Target {
        node: Some(NODES[of]),
        address: ([10, 0, 0, of as u8], 1).into(),
    }
}

fn pair(seed: u64) -> Pair {
    let network = MemoryNetwork::new(Seed(seed));
    let arrived = Arc::new(Counter::default());
    let links = [0, 1].map(|of| {
        let link = network.link(NODES[of], target(of).address);
        link.serve(arrived.clone());
        link
    });
    Pair {
        network,
        links,
        arrived,
    }
}

async fn call(pair: &Pair, from: usize) -> Result<Bytes, CallError> {
    let to = target(1 - from);
    let link = &pair.links[from];
    link.call(to, Lane::Raft, "x".into(), DEADLINE).await
}

/// A cut swallows one direction: requests there vanish, requests the other way arrive but their replies vanish;
/// healing restores both.
#[tokio::test]
async fn cuts_have_a_direction() {
    let pair = pair(1);
    pair.network.cut(NODES[0], NODES[1]);
    for (from, arrivals) in [(0, 0), (1, 1)] {
        let error = call(&pair, from).await;
        assert!(matches!(error, Err(CallError::Unknown(_))), "{error:?}");
        assert_eq!(pair.arrived.0.load(Ordering::SeqCst), arrivals);
    }
    pair.network.heal(NODES[0], NODES[1]);
    call(&pair, 0).await.unwrap();
    pair.network.isolate(NODES[1]);
    call(&pair, 0).await.unwrap_err();
    pair.network.heal_all();
    call(&pair, 1).await.unwrap();
}

/// Loss delays calls and loses datagrams, about as many as asked for.
#[tokio::test]
async fn loss_delays_calls_and_takes_datagrams() {
    let pair = pair(2);
    pair.network.set_loss(0.5);
    for _ in 0..200 {
        let sent = pair.links[0].datagram(target(1), "x".into()).await;
        sent.unwrap();
    }
    let started = Instant::now();
    let calls = (0..20).map(|_| async { call(&pair, 0).await.is_ok() });
    let answered = futures::future::join_all(calls).await;
    assert!(answered.into_iter().filter(|ok| *ok).count() >= 10);
    assert!(started.elapsed() >= RETRANSMIT_AFTER);
    let arrived = pair.arrived.0.load(Ordering::SeqCst);
    assert!(
        (80..160).contains(&arrived),
        "{arrived} of 200 and 20 calls"
    );
}

/// A node that starts again ends its former life; what is sent to the former address finds nobody.
#[tokio::test]
async fn a_node_lives_once() {
    let pair = pair(3);
    let elsewhere = ([10, 0, 9, 9], 1).into();
    let link = pair.network.link(NODES[1], elsewhere);
    link.serve(pair.arrived.clone());
    let error = call(&pair, 0).await;
    assert!(
        matches!(error, Err(CallError::Unreachable { .. })),
        "{error:?}"
    );
    let to = Target {
        address: elsewhere,
        ..target(1)
    };
    let reply = pair.links[0].call(to, Lane::Raft, "x".into(), DEADLINE);
    reply.await.unwrap();
    call(&pair, 1).await.unwrap_err();
}
