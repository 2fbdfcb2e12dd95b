//! One voter as a process: consensus on disk behind a QUIC endpoint, and nothing else of a node.

use std::error::Error;
use std::io::Read;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use riftmesh_base::time::wall_clock;
use riftmesh_base::{BlobHash, LogIndex, Millis, NodeId, Role, SystemClock, decode, encode};
use riftmesh_raft::{
    ProposeError, RaftNode, RaftSettings, RaftStatus, RaftStore, RaftTimings, ReadError,
};
use riftmesh_statemachine::query::JobFilter;
use riftmesh_statemachine::{Command, Reply};
use riftmesh_storage::LogKind;
use riftmesh_transport::{
    BoxFuture, ClusterAuthority, Handler, Lane, Link, NodeCredential, Peer, QuicLink, QuicSettings,
    Refused,
};
use serde::{Deserialize, Serialize};

/// A command waits this long for its commit, as in a node.
const PROPOSE_MAX: Duration = Duration::from_secs(2);
const READ_MAX: Duration = Duration::from_secs(1);

/// A call to a voter.
#[derive(Debug, Serialize, Deserialize)]
pub enum Ask {
    Propose(Command),
    /// A linearizable read of a setting.
    Read(String),
    Status,
    /// Bytes of the state's image.
    StateBytes,
    /// The payloads of all jobs that begin like this, and the hash of the state they were found in.
    Payloads(String),
}

/// Its answer.
#[derive(Debug, Serialize, Deserialize)]
pub enum Answer {
    Applied(LogIndex, Reply),
    Value(Option<String>),
    Status(Box<RaftStatus>),
    StateBytes(u64),
    Payloads(LogIndex, BlobHash, Vec<String>),
    /// Surely not done; somebody else leads, or nobody.
    NotHere,
    /// Anything else.
    Failed(String),
}

/// How a voter process is told who it is.
#[derive(Debug, Clone)]
pub struct Identity {
    pub number: usize,
    pub directory: PathBuf,
    pub authority: PathBuf,
    pub addresses: Vec<SocketAddr>,
    pub engine: LogKind,
}

impl Identity {
    pub fn to_arguments(&self) -> Vec<String> {
        let addresses: Vec<String> = self.addresses.iter().map(ToString::to_string).collect();
        vec![
            "voter".to_owned(),
            self.number.to_string(),
            self.directory.display().to_string(),
            self.authority.display().to_string(),
            addresses.join(","),
            self.engine.name().to_owned(),
        ]
    }

    pub fn from_arguments(arguments: &[String]) -> Result<Self, Box<dyn Error>> {
        let [_, number, directory, authority, addresses, engine] = arguments else {
            return Err("voter NUMBER DIRECTORY AUTHORITY ADDRESS,ADDRESS,... ENGINE".into());
        };
        let addresses: Result<_, _> = addresses.split(',').map(str::parse).collect();
        Ok(Self {
            number: number.parse()?,
            directory: directory.into(),
            authority: authority.into(),
            addresses: addresses?,
            engine: LogKind::named(engine).ok_or("there is no such engine")?,
        })
    }

    pub fn node(number: usize) -> NodeId {
        NodeId(number as u64 + 1)
    }
}

/// Runs a voter until its stdin closes.
pub async fn run(identity: Identity) -> Result<(), Box<dyn Error>> {
    let node = Identity::node(identity.number);
    let credential = credential(&identity)?;
    let address = identity.addresses[identity.number];
    let link = QuicLink::bind(address, &credential, QuicSettings::default())?;
    let settings = RaftSettings {
        node,
        store: RaftStore::with_engine(&identity.directory, identity.engine)?,
        timings: RaftTimings::patient(),
    };
    let raft = RaftNode::open(settings, link.clone(), Arc::new(SystemClock::start())).await?;
    link.serve(Arc::new(Serve(raft.clone())));
    if identity.number == 0 && !raft.status().initialised {
        let voters = identity.addresses.iter().enumerate();
        let voters = voters.map(|(n, address)| (Identity::node(n), address.to_string()));
        raft.initialize(voters.collect()).await?;
    }
    stdin_closed().await;
    Ok(())
}

/// The voter's credential, kept beside its data as a node's is: only who restarts with the same key can tell others that their
/// connections to its former life are gone.
fn credential(identity: &Identity) -> Result<NodeCredential, Box<dyn Error>> {
    let kept = identity.directory.with_extension("credential");
    if !kept.exists() {
        let authority = ClusterAuthority::read(&identity.authority)?;
        let lasting = Millis::from_secs(24 * 3_600);
        let node = Identity::node(identity.number);
        let issued = authority.issue(node, Role::Voter, lasting, wall_clock())?;
        issued.write(&kept)?;
    }
    Ok(NodeCredential::read(&kept, wall_clock())?)
}

/// A thread of its own reads stdin, because tokio's would keep the process from ending.
async fn stdin_closed() {
    let (closed, told) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        while let Ok(1..) = std::io::stdin().lock().read(&mut [0; 64]) {}
        closed.send(()).ok();
    });
    told.await.ok();
}

struct Serve(RaftNode);

impl Handler for Serve {
    fn call(
        &self,
        from: Peer,
        lane: Lane,
        request: Bytes,
    ) -> BoxFuture<'_, Result<Bytes, Refused>> {
        Box::pin(async move {
            if lane == Lane::Raft {
                return self.0.handle(from.node, request).await;
            }
            let ask = decode(&request).map_err(|e| Refused(e.to_string()))?;
            Ok(encode(&self.answer(ask).await).into())
        })
    }
    fn datagram(&self, _: Peer, _: Bytes) {}
    fn blob(&self, _: Peer, _: BlobHash) -> Option<PathBuf> {
        None
    }
}

impl Serve {
    async fn answer(&self, ask: Ask) -> Answer {
        match ask {
            Ask::Propose(command) => match self.0.propose(command, PROPOSE_MAX).await {
                Ok((index, reply)) => Answer::Applied(index, reply),
                Err(ProposeError::NotLeader { .. }) => Answer::NotHere,
                Err(error) => Answer::Failed(error.to_string()),
            },
            Ask::Read(key) => match self.0.linearizable(READ_MAX).await {
                Ok(_) => Answer::Value(
                    self.0
                        .read(|_, state| state.setting(&key).map(|setting| setting.value.clone())),
                ),
                Err(ReadError::NoLeader) => Answer::NotHere,
                Err(error) => Answer::Failed(error.to_string()),
            },
            Ask::Status => Answer::Status(Box::new(self.0.status())),
            Ask::StateBytes => {
                Answer::StateBytes(self.0.read(|_, state| state.snapshot().len()) as u64)
            }
            Ask::Payloads(beginning) => self.0.read(|index, state| {
                let all = JobFilter {
                    limit: usize::MAX,
                    ..JobFilter::default()
                };
                let jobs = state.jobs(&all).into_iter();
                let payloads = jobs.map(|job| &job.spec.payload);
                let wanted = payloads.filter(|payload| payload.starts_with(&beginning));
                Answer::Payloads(index, state.hash(), wanted.cloned().collect())
            }),
        }
    }
}
