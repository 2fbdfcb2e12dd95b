//! The scenarios of the Lifeguard paper (Dadgar, Phillips, Currey: "Lifeguard: Local Health Awareness for More Accurate Failure
//! Detection", 2018): some members of many are slow, again and again, and the question is who is given up for it.

use std::collections::BTreeSet;

use riftmesh_base::{Millis, NodeId};
use riftmesh_membership::{MeshEvent, NodeState};

use super::World;

/// Somebody gave somebody up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DownVerdict {
    /// When.
    pub at: Millis,
    /// Who.
    pub by: NodeId,
    /// Whom.
    pub about: NodeId,
}

/// A mesh under a virtual clock.
pub trait Field {
    /// The clock.
    fn now(&self) -> Millis;
    /// Lets so much time pass.
    fn run(&mut self, length: Millis);
    /// Freezes a member.
    fn pause(&mut self, node: u64, length: Millis);
    /// Ends a member without a word.
    fn kill(&mut self, node: u64);
    /// The verdicts since the last call.
    fn take_verdicts(&mut self) -> Vec<DownVerdict>;
}

impl Field for World {
    fn now(&self) -> Millis {
        self.now
    }

    fn run(&mut self, length: Millis) {
        Self::run(self, length);
    }

    fn pause(&mut self, node: u64, length: Millis) {
        Self::pause(self, node, length);
    }

    fn kill(&mut self, node: u64) {
        Self::kill(self, node);
    }

    fn take_verdicts(&mut self) -> Vec<DownVerdict> {
        let events = std::mem::take(&mut self.events).into_iter();
        let verdicts = events.filter_map(|(at, by, event)| match event {
            MeshEvent::Changed {
                node: about,
                state: NodeState::Down,
                ..
            } => Some(DownVerdict { at, by, about }),
            _ => None,
        });
        verdicts.collect()
    }
}

/// Which members are slow, and how.
#[derive(Debug, Clone, Copy)]
pub struct Slowness {
    /// So many.
    pub members: u64,
    /// Each is frozen for so long,
    pub pause: Millis,
    /// then runs for so long, and so on.
    pub gap: Millis,
    /// For so long altogether.
    pub span: Millis,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accuracy {
    /// Verdicts about members that lived, each observer's counted: the paper's FP.
    pub wrong: usize,
    /// Those of them that well members gave about well members: the paper's FP-.
    pub among_well: usize,
    /// Then a well member ends: the time until the first of the others gave it up.
    pub first: Option<Millis>,
    /// And until all well ones had.
    pub all: Option<Millis>,
}

/// How long an end may go unnoticed before the experiment gives it up.
const NOTICE_MAX: Millis = Millis::from_secs(120);

/// Slows the members 1 to `slow.members` of `nodes`, and ends the last one when that is over.
pub fn accuracy(field: &mut impl Field, nodes: u64, slow: Slowness) -> Accuracy {
    field.take_verdicts();
    let end = field.now() + slow.span;
    while field.now() < end {
        for node in 1..=slow.members {
            field.pause(node, slow.pause);
        }
        field.run(slow.pause + slow.gap);
    }
    // What was begun is brought to its end.
    field.run(Millis::from_secs(60));
    let wrong = field.take_verdicts();
    let is_well = |node: NodeId| node.0 > slow.members;
    let among_well = wrong
        .iter()
        .filter(|v| is_well(v.by) && is_well(v.about))
        .count();
    let killed = field.now();
    field.kill(nodes);
    let well: BTreeSet<_> = (slow.members + 1..nodes).map(NodeId).collect();
    let (mut first, mut aware) = (None, BTreeSet::new());
    let mut all = None;
    while all.is_none() && field.now().since(killed) < NOTICE_MAX {
        field.run(Millis(50));
        let news = field.take_verdicts();
        for verdict in news.iter().filter(|v| v.about == NodeId(nodes)) {
            let after = verdict.at.since(killed);
            first.get_or_insert(after);
            aware.insert(verdict.by);
            if all.is_none() && well.is_subset(&aware) {
                all = Some(after);
            }
        }
    }
    Accuracy {
        wrong: wrong.len(),
        among_well,
        first,
        all,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::plain::PlainWorld;
    use crate::mesh::trials;

    const NODES: u64 = 24;

    /// Members frozen for less than the tolerance, over and over: with our agents nobody is given up, with plain foca many are,
    /// which shows that the scenario can tell. Both notice an end.
    #[test]
    fn slow_members_are_not_given_up() {
        let slow = Slowness {
            members: 4,
            pause: Millis::from_secs(14),
            gap: Millis::from_secs(2),
            span: Millis::from_secs(120),
        };
        let ours = accuracy(&mut trials::formed(1, NODES, 0.0), NODES, slow);
        assert_eq!((ours.wrong, ours.among_well), (0, 0));
        let plain = accuracy(&mut PlainWorld::formed(1, 24, 0.0), NODES, slow);
        assert!(plain.wrong > 0, "{plain:?}");
        assert!(
            ours.all.is_some() && plain.all.is_some(),
            "{ours:?} {plain:?}"
        );
        println!("ours {ours:?}\nplain foca {plain:?}");
    }
}
