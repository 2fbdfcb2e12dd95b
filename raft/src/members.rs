//! Changes of the members and of the leader.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use openraft::ChangeMembers;
use openraft::alias::ChangeMembershipErrorOf;
use openraft::errors::{ClientWriteError, RaftError};
use riftmesh_base::{Millis, NodeId};

use crate::error::MemberError;
use crate::node::RaftNode;
use crate::status::{MemberStatus, RaftRole, RaftStatus};
use crate::types::{Address, TypeConfig};

/// Leadership goes only to a voter at most this far behind.
const TRANSFER_LAG_MAX: u64 = 100;

type Failure = RaftError<TypeConfig, ClientWriteError<TypeConfig>>;

impl RaftNode {
    /// Adds a member that follows the log without a vote. Returns when that is committed; it catches up afterwards.
    ///
    /// # Errors
    /// [`MemberError`].
    pub async fn add_learner(&self, node: NodeId, address: String) -> Result<(), MemberError> {
        let added = self
            .0
            .core
            .add_learner(node.0, Address(address), false)
            .await;
        self.outcome(added)
    }

    /// Gives a member that has caught up a vote; a node that is no member is added first.
    ///
    /// # Errors
    /// [`MemberError`].
    pub async fn add_voter(&self, node: NodeId, address: String) -> Result<(), MemberError> {
        if !self
            .status()
            .members
            .iter()
            .any(|member| member.node == node)
        {
            self.add_learner(node, address).await?;
        }
        let voters = ChangeMembers::AddVoterIds(BTreeSet::from([node.0]));
        self.outcome(self.0.core.change_membership(voters, true).await)
    }

    /// Removes a member, voter or not. A leader that removes itself hands over first.
    ///
    /// # Errors
    /// [`MemberError`].
    pub async fn remove_voter(&self, node: NodeId) -> Result<(), MemberError> {
        let members = self.status().members;
        let Some(member) = members.iter().find(|member| member.node == node) else {
            return Err(MemberError::Refused(format!("{node} is no member")));
        };
        let nodes = BTreeSet::from([node.0]);
        let change = if member.voter {
            ChangeMembers::RemoveVoters(nodes)
        } else {
            ChangeMembers::RemoveNodes(nodes)
        };
        self.outcome(self.0.core.change_membership(change, false).await)
    }

    /// Writes a member's address anew.
    ///
    /// # Errors
    /// [`MemberError`].
    pub async fn set_address(&self, node: NodeId, address: String) -> Result<(), MemberError> {
        let nodes = ChangeMembers::SetNodes(BTreeMap::from([(node.0, Address(address))]));
        self.outcome(self.0.core.change_membership(nodes, true).await)
    }

    fn outcome<T>(&self, changed: Result<T, Failure>) -> Result<(), MemberError> {
        changed.map(drop).map_err(|failure| match explain(failure) {
            MemberError::NotLeader { .. } => MemberError::NotLeader { hint: self.hint() },
            other => other,
        })
    }

    /// Hands leadership to `to`, or to the best voter, and waits for the change.
    ///
    /// # Errors
    /// [`MemberError::Refused`] when no voter is close enough behind, or the one named is not;
    /// [`MemberError::Unknown`] when the change did not come in time.
    pub async fn transfer_leader(
        &self,
        to: Option<NodeId>,
        deadline: Duration,
    ) -> Result<NodeId, MemberError> {
        let status = self.status();
        if status.role != RaftRole::Leader {
            return Err(MemberError::NotLeader {
                hint: status.hint(),
            });
        }
        let heir = heir(&status, to)?;
        let trigger = self.0.core.trigger().transfer_leader(heir.0).await;
        trigger.map_err(|fatal| MemberError::Stopped(fatal.to_string()))?;
        let changed = self
            .0
            .core
            .wait(Some(deadline))
            .metrics(
                |metrics| {
                    metrics
                        .current_leader
                        .is_some_and(|leader| leader != self.0.node.0)
                },
                "leadership moves",
            )
            .await;
        match changed {
            Ok(metrics) => Ok(metrics.current_leader.map_or(heir, NodeId)),
            Err(_) => Err(MemberError::Unknown(format!(
                "{heir} did not take over within {}",
                Millis::from(deadline)
            ))),
        }
    }
}

/// The voter to hand leadership to.
fn heir(status: &RaftStatus, wanted: Option<NodeId>) -> Result<NodeId, MemberError> {
    let able = |member: &&MemberStatus| {
        member.voter
            && member.node != status.node
            && wanted.is_none_or(|wanted| wanted == member.node)
            && member.lag.is_some_and(|lag| lag < TRANSFER_LAG_MAX)
    };
    let nearest = status
        .members
        .iter()
        .filter(able)
        .min_by_key(|m| (m.contact_age, m.lag));
    nearest.map(|member| member.node).ok_or_else(|| {
        MemberError::Refused(match wanted {
            Some(node) => {
                format!("{node} is no other voter within {TRANSFER_LAG_MAX} entries of the leader")
            }
            None => format!("no other voter is within {TRANSFER_LAG_MAX} entries of the leader"),
        })
    })
}

fn explain(failure: Failure) -> MemberError {
    match failure {
        RaftError::APIError(ClientWriteError::ForwardToLeader(_)) => {
            MemberError::NotLeader { hint: None }
        }
        RaftError::APIError(ClientWriteError::ChangeMembershipError(refusal)) => {
            MemberError::Refused(refusal_text(&refusal))
        }
        RaftError::APIError(other) => MemberError::Unknown(other.to_string()),
        RaftError::Fatal(fatal) => MemberError::Stopped(fatal.to_string()),
    }
}

fn refusal_text(refusal: &ChangeMembershipErrorOf<TypeConfig>) -> String {
    use openraft::errors::ChangeMembershipError as E;
    match refusal {
        E::InProgress(_) => {
            "another change of the members is under way; try again when it is done".to_owned()
        }
        E::EmptyMembership(_) => "the last voter cannot be removed".to_owned(),
        E::LearnerNotFound(missing) => {
            format!("{:016x} is no member; add it first", missing.node_id)
        }
        other => other.to_string(),
    }
}
