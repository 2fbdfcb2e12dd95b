//! The arithmetic of [`crate::cpu`] and [`crate::cpu_train`]: convolutions over a padded grid, vectorised with whatever the processor has.
//!
//! Activations lie channels-last, `[cell of the padded grid][stride]`, and a convolution reads only the windows of real
//! cells. One tile holds [`TILE`] cells by two vectors of output channels in registers; the weights of a block of output
//! channels are packed in the order they are read and stay in the first-level cache. Everything is `inline(always)`
//! because code is compiled for a processor's features only where it is inlined into `pulp`'s dispatch.

use pulp::{Simd, WithSimd};

use crate::weights::TensorSpec;

/// Cells in a register tile: with two vectors each they fill 12 of the 16 registers of AVX2.
const TILE: usize = 6;

/// A convolution with its weights packed for vectors of `lanes` numbers.
pub(crate) struct PackedConv {
    /// For each live tap, how many grid cells behind the window's corner it lies.
    offsets: Vec<usize>,
    /// Input channels.
    inputs: usize,
    /// Numbers from one grid cell to the next in the input.
    stride: usize,
    /// `[block][tap][input][2 * lanes]`.
    weights: Vec<f32>,
    /// One number per padded output channel.
    pub(crate) bias: Vec<f32>,
}

/// Asks [`dispatch`] how many numbers a vector holds.
pub(crate) struct Lanes;

impl WithSimd for Lanes {
    type Output = usize;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) -> usize {
        S::F32_LANES
    }
}

/// What becomes of the sums of a convolution.
pub(crate) trait Finish {
    /// The number to store, from the sum and what is stored now.
    fn finish<S: Simd>(simd: S, sum: S::f32s, stored: S::f32s) -> S::f32s;
}

/// Sums are stored as they are.
pub(crate) struct Plain;
/// Negative sums become zero.
pub(crate) struct Rectified;
/// Sums are added to what is stored.
pub(crate) struct Added;

impl Finish for Plain {
    #[inline(always)]
    fn finish<S: Simd>(_simd: S, sum: S::f32s, _stored: S::f32s) -> S::f32s {
        sum
    }
}

impl Finish for Rectified {
    #[inline(always)]
    fn finish<S: Simd>(simd: S, sum: S::f32s, _stored: S::f32s) -> S::f32s {
        simd.max_f32s(sum, simd.splat_f32s(0.0))
    }
}

impl Finish for Added {
    #[inline(always)]
    fn finish<S: Simd>(simd: S, sum: S::f32s, stored: S::f32s) -> S::f32s {
        simd.add_f32s(sum, stored)
    }
}

/// Runs `operation` with the widest vectors this processor has.
pub(crate) fn dispatch<Op: WithSimd>(operation: Op) -> Op::Output {
    // Named here because `pulp::Arch` knows AVX2 only with a feature that would change the build of burn's kernels.
    #[cfg(target_arch = "x86_64")]
    if let Some(simd) = pulp::x86::V3::try_new() {
        return Simd::vectorize(simd, operation);
    }
    pulp::Arch::new().dispatch(operation)
}

/// Rounds channels up to whole blocks.
pub(crate) fn padded(channels: usize, lanes: usize) -> usize {
    channels.next_multiple_of(2 * lanes)
}

impl PackedConv {
    /// Packs a `[out, in, 3, 3]` or `[out, in]` weight. `taps` lists the kernel positions to use and their offsets;
    /// `stride` is that of the input.
    pub(crate) fn new(
        spec: &TensorSpec,
        weight: &[f32],
        bias: &[f32],
        taps: &[(usize, usize)],
        stride: usize,
        lanes: usize,
    ) -> Self {
        let inputs = spec.shape[1];
        let kernel: usize = spec.shape[2..].iter().product();
        let value = |channel: usize, input: usize, tap: usize| {
            weight[(channel * inputs + input) * kernel + tap]
        };
        Self::pack(value, inputs, bias, taps, stride, lanes)
    }

    /// Packs the convolution that takes the gradient of `new`'s output to that of its input: inputs and outputs change
    /// places and every tap reaches to the other side of the window. `corner` is that of the grid, `stride` that of the
    /// output's gradient, which has to be zero off the board.
    pub(crate) fn transposed(
        spec: &TensorSpec,
        weight: &[f32],
        taps: &[(usize, usize)],
        corner: usize,
        stride: usize,
        lanes: usize,
    ) -> Self {
        let (out, inputs) = (spec.shape[0], spec.shape[1]);
        let kernel: usize = spec.shape[2..].iter().product();
        let value = |channel: usize, input: usize, tap: usize| {
            weight[(input * inputs + channel) * kernel + tap]
        };
        let mirrored: Vec<_> = taps
            .iter()
            .map(|&(tap, offset)| (tap, 2 * corner - offset))
            .collect();
        Self::pack(value, out, &vec![0.0; inputs], &mirrored, stride, lanes)
    }

    /// `value` gives the weight of an output, an input and a tap; there are as many outputs as biases.
    fn pack(
        value: impl Fn(usize, usize, usize) -> f32,
        inputs: usize,
        bias: &[f32],
        taps: &[(usize, usize)],
        stride: usize,
        lanes: usize,
    ) -> Self {
        let (out, width) = (bias.len(), 2 * lanes);
        let blocks = padded(out, lanes) / width;
        let mut packed = vec![0.0; blocks * taps.len() * inputs * width];
        let mut rows = packed.chunks_exact_mut(width);
        for first in (0..blocks).map(|block| block * width) {
            for (tap, _) in taps {
                for (input, row) in (0..inputs).zip(&mut rows) {
                    for (channel, place) in (first..out).zip(row) {
                        *place = value(channel, input, *tap);
                    }
                }
            }
        }
        let mut bias = bias.to_vec();
        bias.resize(padded(out, lanes), 0.0);
        Self {
            offsets: taps.iter().map(|(_, offset)| *offset).collect(),
            inputs,
            stride,
            weights: packed,
            bias,
        }
    }

    /// For each live tap, how many grid cells behind the window's corner it lies.
    pub(crate) fn offsets(&self) -> &[usize] {
        &self.offsets
    }

    /// Input channels.
    pub(crate) fn inputs(&self) -> usize {
        self.inputs
    }

    /// Numbers from one grid cell to the next in the input.
    pub(crate) fn stride(&self) -> usize {
        self.stride
    }

    /// Output channels, padding included.
    pub(crate) fn outputs(&self) -> usize {
        self.bias.len()
    }
}

/// The cells a convolution computes, over all positions of a chunk.
pub(crate) struct Windows<'a> {
    /// The grid cell each window is centred on.
    pub(crate) centres: &'a [usize],
    /// From a window's corner to its centre, in grid cells.
    pub(crate) corner: usize,
    /// Real cells of one position: window `i` belongs to position `i / cells`.
    pub(crate) cells: usize,
}

/// Convolves `input` into `output` (stride: the padded output channels), starting from `starts`: one row of output
/// channels for every position, or a single row for all.
#[inline(always)]
pub(crate) fn convolve<S: Simd, F: Finish>(
    simd: S,
    conv: &PackedConv,
    windows: &Windows<'_>,
    starts: &[f32],
    input: &[f32],
    output: &mut [f32],
) {
    let width = 2 * S::F32_LANES;
    let per_position = starts.len() > conv.outputs();
    let block_values = conv.offsets.len() * conv.inputs * width;
    for (block, packed) in conv.weights.chunks_exact(block_values).enumerate() {
        let packed = S::as_simd_f32s(packed).0;
        let mut first = 0;
        while first < windows.centres.len() {
            // The last tile repeats its last cell and stores it once. Loops, because the closures of `array::map` are
            // not always inlined, and then run without the processor's features.
            let mut corners = [0; TILE];
            let mut sums = [[simd.splat_f32s(0.0); 2]; TILE];
            for (n, (corner, sum)) in corners.iter_mut().zip(&mut sums).enumerate() {
                let cell = (first + n).min(windows.centres.len() - 1);
                *corner = windows.centres[cell] - windows.corner;
                let row = if per_position {
                    cell / windows.cells
                } else {
                    0
                };
                let start = &starts[row * conv.outputs() + block * width..][..width];
                sum.copy_from_slice(S::as_simd_f32s(start).0);
            }
            let sums = tile(simd, conv, packed, input, &corners, sums);
            let tile = &windows.centres[first..];
            for (centre, sums) in tile.iter().zip(sums) {
                let place = centre * conv.outputs() + block * width;
                let place = S::as_mut_simd_f32s(&mut output[place..place + width]).0;
                for (place, sum) in place.iter_mut().zip(sums) {
                    *place = F::finish(simd, sum, *place);
                }
            }
            first += TILE;
        }
    }
}

#[inline(always)]
fn tile<S: Simd>(
    simd: S,
    conv: &PackedConv,
    packed: &[S::f32s],
    input: &[f32],
    corners: &[usize; TILE],
    mut sums: [[S::f32s; 2]; TILE],
) -> [[S::f32s; 2]; TILE] {
    let inputs = conv.inputs;
    for (tap, offset) in conv.offsets.iter().enumerate() {
        let mut rows = [&input[..0]; TILE];
        for (row, corner) in rows.iter_mut().zip(corners) {
            *row = &input[(corner + offset) * conv.stride..][..inputs];
        }
        let [a, b, c, d, e, f] = rows;
        let first = a.iter().zip(b).zip(c);
        let second = d.iter().zip(e).zip(f);
        let weights = &packed[tap * inputs * 2..][..inputs * 2];
        // Zipped, not indexed: the loop then holds no check of bounds and all six rows stay in registers.
        let columns = weights.as_chunks::<2>().0.iter().zip(first.zip(second));
        for (pair, (((a, b), c), ((d, e), f))) in columns {
            for (value, sum) in [a, b, c, d, e, f].into_iter().zip(&mut sums) {
                let value = simd.splat_f32s(*value);
                sum[0] = simd.mul_add_e_f32s(value, pair[0], sum[0]);
                sum[1] = simd.mul_add_e_f32s(value, pair[1], sum[1]);
            }
        }
    }
    sums
}

/// An affine layer whose rows are padded to whole vectors.
pub(crate) struct PackedAffine {
    /// `[input][width]`.
    weights: Vec<f32>,
    bias: Vec<f32>,
}

impl PackedAffine {
    /// Packs a `[in, out]` weight whose outputs are `groups` runs of equal length, each padded to `width` numbers.
    pub(crate) fn new(weight: &[f32], bias: &[f32], groups: usize, width: usize) -> Self {
        let group = bias.len() / groups;
        let spread = |row: &[f32]| {
            let mut wide = vec![0.0; groups * width];
            for (from, to) in row.chunks_exact(group).zip(wide.chunks_exact_mut(width)) {
                to[..group].copy_from_slice(from);
            }
            wide
        };
        Self {
            weights: weight.chunks_exact(bias.len()).flat_map(spread).collect(),
            bias: spread(bias),
        }
    }

    /// Outputs, padding included.
    pub(crate) fn width(&self) -> usize {
        self.bias.len()
    }

    /// `output = bias + input * weights`; zeros in the input cost nothing.
    #[inline(always)]
    pub(crate) fn apply<'a>(&self, input: impl Iterator<Item = &'a f32>, output: &mut [f32]) {
        output.copy_from_slice(&self.bias);
        for (value, row) in input.zip(self.weights.chunks_exact(self.bias.len())) {
            if *value != 0.0 {
                for (output, weight) in output.iter_mut().zip(row) {
                    *output += value * weight;
                }
            }
        }
    }
}

/// The dot product of two slices of equal length.
#[inline(always)]
pub(crate) fn dot<S: Simd>(simd: S, a: &[f32], b: &[f32]) -> f32 {
    let (a_vectors, a_rest) = S::as_simd_f32s(a);
    let (b_vectors, b_rest) = S::as_simd_f32s(b);
    let mut sum = simd.splat_f32s(0.0);
    for (a, b) in a_vectors.iter().zip(b_vectors) {
        sum = simd.mul_add_e_f32s(*a, *b, sum);
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    simd.reduce_sum_f32s(sum) + rest
}
