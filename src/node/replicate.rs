//! Every voter keeps the models that matter, so that no worker's death takes a champion with it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use riftmesh_base::{BlobHash, NodeId};
use riftmesh_raft::RaftNode;
use riftmesh_statemachine::State;
use riftmesh_statemachine::command::Body;
use riftmesh_statemachine::models::ModelState;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use super::mesh::SharedMesh;
use crate::blobs::BlobAccess;
use crate::client::{Client, deadlines};
use crate::protocol::Holder;

/// Time between two looks at the registry.
const EVERY: Duration = Duration::from_secs(1);

/// A model this voter should have and has not said to have.
struct Wanted {
    weights: BlobHash,
    manifest: BlobHash,
    holders: Vec<(NodeId, Option<String>)>,
}

/// Keeps copies until `stopping` turns true.
pub async fn run(
    raft: RaftNode,
    mesh: SharedMesh,
    blobs: Arc<BlobAccess>,
    client: Client,
    mut stopping: watch::Receiver<bool>,
) {
    tokio::select! {
        () = keep(&raft, &mesh, &blobs, &client) => {}
        // An error means that the node is gone, which is a stop as well.
        _ = stopping.wait_for(|stop| *stop) => {}
    }
}

async fn keep(raft: &RaftNode, mesh: &SharedMesh, blobs: &BlobAccess, client: &Client) {
    let mut looks = interval(EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        for wanted in raft.read(|_, state| wanted(state, raft.node())) {
            let addresses = mesh.members();
            let holder = |(node, roster): &(NodeId, Option<String>)| {
                let gossip = addresses
                    .iter()
                    .find(|member| member.node == *node)
                    .map(|member| member.address);
                let address = gossip.or_else(|| roster.as_ref()?.parse().ok())?;
                Some(Holder {
                    node: *node,
                    address,
                })
            };
            let holders: Vec<_> = wanted.holders.iter().filter_map(holder).collect();
            if let Err(error) = copy(&wanted, &holders, blobs, client, raft.node()).await {
                tracing::warn!(%error, model = wanted.weights.short(), "a model could not be copied yet");
            }
        }
    }
}

async fn copy(
    wanted: &Wanted,
    holders: &[Holder],
    blobs: &BlobAccess,
    client: &Client,
    node: NodeId,
) -> anyhow::Result<()> {
    blobs.fetch(wanted.manifest, holders).await?;
    blobs.fetch(wanted.weights, holders).await?;
    client
        .propose(
            Body::AddHolder {
                blob: wanted.weights,
                node,
            },
            deadlines::COMMAND,
        )
        .await?;
    Ok(())
}

/// Champions past and present, the latest model (training goes on from it) and candidates, as far as this node is not
/// among their holders.
fn wanted(state: &State, node: NodeId) -> Vec<Wanted> {
    if state.node(node).is_none() {
        return Vec::new();
    }
    let mut all = Vec::new();
    for name in state.configurations() {
        let latest: BTreeSet<_> = state.latest(name).into_iter().collect();
        let models = state.models(name).filter(|model| {
            let kept = !matches!(model.state, ModelState::Rejected { .. })
                || latest.contains(&model.record.hash);
            kept && !model.holders.contains(&node)
        });
        all.extend(models.map(|model| {
            Wanted {
                weights: model.record.hash,
                manifest: model.record.manifest,
                holders: model
                    .holders
                    .iter()
                    .map(|node| {
                        (
                            *node,
                            state.node(*node).map(|entry| entry.record.address.clone()),
                        )
                    })
                    .collect(),
            }
        }));
    }
    all
}
