//! Join tokens, certificates and revocations as plainly as they can be written, and random commands about them.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use riftmesh_base::{BlobHash, JoinTokenId, Millis, NodeId, Role};
use riftmesh_statemachine::State;
use riftmesh_statemachine::trust::{NewToken, Spend, TrustVerb};

use crate::reference::Answer;
use crate::rotation::{PlainRotation, rotation_verb};

#[derive(Debug)]
pub struct PlainToken {
    new: NewToken,
    revoked: bool,
    /// Everybody who was let in, in the order they came.
    came: Vec<(NodeId, BlobHash)>,
}

#[derive(Debug, Default)]
pub struct PlainTrust {
    tokens: Vec<PlainToken>,
    /// The key under which each node is known.
    keys: BTreeMap<NodeId, BlobHash>,
    pub revoked: BTreeSet<NodeId>,
    pub rotation: PlainRotation,
}

impl PlainTrust {
    /// None for a revocation, which the caller knows more about.
    pub fn run(
        &mut self,
        verb: &TrustVerb,
        roster: &BTreeSet<NodeId>,
    ) -> Option<Result<Answer, &'static str>> {
        Some(match verb {
            TrustVerb::CreateToken(new) => match self.token(new.id) {
                Ok(known) if known.new == *new => Ok(Answer::Done),
                Ok(_) => Err("conflict"),
                Err(_) => {
                    self.tokens.push(PlainToken {
                        new: new.clone(),
                        revoked: false,
                        came: Vec::new(),
                    });
                    Ok(Answer::Done)
                }
            },
            TrustVerb::RevokeToken { id } => self
                .token(*id)
                .map(|token| token.revoked = true)
                .map(|()| Answer::Done)
                .map_err(|_| "unknown"),
            TrustVerb::SpendToken(spend) => self.spend(spend, roster),
            TrustVerb::RenewCertificate { node, key, .. } => {
                match (self.revoked.contains(node), self.keys.get(node)) {
                    (true, _) => Err("node-revoked"),
                    (false, None) => Err("not-certified"),
                    (false, Some(known)) if known != key => Err("node-taken"),
                    (false, Some(_)) => Ok(Answer::Done),
                }
            }
            TrustVerb::RevokeCertificate { .. } => return None,
            TrustVerb::Rotate(verb) => {
                let known: BTreeSet<_> = roster.iter().chain(self.keys.keys()).copied().collect();
                let expected = known.difference(&self.revoked).copied().collect();
                let voter = roster.get(&NodeId(1)).copied();
                self.rotation.run(verb, &known, &expected, voter)
            }
        })
    }

    pub fn knows(&self, node: NodeId) -> bool {
        self.keys.contains_key(&node)
    }

    fn token(&mut self, id: JoinTokenId) -> Result<&mut PlainToken, &'static str> {
        let token = self.tokens.iter_mut().find(|token| token.new.id == id);
        token.ok_or("unknown-token")
    }

    fn spend(&mut self, spend: &Spend, roster: &BTreeSet<NodeId>) -> Result<Answer, &'static str> {
        let revoked = self.revoked.contains(&spend.node);
        let known = self.keys.get(&spend.node).copied();
        let token = self.token(spend.token)?;
        let here = (spend.node, spend.key);
        let full = token.came.len() == token.new.uses as usize && !token.came.contains(&here);
        let other = known.map_or(roster.contains(&spend.node), |key| key != spend.key);
        let faults = [
            (token.new.secret != spend.secret, "wrong-secret"),
            (token.revoked, "token-revoked"),
            (token.new.expires <= spend.at, "token-expired"),
            (revoked, "node-revoked"),
            (other, "node-taken"),
            (full, "token-used-up"),
        ];
        if let Some((_, word)) = faults.into_iter().find(|(fault, _)| *fault) {
            return Err(word);
        }
        if !token.came.contains(&here) {
            token.came.push(here);
        }
        self.keys.insert(spend.node, spend.key);
        Ok(Answer::Done)
    }

    pub fn compare(&self, state: &State) {
        let roster = state.roster().into_iter().map(|row| row.node.record.id);
        let known: BTreeSet<_> = roster.chain(self.keys.keys().copied()).collect();
        let expected = known.difference(&self.revoked).copied().collect();
        self.rotation.compare(state, &expected);
        let views = state.join_tokens();
        assert_eq!(views.len(), self.tokens.len());
        for view in views {
            let mut tokens = self.tokens.iter();
            let plain = tokens.find(|token| token.new.id == view.id).unwrap();
            let came: BTreeSet<_> = plain.came.iter().map(|(node, _)| *node).collect();
            assert!(view.nodes.len() <= view.uses as usize);
            assert_eq!(view.nodes, Vec::from_iter(came));
            assert_eq!(view.revoked, plain.revoked);
        }
        let certified = state.certificates().map(|known| (known.node, known.key));
        assert_eq!(BTreeMap::from_iter(certified), self.keys);
        let revoked = state.revocations().map(|known| known.node);
        assert_eq!(BTreeSet::from_iter(revoked), self.revoked);
    }
}

/// A verb about trust: few tokens, nodes and keys, so that they meet.
pub fn trust_verb() -> impl Strategy<Value = TrustVerb> {
    let id = || (0u64..4).prop_map(JoinTokenId);
    let hash = || prop::bool::weighted(0.1).prop_map(|odd| BlobHash([u8::from(odd); 32]));
    let node = || prop_oneof![1 => 1u64..4, 3 => 10u64..14].prop_map(NodeId);
    let at = || (0u64..40).prop_map(Millis);
    prop_oneof![
        2 => (id(), 1u32..4, 10u64..60).prop_map(|(id, uses, expires)| TrustVerb::CreateToken(NewToken {
            id,
            secret: BlobHash([0; 32]),
            role: Role::Worker,
            uses,
            expires: Millis(expires),
            at: Millis(1),
        })),
        1 => id().prop_map(|id| TrustVerb::RevokeToken { id }),
        12 => (id(), hash(), node(), hash(), at())
            .prop_map(|(token, secret, node, key, at)| TrustVerb::SpendToken(Spend { token, secret, node, key, at })),
        2 => (node(), hash(), at()).prop_map(|(node, key, at)| TrustVerb::RenewCertificate { node, key, at }),
        1 => (node(), at()).prop_map(|(node, at)| {
            let reason = "stolen".to_owned();
            TrustVerb::RevokeCertificate { node, reason, at }
        }),
        8 => rotation_verb().prop_map(TrustVerb::Rotate),
    ]
}
