//! The losses of [`crate::loss`] for one row, with their slopes.

use super::heads::HeadOutputs;
use crate::loss::{HeadLosses, LossWeights, softened};
use crate::rows::{ABSENT, TrainingRow};
use crate::weights::{SCORES_PER_SEAT, SEATS};

/// The cross-entropy of `targets` under the softmax of `logits`, in nats. The logits become slopes of `factor` times the
/// cross-entropy. Targets need not sum to 1.
pub(super) fn cross_entropy(logits: &mut [f32], targets: &[f32], factor: f32) -> f32 {
    let largest = logits.iter().copied().fold(f32::MIN, f32::max);
    let sum: f32 = logits.iter().map(|logit| (logit - largest).exp()).sum();
    let (log_sum, total) = (largest + sum.ln(), targets.iter().sum::<f32>());
    let mut loss = 0.0;
    for (logit, target) in logits.iter_mut().zip(targets) {
        let log = *logit - log_sum;
        loss -= target * log;
        *logit = factor * (total * log.exp() - target);
    }
    loss
}

/// The losses of a row but the owner's, which is taken cell by cell. Every logit in `outputs` becomes the slope of `share`
/// times the weighted sum of the losses.
pub(super) fn losses(
    outputs: &mut HeadOutputs,
    row: &TrainingRow,
    weights: &LossWeights,
    share: f32,
) -> HeadLosses {
    let policy: Vec<f32> = row.policy.iter().map(|entry| entry.1).collect();
    let soft = softened(&row.policy);
    let (present, absent) = outputs.value.split_at_mut(row.players);
    absent.fill(0.0);
    HeadLosses {
        policy: cross_entropy(&mut outputs.policy, &policy, share),
        value: cross_entropy(present, &row.value[..row.players], share),
        owner: 0.0,
        rank: rank(&mut outputs.rank, row, weights.rank * share),
        scores: scores(&mut outputs.scores, row, weights.scores * share),
        soft: cross_entropy(&mut outputs.soft, &soft, weights.soft * share),
        policy_entropy: crate::replay::entropy(policy.iter().copied()) as f32,
    }
}

fn rank(logits: &mut [f32], row: &TrainingRow, factor: f32) -> f32 {
    let mut loss = 0.0;
    for (logits, rank) in logits.chunks_exact_mut(SEATS).zip(row.rank) {
        let mut target = [0.0; SEATS];
        if rank != ABSENT {
            target[usize::from(rank)] = 1.0 / row.players as f32;
        }
        loss += cross_entropy(logits, &target, factor);
    }
    loss
}

fn scores(outputs: &mut [f32], row: &TrainingRow, factor: f32) -> f32 {
    let present = row.players * SCORES_PER_SEAT;
    let mut loss = 0.0;
    let targets = row.scores.as_flattened();
    for (number, (output, target)) in outputs.iter_mut().zip(targets).enumerate() {
        let share = if number < present {
            1.0 / present as f32
        } else {
            0.0
        };
        let error = *output - target;
        loss += share * error * error;
        *output = 2.0 * factor * share * error;
    }
    loss
}
