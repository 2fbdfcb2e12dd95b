//! What nodes say to each other on the client lane: worker verbs, lookups and queries, in postcard. And what is said at
//! the door by those who are no nodes yet.

use std::net::SocketAddr;

use riftmesh_base::{
    BlobHash, ClusterId, ConfigurationName, JobId, JoinTokenId, LogIndex, Millis, NodeId,
    SessionId, Term, Token,
};
use riftmesh_raft::{MemberOrder, MemberProgress, SeedFact};
use riftmesh_statemachine::command::Command;
use riftmesh_statemachine::job::JobKind;
use riftmesh_statemachine::reply::Reply;
use riftmesh_statemachine::rotation::RotationPhase;
use riftmesh_transport::TokenSecret;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

use crate::answers::Query;

/// A request to a voter. What is not marked otherwise is answered by the leader only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Puts a command through the log. The command carries its origin, so repeating the request is safe.
    Propose(Command),
    /// A worker's sign of life. Lives in the leader's memory, never in the log.
    KeepAlive {
        /// The worker's session.
        session: SessionId,
        /// What it believes to hold.
        held: Vec<(JobId, Token)>,
    },
    /// Waits until a job of one of these kinds is ready, at most [`WORK_WAIT_MAX`]. Grants nothing.
    WaitWork {
        /// Kinds the worker can run now.
        kinds: Vec<JobKind>,
        /// Slots it has free.
        slots: u16,
        /// Whether it has a CUDA device.
        cuda: bool,
    },
    /// Which model plays for a configuration now.
    Champion {
        /// The configuration.
        configuration: ConfigurationName,
    },
    /// Which nodes have these segments and models. Answered by any voter.
    Locate {
        /// Of this configuration.
        configuration: ConfigurationName,
        /// At most [`LOCATE_BLOBS_MAX`].
        blobs: Vec<BlobHash>,
    },
    /// A question for people, answered as JSON by any voter.
    Query(Query),
    /// What a voter says about itself while a cluster is being formed. Answered before there is any leader.
    Introduce,
    /// Which level of behaviour the voter that is asked knows. Answered by any voter.
    Level,
    /// Changes who belongs to the group of voters, or who leads it, by one step. Repeating it is safe.
    Members {
        /// What to do.
        order: MemberOrder,
        /// Log index of the members that the operator saw; none for whoever they are.
        expected: Option<LogIndex>,
    },
    /// Certifies the asking node's key anew. Answered by any voter that holds the cluster's authority.
    Renew {
        /// As `NodeCredential::renewal_request` makes it.
        request: Vec<u8>,
    },
    /// Which nodes are trusted no more. Answered by any voter.
    Revoked,
    /// Which authorities are trusted, and which is to certify. Answered by any voter.
    Authorities,
    /// The key of an authority, for another voter. Answered by any voter that has it.
    AuthorityKey {
        /// The hash of its certificate.
        authority: BlobHash,
    },
    /// Which of these blobs the cluster has a use for.
    Named {
        /// At most [`LOCATE_BLOBS_MAX`].
        blobs: Vec<BlobHash>,
    },
}

/// Whom nodes are to trust, and by whom to be certified.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthorityNews {
    /// Certificates of the authorities that are trusted, as DER, the one in force first; none as long as there never was
    /// another than the one that nodes were given.
    pub trusted: Vec<Vec<u8>>,
    /// Which is to replace it, and how far that is.
    pub rotation: Option<(BlobHash, RotationPhase)>,
}

/// A text that is kept out of whatever is printed, and wiped from memory when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretText(Zeroizing<String>);

impl SecretText {
    /// The text itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<String> for SecretText {
    fn from(text: String) -> Self {
        Self(Zeroizing::new(text))
    }
}

impl std::fmt::Debug for SecretText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretText(not shown)")
    }
}

impl Serialize for SecretText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.as_str().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for SecretText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::from)
    }
}

/// Longest wait of one [`Request::WaitWork`].
pub const WORK_WAIT_MAX: Millis = Millis(2_000);
/// Blobs asked for in one [`Request::Locate`] or [`Request::Named`].
pub const LOCATE_BLOBS_MAX: usize = 1_024;

/// The answer to a [`Request`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Response {
    /// The command was applied at `index`; a refusal by the state machine is an answer too.
    Applied {
        /// Log index of the entry.
        index: LogIndex,
        /// What the state machine said.
        reply: Reply,
    },
    /// The sign of life was noted.
    KeptAlive {
        /// Grants that are over (fenced or being cancelled): stop them.
        stop: Vec<JobId>,
    },
    /// The session is not in the state: open a new one.
    SessionOver,
    /// Whether work is ready.
    Work {
        /// A claim would probably be granted.
        ready: bool,
    },
    /// The champion, none while the untrained network plays.
    Champion {
        /// Its id.
        model: Option<BlobHash>,
    },
    /// Where blobs are; a blob nobody has is not listed.
    Located {
        /// Those that are known.
        blobs: Vec<Located>,
    },
    /// The answer to [`Request::Introduce`].
    Introduction(SeedFact),
    /// The answer to a query, as JSON text.
    Answer {
        /// An `answers::Envelope`.
        json: String,
    },
    /// Not the leader. Nothing was done.
    NotLeader {
        /// Who is, if quorum confirms one.
        hint: Option<Holder>,
        /// Term of the node that answers.
        term: Term,
    },
    /// Nothing was done; try again later.
    Overloaded {
        /// When.
        retry_after: Millis,
    },
    /// The outcome is not known: it may still be applied. Repeat with the same origin.
    Unknown {
        /// Why.
        reason: String,
    },
    /// The request breaks a rule; repeating it will not help. Nothing was done.
    Invalid {
        /// Which.
        reason: String,
    },
    /// The answer to [`Request::Level`].
    Level {
        /// Who answers.
        node: NodeId,
        /// The highest level its build knows.
        known: u32,
        /// The level its state is at.
        at: u32,
    },
    /// The answer to [`Request::Members`].
    Members {
        /// How far the order has come.
        progress: MemberProgress,
        /// Log index of the members as they are now.
        members_index: Option<LogIndex>,
    },
    /// The answer to [`Request::Renew`].
    Renewed {
        /// As DER.
        certificate: Vec<u8>,
    },
    /// The answer to [`Request::Revoked`].
    Revoked {
        /// At most `REVOCATIONS_MAX`.
        nodes: Vec<NodeId>,
    },
    /// The answer to [`Request::Authorities`].
    Authorities {
        /// As the voter's state has them.
        news: AuthorityNews,
    },
    /// The answer to [`Request::AuthorityKey`].
    AuthorityKey {
        /// Key and certificate, as `ClusterAuthority::to_pem` writes them.
        key: SecretText,
    },
    /// The answer to [`Request::Named`].
    Named {
        /// Those that something names.
        blobs: Vec<BlobHash>,
        /// How long to keep the others.
        keep: Millis,
    },
}

/// The only version of [`JoinRequest`] so far.
const JOIN_VERSION: u16 = 1;

/// What a machine without a certificate says at a voter's door.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinRequest {
    /// The cluster it wants to be in.
    pub cluster: ClusterId,
    /// With this token.
    pub token: JoinTokenId,
    /// And its secret.
    pub secret: TokenSecret,
    /// As this node.
    pub node: NodeId,
    /// With this key, as `NodeKey::request` makes it.
    pub request: Vec<u8>,
}

impl JoinRequest {
    /// Its bytes, behind the version.
    pub fn to_bytes(&self) -> Vec<u8> {
        riftmesh_base::encode(&(JOIN_VERSION, self))
    }

    /// Reads what [`JoinRequest::to_bytes`] wrote; the version before anything else.
    ///
    /// # Errors
    /// The reason, for both sides.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, String> {
        let malformed = |error: &dyn std::fmt::Display| format!("malformed request: {error}");
        let (version, rest) =
            postcard::take_from_bytes::<u16>(bytes).map_err(|error| malformed(&error))?;
        if version != JOIN_VERSION {
            return Err(format!(
                "request of version {version}: this build answers version {JOIN_VERSION}; upgrade the older one"
            ));
        }
        riftmesh_base::decode(rest).map_err(|error| malformed(&error))
    }
}

/// The answer to a [`JoinRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum JoinReply {
    /// Welcome.
    Certified {
        /// The node's certificate, as DER.
        certificate: Vec<u8>,
        /// That of the authority that issued it.
        authority: Vec<u8>,
    },
    /// No, and asking again will not help.
    No {
        /// Why.
        reason: String,
    },
    /// Not now; ask again, or another voter.
    Later {
        /// Why.
        reason: String,
    },
}

/// A segment or the weights of a model, and who has them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Located {
    /// The blob.
    pub blob: BlobHash,
    /// The manifest that belongs to it, if it is a model; the same nodes have it.
    pub manifest: Option<BlobHash>,
    /// Nodes that have it.
    pub holders: Vec<Holder>,
}

/// A node and where it can be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Holder {
    /// The node.
    pub node: NodeId,
    /// Its QUIC endpoint.
    pub address: SocketAddr,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a stranger says is read whole or refused with the reason, and a newer build's is refused by its version.
    #[test]
    fn join_requests_are_read_with_care() {
        let request = JoinRequest {
            cluster: ClusterId([1; 16]),
            token: JoinTokenId(2),
            secret: TokenSecret::generate(),
            node: NodeId(3),
            request: vec![4; 100],
        };
        let bytes = request.to_bytes();
        assert_eq!(JoinRequest::from_bytes(&bytes).unwrap(), request);
        for end in 0..bytes.len() {
            let refused = JoinRequest::from_bytes(&bytes[..end]).unwrap_err();
            assert!(refused.starts_with("malformed request"), "{end}: {refused}");
        }
        let newer = riftmesh_base::encode(&(JOIN_VERSION + 1, &request));
        let refused = JoinRequest::from_bytes(&newer).unwrap_err();
        assert!(refused.starts_with("request of version 2"), "{refused}");
    }
}
