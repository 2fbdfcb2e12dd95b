//! Every voter keeps the archive of ended jobs: the batches that the state hands out, and those that others were faster
//! with.

use std::sync::Arc;
use std::time::Duration;

use riftmesh_base::NodeId;
use riftmesh_raft::RaftNode;
use riftmesh_statemachine::State;
use riftmesh_statemachine::archive::{ArchiveLink, walk};
use riftmesh_statemachine::command::Body;
use riftmesh_statemachine::roster::Role;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use super::mesh::SharedMesh;
use crate::blobs::BlobAccess;
use crate::client::{Client, deadlines};
use crate::protocol::Holder;

/// Time between two looks at the state.
const EVERY: Duration = Duration::from_secs(1);
/// Batches read between two looks, so that a long archive does not hold up the new ones.
const LOOKED_AT: usize = 64;

/// The archive of one voter.
pub struct ArchiveKeeper {
    pub raft: RaftNode,
    pub mesh: SharedMesh,
    pub blobs: Arc<BlobAccess>,
    pub client: Client,
}

/// How far down the chain is known to be here.
#[derive(Debug, Default)]
struct Known {
    /// All from here down to the first batch are.
    whole: Option<ArchiveLink>,
    /// The head that is being followed, and where to go on.
    following: Option<(ArchiveLink, ArchiveLink)>,
}

impl ArchiveKeeper {
    /// Keeps it until `stopping` turns true.
    pub async fn run(self, mut stopping: watch::Receiver<bool>) {
        tokio::select! {
            () = self.keep() => {}
            // An error means that the node is gone, which is a stop as well.
            _ = stopping.wait_for(|stop| *stop) => {}
        }
    }

    async fn keep(&self) {
        let mut looks = interval(EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut known = Known::default();
        loop {
            looks.tick().await;
            let own = self.raft.node();
            for (link, bytes) in self.raft.read(|_, state| handed_out(state, own)) {
                if let Err(error) = self.store(link, bytes).await {
                    tracing::warn!(%error, %link, "a part of the archive could not be kept yet");
                }
            }
            if let Some(head) = self.raft.read(|_, state| state.archive_head()) {
                self.follow(head, &mut known).await;
            }
        }
    }

    /// Keeps a batch that the state hands out, and says so.
    async fn store(&self, link: ArchiveLink, bytes: Vec<u8>) -> anyhow::Result<()> {
        self.blobs.keep_bytes(bytes).await?;
        let (blob, node) = (link.hash, self.raft.node());
        let body = Body::AddHolder { blob, node };
        self.client.propose(body, deadlines::COMMAND).await?;
        Ok(())
    }

    /// Looks down the chain for what is not here, a part of it at a time, and fetches that from other voters.
    async fn follow(&self, head: ArchiveLink, known: &mut Known) {
        if known.whole == Some(head) {
            return;
        }
        let (head, from) = known.following.unwrap_or((head, head));
        let left = known.whole.map_or(from.number, |whole| {
            from.number.saturating_sub(whole.number)
        });
        let max = LOOKED_AT.min(usize::try_from(left).unwrap_or(LOOKED_AT));
        let blobs = Arc::clone(&self.blobs);
        let looked = tokio::task::spawn_blocking(move || {
            walk(Some(from), max, |hash| blobs.read_whole(hash))
        });
        let Ok(looked) = looked.await else {
            return;
        };
        let reached = looked.next.map_or(0, |next| next.number);
        known.following = match (looked.broken, looked.next) {
            (Some((link, problem)), _) => {
                tracing::warn!(%link, problem, "a part of the archive is not here; asking the other voters");
                self.fetch(link).await;
                Some((head, link))
            }
            (None, Some(next)) if known.whole.is_none_or(|whole| reached > whole.number) => {
                Some((head, next))
            }
            (None, _) => {
                known.whole = Some(head);
                None
            }
        };
    }

    async fn fetch(&self, link: ArchiveLink) {
        let voters = self.raft.read(|_, state| voters(state));
        let members = self.mesh.members();
        let holders = voters.into_iter().filter_map(|(node, roster)| {
            let gossip = members.iter().find(|member| member.node == node);
            let gossip = gossip.map(|member| member.address);
            let address = gossip.or_else(|| roster.parse().ok())?;
            Some(Holder { node, address })
        });
        let holders: Vec<_> = holders.collect();
        if let Err(error) = self.blobs.fetch(link.hash, &holders).await {
            tracing::warn!(%error, %link, "a part of the archive cannot be had yet");
        }
    }
}

/// Batches that the state hands out and this node has not said to have.
fn handed_out(state: &State, own: NodeId) -> Vec<(ArchiveLink, Vec<u8>)> {
    if state.node(own).is_none() {
        return Vec::new();
    }
    let outbox = state.archive_outbox();
    let lacking = outbox.filter(|(_, _, holders)| !holders.contains(&own));
    lacking
        .map(|(link, bytes, _)| (link, bytes.to_vec()))
        .collect()
}

fn voters(state: &State) -> Vec<(NodeId, String)> {
    let rows = state.roster().into_iter().map(|row| row.node.record);
    rows.filter(|record| record.role == Role::Voter)
        .map(|record| (record.id, record.address))
        .collect()
}
