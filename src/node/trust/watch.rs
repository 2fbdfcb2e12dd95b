//! Tells the endpoint whom the cluster trusts no more: voters read it in the state, workers ask voters.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use riftmesh_base::NodeId;
use riftmesh_raft::RaftNode;
use riftmesh_statemachine::bounds::REVOCATIONS_MAX;
use riftmesh_transport::QuicLink;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::client::{Client, deadlines};
use crate::protocol::{Request, Response};

/// A voter looks this often.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A worker asks this often.
pub(super) const ASK_EVERY: Duration = Duration::from_secs(15);

/// Reads the revocations in a voter's state until the node stops.
pub async fn follow_state(raft: RaftNode, link: Arc<QuicLink>, stopping: watch::Receiver<bool>) {
    until_stopped(stopping, async {
        loop {
            link.revoke(
                raft.read(|_, state| state.revocations().map(|known| known.node).collect()),
            );
            sleep(LOOK_EVERY).await;
        }
    })
    .await;
}

/// Asks the voters for the revocations until the node stops. What was heard last stays in force while none answers.
pub async fn follow_voters(client: Client, link: Arc<QuicLink>, stopping: watch::Receiver<bool>) {
    until_stopped(stopping, async {
        loop {
            match client.ask_any(Request::Revoked, deadlines::COMMAND).await {
                Ok(Response::Revoked { nodes }) if nodes.len() <= REVOCATIONS_MAX => {
                    link.revoke(BTreeSet::<NodeId>::from_iter(nodes));
                }
                Ok(other) => tracing::warn!(?other, "unexpected list of revoked nodes"),
                Err(error) => tracing::debug!(%error, "no voter says who was revoked"),
            }
            sleep(ASK_EVERY).await;
        }
    })
    .await;
}

/// Works until the node stops.
pub(super) async fn until_stopped(
    mut stopping: watch::Receiver<bool>,
    work: impl Future<Output = ()>,
) {
    tokio::select! {
        () = work => {}
        // The sender ends with the node.
        _ = stopping.changed() => {}
    }
}
