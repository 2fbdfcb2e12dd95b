//! Keeps a node's certificate valid: renews it at half of its life, and when an operator asks.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use riftmesh_base::limits::CERTIFICATE_LIFE;
use riftmesh_base::time::wall_clock;
use riftmesh_base::{Millis, NodeId};
use riftmesh_transport::link::BoxFuture;
use riftmesh_transport::{ClusterAuthority, NodeCredential, QuicLink, Refusals};
use serde::Serialize;
use tokio::sync::{Mutex, watch};
use tokio::time::sleep;

use super::join::Identity;
use crate::answers::{CertificateAnswer, Envelope, ReadMode};
use crate::client::{CallFailure, Client};
use crate::node::http::{AnswerError, CertificateDesk};
use crate::protocol::{Request, Response};

/// Longest wait before a renewal that failed is tried again.
const RETRY_MAX: Duration = Duration::from_secs(3_600);
/// Shortest.
const RETRY_MIN: Duration = Duration::from_secs(10);
/// The voters have this long for a renewal; a person who asked for it is promised an answer in two seconds.
const RENEWAL_MAX: Duration = Duration::from_millis(1_500);

/// A node's certificate and its renewal.
pub struct CertificateKeeper {
    name: String,
    link: Arc<QuicLink>,
    file: PathBuf,
    renewal: Renewal,
    /// Also says when a renewal may be under way: there is one at a time.
    credential: Mutex<NodeCredential>,
    expires: watch::Sender<Millis>,
    /// Counts those who were sent away at the door.
    refusals: Arc<Refusals>,
}

/// Who certifies the node anew.
enum Renewal {
    /// The node itself, which holds the authority.
    Own(Arc<ClusterAuthority>),
    /// The voters.
    Voters(Arc<Client>),
}

impl CertificateKeeper {
    /// Keeps what the node started with, for as long as `link` uses it.
    pub fn new(name: String, identity: Identity, link: Arc<QuicLink>, client: Arc<Client>) -> Self {
        let renewal = match identity.authority {
            Some(authority) => Renewal::Own(authority),
            None => Renewal::Voters(client),
        };
        Self {
            name,
            link,
            file: identity.file,
            renewal,
            expires: watch::Sender::new(identity.credential.expires()),
            credential: Mutex::new(identity.credential),
            refusals: Arc::default(),
        }
    }

    /// Where the others that send somebody away count it.
    pub fn refusals(&self) -> Arc<Refusals> {
        Arc::clone(&self.refusals)
    }

    /// When the present certificate expires, as it changes.
    pub fn expires(&self) -> watch::Receiver<Millis> {
        self.expires.subscribe()
    }

    /// Renews the certificate at half of its life, for as long as the node runs.
    pub async fn run(self: Arc<Self>) {
        loop {
            let due = self.credential.lock().await.renewal();
            let wait = due.since(wall_clock()).duration();
            if wait > Duration::ZERO {
                // In pieces, since the wall clock may be set meanwhile.
                sleep(wait.min(RETRY_MAX)).await;
                continue;
            }
            if let Err(error) = self.renew().await {
                let left = self.expires.borrow().since(wall_clock());
                tracing::error!(error, %left, "the certificate could not be renewed; it expires in");
                let pause = (left.duration() / 16).clamp(RETRY_MIN, RETRY_MAX);
                sleep(pause).await;
            }
        }
    }

    async fn renew(&self) -> Result<(), String> {
        let mut credential = self.credential.lock().await;
        let renewed = match &self.renewal {
            Renewal::Own(authority) => {
                let facts = credential.facts();
                let (node, role) = (facts.name.node, facts.role);
                authority
                    .issue(node, role, CERTIFICATE_LIFE, wall_clock())
                    .map_err(|error| error.to_string())?
            }
            Renewal::Voters(client) => {
                let renewed = ask_voters(client, &credential).await?;
                // On the disk first: a node that starts again must not come with an older one than its peers know.
                renewed
                    .write(&self.file)
                    .map_err(|error| error.to_string())?;
                renewed
            }
        };
        self.link
            .renew(&renewed)
            .map_err(|error| error.to_string())?;
        self.expires.send_replace(renewed.expires());
        let lasts = renewed.expires().since(wall_clock());
        tracing::info!(%lasts, "the certificate was renewed");
        *credential = renewed;
        Ok(())
    }

    fn refused(&self) -> BTreeMap<String, u64> {
        let mut all = BTreeMap::new();
        for (word, count) in self
            .link
            .refusals()
            .into_iter()
            .chain(self.refusals.counts())
        {
            *all.entry(word.to_owned()).or_default() += count;
        }
        all
    }

    async fn answer(&self) -> Result<String, AnswerError> {
        let credential = self.credential.lock().await;
        let (facts, now) = (*credential.facts(), wall_clock());
        let answer = CertificateAnswer {
            cluster: facts.name.cluster,
            role: facts.role,
            authority: credential.authority(),
            key: facts.key,
            issued: facts.begins,
            renews: credential.renewal(),
            expires: facts.expires,
            expires_in_ms: facts.expires.since(now).0,
            holds_authority: matches!(self.renewal, Renewal::Own(_)),
            refused: self.refused(),
        };
        wrap(facts.name.node, &self.name, answer)
    }
}

async fn ask_voters(client: &Client, held: &NodeCredential) -> Result<NodeCredential, String> {
    let request = held.renewal_request().map_err(|error| error.to_string())?;
    match client
        .ask_any(Request::Renew { request }, RENEWAL_MAX)
        .await
    {
        Ok(Response::Renewed { certificate }) => held
            .renewed(&certificate, wall_clock())
            .map_err(|error| error.to_string()),
        Ok(other) => Err(format!("unexpected answer {other:?}")),
        Err(CallFailure::Refused(refusal)) => Err(refusal.to_string()),
        Err(error) => Err(error.to_string()),
    }
}

fn wrap<T: Serialize>(node: NodeId, name: &str, answer: T) -> Result<String, AnswerError> {
    let envelope = Envelope {
        node,
        name: name.to_owned(),
        mode: ReadMode::Stale,
        applied_index: None,
        term: None,
        leader_contact_ms: None,
        answer,
    };
    serde_json::to_string(&envelope).map_err(|error| AnswerError::Unavailable(error.to_string()))
}

impl CertificateDesk for CertificateKeeper {
    fn show(&self) -> BoxFuture<'_, Result<String, AnswerError>> {
        Box::pin(self.answer())
    }

    fn renew(&self) -> BoxFuture<'_, Result<String, AnswerError>> {
        Box::pin(async move {
            CertificateKeeper::renew(self)
                .await
                .map_err(AnswerError::Unavailable)?;
            self.answer().await
        })
    }
}
