//! Who may join and who is trusted: join tokens, certificates that were issued against them, and revocations.
//!
//! The authority's key is no part of the state: it stays in a file of the voters. What is agreed on here is the
//! bookkeeping, so that a token for N machines lets in exactly N however many voters issue certificates.
//!
//! Cluster time stands still while there is no leader, and certificates do not. So times here are wall-clock times, in
//! milliseconds since the Unix epoch, stamped by the voter that proposes the command.

use std::fmt::{Display, Formatter, Result};

use riftmesh_base::{BlobHash, JoinTokenId, Millis, NodeId, Role};
use serde::{Deserialize, Serialize};

use crate::rotation::{RotationEvent, RotationVerb};

/// What can be asked about trust. Voters alone may ask it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TrustVerb {
    /// Makes a join token. A repeat with the same values changes nothing.
    CreateToken(NewToken),
    /// Lets nobody in with this token from now on. Those who came in by it stay.
    RevokeToken {
        /// Which.
        id: JoinTokenId,
    },
    /// Lets a node in. The same node with the same key may repeat it while the token lives, and that counts once.
    SpendToken(Spend),
    /// Notes that a node's certificate was issued anew for the key it had.
    RenewCertificate {
        /// The node.
        node: NodeId,
        /// The hash of its public key.
        key: BlobHash,
        /// When.
        at: Millis,
    },
    /// Trusts a node no more, for ever: it is turned away by everybody, its session ends, and its id joins no more.
    /// Refused for voters, since that is a change of the quorum.
    RevokeCertificate {
        /// The node.
        node: NodeId,
        /// Why, at most `NOTE_BYTES_MAX` bytes.
        reason: String,
        /// When.
        at: Millis,
    },
    /// Replaces the authority, step by step.
    Rotate(RotationVerb),
}

/// A join token to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewToken {
    /// A random number.
    pub id: JoinTokenId,
    /// The hash of its secret. The secret itself stays with whoever made it.
    pub secret: BlobHash,
    /// What it lets nodes become; workers only, since voters hold the authority itself.
    pub role: Role,
    /// How many nodes it lets in, 1 to `TOKEN_USES_MAX`.
    pub uses: u32,
    /// When it expires, at most `TOKEN_LIFE_MAX` after `at`.
    pub expires: Millis,
    /// When it was made.
    pub at: Millis,
}

/// A token being redeemed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spend {
    /// Which.
    pub token: JoinTokenId,
    /// The hash of the secret that was shown.
    pub secret: BlobHash,
    /// The node that asks.
    pub node: NodeId,
    /// The hash of its public key.
    pub key: BlobHash,
    /// When.
    pub at: Millis,
}

/// A join token as people see it: without its secret's hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinTokenView {
    /// Its id.
    pub id: JoinTokenId,
    /// What it lets nodes become.
    pub role: Role,
    /// How many nodes it lets in, in all.
    pub uses: u32,
    /// How many it has let in, by their ids.
    pub nodes: Vec<NodeId>,
    /// When it was made.
    pub created: Millis,
    /// When it expires.
    pub expires: Millis,
    /// Whether it was revoked.
    pub revoked: bool,
}

/// A certificate the cluster has issued to a node that came with a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateRecord {
    /// Whose.
    pub node: NodeId,
    /// What it may be.
    pub role: Role,
    /// The hash of its public key.
    pub key: BlobHash,
    /// The token it last came in with.
    pub token: JoinTokenId,
    /// When the present certificate was issued.
    pub issued: Millis,
    /// When it expires.
    pub expires: Millis,
}

/// A node that is trusted no more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revocation {
    /// Which.
    pub node: NodeId,
    /// Since when.
    pub at: Millis,
    /// When the last certificate it can have expires.
    pub until: Millis,
    /// Why.
    pub reason: String,
}

/// Why a node is not let in, or not certified again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
pub enum JoinFault {
    /// No such token, or one that was forgotten long after its end.
    #[error("the cluster has no such join token; `riftmesh token create` on a voter makes one")]
    UnknownToken,
    /// The token's id is right and its secret is not.
    #[error("the secret of the join token is wrong")]
    WrongSecret,
    /// Past its time.
    #[error("the join token has expired; `riftmesh token create` on a voter makes a new one")]
    TokenExpired,
    /// An operator revoked it.
    #[error("the join token was revoked")]
    TokenRevoked,
    /// As many nodes as it was made for have come.
    #[error(
        "the join token is used up: it let in as many nodes as it was made for; `riftmesh token create` on a voter makes a new one"
    )]
    TokenUsedUp,
    /// The node's id belongs to another key.
    #[error(
        "another key is known under this node id; start with an empty data directory to be a new node"
    )]
    NodeTaken,
    /// An operator revoked the node.
    #[error(
        "this node was revoked; start with an empty data directory and a new token to be a new node"
    )]
    NodeRevoked,
    /// The cluster issued no certificate to this node, so it renews none.
    #[error("the cluster has no record of a certificate of this node; join again with a token")]
    NotCertified,
}

impl JoinFault {
    /// In a word, for counts.
    pub fn word(self) -> &'static str {
        match self {
            Self::UnknownToken => "unknown-token",
            Self::WrongSecret => "wrong-secret",
            Self::TokenExpired => "token-expired",
            Self::TokenRevoked => "token-revoked",
            Self::TokenUsedUp => "token-used-up",
            Self::NodeTaken => "node-taken",
            Self::NodeRevoked => "node-revoked",
            Self::NotCertified => "not-certified",
        }
    }
}

/// Something that changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TrustEvent {
    /// A join token was made.
    TokenCreated {
        /// Which.
        id: JoinTokenId,
    },
    /// A join token was revoked.
    TokenRevoked {
        /// Which.
        id: JoinTokenId,
    },
    /// A node was let in.
    NodeJoined {
        /// Which.
        node: NodeId,
        /// With which token.
        token: JoinTokenId,
    },
    /// A node's certificate is issued anew.
    CertificateRenewed {
        /// Whose.
        node: NodeId,
    },
    /// A node is trusted no more.
    NodeRevoked {
        /// Which.
        node: NodeId,
    },
    /// The authority is being replaced.
    Rotation(RotationEvent),
}

impl Display for TrustVerb {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::CreateToken(new) => {
                let (id, uses, role, life) =
                    (new.id, new.uses, new.role, new.expires.since(new.at));
                write!(f, "join token {id} for {uses} as {role}, for {life}")
            }
            Self::RevokeToken { id } => write!(f, "revoke join token {id}"),
            Self::SpendToken(spend) => {
                write!(f, "let {} in with token {}", spend.node, spend.token)
            }
            Self::RenewCertificate { node, .. } => write!(f, "renew the certificate of {node}"),
            Self::RevokeCertificate { node, reason, .. } => {
                write!(f, "trust {node} no more: {reason}")
            }
            Self::Rotate(verb) => verb.fmt(f),
        }
    }
}

impl Display for TrustEvent {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::TokenCreated { id } => write!(f, "join token {id} is made"),
            Self::TokenRevoked { id } => write!(f, "join token {id} is revoked"),
            Self::NodeJoined { node, token } => write!(f, "{node} joins with token {token}"),
            Self::CertificateRenewed { node } => write!(f, "{node} is certified anew"),
            Self::NodeRevoked { node } => write!(f, "{node} is trusted no more"),
            Self::Rotation(event) => event.fmt(f),
        }
    }
}
