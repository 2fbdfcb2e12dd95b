//! Who is let through once a handshake stands: the checks that both sides of a connection make of each other.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quinn::{Connection, ConnectionError};
use riftmesh_base::time::wall_clock;
use riftmesh_base::{BlobHash, ClusterId, NodeId};
use rustls::pki_types::CertificateDer;
use tokio::sync::watch;

use super::STRANGER;
use super::accounts::Accounts;
use super::pool::DialFailure;
use super::trust;
use crate::identity::{CertificateFacts, CredentialError};
use crate::refusals::Refusals;

/// The nodes whose certificates were revoked.
pub(super) type Revoked = Arc<BTreeSet<NodeId>>;

/// Why somebody is not let through: a word for the count, a sentence for both sides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reason {
    pub(super) word: &'static str,
    pub(super) text: String,
}

/// What this endpoint knows about who is welcome.
pub(super) struct Gate {
    cluster: ClusterId,
    revoked: watch::Sender<Revoked>,
    /// Keys of the authorities that are trusted.
    trusted: watch::Sender<BTreeSet<BlobHash>>,
    pub(super) refusals: Refusals,
    /// What those who were let through send and get.
    pub(super) accounts: Accounts,
}

impl Gate {
    pub(super) fn new(cluster: ClusterId, trusted: BTreeSet<BlobHash>) -> Self {
        Self {
            cluster,
            trusted: watch::Sender::new(trusted),
            revoked: watch::Sender::new(Revoked::default()),
            refusals: Refusals::default(),
            accounts: Accounts::default(),
        }
    }

    /// Turns these nodes away from now on; false if they were the ones before.
    pub(super) fn revoke(&self, nodes: BTreeSet<NodeId>) -> bool {
        self.revoked.send_if_modified(|revoked| {
            let changed = **revoked != nodes;
            if changed {
                *revoked = Arc::new(nodes);
            }
            changed
        })
    }

    /// Trusts these authorities from now on; false if they were the ones before.
    pub(super) fn trust(&self, trusted: BTreeSet<BlobHash>) -> bool {
        self.trusted.send_if_modified(|known| {
            let changed = *known != trusted;
            *known = trusted;
            changed
        })
    }

    /// Whether the authority that issued a certificate is trusted still. The handshake has checked that it was then.
    pub(super) fn is_trusted(&self, facts: &CertificateFacts) -> bool {
        is_of(facts, &self.trusted.borrow())
    }

    pub(super) fn is_revoked(&self, node: NodeId) -> bool {
        self.revoked.borrow().contains(&node)
    }

    /// Who is at the other end, from the certificate that the handshake verified. Somebody who is not welcome is counted
    /// and told why.
    pub(super) fn check(&self, connection: &Connection) -> Result<CertificateFacts, Reason> {
        let facts = shown(connection).and_then(|facts| self.judge(facts));
        if let Err(reason) = &facts {
            self.refusals.note(reason.word);
            connection.close(STRANGER, reason.text.as_bytes());
        }
        facts
    }

    fn judge(&self, facts: CertificateFacts) -> Result<CertificateFacts, Reason> {
        let name = facts.name;
        let because = |word, what: &str| Reason {
            word,
            text: format!("the certificate of {name} {what}"),
        };
        if name.cluster != self.cluster {
            return Err(because("wrong-cluster", "is of another cluster"));
        }
        if self.is_revoked(name.node) {
            return Err(because("revoked", "was revoked"));
        }
        // TLS compares whole seconds, and lets a certificate in for the rest of its last one.
        if wall_clock() >= facts.expires {
            return Err(because("expired", "has expired"));
        }
        Ok(facts)
    }

    /// Counts a handshake that failed because the other side's certificate was refused here, and says so.
    pub(super) fn note_failed(&self, address: SocketAddr, error: &ConnectionError) {
        let Some(word) = trust::refused_here(error) else {
            return;
        };
        self.refusals.note(word);
        if let DialFailure::Untrusted(reason) = trust::blame(error) {
            tracing::warn!(%address, reason, "refused");
        }
    }

    /// Ends when `facts` stop being good for a connection: the certificate runs out, or it or its authority is revoked.
    pub(super) async fn end_of(&self, facts: &CertificateFacts) -> Reason {
        let name = facts.name;
        let (mut revoked, mut trusted) = (self.revoked.subscribe(), self.trusted.subscribe());
        let left: Duration = facts.expires.since(wall_clock()).duration();
        tokio::select! {
            // The sender lives in `self`, so waiting cannot fail.
            _ = revoked.wait_for(|nodes| nodes.contains(&name.node)) => Reason {
                word: "revoked",
                text: format!("the certificate of {name} was revoked"),
            },
            _ = trusted.wait_for(|trusted| !is_of(facts, trusted)) => Reason {
                word: "authority-retired",
                text: format!("the certificate of {name} is of an authority that was replaced"),
            },
            () = tokio::time::sleep(left) => Reason {
                word: "expired",
                text: format!("the certificate of {name} has expired"),
            },
        }
    }
}

fn is_of(facts: &CertificateFacts, trusted: &BTreeSet<BlobHash>) -> bool {
    facts.issuer.is_none_or(|issuer| trusted.contains(&issuer))
}

fn shown(connection: &Connection) -> Result<CertificateFacts, Reason> {
    let because = |word, text: &str| Reason {
        word,
        text: text.to_owned(),
    };
    let identity = connection.peer_identity();
    let identity = identity.ok_or_else(|| because("no-certificate", "no certificate was shown"))?;
    let chain = identity
        .downcast::<Vec<CertificateDer<'static>>>()
        .map_err(|_| because("not-a-node", "what was shown is no certificate"))?;
    let leaf = chain.first();
    let leaf = leaf.ok_or_else(|| because("no-certificate", "the certificate shown is empty"))?;
    CertificateFacts::read(leaf).map_err(|error: CredentialError| Reason {
        word: "not-a-node",
        text: error.to_string(),
    })
}
