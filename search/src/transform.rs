//! The arithmetic of one node: completed values, the improved policy, and the scores that pick a move.
//!
//! Slices are indexed by legal move. `q` is the mover's mean value behind a move and is read only where `visits`
//! is not zero.

use serde::{Deserialize, Serialize};

/// How values become additions to logits.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ValueTransform {
    /// What a certain win is worth against a certain loss, per visit of [`visits_offset`](Self::visits_offset)
    /// plus the most visited move. With absolute win probabilities 0.3 to 1.
    pub scale: f64,
    /// Visits added to those of the most visited move, so that the first values already count.
    pub visits_offset: f64,
    /// Map the values of a node to [0, 1] by its own least and greatest first. It makes values comparable in
    /// games with unknown range, and blows up noise when all moves are equal: off for win probabilities.
    pub rescale: bool,
    /// Complete unvisited moves with a mixture of the node's evaluation and what its visited moves returned,
    /// instead of the evaluation alone.
    pub mix: bool,
}

impl Default for ValueTransform {
    fn default() -> Self {
        Self {
            scale: 1.0,
            visits_offset: 50.0,
            rescale: false,
            mix: true,
        }
    }
}

/// What a node knows about its moves, from the point of view of its mover.
#[derive(Debug, Clone, Copy)]
pub struct TreeNodeView<'a> {
    /// The evaluator's logits.
    pub logits: &'a [f64],
    /// Visits behind each move.
    pub visits: &'a [u32],
    /// Mean value behind each move; meaningless where there are no visits.
    pub q: &'a [f64],
    /// The evaluator's value of the node itself.
    pub raw: f64,
}

/// The least span by which values are rescaled, so that equal values stay equal.
const SPAN_MIN: f64 = 1e-8;

impl ValueTransform {
    /// The value given to unvisited moves.
    pub fn mixed_value(&self, node: TreeNodeView<'_>) -> f64 {
        let total: u32 = node.visits.iter().sum();
        if total == 0 || !self.mix {
            return node.raw;
        }
        let max = maximum(node.logits);
        let (mut weight, mut weighted) = (0.0, 0.0);
        for (i, _) in node
            .visits
            .iter()
            .enumerate()
            .filter(|(_, visits)| **visits > 0)
        {
            // A floor keeps the quotient defined when every visited move has a vanishing prior.
            let prior = (node.logits[i] - max).exp().max(f64::MIN_POSITIVE);
            weight += prior;
            weighted += prior * node.q[i];
        }
        let total = f64::from(total);
        (node.raw + total * weighted / weight) / (total + 1.0)
    }

    /// The value of each move: its mean where visited, else [`mixed_value`](Self::mixed_value).
    pub fn completed_q(&self, node: TreeNodeView<'_>) -> Vec<f64> {
        let mixed = self.mixed_value(node);
        let complete = |(q, visits): (&f64, &u32)| if *visits > 0 { *q } else { mixed };
        node.q.iter().zip(node.visits).map(complete).collect()
    }

    /// What is added to each logit: completed values, rescaled if so set, times
    /// (offset + most visits) * scale.
    pub fn scaled_q(&self, node: TreeNodeView<'_>) -> Vec<f64> {
        let mut q = self.completed_q(node);
        if self.rescale {
            rescale(&mut q);
        }
        let visits_max = node.visits.iter().copied().max().unwrap_or(0);
        let factor = (self.visits_offset + f64::from(visits_max)) * self.scale;
        q.iter_mut().for_each(|value| *value *= factor);
        q
    }

    /// softmax(logits + scaled values): better than the evaluator's policy wherever the values are right. At the
    /// root it is the training target.
    pub fn improved_policy(&self, node: TreeNodeView<'_>) -> Vec<f64> {
        let mut scores = self.scaled_q(node);
        scores
            .iter_mut()
            .zip(node.logits)
            .for_each(|(score, logit)| *score += logit);
        softmax_in_place(&mut scores);
        scores
    }

    /// Scores below the root: the improved policy minus the share of visits each move already has.
    pub fn interior_scores(&self, node: TreeNodeView<'_>) -> Vec<f64> {
        let mut scores = self.improved_policy(node);
        let total = f64::from(1 + node.visits.iter().sum::<u32>());
        scores
            .iter_mut()
            .zip(node.visits)
            .for_each(|(score, visits)| *score -= f64::from(*visits) / total);
        scores
    }

    /// Scores at the root: noise + logit (relative to the largest) + scaled value, and minus infinity for moves
    /// that do not have `required` visits.
    pub fn root_scores(&self, node: TreeNodeView<'_>, noise: &[f64], required: u32) -> Vec<f64> {
        let max = maximum(node.logits);
        let mut scores = self.scaled_q(node);
        for (i, score) in scores.iter_mut().enumerate() {
            *score = if node.visits[i] == required {
                *score + noise[i] + (node.logits[i] - max)
            } else {
                f64::NEG_INFINITY
            };
        }
        scores
    }
}

/// PUCT scores: values mapped from [`value_min`, `value_max`] to [0, 1], 0 where unvisited, plus exploration in
/// proportion to `priors`.
pub fn puct_scores(
    settings: &crate::PuctSettings,
    node: TreeNodeView<'_>,
    priors: &[f64],
) -> Vec<f64> {
    let own = f64::from(1 + node.visits.iter().sum::<u32>());
    let exploration =
        own.sqrt() * (settings.c_init + ((own + settings.c_base + 1.0) / settings.c_base).ln());
    let span = settings.value_max - settings.value_min;
    let score = |i: usize| {
        let visits = node.visits[i];
        let value = if visits > 0 {
            (node.q[i] - settings.value_min) / span
        } else {
            0.0
        };
        value + exploration * priors[i] / f64::from(1 + visits)
    };
    (0..node.visits.len()).map(score).collect()
}

/// The probabilities that logits stand for.
pub fn softmax(logits: &[f64]) -> Vec<f64> {
    let mut probabilities = logits.to_vec();
    softmax_in_place(&mut probabilities);
    probabilities
}

/// The index of the greatest score, the first one on ties.
///
/// # Panics
/// Without scores.
pub fn argmax(scores: &[f64]) -> usize {
    let mut best = 0;
    for (i, score) in scores.iter().enumerate() {
        if *score > scores[best] {
            best = i;
        }
    }
    best
}

fn softmax_in_place(scores: &mut [f64]) {
    let max = maximum(scores);
    let mut sum = 0.0;
    for score in scores.iter_mut() {
        *score = (*score - max).exp();
        sum += *score;
    }
    scores.iter_mut().for_each(|score| *score /= sum);
}

fn rescale(values: &mut [f64]) {
    let min = values.iter().copied().fold(f64::INFINITY, f64::min);
    let span = (maximum(values) - min).max(SPAN_MIN);
    values
        .iter_mut()
        .for_each(|value| *value = (*value - min) / span);
}

fn maximum(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::NEG_INFINITY, f64::max)
}
