//! Where priors and values come from.

use crate::game::Game;
use crate::search::{Search, SearchOutcome, Step};
use crate::values::SeatValues;

/// A position that waits for its evaluation.
#[derive(Debug)]
pub struct Leaf<'a, G: Game> {
    /// The position; not a finished game.
    pub game: &'a G,
    /// Its legal moves in the game's order.
    pub actions: &'a [G::Action],
}

impl<G: Game> Clone for Leaf<'_, G> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<G: Game> Copy for Leaf<'_, G> {}

/// What an evaluator says about a position.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluation {
    /// One finite logit per legal move, in the order of [`Leaf::actions`].
    pub logits: Vec<f64>,
    /// The expected result of every seat.
    pub values: SeatValues,
}

/// Evaluates many positions at once.
pub trait Evaluator<G: Game> {
    /// One evaluation per leaf, in their order.
    fn evaluate(&mut self, leaves: &[Leaf<'_, G>]) -> Vec<Evaluation>;
}

/// Knows nothing: equal logits, equal shares.
#[derive(Debug, Clone, Copy, Default)]
pub struct UniformEvaluator;

impl<G: Game> Evaluator<G> for UniformEvaluator {
    fn evaluate(&mut self, leaves: &[Leaf<'_, G>]) -> Vec<Evaluation> {
        let uniform = |leaf: &Leaf<'_, G>| Evaluation {
            logits: vec![0.0; leaf.actions.len()],
            values: SeatValues::even(leaf.game.players()),
        };
        leaves.iter().map(uniform).collect()
    }
}

/// Answers by asking a function, one position at a time.
#[derive(Debug, Clone)]
pub struct ScriptedEvaluator<F>(pub F);

impl<G: Game, F: FnMut(Leaf<'_, G>) -> Evaluation> Evaluator<G> for ScriptedEvaluator<F> {
    fn evaluate(&mut self, leaves: &[Leaf<'_, G>]) -> Vec<Evaluation> {
        leaves.iter().map(|leaf| (self.0)(*leaf)).collect()
    }
}

/// Runs a search to its end on the calling thread.
pub fn run<G: Game>(
    search: &mut Search<G>,
    evaluator: &mut impl Evaluator<G>,
) -> SearchOutcome<G::Action> {
    while search.step() == Step::Evaluate {
        let leaves: Vec<_> = search.leaves().collect();
        let evaluations = evaluator.evaluate(&leaves);
        search.resume(evaluations);
    }
    search.outcome()
}
