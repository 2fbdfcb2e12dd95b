//! Writing a change of the members into the log.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use openraft::ChangeMembers;
use openraft::alias::ChangeMembershipErrorOf;
use openraft::errors::{ClientWriteError, RaftError};
use openraft::raft::Precondition;
use riftmesh_base::{Millis, NodeId};
use tokio::time::timeout;

use crate::error::MemberError;
use crate::types::{Address, Core, LogId, TypeConfig};

/// A change that is not committed by then has an unknown outcome; what it left half done is finished later.
const COMMIT_MAX: Duration = Duration::from_secs(5);

type Failure = RaftError<TypeConfig, ClientWriteError<TypeConfig>>;

/// A change, and whether voters that it removes stay as learners.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Change {
    members: ChangeMembers<u64, Address>,
    retain: bool,
}

/// Adds a learner.
pub(crate) fn add_learner(node: NodeId, address: String) -> Change {
    Change {
        members: ChangeMembers::AddNodes(BTreeMap::from([(node.0, Address(address))])),
        retain: true,
    }
}

/// Gives a learner a vote.
pub(crate) fn promote(node: NodeId) -> Change {
    Change {
        members: ChangeMembers::AddVoterIds(BTreeSet::from([node.0])),
        retain: true,
    }
}

/// Takes a voter's vote; it stays as a learner, so that it hears of it.
pub(crate) fn take_vote(node: NodeId) -> Change {
    Change {
        members: ChangeMembers::RemoveVoters(BTreeSet::from([node.0])),
        retain: true,
    }
}

/// Gives a voter's vote to a learner, in one joint change; the voter stays as a learner.
pub(crate) fn replace(gone: NodeId, by: NodeId) -> Change {
    let add = ChangeMembers::AddVoterIds(BTreeSet::from([by.0]));
    let remove = ChangeMembers::RemoveVoters(BTreeSet::from([gone.0]));
    Change {
        members: ChangeMembers::Batch(vec![add, remove]),
        retain: true,
    }
}

/// Removes a learner.
pub(crate) fn remove_learner(node: NodeId) -> Change {
    Change {
        members: ChangeMembers::RemoveNodes(BTreeSet::from([node.0])),
        retain: false,
    }
}

/// Takes the second step of a joint change. Whoever loses its vote by it stays as a learner, like in
/// [`take_vote`].
pub(crate) fn finish() -> Change {
    Change {
        members: ChangeMembers::AddVoterIds(BTreeSet::new()),
        retain: true,
    }
}

/// Writes `change` if the members are still those of entry `seen`, and waits until it is committed.
pub(crate) async fn write(
    core: &Core,
    change: Change,
    seen: Option<LogId>,
) -> Result<(), MemberError> {
    let unchanged = Precondition::LastMembershipLogId {
        last_membership_log_id: seen,
    };
    let written = core.change_membership_if(change.members, change.retain, [unchanged]);
    match timeout(COMMIT_MAX, written).await {
        Ok(outcome) => outcome.map(drop).map_err(explain),
        Err(_) => Err(MemberError::Unknown(format!(
            "not committed within {}",
            Millis::from(COMMIT_MAX)
        ))),
    }
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
            format!("{} is no member; add it first", NodeId(missing.node_id))
        }
        other => other.to_string(),
    }
}
