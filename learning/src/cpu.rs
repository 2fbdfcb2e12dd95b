//! The network on the CPU, written for exactly this architecture: several times as fast as a general tensor library
//! at the batch sizes of self-play, without threads, and bit-equal for a position whatever else is in the batch.
//!
//! Agreement with burn is tested to 1e-4.

use pulp::{Simd, WithSimd};

use crate::frame::Frame;
use crate::grid::Grid;
use crate::infer::{Inference, NetEvaluation, PositionInput, softmax_present};
use crate::kernels::{
    Lanes, PackedAffine, PackedConv, Plain, Rectified, Windows, convolve, dispatch, dot, padded,
};
use crate::weights::{NetDims, SEATS, VALUE_HIDDEN, Weights};

/// Positions that go through the network together: enough to reuse weights, few enough to stay in the cache.
const CHUNK: usize = 8;

struct CpuBlock {
    conv1: PackedConv,
    conv2: PackedConv,
    squeeze: PackedAffine,
    excite: PackedAffine,
}

/// The network with packed weights, and the buffers it computes in.
pub struct CpuNet {
    dims: NetDims,
    grid: Grid,
    /// Channels padded to whole vectors.
    width: usize,
    stem: PackedConv,
    stem_globals: PackedAffine,
    blocks: Vec<CpuBlock>,
    policy_hidden: PackedConv,
    policy_out: Vec<f32>,
    policy_bias: Vec<f32>,
    policy_special: PackedAffine,
    value_hidden: PackedAffine,
    value_out: PackedAffine,
    buffers: Buffers,
}

/// Activations, channels-last on the padded grid. Border and squares off the board are never written and stay zero.
struct Buffers {
    input: Vec<f32>,
    trunk: Vec<f32>,
    inner: Vec<f32>,
    branch: Vec<f32>,
    starts: Vec<f32>,
}

struct Packer<'a> {
    weights: &'a Weights,
    lanes: usize,
    taps: Vec<(usize, usize)>,
    centre: [(usize, usize); 1],
}

impl Packer<'_> {
    fn conv(&self, name: &str, stride: usize) -> PackedConv {
        let weight = format!("{name}.weight");
        let layout = &self.weights.layout;
        #[expect(
            clippy::expect_used,
            reason = "the layout lists every parameter of the architecture"
        )]
        let spec = layout.get(&weight).expect("a parameter of the layout");
        let taps = if spec.shape.len() == 2 {
            &self.centre[..]
        } else {
            &self.taps
        };
        let bias = self.weights.tensor(&format!("{name}.bias"));
        PackedConv::new(
            spec,
            self.weights.tensor(&weight),
            bias,
            taps,
            stride,
            self.lanes,
        )
    }

    fn affine(&self, name: &str, groups: usize, width: usize) -> PackedAffine {
        let weight = self.weights.tensor(&format!("{name}.weight"));
        let bias = self.weights.tensor(&format!("{name}.bias"));
        PackedAffine::new(weight, bias, groups, width)
    }
}

impl CpuNet {
    /// Packs `weights` for this processor and boards lying on `frame`.
    pub fn new(weights: &Weights, frame: &Frame) -> Self {
        let lanes = dispatch(Lanes);
        let dims = weights.layout.dims;
        let width = padded(dims.channels, lanes);
        let grid = Grid::new(frame, CHUNK);
        let packer = Packer {
            weights,
            lanes,
            taps: grid.taps(),
            centre: grid.centre_tap(),
        };
        let block = |index: usize| CpuBlock {
            conv1: packer.conv(&format!("block.{index}.conv1"), width),
            conv2: packer.conv(&format!("block.{index}.conv2"), width),
            squeeze: packer.affine(&format!("block.{index}.squeeze"), 1, dims.squeeze()),
            excite: packer.affine(&format!("block.{index}.excite"), 2, width),
        };
        let stem = packer.conv("stem.conv", dims.planes);
        let globals = weights.tensor("stem.globals.weight");
        let stem_bias = weights.tensor("stem.conv.bias");
        Self {
            dims,
            width,
            stem_globals: PackedAffine::new(globals, stem_bias, 1, width),
            stem,
            blocks: (0..dims.blocks).map(block).collect(),
            policy_hidden: packer.conv("policy.conv1", width),
            policy_out: weights.tensor("policy.conv2.weight").to_vec(),
            policy_bias: weights.tensor("policy.conv2.bias").to_vec(),
            policy_special: packer.affine("policy.special", 1, dims.specials),
            value_hidden: packer.affine("value.hidden", 1, VALUE_HIDDEN),
            value_out: packer.affine("value.out", 1, SEATS),
            buffers: Buffers::new(dims.planes, width, grid.area()),
            grid,
        }
    }

    #[inline(always)]
    fn forward<S: Simd>(
        &mut self,
        simd: S,
        batch: &[PositionInput<'_>],
        results: &mut Vec<NetEvaluation>,
    ) {
        let mut buffers = std::mem::take(&mut self.buffers);
        self.fill(batch, &mut buffers);
        let windows = self.grid.windows(batch.len());
        convolve::<S, Rectified>(
            simd,
            &self.stem,
            &windows,
            &buffers.starts[..batch.len() * self.width],
            &buffers.input,
            &mut buffers.trunk,
        );
        for block in &self.blocks {
            self.residual(simd, block, &windows, &mut buffers);
        }
        convolve::<S, Rectified>(
            simd,
            &self.policy_hidden,
            &windows,
            &self.policy_hidden.bias,
            &buffers.trunk,
            &mut buffers.inner,
        );
        for (slot, position) in batch.iter().enumerate() {
            results.push(self.heads(simd, slot, position, &buffers));
        }
        self.buffers = buffers;
    }

    #[inline(always)]
    fn fill(&self, batch: &[PositionInput<'_>], buffers: &mut Buffers) {
        for (slot, position) in batch.iter().enumerate() {
            let start = &mut buffers.starts[slot * self.width..][..self.width];
            self.stem_globals.apply(position.globals.iter(), start);
            let planes = self.dims.planes;
            self.grid
                .scatter(slot, position.planes, planes, &mut buffers.input);
        }
    }

    #[inline(always)]
    fn residual<S: Simd>(
        &self,
        simd: S,
        block: &CpuBlock,
        windows: &Windows<'_>,
        buffers: &mut Buffers,
    ) {
        let Buffers {
            trunk,
            inner,
            branch,
            ..
        } = buffers;
        convolve::<S, Rectified>(simd, &block.conv1, windows, &block.conv1.bias, trunk, inner);
        convolve::<S, Plain>(
            simd,
            &block.conv2,
            windows,
            &block.conv2.bias,
            inner,
            branch,
        );
        for slot in 0..windows.centres.len() / windows.cells {
            let gates = self.gates(block, self.grid.of(slot), branch);
            let (gain, shift) = gates.split_at(self.width);
            for &centre in self.grid.of(slot) {
                let trunk = &mut trunk[centre * self.width..][..self.width];
                let branch = &branch[centre * self.width..][..self.width];
                let gates = gain.iter().zip(shift);
                for ((trunk, branch), (gain, shift)) in trunk.iter_mut().zip(branch).zip(gates) {
                    *trunk = (*trunk + branch * gain + shift).max(0.0);
                }
            }
        }
    }

    /// Gain and shift of every channel, from the means of the branch.
    #[inline(always)]
    fn gates(&self, block: &CpuBlock, cells: &[usize], branch: &[f32]) -> Vec<f32> {
        let means = self.means(cells, branch);
        let mut squeezed = vec![0.0; block.squeeze.width()];
        block
            .squeeze
            .apply(means[..self.dims.channels].iter(), &mut squeezed);
        squeezed
            .iter_mut()
            .for_each(|value| *value = value.max(0.0));
        let mut gates = vec![0.0; block.excite.width()];
        block.excite.apply(squeezed.iter(), &mut gates);
        for gain in &mut gates[..self.width] {
            *gain = 1.0 / (1.0 + (-*gain).exp());
        }
        gates
    }

    #[inline(always)]
    fn means(&self, cells: &[usize], features: &[f32]) -> Vec<f32> {
        let mut means = vec![0.0; self.width];
        for &centre in cells {
            let row = &features[centre * self.width..][..self.width];
            for (mean, value) in means.iter_mut().zip(row) {
                *mean += value;
            }
        }
        let share = 1.0 / cells.len() as f32;
        means.iter_mut().for_each(|mean| *mean *= share);
        means
    }

    #[inline(always)]
    fn heads<S: Simd>(
        &self,
        simd: S,
        slot: usize,
        position: &PositionInput<'_>,
        buffers: &Buffers,
    ) -> NetEvaluation {
        let pooled = self.pool(self.grid.of(slot), &buffers.trunk);
        let pooled = || pooled.iter().chain(position.globals);
        let mut special = vec![0.0; self.policy_special.width()];
        self.policy_special.apply(pooled(), &mut special);
        let mut hidden = vec![0.0; self.value_hidden.width()];
        self.value_hidden.apply(pooled(), &mut hidden);
        hidden.iter_mut().for_each(|value| *value = value.max(0.0));
        let mut value = vec![0.0; SEATS];
        self.value_out.apply(hidden.iter(), &mut value);
        let (cells, channels) = (self.grid.cells(), self.dims.channels);
        let spatial = cells * self.dims.action_planes;
        let mut logits = Vec::with_capacity(position.actions.len());
        // A loop, because a closure given to `map` is not always inlined, and then runs without the processor's features.
        for action in position.actions.iter().map(|action| *action as usize) {
            if action >= spatial {
                logits.push(special[action - spatial]);
                continue;
            }
            let (plane, cell) = (action / cells, action % cells);
            let features = &buffers.inner[self.grid.of(slot)[cell] * self.width..][..channels];
            let weights = &self.policy_out[plane * channels..][..channels];
            logits.push(self.policy_bias[plane] + dot(simd, features, weights));
        }
        NetEvaluation {
            logits,
            values: softmax_present(&value, position.players),
        }
    }

    /// Mean and maximum of each channel over the cells.
    #[inline(always)]
    fn pool(&self, cells: &[usize], trunk: &[f32]) -> Vec<f32> {
        let mut pooled = self.means(cells, trunk);
        pooled.truncate(self.dims.channels);
        // Activations are not negative, so zero is below every maximum.
        let mut largest = vec![0.0_f32; self.dims.channels];
        for &centre in cells {
            let row = &trunk[centre * self.width..][..self.dims.channels];
            for (largest, value) in largest.iter_mut().zip(row) {
                *largest = largest.max(*value);
            }
        }
        pooled.append(&mut largest);
        pooled
    }
}

impl Inference for CpuNet {
    fn infer(&mut self, batch: &[PositionInput<'_>]) -> Vec<NetEvaluation> {
        struct Forward<'n, 'b, 'p> {
            net: &'n mut CpuNet,
            batch: &'b [PositionInput<'p>],
        }
        impl WithSimd for Forward<'_, '_, '_> {
            type Output = Vec<NetEvaluation>;

            #[inline(always)]
            fn with_simd<S: Simd>(self, simd: S) -> Vec<NetEvaluation> {
                let mut results = Vec::with_capacity(self.batch.len());
                for chunk in self.batch.chunks(CHUNK) {
                    self.net.forward(simd, chunk, &mut results);
                }
                results
            }
        }
        dispatch(Forward { net: self, batch })
    }
}

impl Buffers {
    fn new(planes: usize, width: usize, area: usize) -> Self {
        let zeros = |stride: usize| vec![0.0; CHUNK * area * stride];
        Self {
            input: zeros(planes),
            trunk: zeros(width),
            inner: zeros(width),
            branch: zeros(width),
            starts: vec![0.0; CHUNK * width],
        }
    }
}

impl Default for Buffers {
    fn default() -> Self {
        Self::new(0, 0, 0)
    }
}
