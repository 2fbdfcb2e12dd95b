//! Takes over sooner where the leader's host says that the leader's process is gone.
//!
//! A follower that waits for an election timeout cannot tell a dead leader from a slow one. A host that is up can: it refuses
//! packets to a port that nobody listens on. So a follower that misses a few heartbeats asks, and if the port is refused,
//! does what it would do if that leader had handed over to it. Votes are given and counted as ever; only the
//! waiting is left out. A host that is silent says nothing, and the timeouts decide.

use std::sync::{Arc, Weak};
use std::time::Duration;

use openraft::async_runtime::WatchReceiver as _;
use openraft::raft::TransferLeaderRequest;
use riftmesh_base::NodeId;
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::node::{Inner, RaftNode};
use crate::types::Vote;
use crate::watchdog::may_campaign;

/// Heartbeats that are missed before the leader's host is asked.
const BEATS_MISSED: u32 = 3;
/// How long the host has to answer.
const ASK_MAX: Duration = Duration::from_millis(100);
/// Between the bids of two followers, so that the first one is elected before the second one asks for votes.
const BETWEEN_BIDS: Duration = Duration::from_millis(50);

/// A leader that has fallen silent.
struct Silent {
    leader: u64,
    address: String,
    /// What the leader was elected with.
    vote: Vote,
    /// How many other followers bid first.
    rank: u32,
}

/// Watches over the leader until the node is gone.
async fn watch(inner: Weak<Inner>, heartbeat: Duration) {
    let mut looks = interval(heartbeat / 2);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        let Some(inner) = inner.upgrade() else {
            return;
        };
        let node = RaftNode(inner);
        if let Some(silent) = node.silent_leader(heartbeat)
            && node.port_is_refused(&silent).await
        {
            sleep(BETWEEN_BIDS * silent.rank).await;
            node.bid(&silent, heartbeat).await;
        }
    }
}

impl RaftNode {
    /// The leader that this voter follows, if it has missed its heartbeats and may stand for election.
    fn silent_leader(&self, heartbeat: Duration) -> Option<Silent> {
        let metrics = self.0.core.metrics();
        let metrics = metrics.borrow_watched();
        let leader = metrics
            .current_leader
            .filter(|leader| *leader != metrics.id)?;
        let age = self.leader_age()?;
        let members = metrics.membership_config.membership();
        let others: Vec<u64> = members.voter_ids().filter(|id| *id != leader).collect();
        if age.duration() < heartbeat * BEATS_MISSED || !others.contains(&metrics.id) {
            return None;
        }
        let before = others.iter().filter(|id| **id < metrics.id).count();
        Some(Silent {
            leader,
            address: members.get_node(&leader)?.0.clone(),
            vote: metrics.vote,
            rank: u32::try_from(before).ok()?,
        })
    }

    async fn port_is_refused(&self, silent: &Silent) -> bool {
        let wires = &self.0.wires;
        match wires.resolve(silent.leader, &silent.address).await {
            Ok(address) => wires.link().port_refused(address, ASK_MAX).await,
            Err(_) => false,
        }
    }

    /// Stands for election, unless somebody leads by now.
    async fn bid(&self, silent: &Silent, heartbeat: Duration) {
        let still = self.silent_leader(heartbeat);
        if still.is_none_or(|still| still.vote != silent.vote) || !may_campaign(&self.0.core) {
            return;
        }
        let leader = NodeId(silent.leader);
        tracing::info!(%leader, "the leader's host says that its process is gone; standing for election");
        let bid = TransferLeaderRequest::new(silent.vote, self.0.node.0, None);
        match self.0.core.handle_transfer_leader(bid).await {
            Ok(Ok(())) => {}
            Ok(Err(reason)) => tracing::debug!(%reason, "no election"),
            Err(fatal) => tracing::debug!(%fatal, "consensus has died"),
        }
    }
}

/// Starts watching over the leader of `inner`.
pub(crate) fn start(inner: &Arc<Inner>) {
    tokio::spawn(watch(
        Arc::downgrade(inner),
        inner.timings.heartbeat.duration(),
    ));
}
