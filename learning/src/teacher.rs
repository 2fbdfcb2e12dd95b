//! Search over the heuristic instead of a network: who plays the first games of a run.
//!
//! An untrained network's values are noise, and a network trained on a few hundred games that noise has led learns the
//! noise: it lost 10 of 40 games and more to the untrained one. Games led by the heuristic's features are
//! real contests from the first one on, so that the first trained network already knows what rings and territory are worth
//! (decision 0008).

use riftmesh_rules::{Action, Seat};
use riftmesh_search::{Evaluation, Evaluator, Leaf, heuristic_values};

use crate::decision::{Choice, Decision};
use crate::evaluator::{CountingEvaluator, EvaluatorCounts};

/// Standings over this become chances.
const TEMPERATURE: f64 = 3.0;
/// What a choice's log-odds of winning, one choice ahead, count as logits of its prior.
const PRIOR_SCALE: f64 = 2.0;
/// Log-odds of a decided game.
const DECIDED: f64 = 6.0;

/// Values from the features of the position, priors from those one choice ahead.
#[derive(Debug, Clone, Default)]
pub struct HeuristicEvaluator {
    counts: EvaluatorCounts,
}

impl Evaluator<Decision> for HeuristicEvaluator {
    fn evaluate(&mut self, leaves: &[Leaf<'_, Decision>]) -> Vec<Evaluation> {
        self.counts.batches += 1;
        self.counts.evaluations += leaves.len() as u64;
        leaves.iter().map(|leaf| judge(leaf)).collect()
    }
}

impl CountingEvaluator for HeuristicEvaluator {
    fn counts(&self) -> EvaluatorCounts {
        self.counts
    }
}

fn judge(leaf: &Leaf<'_, Decision>) -> Evaluation {
    let logit = |choice: &Choice| PRIOR_SCALE * log_odds(leaf.game, *choice);
    Evaluation {
        logits: leaf.actions.iter().map(logit).collect(),
        values: heuristic_values(leaf.game.position(), TEMPERATURE),
    }
}

/// How likely the decider wins after `choice`, as log-odds.
fn log_odds(decision: &Decision, choice: Choice) -> f64 {
    let Some(decider) = decision.decider() else {
        return 0.0;
    };
    let mut after = decision.clone();
    after.choose(choice, &mut |_| {});
    // The pie rule exchanges the persons: the decider goes on with the other seat.
    let seat = if choice == Choice::Act(Action::Swap) {
        Seat(1 - decider.0)
    } else {
        decider
    };
    let chance = heuristic_values(after.position(), TEMPERATURE)[seat.index()];
    (chance / (1.0 - chance)).ln().clamp(-DECIDED, DECIDED)
}
