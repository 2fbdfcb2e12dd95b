//! The table behind [`rotation`](crate::rotation).

use std::collections::BTreeMap;

use riftmesh_base::{BlobHash, Millis, NodeId, Role};
use serde::{Deserialize, Serialize};

use crate::bounds::AUTHORITY_BYTES_MAX;
use crate::effect::Effect;
use crate::reply::{Refusal, Reply};
use crate::rotation::{
    AuthorityChange, AuthorityRecord, RotationEvent, RotationPhase, RotationVerb, RotationView,
};
use crate::state::{State, Turn};
use crate::trust::TrustEvent;

/// The authority in force, once there was a rotation, and the rotation under way.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Authorities {
    /// None before the first rotation: the one that the nodes were given.
    present: Option<AuthorityRecord>,
    rotation: Option<Rotation>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Rotation {
    /// In force meanwhile.
    present: AuthorityRecord,
    next: AuthorityRecord,
    phase: RotationPhase,
    begun: Millis,
    /// How far each node is; nodes that the cluster knows, so no more than those.
    adopted: BTreeMap<NodeId, RotationPhase>,
}

impl Authorities {
    /// Nodes whose reports are kept.
    pub fn reports(&self) -> impl Iterator<Item = NodeId> {
        let rotation = self.rotation.iter();
        rotation.flat_map(|rotation| rotation.adopted.keys().copied())
    }
}

fn tell(turn: &mut Turn, event: RotationEvent) {
    turn.tell(Effect::Trust(TrustEvent::Rotation(event)));
}

impl State {
    pub(crate) fn rotate(
        &mut self,
        turn: &mut Turn,
        verb: &RotationVerb,
    ) -> Result<Reply, Refusal> {
        match verb {
            RotationVerb::Begin(change) => self.begin_rotation(turn, change),
            RotationVerb::Adopt {
                node,
                authority,
                step,
            } => self.adopt(turn, *node, *authority, *step),
            RotationVerb::Advance { phase, force, at } => {
                self.advance_rotation(turn, *phase, *force, *at)
            }
            RotationVerb::Abort => self.abort_rotation(turn),
        }
    }

    fn begin_rotation(
        &mut self,
        turn: &mut Turn,
        change: &AuthorityChange,
    ) -> Result<Reply, Refusal> {
        check_certificates(change)?;
        let present = AuthorityRecord::new(&change.present);
        let next = AuthorityRecord::new(&change.next);
        if let Some(rotation) = &self.authorities.rotation {
            if (&rotation.present, &rotation.next) == (&present, &next) {
                return Ok(Reply::Done);
            }
            return Err(Refusal::Conflict(format!(
                "a rotation to authority {} is under way",
                rotation.next.fingerprint.short()
            )));
        }
        if let Some(known) = self.authorities.present.as_ref()
            && *known != present
        {
            return Err(Refusal::Conflict(format!(
                "authority {} is in force, not {}",
                known.fingerprint.short(),
                present.fingerprint.short()
            )));
        }
        tell(
            turn,
            RotationEvent::Began {
                next: next.fingerprint,
            },
        );
        self.authorities.rotation = Some(Rotation {
            present,
            next,
            phase: RotationPhase::Trusting,
            begun: change.at,
            adopted: BTreeMap::new(),
        });
        Ok(Reply::Done)
    }

    fn adopt(
        &mut self,
        turn: &mut Turn,
        node: NodeId,
        authority: BlobHash,
        step: RotationPhase,
    ) -> Result<Reply, Refusal> {
        if !self.nodes.roster.contains_key(&node) && !self.trust.is_certified(node) {
            return Err(Refusal::Unknown(format!("node {node}")));
        }
        let rotation = self.authorities.rotation.as_mut();
        let rotation = rotation.filter(|rotation| rotation.next.fingerprint == authority);
        let Some(rotation) = rotation else {
            return Err(Refusal::Conflict(format!(
                "there is no rotation to authority {}",
                authority.short()
            )));
        };
        if step > rotation.phase {
            return Err(Refusal::Conflict(format!(
                "the rotation is {}: {step} comes later",
                rotation.phase
            )));
        }
        if rotation.adopted.get(&node).is_none_or(|had| *had < step) {
            rotation.adopted.insert(node, step);
            tell(turn, RotationEvent::Adopted { node, step });
        }
        Ok(Reply::Done)
    }

    fn advance_rotation(
        &mut self,
        turn: &mut Turn,
        phase: RotationPhase,
        force: bool,
        at: Millis,
    ) -> Result<Reply, Refusal> {
        let under_way = self.authorities.rotation.as_ref();
        if under_way.is_none_or(|rotation| rotation.phase > phase) {
            return Ok(Reply::Done);
        }
        let awaited = self.awaited(at);
        let Some(rotation) = self.authorities.rotation.as_mut() else {
            return Ok(Reply::Done);
        };
        if rotation.phase < phase {
            return Err(Refusal::Conflict(format!(
                "the rotation is {}, not {phase}",
                rotation.phase
            )));
        }
        if let (false, Some(first)) = (force, awaited.first()) {
            return Err(Refusal::Conflict(format!(
                "{} nodes are waited for, among them {first}",
                awaited.len()
            )));
        }
        // Without its key nobody could be certified by it, and the one in force would run out.
        let roster = &self.nodes.roster;
        let votes = |node| roster.get(node).map(|entry| entry.record.role) == Some(Role::Voter);
        let done = rotation.adopted.iter().filter(|(_, step)| **step >= phase);
        if !done.clone().any(|(node, _)| votes(node)) {
            return Err(Refusal::Conflict(
                "no voter has reported yet; one at least must have the next authority's key"
                    .to_owned(),
            ));
        }
        match phase {
            RotationPhase::Trusting => {
                rotation.phase = RotationPhase::Renewing;
                let next = rotation.next.fingerprint;
                tell(turn, RotationEvent::Renewing { next });
            }
            RotationPhase::Renewing => {
                let present = rotation.next.clone();
                let ended = RotationEvent::Ended {
                    present: present.fingerprint,
                    retired: rotation.present.fingerprint,
                };
                self.authorities = Authorities {
                    present: Some(present),
                    rotation: None,
                };
                tell(turn, ended);
            }
        }
        Ok(Reply::Done)
    }

    fn abort_rotation(&mut self, turn: &mut Turn) -> Result<Reply, Refusal> {
        match &self.authorities.rotation {
            None => Ok(Reply::Done),
            Some(rotation) if rotation.phase > RotationPhase::Trusting => {
                Err(Refusal::Conflict(format!(
                    "nodes have certificates of authority {} already; go on instead",
                    rotation.next.fingerprint.short()
                )))
            }
            Some(rotation) => {
                let next = rotation.next.fingerprint;
                self.authorities.rotation = None;
                tell(turn, RotationEvent::Aborted { next });
                Ok(Reply::Done)
            }
        }
    }

    /// Drops the reports of nodes that the cluster has forgotten.
    pub(crate) fn forget_reports(&mut self) {
        let (roster, trust) = (&self.nodes.roster, &self.trust);
        if let Some(rotation) = &mut self.authorities.rotation {
            rotation
                .adopted
                .retain(|node, _| roster.contains_key(node) || trust.is_certified(*node));
        }
    }

    /// Nodes that have not done what the rotation's phase asks for: those of the roster, and those with a certificate that
    /// is good at `at`. Who is trusted no more, or came with a token and let its certificate run out, is not waited for.
    fn awaited(&self, at: Millis) -> Vec<NodeId> {
        let Some(rotation) = &self.authorities.rotation else {
            return Vec::new();
        };
        let certified = self.trust.certificates().filter(|known| known.expires > at);
        let mut nodes: Vec<_> = certified.map(|known| known.node).collect();
        let roster = self.nodes.roster.keys().copied();
        nodes.extend(roster.filter(|node| !self.trust.is_certified(*node)));
        nodes.sort_unstable();
        nodes.retain(|node| {
            self.trust.check_welcome(*node).is_ok()
                && rotation.adopted.get(node) < Some(&rotation.phase)
        });
        nodes
    }

    /// The rotation under way; `at` is wall-clock time.
    pub fn rotation(&self, at: Millis) -> Option<RotationView> {
        let rotation = self.authorities.rotation.as_ref()?;
        let done = rotation.adopted.iter();
        let done = done.filter(|(_, step)| **step >= rotation.phase);
        Some(RotationView {
            present: rotation.present.clone(),
            next: rotation.next.clone(),
            phase: rotation.phase,
            begun: rotation.begun,
            done: done.map(|(node, _)| *node).collect(),
            awaited: self.awaited(at),
        })
    }

    /// The authorities whose certificates are trusted, the one in force first; none before the first rotation, when every
    /// node trusts the one that it was given.
    pub fn authorities(&self) -> Vec<&AuthorityRecord> {
        match &self.authorities.rotation {
            Some(rotation) => vec![&rotation.present, &rotation.next],
            None => self.authorities.present.iter().collect(),
        }
    }
}

fn check_certificates(change: &AuthorityChange) -> Result<(), Refusal> {
    for certificate in [&change.present, &change.next] {
        let bytes = certificate.len();
        if !(1..=AUTHORITY_BYTES_MAX).contains(&bytes) {
            return Err(Refusal::Invalid(format!(
                "an authority's certificate of {bytes} bytes: 1 to {AUTHORITY_BYTES_MAX} are allowed"
            )));
        }
    }
    if change.present == change.next {
        return Err(Refusal::Invalid(
            "an authority cannot replace itself".to_owned(),
        ));
    }
    Ok(())
}
