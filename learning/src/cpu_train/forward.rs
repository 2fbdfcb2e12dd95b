//! From rows to the last activations of the trunk, keeping what the way back needs.

use pulp::Simd;

use super::network::{BlockActivations, BlockLayers, Gates, TrainNet, Workspace};
use crate::kernels::{Plain, Rectified, Windows, convolve};
use crate::rows::TrainingRow;

impl TrainNet<'_> {
    /// Trunk, policy's hidden layer and owner logits of `rows`, at most a chunk.
    #[inline(always)]
    pub(super) fn forward<S: Simd>(&self, simd: S, rows: &[TrainingRow], work: &mut Workspace) {
        self.fill(rows, work);
        let windows = self.grid.windows(rows.len());
        let starts = &work.starts[..rows.len() * self.width];
        convolve::<S, Rectified>(
            simd,
            &self.stem.forward,
            &windows,
            starts,
            &work.input,
            &mut work.trunks[0],
        );
        for (index, block) in self.blocks.iter().enumerate() {
            let (before, after) = work.trunks.split_at_mut(index + 1);
            self.residual(
                simd,
                block,
                &windows,
                &before[index],
                &mut after[0],
                &mut work.blocks[index],
            );
        }
        let trunk = &work.trunks[self.blocks.len()];
        let hidden = &self.policy_hidden.forward;
        convolve::<S, Rectified>(
            simd,
            hidden,
            &windows,
            &hidden.bias,
            trunk,
            &mut work.hidden,
        );
        let owner = &self.owner.forward;
        convolve::<S, Plain>(simd, owner, &windows, &owner.bias, trunk, &mut work.owner);
    }

    #[inline(always)]
    fn fill(&self, rows: &[TrainingRow], work: &mut Workspace) {
        let channels = self.dims.channels;
        for (slot, row) in rows.iter().enumerate() {
            let start = &mut work.starts[slot * self.width..][..self.width];
            start.copy_from_slice(&self.stem.forward.bias);
            let globals = self.stem_globals.values.chunks_exact(channels);
            for (value, weights) in row.globals.iter().zip(globals) {
                super::layers::add_scaled(*value, weights, start);
            }
            self.grid
                .scatter(slot, &row.planes, self.dims.planes, &mut work.input);
        }
    }

    #[inline(always)]
    fn residual<S: Simd>(
        &self,
        simd: S,
        block: &BlockLayers,
        windows: &Windows<'_>,
        before: &[f32],
        after: &mut [f32],
        kept: &mut BlockActivations,
    ) {
        let BlockActivations {
            inner,
            branch,
            gates,
        } = kept;
        let (first, second) = (&block.conv1.forward, &block.conv2.forward);
        convolve::<S, Rectified>(simd, first, windows, &first.bias, before, inner);
        convolve::<S, Plain>(simd, second, windows, &second.bias, inner, branch);
        let positions = windows.centres.len() / windows.cells;
        for (slot, gates) in gates.iter_mut().enumerate().take(positions) {
            *gates = self.gates(block, slot, branch);
            for &centre in self.grid.of(slot) {
                let cell = centre * self.width..(centre + 1) * self.width;
                let features = before[cell.clone()].iter().zip(&branch[cell.clone()]);
                let gates = gates.gain.iter().zip(&gates.shift);
                let features = features.zip(gates);
                for (after, ((before, branch), (gain, shift))) in
                    after[cell].iter_mut().zip(features)
                {
                    *after = (before + branch * gain + shift).max(0.0);
                }
            }
        }
    }

    #[inline(always)]
    fn gates(&self, block: &BlockLayers, slot: usize, branch: &[f32]) -> Gates {
        let channels = self.dims.channels;
        let means = self.means(slot, branch);
        let mut squeezed = block.squeeze.apply(&means[..channels]);
        squeezed
            .iter_mut()
            .for_each(|value| *value = value.max(0.0));
        let excited = block.excite.apply(&squeezed);
        let mut gain: Vec<f32> = excited[..channels]
            .iter()
            .map(|value| 1.0 / (1.0 + (-value).exp()))
            .collect();
        gain.resize(self.width, 0.0);
        let mut shift = excited[channels..].to_vec();
        shift.resize(self.width, 0.0);
        Gates {
            means,
            squeezed,
            gain,
            shift,
        }
    }

    /// The mean of each channel over the position's cells, `[width]`.
    #[inline(always)]
    pub(super) fn means(&self, slot: usize, features: &[f32]) -> Vec<f32> {
        let mut means = vec![0.0; self.width];
        for &centre in self.grid.of(slot) {
            super::layers::add(&features[centre * self.width..][..self.width], &mut means);
        }
        let share = 1.0 / self.grid.cells() as f32;
        means.iter_mut().for_each(|mean| *mean *= share);
        means
    }
}
