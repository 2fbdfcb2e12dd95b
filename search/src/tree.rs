//! The tree of one search: nodes in one vector, children made when first reached.

use crate::evaluator::Evaluation;
use crate::game::Game;
use crate::values::SeatValues;

/// A node's place in its tree. The root is 0.
pub(crate) type NodeIndex = u32;

/// The root.
pub(crate) const ROOT: NodeIndex = 0;

/// The root is nobody's child, so 0 marks a move without a child.
const NO_CHILD: NodeIndex = ROOT;

/// A position that was reached.
#[derive(Debug, Clone)]
pub(crate) struct Node<G: Game> {
    pub game: G,
    /// Seat to choose; none when the game is over.
    pub mover: Option<usize>,
    /// Legal moves; empty when the game is over.
    pub actions: Vec<G::Action>,
    /// The evaluator's logits, one per move; empty until evaluated.
    pub logits: Vec<f64>,
    /// The evaluator's values, or the exact result.
    pub raw: SeatValues,
    /// Sum over visits, in the seats of this position.
    pub sum: SeatValues,
    /// Visits, the first being the node's own evaluation.
    pub visits: u32,
    parent: NodeIndex,
    /// Which of the parent's moves leads here.
    pub edge: u32,
    /// Whether that move exchanged seats 0 and 1.
    exchanged: bool,
    children: Vec<NodeIndex>,
}

/// All nodes of one search. At most one is added per simulation.
#[derive(Debug, Clone)]
pub(crate) struct Tree<G: Game> {
    nodes: Vec<Node<G>>,
}

impl<G: Game> Tree<G> {
    pub fn new(game: G, nodes_max: usize) -> Self {
        let mut nodes = Vec::with_capacity(nodes_max);
        nodes.push(Node::new(game, ROOT, 0, false));
        Self { nodes }
    }

    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    pub fn node(&self, index: NodeIndex) -> &Node<G> {
        &self.nodes[index as usize]
    }

    fn node_mut(&mut self, index: NodeIndex) -> &mut Node<G> {
        &mut self.nodes[index as usize]
    }

    /// The child behind a move, if it was reached before.
    pub fn child(&self, index: NodeIndex, edge: usize) -> Option<NodeIndex> {
        match self.node(index).children[edge] {
            NO_CHILD => None,
            child => Some(child),
        }
    }

    /// Plays a move that was not played before and adds the position it leads to.
    pub fn add_child(&mut self, index: NodeIndex, edge: usize) -> NodeIndex {
        let parent = self.node(index);
        let action = parent.actions[edge];
        let exchanged = parent.game.exchanges_seats(action);
        let mut game = parent.game.clone();
        game.play(action);
        let child = self.nodes.len() as NodeIndex;
        self.nodes
            .push(Node::new(game, index, edge as u32, exchanged));
        self.node_mut(index).children[edge] = child;
        child
    }

    /// Stores an evaluation. The caller has checked its length.
    pub fn set_evaluation(&mut self, index: NodeIndex, evaluation: Evaluation) {
        let node = self.node_mut(index);
        node.logits = evaluation.logits;
        node.raw = evaluation.values;
    }

    /// Adds the node's own values to it and to all nodes above it.
    pub fn backup(&mut self, index: NodeIndex) {
        let mut values = self.node(index).raw;
        let mut at = index;
        loop {
            let node = self.node_mut(at);
            node.sum += values;
            node.visits += 1;
            if at == ROOT {
                return;
            }
            values = values.seats_exchanged(node.exchanged);
            at = node.parent;
        }
    }

    /// The mean values behind a move, in the seats of the position it is played in; none without a visit.
    pub fn edge_values(&self, index: NodeIndex, edge: usize) -> Option<SeatValues> {
        let child = self.node(self.child(index, edge)?);
        (child.visits > 0).then(|| child.mean().seats_exchanged(child.exchanged))
    }

    /// Visits behind each move of a node and the mean value of its mover there, 0 without a visit.
    pub fn edge_statistics(&self, index: NodeIndex) -> (Vec<u32>, Vec<f64>) {
        let node = self.node(index);
        let mut visits = vec![0; node.actions.len()];
        let mut q = vec![0.0; node.actions.len()];
        let Some(mover) = node.mover else {
            return (visits, q);
        };
        for edge in 0..node.actions.len() {
            if let Some(child) = self.child(index, edge) {
                visits[edge] = self.node(child).visits;
                q[edge] = self
                    .edge_values(index, edge)
                    .map_or(0.0, |values| values[mover]);
            }
        }
        (visits, q)
    }

    /// The moves from the root to a node.
    pub fn path(&self, index: NodeIndex) -> Vec<u32> {
        let mut path = Vec::new();
        let mut at = index;
        while at != ROOT {
            let node = self.node(at);
            path.push(node.edge);
            at = node.parent;
        }
        path.reverse();
        path
    }
}

impl<G: Game> Node<G> {
    fn new(game: G, parent: NodeIndex, edge: u32, exchanged: bool) -> Self {
        let mover = game.mover();
        let mut actions = Vec::new();
        let mut raw = SeatValues::default();
        match mover {
            Some(_) => game.actions(&mut actions),
            None => raw = game.terminal_values(),
        }
        let children = vec![NO_CHILD; actions.len()];
        Self {
            game,
            mover,
            actions,
            logits: Vec::new(),
            raw,
            sum: SeatValues::default(),
            visits: 0,
            parent,
            edge,
            exchanged,
            children,
        }
    }

    /// The mean over visits; the raw values before the first.
    pub fn mean(&self) -> SeatValues {
        match self.visits {
            0 => self.raw,
            visits => self.sum.scaled(1.0 / f64::from(visits)),
        }
    }
}
