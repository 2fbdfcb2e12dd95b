//! The gradient of a convolution's weights: for every tap and input channel the sum over all cells of the input's number
//! times the vector of the output's slopes.
//!
//! It is a matrix product whose long side are the cells. A tile of [`COLUMNS`] inputs of one tap by two vectors of
//! outputs stays in registers while the cells of a block pass by. The cells of a block are few enough that their inputs
//! and slopes stay in the first-level cache for all tiles.

use pulp::Simd;

use crate::kernels::{PackedConv, Windows};

/// Inputs in a register tile: with two vectors each they fill 12 of the 16 registers of AVX2. Every layer has more.
const COLUMNS: usize = 6;
/// Cells of a block: 64 cells of 64 channels are 16 KiB.
const CELLS: usize = 64;

/// What passes by a tile.
struct Block<'a> {
    input: &'a [f32],
    /// Grid cells of the windows' centres.
    centres: &'a [usize],
    corner: usize,
    stride: usize,
}

/// Adds the gradient of the weights of `conv` to `sums`, `[block][tap][input][2 * lanes]` as the weights are packed.
/// `slopes` are the derivatives of the loss by the outputs, laid out as [`crate::kernels::convolve`] writes them.
#[inline(always)]
pub(super) fn add_weight_gradient<S: Simd>(
    simd: S,
    conv: &PackedConv,
    windows: &Windows<'_>,
    input: &[f32],
    slopes: &[f32],
    sums: &mut [f32],
) {
    let (width, outputs) = (2 * S::F32_LANES, conv.outputs());
    let tap_values = conv.inputs() * width;
    let mut panel = vec![0.0; CELLS * width];
    for centres in windows.centres.chunks(CELLS) {
        let block = Block {
            input,
            centres,
            corner: windows.corner,
            stride: conv.stride(),
        };
        let sums = sums.chunks_exact_mut(conv.offsets().len() * tap_values);
        for (number, sums) in sums.enumerate() {
            for (place, centre) in panel.chunks_exact_mut(width).zip(centres) {
                place.copy_from_slice(&slopes[centre * outputs + number * width..][..width]);
            }
            let panel = S::as_simd_f32s(&panel).0;
            for (offset, sums) in conv.offsets().iter().zip(sums.chunks_exact_mut(tap_values)) {
                for (tile, sums) in sums.chunks_mut(COLUMNS * width).enumerate() {
                    // The last tile of a tap reaches back to inputs that the one before has summed up already.
                    let first = (tile * COLUMNS).min(conv.inputs() - COLUMNS);
                    let known = tile * COLUMNS - first;
                    let products = block.tile(simd, offset * conv.stride() + first, panel);
                    add(simd, sums, &products[known..]);
                }
            }
        }
    }
}

/// Adds the products of a tile's inputs to their sums.
#[inline(always)]
fn add<S: Simd>(simd: S, sums: &mut [f32], products: &[[S::f32s; 2]]) {
    let sums = S::as_mut_simd_f32s(sums).0;
    for (sum, product) in sums.iter_mut().zip(products.as_flattened()) {
        *sum = simd.add_f32s(*sum, *product);
    }
}

impl Block<'_> {
    /// The products of the inputs from the window's number `first` on.
    #[inline(always)]
    fn tile<S: Simd>(&self, simd: S, first: usize, panel: &[S::f32s]) -> [[S::f32s; 2]; COLUMNS] {
        let mut sums = [[simd.splat_f32s(0.0); 2]; COLUMNS];
        let (pairs, _) = panel.as_chunks::<2>();
        for (centre, pair) in self.centres.iter().zip(pairs) {
            let start = (centre - self.corner) * self.stride + first;
            let values = &self.input[start..start + COLUMNS];
            for (value, sum) in values.iter().zip(&mut sums) {
                let value = simd.splat_f32s(*value);
                sum[0] = simd.mul_add_e_f32s(value, pair[0], sum[0]);
                sum[1] = simd.mul_add_e_f32s(value, pair[1], sum[1]);
            }
        }
        sums
    }
}
