//! The whole network in the form that training wants, and the room its activations and slopes take.

use super::ROWS;
use super::layers::{ConvLayer, Loader, MatrixLayer, Place};
use crate::grid::Grid;
use crate::kernels::{Lanes, dispatch, padded};
use crate::weights::{NetDims, OWNER_CLASSES, Weights};

/// A residual block.
pub(super) struct BlockLayers {
    pub(super) conv1: ConvLayer,
    pub(super) conv2: ConvLayer,
    pub(super) squeeze: MatrixLayer,
    pub(super) excite: MatrixLayer,
}

/// The network for one step: packed once, read by every chunk of rows.
pub(super) struct TrainNet<'a> {
    pub(super) dims: NetDims,
    pub(super) grid: &'a Grid,
    /// Channels padded to whole vectors.
    pub(super) width: usize,
    /// Owner classes padded to whole vectors.
    pub(super) owner_width: usize,
    pub(super) stem: ConvLayer,
    pub(super) stem_globals: MatrixLayer,
    pub(super) blocks: Vec<BlockLayers>,
    pub(super) policy_hidden: ConvLayer,
    /// `[action plane][channel]`.
    pub(super) policy_out: MatrixLayer,
    pub(super) policy_special: MatrixLayer,
    pub(super) value_hidden: MatrixLayer,
    pub(super) value_out: MatrixLayer,
    pub(super) owner: ConvLayer,
    pub(super) rank: MatrixLayer,
    pub(super) scores: MatrixLayer,
    /// `[action plane][channel]`.
    pub(super) soft_out: MatrixLayer,
    pub(super) soft_special: MatrixLayer,
    /// Length of the sums in which a chunk gathers its gradient.
    pub(super) sums_len: usize,
    places: Vec<Place>,
}

impl<'a> TrainNet<'a> {
    pub(super) fn new(weights: &Weights, grid: &'a Grid) -> Self {
        let (dims, lanes) = (weights.layout.dims, dispatch(Lanes));
        let width = padded(dims.channels, lanes);
        let mut load = Loader {
            weights,
            grid,
            lanes,
            len: 0,
            places: Vec::new(),
        };
        let block = |index: usize| BlockLayers {
            conv1: load.conv(&format!("block.{index}.conv1"), width, true),
            conv2: load.conv(&format!("block.{index}.conv2"), width, true),
            squeeze: load.matrix(&format!("block.{index}.squeeze")),
            excite: load.matrix(&format!("block.{index}.excite")),
        };
        Self {
            blocks: (0..dims.blocks).map(block).collect(),
            stem: load.conv("stem.conv", dims.planes, false),
            stem_globals: load.bare("stem.globals.weight"),
            policy_hidden: load.conv("policy.conv1", width, true),
            policy_out: load.matrix("policy.conv2"),
            policy_special: load.matrix("policy.special"),
            value_hidden: load.matrix("value.hidden"),
            value_out: load.matrix("value.out"),
            owner: load.conv("aux.owner", width, true),
            rank: load.matrix("aux.rank"),
            scores: load.matrix("aux.scores"),
            soft_out: load.matrix("aux.soft"),
            soft_special: load.matrix("aux.soft_special"),
            sums_len: load.len,
            places: load.places,
            dims,
            grid,
            width,
            owner_width: padded(OWNER_CLASSES, lanes),
        }
    }

    /// The gradient in the layout's order, from the sums of all chunks.
    pub(super) fn gradient(&self, weights: &Weights, sums: &[f32]) -> Vec<f32> {
        let mut gradient = vec![0.0; weights.values.len()];
        for place in &self.places {
            place.copy(sums, &mut gradient);
        }
        gradient
    }
}

/// What squeeze-excitation computed for one position, per channel.
#[derive(Default)]
pub(super) struct Gates {
    /// Mean of the branch over the cells, `[width]`.
    pub(super) means: Vec<f32>,
    /// The squeezed vector after its rectifier.
    pub(super) squeezed: Vec<f32>,
    /// Factors of the branch, `[width]`.
    pub(super) gain: Vec<f32>,
    /// What is added after that, `[width]`.
    pub(super) shift: Vec<f32>,
}

/// What the backward pass has to know of a block.
pub(super) struct BlockActivations {
    /// After the first convolution and its rectifier.
    pub(super) inner: Vec<f32>,
    /// After the second convolution.
    pub(super) branch: Vec<f32>,
    /// One per position.
    pub(super) gates: Vec<Gates>,
}

/// Activations and slopes of a chunk, `[grid cell][width]`. Border and squares off the board are never written and stay
/// zero; that is what masks activations and slopes alike.
pub(super) struct Workspace {
    /// `[grid cell][planes]`.
    pub(super) input: Vec<f32>,
    /// Per position, the bias of the stem with the globals in it.
    pub(super) starts: Vec<f32>,
    /// After the stem and after each block.
    pub(super) trunks: Vec<Vec<f32>>,
    pub(super) blocks: Vec<BlockActivations>,
    /// The hidden layer of the policy.
    pub(super) hidden: Vec<f32>,
    /// `[grid cell][owner_width]`: logits, then their slopes.
    pub(super) owner: Vec<f32>,
    pub(super) slopes: Slopes,
}

/// Derivatives of the loss by activations.
pub(super) struct Slopes {
    pub(super) trunk: Vec<f32>,
    pub(super) inner: Vec<f32>,
    pub(super) branch: Vec<f32>,
    pub(super) hidden: Vec<f32>,
}

impl Workspace {
    pub(super) fn new(net: &TrainNet<'_>) -> Self {
        let area = ROWS * net.grid.area();
        let zeros = |stride: usize| vec![0.0; area * stride];
        let wide = || zeros(net.width);
        let block = |_| BlockActivations {
            inner: wide(),
            branch: wide(),
            gates: (0..ROWS).map(|_| Gates::default()).collect(),
        };
        Self {
            input: zeros(net.dims.planes),
            starts: vec![0.0; ROWS * net.width],
            trunks: (0..=net.dims.blocks).map(|_| wide()).collect(),
            blocks: (0..net.dims.blocks).map(block).collect(),
            hidden: wide(),
            owner: zeros(net.owner_width),
            slopes: Slopes {
                trunk: wide(),
                inner: wide(),
                branch: wide(),
                hidden: wide(),
            },
        }
    }
}
