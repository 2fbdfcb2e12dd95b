//! What a certificate allows its holder to ask of a voter. Workers are other people's machines: they work, look, and
//! hand on what their operators say about jobs and models. They decide nothing about nodes and trust.

use riftmesh_base::{NodeId, Role, SessionId};
use riftmesh_statemachine::command::Body;
use riftmesh_statemachine::rotation::RotationVerb;
use riftmesh_statemachine::trust::TrustVerb;

use crate::client::Caller;
use crate::protocol::Request;

/// Whether `caller` may ask `request`; `owner` knows whose a session is.
///
/// # Errors
/// The reason, for the caller and the log.
pub fn permit(
    caller: &Caller,
    request: &Request,
    owner: impl Fn(SessionId) -> Option<NodeId>,
) -> Result<(), String> {
    let worker = match caller {
        Caller::Own => return Ok(()),
        Caller::Peer(peer) => match peer.role {
            Role::Voter => return Ok(()),
            Role::Worker => peer.node,
        },
    };
    let allowed = match request {
        Request::Propose(command) => may_propose(worker, &command.body, &owner),
        Request::KeepAlive { session, .. } => is_own(worker, *session, &owner),
        Request::WaitWork { .. }
        | Request::Champion { .. }
        | Request::Locate { .. }
        | Request::Named { .. }
        | Request::Query(_)
        | Request::Introduce
        | Request::Level
        | Request::Renew { .. }
        | Request::Revoked
        | Request::Authorities => true,
        Request::Members { .. } | Request::AuthorityKey { .. } => false,
    };
    if allowed {
        return Ok(());
    }
    Err(match request {
        Request::Propose(command) => format!(
            "worker {worker} may not order `{}`; ask a voter's machine",
            command.body
        ),
        Request::AuthorityKey { .. } => {
            format!("worker {worker} may not hold the cluster's authority")
        }
        Request::Members { .. } => {
            format!("worker {worker} may not change the voters; ask a voter's machine")
        }
        _ => format!("worker {worker} may not speak for another node"),
    })
}

/// A session that is not known is left to the state to refuse.
fn is_own(
    worker: NodeId,
    session: SessionId,
    owner: &impl Fn(SessionId) -> Option<NodeId>,
) -> bool {
    owner(session).is_none_or(|node| node == worker)
}

/// Every command is named here, so that a new one is not allowed by accident.
fn may_propose(worker: NodeId, body: &Body, owner: &impl Fn(SessionId) -> Option<NodeId>) -> bool {
    match body {
        Body::AdmitNode(record) => record.id == worker && record.role == Role::Worker,
        Body::OpenSession { node, .. }
        | Body::OpenWorker { node, .. }
        | Body::AddHolder { node, .. } => *node == worker,
        Body::ExpireSession { session, .. } | Body::Claim { session, .. } => {
            is_own(worker, *session, owner)
        }
        // Of itself, that it follows the others to another authority.
        Body::Trust(TrustVerb::Rotate(RotationVerb::Adopt { node, .. })) => *node == worker,
        // Of jobs they hold: the token decides.
        Body::Progress { .. }
        | Body::Complete { .. }
        | Body::Fail { .. }
        | Body::Release { .. }
        // What an operator may say at any node.
        | Body::Submit { .. }
        | Body::SubmitWith { .. }
        // A checkpoint carries the token, the rest is a submission.
        | Body::Hold(_)
        | Body::Cancel { .. }
        | Body::Requeue { .. }
        | Body::TakeBack { .. }
        | Body::Promote { .. }
        | Body::RejectModel { .. }
        | Body::Rollback { .. }
        | Body::Lock(_)
        | Body::WriteSetting(_)
        | Body::SetTenant { .. } => true,
        // The leader's own, and what concerns nodes and trust.
        Body::FoundCluster { .. }
        | Body::ForgetNode { .. }
        | Body::DrainNode { .. }
        | Body::DrainWithin { .. }
        | Body::RegisterModel { .. }
        | Body::ReportMatch { .. }
        | Body::Tick
        | Body::UpgradeTo { .. }
        | Body::Trust(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use riftmesh_base::{BlobHash, JoinTokenId, Millis};
    use riftmesh_statemachine::command::Command;
    use riftmesh_statemachine::roster::NodeRecord;
    use riftmesh_statemachine::rotation::RotationPhase;
    use riftmesh_statemachine::trust::NewToken;
    use riftmesh_transport::Peer;

    use super::*;

    const WORKER: NodeId = NodeId(5);

    fn asked_by(role: Role, body: Body) -> Result<(), String> {
        let caller = Caller::Peer(Peer {
            node: WORKER,
            role,
            address: ([10, 0, 0, 5], 7700).into(),
        });
        let request = Request::Propose(Command { origin: None, body });
        permit(&caller, &request, |session| Some(NodeId(session.0)))
    }

    fn record(id: NodeId, role: Role) -> Body {
        Body::AdmitNode(NodeRecord {
            id,
            name: "w".to_owned(),
            role,
            address: String::new(),
        })
    }

    /// The authority's key goes from voter to voter and to nobody else.
    #[test]
    fn workers_never_get_the_authority() {
        let asked = |role| {
            let caller = Caller::Peer(Peer {
                node: WORKER,
                role,
                address: ([10, 0, 0, 5], 7700).into(),
            });
            let authority = BlobHash([1; 32]);
            permit(&caller, &Request::AuthorityKey { authority }, |_| None)
        };
        let refused = asked(Role::Worker).unwrap_err();
        assert!(refused.contains("may not hold"), "{refused}");
        assert_eq!(asked(Role::Voter), Ok(()));
    }

    /// A rented machine cannot make itself a voter, speak for another one, or let anybody in; a voter can.
    #[test]
    fn workers_decide_nothing_about_trust() {
        let token = NewToken {
            id: JoinTokenId(1),
            secret: BlobHash([1; 32]),
            role: Role::Worker,
            uses: 1,
            expires: Millis(2),
            at: Millis(1),
        };
        let revoke = TrustVerb::RevokeCertificate {
            node: NodeId(6),
            reason: String::new(),
            at: Millis(1),
        };
        let claim = |session| Body::Claim {
            session: SessionId(session),
            kinds: Vec::new(),
            jobs_max: 1,
        };
        let adopt = |node| {
            let step = RotationPhase::Trusting;
            let (node, authority) = (NodeId(node), BlobHash([1; 32]));
            Body::Trust(TrustVerb::Rotate(RotationVerb::Adopt {
                node,
                authority,
                step,
            }))
        };
        let denied = [
            record(WORKER, Role::Voter),
            record(NodeId(6), Role::Worker),
            Body::ForgetNode { node: NodeId(6) },
            Body::DrainNode {
                node: WORKER,
                drain: false,
            },
            Body::DrainWithin {
                node: WORKER,
                grace: Millis(0),
            },
            Body::UpgradeTo {
                level: 2,
                advertised: Vec::new(),
            },
            Body::Trust(TrustVerb::CreateToken(token)),
            Body::Trust(revoke),
            Body::Trust(TrustVerb::Rotate(RotationVerb::Abort)),
            adopt(6),
            claim(6),
        ];
        for body in denied {
            assert!(asked_by(Role::Worker, body.clone()).is_err(), "{body}");
            assert_eq!(asked_by(Role::Voter, body), Ok(()));
        }
        for body in [record(WORKER, Role::Worker), adopt(5), claim(5)] {
            assert_eq!(asked_by(Role::Worker, body), Ok(()));
        }
    }
}
