//! The tables behind [`trust`](crate::trust).

use std::collections::BTreeMap;

use riftmesh_base::limits::{CERTIFICATE_LIFE, NOTE_BYTES_MAX};
use riftmesh_base::{BlobHash, JoinTokenId, Millis, NodeId, Role};
use serde::{Deserialize, Serialize};

use crate::bounds::{
    CERTIFICATES_MAX, REVOCATIONS_MAX, TOKEN_LIFE_MAX, TOKEN_USES_MAX, TOKENS_MAX,
};
use crate::command::Loss;
use crate::effect::Effect;
use crate::jobs::check_full;
use crate::reply::{Refusal, Reply};
use crate::state::{State, Turn};
use crate::trust::{
    CertificateRecord, JoinFault, JoinTokenView, NewToken, Revocation, Spend, TrustEvent, TrustVerb,
};

/// What is known of trust. Nothing is forgotten by the clock alone, which may be wrong on one voter: a full table makes
/// room by forgetting what expired first, if it has expired.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Trust {
    tokens: BTreeMap<JoinTokenId, TokenRecord>,
    certificates: BTreeMap<NodeId, CertificateRecord>,
    revoked: BTreeMap<NodeId, Revocation>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TokenRecord {
    pub new: NewToken,
    pub revoked: bool,
    /// Nodes let in, with the hashes of their keys.
    pub spent: BTreeMap<NodeId, BlobHash>,
}

impl TokenRecord {
    fn view(&self) -> JoinTokenView {
        JoinTokenView {
            id: self.new.id,
            role: self.new.role,
            uses: self.new.uses,
            nodes: self.spent.keys().copied().collect(),
            created: self.new.at,
            expires: self.new.expires,
            revoked: self.revoked,
        }
    }
}

impl Trust {
    pub fn tokens(&self) -> impl ExactSizeIterator<Item = &TokenRecord> {
        self.tokens.values()
    }

    pub fn certificates(&self) -> impl ExactSizeIterator<Item = &CertificateRecord> {
        self.certificates.values()
    }

    pub fn revocations(&self) -> impl ExactSizeIterator<Item = &Revocation> {
        self.revoked.values()
    }

    /// Whether the node came with a token and its certificate is on the books.
    pub fn is_certified(&self, node: NodeId) -> bool {
        self.certificates.contains_key(&node)
    }

    /// Refuses a node that is trusted no more.
    pub fn check_welcome(&self, node: NodeId) -> Result<(), JoinFault> {
        if self.revoked.contains_key(&node) {
            return Err(JoinFault::NodeRevoked);
        }
        Ok(())
    }
}

/// Makes room for one more in a full table, by forgetting the entry that expired first.
fn make_room<K: Ord + Copy, V>(
    table: &mut BTreeMap<K, V>,
    max: usize,
    now: Millis,
    expires: impl Fn(&V) -> Millis,
) {
    if table.len() < max {
        return;
    }
    let first = table.iter().min_by_key(|(_, entry)| expires(entry));
    let expired = first.filter(|(_, entry)| expires(entry) <= now);
    if let Some(key) = expired.map(|(key, _)| *key) {
        table.remove(&key);
    }
}

impl State {
    pub(crate) fn change_trust(
        &mut self,
        turn: &mut Turn,
        verb: &TrustVerb,
    ) -> Result<Reply, Refusal> {
        match verb {
            TrustVerb::CreateToken(new) => self.create_token(turn, new),
            TrustVerb::RevokeToken { id } => self.revoke_token(turn, *id),
            TrustVerb::SpendToken(spend) => self.spend_token(turn, spend),
            TrustVerb::RenewCertificate { node, key, at } => {
                self.renew_certificate(turn, *node, *key, *at)
            }
            TrustVerb::RevokeCertificate { node, reason, at } => {
                self.revoke_node(turn, *node, reason, *at)
            }
            TrustVerb::Rotate(verb) => self.rotate(turn, verb),
        }
    }

    fn create_token(&mut self, turn: &mut Turn, new: &NewToken) -> Result<Reply, Refusal> {
        check_token(new)?;
        if let Some(known) = self.trust.tokens.get(&new.id) {
            if known.new == *new {
                return Ok(Reply::Done);
            }
            return Err(Refusal::Conflict(format!("join token {} exists", new.id)));
        }
        let tokens = &mut self.trust.tokens;
        make_room(tokens, TOKENS_MAX, new.at, |token| token.new.expires);
        let after = tokens.len() as u64 + 1;
        check_full("the table of join tokens", after, TOKENS_MAX as u64)?;
        let record = TokenRecord {
            new: new.clone(),
            revoked: false,
            spent: BTreeMap::new(),
        };
        tokens.insert(new.id, record);
        turn.tell(Effect::Trust(TrustEvent::TokenCreated { id: new.id }));
        Ok(Reply::Done)
    }

    fn revoke_token(&mut self, turn: &mut Turn, id: JoinTokenId) -> Result<Reply, Refusal> {
        let token = self.trust.tokens.get_mut(&id);
        let token = token.ok_or_else(|| Refusal::Unknown(format!("join token {id}")))?;
        if !token.revoked {
            token.revoked = true;
            turn.tell(Effect::Trust(TrustEvent::TokenRevoked { id }));
        }
        Ok(Reply::Done)
    }

    /// Whether a token would be taken: a voter asks before it puts the command into the log.
    ///
    /// # Errors
    /// [`JoinFault`]; nothing is changed either way.
    pub fn judge_spend(&self, spend: &Spend) -> Result<(), JoinFault> {
        let token = self.trust.tokens.get(&spend.token);
        let token = token.ok_or(JoinFault::UnknownToken)?;
        if !same_secret(token.new.secret, spend.secret) {
            return Err(JoinFault::WrongSecret);
        }
        if token.revoked {
            return Err(JoinFault::TokenRevoked);
        }
        if spend.at >= token.new.expires {
            return Err(JoinFault::TokenExpired);
        }
        self.trust.check_welcome(spend.node)?;
        match self.trust.certificates.get(&spend.node) {
            Some(known) if known.key != spend.key => return Err(JoinFault::NodeTaken),
            // A node that holds the authority itself.
            None if self.nodes.roster.contains_key(&spend.node) => {
                return Err(JoinFault::NodeTaken);
            }
            Some(_) | None => {}
        }
        let again = token.spent.get(&spend.node) == Some(&spend.key);
        if !again && token.spent.len() as u64 >= u64::from(token.new.uses) {
            return Err(JoinFault::TokenUsedUp);
        }
        Ok(())
    }

    fn spend_token(&mut self, turn: &mut Turn, spend: &Spend) -> Result<Reply, Refusal> {
        self.judge_spend(spend).map_err(Refusal::NotWelcome)?;
        let (node, certificates) = (spend.node, &mut self.trust.certificates);
        if !certificates.contains_key(&node) {
            make_room(certificates, CERTIFICATES_MAX, spend.at, |known| {
                known.expires
            });
            let after = certificates.len() as u64 + 1;
            check_full("the table of certificates", after, CERTIFICATES_MAX as u64)?;
        }
        let token = self.trust.tokens.get_mut(&spend.token);
        let token = token.ok_or(Refusal::NotWelcome(JoinFault::UnknownToken))?;
        token.spent.insert(node, spend.key);
        let record = CertificateRecord {
            node,
            role: token.new.role,
            key: spend.key,
            token: spend.token,
            issued: spend.at,
            expires: spend.at + CERTIFICATE_LIFE,
        };
        certificates.insert(node, record);
        self.forget_reports();
        turn.tell(Effect::Trust(TrustEvent::NodeJoined {
            node,
            token: spend.token,
        }));
        Ok(Reply::Done)
    }

    /// Whether a node's certificate would be renewed.
    ///
    /// # Errors
    /// [`JoinFault`]; nothing is changed either way.
    pub fn judge_renewal(&self, node: NodeId, key: BlobHash) -> Result<(), JoinFault> {
        self.trust.check_welcome(node)?;
        let record = self.trust.certificates.get(&node);
        if record.ok_or(JoinFault::NotCertified)?.key != key {
            return Err(JoinFault::NodeTaken);
        }
        Ok(())
    }

    fn renew_certificate(
        &mut self,
        turn: &mut Turn,
        node: NodeId,
        key: BlobHash,
        at: Millis,
    ) -> Result<Reply, Refusal> {
        self.judge_renewal(node, key).map_err(Refusal::NotWelcome)?;
        if let Some(record) = self.trust.certificates.get_mut(&node) {
            record.issued = at;
            record.expires = at + CERTIFICATE_LIFE;
        }
        turn.tell(Effect::Trust(TrustEvent::CertificateRenewed { node }));
        Ok(Reply::Done)
    }

    fn revoke_node(
        &mut self,
        turn: &mut Turn,
        node: NodeId,
        reason: &str,
        at: Millis,
    ) -> Result<Reply, Refusal> {
        if reason.len() > NOTE_BYTES_MAX {
            return Err(Refusal::Invalid(format!(
                "a reason of {} bytes, at most {NOTE_BYTES_MAX} are allowed",
                reason.len()
            )));
        }
        let (certified, entry) = (
            self.trust.certificates.get(&node),
            self.nodes.roster.get(&node),
        );
        if certified.is_none() && entry.is_none() {
            return Err(Refusal::Unknown(format!("node {node}")));
        }
        if entry.is_some_and(|entry| entry.record.role == Role::Voter) {
            return Err(Refusal::Conflict(format!(
                "node {node} votes, and holds the cluster's authority: revoking it would protect nothing"
            )));
        }
        if self.trust.revoked.contains_key(&node) {
            return Ok(Reply::Done);
        }
        let until = certified.map_or(at + CERTIFICATE_LIFE, |known| known.expires);
        let session = entry.and_then(|entry| entry.session);
        let revoked = &mut self.trust.revoked;
        make_room(revoked, REVOCATIONS_MAX, at, |known| known.until);
        let after = revoked.len() as u64 + 1;
        check_full("the table of revocations", after, REVOCATIONS_MAX as u64)?;
        let revocation = Revocation {
            node,
            at,
            until,
            reason: reason.to_owned(),
        };
        revoked.insert(node, revocation);
        turn.tell(Effect::Trust(TrustEvent::NodeRevoked { node }));
        if let Some(session) = session {
            self.end_session(turn, session, Loss::TakenBack);
        }
        Ok(Reply::Done)
    }

    /// Join tokens, by id, those that are over among them for a while.
    pub fn join_tokens(&self) -> Vec<JoinTokenView> {
        self.trust.tokens().map(TokenRecord::view).collect()
    }

    /// Certificates issued to nodes that came with a token, by node.
    pub fn certificates(&self) -> impl ExactSizeIterator<Item = &CertificateRecord> {
        self.trust.certificates()
    }

    /// Nodes that are trusted no more, by node.
    pub fn revocations(&self) -> impl ExactSizeIterator<Item = &Revocation> {
        self.trust.revocations()
    }
}

/// Compares in constant time, as the library promises of its hashes.
fn same_secret(one: BlobHash, other: BlobHash) -> bool {
    blake3::Hash::from_bytes(one.0) == blake3::Hash::from_bytes(other.0)
}

fn check_token(new: &NewToken) -> Result<(), Refusal> {
    if new.role != Role::Worker {
        return Err(Refusal::Invalid(
            "a join token lets workers in; a voter needs the cluster's credential".to_owned(),
        ));
    }
    if !(1..=TOKEN_USES_MAX).contains(&new.uses) {
        return Err(Refusal::Invalid(format!(
            "a join token for {} nodes: 1 to {TOKEN_USES_MAX} are allowed",
            new.uses
        )));
    }
    let life = new.expires.since(new.at);
    if life == Millis(0) || life > TOKEN_LIFE_MAX {
        return Err(Refusal::Invalid(format!(
            "a join token for {life}: up to {TOKEN_LIFE_MAX} is allowed"
        )));
    }
    Ok(())
}
