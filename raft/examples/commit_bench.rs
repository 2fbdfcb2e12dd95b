//! Commit latency and throughput of three voters in one process, each with a log of its own on the disk below the
//! current directory, over the in-memory network with 0.05 ms one-way delay.
//!
//! `cargo run --release -p riftmesh-raft --example commit_bench [SECONDS]`

use std::collections::BTreeMap;
use std::error::Error;
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use riftmesh_base::{BlobHash, Clock, NodeId, Seed, SystemClock};
use riftmesh_raft::{RaftNode, RaftRole, RaftSettings, RaftStore, RaftTimings};
use riftmesh_statemachine::{Body, Command};
use riftmesh_transport::memory::MemoryNetwork;
use riftmesh_transport::{BoxFuture, Handler, Lane, Link, Peer, Refused};

const DEADLINE: Duration = Duration::from_secs(10);
const ONE_WAY: Duration = Duration::from_micros(50);

struct Serve(RaftNode);

impl Handler for Serve {
    fn call(&self, from: Peer, _: Lane, request: Bytes) -> BoxFuture<'_, Result<Bytes, Refused>> {
        Box::pin(self.0.handle(from.node, request))
    }
    fn datagram(&self, _: Peer, _: Bytes) {}
    fn blob(&self, _: Peer, _: BlobHash) -> Option<PathBuf> {
        None
    }
}

async fn start(
    network: &MemoryNetwork,
    i: u64,
    store: RaftStore,
) -> Result<RaftNode, Box<dyn Error>> {
    let link = network.link(NodeId(i), address(i));
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::start());
    let settings = RaftSettings {
        node: NodeId(i),
        store,
        timings: RaftTimings::default(),
    };
    let node = RaftNode::open(settings, link.clone(), clock).await?;
    link.serve(Arc::new(Serve(node.clone())));
    Ok(node)
}

fn address(i: u64) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 7_000 + i as u16))
}

async fn leader(nodes: &[RaftNode]) -> RaftNode {
    loop {
        let leads = |node: &&RaftNode| {
            let status = node.status();
            status.role == RaftRole::Leader && status.has_quorum
        };
        if let Some(node) = nodes.iter().find(leads) {
            return node.clone();
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Runs `clients` callers, each proposing one command after the other, and prints what they saw.
async fn measure(node: &RaftNode, clients: usize, length: Duration) -> Result<(), Box<dyn Error>> {
    let end = Instant::now() + length;
    let before = node.status();
    let callers = (0..clients).map(|_| {
        let node = node.clone();
        tokio::spawn(async move {
            let (mut times, mut failures) = (Vec::new(), 0);
            while Instant::now() < end {
                let began = Instant::now();
                let command = Command {
                    origin: None,
                    body: Body::Tick,
                };
                match node.propose(command, DEADLINE).await {
                    Ok(_) => times.push(began.elapsed()),
                    Err(_) => failures += 1,
                }
            }
            (times, failures)
        })
    });
    let began = Instant::now();
    let (mut times, mut failures) = (Vec::new(), 0);
    for caller in callers.collect::<Vec<_>>() {
        let (some, failed) = caller.await?;
        times.extend(some);
        failures += failed;
    }
    let seconds = began.elapsed().as_secs_f64();
    times.sort_unstable();
    let at = |share: f64| {
        let index = (times.len() as f64 * share) as usize;
        times
            .get(index)
            .map_or(0.0, |time| time.as_secs_f64() * 1e3)
    };
    let after = node.status();
    let entries = after.last_log.unwrap_or_default().0 - before.last_log.unwrap_or_default().0;
    writeln!(
        std::io::stdout(),
        "{clients:4} clients: {:8.0} commands/s, p50 {:.2} ms, p99 {:.2} ms, {:.1} commands per entry, sync p50 {:.2} ms p99 {:.2} ms, failures {failures}",
        times.len() as f64 / seconds,
        at(0.50),
        at(0.99),
        times.len() as f64 / entries.max(1) as f64,
        after.sync_p50_micros as f64 / 1e3,
        after.sync_p99_micros as f64 / 1e3,
    )?;
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let seconds = std::env::args().nth(1).map_or(Ok(5), |text| text.parse())?;
    let network = MemoryNetwork::new(Seed(1));
    network.set_latency(ONE_WAY..=ONE_WAY);
    let directory = tempfile::tempdir_in(".")?;
    let mut nodes = Vec::new();
    for i in 1..=3 {
        let store = RaftStore::on_disk(&directory.path().join(i.to_string()))?;
        nodes.push(start(&network, i, store).await?);
    }
    let voters: BTreeMap<NodeId, String> = (1..=3)
        .map(|i| (NodeId(i), address(i).to_string()))
        .collect();
    nodes[0].initialize(voters).await?;
    let node = leader(&nodes).await;
    for clients in [1, 64, 512] {
        measure(&node, clients, Duration::from_secs(seconds)).await?;
    }
    for node in nodes {
        node.halt().await;
    }
    Ok(())
}
