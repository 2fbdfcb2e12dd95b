//! A rotation of the authority as plainly as it can be written, and random commands about it.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use riftmesh_base::{BlobHash, Millis, NodeId};
use riftmesh_statemachine::State;
use riftmesh_statemachine::rotation::{AuthorityChange, RotationPhase, RotationVerb};

use crate::reference::Answer;

#[derive(Debug, Default)]
pub struct PlainRotation {
    /// In force since the last rotation.
    present: Option<Vec<u8>>,
    /// In force, to be in force, and whether certificates are issued by it.
    under_way: Option<(Vec<u8>, Vec<u8>, bool)>,
    /// Nodes that trust the next one, and those of them that have a certificate of it.
    steps: BTreeMap<NodeId, RotationPhase>,
}

impl PlainRotation {
    /// `known` are the nodes that may report, `expected` those of them that are waited for, `voter` is the only one that
    /// votes, if it is there.
    pub fn run(
        &mut self,
        verb: &RotationVerb,
        known: &BTreeSet<NodeId>,
        expected: &BTreeSet<NodeId>,
        voter: Option<NodeId>,
    ) -> Result<Answer, &'static str> {
        match verb {
            RotationVerb::Begin(change) => self.begin(change)?,
            RotationVerb::Adopt {
                node,
                authority,
                step,
            } => {
                if !known.contains(node) {
                    return Err("unknown");
                }
                let (_, next, renewing) = self.under_way.as_ref().ok_or("conflict")?;
                let early = *step == RotationPhase::Renewing && !renewing;
                if BlobHash::of(next) != *authority || early {
                    return Err("conflict");
                }
                let had = self.steps.entry(*node).or_insert(*step);
                *had = (*had).max(*step);
            }
            RotationVerb::Advance { phase, force, .. } => {
                self.advance(*phase, *force, expected, voter)?;
            }
            RotationVerb::Abort => {
                if matches!(self.under_way, Some((_, _, true))) {
                    return Err("conflict");
                }
                self.under_way = None;
                self.steps.clear();
            }
        }
        Ok(Answer::Done)
    }

    fn begin(&mut self, change: &AuthorityChange) -> Result<(), &'static str> {
        if change.present == change.next {
            return Err("invalid");
        }
        if let Some((present, next, _)) = &self.under_way {
            let same = (present, next) == (&change.present, &change.next);
            return same.then_some(()).ok_or("conflict");
        }
        if self
            .present
            .as_ref()
            .is_some_and(|known| *known != change.present)
        {
            return Err("conflict");
        }
        self.under_way = Some((change.present.clone(), change.next.clone(), false));
        Ok(())
    }

    fn advance(
        &mut self,
        phase: RotationPhase,
        force: bool,
        expected: &BTreeSet<NodeId>,
        voter: Option<NodeId>,
    ) -> Result<(), &'static str> {
        let Some((_, next, renewing)) = self.under_way.clone() else {
            return Ok(());
        };
        match (phase, renewing) {
            (RotationPhase::Trusting, true) => return Ok(()),
            (RotationPhase::Renewing, false) => return Err("conflict"),
            _ => {}
        }
        let has = |node: &NodeId| self.steps.get(node).is_some_and(|step| *step >= phase);
        if !(force || expected.iter().all(has)) || !voter.as_ref().is_some_and(has) {
            return Err("conflict");
        }
        if let (false, Some(under_way)) = (renewing, &mut self.under_way) {
            under_way.2 = true;
            return Ok(());
        }
        *self = Self {
            present: Some(next),
            ..Self::default()
        };
        Ok(())
    }

    pub fn forget(&mut self, node: NodeId) {
        self.steps.remove(&node);
    }

    pub fn compare(&self, state: &State, expected: &BTreeSet<NodeId>) {
        let trusted: Vec<_> = match &self.under_way {
            Some((present, next, _)) => vec![present, next],
            None => self.present.iter().collect(),
        };
        let known = state.authorities().into_iter();
        assert_eq!(
            known.map(|known| &known.certificate).collect::<Vec<_>>(),
            trusted
        );
        let view = state.rotation(Millis(0));
        assert_eq!(view.is_some(), self.under_way.is_some());
        let Some(view) = view else { return };
        let done = self.steps.iter().filter(|(_, step)| **step >= view.phase);
        let done: BTreeSet<_> = done.map(|(node, _)| *node).collect();
        assert_eq!(BTreeSet::from_iter(view.done), done);
        let awaited: BTreeSet<_> = expected.difference(&done).copied().collect();
        assert_eq!(BTreeSet::from_iter(view.awaited), awaited);
    }
}

/// A step of a rotation: few authorities, so that they follow each other.
pub fn rotation_verb() -> impl Strategy<Value = RotationVerb> {
    let authority = || (0u8..3).prop_map(|number| vec![number; 3]);
    let phase = || prop_oneof![Just(RotationPhase::Trusting), Just(RotationPhase::Renewing)];
    let node = prop_oneof![3 => 1u64..4, 1 => 10u64..14].prop_map(NodeId);
    prop_oneof![
        3 => (authority(), authority()).prop_map(|(present, next)| {
            let at = Millis(1);
            RotationVerb::Begin(AuthorityChange { present, next, at })
        }),
        8 => (node, authority(), phase()).prop_map(|(node, next, step)| RotationVerb::Adopt {
            node,
            authority: BlobHash::of(&next),
            step,
        }),
        4 => (phase(), any::<bool>()).prop_map(|(phase, force)| {
            let at = Millis(1);
            RotationVerb::Advance { phase, force, at }
        }),
        1 => Just(RotationVerb::Abort),
    ]
}
