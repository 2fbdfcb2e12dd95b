//! Changes of the members and of the leader.

use std::collections::{BTreeMap, BTreeSet};

use openraft::ChangeMembers;
use openraft::alias::ChangeMembershipErrorOf;
use openraft::errors::{ClientWriteError, RaftError};

use crate::error::MemberError;
use crate::types::{Address, Core, TypeConfig};

type Failure = RaftError<TypeConfig, ClientWriteError<TypeConfig>>;

/// Adds a member without a vote; returns when its entry is committed, not when the member has caught up.
pub(crate) async fn add_learner(
    core: &Core,
    node: u64,
    address: String,
) -> Result<(), MemberError> {
    let added = core.add_learner(node, Address(address), false).await;
    added.map(drop).map_err(explain)
}

/// Gives a member that follows the log a vote.
pub(crate) async fn promote(core: &Core, node: u64) -> Result<(), MemberError> {
    let voters = ChangeMembers::AddVoterIds(BTreeSet::from([node]));
    let changed = core.change_membership(voters, true).await;
    changed.map(drop).map_err(explain)
}

/// Removes a member, its vote first.
pub(crate) async fn remove(core: &Core, node: u64, voter: bool) -> Result<(), MemberError> {
    let nodes = BTreeSet::from([node]);
    let change = if voter {
        ChangeMembers::RemoveVoters(nodes)
    } else {
        ChangeMembers::RemoveNodes(nodes)
    };
    let changed = core.change_membership(change, false).await;
    changed.map(drop).map_err(explain)
}

/// Writes the address of a member anew.
pub(crate) async fn set_address(
    core: &Core,
    node: u64,
    address: String,
) -> Result<(), MemberError> {
    let nodes = ChangeMembers::SetNodes(BTreeMap::from([(node, Address(address))]));
    let changed = core.change_membership(nodes, true).await;
    changed.map(drop).map_err(explain)
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
