//! Members of a mesh over QUIC on loopback, in this process and in real time, each on a runtime of its own that can end.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use riftmesh_base::time::wall_clock;
use riftmesh_base::{BlobHash, ClusterId, Millis, NodeId, Role};
use riftmesh_membership::{
    Generations, Membership, MembershipSettings, MembershipView, NodeState, StartError,
};
use riftmesh_transport::{
    BindError, BoxFuture, ClusterAuthority, CredentialError, Handler, Lane, Link, NodeCredential,
    Peer, QuicLink, QuicSettings, Refused, SharedLink,
};
use tokio::runtime::Runtime;
use tokio::time::timeout;

use super::metadata;

/// What all wait for takes less, or has failed. Two hundred members have forty thousand connections to make.
const PATIENCE: Duration = Duration::from_secs(600);
/// Seeds that newcomers ask.
const SEEDS: usize = 3;

/// Why members did not come to be, or did not do what was waited for.
#[derive(Debug, thiserror::Error)]
pub enum LiveError {
    /// No runtime, or no socket for it.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// No certificate.
    #[error(transparent)]
    Credential(#[from] CredentialError),
    /// No endpoint.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// No membership.
    #[error(transparent)]
    Start(#[from] StartError),
    /// It did not happen in time.
    #[error("{observer} does not see {what} within {PATIENCE:?}")]
    Late {
        /// Who looked.
        observer: NodeId,
        /// For what.
        what: String,
    },
}

struct LiveMember {
    link: Arc<QuicLink>,
    membership: Membership,
    door: Arc<Door>,
    /// None only while it is being dropped.
    runtime: Option<Runtime>,
}

impl Drop for LiveMember {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// The members, and the authority of their cluster.
pub struct LiveMembers {
    authority: ClusterAuthority,
    members: BTreeMap<NodeId, LiveMember>,
}

/// Hands what arrives to the membership.
#[derive(Default)]
struct Door {
    membership: OnceLock<Membership>,
    calls: AtomicU64,
}

impl Handler for Door {
    fn call(
        &self,
        from: Peer,
        lane: Lane,
        request: Bytes,
    ) -> BoxFuture<'_, Result<Bytes, Refused>> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        Box::pin(async move {
            match (lane, self.membership.get()) {
                (Lane::Mesh, Some(membership)) => membership.handle_call(from, request).await,
                _ => Err(Refused("nobody answers here".to_owned())),
            }
        })
    }

    fn datagram(&self, from: Peer, payload: Bytes) {
        if let Some(membership) = self.membership.get() {
            membership.handle_datagram(from, payload);
        }
    }

    fn blob(&self, _: Peer, _: BlobHash) -> Option<PathBuf> {
        None
    }
}

/// Generations of nodes that live once.
struct Once;

impl Generations for Once {
    fn advance(&mut self, floor: u64) -> io::Result<u64> {
        Ok(floor.max(1))
    }
}

impl LiveMembers {
    /// Starts the nodes 1 to `count`.
    ///
    /// # Errors
    /// See [`LiveError`].
    pub fn start(count: u64) -> Result<Self, LiveError> {
        let mut all = Self {
            authority: ClusterAuthority::create(ClusterId([5; 16]), wall_clock())?,
            members: BTreeMap::new(),
        };
        for node in 1..=count {
            all.join(NodeId(node))?;
        }
        Ok(all)
    }

    /// Starts one more.
    ///
    /// # Errors
    /// See [`LiveError`].
    pub fn join(&mut self, node: NodeId) -> Result<(), LiveError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let seeds: Vec<_> = self.addresses().into_iter().take(SEEDS).collect();
        let (link, membership, door) = {
            let _inside = runtime.enter();
            let address = (Ipv4Addr::LOCALHOST, 0).into();
            let link = QuicLink::bind(address, &self.credential(node)?, QuicSettings::default())?;
            let door = Arc::new(Door::default());
            let membership = Membership::start(
                MembershipSettings::default(),
                Arc::clone(&link) as SharedLink,
                node,
                link.local_address(),
                Once,
                metadata(node.0),
                seeds,
            )?;
            // It was made just now, and is empty.
            door.membership.set(membership.clone()).ok();
            link.serve(Arc::clone(&door) as Arc<dyn Handler>);
            (link, membership, door)
        };
        let member = LiveMember {
            link,
            membership,
            door,
            runtime: Some(runtime),
        };
        self.members.insert(node, member);
        Ok(())
    }

    /// Ends one, as `kill -9` does.
    pub fn kill(&mut self, node: NodeId) {
        self.members.remove(&node);
    }

    /// Waits until all see each other, descriptions included.
    ///
    /// # Errors
    /// [`LiveError::Late`].
    pub async fn settle(&self) -> Result<(), LiveError> {
        let nodes: Vec<_> = self.nodes().collect();
        self.all_see("everybody", |view| {
            let is_known = |node: &NodeId| {
                let seen = view.get(*node);
                seen.is_some_and(|seen| {
                    matches!(seen.state, NodeState::Alive | NodeState::Suspect)
                        && seen.metadata.is_some()
                })
            };
            nodes.iter().all(is_known)
        })
        .await
    }

    /// Waits until all see a node in this state.
    ///
    /// # Errors
    /// [`LiveError::Late`].
    pub async fn see(&self, node: NodeId, state: NodeState) -> Result<(), LiveError> {
        let what = format!("{node} {state}");
        let is_so = |view: &MembershipView| view.get(node).is_some_and(|seen| seen.state == state);
        self.all_see(&what, is_so).await
    }

    async fn all_see(
        &self,
        what: &str,
        is_so: impl Fn(&MembershipView) -> bool,
    ) -> Result<(), LiveError> {
        for (observer, member) in &self.members {
            let mut views = member.membership.subscribe();
            let seen = timeout(PATIENCE, views.wait_for(|view| is_so(view))).await;
            if !matches!(seen, Ok(Ok(_))) {
                return Err(LiveError::Late {
                    observer: *observer,
                    what: what.to_owned(),
                });
            }
        }
        Ok(())
    }

    /// A credential of their cluster.
    ///
    /// # Errors
    /// What went wrong in making it.
    pub fn credential(&self, node: NodeId) -> Result<NodeCredential, CredentialError> {
        let lasting = Millis::from_secs(3_600);
        self.authority
            .issue(node, Role::Worker, lasting, wall_clock())
    }

    /// Their cluster.
    pub fn cluster(&self) -> ClusterId {
        self.authority.cluster()
    }

    /// Who runs.
    pub fn nodes(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.members.keys().copied()
    }

    /// Where they listen.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        let members = self.members.values();
        members.map(|member| member.link.local_address()).collect()
    }

    /// What each believes.
    pub fn views(&self) -> impl Iterator<Item = (NodeId, Arc<MembershipView>)> + '_ {
        let members = self.members.iter();
        members.map(|(node, member)| (*node, member.membership.view()))
    }

    /// Calls that came in.
    pub fn calls(&self) -> u64 {
        let members = self.members.values();
        members
            .map(|member| member.door.calls.load(Ordering::Relaxed))
            .sum()
    }

    /// Connections that were refused.
    pub fn refusals(&self) -> u64 {
        let counts = self.members.values().map(|member| member.link.refusals());
        counts.map(|counts| counts.values().sum::<u64>()).sum()
    }

    /// Bytes that all of them sent, in UDP datagrams.
    pub fn bytes_sent(&self) -> u64 {
        let members = self.members.values();
        members.map(|member| member.link.bytes_sent()).sum()
    }
}
