//! Replacing the cluster's authority while its nodes run.
//!
//! The state holds certificates of authorities, never their keys. A rotation has two phases. In the first, every node
//! comes to trust the next authority besides the one in force, and the voters get its key from each other. In the second,
//! every node shows a certificate of the next one. Then the next is the one in force and the other is trusted no more. Each
//! step waits for all nodes that can be expected to take it, or for an operator's word.

use std::fmt::{Display, Formatter, Result};

use riftmesh_base::{BlobHash, Millis, NodeId};
use serde::{Deserialize, Serialize};

/// An authority to be, and the one that it is to replace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthorityChange {
    /// The certificate of the authority in force, as DER.
    pub present: Vec<u8>,
    /// That of the next one, likewise. Each at most `AUTHORITY_BYTES_MAX`.
    pub next: Vec<u8>,
    /// When, in milliseconds since the Unix epoch.
    pub at: Millis,
}

/// How far a rotation has come. A node reports the same steps of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RotationPhase {
    /// Nodes learn to trust the next authority, and voters get its key.
    Trusting,
    /// Nodes get certificates of the next authority.
    Renewing,
}

impl Display for RotationPhase {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.pad(match self {
            Self::Trusting => "trusting",
            Self::Renewing => "renewing",
        })
    }
}

/// A step of a rotation; part of [`TrustVerb`](crate::trust::TrustVerb).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RotationVerb {
    /// Begins one. A repeat with the same certificates changes nothing.
    Begin(AuthorityChange),
    /// A node has done what the phase asks for.
    Adopt {
        /// Which.
        node: NodeId,
        /// The hash of the next authority's certificate.
        authority: BlobHash,
        /// What it has done.
        step: RotationPhase,
    },
    /// Ends the phase: refused while nodes are waited for, unless forced.
    Advance {
        /// The phase to end; a repeat after that changes nothing.
        phase: RotationPhase,
        /// Without those that have not reported. They need a new token, or the credential, to come back.
        force: bool,
        /// When, in milliseconds since the Unix epoch: certificates that have expired are not waited for.
        at: Millis,
    },
    /// Gives it up, as long as no node may depend on the next authority.
    Abort,
}

/// An authority whose certificates are trusted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthorityRecord {
    /// The hash of its certificate, as join tokens carry it.
    pub fingerprint: BlobHash,
    /// Its certificate, as DER.
    pub certificate: Vec<u8>,
}

impl AuthorityRecord {
    pub(crate) fn new(certificate: &[u8]) -> Self {
        Self {
            fingerprint: BlobHash::of(certificate),
            certificate: certificate.to_vec(),
        }
    }
}

/// A rotation that is under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RotationView {
    /// The authority in force.
    pub present: AuthorityRecord,
    /// The one that is to replace it.
    pub next: AuthorityRecord,
    /// How far it is.
    pub phase: RotationPhase,
    /// When it began, in milliseconds since the Unix epoch.
    pub begun: Millis,
    /// Nodes that have done what the phase asks for.
    pub done: Vec<NodeId>,
    /// Nodes that have not.
    pub awaited: Vec<NodeId>,
}

/// Something that changed about authorities.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RotationEvent {
    /// A rotation began.
    Began {
        /// To this authority.
        next: BlobHash,
    },
    /// A node has taken a step.
    Adopted {
        /// Which.
        node: NodeId,
        /// The step.
        step: RotationPhase,
    },
    /// Nodes get certificates of the next authority from now on.
    Renewing {
        /// Which.
        next: BlobHash,
    },
    /// The next authority is in force, and the one before is trusted no more.
    Ended {
        /// In force.
        present: BlobHash,
        /// Trusted no more.
        retired: BlobHash,
    },
    /// The rotation was given up.
    Aborted {
        /// To this authority.
        next: BlobHash,
    },
}

impl Display for RotationVerb {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::Begin(change) => {
                let (present, next) = (BlobHash::of(&change.present), BlobHash::of(&change.next));
                write!(
                    f,
                    "replace authority {} by {}",
                    present.short(),
                    next.short()
                )
            }
            Self::Adopt {
                node,
                authority,
                step,
            } => write!(f, "{node} is {step} with authority {}", authority.short()),
            Self::Advance { phase, force, .. } => {
                let how = if *force { " by force" } else { "" };
                write!(f, "end the rotation's phase {phase}{how}")
            }
            Self::Abort => f.write_str("give up the rotation"),
        }
    }
}

impl Display for RotationEvent {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::Began { next } => write!(f, "authority {} is to be trusted", next.short()),
            Self::Adopted { node, step } => write!(f, "{node} is done with {step}"),
            Self::Renewing { next } => {
                write!(f, "authority {} issues certificates", next.short())
            }
            Self::Ended { present, retired } => write!(
                f,
                "authority {} is in force, {} is trusted no more",
                present.short(),
                retired.short()
            ),
            Self::Aborted { next } => {
                write!(f, "authority {} is not to be trusted", next.short())
            }
        }
    }
}
