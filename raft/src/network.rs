//! openraft's network over the link: one call per request, each naming its target and bounded in time.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use openraft::OptionalSend;
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use riftmesh_base::{BlobHash, NodeId, decode, encode};
use riftmesh_transport::{CallError, Lane, SharedLink, Target};
use tokio::time::Instant;

use crate::epoch::Epoch;
use crate::types::{Address, Image, Payload, Snapshot, TypeConfig, Vote};
use crate::wire::{Envelope, Request, Response, SnapshotPart};

/// Bytes of a snapshot per message.
const PART_BYTES: usize = 1 << 20;
/// A part of a snapshot without an answer is sent again after this long. Parts that a cut swallowed must not hold up a
/// follower that is back, and a repeat costs nothing but its bytes; the last one waits for the same installation.
const PART_AGAIN: Duration = Duration::from_millis(750);

type RpcError = RPCError<TypeConfig>;

/// Sends Raft requests to any node.
#[derive(Clone)]
pub(crate) struct Wires {
    link: SharedLink,
    /// Where members were seen lately, ahead of what the log says.
    seen: Arc<Mutex<BTreeMap<u64, SocketAddr>>>,
    epoch: Epoch,
    /// An append is given at least this long, so that a slow disk is not mistaken for a dead peer.
    append_deadline: Duration,
}

impl Wires {
    pub fn new(link: SharedLink, epoch: Epoch, append_deadline: Duration) -> Self {
        Self {
            link,
            epoch,
            seen: Arc::default(),
            append_deadline,
        }
    }

    /// Notes where a member is reached now, whatever the log says.
    pub fn note_address(&self, node: NodeId, address: SocketAddr) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.insert(node.0, address);
    }

    /// Sends one request and reads the reply. All that consensus asks may be carried out twice.
    pub async fn call(
        &self,
        to: u64,
        address: &str,
        request: Request,
        deadline: Duration,
    ) -> Result<Response, WireError> {
        let target = Target {
            node: Some(NodeId(to)),
            address: self.resolve(to, address).await?,
        };
        let request = request.within(self.epoch.get());
        let bytes = encode(&Envelope { to, request });
        let reply = self
            .link
            .call_repeatable(target, Lane::Raft, bytes.into(), deadline)
            .await?;
        decode(&reply).map_err(|e| WireError::Protocol(format!("reply of node {to:016x}: {e}")))
    }

    /// What carries the requests.
    pub fn link(&self) -> &SharedLink {
        &self.link
    }

    /// Where a member is reached.
    pub async fn resolve(&self, node: u64, address: &str) -> Result<SocketAddr, WireError> {
        let seen = self
            .seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&node)
            .copied();
        if let Some(address) = seen.or_else(|| address.parse().ok()) {
            return Ok(address);
        }
        let unreachable = |reason: String| WireError::Unreachable(format!("{address}: {reason}"));
        let mut found = tokio::net::lookup_host(address)
            .await
            .map_err(|e| unreachable(e.to_string()))?;
        found
            .next()
            .ok_or_else(|| unreachable("the name has no address".to_owned()))
    }
}

/// Why a request brought no usable reply.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WireError {
    /// The peer cannot be reached, is too slow, or refuses: wait before the next try.
    #[error("unreachable: {0}")]
    Unreachable(String),
    /// The reply makes no sense, or a message is over its bound.
    #[error("{0}")]
    Protocol(String),
}

impl From<CallError> for WireError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::TooLarge { .. } => Self::Protocol(error.to_string()),
            other => Self::Unreachable(other.to_string()),
        }
    }
}

impl From<WireError> for RpcError {
    fn from(error: WireError) -> Self {
        let source = io::Error::other(error.to_string());
        match error {
            WireError::Unreachable(_) => Unreachable::new(&source).into(),
            WireError::Protocol(_) => NetworkError::new(&source).into(),
        }
    }
}

fn unexpected(response: &Response) -> RpcError {
    WireError::Protocol(format!("a reply of another kind: {response:?}")).into()
}

impl RaftNetworkFactory<TypeConfig> for Wires {
    type Network = PeerWire;

    async fn new_client(&mut self, target: u64, node: &Address) -> PeerWire {
        PeerWire {
            wires: self.clone(),
            to: target,
            address: node.0.clone(),
        }
    }
}

/// Sends Raft requests to one member.
pub(crate) struct PeerWire {
    wires: Wires,
    to: u64,
    address: String,
}

impl PeerWire {
    async fn call(&self, request: Request, deadline: Duration) -> Result<Response, RpcError> {
        let call = self.wires.call(self.to, &self.address, request, deadline);
        call.await.map_err(Into::into)
    }

    async fn append(
        &self,
        rpc: AppendEntriesRequest<TypeConfig>,
        deadline: Duration,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RpcError> {
        match self.call(Request::Append(rpc), deadline).await? {
            Response::Append(response) => Ok(response),
            other => Err(unexpected(&other)),
        }
    }

    async fn send_snapshot(
        &self,
        vote: Vote,
        snapshot: Snapshot,
        deadline: Duration,
    ) -> Result<SnapshotResponse<TypeConfig>, RpcError> {
        let Image(image) = snapshot.snapshot;
        let hash = BlobHash::of(&image);
        let mut offset = 0;
        loop {
            let end = image.len().min(offset + PART_BYTES);
            let part = SnapshotPart {
                vote,
                last_log_id: snapshot.meta.last_log_id,
                membership: snapshot.meta.last_membership.clone(),
                total: image.len() as u64,
                hash,
                offset: offset as u64,
                bytes: Payload(image[offset..end].into()),
            };
            match self.send_part(&part, deadline).await? {
                Response::Installed(response) => return Ok(response),
                Response::PartTaken if end < image.len() => offset = end,
                other => return Err(unexpected(&other)),
            }
        }
    }

    /// Sends a part until it is answered, for `deadline` at most. A peer that says at once that it is not there is not
    /// asked again: openraft waits before it begins anew.
    async fn send_part(
        &self,
        part: &SnapshotPart,
        deadline: Duration,
    ) -> Result<Response, RpcError> {
        let until = Instant::now() + deadline;
        loop {
            let end = until.min(Instant::now() + PART_AGAIN);
            let within = end.saturating_duration_since(Instant::now());
            let request = Request::Snapshot(part.clone());
            let outcome = self.call(request, within).await;
            let was_silent = outcome.is_err() && Instant::now() >= end;
            if !was_silent || end >= until {
                return outcome;
            }
        }
    }
}

impl RaftNetworkV2<TypeConfig> for PeerWire {
    type SnapshotData = Image;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RpcError> {
        let deadline = option.hard_ttl().max(self.wires.append_deadline);
        self.append(rpc, deadline).await
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RpcError> {
        match self.call(Request::Vote(rpc), option.hard_ttl()).await? {
            Response::Vote(response) => Ok(response),
            other => Err(unexpected(&other)),
        }
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RpcError> {
        match self.call(Request::PreVote(rpc), option.hard_ttl()).await? {
            Response::Vote(response) => Ok(response),
            other => Err(unexpected(&other)),
        }
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        tokio::select! {
            sent = self.send_snapshot(vote, snapshot, option.hard_ttl()) => sent.map_err(Into::into),
            closed = cancel => Err(StreamingError::Closed(closed)),
        }
    }

    async fn transfer_leader(
        &mut self,
        rpc: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RpcError> {
        match self.call(Request::Transfer(rpc), option.hard_ttl()).await? {
            Response::Transfer(response) => Ok(response),
            other => Err(unexpected(&other)),
        }
    }
}
