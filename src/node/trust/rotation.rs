//! A node's part in replacing the authority: it trusts whom the cluster trusts, gets a certificate of the authority that
//! the cluster wants, and says when it has.

use std::sync::Arc;
use std::time::Duration;

use riftmesh_base::time::wall_clock;
use riftmesh_base::{BlobHash, Role};
use riftmesh_raft::RaftNode;
use riftmesh_statemachine::State;
use riftmesh_statemachine::bounds::AUTHORITY_BYTES_MAX;
use riftmesh_statemachine::command::Body;
use riftmesh_statemachine::rotation::{AuthorityChange, RotationPhase, RotationVerb};
use riftmesh_statemachine::trust::TrustVerb;
use riftmesh_transport::NodeCredential;
use tokio::sync::watch;
use tokio::time::sleep;

use super::keeper::{CertificateKeeper, Expiries, Renewal};
use super::watch::{ASK_EVERY, LOOK_EVERY, until_stopped};
use crate::client::{Client, deadlines};
use crate::protocol::{AuthorityNews, Request, Response};

/// Authorities trusted at a time.
const TRUSTED_MAX: usize = 2;
/// A voter waits this long for a state that is surely current.
const CURRENT_MAX: Duration = Duration::from_secs(2);
/// A person who begins a rotation is promised an answer in two seconds.
const BEGIN_MAX: Duration = Duration::from_millis(1_400);

/// What the cluster's state says about authorities.
pub fn news(state: &State) -> AuthorityNews {
    let rotation = state.rotation(wall_clock());
    AuthorityNews {
        trusted: state
            .authorities()
            .into_iter()
            .map(|known| known.certificate.clone())
            .collect(),
        rotation: rotation.map(|rotation| (rotation.next.fingerprint, rotation.phase)),
    }
}

impl AuthorityNews {
    /// Whether it can be what a voter says.
    fn check(&self) -> Result<(), String> {
        let trusted = &self.trusted;
        let small = |certificate: &Vec<u8>| certificate.len() <= AUTHORITY_BYTES_MAX;
        let next = self.rotation.map(|(next, _)| next);
        let known = |next| trusted.iter().any(|known| BlobHash::of(known) == next);
        if trusted.len() <= TRUSTED_MAX && trusted.iter().all(small) && next.is_none_or(known) {
            return Ok(());
        }
        Err("malformed news about authorities".to_owned())
    }

    /// The authority that certificates are to be of, none as long as there never was another.
    fn wanted(&self) -> Option<BlobHash> {
        match self.rotation {
            Some((next, RotationPhase::Renewing)) => Some(next),
            Some(_) | None => self.trusted.first().map(|known| BlobHash::of(known)),
        }
    }
}

/// Follows a voter's own state until the node stops.
pub async fn follow_own(
    keeper: Arc<CertificateKeeper>,
    raft: RaftNode,
    client: Client,
    stopping: watch::Receiver<bool>,
) {
    until_stopped(stopping, async {
        // What was true before this node was stopped may be long over.
        while raft.linearizable(CURRENT_MAX).await.is_err() {
            sleep(LOOK_EVERY).await;
        }
        loop {
            let news = raft.read(|_, state| news(state));
            keeper.heed(&news, &client).await;
            sleep(LOOK_EVERY).await;
        }
    })
    .await;
}

/// Asks the voters until the node stops.
pub async fn follow_asked(
    keeper: Arc<CertificateKeeper>,
    client: Client,
    stopping: watch::Receiver<bool>,
) {
    until_stopped(stopping, async {
        loop {
            match client
                .ask_any(Request::Authorities, deadlines::COMMAND)
                .await
            {
                Ok(Response::Authorities { news }) => keeper.heed(&news, &client).await,
                Ok(other) => tracing::warn!(?other, "unexpected news about authorities"),
                Err(error) => tracing::debug!(%error, "no voter says whom to trust"),
            }
            sleep(ASK_EVERY).await;
        }
    })
    .await;
}

impl CertificateKeeper {
    /// Does what the news ask for, as far as it can be done now; the next look goes on.
    async fn heed(&self, news: &AuthorityNews, client: &Client) {
        if let Err(reason) = self.try_heed(news, client).await {
            tracing::warn!(
                reason,
                "the authority is being replaced, and this node waits"
            );
        }
    }

    async fn try_heed(&self, news: &AuthorityNews, client: &Client) -> Result<(), String> {
        news.check()?;
        let Some(wanted) = news.wanted() else {
            self.forget_rotation().await?;
            return Ok(());
        };
        self.trust(&news.trusted).await?;
        if let Some((next, _)) = news.rotation {
            self.get_key(next, client).await?;
        }
        if self.credential.lock().await.authority() != wanted {
            self.renew_under(wanted, client).await?;
        }
        match news.rotation {
            Some((next, phase)) => self.report(next, phase, client).await,
            None => self.forget_rotation().await,
        }
    }

    /// Trusts exactly these authorities besides the one of the node's own certificate.
    async fn trust(&self, authorities: &[Vec<u8>]) -> Result<(), String> {
        let mut credential = self.credential.lock().await;
        let told = credential.trusting(authorities);
        let told = told.map_err(|error| error.to_string())?;
        if told.authorities() == credential.authorities() {
            return Ok(());
        }
        self.use_from_now_on(&mut credential, told)?;
        tracing::info!(
            authorities = authorities.len(),
            "other authorities are trusted"
        );
        Ok(())
    }

    /// Gets the key of the next authority from another voter, on a node that certifies.
    async fn get_key(&self, next: BlobHash, client: &Client) -> Result<(), String> {
        let Renewal::Own(ring) = &self.renewal else {
            return Ok(());
        };
        let role = self.credential.lock().await.facts().role;
        // A worker that was given the credential by hand is given the next one by hand.
        if role == Role::Worker || ring.get(next).is_some() {
            return Ok(());
        }
        let asked = Request::AuthorityKey { authority: next };
        match client.ask_any(asked, deadlines::COMMAND).await {
            Ok(Response::AuthorityKey { key }) => ring
                .take(key.as_str(), next)
                .map(|_| tracing::info!(authority = %next.short(), "the next authority's key is here"))
                .map_err(|error| format!("{error:#}")),
            Ok(_) => Err("unexpected answer to the question for the next authority".to_owned()),
            Err(error) => Err(format!("no voter gives the next authority's key: {error}")),
        }
    }

    async fn renew_under(&self, wanted: BlobHash, client: &Client) -> Result<(), String> {
        match &self.renewal {
            Renewal::Own(ring) if !ring.switch(wanted) => {
                self.get_key(wanted, client).await?;
                if !ring.switch(wanted) {
                    return Err(format!(
                        "this node lacks the key of authority {}: copy `authority.credential` (or `.next`) from a voter's \
                         data directory and start it with that as --credential",
                        wanted.short()
                    ));
                }
            }
            Renewal::Own(_) | Renewal::Voters(_) => {}
        }
        self.renew().await?;
        let now = self.credential.lock().await.authority();
        if now != wanted {
            return Err("the voter that renewed the certificate has not heard yet".to_owned());
        }
        Ok(())
    }

    /// Says once what this node has done.
    async fn report(
        &self,
        next: BlobHash,
        phase: RotationPhase,
        client: &Client,
    ) -> Result<(), String> {
        let node = self.credential.lock().await.node();
        let mut reported = self.reported.lock().await;
        if *reported == Some((next, phase)) {
            return Ok(());
        }
        let adopted = RotationVerb::Adopt {
            node,
            authority: next,
            step: phase,
        };
        let body = Body::Trust(TrustVerb::Rotate(adopted));
        client
            .propose(body, deadlines::COMMAND)
            .await
            .map_err(|error| error.to_string())?;
        *reported = Some((next, phase));
        Ok(())
    }

    /// There is no rotation: what was kept for one is not needed.
    async fn forget_rotation(&self) -> Result<(), String> {
        *self.reported.lock().await = None;
        let Renewal::Own(ring) = &self.renewal else {
            return Ok(());
        };
        // An operator's order may be on its way with a key that is on the disk already.
        let credential = self.credential.lock().await;
        if self.beginning.try_lock().is_err()
            || ring.present().fingerprint() != credential.authority()
        {
            return Ok(());
        }
        if ring.settle().map_err(|error| error.to_string())? {
            tracing::info!(authority = %credential.authority().short(), "the authority is settled");
            let renewed = self.link.renew_with_others(&credential, Vec::new());
            renewed.map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    /// Uses a credential, on the disk first: a node that starts again must not trust fewer than its peers expect.
    pub(super) fn use_from_now_on(
        &self,
        held: &mut NodeCredential,
        new: NodeCredential,
    ) -> Result<(), String> {
        let text = |error: riftmesh_transport::CredentialError| error.to_string();
        new.write(&self.file).map_err(text)?;
        let others = self.others(&new)?;
        self.link.renew_with_others(&new, others).map_err(text)?;
        self.expires.send_replace(Expiries::of(&new));
        *held = new;
        Ok(())
    }

    /// A node that starts in the middle of a rotation lets strangers of both authorities in, as it did before.
    pub(super) async fn open_doors(&self) -> Result<(), String> {
        let credential = self.credential.lock().await;
        let others = self.others(&credential)?;
        if others.is_empty() {
            return Ok(());
        }
        let opened = self.link.renew_with_others(&credential, others);
        opened.map_err(|error| error.to_string())
    }

    /// What strangers are shown whose tokens pin another trusted authority than that of `credential`.
    fn others(&self, credential: &NodeCredential) -> Result<Vec<NodeCredential>, String> {
        let Renewal::Own(ring) = &self.renewal else {
            return Ok(Vec::new());
        };
        let facts = credential.facts();
        let authorities = credential.authorities();
        let others = authorities
            .iter()
            .skip(1)
            .filter_map(|other| ring.get(BlobHash::of(other)));
        others
            .map(|other| {
                let life = facts.expires.since(wall_clock());
                other
                    .issue(facts.name.node, facts.role, life, wall_clock())
                    .map_err(|error| error.to_string())
            })
            .collect()
    }

    /// Begins to replace the authority, or finds that it is under way.
    ///
    /// # Errors
    /// This node does not hold the authority, or the log did not take the order; the text says which.
    pub(super) async fn begin(&self, trusted: &[BlobHash]) -> Result<(), String> {
        let (Renewal::Own(ring), Some(client)) = (&self.renewal, self.orders.get()) else {
            return Err(
                "this node is no voter with the cluster's authority; ask a voter's machine (--addr)"
                    .to_owned(),
            );
        };
        let _beginning = self.beginning.lock().await;
        let next = ring.next(trusted).map_err(|error| format!("{error:#}"))?;
        let change = AuthorityChange {
            present: ring.present().certificate().to_vec(),
            next: next.certificate().to_vec(),
            at: wall_clock(),
        };
        let body = Body::Trust(TrustVerb::Rotate(RotationVerb::Begin(change)));
        client
            .propose(body, BEGIN_MAX)
            .await
            .map(drop)
            .map_err(|error| error.to_string())
    }
}
