//! The mesh on real sockets: members in this process, each with an endpoint and a runtime of its own, over QUIC on loopback.
//! One JSON object a line on standard output; run by `cargo xtask bench mesh`.
//!
//! `cargo run --release -p riftmesh-tests --example mesh_live [handshakes|blob|MEMBERS]...`; all but large meshes if none is
//! named. Every member dials every other in time, so that a mesh of 1,000 is a million connections in one process: that wants
//! tens of gigabytes.

use std::error::Error;
use std::io::{Read as _, Write as _, stdout};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use riftmesh_base::{BlobHash, NodeId};
use riftmesh_membership::{MembershipSettings, NodeState};
use riftmesh_tests::mesh::live::LiveMembers;
use riftmesh_transport::{
    BoxFuture, Handler, Lane, Link, NodeCredential, Peer, QuicLink, QuicSettings, Refused, Target,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{RootCertStore, StreamOwned};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// Nodes that greet one, so many at a time.
const DIALS: u64 = 400;
const DIALS_AT_ONCE: usize = 16;
/// A segment or a checkpoint.
const BLOB_BYTES: usize = 64 << 20;
const BLOB_RUNS: usize = 5;
/// How long a mesh at rest is looked at.
const REST: Duration = Duration::from_secs(20);
/// Members that join, and then end, one after the other.
const TRIALS: u64 = 10;
const DEADLINE: Duration = Duration::from_secs(60);
/// As the kernel counts processor time for `/proc`, on every platform it runs on.
const TICKS_PER_SECOND: f64 = 100.0;

fn main() -> Outcome {
    let mut wanted: Vec<String> = std::env::args().skip(1).collect();
    if wanted.is_empty() {
        wanted = ["handshakes", "blob", "36"].map(str::to_owned).into();
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    for experiment in &wanted {
        match (experiment.as_str(), experiment.parse()) {
            ("handshakes", _) => runtime.block_on(handshakes())?,
            ("blob", _) => runtime.block_on(blob())?,
            (_, Ok(members @ 2..=1_000)) => runtime.block_on(mesh(members))?,
            (other, _) => {
                return Err(
                    format!("`{other}` is not handshakes, blob or 2 to 1000 members").into(),
                );
            }
        }
    }
    Ok(())
}

/// A node that answers nothing but for one blob.
struct Holder(PathBuf);

impl Handler for Holder {
    fn call(&self, _: Peer, _: Lane, _: Bytes) -> BoxFuture<'_, Result<Bytes, Refused>> {
        Box::pin(async { Err(Refused("nobody answers here".to_owned())) })
    }
    fn datagram(&self, _: Peer, _: Bytes) {}
    fn blob(&self, _: Peer, _: BlobHash) -> Option<PathBuf> {
        Some(self.0.clone())
    }
}

fn bind(credential: &NodeCredential, file: PathBuf) -> Outcome<Arc<QuicLink>> {
    let address = (Ipv4Addr::LOCALHOST, 0).into();
    let link = QuicLink::bind(address, credential, QuicSettings::default())?;
    link.serve(Arc::new(Holder(file)));
    Ok(link)
}

/// Full handshakes with both certificates checked and the greeting answered, by nodes that never met.
async fn handshakes() -> Outcome {
    let authority = LiveMembers::start(0)?;
    let server = bind(&authority.credential(NodeId(1))?, PathBuf::new())?;
    let strangers = (2..2 + DIALS)
        .map(|node| bind(&authority.credential(NodeId(node))?, PathBuf::new()))
        .collect::<Outcome<Vec<_>>>()?;
    let begin = Instant::now();
    for some in strangers.chunks(DIALS_AT_ONCE) {
        let dials: Vec<_> = some
            .iter()
            .map(|stranger| {
                let (stranger, address) = (Arc::clone(stranger), server.local_address());
                tokio::spawn(async move { stranger.identify(address, DEADLINE).await })
            })
            .collect();
        for dial in dials {
            dial.await??;
        }
    }
    let rate = DIALS as f64 / begin.elapsed().as_secs_f64();
    say(&format!(
        "\"experiment\":\"handshakes\",\"count\":{DIALS},\"at_once\":{DIALS_AT_ONCE},\"per_second\":{rate:.0}"
    ))
}

/// One blob over one connection, verified and synced, in turns with the same over TCP and TLS 1.3.
async fn blob() -> Outcome {
    let folder = std::env::temp_dir().join(format!("riftmesh-mesh-live-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let outcome = compare(&folder).await;
    std::fs::remove_dir_all(&folder)?;
    outcome
}

async fn compare(folder: &std::path::Path) -> Outcome {
    let authority = LiveMembers::start(0)?;
    let source = folder.join("source");
    // Not all alike, though nothing on the way compresses.
    let bytes: Vec<u8> = (0..BLOB_BYTES as u32)
        .map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    std::fs::write(&source, &bytes)?;
    let hash = BlobHash::of(&bytes);
    let (server, client) = (
        authority.credential(NodeId(1))?,
        authority.credential(NodeId(2))?,
    );
    let holder = bind(&server, source.clone())?;
    let fetcher = bind(&client, PathBuf::new())?;
    let target = Target {
        node: Some(NodeId(1)),
        address: holder.local_address(),
    };
    let name = format!("node.{}.riftmesh", authority.cluster());
    // The connection stands before it is measured, on both sides.
    fetcher
        .fetch(target, hash, &folder.join("warm"), DEADLINE)
        .await?;
    let (mut quic, mut tcp) = (Vec::new(), Vec::new());
    for run in 0..BLOB_RUNS {
        let into = folder.join(format!("quic-{run}"));
        let begin = Instant::now();
        fetcher.fetch(target, hash, &into, DEADLINE).await?;
        quic.push(megabytes_per_second(begin));
        let into = folder.join(format!("tcp-{run}"));
        let (source, server, client, name) = (
            source.clone(),
            tls_server(&server)?,
            tls_client(&client)?,
            name.clone(),
        );
        let rate = tokio::task::spawn_blocking(move || {
            over_tcp(server, client, &name, source, &into, hash).map_err(|error| error.to_string())
        });
        tcp.push(rate.await??);
    }
    quic.sort_by(f64::total_cmp);
    tcp.sort_by(f64::total_cmp);
    say(&format!(
        "\"experiment\":\"blob\",\"bytes\":{BLOB_BYTES},\"runs\":{BLOB_RUNS},\"quic_mb_per_second\":{:.0},\
         \"tcp_tls_mb_per_second\":{:.0}",
        quic[BLOB_RUNS / 2],
        tcp[BLOB_RUNS / 2]
    ))
}

fn megabytes_per_second(begin: Instant) -> f64 {
    BLOB_BYTES as f64 / 1e6 / begin.elapsed().as_secs_f64()
}

/// The same bytes with the same checks: read from disk, encrypted, hashed, written, synced.
fn over_tcp(
    server: Arc<rustls::ServerConfig>,
    client: Arc<rustls::ClientConfig>,
    name: &str,
    source: PathBuf,
    into: &std::path::Path,
    hash: BlobHash,
) -> Outcome<f64> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    let serving = std::thread::spawn(move || -> std::io::Result<()> {
        let (socket, _) = listener.accept()?;
        let session = rustls::ServerConnection::new(server).map_err(std::io::Error::other)?;
        let mut stream = StreamOwned::new(session, socket);
        // The handshake is over when the client has said something.
        stream.read_exact(&mut [0])?;
        let mut file = std::fs::File::open(source)?;
        let mut piece = vec![0; 256 << 10];
        loop {
            let read = file.read(&mut piece)?;
            if read == 0 {
                stream.conn.send_close_notify();
                return stream.flush();
            }
            stream.write_all(&piece[..read])?;
        }
    });
    let session = rustls::ClientConnection::new(client, ServerName::try_from(name.to_owned())?)?;
    let mut stream = StreamOwned::new(session, TcpStream::connect(address)?);
    stream.write_all(&[0])?;
    stream.flush()?;
    let begin = Instant::now();
    let (mut file, mut received) = (std::fs::File::create(into)?, Vec::with_capacity(BLOB_BYTES));
    let mut piece = vec![0; 256 << 10];
    while received.len() < BLOB_BYTES {
        let read = stream.read(&mut piece)?;
        if read == 0 {
            return Err("the blob ended early".into());
        }
        file.write_all(&piece[..read])?;
        received.extend_from_slice(&piece[..read]);
    }
    file.sync_all()?;
    if BlobHash::of(&received) != hash {
        return Err("the blob was damaged".into());
    }
    let rate = megabytes_per_second(begin);
    let served = serving.join().map_err(|_| "the server panicked")?;
    served?;
    Ok(rate)
}

/// Key, certificate and authority of a credential.
fn parts(
    credential: &NodeCredential,
) -> Outcome<(
    PrivateKeyDer<'static>,
    CertificateDer<'static>,
    RootCertStore,
)> {
    let sections = pem::parse_many(credential.to_pem())?;
    let [key, certificate, authority] = &sections[..] else {
        return Err("a credential has three parts".into());
    };
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(authority.contents().to_vec()))?;
    let key = PrivateKeyDer::try_from(key.contents().to_vec())?;
    Ok((
        key,
        CertificateDer::from(certificate.contents().to_vec()),
        roots,
    ))
}

fn tls_server(credential: &NodeCredential) -> Outcome<Arc<rustls::ServerConfig>> {
    let (key, certificate, roots) = parts(credential)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(
        Arc::new(roots),
        Arc::clone(&provider),
    );
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier.build()?)
        .with_single_cert(vec![certificate], key)?;
    Ok(Arc::new(config))
}

fn tls_client(credential: &NodeCredential) -> Outcome<Arc<rustls::ClientConfig>> {
    let (key, certificate, roots) = parts(credential)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![certificate], key)?;
    Ok(Arc::new(config))
}

/// What a mesh costs at rest, and how soon those who come are seen and those who end are missed.
async fn mesh(count: u64) -> Outcome {
    let begin = Instant::now();
    let mut members = LiveMembers::start(count)?;
    members.settle().await?;
    let formed = begin.elapsed();
    // In two rounds of probes a connection to everybody comes to stand, and the news of forming runs dry.
    let rounds = 2 * count * MembershipSettings::default().probe_every.0;
    tokio::time::sleep(REST.max(Duration::from_millis(rounds))).await;
    let (bytes, processor, begin) = (members.bytes_sent(), processor_seconds()?, Instant::now());
    tokio::time::sleep(REST).await;
    let span = begin.elapsed().as_secs_f64() * count as f64;
    let bytes = (members.bytes_sent() - bytes) as f64 / span;
    let processor = (processor_seconds()? - processor) / span * 1e3;
    say(&format!(
        "\"experiment\":\"mesh at rest\",\"members\":{count},\"formed_ms\":{},\"udp_bytes_per_second_per_member\":{bytes:.0},\
         \"processor_ms_per_second_per_member\":{processor:.2}",
        formed.as_millis()
    ))?;
    let (mut joins, mut ends) = (Vec::new(), Vec::new());
    for node in (count + 1..).take(usize::try_from(TRIALS)?).map(NodeId) {
        let begin = Instant::now();
        members.join(node)?;
        members.settle().await?;
        joins.push(begin.elapsed());
        // What is new is passed on for a while.
        tokio::time::sleep(Duration::from_secs(3)).await;
        let begin = Instant::now();
        members.kill(node);
        members.see(node, NodeState::Down).await?;
        ends.push(begin.elapsed());
    }
    for (what, mut times) in [
        ("join to visible everywhere", joins),
        ("kill to down everywhere", ends),
    ] {
        times.sort_unstable();
        let millis = |at: usize| times[at.min(times.len() - 1)].as_millis();
        say(&format!(
            "\"experiment\":\"{what}\",\"members\":{count},\"trials\":{TRIALS},\"p50_ms\":{},\"p90_ms\":{},\"max_ms\":{}",
            millis(times.len() / 2),
            millis(times.len() * 9 / 10),
            millis(times.len())
        ))?;
    }
    Ok(())
}

/// Processor time that this process has used.
fn processor_seconds() -> Outcome<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    // The name before it is in brackets and may hold anything.
    let (_, rest) = stat.rsplit_once(") ").ok_or("an unknown /proc/self/stat")?;
    let fields: Vec<_> = rest.split(' ').collect();
    let ticks =
        |at: usize| -> Outcome<f64> { Ok(fields.get(at).ok_or("too few fields")?.parse()?) };
    Ok((ticks(11)? + ticks(12)?) / TICKS_PER_SECOND)
}

fn say(figures: &str) -> Outcome {
    writeln!(stdout(), "{{{figures}}}")?;
    Ok(())
}
