//! A voter's part in letting nodes in: it checks what a stranger shows, has the token spent by the log, and certifies the
//! stranger's key. Of an answer that was lost the repeat gets another certificate for the same key, and costs no use.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use riftmesh_base::limits::CERTIFICATE_LIFE;
use riftmesh_base::time::wall_clock;
use riftmesh_base::{BlobHash, Millis, NodeId, Role};
use riftmesh_raft::RaftNode;
use riftmesh_statemachine::State;
use riftmesh_statemachine::command::Body;
use riftmesh_statemachine::reply::Refusal;
use riftmesh_statemachine::trust::{JoinFault, Spend, TrustVerb};
use riftmesh_transport::link::BoxFuture;
use riftmesh_transport::{Doorkeeper, KeyRequest, Peer, Refusals, Refused};

use super::ring::AuthorityRing;
use crate::client::{CallFailure, Client};
use crate::protocol::{JoinReply, JoinRequest, Response, SecretText};

/// A spent token waits this long for its commit; the stranger asks again after that.
const COMMIT_MAX: Duration = Duration::from_secs(8);
/// A bad word is given only from a state that is surely current; finding that out takes this long at most.
const READ_MAX: Duration = Duration::from_secs(1);

/// Issues certificates. Only nodes that hold the cluster's authority have one of these.
pub struct Issuer {
    pub ring: AuthorityRing,
    pub raft: RaftNode,
    pub client: Arc<Client>,
    /// Counts those who were sent away.
    pub refusals: Arc<Refusals>,
}

/// A certificate and that of its authority, as DER.
struct Certified {
    certificate: Vec<u8>,
    authority: Vec<u8>,
}

/// Why there is no certificate.
#[derive(Debug, PartialEq, Eq)]
enum NotIssued {
    /// A word for the count, and the reason.
    No(&'static str, String),
    /// Asking again may help.
    Later(String),
}

impl From<JoinFault> for NotIssued {
    fn from(fault: JoinFault) -> Self {
        Self::No(fault.word(), fault.to_string())
    }
}

impl Issuer {
    async fn admit(&self, request: &JoinRequest) -> Result<Certified, NotIssued> {
        if request.cluster != self.ring.present().cluster() {
            let reason = format!("this is cluster {}", self.ring.present().cluster());
            return Err(NotIssued::No("wrong-cluster", reason));
        }
        let key = read_key(&request.request)?;
        let at = wall_clock();
        let spend = Spend {
            token: request.token,
            secret: request.secret.hash(),
            node: request.node,
            key: key.fingerprint(),
            at,
        };
        self.judge(|state| state.judge_spend(&spend)).await?;
        self.commit(TrustVerb::SpendToken(spend)).await?;
        self.certify(&key, request.node, Role::Worker, at)
    }

    /// Certifies the key of a node anew, whose present certificate has shown who it is.
    pub async fn renew(&self, from: Peer, request: &[u8]) -> Response {
        let node = from.node;
        let renewed = async {
            let key = read_key(request)?;
            let (fingerprint, at) = (key.fingerprint(), wall_clock());
            self.judge(|state| state.judge_renewal(node, fingerprint))
                .await?;
            self.commit(TrustVerb::RenewCertificate {
                node,
                key: fingerprint,
                at,
            })
            .await?;
            self.certify(&key, node, from.role, at)
        };
        match renewed.await {
            Ok(certified) => Response::Renewed {
                certificate: certified.certificate,
            },
            Err(NotIssued::No(word, reason)) => {
                self.refusals.note(word);
                tracing::warn!(%node, reason, "a certificate was not renewed");
                Response::Invalid { reason }
            }
            Err(NotIssued::Later(reason)) => {
                tracing::info!(%node, reason, "a certificate is not renewed now");
                let retry_after = Millis::from(READ_MAX);
                Response::Overloaded { retry_after }
            }
        }
    }

    /// Asks the own state, and if that objects, a state that has surely seen everything.
    async fn judge(
        &self,
        judge: impl Fn(&State) -> Result<(), JoinFault>,
    ) -> Result<(), NotIssued> {
        if self.raft.read(|_, state| judge(state)).is_ok() {
            return Ok(());
        }
        if self.raft.linearizable(READ_MAX).await.is_err() {
            return Err(NotIssued::Later("there is no quorum now".to_owned()));
        }
        Ok(self.raft.read(|_, state| judge(state))?)
    }

    async fn commit(&self, verb: TrustVerb) -> Result<(), NotIssued> {
        match self.client.propose(Body::Trust(verb), COMMIT_MAX).await {
            Ok(_) => Ok(()),
            Err(CallFailure::Refused(Refusal::NotWelcome(fault))) => Err(fault.into()),
            Err(CallFailure::Refused(other)) => Err(NotIssued::No("refused", other.to_string())),
            Err(error @ (CallFailure::Unavailable(_) | CallFailure::Unknown(_))) => {
                Err(NotIssued::Later(error.to_string()))
            }
        }
    }

    fn certify(
        &self,
        key: &KeyRequest,
        node: NodeId,
        role: Role,
        at: Millis,
    ) -> Result<Certified, NotIssued> {
        let authority = self.ring.present();
        let certificate = authority
            .certify(key, node, role, CERTIFICATE_LIFE, at)
            .map_err(|error| NotIssued::Later(error.to_string()))?;
        Ok(Certified {
            certificate,
            authority: authority.certificate().to_vec(),
        })
    }

    /// The key of an authority, for a voter, which may hold it.
    pub fn key_of(&self, authority: BlobHash) -> Response {
        match self.ring.get(authority) {
            Some(known) => Response::AuthorityKey {
                key: SecretText::from(known.to_pem()),
            },
            // Another voter may have it, or this one later.
            None => Response::Overloaded {
                retry_after: Millis::from(READ_MAX),
            },
        }
    }

    async fn answer(&self, from: SocketAddr, bytes: &[u8]) -> JoinReply {
        let request = match JoinRequest::from_bytes(bytes) {
            Ok(request) => request,
            Err(reason) => {
                self.refusals.note("malformed");
                tracing::warn!(%from, reason, "a stranger was sent away");
                return JoinReply::No { reason };
            }
        };
        let (node, token) = (request.node, request.token);
        match self.admit(&request).await {
            Ok(certified) => {
                tracing::info!(%from, %node, %token, "a node was let in");
                JoinReply::Certified {
                    certificate: certified.certificate,
                    authority: certified.authority,
                }
            }
            Err(NotIssued::No(word, reason)) => {
                self.refusals.note(word);
                tracing::warn!(%from, %node, %token, reason, "a stranger was sent away");
                JoinReply::No { reason }
            }
            Err(NotIssued::Later(reason)) => {
                tracing::info!(%from, %node, %token, reason, "a stranger has to ask again");
                JoinReply::Later { reason }
            }
        }
    }
}

fn read_key(request: &[u8]) -> Result<KeyRequest, NotIssued> {
    KeyRequest::read(request).map_err(|error| NotIssued::No("malformed", error.to_string()))
}

impl Doorkeeper for Issuer {
    fn knocked(&self, from: SocketAddr, request: Bytes) -> BoxFuture<'_, Result<Bytes, Refused>> {
        Box::pin(async move {
            let reply = self.answer(from, &request).await;
            Ok(riftmesh_base::encode(&reply).into())
        })
    }
}
