//! From the slopes of the heads back to every weight of the trunk.
//!
//! Formulas are the chain rule over [`crate::net`]; a rectifier lets a slope through where its output is positive, which
//! is also what burn does where the output is zero.

use pulp::Simd;

use super::layers::add_scaled;
use super::network::{BlockLayers, Gates, Slopes, TrainNet, Workspace};
use crate::kernels::{Plain, Windows};
use crate::rows::TrainingRow;

impl TrainNet<'_> {
    /// Adds the gradient of everything but the pooled heads to `sums`. The heads have left their slopes in `work`.
    #[inline(always)]
    pub(super) fn backward<S: Simd>(
        &self,
        simd: S,
        rows: &[TrainingRow],
        work: &mut Workspace,
        sums: &mut [f32],
    ) {
        let windows = self.grid.windows(rows.len());
        self.spatial_heads(simd, &windows, work, sums);
        for (index, block) in self.blocks.iter().enumerate().rev() {
            self.residual_back(simd, (index, block), &windows, work, sums);
        }
        let Workspace {
            input,
            trunks,
            slopes,
            ..
        } = work;
        for (slot, row) in rows.iter().enumerate() {
            let slope = self.rectifier_back(slot, &trunks[0], &mut slopes.trunk);
            self.stem.add_bias(&slope, sums);
            let slope = &slope[..self.dims.channels];
            let sums = sums[self.stem_globals.weight_sums.clone()].chunks_exact_mut(slope.len());
            for (value, sums) in row.globals.iter().zip(sums) {
                add_scaled(*value, slope, sums);
            }
        }
        self.stem
            .add_weights(simd, &windows, input, &slopes.trunk, sums);
    }

    #[inline(always)]
    fn spatial_heads<S: Simd>(
        &self,
        simd: S,
        windows: &Windows<'_>,
        work: &mut Workspace,
        sums: &mut [f32],
    ) {
        let Workspace {
            trunks,
            hidden,
            owner,
            slopes,
            ..
        } = work;
        let trunk = &trunks[self.blocks.len()];
        for slot in 0..windows.centres.len() / windows.cells {
            let slope = self.rectifier_back(slot, hidden, &mut slopes.hidden);
            self.policy_hidden.add_bias(&slope, sums);
            for &centre in self.grid.of(slot) {
                let slope = &owner[centre * self.owner_width..][..self.owner_width];
                self.owner.add_bias(slope, sums);
            }
        }
        self.policy_hidden
            .add_weights(simd, windows, trunk, &slopes.hidden, sums);
        self.policy_hidden
            .back_add(simd, windows, &slopes.hidden, &mut slopes.trunk);
        self.owner.add_weights(simd, windows, trunk, owner, sums);
        self.owner.back_add(simd, windows, owner, &mut slopes.trunk);
    }

    #[inline(always)]
    fn residual_back<S: Simd>(
        &self,
        simd: S,
        (index, block): (usize, &BlockLayers),
        windows: &Windows<'_>,
        work: &mut Workspace,
        sums: &mut [f32],
    ) {
        let Workspace {
            trunks,
            blocks,
            slopes,
            ..
        } = work;
        let kept = &blocks[index];
        let positions = windows.centres.len() / windows.cells;
        for (slot, gates) in kept.gates.iter().enumerate().take(positions) {
            let total = self.rectifier_back(slot, &trunks[index + 1], &mut slopes.trunk);
            self.gates_back(
                simd,
                block,
                (slot, gates, &kept.branch),
                &total,
                slopes,
                sums,
            );
        }
        let input = &trunks[index];
        block
            .conv2
            .add_weights(simd, windows, &kept.inner, &slopes.branch, sums);
        block
            .conv2
            .back::<S, Plain>(simd, windows, &slopes.branch, &mut slopes.inner);
        for slot in 0..positions {
            let slope = self.rectifier_back(slot, &kept.inner, &mut slopes.inner);
            block.conv1.add_bias(&slope, sums);
        }
        block
            .conv1
            .add_weights(simd, windows, input, &slopes.inner, sums);
        block
            .conv1
            .back_add(simd, windows, &slopes.inner, &mut slopes.trunk);
    }

    /// Through `after = before + gain * branch + shift` and the layers that make gain and shift, to the branch. `total` is
    /// the slope of `after` summed over the cells; the slope of `before` is that of `after` itself.
    #[inline(always)]
    fn gates_back<S: Simd>(
        &self,
        simd: S,
        block: &BlockLayers,
        (slot, gates, branch): (usize, &Gates, &[f32]),
        total: &[f32],
        slopes: &mut Slopes,
        sums: &mut [f32],
    ) {
        let (width, channels) = (self.width, self.dims.channels);
        let mut gain = vec![0.0; width];
        for &centre in self.grid.of(slot) {
            let cell = centre * width..(centre + 1) * width;
            let features = branch[cell.clone()].iter().zip(&slopes.trunk[cell]);
            for (gain, (branch, slope)) in gain.iter_mut().zip(features) {
                *gain += branch * slope;
            }
        }
        let mut excited: Vec<f32> = gain[..channels]
            .iter()
            .zip(&gates.gain)
            .map(|(slope, gain)| slope * gain * (1.0 - gain))
            .collect();
        excited.extend(&total[..channels]);
        let mut squeezed = vec![0.0; gates.squeezed.len()];
        block
            .excite
            .back(simd, &gates.squeezed, &excited, sums, &mut squeezed);
        close(&gates.squeezed, &mut squeezed);
        let mut mean = vec![0.0; width];
        block
            .squeeze
            .back(simd, &gates.means[..channels], &squeezed, sums, &mut mean);
        // Summed over the cells, the branch's slope is `gain * total + mean`: the bias's gradient needs no pass of its own.
        let bias: Vec<f32> = (0..width)
            .map(|channel| gates.gain[channel] * total[channel] + mean[channel])
            .collect();
        block.conv2.add_bias(&bias, sums);
        let share = 1.0 / self.grid.cells() as f32;
        mean.iter_mut().for_each(|mean| *mean *= share);
        for &centre in self.grid.of(slot) {
            let cell = centre * width..(centre + 1) * width;
            let gates = gates.gain.iter().zip(&mean);
            let from = slopes.trunk[cell.clone()].iter().zip(gates);
            for (branch, (slope, (gain, mean))) in slopes.branch[cell].iter_mut().zip(from) {
                *branch = slope * gain + mean;
            }
        }
    }

    /// Closes the slopes where the rectifier's output is not positive. Their sum over the position's cells, `[width]`.
    #[inline(always)]
    fn rectifier_back(&self, slot: usize, output: &[f32], slopes: &mut [f32]) -> Vec<f32> {
        let width = self.width;
        let mut total = vec![0.0; width];
        for &centre in self.grid.of(slot) {
            let cell = centre * width..(centre + 1) * width;
            let cells = output[cell.clone()].iter().zip(&mut slopes[cell]);
            for (total, (output, slope)) in total.iter_mut().zip(cells) {
                *slope = if *output > 0.0 { *slope } else { 0.0 };
                *total += *slope;
            }
        }
        total
    }
}

/// Zeroes the slopes of a rectifier's outputs that are not positive.
#[inline(always)]
pub(super) fn close(outputs: &[f32], slopes: &mut [f32]) {
    for (output, slope) in outputs.iter().zip(slopes) {
        if *output <= 0.0 {
            *slope = 0.0;
        }
    }
}
