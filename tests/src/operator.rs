//! One who looks after the simulated cluster: raises its level, and sends workers home for a while.

use rand::RngExt as _;
use rand::rngs::StdRng;
use riftmesh_base::{LogIndex, Millis, NodeId};
use riftmesh_statemachine::level::LEVEL;
use riftmesh_statemachine::{Body, Reply};

use crate::jobs;
use crate::oracle::Oracle;

/// The worlds' own voters are in no roster; this one stands for them, for a level needs somebody to agree.
const VOTER: NodeId = NodeId(9_000);

/// The operator's memory. It never gives a command up, so it always knows what it has done.
#[derive(Debug, Clone)]
pub struct Operator {
    workers: Vec<NodeId>,
    admitted: bool,
    level: u32,
    drained: Option<NodeId>,
    leaves_alone: bool,
}

impl Operator {
    /// Looks after these workers.
    pub fn of(workers: Vec<NodeId>) -> Self {
        Self {
            workers,
            admitted: false,
            level: 1,
            drained: None,
            leaves_alone: false,
        }
    }

    /// From now on it only undoes what it has done.
    pub fn calm(&mut self) {
        self.leaves_alone = true;
    }

    /// What it orders next.
    pub fn next_command(&self, rng: &mut StdRng, oracle: &mut Oracle) -> Option<Body> {
        if let Some(node) = self.drained {
            oracle.undraining(node);
            return Some(Body::DrainNode { node, drain: false });
        }
        if self.leaves_alone {
            return None;
        }
        if !self.admitted {
            return Some(jobs::voter(VOTER));
        }
        if self.level < LEVEL {
            return Some(Body::UpgradeTo {
                level: self.level + 1,
                advertised: vec![VOTER],
            });
        }
        let node = self.workers[rng.random_range(0..self.workers.len())];
        let grace = Millis(rng.random_range(0..10_000));
        Some(Body::DrainWithin { node, grace })
    }

    /// Hears that `asked` was answered by the entry at `index`.
    pub fn take(&mut self, asked: &Body, index: LogIndex, reply: &Reply, oracle: &mut Oracle) {
        match (asked, reply) {
            (Body::AdmitNode(_), Reply::Done) => self.admitted = true,
            (Body::UpgradeTo { level, .. }, Reply::Done) => self.level = *level,
            (Body::DrainWithin { node, .. }, Reply::Done) => {
                oracle.drained(*node, index);
                self.drained = Some(*node);
            }
            // A node that is not in the roster needs no undoing either.
            (Body::DrainNode { .. }, _) => self.drained = None,
            _ => {}
        }
    }
}
