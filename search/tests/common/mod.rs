//! Toy games for the search tests: a game graph read from data, played as a tree.

use std::sync::Arc;

use riftmesh_search::{Evaluation, Evaluator, Game, Leaf, SeatValues};
use serde::Deserialize;

/// One position of a game graph.
#[derive(Debug, Clone, Deserialize)]
pub struct State {
    /// Seat to choose; ignored when terminal.
    pub mover: usize,
    /// Whether the game is over.
    pub terminal: bool,
    /// The evaluator's values, or the exact result.
    pub value: Vec<f64>,
    /// The evaluator's logits.
    pub logits: Vec<f64>,
    /// Where each move leads.
    pub children: Vec<usize>,
    /// The move that exchanges seats 0 and 1, if there is one.
    #[serde(default)]
    pub exchange: Option<usize>,
}

/// A position of a graph; moves are numbered from 0.
#[derive(Debug, Clone)]
pub struct GraphGame {
    states: Arc<Vec<State>>,
    players: usize,
    at: usize,
}

impl GraphGame {
    /// The game that starts at state 0.
    pub fn new(states: Vec<State>, players: usize) -> Self {
        Self {
            states: Arc::new(states),
            players,
            at: 0,
        }
    }

    fn state(&self) -> &State {
        &self.states[self.at]
    }
}

impl Game for GraphGame {
    type Action = usize;

    fn players(&self) -> usize {
        self.players
    }

    fn mover(&self) -> Option<usize> {
        (!self.state().terminal).then(|| self.state().mover)
    }

    fn terminal_values(&self) -> SeatValues {
        SeatValues::new(&self.state().value)
    }

    fn actions(&self, actions: &mut Vec<usize>) {
        actions.extend(0..self.state().children.len());
    }

    fn exchanges_seats(&self, action: usize) -> bool {
        self.state().exchange == Some(action)
    }

    fn play(&mut self, action: usize) {
        self.at = self.state().children[action];
    }
}

/// Answers with the numbers of the graph.
pub struct GraphEvaluator;

impl Evaluator<GraphGame> for GraphEvaluator {
    fn evaluate(&mut self, leaves: &[Leaf<'_, GraphGame>]) -> Vec<Evaluation> {
        let answer = |leaf: &Leaf<'_, GraphGame>| Evaluation {
            logits: leaf.game.state().logits.clone(),
            values: SeatValues::new(&leaf.game.state().value),
        };
        leaves.iter().map(answer).collect()
    }
}
