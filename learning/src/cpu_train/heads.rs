//! The heads of one position: outputs, and from the slopes of the outputs back to the trunk.

use pulp::Simd;

use super::backward::close;
use super::layers::{MatrixLayer, add_scaled};
use super::losses::{cross_entropy, losses};
use super::network::{TrainNet, Workspace};
use crate::kernels::dot;
use crate::loss::{HeadLosses, LossWeights};
use crate::rows::{ABSENT, TrainingRow};
use crate::weights::OWNER_CLASSES;

/// Outputs of one position; after [`losses`], their slopes.
pub(super) struct HeadOutputs {
    /// One per legal action.
    pub(super) policy: Vec<f32>,
    /// One per legal action.
    pub(super) soft: Vec<f32>,
    pub(super) value: Vec<f32>,
    pub(super) rank: Vec<f32>,
    pub(super) scores: Vec<f32>,
}

/// What the pooled heads see of a position.
struct Pooled {
    /// Mean and maximum of each channel, then the globals.
    values: Vec<f32>,
    /// The grid cell of each maximum.
    largest_at: Vec<usize>,
    /// The value head's hidden layer.
    hidden: Vec<f32>,
}

/// What to do with a row: its losses count `share` in the mean that is minimised.
#[derive(Clone, Copy)]
pub(super) struct Objective<'a> {
    pub(super) weights: &'a LossWeights,
    pub(super) share: f32,
}

impl TrainNet<'_> {
    /// The losses of the row in `slot`, whose trunk is in `work`. With `sums`, also adds the gradient of the heads to them
    /// and leaves the slopes of trunk, policy's hidden layer and owner logits in `work`.
    #[inline(always)]
    pub(super) fn heads<S: Simd>(
        &self,
        simd: S,
        (slot, row): (usize, &TrainingRow),
        objective: Objective<'_>,
        work: &mut Workspace,
        sums: Option<&mut [f32]>,
    ) -> HeadLosses {
        let pooled = self.pool(slot, row, &work.trunks[self.blocks.len()]);
        let mut outputs = self.outputs(simd, slot, row, &pooled, &work.hidden);
        let mut found = losses(&mut outputs, row, objective.weights, objective.share);
        found.owner = self.owner_loss(slot, row, objective, &mut work.owner);
        if let Some(sums) = sums {
            self.actions_back(slot, row, &outputs, work, sums);
            self.pooled_back(simd, (slot, row), &pooled, &outputs, work, sums);
        }
        found
    }

    #[inline(always)]
    fn pool(&self, slot: usize, row: &TrainingRow, trunk: &[f32]) -> Pooled {
        let (width, channels) = (self.width, self.dims.channels);
        let mut values = self.means(slot, trunk);
        values.truncate(channels);
        let cells = self.grid.of(slot);
        let mut largest = trunk[cells[0] * width..][..channels].to_vec();
        let mut largest_at = vec![cells[0]; channels];
        for &centre in cells {
            let row = &trunk[centre * width..][..channels];
            for ((largest, at), value) in largest.iter_mut().zip(&mut largest_at).zip(row) {
                // The first of equals; every one of them is as good.
                if *value > *largest {
                    (*largest, *at) = (*value, centre);
                }
            }
        }
        values.append(&mut largest);
        values.extend(&row.globals);
        let mut hidden = self.value_hidden.apply(&values);
        hidden.iter_mut().for_each(|value| *value = value.max(0.0));
        Pooled {
            values,
            largest_at,
            hidden,
        }
    }

    #[inline(always)]
    fn outputs<S: Simd>(
        &self,
        simd: S,
        slot: usize,
        row: &TrainingRow,
        pooled: &Pooled,
        hidden: &[f32],
    ) -> HeadOutputs {
        let channels = self.dims.channels;
        let logits = |spatial: &MatrixLayer, special: &MatrixLayer| {
            let special = special.apply(&pooled.values);
            let logit = |(action, _): &(u32, f32)| match self.place(slot, *action) {
                ActionPlace::Special(number) => special[number],
                ActionPlace::Spatial { plane, centre } => {
                    let features = &hidden[centre * self.width..][..channels];
                    let weights = &spatial.values[plane * channels..][..channels];
                    spatial.bias[plane] + dot(simd, features, weights)
                }
            };
            row.policy.iter().map(logit).collect()
        };
        HeadOutputs {
            policy: logits(&self.policy_out, &self.policy_special),
            soft: logits(&self.soft_out, &self.soft_special),
            value: self.value_out.apply(&pooled.hidden),
            rank: self.rank.apply(&pooled.hidden),
            scores: self.scores.apply(&pooled.hidden),
        }
    }

    #[inline(always)]
    fn place(&self, slot: usize, action: u32) -> ActionPlace {
        let (action, cells) = (action as usize, self.grid.cells());
        let spatial = cells * self.dims.action_planes;
        if action >= spatial {
            return ActionPlace::Special(action - spatial);
        }
        ActionPlace::Spatial {
            plane: action / cells,
            centre: self.grid.of(slot)[action % cells],
        }
    }

    /// The owner's cross-entropy, the mean over the cells. Its logits become slopes.
    #[inline(always)]
    fn owner_loss(
        &self,
        slot: usize,
        row: &TrainingRow,
        objective: Objective<'_>,
        owner: &mut [f32],
    ) -> f32 {
        let share = 1.0 / self.grid.cells() as f32;
        let factor = objective.weights.owner * objective.share;
        let squares = self.grid.frame().squares();
        let mut loss = 0.0;
        for (&centre, &square) in self.grid.of(slot).iter().zip(squares) {
            let logits = &mut owner[centre * self.owner_width..][..OWNER_CLASSES];
            let mut target = [0.0; OWNER_CLASSES];
            let owner = row.owner[usize::from(square)];
            if owner != ABSENT {
                target[usize::from(owner)] = share;
            }
            loss += cross_entropy(logits, &target, factor);
        }
        loss
    }

    /// From the slopes of the legal actions' logits to the policy's hidden layer and its last weights.
    #[inline(always)]
    fn actions_back(
        &self,
        slot: usize,
        row: &TrainingRow,
        outputs: &HeadOutputs,
        work: &mut Workspace,
        sums: &mut [f32],
    ) {
        let (width, channels) = (self.width, self.dims.channels);
        for &centre in self.grid.of(slot) {
            work.slopes.hidden[centre * width..][..width].fill(0.0);
        }
        let heads = [
            (&self.policy_out, &outputs.policy),
            (&self.soft_out, &outputs.soft),
        ];
        for (layer, slopes) in heads {
            for ((action, _), slope) in row.policy.iter().zip(slopes) {
                if let ActionPlace::Spatial { plane, centre } = self.place(slot, *action) {
                    let cell = centre * width..centre * width + channels;
                    let plane_at = plane * channels..(plane + 1) * channels;
                    let weights = &layer.values[plane_at.clone()];
                    add_scaled(*slope, weights, &mut work.slopes.hidden[cell.clone()]);
                    let weights = &mut sums[layer.weight_sums.clone()][plane_at];
                    add_scaled(*slope, &work.hidden[cell], weights);
                    sums[layer.bias_sums.clone()][plane] += slope;
                }
            }
        }
    }

    /// From the slopes of the pooled heads' outputs to their weights and to the trunk, whose slopes it writes.
    #[inline(always)]
    fn pooled_back<S: Simd>(
        &self,
        simd: S,
        (slot, row): (usize, &TrainingRow),
        pooled: &Pooled,
        outputs: &HeadOutputs,
        work: &mut Workspace,
        sums: &mut [f32],
    ) {
        let mut hidden = vec![0.0; pooled.hidden.len()];
        let heads = [
            (&self.value_out, &outputs.value),
            (&self.rank, &outputs.rank),
            (&self.scores, &outputs.scores),
        ];
        for (layer, slopes) in heads {
            layer.back(simd, &pooled.hidden, slopes, sums, &mut hidden);
        }
        close(&pooled.hidden, &mut hidden);
        let mut values = vec![0.0; pooled.values.len()];
        let policy = self.specials(row, &outputs.policy);
        let soft = self.specials(row, &outputs.soft);
        let heads = [
            (&self.value_hidden, &hidden),
            (&self.policy_special, &policy),
            (&self.soft_special, &soft),
        ];
        for (layer, slopes) in heads {
            layer.back(simd, &pooled.values, slopes, sums, &mut values);
        }
        let (means, largest) = values.split_at_mut(self.dims.channels);
        let share = 1.0 / self.grid.cells() as f32;
        means.iter_mut().for_each(|mean| *mean *= share);
        let slopes = &mut work.slopes.trunk;
        for &centre in self.grid.of(slot) {
            slopes[centre * self.width..][..means.len()].copy_from_slice(means);
        }
        for (channel, (centre, slope)) in pooled.largest_at.iter().zip(largest).enumerate() {
            slopes[centre * self.width + channel] += *slope;
        }
    }

    /// The slopes of the special actions, zero where one is not legal.
    fn specials(&self, row: &TrainingRow, slopes: &[f32]) -> Vec<f32> {
        let mut specials = vec![0.0; self.dims.specials];
        for ((action, _), slope) in row.policy.iter().zip(slopes) {
            if let ActionPlace::Special(number) = self.place(0, *action) {
                specials[number] += slope;
            }
        }
        specials
    }
}

/// Where an action's logit comes from.
enum ActionPlace {
    Spatial { plane: usize, centre: usize },
    Special(usize),
}
