//! Answers to the other voters' requests.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use futures::FutureExt as _;
use openraft::raft::AppendEntriesResponse;
use riftmesh_base::{NodeId, decode, encode};
use riftmesh_transport::Refused;

use crate::epoch::{Admission, admit};
use crate::inbox::Taken;
use crate::node::RaftNode;
use crate::types::{Snapshot, SnapshotMeta};
use crate::wire::{Envelope, Request, Response, SnapshotPart};

impl RaftNode {
    /// Answers a request that came on the Raft lane from `peer`, whose identity the link has checked.
    ///
    /// # Errors
    /// The refusal's text: the request is malformed, meant for another node, speaks for another node than `peer`, or
    /// consensus has died here.
    pub async fn handle(&self, peer: NodeId, request: Bytes) -> Result<Bytes, Refused> {
        let envelope: Envelope =
            decode(&request).map_err(|e| Refused(format!("malformed raft request: {e}")))?;
        if envelope.to != self.0.node.0 {
            return Err(Refused(format!(
                "this is node {}, not {}",
                self.0.node,
                NodeId(envelope.to)
            )));
        }
        let (epoch, request) = envelope
            .request
            .unwrap_epoch()
            .map_err(|e| Refused(format!("malformed raft request: {e}")))?;
        request
            .check_numbers()
            .map_err(|e| Refused(format!("malformed raft request: {e}")))?;
        check_sender(peer, &request)?;
        self.check_epoch(epoch)?;
        let response = self.answer(peer, request).await?;
        Ok(encode(&response).into())
    }

    fn check_epoch(&self, theirs: u64) -> Result<(), Refused> {
        let own = self.0.epoch.get();
        if own == theirs {
            return Ok(());
        }
        match admit(own, theirs, self.status().initialised) {
            Admission::Answer => Ok(()),
            Admission::TakeUp => {
                let taken = self.0.epoch.raise(theirs);
                taken.map_err(|e| Refused(format!("the epoch cannot be written: {e}")))
            }
            Admission::Refuse(reason) => {
                tracing::warn!(own, theirs, "a raft request of another epoch");
                Err(Refused(reason))
            }
        }
    }

    async fn answer(&self, peer: NodeId, request: Request) -> Result<Response, Refused> {
        let core = &self.0.core;
        let dead = |e: &dyn std::fmt::Display| Refused(format!("consensus has died here: {e}"));
        Ok(match request {
            Request::Append(rpc) => {
                let response = core.append_entries(rpc).await.map_err(|e| dead(&e))?;
                if !matches!(response, AppendEntriesResponse::HigherVote(_)) {
                    let now = self.0.clock.now().0.saturating_add(1);
                    self.0.leader_heard.store(now, Ordering::Relaxed);
                }
                Response::Append(response)
            }
            Request::Vote(rpc) => Response::Vote(core.vote(rpc).await.map_err(|e| dead(&e))?),
            Request::PreVote(rpc) => {
                Response::Vote(core.pre_vote(rpc).await.map_err(|e| dead(&e))?)
            }
            Request::Transfer(rpc) => {
                let response = core.handle_transfer_leader(rpc).await;
                Response::Transfer(response.map_err(|e| dead(&e))?)
            }
            Request::InEpoch { .. } => {
                return Err(Refused("an epoch within an epoch".to_owned()));
            }
            Request::Snapshot(part) => self.take_part(peer, part).await?,
            Request::ReadIndex => {
                let answer = self.0.reads.index().await;
                Response::ReadIndex(answer.map_err(|e| Refused(format!("{e:?}")))?)
            }
        })
    }

    async fn take_part(&self, peer: NodeId, part: SnapshotPart) -> Result<Response, Refused> {
        let (core, vote) = (self.0.core.clone(), part.vote);
        let meta = SnapshotMeta {
            last_log_id: part.last_log_id,
            last_membership: part.membership.clone(),
        };
        // A task of its own: the installation goes on when the sender gives up waiting and asks again.
        let install = |snapshot| {
            let snapshot = Snapshot { meta, snapshot };
            let task =
                tokio::spawn(async move { core.install_full_snapshot(vote, snapshot).await });
            let outcome = async move {
                match task.await {
                    Ok(Ok(response)) => Ok(response),
                    Ok(Err(fatal)) => Err(format!("consensus has died here: {fatal}")),
                    Err(ended) => Err(format!("installing the snapshot ended early: {ended}")),
                }
            };
            outcome.boxed()
        };
        match self.0.inbox.take(peer, &part, install).map_err(Refused)? {
            Taken::Part => Ok(Response::PartTaken),
            Taken::Installing(installed) => {
                let outcome = installed.await;
                outcome.map(Response::Installed).map_err(Refused)
            }
        }
    }
}

/// A request that speaks for a node must come from that node.
fn check_sender(peer: NodeId, request: &Request) -> Result<(), Refused> {
    let speaker = match request {
        Request::Append(rpc) => rpc.vote.leader_id().node_id,
        Request::Vote(rpc) | Request::PreVote(rpc) => rpc.vote.leader_id().node_id,
        Request::Transfer(rpc) => rpc.from_leader().leader_id().node_id,
        Request::Snapshot(part) => part.vote.leader_id().node_id,
        Request::ReadIndex | Request::InEpoch { .. } => return Ok(()),
    };
    if speaker == peer.0 {
        return Ok(());
    }
    Err(Refused(format!(
        "the request speaks for node {} and came from {peer}",
        NodeId(speaker)
    )))
}
