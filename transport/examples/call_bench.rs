//! What the QUIC endpoint costs on loopback. Prints one JSON object per figure; run by `cargo xtask bench`.

use std::error::Error;
use std::io::Write;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use riftmesh_base::time::wall_clock;
use riftmesh_base::{BlobHash, ClusterId, Millis, NodeId, Role};
use riftmesh_transport::{
    BoxFuture, ClusterAuthority, Handler, Lane, Link, Peer, QuicLink, QuicSettings, Refused, Target,
};

const DEADLINE: Duration = Duration::from_secs(30);
const SMALL_BYTES: usize = 64;
const CALLS: usize = 10_000;
const CALLERS: usize = 64;
const BLOB_BYTES: usize = 64 << 20;
const DIALS: usize = 50;

/// Echoes calls and serves one blob.
struct Echo(PathBuf);

impl Handler for Echo {
    fn call(&self, _: Peer, _: Lane, request: Bytes) -> BoxFuture<'_, Result<Bytes, Refused>> {
        Box::pin(async move { Ok(request) })
    }
    fn datagram(&self, _: Peer, _: Bytes) {}
    fn blob(&self, _: Peer, _: BlobHash) -> Option<PathBuf> {
        Some(self.0.clone())
    }
}

fn report(figure: &str, value: f64, unit: &str) -> std::io::Result<()> {
    writeln!(
        std::io::stdout(),
        r#"{{"figure":"{figure}","value":{value:.1},"unit":"{unit}"}}"#
    )
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let source = folder.path().join("source");
    let blob = vec![7; BLOB_BYTES];
    std::fs::write(&source, &blob)?;
    let authority = ClusterAuthority::create(ClusterId([1; 16]), wall_clock())?;
    let bind = |node| -> Result<Arc<QuicLink>, Box<dyn Error>> {
        let credential = authority.issue(
            NodeId(node),
            Role::Voter,
            Millis::from_secs(3_600),
            wall_clock(),
        )?;
        let address = (Ipv4Addr::LOCALHOST, 0).into();
        let link = QuicLink::bind(address, &credential, QuicSettings::default())?;
        link.serve(Arc::new(Echo(source.clone())));
        Ok(link)
    };
    let (alice, bob) = (bind(1)?, bind(2)?);
    let bob = Target {
        node: Some(NodeId(2)),
        address: bob.local_address(),
    };
    one_after_the_other(&alice, bob).await?;
    many_at_once(&alice, bob).await?;

    let started = Instant::now();
    let into = folder.path().join("arrived");
    let length = alice
        .fetch(bob, BlobHash::of(&blob), &into, DEADLINE)
        .await?;
    let megabytes = length as f64 / 1e6;
    report(
        "blob",
        megabytes / started.elapsed().as_secs_f64(),
        "MB/s, verified and synced",
    )?;

    let started = Instant::now();
    for node in 0..DIALS {
        let fresh = bind(100 + node as u64)?;
        fresh.identify(bob.address, DEADLINE).await?;
    }
    let each = started.elapsed().as_secs_f64() * 1e3 / DIALS as f64;
    report(
        "first contact",
        each,
        "ms, issuing a certificate and binding included",
    )?;
    Ok(())
}

async fn one_after_the_other(alice: &QuicLink, bob: Target) -> Result<(), Box<dyn Error>> {
    let request = Bytes::from(vec![0; SMALL_BYTES]);
    let mut times = Vec::with_capacity(CALLS);
    for _ in 0..CALLS {
        let started = Instant::now();
        alice
            .call(bob, Lane::Raft, request.clone(), DEADLINE)
            .await?;
        times.push(started.elapsed());
    }
    times.sort_unstable();
    let micros = |share: usize| times[CALLS * share / 100].as_secs_f64() * 1e6;
    report("small call, p50", micros(50), "us")?;
    report("small call, p99", micros(99), "us")?;
    Ok(())
}

async fn many_at_once(alice: &Arc<QuicLink>, bob: Target) -> Result<(), Box<dyn Error>> {
    let started = Instant::now();
    let callers = (0..CALLERS).map(|_| {
        let alice = alice.clone();
        tokio::spawn(async move {
            for _ in 0..CALLS / CALLERS {
                let request = Bytes::from(vec![0; SMALL_BYTES]);
                alice.call(bob, Lane::Client, request, DEADLINE).await?;
            }
            Ok::<_, riftmesh_transport::CallError>(())
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        caller.await??;
    }
    let each = started.elapsed().as_secs_f64() * 1e6 / CALLS as f64;
    report("small call, 64 callers", each, "us per call")?;
    Ok(())
}
