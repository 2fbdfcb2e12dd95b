//! A node without a state answers through a voter, and from gossip when it reaches none.

use std::sync::Arc;

use riftmesh_base::NodeId;
use riftmesh_statemachine::roster::Role;
use riftmesh_transport::link::BoxFuture;
use serde::Serialize;

use super::cluster_view::{from_mesh, tell};
use super::http::{AnswerError, Answerer, to_json};
use super::mesh::{MeshMember, MeshState, SharedMesh};
use crate::answers::{
    Envelope, Health, JobCounts, LeaderAnswer, Query, QuorumAnswer, ReadMode, StatusAnswer,
    VoterAnswer,
};
use crate::client::{CallFailure, Client, deadlines};
use crate::protocol::{Request, Response};

/// Answers on behalf of a worker.
pub struct Relay {
    pub node: NodeId,
    pub name: String,
    pub client: Arc<Client>,
    pub mesh: SharedMesh,
}

impl Relay {
    async fn relay(&self, query: Query) -> Result<String, AnswerError> {
        match self
            .client
            .ask_any(Request::Query(query.clone()), deadlines::QUERY)
            .await
        {
            Ok(Response::Answer { json }) => Ok(json),
            Ok(other) => Err(AnswerError::Unavailable(format!(
                "unexpected answer {other:?}"
            ))),
            Err(CallFailure::Refused(refusal)) => Err(AnswerError::NotFound(refusal.to_string())),
            Err(error) => self.by_gossip(&query, &error.to_string()),
        }
    }

    /// What gossip alone can say.
    fn by_gossip(&self, query: &Query, why: &str) -> Result<String, AnswerError> {
        let members = self.mesh.members();
        let leader = LeaderAnswer {
            node: None,
            name: None,
            address: None,
            term: 0,
            quorum_ack_ms: None,
            confirmed: false,
        };
        match query {
            Query::Leader => self.wrap(leader),
            Query::Quorum => self.wrap(quorum(&members)),
            Query::Members => {
                let mut answers: Vec<_> = members.iter().map(from_mesh).collect();
                tell(&mut answers, self.mesh.told());
                self.wrap(answers)
            }
            Query::Status => self.wrap(StatusAnswer {
                health: Health::NoQuorum,
                problems: vec![format!("no voter answers this node: {why}")],
                cluster: None,
                leader,
                quorum: quorum(&members),
                members: members.len(),
                members_up: members
                    .iter()
                    .filter(|member| member.state == MeshState::Up)
                    .count(),
                sessions: 0,
                slots: 0,
                jobs: JobCounts::default(),
                progress: Vec::new(),
            }),
            Query::Jobs { .. }
            | Query::Job(_)
            | Query::Models
            | Query::Model(_)
            | Query::Progress
            | Query::Queue
            | Query::Locks
            | Query::Settings
            | Query::SettingChanges(_)
            | Query::Lineage(_)
            | Query::Raft
            | Query::Tokens
            | Query::Certificates
            | Query::Authority
            | Query::History(_) => Err(AnswerError::Unavailable(format!(
                "no voter answers this node, and gossip does not know that: {why}"
            ))),
        }
    }

    fn wrap<T: Serialize>(&self, answer: T) -> Result<String, AnswerError> {
        let mode = ReadMode::Gossip;
        to_json(&Envelope::without_state(
            self.node, &self.name, mode, answer,
        ))
    }
}

fn quorum(members: &[MeshMember]) -> QuorumAnswer {
    let voters: Vec<_> = members
        .iter()
        .filter(|member| member.role == Some(Role::Voter))
        .map(|member| VoterAnswer {
            node: member.node,
            name: member.name.clone(),
            address: member.address.to_string(),
            leader: false,
            up: Some(!member.state.is_gone()),
            lag: None,
            contact_ms: None,
        })
        .collect();
    QuorumAnswer {
        confirmed: false,
        needed: voters.len() / 2 + 1,
        failure_tolerance: None,
        voters,
    }
}

impl Answerer for Relay {
    fn answer(&self, query: Query) -> BoxFuture<'_, Result<String, AnswerError>> {
        Box::pin(self.relay(query))
    }
}
