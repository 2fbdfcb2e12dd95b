//! How each agent last said that each node looks, in little room: a mesh of thousands has a hundred million pairs.

use std::collections::BTreeMap;

use riftmesh_base::NodeId;
use riftmesh_membership::{MeshEvent, NodeState};

/// How an agent last said that a node looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) generation: u64,
    pub(super) state: NodeState,
    pub(super) described: bool,
}

/// Of each node, how each observer sees it. Observers are numbered from 1 up, so that each has its place in a row; nodes may be
/// anything that somebody was made to believe in.
#[derive(Debug, Default)]
pub(super) struct Standings(BTreeMap<NodeId, Vec<Option<Standing>>>);

fn place(observer: NodeId) -> usize {
    usize::try_from(observer.0).unwrap_or(usize::MAX)
}

impl Standings {
    pub(super) fn get(&self, observer: NodeId, node: NodeId) -> Option<Standing> {
        *self.0.get(&node)?.get(place(observer))?
    }

    /// Somebody who does not run any more sees nobody.
    pub(super) fn forget_observer(&mut self, observer: NodeId) {
        for row in self.0.values_mut() {
            if let Some(standing) = row.get_mut(place(observer)) {
                *standing = None;
            }
        }
    }

    /// Takes note of what an agent says of the others.
    pub(super) fn observe(&mut self, observer: NodeId, event: &MeshEvent) {
        match *event {
            MeshEvent::Changed {
                node,
                generation,
                state,
            } => {
                let standing = self.at(observer, node);
                let described = standing.is_some_and(|seen| seen.described);
                *standing = Some(Standing {
                    generation,
                    state,
                    described,
                });
            }
            MeshEvent::Described { node } => {
                if let Some(seen) = self.at(observer, node) {
                    seen.described = true;
                }
            }
            MeshEvent::Forgotten { node } => *self.at(observer, node) = None,
            MeshEvent::Learned { .. } | MeshEvent::Joined | MeshEvent::Alone => {}
        }
    }

    fn at(&mut self, observer: NodeId, node: NodeId) -> &mut Option<Standing> {
        let row = self.0.entry(node).or_default();
        let place = place(observer);
        if row.len() <= place {
            row.resize(place + 1, None);
        }
        &mut row[place]
    }
}
