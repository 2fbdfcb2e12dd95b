//! One node: consensus, gossip, state, HTTP and worker agent, constructed and connected.
//!
//! Two runtimes keep what must be punctual apart from what is merely busy: consensus, gossip and the QUIC endpoint run
//! on the control runtime; HTTP, the agent and blobs on the work runtime. Jobs run in processes of their own.

mod answer;
mod archive;
mod autopilot;
mod body;
mod bootstrap;
mod clients;
mod cluster_view;
mod compose;
mod events;
mod gossip;
mod handler;
mod history;
mod http;
mod machine;
mod matches;
pub mod mesh;
mod mesh_desk;
mod mesh_log;
mod metrics;
mod progress;
mod relay;
mod replicate;
mod sweep;
pub mod testimony;
mod trust;
pub mod voter;
mod voter_parts;

use std::collections::BTreeSet;
use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use rand::RngExt;
use riftmesh_base::{ClusterId, time::wall_clock};
use riftmesh_statemachine::roster::Role;
use riftmesh_transport::{ClusterAuthority, JoinToken};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;

use crate::chores::settings::LoopSettings;

/// The environment variable that a join token may come in. Job processes do not inherit it.
pub const JOIN_VARIABLE: &str = "RIFTMESH_JOIN";

/// How long a node's runtimes may take to end once everything was told to stop.
const RUNTIME_END: Duration = Duration::from_secs(2);

/// Everything a node is told when it starts.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    /// Data directory.
    pub dir: PathBuf,
    /// Name for people.
    pub name: String,
    /// QUIC address.
    pub listen: SocketAddr,
    /// Nobody can dial that: the node is reached through a relay.
    pub dial_out: bool,
    /// HTTP address.
    pub http: SocketAddr,
    /// What it is for.
    pub role: Role,
    /// Nodes to meet.
    pub seeds: Vec<SocketAddr>,
    /// Form a cluster of exactly this many voters.
    pub bootstrap_expect: Option<u16>,
    /// The cluster's credential, on machines that are trusted with it.
    pub credential: Option<PathBuf>,
    /// A join token, for a first start without it.
    pub join: Option<JoinToken>,
    /// Jobs at once.
    pub slots: u16,
    /// CUDA devices for jobs.
    pub cuda: Vec<String>,
    /// Memory of the first of them in MiB that jobs may be promised.
    pub gpu_memory_mib: u32,
    /// Labels for jobs that ask for them.
    pub labels: BTreeSet<String>,
    /// Where the machine stands.
    pub zone: Option<String>,
    /// What the leader keeps going.
    pub loops: Vec<LoopSettings>,
}

/// Runs a node until it is interrupted, told to leave, or its consensus dies.
///
/// # Errors
/// The node could not start, or died; the text says why. A supervisor starts it again.
pub fn run(config: NodeConfig, lifeline: bool) -> anyhow::Result<()> {
    start_log();
    abort_on_panic();
    #[cfg(feature = "mutants")]
    if let Ok(name) = std::env::var("RIFTMESH_MUTANT") {
        riftmesh_raft::mutants::plant_named(&name).map_err(anyhow::Error::msg)?;
    }
    let control = runtime("control", 2)?;
    let work = runtime("work", 2)?;
    let (stop, stopping) = watch::channel(false);
    let outcome = control.block_on(async {
        let node = compose::start(config, work.handle().clone(), stopping).await?;
        let reason = tokio::select! {
            reason = interrupted(lifeline) => reason.map(|reason| tracing::info!(reason, "stopping")),
            reason = node.failure() => Err(anyhow::anyhow!(reason)),
            () = node.told_to_leave() => {
                tracing::info!("leaving, as somebody asked over HTTP");
                Ok(())
            }
        };
        stop.send_replace(true);
        node.stop().await;
        reason
    });
    work.shutdown_timeout(RUNTIME_END);
    control.shutdown_timeout(RUNTIME_END);
    outcome
}

fn runtime(name: &str, threads: usize) -> anyhow::Result<Runtime> {
    let runtime = Builder::new_multi_thread()
        .worker_threads(threads)
        .thread_name(name)
        .enable_all()
        .build();
    runtime.with_context(|| format!("cannot start the {name} threads"))
}

/// Talk goes to stderr; `RIFTMESH_LOG` chooses how much.
fn start_log() {
    use tracing_subscriber::EnvFilter;
    let filter = EnvFilter::try_from_env("RIFTMESH_LOG")
        .unwrap_or_else(|_| EnvFilter::new("info,openraft=warn"));
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false);
    if subscriber.try_init().is_err() {
        tracing::debug!("the log was started before");
    }
}

/// A node that lost one of its tasks is worse than a node that is gone: peers see a clean crash, and the supervisor
/// starts it again (DISTRIBUTED rules 15 and 19).
fn abort_on_panic() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        print(panic);
        std::process::abort();
    }));
}

/// Ends when somebody wants the node to leave.
async fn interrupted(lifeline: bool) -> anyhow::Result<&'static str> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let cut = async {
        if lifeline {
            stdin_closed().await
        } else {
            std::future::pending().await
        }
    };
    Ok(tokio::select! {
        _ = interrupt.recv() => "interrupted",
        _ = terminate.recv() => "asked to terminate",
        () = cut => "the process that started this node has let go of it",
    })
}

/// Ends when stdin does. A thread of its own reads it, because tokio's would keep the runtime from ending.
async fn stdin_closed() {
    let (closed, told) = tokio::sync::oneshot::channel();
    let reader = std::thread::Builder::new()
        .name("lifeline".to_owned())
        .spawn(move || {
            let mut rest = [0; 64];
            while let Ok(1..) = std::io::stdin().lock().read(&mut rest) {}
            if closed.send(()).is_err() {
                tracing::debug!("the node is stopping already");
            }
        });
    match reader {
        Ok(_) => drop(told.await),
        Err(error) => {
            tracing::error!(%error, "cannot watch stdin");
            std::future::pending().await
        }
    }
}

/// Makes the credential of a new cluster at `path`, unless there is one.
///
/// # Errors
/// The file cannot be written.
pub fn make_credential(path: &Path) -> anyhow::Result<()> {
    if path.exists() {
        return Ok(());
    }
    let cluster = ClusterId(rand::rng().random());
    let authority = ClusterAuthority::create(cluster, wall_clock())?;
    authority
        .write(path)
        .with_context(|| format!("cannot write {}", path.display()))
}
