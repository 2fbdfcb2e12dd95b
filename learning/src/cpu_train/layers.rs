//! Layers with what their two directions need, and where the gradient of each gathers.
//!
//! Every chunk of rows gathers its gradient in one flat slice, the sums. Convolutions gather in the order in which their
//! weights are packed; [`Place`] brings them back into the order of [`Layout`](crate::weights::Layout) once per batch.

use std::ops::Range;

use pulp::Simd;

use super::weight_gradient::add_weight_gradient;
use crate::grid::Grid;
use crate::kernels::{Added, PackedConv, Windows, convolve, dot, padded};
use crate::weights::{TensorSpec, Weights};

/// From where in the sums to where in the gradient one tensor goes.
pub(super) enum Place {
    /// As it is.
    Same {
        sums: Range<usize>,
        values: Range<usize>,
    },
    /// From a convolution's packed order.
    Packed {
        sums: Range<usize>,
        values: Range<usize>,
        /// Output and input channels and taps of the tensor.
        shape: [usize; 3],
        /// The taps that were packed; the others have no gradient.
        live: Vec<usize>,
        /// Output channels of a packed block.
        width: usize,
    },
}

impl Place {
    /// Moves the tensor from `sums` to `gradient`.
    pub(super) fn copy(&self, sums: &[f32], gradient: &mut [f32]) {
        match self {
            Self::Same { sums: from, values } => {
                gradient[values.clone()].copy_from_slice(&sums[from.clone()]);
            }
            Self::Packed {
                sums: from,
                values,
                shape: [out, inputs, taps],
                live,
                width,
            } => {
                let gradient = &mut gradient[values.clone()];
                let mut rows = sums[from.clone()].chunks_exact(*width);
                for first in (0..*out).step_by(*width) {
                    for tap in live {
                        for (input, row) in (0..*inputs).zip(&mut rows) {
                            for (channel, sum) in (first..*out).zip(row) {
                                gradient[(channel * inputs + input) * taps + tap] = *sum;
                            }
                        }
                    }
                }
            }
        }
    }
}

/// A convolution.
pub(super) struct ConvLayer {
    pub(super) forward: PackedConv,
    /// Takes the slope of the output to that of the input; none where nobody asks for it.
    backward: Option<PackedConv>,
    weight: Range<usize>,
    bias: Range<usize>,
}

impl ConvLayer {
    /// Adds the gradient of the weights.
    #[inline(always)]
    pub(super) fn add_weights<S: Simd>(
        &self,
        simd: S,
        windows: &Windows<'_>,
        input: &[f32],
        slopes: &[f32],
        sums: &mut [f32],
    ) {
        let sums = &mut sums[self.weight.clone()];
        add_weight_gradient(simd, &self.forward, windows, input, slopes, sums);
    }

    /// Adds `slope`, the output's slope summed over cells, to the gradient of the bias.
    #[inline(always)]
    pub(super) fn add_bias(&self, slope: &[f32], sums: &mut [f32]) {
        add(slope, &mut sums[self.bias.clone()]);
    }

    /// Brings the output's slopes to the input: stored with `Plain`, added with [`Added`].
    #[inline(always)]
    pub(super) fn back<S: Simd, F: crate::kernels::Finish>(
        &self,
        simd: S,
        windows: &Windows<'_>,
        slopes: &[f32],
        input: &mut [f32],
    ) {
        if let Some(backward) = &self.backward {
            convolve::<S, F>(simd, backward, windows, &backward.bias, slopes, input);
        }
    }

    /// [`Self::back`], adding.
    #[inline(always)]
    pub(super) fn back_add<S: Simd>(
        &self,
        simd: S,
        windows: &Windows<'_>,
        slopes: &[f32],
        input: &mut [f32],
    ) {
        self.back::<S, Added>(simd, windows, slopes, input);
    }
}

/// A matrix `[in, out]` or `[out, in]` with an optional bias, applied row by row.
pub(super) struct MatrixLayer {
    pub(super) values: Vec<f32>,
    pub(super) bias: Vec<f32>,
    pub(super) weight_sums: Range<usize>,
    pub(super) bias_sums: Range<usize>,
}

impl MatrixLayer {
    /// The linear layer's output for `input`.
    #[inline(always)]
    pub(super) fn apply(&self, input: &[f32]) -> Vec<f32> {
        let mut output = self.bias.clone();
        for (value, row) in input.iter().zip(self.values.chunks_exact(self.bias.len())) {
            if *value != 0.0 {
                add_scaled(*value, row, &mut output);
            }
        }
        output
    }

    /// Adds the linear layer's gradient, and the input's slope to `back`.
    #[inline(always)]
    pub(super) fn back<S: Simd>(
        &self,
        simd: S,
        input: &[f32],
        slope: &[f32],
        sums: &mut [f32],
        back: &mut [f32],
    ) {
        add(slope, &mut sums[self.bias_sums.clone()]);
        let sums = sums[self.weight_sums.clone()].chunks_exact_mut(slope.len());
        let rows = self.values.chunks_exact(slope.len()).zip(sums);
        for ((value, back), (row, sums)) in input.iter().zip(back).zip(rows) {
            *back += dot(simd, row, slope);
            if *value != 0.0 {
                add_scaled(*value, slope, sums);
            }
        }
    }
}

/// `to += from`, as far as the shorter goes.
#[inline(always)]
pub(super) fn add(from: &[f32], to: &mut [f32]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to += from;
    }
}

/// `to += factor * from`.
#[inline(always)]
pub(super) fn add_scaled(factor: f32, from: &[f32], to: &mut [f32]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to += factor * from;
    }
}

/// Makes layers of named parameters and hands out room in the sums.
pub(super) struct Loader<'a> {
    pub(super) weights: &'a Weights,
    pub(super) grid: &'a Grid,
    pub(super) lanes: usize,
    /// Length of the sums so far.
    pub(super) len: usize,
    pub(super) places: Vec<Place>,
}

impl<'a> Loader<'a> {
    fn find(&self, name: &str) -> (&'a TensorSpec, &'a [f32]) {
        let weights = self.weights;
        #[expect(
            clippy::expect_used,
            reason = "the layout lists every parameter of the architecture"
        )]
        let spec = weights.layout.get(name).expect("a parameter of the layout");
        (spec, &weights.values[spec.range.clone()])
    }

    fn room(&mut self, length: usize) -> Range<usize> {
        let start = self.len;
        self.len += length;
        start..self.len
    }

    fn same(&mut self, spec: &TensorSpec) -> Range<usize> {
        let sums = self.room(spec.range.len());
        self.places.push(Place::Same {
            sums: sums.clone(),
            values: spec.range.clone(),
        });
        sums
    }

    /// The convolution called `name` over inputs `stride` apart. `back` says whether the input's slope is wanted.
    pub(super) fn conv(&mut self, name: &str, stride: usize, back: bool) -> ConvLayer {
        let (spec, weight) = self.find(&format!("{name}.weight"));
        let (bias_spec, bias) = self.find(&format!("{name}.bias"));
        let [out, inputs] = [spec.shape[0], spec.shape[1]];
        let kernel = spec.shape[2..].iter().product();
        let taps = if kernel == 1 {
            self.grid.centre_tap().to_vec()
        } else {
            self.grid.taps()
        };
        let (lanes, corner) = (self.lanes, self.grid.corner());
        let wide = padded(out, lanes);
        let sums = self.room(wide * taps.len() * inputs);
        self.places.push(Place::Packed {
            sums: sums.clone(),
            values: spec.range.clone(),
            shape: [out, inputs, kernel],
            live: taps.iter().map(|(tap, _)| *tap).collect(),
            width: 2 * lanes,
        });
        let transposed = || PackedConv::transposed(spec, weight, &taps, corner, wide, lanes);
        ConvLayer {
            backward: back.then(transposed),
            forward: PackedConv::new(spec, weight, bias, &taps, stride, lanes),
            weight: sums,
            bias: self.same(bias_spec),
        }
    }

    /// The matrix `name.weight` with `name.bias`.
    pub(super) fn matrix(&mut self, name: &str) -> MatrixLayer {
        let (spec, values) = self.find(&format!("{name}.weight"));
        let (bias_spec, bias) = self.find(&format!("{name}.bias"));
        MatrixLayer {
            values: values.to_vec(),
            bias: bias.to_vec(),
            weight_sums: self.same(spec),
            bias_sums: self.same(bias_spec),
        }
    }

    /// The matrix called `name`, without a bias.
    pub(super) fn bare(&mut self, name: &str) -> MatrixLayer {
        let (spec, values) = self.find(name);
        MatrixLayer {
            values: values.to_vec(),
            bias: Vec::new(),
            weight_sums: self.same(spec),
            bias_sums: 0..0,
        }
    }
}
