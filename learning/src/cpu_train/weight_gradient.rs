//! The gradient of a convolution's weights: for every tap and input channel the sum over all cells of the input's number
//! times the vector of the output's slopes.
//!
//! It is a matrix product whose long side are the cells. A tile of [`COLUMNS`] pairs of tap and input by two vectors of
//! outputs stays in registers while the cells of a block pass by. The cells of a block are few enough that their inputs
//! and slopes stay in the first-level cache for all tiles.

use pulp::Simd;

use crate::kernels::{PackedConv, Windows};

/// Pairs of tap and input in a register tile: with two vectors each they fill 12 of the 16 registers of AVX2.
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
    /// Numbers of the input from a window's first to its last.
    span: usize,
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
    let columns = conv.columns();
    let span = columns.last().map_or(0, |last| last + 1);
    let mut panel = vec![0.0; CELLS * width];
    for centres in windows.centres.chunks(CELLS) {
        let block = Block {
            input,
            centres,
            corner: windows.corner,
            stride: conv.stride(),
            span,
        };
        for (number, sums) in sums.chunks_exact_mut(columns.len() * width).enumerate() {
            for (place, centre) in panel.chunks_exact_mut(width).zip(centres) {
                place.copy_from_slice(&slopes[centre * outputs + number * width..][..width]);
            }
            let panel = S::as_simd_f32s(&panel).0;
            let tiles = columns.chunks(COLUMNS);
            for (tile, sums) in tiles.zip(sums.chunks_mut(COLUMNS * width)) {
                // The last tile repeats its last column and stores it once.
                let at = std::array::from_fn(|n| tile[n.min(tile.len() - 1)]);
                let products = block.tile(simd, at, panel);
                for (place, products) in sums.chunks_exact_mut(width).zip(products) {
                    let place = S::as_mut_simd_f32s(place).0;
                    for (place, product) in place.iter_mut().zip(products) {
                        *place = simd.add_f32s(*place, product);
                    }
                }
            }
        }
    }
}

impl Block<'_> {
    #[inline(always)]
    fn tile<S: Simd>(
        &self,
        simd: S,
        columns: [usize; COLUMNS],
        panel: &[S::f32s],
    ) -> [[S::f32s; 2]; COLUMNS] {
        let mut sums = [[simd.splat_f32s(0.0); 2]; COLUMNS];
        let (pairs, _) = panel.as_chunks::<2>();
        for (centre, pair) in self.centres.iter().zip(pairs) {
            let window = &self.input[(centre - self.corner) * self.stride..][..self.span];
            for (column, sum) in columns.iter().zip(&mut sums) {
                let value = simd.splat_f32s(window[*column]);
                sum[0] = simd.mul_add_e_f32s(value, pair[0], sum[0]);
                sum[1] = simd.mul_add_e_f32s(value, pair[1], sum[1]);
            }
        }
        sums
    }
}
