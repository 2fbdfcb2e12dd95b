//! Sorts what arrives at a node onto its parts.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use riftmesh_base::{BlobHash, Term};
use riftmesh_membership::Membership;
use riftmesh_raft::RaftNode;
use riftmesh_transport::link::{BoxFuture, Doorkeeper, Handler, Lane, Peer, Refused};

use super::trust::Issuer;
use crate::blobs::BlobAccess;
use crate::client::{Caller, LocalService};
use crate::protocol::{Request, Response};

/// Answers client calls on a node that does not vote.
pub struct NoVoter;

impl LocalService for NoVoter {
    fn handle(&self, _caller: Caller, _request: Request) -> BoxFuture<'_, Response> {
        let response = Response::NotLeader {
            hint: None,
            term: Term(0),
        };
        Box::pin(std::future::ready(response))
    }
}

/// Sorts what arrives onto the parts.
pub struct NodeHandler {
    pub raft: Option<RaftNode>,
    pub service: Arc<dyn LocalService>,
    pub membership: Membership,
    pub blobs: Arc<BlobAccess>,
    /// Lets strangers in, on nodes that can.
    pub issuer: Option<Arc<Issuer>>,
}

impl Handler for NodeHandler {
    fn call(
        &self,
        from: Peer,
        lane: Lane,
        request: Bytes,
    ) -> BoxFuture<'_, Result<Bytes, Refused>> {
        Box::pin(async move {
            match lane {
                Lane::Mesh => self.membership.handle_call(from, request).await,
                Lane::Raft => match &self.raft {
                    Some(raft) => raft.handle(from.node, request).await,
                    None => Err(Refused("this node does not vote".to_owned())),
                },
                Lane::Client => {
                    let request: Request = riftmesh_base::decode(&request)
                        .map_err(|error| Refused(format!("malformed request: {error}")))?;
                    Ok(riftmesh_base::encode(
                        &self.service.handle(Caller::Peer(from), request).await,
                    )
                    .into())
                }
            }
        })
    }

    fn datagram(&self, from: Peer, payload: Bytes) {
        self.membership.handle_datagram(from, payload);
    }

    fn blob(&self, _from: Peer, hash: BlobHash) -> Option<PathBuf> {
        self.blobs.local(&hash)
    }

    fn door(&self) -> Option<&dyn Doorkeeper> {
        self.issuer
            .as_deref()
            .map(|issuer| issuer as &dyn Doorkeeper)
    }
}
