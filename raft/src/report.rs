//! Makes a [`RaftStatus`] from what openraft and this node know.

use std::sync::atomic::Ordering;
use std::time::Duration;

use openraft::async_runtime::WatchReceiver as _;
use openraft::{Instant as _, RaftMetrics};
use riftmesh_base::{LogIndex, Millis, NodeId, Term};

use crate::node::RaftNode;
use crate::status::{LeaderHint, MemberStatus, RaftRole, RaftStatus};
use crate::types::TypeConfig;

impl RaftNode {
    /// What this node knows about its group now.
    pub fn status(&self) -> RaftStatus {
        let metrics = self.metrics();
        let role = match metrics.state {
            openraft::ServerState::Leader => RaftRole::Leader,
            openraft::ServerState::Follower => RaftRole::Follower,
            openraft::ServerState::Candidate => RaftRole::Candidate,
            openraft::ServerState::Learner => RaftRole::Learner,
            openraft::ServerState::Shutdown => RaftRole::Stopped,
        };
        let dead = self.0.death.borrow().clone();
        let quorum_ack_age = self.quorum_ack_age(&metrics);
        let fresh = quorum_ack_age.is_some_and(|age| age < self.0.timings.election_max);
        let times = self.0.log.sync_times();
        let index = |index: Option<u64>| index.map(LogIndex);
        RaftStatus {
            node: self.0.node,
            role,
            epoch: self.0.epoch.get(),
            term: Term(metrics.current_term),
            leader: metrics.current_leader.map(NodeId),
            quorum_ack_age,
            has_quorum: fresh && metrics.current_leader.is_some() && dead.is_none(),
            // The metrics of a core that has just started do not say so yet.
            initialised: self.0.log.has_entries(),
            members: member_statuses(&metrics),
            members_index: metrics
                .membership_config
                .log_id()
                .map(|id| LogIndex(id.index)),
            joint: metrics
                .membership_config
                .membership()
                .get_joint_config()
                .len()
                > 1,
            last_log: index(metrics.last_log_index),
            committed: index(metrics.local_committed.map(|id| id.index)),
            applied: index(metrics.last_applied.map(|id| id.index)),
            snapshot: index(metrics.snapshot.map(|id| id.index)),
            purged: index(metrics.purged.map(|id| id.index)),
            sync_p50_micros: micros(times.p50),
            sync_p99_micros: micros(times.p99),
            dead,
        }
    }

    fn metrics(&self) -> RaftMetrics<TypeConfig> {
        let metrics = self.0.core.metrics();
        let metrics = metrics.borrow_watched();
        metrics.clone()
    }

    fn quorum_ack_age(&self, metrics: &RaftMetrics<TypeConfig>) -> Option<Millis> {
        if metrics.state.is_leader() {
            let mut voters = metrics.membership_config.membership().voter_ids();
            // Who votes alone is its own quorum, and hears of it only when it writes.
            if voters.all(|voter| voter == metrics.id) {
                return Some(Millis(0));
            }
            return metrics
                .last_quorum_acked
                .as_ref()
                .map(|at| Millis::from(at.elapsed()));
        }
        self.leader_age()
    }

    /// How long ago a leader was heard here, if one ever was.
    pub(crate) fn leader_age(&self) -> Option<Millis> {
        let heard = self.0.leader_heard.load(Ordering::Relaxed).checked_sub(1)?;
        Some(self.0.clock.now().since(Millis(heard)))
    }

    /// The leader and its address, when its quorum is confirmed as far as this node can tell.
    pub fn hint(&self) -> Option<LeaderHint> {
        self.status().hint()
    }
}

fn member_statuses(metrics: &RaftMetrics<TypeConfig>) -> Vec<MemberStatus> {
    let members = metrics.membership_config.membership();
    let voters: Vec<u64> = members.voter_ids().collect();
    let last = metrics.last_log_index;
    let mut statuses: Vec<MemberStatus> = members
        .nodes()
        .map(|(node, address)| {
            let own = metrics.state.is_leader() && *node == metrics.id;
            let progress = metrics.replication.as_ref().and_then(|all| all.get(node));
            let matched = progress.copied().flatten().map(|id| id.index);
            let matched = if own { last } else { matched };
            let answered = metrics.heartbeat.as_ref().and_then(|all| all.get(node));
            let age = answered
                .and_then(Option::as_ref)
                .map(|at| at.elapsed().into());
            MemberStatus {
                node: NodeId(*node),
                address: address.0.clone(),
                voter: voters.contains(node),
                matched: matched.map(LogIndex),
                lag: matched.and_then(|matched| Some(last?.saturating_sub(matched))),
                contact_age: if own { Some(Millis(0)) } else { age },
            }
        })
        .collect();
    statuses.sort_by_key(|member| member.node);
    statuses
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
